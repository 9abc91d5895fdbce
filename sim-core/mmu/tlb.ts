import { PARKING, parkingOf, REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { FastTlb } from './fast-tlb.ts';

/** What a TLB entry translates (SDM Vol. 3C, "Information That May Be Cached"). */
export const MAPPING = { linear: 0, guestPhysical: 1, combined: 2 } as const;
export type MappingKind = (typeof MAPPING)[keyof typeof MAPPING];
/** For people. */
export const KIND_NAMES = ['linear', 'guest-physical', 'combined'] as const satisfies Record<MappingKind, string>;

/** One entry as people see it. Addresses are Numbers below 2^52 except linear pages. */
export interface TlbEntry {
  /** Its place in the TLB, and the number of the fill that put it there. */
  readonly index: number;
  readonly stamp: number;
  readonly kind: MappingKind;
  readonly vpid: number;
  readonly pcid: number;
  /** Bits 51:12 of the EPTP (EP4TA), as an address; 0 for linear mappings. */
  readonly eptRoot: number;
  readonly global: boolean;
  /** Linear page address (linear, combined) or guest-physical page address. */
  readonly page: bigint;
  /** 4096, 2 MiB (4 MiB for 32-bit paging) or 1 GiB. */
  readonly pageSize: number;
  /** Physical (linear, guest-physical, combined: host-physical) page address that the entry gives. */
  readonly target: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly user: boolean;
  readonly dirty: boolean;
  /** RIGHT bits and protection key as the entry has them. */
  readonly rights: number;
  /** What it was filled from: physical address of the top paging structure (0: EPT alone), World.modeBits. */
  readonly root: number;
  readonly modeBits: number;
}

/** Which entries an invalidation removes; undefined means "any". */
export interface Invalidation {
  readonly kinds: readonly MappingKind[];
  readonly vpid?: number;
  /** Entries of this PCID and, unless `keepGlobal`, global entries of every PCID. */
  readonly pcid?: number;
  readonly eptRoot?: number;
  /** Only entries whose page holds this linear address (guest-physical address for guest-physical mappings). */
  readonly linear?: bigint;
  /** Leave global entries alone (INVVPID type 3, MOV to CR3, INVPCID). */
  readonly keepGlobal?: boolean;
}

/** Page orders (log2 of the page size) by their code in an entry. */
const ORDERS = [12, 21, 22, 30] as const;
const orderCode = (order: number): number => ORDERS.indexOf(order as 12 | 21 | 22 | 30);

/** Rights and marks in the low bits of an entry's target word. */
export const RIGHT = {
  user: 1 << 0,
  writable: 1 << 1,
  noExecute: 1 << 2,
  global: 1 << 3,
  /** A write needs no accessed or dirty bit set any more, in the paging structures or (with its A/D flags) in EPT. */
  dirty: 1 << 4,
  eptRead: 1 << 5,
  eptWrite: 1 << 6,
  /** In guest-physical mappings for supervisor-mode linear addresses only, when EPT tells the modes apart. */
  eptExecute: 1 << 7,
  /** Guest-physical mappings, which have no user bit: execution at user-mode linear addresses. */
  eptUserExecute: 1 << 0,
} as const;
/** Protection key of the page in an entry's target word (bits 11:8), 0 while protection keys are off. */
export const PROTECTION_KEY = { shift: 8, mask: 0xf00 } as const;
/** Rights of EPT in an entry that EPT had no part in. */
export const ALL_EPT_RIGHTS = RIGHT.eptRead | RIGHT.eptWrite | RIGHT.eptExecute;

const WAYS = 8;

/** A set-associative part of the TLB for one page order (4-MiB pages share the 2-MiB part). */
interface Section {
  readonly first: number;
  readonly sets: number;
}

/** Numbers of sets by [guest-physical or not][4 KiB, 2 or 4 MiB, 1 GiB]; 8 ways each. */
const SETS = { paged: [256, 32, 4], guestPhysical: [128, 32, 4] } as const;

function layOutSections(): { paged: Section[]; guestPhysical: Section[]; entries: number } {
  let first = 0;
  const place = (sets: number): Section => {
    const section = { first, sets };
    first += sets * WAYS;
    return section;
  };
  const paged = SETS.paged.map(place);
  const guestPhysical = SETS.guestPhysical.map(place);
  return { paged, guestPhysical, entries: first };
}

const SECTIONS = layOutSections();
/** Number of entries of the TLB, all sections together. */
export const TLB_ENTRIES = SECTIONS.entries;

/*
 * Indices in `Tlb.words`. Struct of arrays, one 32-bit word an entry in each:
 *   keyLow    page address bits 31:12 | order code << 3 | kind << 1 | valid
 *   keyHigh   page address bits 63:32
 *   tags      VPID << 16 | PCID
 *   eptLow    EP4TA bits 31:12 | guest's page order code (when EPT's pages are smaller than the guest's)
 *   eptHigh   EP4TA bits 51:32
 *   target    physical page address bits 31:12 | RIGHT bits
 *   targetHigh
 *   stamp     the number of the fill
 *   root      physical address of the top table that it was filled from, bits 31:0 (see mmu/stale.ts)
 *   rootHigh
 *   mode      World.modeBits when it was filled
 *   occupied  one bit an entry: valid ones are found without looking at all
 * before them a header of 32 words: the next stamp, whether an entry smaller than its guest page was ever filled,
 * and the counters.
 */
const HEADER = 0;
const arrayAt = (n: number): number => HEADER + 32 + n * TLB_ENTRIES;
const KEY_LOW = arrayAt(0);
const KEY_HIGH = arrayAt(1);
const TAGS = arrayAt(2);
const EPT_LOW = arrayAt(3);
const EPT_HIGH = arrayAt(4);
const TARGET = arrayAt(5);
const TARGET_HIGH = arrayAt(6);
const STAMP = arrayAt(7);
const ROOT = arrayAt(8);
const ROOT_HIGH = arrayAt(9);
const MODE = arrayAt(10);
const OCCUPIED = arrayAt(11);
const OCCUPIED_WORDS = Math.ceil(TLB_ENTRIES / 32);
const NEXT_STAMP = HEADER;
const FRACTURED = HEADER + 1;

/**
 * What the TLB counts, in order, as doubles in the header. Hits are look-ups that the engine's own copies of entries
 * did not serve; misses (walks) and the table entries that walks read are all there are.
 */
const COUNTED = [
  'linearHits', 'guestPhysicalHits', 'combinedHits',
  'linearMisses', 'guestPhysicalMisses', 'combinedMisses',
  'pagingReferences', 'eptReferences',
] as const; // biome-ignore format: a table reads better in rows
export type TlbCounter = (typeof COUNTED)[number];
const COUNTERS = (HEADER + 2) >>> 1;
const PAGING_REFERENCES = COUNTERS + COUNTED.indexOf('pagingReferences');
const EPT_REFERENCES = COUNTERS + COUNTED.indexOf('eptReferences');
const KINDS = 3;
/** Where in a TLB's bytes the hits are: what they count depends on the engine, everything else in it does not. */
export const TLB_HITS = { offset: COUNTERS * 8, size: KINDS * 8 } as const;

/** Under which tags entries are looked up and filled. */
export interface TlbTags {
  /** VPID << 16 | PCID. */
  readonly tags: number;
  /** EP4TA; both 0 when EPT is off. */
  readonly eptLow: number;
  readonly eptHigh: number;
  /** What an entry is filled from: physical address of the top paging structure, and World.modeBits. */
  readonly root?: number;
  readonly modeBits?: number;
}

/**
 * The architectural TLB: finite, tagged; an entry stays until an invalidation or its replacement removes it.
 *
 * Replacement: each set of 8 ways gives up the entry that was filled longest ago (first in, first out).
 * Paging-structure caches are not modelled: every walk starts at the root.
 */
export class Tlb {
  readonly state: State;
  /** Number of the processor that it belongs to. */
  readonly processor: number;
  /** The engine's copies of entries: one for all processors. */
  readonly fast: FastTlb;
  /** Its part of linear memory, as words and as doubles. */
  private readonly words: Uint32Array;
  private readonly counts: Float64Array;

  constructor(state: State, processor = 0, fast = new FastTlb(state)) {
    this.state = state;
    this.processor = processor;
    this.fast = fast;
    const start = processor === 0 ? REGION.tlb.start : parkingOf(state.ramSize, processor) + PARKING.state;
    this.words = new Uint32Array(state.memory.buffer, start, REGION.tlb.size / 4);
    this.counts = new Float64Array(state.memory.buffer, start, REGION.tlb.size / 8);
  }

  /**
   * The entry for an address, or -1. Does not look at rights.
   * @param low @param high halves of the linear (guest-physical for that kind) address
   * @param largeOrder 22 under 32-bit paging, else 21
   */
  find(kind: MappingKind, low: number, high: number, largeOrder: number, world: TlbTags): number {
    const sections = kind === MAPPING.guestPhysical ? SECTIONS.guestPhysical : SECTIONS.paged;
    let entry = this.findIn(sections[0] as Section, kind, low, high, 12, world);
    if (entry < 0) entry = this.findIn(sections[1] as Section, kind, low, high, largeOrder, world);
    if (entry < 0) entry = this.findIn(sections[2] as Section, kind, low, high, 30, world);
    return entry;
  }

  private findIn(s: Section, kind: MappingKind, low: number, high: number, order: number, world: TlbTags): number {
    const u32 = this.words;
    const keyLow = keyOf(kind, low, order);
    const first = s.first + setOf(low, high, order, s.sets) * WAYS;
    for (let entry = first; entry < first + WAYS; entry++) {
      if (u32[KEY_LOW + entry] !== keyLow || u32[KEY_HIGH + entry] !== high) continue;
      if (((u32[EPT_LOW + entry] as number) & ~0xfff) >>> 0 !== world.eptLow) continue;
      if (u32[EPT_HIGH + entry] !== world.eptHigh) continue;
      const tags = u32[TAGS + entry] as number;
      if (tags === world.tags) return entry;
      const global = ((u32[TARGET + entry] as number) & RIGHT.global) !== 0;
      if (global && tags >>> 16 === world.tags >>> 16) return entry;
    }
    return -1;
  }

  /** RIGHT bits of an entry. */
  rights(entry: number): number {
    return (this.words[TARGET + entry] as number) & 0xfff;
  }

  /** Physical address of the byte at `low` through an entry. */
  target(entry: number, low: number): number {
    const u32 = this.words;
    const order = orderOf(u32[KEY_LOW + entry] as number);
    const base = (u32[TARGET_HIGH + entry] as number) * 2 ** 32 + (((u32[TARGET + entry] as number) & ~0xfff) >>> 0);
    return base + (low & (2 ** order - 1));
  }

  /** log2 of an entry's page size. */
  order(entry: number): number {
    return orderOf(this.words[KEY_LOW + entry] as number);
  }

  /**
   * Enters a translation, in place of one for the same page and tags when there is one.
   * @param physical address of the page's first byte; @param order log2 of the page size: 12, 21, 22 or 30
   * @param guestOrder log2 of the page size that the paging structures give
   * @returns the entry's number
   */
  fill(
    kind: MappingKind,
    low: number,
    high: number,
    world: TlbTags,
    physical: number,
    order: number,
    guestOrder: number,
    rights: number,
  ): number {
    const u32 = this.words;
    const sections = kind === MAPPING.guestPhysical ? SECTIONS.guestPhysical : SECTIONS.paged;
    const section = sections[order === 12 ? 0 : order === 30 ? 2 : 1] as Section;
    let entry = this.findIn(section, kind, low, high, order, world);
    const target = (((physical % 2 ** 32) & ~0xfff) | rights) >>> 0;
    const targetHigh = Math.floor(physical / 2 ** 32);
    if (entry < 0) {
      entry = this.victim(section.first + setOf(low, high, order, section.sets) * WAYS);
      this.remove(entry);
    } else {
      // Copies of the old translation may stay only when the new one allows all that the old one did.
      const lost = (u32[TARGET + entry] as number) & ~target & (0xfff & ~RIGHT.noExecute);
      const moved = ((u32[TARGET + entry] as number) ^ target) & (~0xfff | PROTECTION_KEY.mask);
      const gainedNx = ~(u32[TARGET + entry] as number) & target & RIGHT.noExecute;
      if (lost !== 0 || gainedNx !== 0 || moved !== 0 || u32[TARGET_HIGH + entry] !== targetHigh) this.remove(entry);
    }
    u32[KEY_LOW + entry] = keyOf(kind, low, order);
    u32[OCCUPIED + (entry >>> 5)] = (u32[OCCUPIED + (entry >>> 5)] as number) | (1 << (entry & 31));
    u32[KEY_HIGH + entry] = high;
    u32[TAGS + entry] = world.tags;
    u32[EPT_LOW + entry] = world.eptLow | orderCode(guestOrder);
    u32[EPT_HIGH + entry] = world.eptHigh;
    u32[TARGET + entry] = target;
    u32[TARGET_HIGH + entry] = targetHigh;
    u32[ROOT + entry] = (world.root ?? 0) >>> 0;
    u32[ROOT_HIGH + entry] = Math.floor((world.root ?? 0) / 2 ** 32);
    u32[MODE + entry] = world.modeBits ?? 0;
    u32[STAMP + entry] = u32[NEXT_STAMP] as number;
    u32[NEXT_STAMP] = (u32[NEXT_STAMP] as number) + 1;
    if (guestOrder > order) u32[FRACTURED] = 1;
    return entry;
  }

  private victim(first: number): number {
    const u32 = this.words;
    let oldest = first;
    for (let entry = first; entry < first + WAYS; entry++) {
      if (((u32[KEY_LOW + entry] as number) & 1) === 0) return entry;
      if ((u32[STAMP + entry] as number) < (u32[STAMP + oldest] as number)) oldest = entry;
    }
    return oldest;
  }

  /** Removes one entry and its fast copies. */
  remove(entry: number): void {
    if (((this.words[KEY_LOW + entry] as number) & 1) === 0) return;
    this.dropCopies(entry);
    this.clear(entry);
  }

  /** The number of the fill that put the entry there. */
  stamp(entry: number): number {
    return this.words[STAMP + entry] as number;
  }

  /** Whether the entry is valid and from the fill of that number. */
  holds(entry: number, stamp: number): boolean {
    return ((this.words[KEY_LOW + entry] as number) & 1) !== 0 && this.stamp(entry) === stamp;
  }

  private root(entry: number): number {
    return (this.words[ROOT_HIGH + entry] as number) * 2 ** 32 + (this.words[ROOT + entry] as number);
  }

  /** Whether the entry comes from another top paging structure, and is not global. */
  isOfAnotherRoot(entry: number, root: number): boolean {
    const own = this.root(entry);
    return own !== root && own !== 0 && ((this.words[TARGET + entry] as number) & RIGHT.global) === 0;
  }

  /** Whether a linear (guest-physical) address is in the entry's page. */
  translates(entry: number, address: bigint): boolean {
    const { page, pageSize } = this.describe(entry);
    return address >= page && address < page + BigInt(pageSize);
  }

  /** Makes the engine ask for the entry's translations again. */
  dropCopies(entry: number): void {
    const u32 = this.words;
    const keyLow = u32[KEY_LOW + entry] as number;
    const order = orderOf(keyLow);
    const tagged = ((keyLow >>> 1) & 3) !== MAPPING.guestPhysical;
    if (tagged && !this.fast.knows((u32[TAGS + entry] as number) >>> 16)) return;
    const [low, high] = [(keyLow & ~0xfff) >>> 0, u32[KEY_HIGH + entry] as number];
    // The context stays what it is: compiled code may be in the middle of an access.
    this.fast.dropPages(low, high, 2 ** (order - 12));
  }

  /** Removes the entries, and the engine's fast copies of them. */
  invalidate(what: Invalidation): void {
    if (what.linear !== undefined) {
      this.invalidatePage(what, what.linear);
      return;
    }
    this.forEachValid((entry) => {
      if (this.isMatch(entry, what)) this.clear(entry);
    });
    this.giveUpContexts(what);
  }

  private clear(entry: number): void {
    const u32 = this.words;
    u32[KEY_LOW + entry] = 0;
    u32[OCCUPIED + (entry >>> 5)] = (u32[OCCUPIED + (entry >>> 5)] as number) & ~(1 << (entry & 31));
  }

  private forEachValid(visit: (entry: number) => void): void {
    const u32 = this.words;
    for (let word = 0; word < OCCUPIED_WORDS; word++) {
      for (let rest = u32[OCCUPIED + word] as number; rest !== 0; ) {
        const bit = 31 - Math.clz32(rest);
        rest = (rest & ~(1 << bit)) >>> 0;
        visit(word * 32 + bit);
      }
    }
  }

  /** Removes everything. */
  invalidateAll(): void {
    this.words.fill(0, KEY_LOW, KEY_LOW + TLB_ENTRIES);
    this.words.fill(0, OCCUPIED, OCCUPIED + OCCUPIED_WORDS);
    this.words[FRACTURED] = 0;
    this.fast.wipe();
  }

  private giveUpContexts(what: Invalidation): void {
    const onlyEpt = !what.kinds.includes(MAPPING.linear);
    const root = what.eptRoot;
    this.fast.giveUp({
      processor: this.processor,
      // Guest-physical mappings have no VPID, and code without paging runs on them.
      vpid: what.kinds.includes(MAPPING.guestPhysical) ? undefined : what.vpid,
      pcid: what.keepGlobal ? what.pcid : undefined,
      keepsGlobal: what.keepGlobal,
      ept: onlyEpt,
      eptLow: onlyEpt && root !== undefined ? ((root % 2 ** 32) & ~0xfff) >>> 0 : undefined,
      eptHigh: onlyEpt && root !== undefined ? Math.floor(root / 2 ** 32) : undefined,
    });
  }

  private invalidatePage(what: Invalidation, linear: bigint): void {
    const low = Number(linear & 0xffff_ffffn);
    const high = Number((linear >> 32n) & 0xffff_ffffn);
    if (this.words[FRACTURED] !== 0) {
      this.forEachValid((entry) => {
        if (this.covers(entry, low, high) && this.isMatch(entry, what)) this.remove(entry);
      });
      return;
    }
    for (const kind of what.kinds) {
      const sections = kind === MAPPING.guestPhysical ? SECTIONS.guestPhysical : SECTIONS.paged;
      for (const order of ORDERS) {
        const section = sections[order === 12 ? 0 : order === 30 ? 2 : 1] as Section;
        const first = section.first + setOf(low, high, order, section.sets) * WAYS;
        for (let entry = first; entry < first + WAYS; entry++) {
          if (this.covers(entry, low, high) && this.isMatch(entry, what)) this.remove(entry);
        }
      }
    }
  }

  /** Whether the page that the paging structures gave when the entry was filled holds the address. */
  private covers(entry: number, low: number, high: number): boolean {
    const u32 = this.words;
    const keyLow = u32[KEY_LOW + entry] as number;
    if ((keyLow & 1) === 0 || u32[KEY_HIGH + entry] !== high) return false;
    const order = Math.max(orderOf(keyLow), ORDERS[(u32[EPT_LOW + entry] as number) & 3] as number);
    return ((keyLow ^ low) & ~(2 ** order - 1)) === 0;
  }

  /** Whether an invalidation removes a valid entry, its page aside. */
  private isMatch(entry: number, what: Invalidation): boolean {
    const u32 = this.words;
    const keyLow = u32[KEY_LOW + entry] as number;
    const kind = ((keyLow >>> 1) & 3) as MappingKind;
    if (!what.kinds.includes(kind)) return false;
    if (what.eptRoot !== undefined && kind !== MAPPING.linear && this.eptRoot(entry) !== what.eptRoot) return false;
    if (kind === MAPPING.guestPhysical) return true;
    const tags = u32[TAGS + entry] as number;
    const global = ((u32[TARGET + entry] as number) & RIGHT.global) !== 0;
    if (what.vpid !== undefined && tags >>> 16 !== what.vpid) return false;
    if (global) return !what.keepGlobal;
    return what.pcid === undefined || (tags & 0xfff) === what.pcid;
  }

  private eptRoot(entry: number): number {
    const u32 = this.words;
    return (u32[EPT_HIGH + entry] as number) * 2 ** 32 + (((u32[EPT_LOW + entry] as number) & ~0xfff) >>> 0);
  }

  /** A look-up was served by an entry, or led to a walk. */
  countHit(kind: MappingKind): void {
    this.count(COUNTERS + kind);
  }
  countMiss(kind: MappingKind): void {
    this.count(COUNTERS + KINDS + kind);
  }
  /** A walk has read an entry of the paging structures or of EPT. */
  countReference(ept: boolean): void {
    this.count(ept ? EPT_REFERENCES : PAGING_REFERENCES);
  }
  private count(at: number): void {
    this.counts[at] = (this.counts[at] as number) + 1;
  }

  /** Since the machine was built. */
  get counters(): Readonly<Record<TlbCounter, number>> {
    const { counts } = this;
    return Object.fromEntries(COUNTED.map((name, i) => [name, counts[COUNTERS + i]])) as Record<TlbCounter, number>;
  }

  /** Every valid entry, oldest first. */
  entries(): TlbEntry[] {
    const u32 = this.words;
    const valid: number[] = [];
    this.forEachValid((entry) => valid.push(entry));
    valid.sort((a, b) => (u32[STAMP + a] as number) - (u32[STAMP + b] as number));
    return valid.map((entry) => this.describe(entry));
  }

  /** One valid entry as people see it. */
  describe(entry: number): TlbEntry {
    const u32 = this.words;
    const keyLow = u32[KEY_LOW + entry] as number;
    const kind = ((keyLow >>> 1) & 3) as MappingKind;
    const tags = u32[TAGS + entry] as number;
    const rights = this.rights(entry);
    return {
      index: entry,
      stamp: this.stamp(entry),
      kind,
      vpid: tags >>> 16,
      pcid: tags & 0xfff,
      eptRoot: this.eptRoot(entry),
      global: (rights & RIGHT.global) !== 0,
      page: (BigInt(u32[KEY_HIGH + entry] as number) << 32n) | BigInt((keyLow & ~0xfff) >>> 0),
      pageSize: 2 ** orderOf(keyLow),
      target: this.target(entry, 0),
      readable: (rights & RIGHT.eptRead) !== 0,
      writable: (rights & (RIGHT.writable | RIGHT.eptWrite)) === (RIGHT.writable | RIGHT.eptWrite),
      executable: (rights & (RIGHT.noExecute | RIGHT.eptExecute)) === RIGHT.eptExecute,
      user: (rights & RIGHT.user) !== 0,
      dirty: (rights & RIGHT.dirty) !== 0,
      rights,
      root: this.root(entry),
      modeBits: u32[MODE + entry] as number,
    };
  }
}

const orderOf = (keyLow: number): number => ORDERS[(keyLow >>> 3) & 3] as number;
const keyOf = (kind: MappingKind, low: number, order: number): number =>
  ((low & ~(2 ** order - 1)) | (orderCode(order) << 3) | (kind << 1) | 1) >>> 0;
const setOf = (low: number, high: number, order: number, sets: number): number =>
  ((low >>> order) | (high << (32 - order))) & (sets - 1);
