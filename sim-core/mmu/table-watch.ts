/**
 * Watches the tables that TLB entries were filled from: which write made an entry stale, and the first access that an
 * entry serves afterwards. It only looks on: what the TLB holds, serves and costs is the same with it and without.
 */

import type { TableWriter, WriteWatch } from './physical-memory.ts';
import { type Staleness, stalenessAt, stalenessOf, type Translating, walkOfEntry } from './stale.ts';
import { TLB_ENTRIES, type TlbEntry } from './tlb.ts';
import { ACCESS, type AccessCode, type World } from './world.ts';

/** When and where something happened. */
export interface Moment {
  /** Linear address of the instruction, in its world. */
  readonly address: bigint;
  readonly world: 'vmm' | 'guest';
  /** Given when there are several. */
  readonly processor?: number;
  /** Instructions and cycles since boot, the instruction in hand included. */
  readonly instructions: number;
  readonly cycles: number;
}

/** A write to an entry of a paging structure or of EPT that a TLB entry was filled from. */
export interface TableWrite {
  readonly by: 'instruction' | 'processor' | 'device' | 'debugger';
  /** Of the instruction that wrote, or during or before which others did. */
  readonly at: Moment;
  /** Physical address of the 8 bytes that hold the entry, and what they held before. */
  readonly physical: number;
  readonly before: bigint;
}

/** The first access that a TLB entry serves after it became stale for it. */
export interface StaleUse extends Staleness {
  readonly access: 'read' | 'write' | 'execute';
  /** Linear address (guest-physical for a guest-physical mapping) that was accessed. */
  readonly accessed: bigint;
  readonly at: Moment;
  /** Undefined when the tables were written before anybody watched, or when CR3 has changed and not its tables. */
  readonly write: TableWrite | undefined;
}

/** What the watch asks and tells the machine. */
export interface TableWatchHooks {
  now(): Moment;
  /** Whether the machine runs: else writes come from the debugger. */
  readonly isRunning: () => boolean;
  /** A stale entry is used: the access goes on all the same. */
  onUse(use: StaleUse): void;
  /** An entry that may have become stale maps the code that runs: it must be fetched anew. */
  onCodeSuspected(): void;
}

export interface StaleStory {
  readonly write: TableWrite | undefined;
  /** The first access since. */
  readonly used: StaleUse | undefined;
}

/** A TLB entry one of whose tables was written. */
interface Suspect extends StaleStory {
  /** The fill of the entry that is meant. */
  readonly stamp: number;
  used: StaleUse | undefined;
}

const PAGE = 4096;
const ENTRY_BYTES = 8;
const NAMES = ['read', 'write', 'execute'] as const;
/** All kinds of access, as bits. */
const EVERY_ACCESS = (1 << ACCESS.read) | (1 << ACCESS.write) | (1 << ACCESS.execute);

/** TLB entries by the stamp of their fill: later fills make the pair void. */
type Dependents = Map<number, number>;

export class TableWatch implements WriteWatch {
  /** Kinds of access, as bits, that the translation in hand must not be cached for: they must come here again. */
  blocked = 0;
  /** Set while compiled code only asks whether it may access: uses are left for the interpreter to make. */
  asksOnly = false;
  private readonly watched: Translating;
  private readonly hooks: TableWatchHooks;
  /** By physical address of the table entry, 8 bytes aligned. */
  private readonly dependents = new Map<number, Dependents>();
  /** Numbers of watched table entries by physical page. */
  private readonly pages = new Map<number, Set<number>>();
  private suspects = new Map<number, Suspect>();
  /** Physical addresses of the table entries that the walk in hand has used. */
  private readonly trail: number[] = [];
  /** The stale mapping that the walk in hand has gone through: what it fills is as stale. */
  private onTrail: Suspect | undefined;
  /** For each TLB entry what it was filled from. */
  private readonly sources: (readonly number[] | undefined)[] = Array.from({ length: TLB_ENTRIES });
  /** CR3's table by TLB tags, to see it change without an invalidation. */
  private readonly roots = new Map<number, number>();

  constructor(watched: Translating, hooks: TableWatchHooks) {
    this.watched = watched;
    this.hooks = hooks;
    this.adopt();
  }

  // ---- what entries are filled from

  /** A translation begins. */
  begin(): void {
    this.blocked = 0;
    this.trail.length = 0;
    this.onTrail = undefined;
  }

  /** A walk reads a table entry. */
  read(physical: number): void {
    this.trail.push(physical - (physical % ENTRY_BYTES));
  }

  /** Where the walk in hand has come to, for `filled`. */
  get mark(): number {
    return this.trail.length;
  }

  /** The walk since `mark` (all of it: 0) has filled a TLB entry. */
  filled(entry: number, mark: number): void {
    const sources = this.trail.slice(mark);
    this.sources[entry] = sources;
    this.depend(entry, sources);
    if (mark > 0 || this.onTrail === undefined) this.suspects.delete(entry);
    else this.suspects.set(entry, { ...this.onTrail, stamp: this.watched.tlb.stamp(entry) });
  }

  private depend(entry: number, sources: readonly number[]): void {
    const stamp = this.watched.tlb.stamp(entry);
    for (const at of sources) {
      let dependents = this.dependents.get(at);
      if (!dependents) {
        dependents = new Map();
        this.dependents.set(at, dependents);
        this.hold(at);
      }
      dependents.set(entry, stamp);
    }
  }

  private hold(at: number): void {
    const page = Math.floor(at / PAGE);
    const held = this.pages.get(page);
    if (held) {
      held.add(at);
      return;
    }
    this.pages.set(page, new Set([at]));
    const { physical, tlb } = this.watched;
    if (physical.isRamPage(at)) tlb.fast.dropWritesTo(physical.host(page * PAGE));
  }

  private release(at: number): void {
    this.dependents.delete(at);
    const page = Math.floor(at / PAGE);
    const held = this.pages.get(page);
    held?.delete(at);
    if (held?.size === 0) this.pages.delete(page);
  }

  // ---- writes

  /** @param page physical page number. */
  holdsTable(page: number): boolean {
    return this.pages.has(page);
  }

  /** About to write RAM at [physical, physical + length). */
  written(physical: number, length: number, by: TableWriter): void {
    const last = physical + length - 1;
    for (let page = Math.floor(physical / PAGE); page <= Math.floor(last / PAGE); page++) {
      if (!this.pages.has(page)) continue;
      const first = Math.max(physical - (physical % ENTRY_BYTES), page * PAGE);
      const end = Math.min(last, page * PAGE + PAGE - 1);
      for (let at = first; at <= end; at += ENTRY_BYTES) if (this.dependents.has(at)) this.entryWritten(at, by);
    }
  }

  private entryWritten(at: number, by: TableWriter): void {
    const { tlb, physical } = this.watched;
    let write: TableWrite | undefined;
    for (const [entry, stamp] of this.dependents.get(at) ?? []) {
      if (!tlb.holds(entry, stamp)) {
        this.dependents.get(at)?.delete(entry);
        continue;
      }
      write ??= { by: this.writer(by), at: this.hooks.now(), physical: at, before: physical.read64(at) };
      this.suspect(entry, stamp, write);
    }
    if (this.dependents.get(at)?.size === 0) this.release(at);
  }

  private writer(by: TableWriter): TableWrite['by'] {
    if (by !== 'outside') return by;
    return this.hooks.isRunning() ? 'device' : 'debugger';
  }

  private suspect(entry: number, stamp: number, write: TableWrite): void {
    const { tlb } = this.watched;
    const known = this.suspects.get(entry);
    // The first write that made it stale is the one to tell, unless a later one has put things right meanwhile.
    const isStale = known !== undefined && stalenessOf(this.watched, tlb.describe(entry)) !== undefined;
    if (!isStale) this.suspects.set(entry, { stamp, write, used: undefined });
    tlb.dropCopies(entry);
    if (tlb.translates(entry, write.at.address)) this.hooks.onCodeSuspected();
  }

  // ---- uses

  /**
   * The TLB serves an access by an entry, which a walk in hand then builds on.
   * @param low @param high halves of the linear (guest-physical for such a mapping) address
   */
  serves(entry: number, low: number, high: number, access: AccessCode, world: World): void {
    const sources = this.sources[entry];
    if (sources) this.trail.push(...sources);
    const suspect = this.suspects.get(entry);
    if (suspect === undefined && !this.watched.tlb.isOfAnotherRoot(entry, world.root)) return;
    const address = (BigInt(high) << 32n) | BigInt(low);
    this.judge(entry, suspect, address, access, world);
  }

  private judge(entry: number, known: Suspect | undefined, address: bigint, access: AccessCode, world: World): void {
    const { tlb } = this.watched;
    const stale = stalenessAt(this.watched, tlb.describe(entry), address & ~0xfffn, world.root);
    const now = this.hooks.now();
    // A write is told of before it is done: what the tables say may change within the instruction.
    const unfinished = known?.write?.at.instructions === now.instructions;
    if (stale === undefined) {
      if (unfinished) this.blocked = EVERY_ACCESS;
      else if (known && tlb.order(entry) === 12) this.suspects.delete(entry);
      return;
    }
    const suspect = known ?? { stamp: tlb.stamp(entry), write: undefined, used: undefined };
    this.suspects.set(entry, suspect);
    this.onTrail = suspect;
    if (suspect.used !== undefined) return;
    if ((stale.accesses & (1 << access)) === 0 || this.asksOnly) {
      this.blocked |= stale.accesses;
      return;
    }
    suspect.used = { ...stale, access: NAMES[access], accessed: address, at: now, write: suspect.write };
    this.hooks.onUse(suspect.used);
  }

  /** The processor's world has changed: fast copies of entries from other tables under the same tags are given up. */
  entered(world: World): void {
    const key = world.tags + (world.eptRoot / PAGE) * 2 ** 32;
    const known = this.roots.get(key);
    this.roots.set(key, world.root);
    if (known !== undefined && known !== world.root) {
      this.watched.tlb.fast.giveUp({ vpid: world.tags >>> 16, pcid: world.tags & 0xfff, keepsGlobal: true });
    }
  }

  // ---- for views

  /** The write that made an entry stale, and its first use since; undefined when nothing is known of either. */
  story(entry: TlbEntry): StaleStory | undefined {
    const suspect = this.suspects.get(entry.index);
    return suspect?.stamp === entry.stamp ? suspect : undefined;
  }

  /**
   * Takes the TLB as it is: when the watch begins, or the state of the machine was copied back. What is known of writes
   * is kept where it is of the past and of entries that are still (or, by the same run, again) there.
   */
  adopt(): void {
    const { tlb } = this.watched;
    const known = this.suspects;
    const { instructions } = this.hooks.now();
    this.suspects = new Map();
    this.dependents.clear();
    this.pages.clear();
    this.roots.clear();
    for (const entry of tlb.entries()) {
      const sources = walkOfEntry(this.watched, entry).map((at) => at - (at % ENTRY_BYTES));
      this.sources[entry.index] = sources;
      this.depend(entry.index, sources);
      if (stalenessOf(this.watched, entry) === undefined) continue;
      const suspect = known.get(entry.index);
      const isPast = suspect?.stamp === entry.stamp && (suspect.write?.at.instructions ?? 0) <= instructions;
      const used = isPast && suspect.used && suspect.used.at.instructions <= instructions ? suspect.used : undefined;
      this.suspects.set(entry.index, { stamp: entry.stamp, write: isPast ? suspect.write : undefined, used });
    }
    tlb.fast.wipe();
  }
}
