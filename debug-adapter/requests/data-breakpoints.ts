/** Data breakpoints: what can be watched (`dataBreakpointInfo`), and watching it (`setDataBreakpoints`). */

import type { DebugProtocol } from '@vscode/debugprotocol';
import type { Watch, WatchAccess } from '../../sim-core/machine/watching/watch.ts';
import { RequestError } from '../errors.ts';
import { type HandlerTable, handler, shapedPart } from '../handler.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import type { Placement } from '../stops/breakpoint-store.ts';
import { awaitedBy, dataIdOf, NotWatchable, parseDataId, variableId } from '../stops/watch-places.ts';
import type { Frame } from '../worlds/unwind.ts';

const DATA_BREAKPOINT = {
  dataId: 'string',
  accessType: 'string?',
  condition: 'string?',
  hitCondition: 'string?',
  logMessage: 'string?',
} as const;

/** Of the protocol; `change`, a write that leaves another value, is ours. */
const ACCESS_TYPES: readonly DebugProtocol.DataBreakpointAccessType[] = ['write', 'readWrite', 'read'];
const ACCESSES: readonly WatchAccess[] = ['read', 'write', 'readWrite', 'change'];

/** @returns what `work` gives, or why nothing can be watched */
function orProblem<T>(work: () => T): T | { readonly message: string } {
  try {
    return work();
  } catch (error) {
    if (error instanceof NotWatchable || error instanceof RequestError) return { message: error.message };
    throw error;
  }
}

function placeData(target: Target, dataId: string, accessType: string): Placement {
  const access = ACCESSES.find((known) => known === accessType);
  if (!access) return { locations: [], answer: { message: `'${accessType}' is none of ${ACCESSES.join(', ')}.` } };
  const found = orProblem(() => parseDataId(target, dataId));
  if ('message' in found) return { locations: [], answer: found };
  const watch = { ...found, access } as Watch;
  const message = awaitedBy(target, watch);
  return { locations: [], watches: [watch], answer: message === undefined ? {} : { message } };
}

const frameOf = (session: Session, frameId: number | undefined): Frame | undefined => {
  const entry = frameId === undefined ? undefined : session.frames.entry(frameId);
  return entry?.kind === 'frame' ? entry.frame : undefined;
};

/** The data id of a variable that the client shows. */
function idOfVariable(session: Session, target: Target, reference: number, name: string): string {
  const list = session.references.get(reference);
  const typed = list.find?.(name);
  if (typed) return variableId(typed);
  const variable = list.variables().find((candidate) => candidate.name === name);
  if (variable?.evaluateName === undefined) throw new NotWatchable(`'${name}' is a part of another value: watch that.`);
  return dataIdOf(target, { name: variable.evaluateName });
}

export const dataBreakpointRequests: HandlerTable = {
  dataBreakpointInfo: handler(
    { variablesReference: 'number?', name: 'string', frameId: 'number?', bytes: 'number?', asAddress: 'boolean?' },
    (session, { variablesReference = 0, name, frameId, bytes, asAddress }, command) => {
      const target = session.stoppedTarget(command);
      const found = orProblem(() => {
        if (variablesReference > 0) return { id: idOfVariable(session, target, variablesReference, name) };
        return { id: dataIdOf(target, { name, bytes, asAddress, frame: frameOf(session, frameId) }) };
      });
      if ('message' in found) return { dataId: null, description: found.message };
      return { dataId: found.id, description: found.id, accessTypes: ACCESS_TYPES, canPersist: true };
    },
  ),

  setDataBreakpoints: handler({ breakpoints: 'array' }, (session, { breakpoints }, command) => {
    const target = session.target(command);
    const parsed = breakpoints.map((request) => shapedPart(command, 'breakpoints[]', request, DATA_BREAKPOINT));
    const answers = session.breakpoints.replace(
      'data',
      (now) =>
        parsed.map((request) => ({
          ...request,
          placement: placeData(now, request.dataId, request.accessType ?? 'write'),
        })),
      target,
    );
    session.refreshBreakpoints();
    return { breakpoints: answers };
  }),
};
