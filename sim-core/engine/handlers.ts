import type { State } from '../state/state.ts';
import { type Callee, Code, type Signature } from './code.ts';
import { FIXED_HANDLER, HANDLER_IMPORTS } from './core.ts';
import type { Form } from './form.ts';
import { InterpreterStage } from './interpreter-stage.ts';
import { ModuleBuilder } from './module.ts';
import { RECORD } from './record.ts';
import { RegionBuilder } from './region.ts';
import { RegionFinder } from './regions.ts';
import type { Semantics } from './stage.ts';

/** Places in the table at first, and how many it grows by: forms are many, but few of them meet in one guest. */
const TABLE_STEP = 16384;
/** Places beyond which regions are dropped, so that the table does not grow with code that ran long ago. */
const MOST_PLACES = 4 * TABLE_STEP;
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

/** One form's handler. */
export interface Handler {
  readonly form: Form;
  readonly semantics: Semantics;
}

interface Region {
  /** Table index of its function. */
  readonly index: number;
  /** Physical page number. */
  readonly page: number;
  /** Records where control was seen when it was compiled. */
  readonly seeds: readonly number[];
  /** Those that were inside a region then: control comes to them from elsewhere, too. */
  readonly entries: readonly number[];
  /** First records of its blocks. */
  readonly heads: readonly number[];
  /** Records of all its instructions, and their number. */
  readonly covered: readonly number[];
  readonly size: number;
}

/** The functions that records lead to: interpreter handlers, one a form, and compiled regions. */
export class HandlerTable {
  /** Page offsets at which compiled code begins a block whatever leads there: see MachineConfig.blockStarts. */
  blockStarts: ReadonlySet<number> = new Set();
  readonly table: WebAssembly.Table;
  private readonly state: State;
  private readonly handlers: (Handler | undefined)[] = [];
  private readonly waiting: number[] = [];
  /** What every module of handlers and regions begins with, and the functions that it imports. */
  private readonly imports = new ModuleBuilder();
  private readonly callees: Readonly<Record<string, Callee>>;
  private next: number = FIXED_HANDLER.count;
  /**
   * Compiled regions by the address of their page's offset table, and table indices of regions that are gone. No
   * instruction is in two of them.
   */
  private readonly regions = new Map<number, Region[]>();
  private readonly free: number[] = [];
  private readonly dropped = new Map<number, number>();
  private readonly hotAfter: number;

  /** @param hotAfter executions after which an instruction is hot */
  constructor(state: State, hotAfter: number) {
    this.state = state;
    this.hotAfter = hotAfter;
    // The first import has the handlers' type, which thereby is type 0: `callIndirect` relies on it.
    const callee = ([name, signature]: [string, Signature]) => [name, this.imports.import(name, signature)] as const;
    this.callees = Object.fromEntries(Object.entries(HANDLER_IMPORTS).map(callee));
    this.table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_STEP });
  }

  /** A handler for a form. @returns its table index; it can be executed after `compile` */
  add(form: Form, semantics: Semantics): number {
    const index = this.allocate();
    this.handlers[index] = { form, semantics };
    this.waiting.push(index);
    return index;
  }

  private allocate(): number {
    const index = this.free.pop() ?? this.next++;
    if (index >= this.table.length) this.table.grow(TABLE_STEP);
    return index;
  }

  /** The interpreter handler at a table index; undefined for fixed handlers and regions. */
  handler(index: number): Handler | undefined {
    return this.handlers[index];
  }

  /** Compiles the handlers asked for since the last call, as one module. */
  compile(functions: Readonly<Record<string, CallableFunction>>): void {
    if (this.waiting.length === 0) return;
    const builder = new ModuleBuilder(this.imports);
    const { callees } = this;
    for (const index of this.waiting) builder.add(stageHandler(this.handlers[index] as Handler, callees));
    const built = builder.instantiate({ memory: this.state.memory, table: this.table, functions });
    this.waiting.forEach((index, i) => {
      this.table.set(index, built[i]);
    });
    this.waiting.length = 0;
  }

  /**
   * Compiles the code around an instruction that was executed `hotAfter` times more by the dispatch loop, unless it is a
   * region already that is entered no more often than this one should be.
   * @param table the page's table offset → record
   * @returns whether a region was made
   */
  compileHot(table: number, record: number, functions: Readonly<Record<string, CallableFunction>>): boolean {
    const { u16, u32 } = this.state;
    const heat = u16[(record + RECORD.heat) >>> 1] as number;
    const isOften = heat === 0;
    if (isOften) u16[(record + RECORD.heat) >>> 1] = STILL_HOT;
    if (this.handlers[u32[(record + RECORD.handler) >>> 2] as number] === undefined) {
      // A region that is entered very often: one function of all the page's regions leaves less often.
      if (!isOften) return false;
      const growing = this.growing(table);
      return growing.length > 1 && this.compileRegion(table, growing, {}, functions);
    }
    const page = u32[(record + RECORD.page) >>> 2] as number;
    if (!isOften && heat < this.hotAfter << Math.min(this.drops(page), MOST_PATIENCE)) return false;
    if (u16[(record + RECORD.entry) >>> 1] === INSIDE_REGION) {
      if (!isOften && heat < this.hotAfter << ENTRY_PATIENCE) return false;
      const around = this.growing(table).filter(({ covered }) => covered.includes(record));
      return around.length > 0 && this.compileRegion(table, around, { entries: [record] }, functions);
    }
    const touched = new RegionFinder(this.state, this, table, this.leastHeat).touches(record);
    const joined = this.growing(table).filter(
      ({ covered, size }) => size < LARGEST_JOINED && covered.some((one) => touched.has(one)),
    );
    return this.compileRegion(table, joined, { seeds: [record] }, functions);
  }

  /** The regions of a page that may grow. */
  private growing(table: number): readonly Region[] {
    return (this.regions.get(table) ?? []).filter(({ size }) => size < LARGEST_GROWING);
  }

  /** Executions that make an instruction worth compiling with one that is hot. */
  private get leastHeat(): number {
    return Math.floor(this.hotAfter / WARM_PART);
  }

  /**
   * Compiles a region from records where control was seen, with all that the former regions covered, which it takes the
   * place of: so that control stays within one function.
   * @returns whether there was anything to compile
   */
  private compileRegion(
    table: number,
    former: readonly Region[],
    added: { readonly seeds?: readonly number[]; readonly entries?: readonly number[] },
    functions: Readonly<Record<string, CallableFunction>>,
  ): boolean {
    for (const region of former) this.release(region);
    const regions = (this.regions.get(table) ?? []).filter((region) => !former.includes(region));
    this.regions.set(table, regions);
    const seeds = [...former.flatMap((region) => region.seeds), ...(added.seeds ?? [])];
    const entries = [...former.flatMap((region) => region.entries), ...(added.entries ?? [])];
    const blocks = new RegionFinder(this.state, this, table, this.leastHeat).find(seeds, entries);
    if (blocks.length === 0) return false;
    const builder = new ModuleBuilder(this.imports);
    const { callees } = this;
    const index = this.allocate();
    const region = new RegionBuilder(this.state, callees, blocks, index, table);
    builder.add(region.build());
    const [compiled] = builder.instantiate({ memory: this.state.memory, table: this.table, functions });
    this.table.set(index, compiled);
    const { heads } = region;
    const covered = blocks.flatMap(({ instructions }) => instructions.map(({ record }) => record));
    const page = this.state.u32[((covered[0] as number) + RECORD.page) >>> 2] as number;
    const records = heads.map(({ record }) => record);
    regions.push({ index, page, seeds, entries, heads: records, covered, size: covered.length });
    this.lead(heads, covered, index);
    return true;
  }

  private lead(heads: RegionBuilder['heads'], covered: readonly number[], index: number): void {
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
    return handler >= FIXED_HANDLER.count && this.handlers[handler] === undefined;
  }

  /** Whether it is time to drop regions. */
  get isNearlyFull(): boolean {
    return this.next > MOST_PLACES && this.free.length === 0;
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
    for (const [table, regions] of this.regions) {
      if (regions[0]?.page !== page) continue;
      const lost = written ? regions.filter(({ covered }) => covered.some((record) => written.has(record))) : regions;
      if (written && lost.length > 0) this.dropped.set(page, this.drops(page) + 1);
      for (const region of lost) this.release(region);
      this.regions.set(
        table,
        regions.filter((region) => !lost.includes(region)),
      );
    }
  }

  dropAllRegions(): void {
    for (const [table, regions] of this.regions) this.releaseAll(table, regions);
  }

  private releaseAll(table: number, regions: readonly Region[]): void {
    for (const region of regions) this.release(region);
    this.regions.delete(table);
  }

  /** Gives the region's records back to the interpreter, unless they are stale. */
  private release({ index, heads, covered }: Region): void {
    const { u32, u16 } = this.state;
    for (const record of covered) u16[(record + RECORD.entry) >>> 1] = 0;
    for (const record of heads) {
      const slot = (record + RECORD.handler) >>> 2;
      if (u32[slot] === index) u32[slot] = u32[(record + RECORD.original) >>> 2] as number;
    }
    this.table.set(index, null);
    this.free.push(index);
  }
}

function stageHandler({ form, semantics }: Handler, callees: Readonly<Record<string, Callee>>): Code {
  const code = new Code({ parameters: ['i32'], results: ['i32'] });
  const stage = new InterpreterStage(code, form, callees);
  semantics(stage);
  stage.finish();
  return code;
}
