import type { Cpu } from './cpu.ts';

/** What RDTSC and RDTSCP cost beyond one cycle: programs that wait for a time spin on them, as on silicon. */
export const TIME_STAMP_CYCLES = 24;

/** Lets time pass beyond the one cycle of each instruction; what that makes due is looked at after the instruction. */
export function spend({ state, clock }: Cpu, cycles: number): void {
  state.setFloat('extraCycles', state.getFloat('extraCycles') + cycles);
  if (clock.cycles() >= state.getFloat('sliceEnd')) state.set32('attention', 1);
}
