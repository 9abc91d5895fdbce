import { before, type Position } from '../../sim-core/machine/history/position.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';

export interface TimelineExit {
  readonly at: Position;
  readonly reason: number;
  readonly processor: number;
  readonly guestRip: bigint;
}

/** VM exits that are kept: the older half is given up when there are more. */
const MOST_EXITS = 1 << 18;

/** Every VM exit of the run, in order of time. */
export class Timeline {
  private readonly exits: TimelineExit[] = [];
  /** VM exits before the first one that is kept. */
  private forgotten = 0;

  /** Takes a VM exit that has just happened; in the past it is known. */
  add({ reason, guestRip }: VmExitRecord, at: Position, processor: number): void {
    const last = this.exits.at(-1);
    if (last && !before(last.at, at)) return;
    this.exits.push({ at, reason, processor, guestRip });
    if (this.exits.length <= MOST_EXITS) return;
    this.exits.splice(0, MOST_EXITS / 2);
    this.forgotten += MOST_EXITS / 2;
  }

  /** What is after a place has not happened. */
  forgetAfter(at: Position): void {
    this.exits.length = this.countUpTo(at);
  }

  /** Another machine's begins. */
  clear(): void {
    this.exits.length = 0;
    this.forgotten = 0;
  }

  /** VM exits since the first one, with those that are no longer kept. */
  get total(): number {
    return this.forgotten + this.exits.length;
  }
  /** Number of the first one that is kept; the first of all is 0. */
  get first(): number {
    return this.forgotten;
  }

  /** VM exits by number. */
  slice(from: number, to: number): readonly TimelineExit[] {
    return this.exits.slice(Math.max(0, from - this.forgotten), Math.max(0, to - this.forgotten));
  }

  /** How many there are up to a place: the number of the next one. */
  numberAt(at: Position): number {
    return this.forgotten + this.countUpTo(at);
  }

  private countUpTo(at: Position): number {
    let [low, high] = [0, this.exits.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (before(at, (this.exits[middle] as TimelineExit).at)) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
