import type { Fault } from '../mmu/fault.ts';
import type { Cpu } from './cpu.ts';
import type { FaultStep } from './fault-step.ts';
import type { VectoredEvent } from './intercepts.ts';

/** What became of an event. After `delivered` and `vmExit` the processor goes on at `state.rip`. */
export type Delivery =
  | { readonly kind: 'delivered' | 'vmExit' }
  | { readonly kind: 'tripleFault'; readonly story: readonly FaultStep[] }
  | { readonly kind: 'unimplemented'; readonly what: string };

/** Handles the fault of the instruction at `state.rip`: exception through the IDT, double and triple fault, VM exit. */
export function deliverFault(_cpu: Cpu, _fault: Fault): Delivery {
  throw new Error('not built yet');
}

/** Delivers an event through the IDT (interrupts, NMI, events injected by VM entry, INT n). */
export function deliverEvent(_cpu: Cpu, _event: VectoredEvent): Delivery {
  throw new Error('not built yet');
}

/**
 * At an instruction boundary: VM exits that are due, NMI, external interrupts, in the manual's priority order (SDM Vol. 3A,
 * "Priority Among Concurrent Events"). Undefined when nothing is to be done.
 */
export function serviceBoundary(_cpu: Cpu): Delivery | undefined {
  throw new Error('not built yet');
}
