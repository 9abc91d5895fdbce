import { RFLAGS } from '../state/control-bits.ts';
import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';

const STATUS = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of;
/** The flags kept in `rflagsSystem`; bit 1 is always 1, the others read as 0. */
const SYSTEM =
  RFLAGS.tf | RFLAGS.if | RFLAGS.df | RFLAGS.iopl | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm | RFLAGS.ac | RFLAGS.vif |
  RFLAGS.vip | RFLAGS.id; // biome-ignore format: a list reads better in rows
const ALWAYS_ONE = 0x2;

/** PF's table: 1 for bytes with an even number of ones. */
const EVEN_PARITY = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let rest = byte; rest !== 0; rest >>>= 1) ones += rest & 1;
  return 1 - (ones & 1);
});

/** RFLAGS, all flags in place (bits 63:32 are always 0). */
export function readRflags(state: State): number {
  return (state.get32('rflagsSystem') | readStatusFlags(state)) >>> 0;
}

/** CF, PF, AF, ZF, SF, OF from the lazy cells (see `flagResult`, `flagCarry`, `flagMisc` in state/layout.ts). */
export function readStatusFlags(state: State): number {
  const low = state.low('flagResult');
  const high = state.high('flagResult');
  const carry = state.high('flagCarry');
  const misc = state.get32('flagMisc');
  const parityByte = (low ^ (misc >>> 8)) & 0xff;
  return (
    (carry >>> 31) |
    (EVEN_PARITY[parityByte] ? RFLAGS.pf : 0) |
    (misc & RFLAGS.af) |
    ((low | high) === 0 ? RFLAGS.zf : 0) |
    (((high ^ misc) >>> 31) << 7) |
    (((carry ^ (carry << 1)) >>> 31) << 11)
  );
}

/** Sets the six status flags from their places in `flags`; the rest of RFLAGS stays. */
export function writeStatusFlags(state: State, flags: number): void {
  const zero = (flags & RFLAGS.zf) !== 0 ? 1 : 0;
  const carry = flags & 1;
  const overflow = (flags & RFLAGS.of) !== 0 ? 1 : 0;
  const parity = (flags & RFLAGS.pf) !== 0 ? 1 : 0;
  const { u32 } = state;
  // The result is 0 (ZF set, even parity) or 1 (odd parity): bits 15:8 of flagMisc correct PF, bit 31 corrects SF.
  u32[OFFSET.flagResult >>> 2] = 1 - zero;
  u32[(OFFSET.flagResult >>> 2) + 1] = 0;
  u32[OFFSET.flagCarry >>> 2] = 0;
  u32[(OFFSET.flagCarry >>> 2) + 1] = (carry << 31) | ((carry ^ overflow) << 30);
  u32[OFFSET.flagMisc >>> 2] = (flags & RFLAGS.af) | ((parity ^ zero) << 8) | ((flags & RFLAGS.sf) << 24);
}

/** Sets all of RFLAGS. A caller that may change AC calls `mmu.updateContext` afterwards. */
export function writeRflags(state: State, flags: number): void {
  writeStatusFlags(state, flags & STATUS);
  writeSystemFlags(state, flags);
}

/** Sets the flags other than the status flags. */
export function writeSystemFlags(state: State, flags: number): void {
  state.set32('rflagsSystem', (flags & SYSTEM) | ALWAYS_ONE);
  state.set32('stringStep', (flags & RFLAGS.df) !== 0 ? -1 : 1);
}

/**
 * Sets or clears RFLAGS.RF. A string instruction that is interrupted between its iterations leaves it set, so that an
 * instruction breakpoint is met once only.
 */
export function setResumeFlag(state: State, on: boolean): void {
  const flags = state.get32('rflagsSystem');
  state.set32('rflagsSystem', on ? flags | RFLAGS.rf : flags & ~RFLAGS.rf);
}

/** IOPL, 0…3. */
export const ioPrivilegeLevel = (state: State): number => (state.get32('rflagsSystem') & RFLAGS.iopl) >>> 12;
