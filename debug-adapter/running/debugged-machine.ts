import type { Machine } from '../../sim-core/machine/api.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import type { Position } from '../../sim-core/machine/history/position.ts';
import type { Rewindable } from '../../sim-core/machine/history/rewindable.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import type { PhysicalMemory } from '../../sim-core/mmu/physical-memory.ts';
import type { State } from '../../sim-core/state/state.ts';
import type { GuestRegisters } from '../worlds/world-view.ts';

interface Saved {
  readonly machine: unknown;
  /** By processor. */
  readonly guestRegisters: readonly unknown[];
}

/** The machine with what the debugger remembers of it: time travel takes both back. */
export class DebuggedMachine implements Rewindable {
  private readonly machine: Rewindable;
  private readonly guestRegisters: readonly GuestRegisters[];

  constructor({ rewindable }: Machine, guestRegisters: readonly GuestRegisters[]) {
    this.machine = rewindable;
    this.guestRegisters = guestRegisters;
  }

  get state(): State {
    return this.machine.state;
  }
  get physical(): PhysicalMemory {
    return this.machine.physical;
  }
  get position(): Position {
    return this.machine.position;
  }
  get cycles(): number {
    return this.machine.cycles;
  }
  run(instructions: number, goesOn?: boolean): StopReason {
    return this.machine.run(instructions, goesOn);
  }
  step(): StopReason {
    return this.machine.step();
  }
  advance(): StopReason {
    return this.machine.advance();
  }
  withoutStops(work: () => void): void {
    this.machine.withoutStops(work);
  }
  saveOutside(): Saved {
    return { machine: this.machine.saveOutside(), guestRegisters: this.guestRegisters.map((guest) => guest.save()) };
  }
  restoreOutside(saved: unknown): void {
    const { machine, guestRegisters } = saved as Saved;
    this.machine.restoreOutside(machine);
    for (const [i, guest] of this.guestRegisters.entries()) guest.restore(guestRegisters[i]);
  }
  marked(): void {
    this.machine.marked();
  }
  memoryReplaced(): void {
    this.machine.memoryReplaced();
  }
  applyEvent(event: OutsideEvent): void {
    this.machine.applyEvent(event);
  }
}
