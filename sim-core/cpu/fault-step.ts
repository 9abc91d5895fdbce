import type { Fault } from '../mmu/fault.ts';

/** One step on the way to a triple fault. */
export interface FaultStep {
  readonly fault: Fault;
  readonly rip: bigint;
  readonly description: string;
}
