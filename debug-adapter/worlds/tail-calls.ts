/** Frames of functions that have ended by calling another one: between the frames that are on the stack. */

import type { Target } from '../running/target.ts';
import { callerOf, type Frame } from './unwind.ts';

/**
 * The activation that called another one, also where it has ended by that.
 * @param caller the next one on the stack, where it is known already
 */
export function logicalCaller(target: Target, frame: Frame, caller = callerOf(target, frame)): Frame | undefined {
  return frame.endedInto ?? (caller && endedBetween(target, frame, caller)) ?? caller;
}

/** The innermost one of those that have ended between two frames of the stack. */
function endedBetween(target: Target, frame: Frame, caller: Frame): Frame | undefined {
  if (caller.interrupted) return undefined;
  const program = target.programAt(frame.view, frame.lookupPc);
  if (!program || target.programAt(caller.view, caller.lookupPc) !== program) return undefined;
  const ended = program.endedBetween(caller.pc, frame.lookupPc);
  return ended.reduceRight<Frame | undefined>((outer, { pc, inside }) => {
    const restored = new Map([...caller.restored, ['rip', pc]]);
    return { ...caller, pc, lookupPc: inside, restored, endedInto: outer ?? caller };
  }, undefined);
}

/** With those that have ended. @param frames of the stack, from the innermost one on */
export function* withTailCalls(target: Target, frames: Iterable<Frame>): Generator<Frame, void> {
  let callee: Frame | undefined;
  for (const frame of frames) {
    let ended = callee && logicalCaller(target, callee, frame);
    for (; ended?.endedInto; ended = ended.endedInto) yield ended;
    yield frame;
    callee = frame;
  }
}
