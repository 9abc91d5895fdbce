/** A guest that waits for its user waits in real time, so that it leaves the computer's processors to others. */

import type { Machine } from './api.ts';

const CYCLES_PER_MILLISECOND = 1_000_000;
/** A guest that was idle for so long with no word to its user waits for him; before, as in booting, time may fly. */
const QUIET_CYCLES = 1_000_000_000;
/** Shorter waits are not worth one of the process's timers; they add up. */
const SHORTEST_CYCLES = 2 * CYCLES_PER_MILLISECOND;

/** Counts the cycles in which all processors wait. When they are read does not change what the machine does. */
export class IdlePace {
  private readonly machine: Pick<Machine, 'onSleep' | 'serial' | 'requestStop'>;
  private sent = 0;
  private quiet = 0;
  private owed = 0;
  private isPaced = false;

  /** Takes the machine's `onSleep`. */
  constructor(machine: Pick<Machine, 'onSleep' | 'serial' | 'requestStop'>) {
    this.machine = machine;
    machine.onSleep = (cycles) => this.slept(cycles);
  }

  /** The milliseconds that the guest has waited since it was last asked, and that have not passed in this process. */
  takeMilliseconds(): number {
    const { owed } = this;
    if (owed < SHORTEST_CYCLES) return 0;
    this.owed = 0;
    return owed / CYCLES_PER_MILLISECOND;
  }

  private slept(cycles: number): void {
    if (!this.isPaced) {
      const { sent } = this.machine.serial;
      this.quiet = sent === this.sent ? this.quiet + cycles : 0;
      this.sent = sent;
      this.isPaced = this.quiet >= QUIET_CYCLES;
      return;
    }
    this.owed += cycles;
    if (this.owed >= SHORTEST_CYCLES) this.machine.requestStop();
  }
}
