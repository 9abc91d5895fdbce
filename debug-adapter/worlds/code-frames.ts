/** Where a function's return address is, by what its code does to the stack: without call-frame information. */

import type { Target } from '../running/target.ts';
import type { Program } from '../symbols/program.ts';
import { Recent } from '../symbols/recent.ts';
import { type Code, type StackHeights, stackHeights } from './stack-heights.ts';
import { type Frame, frameRegister } from './unwind.ts';

/** Places on the stack: linear addresses. */
export interface CodeFrame {
  readonly returnAddress: bigint;
  readonly saved: ReadonlyMap<string, bigint>;
}

interface Known {
  readonly parts: readonly Code[];
  readonly heights: StackHeights;
}

const MOST_FUNCTIONS = 1000;
const known = new WeakMap<Program, Recent<bigint, { latest: Known | undefined }>>();

/** Compilers move what seldom runs to a function of its own, which only jumps lead to. */
const MOVED = /\.cold(\.\d+)?$/;

/** The function of an address, and the part of it that has been moved away; none where its beginning is not known. */
function partsOf({ view, lookupPc }: Frame, program: Program): Code[] {
  const home = program.functionAt(lookupPc);
  if (!home || view.bitness === 16) return [];
  const name = home.symbol.replace(MOVED, '');
  const isMoved = home.symbol !== name;
  const other = program.symbolNamed(isMoved ? name : `${name}.cold`);
  const second = other && program.functionAt(other.address);
  if (isMoved && !second) return [];
  const ranges = isMoved ? [second, home] : [home, second];
  return ranges.flatMap((range) =>
    range ? [{ start: range.start, bytes: view.read(range.start, Number(range.end - range.start)) }] : [],
  );
}

function heightsOf(target: Target, frame: Frame): StackHeights | undefined {
  const program = target.programAt(frame.view, frame.lookupPc);
  if (!program) return undefined;
  const parts = partsOf(frame, program);
  const [first] = parts;
  if (!first) return undefined;
  const functions = known.get(program) ?? new Recent(MOST_FUNCTIONS);
  known.set(program, functions);
  const slot = functions.get(first.start, () => ({ latest: undefined }));
  if (!slot.latest || !isSame(slot.latest.parts, parts)) {
    slot.latest = { parts, heights: stackHeights(parts, frame.view.bitness === 64 ? 64 : 32) };
  }
  return slot.latest.heights;
}

/** Code may have been changed, or be that of another address space. */
const isSame = (a: readonly Code[], b: readonly Code[]): boolean =>
  a.length === b.length &&
  a.every(({ start, bytes }, index) => {
    const other = b[index];
    return (
      other?.start === start &&
      other.bytes.length === bytes.length &&
      bytes.every((byte, at) => other.bytes[at] === byte)
    );
  });

/** Undefined where the code does not tell. */
export function findCodeFrame(target: Target, frame: Frame): CodeFrame | undefined {
  const height = heightsOf(target, frame)?.get(frame.pc);
  if (!height) return undefined;
  const bySp = height.sp !== undefined;
  const base = frameRegister(frame, bySp ? 'rsp' : 'rbp');
  const distance = bySp ? height.sp : height.fp;
  if (base === undefined || distance === undefined) return undefined;
  const returnAddress = base - BigInt(distance);
  const saved = [...height.saved].map(([name, at]) => [name, returnAddress + BigInt(at)] as const);
  return { returnAddress, saved: new Map(saved) };
}
