/** All that a domain maps, for people: runs of pages. */

import { pointerOf, SECOND_STAGE } from './entries.ts';
import type { Domain, TableMemory } from './walk.ts';

/** Pages that follow each other on both sides, with the same rights. */
export interface Mapping {
  readonly address: bigint;
  readonly target: bigint;
  readonly size: bigint;
  readonly read: boolean;
  readonly write: boolean;
}

const ENTRIES = 512;

class Collector {
  readonly runs: Mapping[] = [];
  private readonly memory: TableMemory;
  private readonly limit: number;

  constructor(memory: TableMemory, limit: number) {
    this.memory = memory;
    this.limit = limit;
  }

  collect(table: bigint, level: number, base: bigint, read: boolean, write: boolean): void {
    const size = 1n << BigInt(12 + 9 * (level - 1));
    for (let index = 0; index < ENTRIES && this.runs.length <= this.limit; index++) {
      const value = this.memory.read64(table + BigInt(8 * index)) ?? 0n;
      const readable = read && (value & SECOND_STAGE.read) !== 0n;
      const writable = write && (value & SECOND_STAGE.write) !== 0n;
      if (!readable && !writable) continue;
      const address = base + BigInt(index) * size;
      if (level === 1 || (level < 4 && (value & SECOND_STAGE.page) !== 0n)) {
        this.add({ address, target: pointerOf(value) & ~(size - 1n), size, read: readable, write: writable });
      } else this.collect(pointerOf(value), level - 1, address, readable, writable);
    }
  }

  private add(page: Mapping): void {
    const last = this.runs.at(-1);
    const follows = last && last.address + last.size === page.address && last.target + last.size === page.target;
    if (last && follows && last.read === page.read && last.write === page.write) {
      this.runs[this.runs.length - 1] = { ...last, size: last.size + page.size };
    } else this.runs.push(page);
  }
}

/** @param limit at most so many runs */
export function mappingsOf(memory: TableMemory, domain: Domain, limit: number): readonly Mapping[] {
  if (domain.table === undefined) return [];
  const collector = new Collector(memory, limit);
  collector.collect(domain.table, domain.levels, 0n, true, true);
  return collector.runs.slice(0, limit);
}
