import type { PhysicalMemory } from '../../mmu/physical-memory.ts';
import type { State } from '../../state/state.ts';
import type { StopReason } from '../stop-reason.ts';
import type { OutsideEvent } from './outside-event.ts';
import type { Position } from './position.ts';

/** What time travel needs of a machine. */
export interface Rewindable {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly position: Position;
  /** Cycles since boot. */
  readonly cycles: number;
  /** As in `Machine`. @param goesOn a run that was interrupted goes on: a breakpoint at the current RIP stops it. */
  run(instructions: number, goesOn?: boolean): StopReason;
  step(): StopReason;
  /** One instruction or event of the processor whose turn it is. */
  advance(): StopReason;
  /** Runs `work` without breakpoints, filters and callbacks. */
  withoutStops(work: () => void): void;
  /** A copy of everything that is not in linear memory (devices, counters of the VMX units). */
  saveOutside(): unknown;
  /** Puts it back, after linear memory. @param saved what `saveOutside` gave */
  restoreOutside(saved: unknown): void;
  /** A mark was made: writes must be seen anew, so fast write translations are forgotten. */
  marked(): void;
  /** Linear memory was put back: forgets everything that is derived from it. */
  memoryReplaced(): void;
  /** Does to the machine what came from outside. */
  applyEvent(event: OutsideEvent): void;
}
