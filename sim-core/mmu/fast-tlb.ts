import { CODE_TLB, FAST_TLB, OFFSET, REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';

/** Context ids fit the 12 low bits of a tag; 0 and 0xFFF are never given out. */
const FIRST_CONTEXT = 1;
const LAST_CONTEXT = 0xffe;
/** So many contexts are told apart at a time: a hypervisor that takes a new VPID often would leave thousands behind. */
const MOST_CONTEXTS = 128;

/** What one context id stands for: everything but the page number that decides a translation and its rights. */
export interface ContextKey {
  /** Paging mode, privilege and protection bits, packed by mmu/world.ts. */
  mode: number;
  /** VPID in bits 31:16, PCID in bits 11:0. */
  tags: number;
  /** EP4TA's low and high half; 0 when EPT is off. */
  eptLow: number;
  eptHigh: number;
  /** Number of the processor. */
  processor: number;
}

/** Which contexts lose their fast translations; undefined means "any". */
export interface ContextFilter {
  readonly processor?: number;
  readonly vpid?: number | undefined;
  readonly pcid?: number | undefined;
  /** Only contexts under EPT, with this EP4TA when it is given. */
  readonly ept?: boolean | undefined;
  readonly eptLow?: number | undefined;
  readonly eptHigh?: number | undefined;
  /** Copies of global translations stay. */
  readonly keepsGlobal?: boolean | undefined;
}

/** A context whose id is in use. */
interface LiveContext extends ContextKey {
  readonly id: number;
  /** Index of each entry's first word that was filled with a translation that is not global: at most MOST_LOCAL. */
  readonly local: number[];
}

/** With more than these a context is not freed of its translations that are not global, but given up. */
const MOST_LOCAL = 512;

/**
 * The engine's two direct-mapped translation caches (FAST_TLB, CODE_TLB). They hold copies of the architectural TLB's
 * entries only; whoever removes an entry there drops its copies here. A context id in the tag tells apart the worlds
 * that share the cache, so that changing worlds costs nothing; ids are used again only after everything is wiped.
 */
export class FastTlb {
  private readonly state: State;
  private readonly live: LiveContext[] = [];
  private entered: LiveContext | undefined;
  private next = FIRST_CONTEXT;
  private current: ContextKey = { mode: 0, tags: 0, eptLow: 0, eptHigh: 0, processor: 0 };

  constructor(state: State) {
    this.state = state;
    this.wipe();
  }

  /** Makes `key` the current context and sets `state.tlbContext` to its id. Keeps no reference to `key`. */
  enter(key: Readonly<ContextKey>): void {
    const current = this.current;
    current.mode = key.mode;
    current.tags = key.tags;
    current.eptLow = key.eptLow;
    current.eptHigh = key.eptHigh;
    current.processor = key.processor;
    for (let i = this.live.length - 1; i >= 0; i--) {
      const context = this.live[i] as LiveContext;
      if (
        context.mode === key.mode &&
        context.tags === key.tags &&
        context.eptLow === key.eptLow &&
        context.eptHigh === key.eptHigh &&
        context.processor === key.processor
      ) {
        this.take(context);
        return;
      }
    }
    if (this.next > LAST_CONTEXT || this.live.length >= MOST_CONTEXTS) {
      this.wipe();
      return;
    }
    this.allocate();
  }

  private allocate(): void {
    const context = { ...this.current, id: this.next++, local: [] };
    this.live.push(context);
    this.take(context);
  }

  private take(context: LiveContext): void {
    const { u32 } = this.state;
    this.entered = context;
    u32[OFFSET.tlbContext >>> 2] = context.id;
    u32[(OFFSET.tlbContext >>> 2) + 1] = 0;
    u32[OFFSET.tlbOffset >>> 2] = (context.id * FAST_TLB.contextStride) << FAST_TLB.entryShift;
  }

  /** Remembers that an entry of the current context is to go with the next load of CR3. */
  private noteLocal(at: number): void {
    const local = this.entered?.local;
    if (local && local.length <= MOST_LOCAL && local[local.length - 1] !== at) local.push(at);
  }

  /** The code translation of the page of `low`, about to be cached for the current context, is not global. */
  noteLocalCode(low: number): void {
    this.noteLocal(codeEntry(low, this.state.u32[OFFSET.tlbContext >>> 2] as number));
  }

  /**
   * Caches the data translation of one 4-KiB page for the current context.
   * @param host linear-memory address of the page's first byte
   * @param isGlobal whether it stays when CR3 is loaded
   */
  fill(low: number, high: number, host: number, readable: boolean, writable: boolean, isGlobal: boolean): void {
    const u32 = this.state.u32;
    const page = (low & ~0xfff) >>> 0;
    const context = u32[OFFSET.tlbContext >>> 2] as number;
    const at = dataEntry(low, context);
    if (!isGlobal) this.noteLocal(at);
    const tag = page | context;
    u32[at] = readable ? tag : 0xffff_ffff;
    u32[at + 1] = readable ? high : 0xffff_ffff;
    u32[at + 2] = writable ? tag : 0xffff_ffff;
    u32[at + 3] = writable ? high : 0xffff_ffff;
    u32[at + FAST_TLB.addend / 4] = host - page;
  }

  /** Linear-memory address of the byte at `low`, or 0 when the current context has no such fast translation. */
  probe(low: number, high: number, write: boolean): number {
    const u32 = this.state.u32;
    const context = u32[OFFSET.tlbContext >>> 2] as number;
    const at = dataEntry(low, context);
    const tag = at + (write ? FAST_TLB.writeTag / 4 : 0);
    const wanted = ((low & ~0xfff) | context) >>> 0;
    if (u32[tag] !== wanted || u32[tag + 1] !== high) return 0;
    return (low + (u32[at + FAST_TLB.addend / 4] as number)) >>> 0;
  }

  /** Whether a context of this VPID may have fast translations. */
  knows(vpid: number): boolean {
    for (const { tags } of this.live) if (tags >>> 16 === vpid) return true;
    return false;
  }

  /** Drops `pages` consecutive 4-KiB pages from the one that holds `low` on, in every context. */
  dropPages(low: number, high: number, pages: number): void {
    if (pages * this.live.length > CODE_TLB.entries) {
      this.dropBytes((low & ~0xfff) >>> 0, high, 4096 * pages);
      return;
    }
    for (let i = 0; i < pages; i++) {
      const page = (low + i * 4096) >>> 0;
      for (const { id } of this.live) {
        const data = dataEntry(page, id);
        this.dropAt(data, page, high);
        this.dropAt(data + FAST_TLB.writeTag / 4, page, high);
        this.dropAt(codeEntry(page, id), page, high);
      }
    }
  }

  /** Drops the translations of the pages in `bytes` bytes from `low` on, by a look at every entry. */
  private dropBytes(low: number, high: number, bytes: number): void {
    const { u32 } = this.state;
    this.forEachTag((at) => {
      const distance = (((u32[at] as number) & ~0xfff) - low) >>> 0;
      if (distance < bytes && u32[at + 1] === high) this.clearTag(at);
    });
  }

  /** @param visit given the index of each tag's first word */
  private forEachTag(visit: (at: number) => void): void {
    const data = REGION.fastTlb.start >>> 2;
    for (let entry = 0; entry < FAST_TLB.entries; entry++) {
      const at = data + (entry << (FAST_TLB.entryShift - 2));
      visit(at + FAST_TLB.readTag / 4);
      visit(at + FAST_TLB.writeTag / 4);
    }
    const code = REGION.codeTlb.start >>> 2;
    for (let entry = 0; entry < CODE_TLB.entries; entry++) {
      visit(code + (entry << (CODE_TLB.entryShift - 2)) + CODE_TLB.tag / 4);
    }
  }

  private dropAt(index: number, page: number, high: number): void {
    const u32 = this.state.u32;
    if ((((u32[index] as number) ^ page) & ~0xfff) !== 0 || u32[index + 1] !== high) return;
    this.clearTag(index);
  }

  /** @param at index of the tag's first word */
  private clearTag(at: number): void {
    this.state.u32[at] = 0xffff_ffff;
    this.state.u32[at + 1] = 0xffff_ffff;
  }

  /** Drops write translations whose data lies in the 4-KiB page of linear memory at `host`. */
  dropWritesTo(host: number): void {
    const u32 = this.state.u32;
    const start = REGION.fastTlb.start >>> 2;
    const words = 1 << (FAST_TLB.entryShift - 2);
    for (let at = start; at < start + FAST_TLB.entries * words; at += words) {
      const page = (u32[at + 2] as number) & ~0xfff;
      if (((page + (u32[at + FAST_TLB.addend / 4] as number)) | 0) !== (host | 0)) continue;
      this.clearTag(at + FAST_TLB.writeTag / 4);
    }
  }

  /** Drops all write translations: the next write through each page is seen. */
  dropWrites(): void {
    const start = REGION.fastTlb.start >>> 2;
    const words = 1 << (FAST_TLB.entryShift - 2);
    for (let at = start; at < start + FAST_TLB.entries * words; at += words) this.clearTag(at + FAST_TLB.writeTag / 4);
  }

  /** Makes the fast translations of the contexts that match unreachable. */
  giveUp(filter: ContextFilter): void {
    for (let i = this.live.length - 1; i >= 0; i--) {
      const context = this.live[i] as LiveContext;
      if (!matches(context, filter)) continue;
      if (filter.keepsGlobal && context.local.length <= MOST_LOCAL) this.dropLocal(context);
      else this.live.splice(i, 1);
    }
    this.enter({ ...this.current });
  }

  /** Drops a context's translations that are not global. */
  private dropLocal({ id, local }: LiveContext): void {
    const { u32 } = this.state;
    const isOwn = (tag: number): boolean => ((u32[tag] as number) & 0xfff) === id;
    for (const at of local) {
      if (isOwn(at)) this.clearTag(at);
      if (at < REGION.fastTlb.start >>> 2) continue;
      const write = at + FAST_TLB.writeTag / 4;
      if (isOwn(write)) this.clearTag(write);
    }
    local.length = 0;
  }

  /** Empties both caches, forgets all context ids and gives the current context a new one. */
  wipe(): void {
    const { bytes } = this.state;
    bytes.fill(0xff, REGION.fastTlb.start, REGION.fastTlb.start + REGION.fastTlb.size);
    bytes.fill(0xff, REGION.codeTlb.start, REGION.codeTlb.start + REGION.codeTlb.size);
    this.live.length = 0;
    this.next = FIRST_CONTEXT;
    this.allocate();
  }
}

function matches(key: ContextKey, filter: ContextFilter): boolean {
  if (filter.processor !== undefined && key.processor !== filter.processor) return false;
  if (filter.vpid !== undefined && key.tags >>> 16 !== filter.vpid) return false;
  if (filter.pcid !== undefined && (key.tags & 0xfff) !== filter.pcid) return false;
  if (filter.ept && key.eptLow === 0 && key.eptHigh === 0) return false;
  if (filter.eptLow !== undefined && (key.eptLow & ~0xfff) >>> 0 !== filter.eptLow) return false;
  return filter.eptHigh === undefined || key.eptHigh === filter.eptHigh;
}

/** Index of an entry's first word. */
const dataEntry = (low: number, context: number): number =>
  (REGION.fastTlb.start >>> 2) +
  ((((low >>> 12) + context * FAST_TLB.contextStride) & (FAST_TLB.entries - 1)) << (FAST_TLB.entryShift - 2));
const codeEntry = (low: number, context: number): number =>
  (REGION.codeTlb.start >>> 2) +
  ((((low >>> 12) + context * CODE_TLB.contextStride) & (CODE_TLB.entries - 1)) << (CODE_TLB.entryShift - 2));
