/** Which mode the processor is in, and what follows from it. */

import { CR0, EFER, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { CODE_MODE, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';

export const inProtectedMode = (state: State): boolean => (state.low('cr0') & CR0.pe) !== 0;
/** IA-32e mode: 64-bit or compatibility mode. */
export const inLongMode = (state: State): boolean => (state.low('efer') & EFER.lma) !== 0;
export const inVirtual8086 = (state: State): boolean => (state.get32('rflagsSystem') & RFLAGS.vm) !== 0;
/** Real-address mode or virtual-8086 mode: a selector gives the base, without a descriptor. */
export const hasRealSegments = (state: State): boolean => !inProtectedMode(state) || inVirtual8086(state);
export const in64BitMode = (state: State): boolean => state.get32('codeMode') === CODE_MODE.code64;

/** Recomputes `state.codeMode`: to be called after any change of CS, SS or EFER.LMA. */
export function updateCodeMode(state: State): void {
  const cs = state.get32('segmentRights', SEGMENT.cs);
  if (inLongMode(state) && (cs & RIGHTS.long) !== 0) {
    state.set32('codeMode', CODE_MODE.code64);
    return;
  }
  const stack32 = (state.get32('segmentRights', SEGMENT.ss) & RIGHTS.big) !== 0;
  if ((cs & RIGHTS.big) !== 0) state.set32('codeMode', stack32 ? CODE_MODE.code32stack32 : CODE_MODE.code32stack16);
  else state.set32('codeMode', stack32 ? CODE_MODE.code16stack32 : CODE_MODE.code16stack16);
}

/** Width of the stack pointer in bytes. */
export function stackWidth(state: State): 2 | 4 | 8 {
  if (in64BitMode(state)) return 8;
  return (state.get32('segmentRights', SEGMENT.ss) & RIGHTS.big) !== 0 ? 4 : 2;
}

/** Whether a linear address is canonical for 48 bits (SDM Vol. 1, "Canonical Addressing"). */
export const isCanonical = (linear: bigint): boolean => {
  const sign = BigInt.asUintN(64, linear) >> 47n;
  return sign === 0n || sign === 0x1_ffffn;
};
