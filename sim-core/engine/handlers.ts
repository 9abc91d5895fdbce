import type { State } from '../state/state.ts';
import { type Callee, Code } from './code.ts';
import { declareImports, FIXED_HANDLER } from './core.ts';
import type { Form } from './form.ts';
import { InterpreterStage } from './interpreter-stage.ts';
import { link, ModuleBuilder } from './module.ts';
import type { Semantics } from './stage.ts';

/** Places in the table at first, and how many it grows by: forms are many, but few of them meet in one guest. */
const TABLE_STEP = 16384;
/** Places beyond which regions are dropped, so that the table does not grow with code that ran long ago. */
const MOST_PLACES = 4 * TABLE_STEP;

/** One form's handler. */
export interface Handler {
  readonly form: Form;
  /** Mnemonic number by which the semantics are found. */
  readonly meaning: number;
  readonly semantics: Semantics;
}

/** The functions that records lead to: interpreter handlers, one a form, and places for compiled regions. */
export class HandlerTable {
  readonly table: WebAssembly.Table;
  /** What every module of handlers and regions begins with, and the functions that it imports. */
  readonly imports = new ModuleBuilder();
  readonly callees: Readonly<Record<string, Callee>>;
  /** Values of `imports`, by name: to be set before anything is compiled. */
  functions: Readonly<Record<string, CallableFunction>> = {};
  private readonly state: State;
  private readonly handlers: (Handler | undefined)[] = [];
  private readonly waiting: number[] = [];
  private next: number = FIXED_HANDLER.count;
  /** Places that were given back. */
  private readonly free: number[] = [];

  constructor(state: State) {
    this.state = state;
    this.callees = declareImports(this.imports);
    this.table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_STEP });
  }

  /** A handler for a form. @returns its table index; it can be executed after `compile` */
  add(handler: Handler): number {
    const index = this.allocate();
    this.handlers[index] = handler;
    this.waiting.push(index);
    return index;
  }

  /** A place in the table. */
  allocate(): number {
    const index = this.free.pop() ?? this.next++;
    if (index >= this.table.length) this.table.grow(TABLE_STEP);
    return index;
  }

  /** Gives a place back. */
  release(index: number): void {
    this.table.set(index, null);
    this.free.push(index);
  }

  /** Whether it is time to give places back. */
  get isNearlyFull(): boolean {
    return this.next > MOST_PLACES && this.free.length === 0;
  }

  /** The interpreter handler at a table index; undefined for fixed handlers and regions. */
  handler(index: number): Handler | undefined {
    return this.handlers[index];
  }

  /** Compiles the handlers asked for since the last call, as one module. */
  compile(): void {
    if (this.waiting.length === 0) return;
    const builder = new ModuleBuilder(this.imports);
    for (const index of this.waiting) builder.add(stageHandler(this.handlers[index] as Handler, this.callees));
    const built = this.link(builder.compile(this.memoryPages), this.waiting.length);
    this.waiting.forEach((index, i) => {
      this.table.set(index, built[i]);
    });
    this.waiting.length = 0;
  }

  /** Pages of 64 KiB of the memory that modules access. */
  get memoryPages(): number {
    return this.state.memory.buffer.byteLength / 0x1_0000;
  }

  /** @returns the functions of a module that begins with `imports` */
  link(module: WebAssembly.Module, count = 1): CallableFunction[] {
    return link(module, { memory: this.state.memory, table: this.table, functions: this.functions }, count);
  }
}

function stageHandler({ form, semantics }: Handler, callees: Readonly<Record<string, Callee>>): Code {
  const code = new Code({ parameters: ['i32'], results: ['i32'] });
  const stage = new InterpreterStage(code, form, callees);
  semantics(stage);
  stage.finish();
  return code;
}
