import type { State } from '../state/state.ts';
import { type Callee, Code } from './code.ts';
import { FIXED_HANDLER, HANDLER_IMPORTS } from './core.ts';
import type { Form } from './form.ts';
import { InterpreterStage } from './interpreter-stage.ts';
import { ModuleBuilder } from './module.ts';
import { RECORD } from './record.ts';
import { type RegionBlock, RegionBuilder } from './region.ts';
import type { Semantics } from './stage.ts';

const TABLE_SIZE = 16384;

/** One form's handler. */
export interface Handler {
  readonly form: Form;
  readonly semantics: Semantics;
}

/** The functions that records lead to: interpreter handlers, one a form, and compiled regions. */
export class HandlerTable {
  readonly table: WebAssembly.Table;
  private readonly state: State;
  private readonly indices = new Map<string, number>();
  private readonly handlers: (Handler | undefined)[] = [];
  private readonly waiting: number[] = [];
  private next: number = FIXED_HANDLER.count;
  /** Table indices of regions by physical page, and of regions that are gone. */
  private readonly regions = new Map<number, number[]>();
  private readonly free: number[] = [];
  private readonly dropped = new Map<number, number>();

  constructor(state: State) {
    this.state = state;
    this.table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_SIZE });
  }

  /** Table index of the handler for `key`; it can be executed after `compile`. */
  index(key: string, form: Form, semantics: Semantics): number {
    const known = this.indices.get(key);
    if (known !== undefined) return known;
    const index = this.allocate();
    this.indices.set(key, index);
    this.handlers[index] = { form, semantics };
    this.waiting.push(index);
    return index;
  }

  private allocate(): number {
    const index = this.free.pop() ?? this.next++;
    if (index >= TABLE_SIZE) throw new RangeError('handler table is full');
    return index;
  }

  /** The interpreter handler at a table index; undefined for fixed handlers and regions. */
  handler(index: number): Handler | undefined {
    return this.handlers[index];
  }

  private newModule(): { builder: ModuleBuilder; callees: Record<string, Callee> } {
    const builder = new ModuleBuilder();
    const callees: Record<string, Callee> = {};
    // The first import has the handlers' type, which thereby is type 0: `callIndirect` relies on it.
    for (const [name, signature] of Object.entries(HANDLER_IMPORTS)) callees[name] = builder.import(name, signature);
    return { builder, callees };
  }

  /** Compiles the handlers asked for since the last call, as one module. */
  compile(functions: Readonly<Record<string, CallableFunction>>): void {
    if (this.waiting.length === 0) return;
    const { builder, callees } = this.newModule();
    for (const index of this.waiting) builder.add(stageHandler(this.handlers[index] as Handler, callees));
    const built = builder.instantiate({ memory: this.state.memory, table: this.table, functions });
    this.waiting.forEach((index, i) => {
      this.table.set(index, built[i]);
    });
    this.waiting.length = 0;
  }

  /** Compiles a region and leads its blocks' first records to it. @param page its physical page */
  compileRegion(
    page: number,
    blocks: readonly RegionBlock[],
    functions: Readonly<Record<string, CallableFunction>>,
  ): void {
    const { builder, callees } = this.newModule();
    const index = this.allocate();
    builder.add(new RegionBuilder(this.state, callees, blocks, index).build());
    const [region] = builder.instantiate({ memory: this.state.memory, table: this.table, functions });
    this.table.set(index, region);
    this.regions.set(page, [...(this.regions.get(page) ?? []), index]);
    const { u32, u16 } = this.state;
    blocks.forEach(({ instructions }, number) => {
      const record = instructions[0]?.record ?? 0;
      u32[(record + RECORD.original) >>> 2] = u32[(record + RECORD.handler) >>> 2] as number;
      u32[(record + RECORD.handler) >>> 2] = index;
      u16[(record + RECORD.entry) >>> 1] = number;
    });
  }

  /** Whether regions must be dropped before the table overflows. */
  get isNearlyFull(): boolean {
    return this.next > TABLE_SIZE - 2048 && this.free.length === 0;
  }

  /** How often compiled code of a page was lost because the page was written. */
  drops(page: number): number {
    return this.dropped.get(page) ?? 0;
  }

  /** Forgets the regions of a page whose records are stale. */
  dropRegions(page: number): void {
    if (!this.regions.has(page)) return;
    this.dropped.set(page, this.drops(page) + 1);
    this.release(page);
  }

  dropAllRegions(): void {
    for (const page of [...this.regions.keys()]) this.release(page);
  }

  private release(page: number): void {
    for (const index of this.regions.get(page) ?? []) {
      this.table.set(index, null);
      this.free.push(index);
    }
    this.regions.delete(page);
  }
}

function stageHandler({ form, semantics }: Handler, callees: Readonly<Record<string, Callee>>): Code {
  const code = new Code({ parameters: ['i32'], results: ['i32'] });
  const stage = new InterpreterStage(code, form, callees);
  semantics(stage);
  stage.finish();
  return code;
}
