import type { WriteWatch } from '../../mmu/physical-memory.ts';
import type { ChangeWatch } from './history.ts';
import type { Rewindable } from './rewindable.ts';

const PAGE = 4096;

/** A range of physical memory. */
export interface PhysicalRange {
  readonly physical: number;
  readonly length: number;
}

/** Watches for writes to RAM, of whomever and whatever they write. */
export function watchMemory(machine: Rewindable, ranges: readonly PhysicalRange[]): ChangeWatch {
  let written = false;
  const watch: WriteWatch = {
    holdsTable: (page) =>
      ranges.some(({ physical, length }) => physical < (page + 1) * PAGE && physical + length > page * PAGE),
    written: (at, size) => {
      written ||= ranges.some(({ physical, length }) => at < physical + length && at + size > physical);
    },
  };
  const { writeWatches } = machine.physical;
  writeWatches.push(watch);
  machine.marked();
  return {
    changed: () => {
      const seen = written;
      written = false;
      return seen;
    },
    end: () => {
      writeWatches.splice(writeWatches.indexOf(watch), 1);
    },
  };
}

/** Watches a value from place to place: what happens and is undone between two of them is not seen. */
export function watchValue(read: () => unknown): ChangeWatch {
  let last = read();
  return {
    changed: () => {
      const before = last;
      last = read();
      return last !== before;
    },
    end: () => {},
  };
}
