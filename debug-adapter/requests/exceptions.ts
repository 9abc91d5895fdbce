import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from '../errors.ts';
import { type HandlerTable, handler, shapedPart } from '../handler.ts';
import { explainStop, isExplained } from '../stops/stop-texts.ts';

const FILTER_OPTION = { filterId: 'string', condition: 'string?' } as const;

export const exceptionRequests: HandlerTable = {
  setExceptionBreakpoints: handler(
    { filters: 'strings', filterOptions: 'array?' },
    (session, { filters, filterOptions = [] }, command) => {
      const options = filterOptions.map((option) => shapedPart(command, 'filterOptions[]', option, FILTER_OPTION));
      const requests = [
        ...filters.map((filter) => ({ filter, condition: undefined })),
        ...options.map(({ filterId, condition }) => ({ filter: filterId, condition })),
      ];
      const { cycles } = session.target(command).machine;
      const breakpoints = session.filters.replace(requests, cycles).map(({ problem }): DebugProtocol.Breakpoint => {
        return problem === undefined ? { verified: true } : { verified: false, message: problem };
      });
      return { breakpoints };
    },
  ),

  exceptionInfo: handler({ threadId: 'number' }, (session, { threadId }, command) => {
    session.checkThread(threadId);
    const target = session.stoppedTarget(command);
    const stop = session.lastStop;
    if (!stop || !isExplained(stop)) throw errors.noExitsKnown();
    const { id, title, text, details } = explainStop(stop, target);
    const body: DebugProtocol.ExceptionInfoResponse['body'] = {
      exceptionId: id,
      description: `${title}\n${text}`,
      breakMode: stop.kind === 'tripleFault' || stop.kind === 'unimplemented' ? 'unhandled' : 'always',
      details: { message: text, typeName: id, stackTrace: details.join('\n') },
    };
    return body;
  }),
};
