/** Time: cycles pass with every instruction, and with what takes longer. */

import type { State } from './state.ts';

/** What RDTSC and RDTSCP cost beyond one cycle: programs that wait for a time spin on them, as on silicon. */
export const TIME_STAMP_CYCLES = 24;
/** What PAUSE costs beyond one cycle: less than the 128 that hypervisors take for the gap of a PAUSE loop. */
export const PAUSE_CYCLES = 64;
/** What an access to a device costs beyond one cycle, through an I/O port or through memory. */
export const DEVICE_CYCLES = 250;

/** Lets time pass beyond the one cycle of each instruction; what that makes due is looked at after the instruction. */
export function spend(state: State, cycles: number): void {
  const extra = state.getFloat('extraCycles') + cycles;
  state.setFloat('extraCycles', extra);
  const begun = state.getFloat('retired') + state.getFloat('granted') - state.get32('budget');
  if (begun + extra >= state.getFloat('sliceEnd')) state.set32('attention', 1);
}
