import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from '../errors.ts';
import { type HandlerTable, handler, threadOfProcessor } from '../handler.ts';
import type { Granularity, StepKind } from '../running/stepper.ts';
import type { Session } from '../session.ts';

const STEP_SHAPE = { threadId: 'number', granularity: 'string?' } as const;

const step = (kind: StepKind) =>
  handler(STEP_SHAPE, (session, { threadId, granularity }, command) => {
    session.checkRunningThread(threadId, command);
    const size: Granularity = granularity === 'instruction' ? 'instruction' : 'line';
    session.step(command, (stepper) => () => stepper.step(kind, size));
  });

/** Places to go on from: those of one line. */
function gotoTargets(session: Session, path: string, line: number, command: string): DebugProtocol.GotoTarget[] {
  const target = session.stoppedTarget(command);
  const { world } = target.machine;
  return target.programsIn(world).flatMap((program) => {
    const found = program.addressesOfLine(path, line);
    return (found?.addresses ?? []).map((address) => ({
      id: session.gotoTargets.push(address) - 1,
      label: target.symbolName(world, address) ?? `0x${address.toString(16)}`,
      line: session.clientLine(found?.line ?? line),
      instructionPointerReference: `${world}:0x${address.toString(16)}`,
    }));
  });
}

export const executionRequests: HandlerTable = {
  continue: handler({ threadId: 'number' }, (session, { threadId }, command) => {
    session.checkThread(threadId);
    session.run(command, {}, { kind: 'paused' });
    return { allThreadsContinued: true };
  }),
  next: step('over'),
  stepIn: step('in'),
  stepOut: handler(STEP_SHAPE, (session, { threadId }, command) => {
    session.checkRunningThread(threadId, command);
    session.step(command, (stepper) => stepper.planStepOut());
  }),
  pause: handler({ threadId: 'number' }, (session, { threadId }, command) => {
    session.checkThread(threadId);
    session.pause(command);
  }),
  threads: handler({}, (session, _args, command) => {
    const target = session.target(command);
    const processors = target.machine.processors.map(({ number }) => ({
      id: threadOfProcessor(number),
      name: `Processor ${number}`,
    }));
    return { threads: [...processors, ...session.suspendedThreads(target)] };
  }),

  gotoTargets: handler({ source: 'object', line: 'number' }, (session, { source, line }, command) => {
    const { path } = source;
    if (typeof path !== 'string') throw errors.badArguments(command, "'source.path' is missing");
    return { targets: gotoTargets(session, path, session.ownLine(line), command) };
  }),
  goto: handler({ threadId: 'number', targetId: 'number' }, (session, { threadId, targetId }, command) => {
    session.checkRunningThread(threadId, command);
    const target = session.stoppedTarget(command);
    const address = session.gotoTargets[targetId];
    if (address === undefined) throw errors.badArguments(command, `there is no target ${targetId}`);
    const problem = target.view().setRegister('rip', address);
    if (problem !== undefined) throw errors.notWritable('rip', problem);
    session.frames.refresh();
    session.afterwards(() => session.report({ kind: 'goto' }));
  }),

  'vmxray/runTo': handler({ threadId: 'number', event: 'string' }, (session, { threadId, event }, command) => {
    session.checkThread(threadId);
    if (event === 'vmExit') session.runToVmExit(command);
    else if (event === 'vmEntry') session.run(command, { vmEntry: () => true }, { kind: 'vmEntry' });
    else throw errors.badArguments(command, "'event' is neither vmExit nor vmEntry");
    // Clients know of DAP's own requests that they set the machine going; of this one they must be told.
    session.event('continued', { threadId, allThreadsContinued: true });
  }),
};
