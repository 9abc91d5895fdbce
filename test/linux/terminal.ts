/** A person at the serial console: reads what the guest prints, types when it asks. */

import assert from 'node:assert/strict';
import type { Machine } from '../../sim-core/machine/api.ts';
import type { LoggedEvent } from '../../sim-core/machine/history/history.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';

const SLICE = 20_000_000;

export class Terminal {
  readonly machine: Machine;
  output = '';
  /** All that has come from outside. */
  readonly events: LoggedEvent[] = [];
  /** Of `output`, what earlier waits have seen. */
  private seen = 0;
  private wanted: string | undefined;

  private readonly slice: number;

  /** @param slice instructions that the machine is given at once */
  constructor(machine: Machine, slice = SLICE) {
    this.machine = machine;
    this.slice = slice;
    machine.serial.onOutput = (byte) => {
      this.output += String.fromCharCode(byte);
      if (this.wanted !== undefined && this.output.endsWith(this.wanted)) machine.requestStop();
    };
  }

  /** Runs until the guest has printed `text`. @returns what it printed up to there since the last wait */
  waitFor(text: string, instructions = 6e9): string {
    this.wanted = text;
    const limit = this.machine.instructions + instructions;
    while (!this.output.includes(text, this.seen)) {
      const stop = this.machine.run(this.slice);
      const running = stop.kind === 'limit' || stop.kind === 'paused';
      const spent = this.machine.instructions >= limit;
      assert.ok(
        running && !spent,
        `${spent ? 'too long' : JSON.stringify(stop)}, waiting for '${text}' after:\n${this.tail}`,
      );
    }
    const end = this.output.indexOf(text, this.seen) + text.length;
    const found = this.output.slice(this.seen, end);
    this.seen = end;
    return found;
  }

  type(line: string): void {
    this.apply({ kind: 'input', bytes: new TextEncoder().encode(`${line}\n`) });
  }

  /** Something comes from outside. */
  apply(event: OutsideEvent): void {
    const { rewindable } = this.machine;
    this.events.push({ at: rewindable.position, event });
    rewindable.applyEvent(event);
  }

  /** Runs until the machine stops by itself. */
  untilStop(instructions = 2e9): StopReason {
    const limit = this.machine.instructions + instructions;
    for (;;) {
      const stop = this.machine.run(this.slice);
      if (stop.kind !== 'limit' && stop.kind !== 'paused') return stop;
      assert.ok(this.machine.instructions < limit, `no end after:\n${this.tail}`);
    }
  }

  private get tail(): string {
    return this.output.slice(-2000);
  }
}
