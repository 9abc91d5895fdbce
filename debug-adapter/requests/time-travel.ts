/** The requests of time travel: steps and runs backwards, commands that go to a place of the past, the timeline. */

import type { ChangeWatch, History } from '../../sim-core/machine/history/history.ts';
import { watchMemory, watchValue } from '../../sim-core/machine/history/memory-watch.ts';
import { before, type Position } from '../../sim-core/machine/history/position.ts';
import { exitReason, exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { errors, RequestError } from '../errors.ts';
import { physicalRanges, TargetEnvironment } from '../expressions/environment.ts';
import { evaluate } from '../expressions/evaluate.ts';
import { type Node, parseExpression } from '../expressions/parser.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { TimelineBody } from '../protocol.ts';
import type { Runner, Stop } from '../running/runner.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import { hex } from '../worlds/memory-reference.ts';
import type { Frame } from '../worlds/unwind.ts';
import { recordingOf } from './replay.ts';

const STEP_SHAPE = { threadId: 'number', granularity: 'string?' } as const;

/** Clients know of DAP's own requests that they set the machine going; of these they must be told. */
const tellContinued = (session: Session, threadId: number): void =>
  session.event('continued', { threadId, allThreadsContinued: true });

/** Goes to a place of the history. @throws notInHistory */
function travelTo(session: Session, to: Position, text: string, command: string): void {
  const history = session.history(command);
  const { start, present } = history;
  if (before(to, start) || before(present, to)) {
    throw errors.notInHistory(to.instructions, start.instructions, present.instructions);
  }
  session.travel(command, async ({ runner }) => (await runner.travel(to)) ?? { kind: 'travel', text });
}

function destination(history: History, to: string, command: string): { at: Position; text: string } {
  if (to === 'start') return { at: history.start, text: 'At the start of the history' };
  if (to === 'present') return { at: history.present, text: 'Back in the present' };
  const [, instructions, events = '0'] = /^(\d+)(?::(\d+))?$/.exec(to.trim()) ?? [];
  if (instructions === undefined) {
    throw errors.badArguments(command, "'to' is no instruction number, start or present");
  }
  return { at: { instructions: Number(instructions), events: Number(events) }, text: `At instruction ${instructions}` };
}

async function backTo(runner: Runner, target: Target, event: 'vmExit' | 'vmEntry'): Promise<Stop> {
  const stop = await runner.runBack(event === 'vmExit' ? { vmExit: true } : { vmEntry: () => true });
  if (stop !== 'reached') return stop;
  const exit = target.machine.vmx.lastExit;
  return event === 'vmExit' && exit ? { kind: 'vmExit', exit } : { kind: 'vmEntry' };
}

/** Watches what an expression names: memory for every write to it, anything else for its value. */
function watcher(target: Target, node: Node): () => ChangeWatch {
  if (node.kind === 'memory') {
    const environment = new TargetEnvironment(target);
    const { number, space = 'linear' } = evaluate(node.address, environment);
    const ranges = physicalRanges(target, { space, address: number }, node.bytes ?? environment.wordBytes);
    return () => watchMemory(target.machine.rewindable, ranges);
  }
  return () => watchValue(() => currentValue(target, node));
}

/** Undefined where it has no value, as a VMCS field has none before VMPTRLD. */
function currentValue(target: Target, node: Node): bigint | undefined {
  try {
    return evaluate(node, new TargetEnvironment(target)).number;
  } catch (error) {
    if (error instanceof RequestError) return undefined;
    throw error;
  }
}

const shown = (value: bigint | undefined): string => (value === undefined ? 'no value' : hex(value));

async function toLastChange(runner: Runner, target: Target, history: History, expression: string): Promise<Stop> {
  const node = parseExpression(expression);
  const now = currentValue(target, node);
  const found = await runner.inPieces(history.searchChange(watcher(target, node)));
  if (found === 'paused') return { kind: 'paused' };
  if (!found) return { kind: 'travel', text: `Nothing in the history changes ${expression}: at its start` };
  const was = currentValue(target, node);
  const detail = `${expression} is about to change from ${shown(was)} to ${shown(now)}`;
  return { kind: 'travel', text: `Last change of ${expression}`, detail };
}

/** VM exits that one answer tells of at most. */
const MOST_EXITS = 5000;

function timelineBody({ history, timeline }: Target, from: number | undefined, to: number | undefined): TimelineBody {
  if (!history) return { present: 0, start: 0, here: 0, inPast: false, total: 0, first: 0, hereExit: 0, exits: [] };
  const end = Math.min(to ?? timeline.total, timeline.total);
  const begin = Math.max(from ?? end - MOST_EXITS, end - MOST_EXITS, timeline.first);
  return {
    start: history.start.instructions,
    here: history.position.instructions,
    present: history.present.instructions,
    inPast: history.isInPast,
    total: timeline.total,
    first: timeline.first,
    hereExit: timeline.numberAt(history.position),
    exits: timeline.slice(begin, end).map(({ at, reason, processor, guestRip }, index) => ({
      number: begin + index,
      to: `${at.instructions}:${at.events}`,
      instructions: at.instructions,
      reason,
      name: exitReason(reason)?.name ?? exitTitle(reason),
      processor,
      guestRip: hex(guestRip),
    })),
  };
}

/** Back to the beginning of a frame's function, or of a guest whose function is not known, to the last VM entry. */
async function restartFrame(runner: Runner, target: Target, frame: Frame): Promise<Stop> {
  const { world } = frame.view;
  const home = target.functionAt(world, frame.lookupPc);
  if (!home || frame.callerSp === undefined) return backTo(runner, target, 'vmEntry');
  const minimumSp = frame.callerSp - BigInt(frame.view.bitness === 64 ? 8 : 4);
  const stop = await runner.runBack({ address: { address: home.start, world, minimumSp } });
  return stop === 'reached' ? { kind: 'travel', text: 'At the beginning of the function' } : stop;
}

export const timeTravelRequests: HandlerTable = {
  stepBack: handler(STEP_SHAPE, (session, { threadId, granularity }, command) => {
    session.checkRunningThread(threadId, command);
    session.history(command);
    const size = granularity === 'instruction' ? 'instruction' : 'line';
    session.travel(command, async ({ reverseStepper }) => (await reverseStepper?.step(size)) ?? { kind: 'start' });
  }),

  reverseContinue: handler({ threadId: 'number' }, (session, { threadId }, command) => {
    session.checkThread(threadId);
    session.history(command);
    session.travel(command, async ({ runner }) => {
      const stop = await runner.runBack({});
      return stop === 'reached' ? { kind: 'paused' } : stop;
    });
  }),

  restartFrame: handler({ frameId: 'number' }, (session, { frameId }, command) => {
    session.history(command);
    session.stoppedTarget(command);
    const entry = session.frames.entry(frameId);
    if (entry.kind === 'label') throw errors.unknownFrame(frameId);
    session.travel(command, ({ target, runner }) => restartFrame(runner, target, entry.frame));
  }),

  'vmxray/runBackTo': handler({ threadId: 'number', event: 'string' }, (session, { threadId, event }, command) => {
    session.checkThread(threadId);
    session.history(command);
    if (event !== 'vmExit' && event !== 'vmEntry') {
      throw errors.badArguments(command, "'event' is neither vmExit nor vmEntry");
    }
    session.travel(command, ({ target, runner }) => backTo(runner, target, event));
    tellContinued(session, threadId);
    return {};
  }),

  'vmxray/travel': handler({ threadId: 'number', to: 'string' }, (session, { threadId, to }, command) => {
    session.checkThread(threadId);
    const { at, text } = destination(session.history(command), to, command);
    travelTo(session, at, text, command);
    tellContinued(session, threadId);
    return {};
  }),

  'vmxray/lastChange': handler(
    { threadId: 'number', expression: 'string' },
    (session, { threadId, expression }, command) => {
      session.checkThread(threadId);
      const history = session.history(command);
      // Mistakes in the expression are answered before the machine moves.
      evaluate(parseExpression(expression), new TargetEnvironment(session.stoppedTarget(command)));
      session.travel(command, ({ target, runner }) => toLastChange(runner, target, history, expression));
      tellContinued(session, threadId);
      return {};
    },
  ),

  'vmxray/timeline': handler({ from: 'number?', to: 'number?' }, (session, { from, to }, command) =>
    timelineBody(session.stoppedTarget(command), from, to),
  ),

  'vmxray/recording': handler({}, (session, _args, command) => ({
    text: recordingOf(session.stoppedTarget(command), command),
  })),

  'vmxray/forgetFuture': handler({}, (session, _args, command) => {
    session.history(command);
    session.stoppedTarget(command).forgetFuture();
    return {};
  }),
};
