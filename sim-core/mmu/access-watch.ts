/**
 * Data watchpoints on memory. Pages that hold a watched byte never take the engine's fast path, so that every access to
 * them comes here; accesses to other pages cost what they cost without. It only looks on.
 */

import type { TableWriter, WriteWatch } from './physical-memory.ts';

/** Watched bytes of one address space. */
export interface WatchedRange {
  /** Linear addresses of whatever runs; guest-physical ones of whichever guest runs; host-physical ones. */
  readonly space: 'linear' | 'gpa' | 'hpa';
  readonly address: bigint;
  /** Bytes, at least 1. */
  readonly length: number;
  /** Whether reads are watched. Writes always come here, as those of read-modify-write instructions read, too. */
  readonly reads: boolean;
}

/** Where an access lies in each address space; undefined where it has no address. */
export interface AccessAddress {
  readonly linear: bigint | undefined;
  readonly gpa: bigint | undefined;
  readonly hpa: bigint;
}

/** An access to watched bytes, told before it is done. It lies in one page. */
export interface WatchedAccess {
  readonly range: WatchedRange;
  readonly at: AccessAddress;
  readonly length: number;
  readonly write: boolean;
  /** `outside`: a device, or the processor's VMX areas. */
  readonly by: TableWriter;
}

const PAGE_BITS = 12n;

/** Pages of one address space, as a sorted list of intervals that do not touch. */
class Pages {
  private readonly firsts: bigint[] = [];
  private readonly lasts: bigint[] = [];

  constructor(ranges: readonly WatchedRange[]) {
    const intervals = ranges
      .map(({ address, length }) => [address >> PAGE_BITS, (address + BigInt(length) - 1n) >> PAGE_BITS] as const)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    for (const [first, last] of intervals) {
      const end = this.lasts.at(-1);
      if (end === undefined || first > end + 1n) {
        this.firsts.push(first);
        this.lasts.push(last);
      } else if (last > end) this.lasts[this.lasts.length - 1] = last;
    }
  }

  get isEmpty(): boolean {
    return this.firsts.length === 0;
  }

  has(address: bigint): boolean {
    const page = address >> PAGE_BITS;
    let low = 0;
    let high = this.firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.lasts[middle] as bigint) < page) low = middle + 1;
      else high = middle;
    }
    const first = this.firsts[low];
    return first !== undefined && first <= page;
  }
}

export class AccessWatch implements WriteWatch {
  private readonly ranges: readonly WatchedRange[];
  private readonly linear: Pages;
  private readonly guestPhysical: Pages;
  private readonly hostPhysical: Pages;
  private readonly hostReads: Pages;
  private readonly onAccess: (access: WatchedAccess) => void;

  /** @param onAccess told of each access to watched bytes, once for each range that it touches */
  constructor(ranges: readonly WatchedRange[], onAccess: (access: WatchedAccess) => void) {
    const of = (space: WatchedRange['space']): WatchedRange[] => ranges.filter((range) => range.space === space);
    this.ranges = ranges;
    this.onAccess = onAccess;
    this.linear = new Pages(of('linear'));
    this.guestPhysical = new Pages(of('gpa'));
    this.hostPhysical = new Pages(of('hpa'));
    this.hostReads = new Pages(of('hpa').filter((range) => range.reads));
  }

  /** Whether guest-physical addresses are of interest: they take a walk to find out. */
  get wantsGuestPhysical(): boolean {
    return !this.guestPhysical.isEmpty;
  }

  watchesLinear(address: bigint): boolean {
    return this.linear.has(address);
  }
  watchesGuestPhysical(address: bigint): boolean {
    return this.guestPhysical.has(address);
  }
  /** Whether reads of a physical page must come to the slow path; for writes: `holdsTable`. */
  watchesReads(physical: number): boolean {
    return !this.hostReads.isEmpty && this.hostReads.has(BigInt(physical));
  }

  /** @param page physical page number */
  holdsTable(page: number): boolean {
    return !this.hostPhysical.isEmpty && this.hostPhysical.has(BigInt(page) << PAGE_BITS);
  }

  /** Instructions' writes are told by `accessed`, which knows all their addresses. */
  written(physical: number, length: number, by: TableWriter): void {
    if (by === 'instruction') return;
    this.accessed({ linear: undefined, gpa: undefined, hpa: BigInt(physical) }, length, true, by);
  }

  /** About to access RAM or a device. Reads of ranges whose reads are not watched are not told. */
  accessed(at: AccessAddress, length: number, write: boolean, by: TableWriter): void {
    for (const range of this.ranges) {
      const address = at[range.space];
      if (address === undefined || (!write && !range.reads)) continue;
      if (address >= range.address + BigInt(range.length) || range.address >= address + BigInt(length)) continue;
      this.onAccess({ range, at, length, write, by });
    }
  }
}
