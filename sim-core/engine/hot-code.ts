import type { State } from '../state/state.ts';
import { FIXED_HANDLER } from './core.ts';
import type { Handler, HandlerTable } from './handlers.ts';
import { ModuleBuilder } from './module.ts';
import { RECORD } from './record.ts';
import { type RegionBlock, RegionBuilder, type RegionHead } from './region.ts';
import { encodeBlocks, type RegionCompiler } from './region-job.ts';
import { type ExecutedPage, RegionFinder } from './regions.ts';

/** A region of this many instructions is not compiled again with more: a page's next hot code starts a new one. */
const LARGEST_GROWING = 600;
/** A larger one is not compiled again just because new hot code leads to it. */
const LARGEST_JOINED = 100;
/** RECORD.entry of an instruction inside a compiled block. */
const INSIDE_REGION = 0xffff;
/** What RECORD.heat goes on from after 65536 executions: so that it never looks cold again. */
const STILL_HOT = 0x8000;
/** Code that is executed this part as often as what has become hot is compiled with it. */
const WARM_PART = 8;
/** Logarithm of how many times later an entry into the middle of a region is given its place. */
const ENTRY_PATIENCE = 5;
/** Logarithm of how many times later, at most, code is compiled whose page has lost compiled code to writes. */
const MOST_PATIENCE = 7;

interface Region {
  /** Table index of its function. */
  readonly index: number;
  /** Its page's table offset → record. */
  readonly table: number;
  /** Physical page number. */
  readonly page: number;
  /** Records where control was seen when it was compiled. */
  readonly seeds: readonly number[];
  /** Those that were inside a region then: control comes to them from elsewhere, too. */
  readonly entries: readonly number[];
  /** Records of all its instructions in its page. */
  readonly covered: readonly number[];
  /** Records in other pages whose instructions it repeats. */
  readonly copied: readonly number[];
  /** The blocks that lead to it; none before it is compiled. */
  heads: readonly RegionHead[];
}

/** A region that is to be, and those whose place it will take. */
interface Order {
  readonly id: number;
  readonly region: Region;
  readonly former: readonly Region[];
  /** Instructions of the page that became hot meanwhile. */
  readonly later: Map<number, ExecutedPage>;
}

export interface HotCodeOptions {
  /** Executions after which an instruction is hot. */
  readonly hotAfter: number;
  readonly blockStarts?: Iterable<number>;
  /** Where regions are compiled when it is free; else here. */
  readonly compiler?: RegionCompiler | undefined;
}

/** Compiled regions: what is compiled when, and which records lead to them. */
export class HotCode {
  /** Page offsets at which compiled code begins a block whatever leads there: see MachineConfig.blockStarts. */
  readonly blockStarts: ReadonlySet<number>;
  private readonly state: State;
  private readonly handlers: HandlerTable;
  private readonly hotAfter: number;
  private readonly compiler: RegionCompiler | undefined;
  /** Regions by the address of their page's offset table. No instruction is in two of them. */
  private readonly regions = new Map<number, readonly Region[]>();
  /** Regions that repeat instructions of a physical page that is not theirs. */
  private readonly copies = new Map<number, Set<Region>>();
  /** What is being compiled elsewhere, at most one region of a page. */
  private readonly orders = new Map<number, Order>();
  private lastOrder = 0;
  /** Handlers that orders have named. */
  private readonly named = new Set<number>();
  private readonly dropped = new Map<number, number>();

  constructor(state: State, handlers: HandlerTable, { hotAfter, blockStarts, compiler }: HotCodeOptions) {
    this.state = state;
    this.handlers = handlers;
    this.hotAfter = hotAfter;
    this.blockStarts = new Set(blockStarts);
    this.compiler = compiler;
  }

  /**
   * Compiles the code around an instruction that was executed `hotAfter` times more by the dispatch loop, unless it is a
   * region already that is entered no more often than this one should be.
   * @returns whether a region was made, or is being made
   */
  compileHot(page: ExecutedPage, record: number): boolean {
    const { table } = page;
    const { u16, u32 } = this.state;
    const heat = u16[(record + RECORD.heat) >>> 1] as number;
    const isOften = heat === 0;
    if (isOften) u16[(record + RECORD.heat) >>> 1] = STILL_HOT;
    const order = this.orders.get(table);
    if (order) {
      order.later.set(record, page);
      return false;
    }
    if (!this.handlers.handler(u32[(record + RECORD.handler) >>> 2] as number)) {
      // A region that is entered very often: one function of all the page's regions leaves less often.
      if (!isOften) return false;
      const growing = this.growing(table);
      return growing.length > 1 && this.compileRegion(page, growing, {});
    }
    const drops = Math.min(this.drops(this.pageOf(record)), MOST_PATIENCE);
    if (!isOften && heat < this.hotAfter << drops) return false;
    if (u16[(record + RECORD.entry) >>> 1] === INSIDE_REGION) {
      if (!isOften && heat < this.hotAfter << ENTRY_PATIENCE) return false;
      const around = this.growing(table).filter(({ covered }) => covered.includes(record));
      return around.length > 0 && this.compileRegion(page, around, { entries: [record] });
    }
    const touched = this.finder(page).touches(record);
    const joined = this.growing(table).filter(
      ({ covered }) => covered.length < LARGEST_JOINED && covered.some((one) => touched.has(one)),
    );
    return this.compileRegion(page, joined, { seeds: [record] });
  }

  /** The regions of a page that may grow. */
  private growing(table: number): readonly Region[] {
    return (this.regions.get(table) ?? []).filter(({ covered }) => covered.length < LARGEST_GROWING);
  }

  private finder(page: ExecutedPage): RegionFinder {
    return new RegionFinder(this.state, this.handlers, this, page, Math.floor(this.hotAfter / WARM_PART));
  }

  /**
   * Compiles a region from records where control was seen, with all that the former regions covered, which it takes the
   * place of: so that control stays within one function.
   * @returns whether there was anything to compile
   */
  private compileRegion(
    executed: ExecutedPage,
    former: readonly Region[],
    added: { readonly seeds?: readonly number[]; readonly entries?: readonly number[] },
  ): boolean {
    const { table } = executed;
    for (const region of former) this.giveBack(region);
    const seeds = [...former.flatMap((region) => region.seeds), ...(added.seeds ?? [])];
    const entries = [...former.flatMap((region) => region.entries), ...(added.entries ?? [])];
    const blocks = this.finder(executed).find(seeds, entries);
    if (blocks.length === 0) {
      this.replace(table, former);
      return false;
    }
    const covered = recordsOf(blocks.filter((block) => block.table === table));
    const copied = recordsOf(blocks.filter((block) => block.table !== table));
    const page = this.pageOf(covered[0] as number);
    const region = { index: this.handlers.allocate(), table, page, seeds, entries, heads: [], covered, copied };
    const order: Order = { id: ++this.lastOrder, region, former, later: new Map() };
    if (this.compiler?.isFree) this.request(this.compiler, order, blocks);
    else this.compileHere(order, blocks);
    return true;
  }

  private compileHere(order: Order, blocks: readonly RegionBlock[]): void {
    const { imports, callees, memoryPages } = this.handlers;
    const { region } = order;
    const built = new RegionBuilder(this.state, callees, blocks, region.index, region.table);
    const builder = new ModuleBuilder(imports);
    builder.add(built.build());
    this.install(order, builder.compile(memoryPages), built.heads);
  }

  /** Has a region compiled elsewhere; those that it will take the place of serve until then. */
  private request(compiler: RegionCompiler, order: Order, blocks: readonly RegionBlock[]): void {
    const { id, region, former } = order;
    const { index, table } = region;
    const { memoryPages } = this.handlers;
    const encoded = encodeBlocks(blocks, this.state.u32, (record) => this.handlerOf(record));
    compiler.request({ id, index, table, memoryPages, forms: this.newForms(blocks), blocks: encoded });
    for (const one of former) this.lead(one);
    this.orders.set(table, order);
  }

  /** Forms that no order has named. */
  private newForms(blocks: readonly RegionBlock[]) {
    const handlers = blocks.flatMap(({ instructions }) => instructions.map(({ record }) => this.handlerOf(record)));
    const added = [...new Set(handlers)].filter((handler) => !this.named.has(handler));
    return added.map((handler) => {
      this.named.add(handler);
      const { form, meaning } = this.handlers.handler(handler) as Handler;
      return { handler, form, meaning };
    });
  }

  /** Puts regions to work that were compiled elsewhere. */
  takeCompiled(): void {
    for (const { id, table, module, heads } of this.compiler?.take() ?? []) {
      const order = this.orders.get(table);
      if (order?.id !== id) continue;
      this.orders.delete(table);
      this.install(order, module, heads);
      for (const [record, page] of order.later) if (!this.isCompiled(record)) this.compileHot(page, record);
    }
  }

  private install({ region, former }: Order, module: WebAssembly.Module, heads: readonly RegionHead[]): void {
    const [compiled] = this.handlers.link(module);
    for (const one of former) this.giveBack(one);
    this.replace(region.table, former, [region]);
    this.handlers.table.set(region.index, compiled);
    region.heads = heads;
    this.lead(region);
  }

  /** Regions that lead nowhere any more make room for others. */
  private replace(table: number, former: readonly Region[], added: readonly Region[] = []): void {
    const kept = (this.regions.get(table) ?? []).filter((region) => !former.includes(region));
    this.regions.set(table, [...kept, ...added]);
    for (const region of former) {
      this.handlers.release(region.index);
      for (const record of region.copied) this.copies.get(this.pageOf(record))?.delete(region);
    }
    for (const region of added) {
      for (const page of new Set(region.copied.map((record) => this.pageOf(record)))) {
        const regions = this.copies.get(page);
        if (regions) regions.add(region);
        else this.copies.set(page, new Set([region]));
      }
    }
  }

  private pageOf(record: number): number {
    return this.state.u32[(record + RECORD.page) >>> 2] as number;
  }

  /** Table index of the interpreter handler of a record, also where a region has its place. */
  handlerOf(record: number): number {
    const { u32 } = this.state;
    const handler = u32[(record + RECORD.handler) >>> 2] as number;
    if (handler < FIXED_HANDLER.count || this.handlers.handler(handler)) return handler;
    return u32[(record + RECORD.original) >>> 2] as number;
  }

  /** Has the region's records lead to it. */
  private lead({ heads, covered, index }: Region): void {
    const { u32, u16 } = this.state;
    for (const record of covered) u16[(record + RECORD.entry) >>> 1] = INSIDE_REGION;
    for (const { record, number } of heads) {
      u32[(record + RECORD.original) >>> 2] = u32[(record + RECORD.handler) >>> 2] as number;
      u32[(record + RECORD.handler) >>> 2] = index;
      u16[(record + RECORD.entry) >>> 1] = number;
    }
  }

  /** Whether a record belongs to a region. */
  isCompiled(record: number): boolean {
    const handler = this.state.u32[(record + RECORD.handler) >>> 2] as number;
    if (this.state.u16[(record + RECORD.entry) >>> 1] === INSIDE_REGION) return true;
    return handler >= FIXED_HANDLER.count && !this.handlers.handler(handler);
  }

  /** How often compiled code of a page was lost because the page was written. */
  drops(page: number): number {
    return this.dropped.get(page) ?? 0;
  }

  /**
   * Forgets the regions of a page that have stale records.
   * @param written the stale records when the page's code was written, which may go on; without it all are stale
   */
  dropRegions(page: number, written?: ReadonlySet<number>): void {
    const isLost = ({ covered, copied }: Region): boolean =>
      !written || covered.some((record) => written.has(record)) || copied.some((record) => written.has(record));
    for (const [table, { region }] of this.orders) {
      const depends = region.page === page || region.copied.some((record) => this.pageOf(record) === page);
      if (depends && isLost(region)) this.cancel(table);
    }
    for (const region of [...(this.copies.get(page) ?? [])].filter(isLost)) {
      this.giveBack(region);
      this.replace(region.table, [region]);
    }
    for (const [table, regions] of this.regions) {
      if (regions[0]?.page !== page) continue;
      const lost = regions.filter(isLost);
      if (written && lost.length > 0) this.dropped.set(page, this.drops(page) + 1);
      for (const region of lost) this.giveBack(region);
      this.replace(table, lost);
    }
  }

  dropAllRegions(): void {
    for (const table of this.orders.keys()) this.cancel(table);
    for (const [table, regions] of this.regions) {
      for (const region of regions) this.giveBack(region);
      this.replace(table, regions);
    }
    this.regions.clear();
    this.copies.clear();
  }

  /** What is being compiled for a page will not be used. */
  private cancel(table: number): void {
    const index = this.orders.get(table)?.region.index;
    this.orders.delete(table);
    if (index !== undefined) this.handlers.release(index);
  }

  /** Gives a region's records back to the interpreter, unless they are stale. */
  private giveBack({ index, heads, covered }: Region): void {
    const { u32, u16 } = this.state;
    for (const record of covered) u16[(record + RECORD.entry) >>> 1] = 0;
    for (const { record } of heads) {
      const slot = (record + RECORD.handler) >>> 2;
      if (u32[slot] === index) u32[slot] = u32[(record + RECORD.original) >>> 2] as number;
    }
  }
}

const recordsOf = (blocks: readonly RegionBlock[]): readonly number[] =>
  blocks.flatMap(({ instructions }) => instructions.map(({ record }) => record));
