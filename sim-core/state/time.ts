/** Time: cycles pass with every instruction, and with what takes longer. */

import type { State } from './state.ts';

/** What RDTSC and RDTSCP cost beyond one cycle: programs that wait for a time spin on them, as on silicon. */
export const TIME_STAMP_CYCLES = 24;
/** What PAUSE costs beyond one cycle: less than the 128 that hypervisors take for the gap of a PAUSE loop. */
export const PAUSE_CYCLES = 64;
/** What an access to a device costs beyond one cycle, through an I/O port or through memory. */
export const DEVICE_CYCLES = 250;

/**
 * Lets time pass beyond the one cycle of each instruction. The running slice gets shorter by it, so that it ends at the
 * first instruction boundary at which something is due, wherever it began.
 */
export function spend(state: State, cycles: number): void {
  const extra = state.getFloat('extraCycles') + cycles;
  state.setFloat('extraCycles', extra);
  const budget = state.get32('budget');
  const granted = state.getFloat('granted');
  const now = state.getFloat('retired') + granted - budget + extra;
  const left = Math.max(0, Math.ceil(state.getFloat('sliceEnd') - now));
  if (left >= budget) return;
  state.setFloat('granted', granted - (budget - left));
  state.set32('budget', left);
}
