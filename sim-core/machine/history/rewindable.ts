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
  /** As in `Machine`. */
  run(instructions: number): StopReason;
  step(): StopReason;
  /** Runs `work` without breakpoints, filters and callbacks. */
  withoutStops(work: () => void): void;
  /** A copy of everything that is not in linear memory (devices, counters of the VMX units). */
  saveOutside(): unknown;
  /** Puts it back, after linear memory. @param saved what `saveOutside` gave */
  restoreOutside(saved: unknown): void;
  /** Linear memory was put back, or a mark was made: forgets what is derived from it, fast write translations too. */
  memoryReplaced(): void;
  /** Does to the machine what came from outside. */
  applyEvent(event: OutsideEvent): void;
}
