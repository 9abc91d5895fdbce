/** Which mode the processor is in, and what follows from it. */

import { CR0, CR4, EFER, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { CODE_MODE, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';

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

/** Whether bits 63:`width` of a linear address equal bit `width` − 1 (SDM Vol. 1, "Canonical Addressing"). */
const isSignExtended = (linear: bigint, width: number): boolean =>
  BigInt.asIntN(width, linear) === BigInt.asIntN(64, linear);

/** Whether a linear address may be used as the paging mode is: 57 bits with CR4.LA57, else 48. */
export const isCanonical = (state: State, linear: bigint): boolean =>
  isSignExtended(linear, (state.low('cr4') & CR4.la57) !== 0 ? 57 : 48);

/**
 * Whether registers may hold a linear address, and instructions invalidate it: bases of segments and descriptor tables,
 * and MSRs. The paging mode does not matter, only the width that CPUID reports.
 */
export const isCanonicalForModel = ({ model }: Cpu, linear: bigint): boolean =>
  isSignExtended(linear, model.linearAddressBits);
