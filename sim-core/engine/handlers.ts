import { type Callee, Code } from './code.ts';
import { FIXED_HANDLER, HANDLER_IMPORTS } from './core.ts';
import type { Form } from './form.ts';
import { InterpreterStage } from './interpreter-stage.ts';
import { ModuleBuilder } from './module.ts';
import type { Semantics } from './stage.ts';

const TABLE_SIZE = 16384;

/** Interpreter handlers: one WebAssembly function per form, compiled in batches when first needed. */
export class HandlerTable {
  readonly table: WebAssembly.Table;
  private readonly memory: WebAssembly.Memory;
  private readonly indices = new Map<string, number>();
  private readonly waiting: { readonly form: Form; readonly semantics: Semantics; readonly index: number }[] = [];
  private next: number = FIXED_HANDLER.count;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    this.table = new WebAssembly.Table({ element: 'anyfunc', initial: TABLE_SIZE });
  }

  /** Table index of the handler for `key`; it can be executed after `compile`. */
  index(key: string, form: () => Form, semantics: Semantics): number {
    const known = this.indices.get(key);
    if (known !== undefined) return known;
    const index = this.next++;
    if (index >= TABLE_SIZE) throw new RangeError('handler table is full');
    this.indices.set(key, index);
    this.waiting.push({ form: form(), semantics, index });
    return index;
  }

  /** Number of handlers made so far. */
  get size(): number {
    return this.next - FIXED_HANDLER.count;
  }

  /** Compiles the handlers asked for since the last call, as one module. */
  compile(functions: Readonly<Record<string, CallableFunction>>): void {
    if (this.waiting.length === 0) return;
    const builder = new ModuleBuilder();
    const callees: Record<string, Callee> = {};
    for (const [name, signature] of Object.entries(HANDLER_IMPORTS)) callees[name] = builder.import(name, signature);
    for (const { form, semantics } of this.waiting) builder.add(stageHandler(form, semantics, callees));
    const built = builder.instantiate({ memory: this.memory, table: this.table, functions });
    this.waiting.forEach(({ index }, i) => this.table.set(index, built[i]));
    this.waiting.length = 0;
  }
}

function stageHandler(form: Form, semantics: Semantics, callees: Readonly<Record<string, Callee>>): Code {
  const code = new Code({ parameters: ['i32'], results: ['i32'] });
  const stage = new InterpreterStage(code, form, callees);
  semantics(stage);
  stage.finish();
  return code;
}
