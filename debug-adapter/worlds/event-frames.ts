/** The frame that an exception or interrupt has pushed, found without call-frame information. */

import type { Target } from '../running/target.ts';
import type { Frame } from './unwind.ts';
import { frameRegister, readWord } from './unwind.ts';

/** What an event of 64-bit mode pushes, from its lowest address on. */
const PUSHED = ['rip', 'cs', 'rflags', 'rsp', 'ss'] as const;
const SIZE = 8;
/** A handler's entry pushes at most so many words: registers, vector, error code. */
const MOST_PUSHED = 40;
const LARGEST_HANDLER = 4096n;
const SELECTOR = 0xffffn;
/** RFLAGS: bit 1 is 1, bits 3, 5, 15 and those above 21 are 0. */
const FLAGS_ONE = 0x2n;
const FLAGS_ZERO = 0xffff_ffff_ffc0_8028n;
const IRETQ = [0x48, 0xcf];

/** The interrupted registers, by name, and where they are. */
export interface EventFrame {
  readonly values: ReadonlyMap<string, bigint>;
  readonly saved: ReadonlyMap<string, bigint>;
}

/** The frame below a function that ends in IRETQ; undefined elsewhere. */
export function findEventFrame(target: Target, frame: Frame): EventFrame | undefined {
  const { view } = frame;
  if (view.bitness !== 64 || !endsInReturn(target, frame)) return undefined;
  const sp = frameRegister(frame, 'rsp') ?? 0n;
  for (let index = 0; index < MOST_PUSHED; index++) {
    const at = sp + BigInt(SIZE * index);
    const found = frameAt(target, frame, at);
    if (found) return found;
  }
  return undefined;
}

function endsInReturn(target: Target, { view, lookupPc }: Frame): boolean {
  const home = target.functionAt(view, lookupPc);
  if (!home || home.end - home.start > LARGEST_HANDLER) return false;
  const code = view.read(home.start, Number(home.end - home.start));
  return code.some((byte, at) => byte === IRETQ[0] && code[at + 1] === IRETQ[1]);
}

/** The processor aligns the stack to 16 bytes before it pushes SS (SDM Vol. 3A, "64-Bit Mode Stack Frame"). */
function frameAt(target: Target, { view }: Frame, at: bigint): EventFrame | undefined {
  if ((at + BigInt(SIZE * PUSHED.length)) % 16n !== 0n) return undefined;
  const values = new Map<string, bigint>();
  const saved = new Map<string, bigint>();
  for (const [index, name] of PUSHED.entries()) {
    const place = at + BigInt(SIZE * index);
    const value = readWord(view, place, SIZE);
    if (value === undefined) return undefined;
    values.set(name, value);
    saved.set(name, place);
  }
  const [rip = 0n, cs = 0n, rflags = 0n, , ss = 0n] = values.values();
  const sound =
    cs > 3n && cs <= SELECTOR && ss <= SELECTOR && (rflags & FLAGS_ONE) !== 0n && (rflags & FLAGS_ZERO) === 0n;
  const isCode = sound && target.programAt(view, rip) !== undefined && view.read(rip, 1).length === 1;
  return isCode ? { values, saved } : undefined;
}
