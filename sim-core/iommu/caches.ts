/**
 * What the IOMMU remembers (VT-d specification, chapter "Caching Translation Information"). Entries stay until an
 * invalidation or capacity removes them, whatever happens to the tables. Nothing that faults is remembered (CM = 0).
 */

import type { Snapshotted } from '../platform/device.ts';
import type { Domain, PageMapping, TablePointer } from './walk.ts';

export interface IotlbEntry extends PageMapping {
  readonly domain: number;
}

/** A remembered second-stage table: the one that translates the region of `prefix`. */
export interface StructureEntry extends TablePointer {
  readonly domain: number;
  /** Address bits above those that the table translates. */
  readonly prefix: bigint;
}

export interface CachesState {
  /** By requester. */
  readonly contexts: readonly (readonly [number, Domain])[];
  readonly iotlb: readonly (readonly [string, IotlbEntry])[];
  readonly structures: readonly (readonly [string, StructureEntry])[];
  /** Interrupt remapping table entries by index: two quadwords. */
  readonly interrupts: readonly (readonly [number, readonly bigint[]])[];
}

const CAPACITY = { contexts: 256, iotlb: 1024, structures: 256, interrupts: 256 } as const;
const PAGE_SIZES = [1n << 12n, 1n << 21n, 1n << 30n] as const;

/** A map that drops its oldest entry when it is full. */
function remember<K, V>(map: Map<K, V>, capacity: number, key: K, value: V): void {
  map.delete(key);
  if (map.size >= capacity) for (const oldest of map.keys()) if (map.delete(oldest)) break;
  map.set(key, value);
}

function forget<K, V>(map: Map<K, V>, goes: (value: V, key: K) => boolean): void {
  for (const [key, value] of map) if (goes(value, key)) map.delete(key);
}

const shiftOf = (level: number): bigint => BigInt(12 + 9 * level);

export class Caches implements Snapshotted<CachesState> {
  private contexts = new Map<number, Domain>();
  private iotlb = new Map<string, IotlbEntry>();
  private structures = new Map<string, StructureEntry>();
  private interrupts = new Map<number, readonly bigint[]>();

  // Context cache (in scalable mode with the PASID cache)

  context(requester: number): Domain | undefined {
    return this.contexts.get(requester);
  }
  addContext(requester: number, domain: Domain): void {
    remember(this.contexts, CAPACITY.contexts, requester, domain);
  }
  get allContexts(): readonly (readonly [number, Domain])[] {
    return [...this.contexts];
  }
  /** @param functions FM: how many low function-number bits do not count (0…3) */
  forgetContexts(domain?: number, requester?: number, functions = 0): void {
    const ignored = [0, 4, 6, 7][functions] ?? 0;
    forget(
      this.contexts,
      ({ id }, key) =>
        (domain === undefined || id === domain) && (requester === undefined || ((key ^ requester) & ~ignored) === 0),
    );
  }

  // IOTLB

  find(domain: number, address: bigint): IotlbEntry | undefined {
    for (const size of PAGE_SIZES) {
      const found = this.iotlb.get(`${domain}:${size}:${address & ~(size - 1n)}`);
      if (found) return found;
    }
    return undefined;
  }
  add(domain: number, mapping: PageMapping): void {
    remember(this.iotlb, CAPACITY.iotlb, `${domain}:${mapping.size}:${mapping.page}`, { ...mapping, domain });
  }
  get all(): readonly IotlbEntry[] {
    return [...this.iotlb.values()];
  }

  /** Paging-structure cache: the lowest table that is remembered for an address. */
  findTable(domain: number, address: bigint, levels: number): StructureEntry | undefined {
    for (let level = 1; level < levels; level++) {
      const found = this.structures.get(`${domain}:${level}:${address >> shiftOf(level)}`);
      if (found) return found;
    }
    return undefined;
  }
  addTable(domain: number, address: bigint, pointer: TablePointer): void {
    const prefix = address >> shiftOf(pointer.level);
    const key = `${domain}:${pointer.level}:${prefix}`;
    remember(this.structures, CAPACITY.structures, key, { ...pointer, domain, prefix });
  }

  /** Second-stage entries of all domains, or of one. */
  forgetMappings(domain?: number): void {
    forget(this.iotlb, (entry) => domain === undefined || entry.domain === domain);
    forget(this.structures, (entry) => domain === undefined || entry.domain === domain);
  }

  /** @param order log2 of the number of 4-KiB pages @param leavesOnly the invalidation hint: tables stay remembered */
  forgetPages(domain: number, address: bigint, order: number, leavesOnly: boolean): void {
    const size = 1n << BigInt(12 + order);
    const first = address & ~(size - 1n);
    const overlaps = (start: bigint, length: bigint): boolean => start < first + size && first < start + length;
    forget(this.iotlb, (entry) => entry.domain === domain && overlaps(entry.page, entry.size));
    if (leavesOnly) return;
    forget(this.structures, (entry) => {
      const covered = 1n << shiftOf(entry.level);
      return entry.domain === domain && overlaps(entry.prefix * covered, covered);
    });
  }

  // Interrupt entry cache

  interruptEntry(index: number): readonly bigint[] | undefined {
    return this.interrupts.get(index);
  }
  addInterruptEntry(index: number, values: readonly bigint[]): void {
    remember(this.interrupts, CAPACITY.interrupts, index, values);
  }
  get allInterruptEntries(): readonly (readonly [number, readonly bigint[]])[] {
    return [...this.interrupts];
  }
  /** @param order log2 of how many entries, aligned; undefined: all */
  forgetInterruptEntries(index = 0, order?: number): void {
    forget(this.interrupts, (_, key) => order === undefined || key >> order === index >> order);
  }

  snapshot(): CachesState {
    return {
      contexts: [...this.contexts],
      iotlb: [...this.iotlb],
      structures: [...this.structures],
      interrupts: [...this.interrupts],
    };
  }

  restore(saved: CachesState): void {
    this.contexts = new Map(saved.contexts);
    this.iotlb = new Map(saved.iotlb);
    this.structures = new Map(saved.structures);
    this.interrupts = new Map(saved.interrupts);
  }
}
