import { CODE_TLB, type CodeMode, OFFSET, REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { FIXED_HANDLER } from './core.ts';
import { LONGEST_INSTRUCTION } from './form.ts';
import { RECORD } from './record.ts';

const PAGE = 4096;
const TABLE_SIZE = 4 * PAGE;
const MODES = 8;
/** Writes to a page's code after which all of it is dropped at the next: it is being replaced, not patched. */
const MOST_PATCHES = 32;

interface CodePage {
  /** Records that cover bytes of the page, but that none of its tables leads to. */
  readonly strays: Set<number>;
  /** A flag for each byte of the page that was decoded. */
  readonly decoded: Uint8Array;
  patches: number;
}

/**
 * Operation records per physical page and code mode. A write to decoded bytes makes the records that cover them stale:
 * they stay in memory, because others point to them, but lead back to a new look-up.
 */
export class CodeCache {
  /** Counts `flush`: record addresses of an older generation are void. */
  generation = 0;
  /** Told of each physical page that holds decoded code from now on: writes to it must be noticed. */
  onHold: ((page: number) => void) | undefined;
  /** Told of each physical page that has records that became stale, and which, when its code was written. */
  onDrop: ((page: number, written: ReadonlySet<number> | undefined) => void) | undefined;
  private readonly state: State;
  private readonly tables = new Map<number, number>();
  private readonly pages = new Map<number, CodePage>();
  private readonly holds: Uint8Array;
  private top: number = REGION.code.start;

  constructor(state: State) {
    this.state = state;
    this.holds = new Uint8Array(Math.ceil(state.ramSize / PAGE));
    this.clearCodeTlb();
  }

  /** @param page physical page number. */
  holdsCode(page: number): boolean {
    return this.holds[page] === 1;
  }

  /** Room for `records` more records and a table without a flush. */
  hasRoom(records: number): boolean {
    return this.top + records * RECORD.size + TABLE_SIZE <= REGION.code.start + REGION.code.size;
  }

  /** Address of the page's table offset → record address for a code mode. */
  table(page: number, mode: CodeMode): number {
    const key = page * MODES + mode;
    let table = this.tables.get(key);
    if (table === undefined) {
      table = this.allocate(TABLE_SIZE);
      this.tables.set(key, table);
    }
    return table;
  }

  /** A zeroed record that belongs to physical page `page` and covers bytes [offset, offset + length) of it. */
  record(page: number, offset: number, length: number): number {
    const record = this.allocate(RECORD.size);
    this.state.u32[(record + RECORD.page) >>> 2] = page;
    if (length > 0) this.hold(page, this.page(page), offset, length);
    return record;
  }

  /**
   * Makes a record that the tables do not lead to depend on bytes of a page: an instruction that crosses from one page
   * into another depends on both.
   */
  cover(record: number, page: number, offset: number, length: number): void {
    const info = this.page(page);
    info.strays.add(record);
    if (length > 0) this.hold(page, info, offset, length);
  }

  private page(page: number): CodePage {
    let info = this.pages.get(page);
    if (!info) {
      info = { strays: new Set(), decoded: new Uint8Array(PAGE), patches: 0 };
      this.pages.set(page, info);
    }
    return info;
  }

  private hold(page: number, info: CodePage, offset: number, length: number): void {
    info.decoded.fill(1, offset, Math.min(offset + length, PAGE));
    if (page >= this.holds.length || this.holds[page] === 1) return;
    this.holds[page] = 1;
    this.onHold?.(page);
  }

  /** About to write RAM at [physical, physical + length): drops decoded code there. */
  written(physical: number, length: number): void {
    const end = physical + length;
    for (let at = physical; at < end; at = (Math.floor(at / PAGE) + 1) * PAGE) {
      const page = Math.floor(at / PAGE);
      const info = this.holds[page] === 1 ? this.pages.get(page) : undefined;
      const from = at % PAGE;
      const to = Math.min(end - page * PAGE, PAGE);
      if (info && touches(info.decoded, from, to)) this.patch(page, info, from, to);
    }
  }

  /** Drops the records that cover bytes [from, to) of a page. */
  private patch(page: number, info: CodePage, from: number, to: number): void {
    if (++info.patches > MOST_PATCHES) return this.drop(page, info, true);
    const stale = this.covering(page, info, from, to);
    let [start, end] = [from, to];
    for (const record of stale) {
      const extent = this.extent(record, page);
      start = Math.min(start, extent[0]);
      end = Math.max(end, extent[1]);
      this.retire(record, info, page);
    }
    // What was decoded in two ways is still covered.
    for (const record of this.covering(page, info, start, end)) info.decoded.fill(1, ...this.extent(record, page));
    this.state.set32('codeDropped', 1);
    this.onDrop?.(page, stale);
  }

  /** The records that cover any of the bytes [from, to) of a page. */
  private covering(page: number, info: CodePage, from: number, to: number): Set<number> {
    const found = new Set<number>();
    const consider = (record: number): void => {
      const [start, end] = this.extent(record, page);
      if (start < to && end > from) found.add(record);
    };
    for (let mode = 0; mode < MODES; mode++) {
      const table = this.tables.get(page * MODES + mode);
      if (table === undefined) continue;
      for (let offset = Math.max(0, from - LONGEST_INSTRUCTION + 1); offset < to; offset++) {
        const record = this.state.u32[(table >>> 2) + offset] as number;
        if (record !== 0) consider(record);
      }
    }
    for (const record of info.strays) consider(record);
    return found;
  }

  /** The bytes of a page that a record covers: [start, end). */
  private extent(record: number, page: number): [number, number] {
    const { u16, u32, bytes } = this.state;
    const start = u16[(record + RECORD.offset) >>> 1] as number;
    const end = start + (bytes[record + RECORD.length] as number);
    return u32[(record + RECORD.page) >>> 2] === page ? [start, Math.min(end, PAGE)] : [0, Math.max(0, end - PAGE)];
  }

  private retire(record: number, info: CodePage, page: number): void {
    const { u16, u32 } = this.state;
    info.strays.delete(record);
    u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.stale;
    info.decoded.fill(0, ...this.extent(record, page));
    const offset = u16[(record + RECORD.offset) >>> 1] as number;
    for (let mode = 0; mode < MODES; mode++) {
      const table = this.tables.get(page * MODES + mode);
      if (table !== undefined && u32[(table >>> 2) + offset] === record) u32[(table >>> 2) + offset] = 0;
    }
  }

  /** Drops the pages that have a record at one of these page offsets: what is in front of it is to change. */
  dropAt(offsets: readonly number[]): void {
    for (const [key, table] of this.tables) {
      const page = Math.floor(key / MODES);
      const info = this.pages.get(page);
      if (info && offsets.some((offset) => this.state.u32[(table >>> 2) + offset] !== 0)) this.drop(page, info, false);
    }
  }

  /** Drops all of a page. @param isWritten by the guest */
  private drop(page: number, info: CodePage, isWritten: boolean): void {
    const { u32 } = this.state;
    const stale = this.covering(page, info, 0, PAGE);
    for (const record of stale) u32[(record + RECORD.handler) >>> 2] = FIXED_HANDLER.stale;
    for (let mode = 0; mode < MODES; mode++) {
      const table = this.tables.get(page * MODES + mode);
      if (table !== undefined) this.state.bytes.fill(0, table, table + TABLE_SIZE);
    }
    this.pages.delete(page);
    this.holds[page] = 0;
    this.state.set32('codeDropped', 1);
    this.onDrop?.(page, isWritten ? stale : undefined);
  }

  /** Forgets everything. Must not be called while a record is executing unless its handler does not continue to it. */
  flush(): void {
    this.generation++;
    this.tables.clear();
    this.pages.clear();
    this.holds.fill(0);
    this.state.bytes.fill(0, REGION.code.start, this.top);
    this.top = REGION.code.start;
    this.state.set32('codeTable', 0);
    this.clearCodeTlb();
  }

  private clearCodeTlb(): void {
    this.state.bytes.fill(0xff, REGION.codeTlb.start, REGION.codeTlb.start + REGION.codeTlb.size);
  }

  /** Lets `lookup` find the page's records from linear page `low`/`high` (halves, page-aligned) in the current context. */
  remember(low: number, high: number, mode: CodeMode, table: number): void {
    const { u32 } = this.state;
    const context = u32[OFFSET.tlbContext >>> 2] as number;
    const number = ((low >>> 12) + context * CODE_TLB.contextStride) & (CODE_TLB.entries - 1);
    const entry = (REGION.codeTlb.start + (number << CODE_TLB.entryShift)) >>> 2;
    u32[entry + CODE_TLB.tag / 4] = ((low & ~0xfff) | context) >>> 0;
    u32[entry + CODE_TLB.tag / 4 + 1] = high >>> 0;
    u32[entry + CODE_TLB.table / 4] = table;
    u32[entry + CODE_TLB.mode / 4] = mode;
  }

  /** Room that is zero. */
  private allocate(size: number): number {
    const at = this.top;
    if (at + size > REGION.code.start + REGION.code.size) throw new RangeError('decode cache is full');
    this.top = at + size;
    return at;
  }
}

function touches(decoded: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (decoded[at] === 1) return true;
  return false;
}
