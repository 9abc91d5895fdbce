import { ByteWriter } from './bytes.ts';
import type { Callee, Code, Signature } from './code.ts';
import { TYPE_CODE, type ValueType } from './value.ts';

/** What every module of the engine imports, in this order; `env` gives the values. */
export interface ModuleImports {
  readonly memory: WebAssembly.Memory;
  readonly table: WebAssembly.Table;
  readonly functions: Readonly<Record<string, CallableFunction>>;
}

/**
 * Builds one WebAssembly module: imported functions first, then `functions`, each exported as 'f0', 'f1', ….
 * The module imports linear memory and the handler table.
 */
export class ModuleBuilder {
  private readonly types: Signature[];
  private readonly imports: { readonly name: string; readonly type: number }[];
  private readonly functions: Code[] = [];
  private readonly base: ModuleBuilder | undefined;
  /** The sections of types and imports, when they are encoded already. */
  private head: Uint8Array | undefined;

  /** @param base a builder without functions, whose types and imports the new one begins with */
  constructor(base?: ModuleBuilder) {
    this.base = base;
    this.types = base ? [...base.types] : [];
    this.imports = base ? [...base.imports] : [];
  }

  typeIndex(signature: Signature): number {
    const known = this.types.findIndex((type) => isSame(type, signature));
    return known >= 0 ? known : this.types.push(signature) - 1;
  }

  /** Declares an imported function; all imports must come before functions are built that call them. */
  import(name: string, signature: Signature): Callee {
    const index = this.imports.push({ name, type: this.typeIndex(signature) }) - 1;
    return { index, signature };
  }

  /** Adds a function; its export is `f${returned number}`. */
  add(code: Code): number {
    return this.functions.push(code) - 1;
  }

  /** @param out where to, if its buffer is to be used again @returns the bytes, until `out` is released */
  encode(memoryPages: number, out = new ByteWriter()): Uint8Array<ArrayBuffer> {
    out.append([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const functionTypes = this.functions.map((code) => this.typeIndex(code.signature));
    out.append(this.encodeHead(memoryPages));
    section(out, 3, () => {
      out.unsigned(functionTypes.length);
      for (const type of functionTypes) out.unsigned(type);
    });
    section(out, 7, () => {
      out.unsigned(this.functions.length);
      this.functions.forEach((_, i) => {
        out.name(`f${i}`);
        out.byte(0);
        out.unsigned(this.imports.length + i);
      });
    });
    section(out, 10, () => {
      out.unsigned(this.functions.length);
      for (const code of this.functions) code.encode(out);
    });
    return out.view();
  }

  /** Compiles, once. @param memoryPages of the memory that it will access */
  compile(memoryPages: number): WebAssembly.Module {
    const out = new ByteWriter();
    const module = new WebAssembly.Module(this.encode(memoryPages, out));
    for (const writer of [out, ...this.functions]) writer.release();
    return module;
  }

  /** Compiles and links, once; returns the functions in the order of `add`. */
  instantiate(imports: ModuleImports): CallableFunction[] {
    const module = this.compile(imports.memory.buffer.byteLength / 0x1_0000);
    return link(module, imports, this.functions.length);
  }

  /** @param pages of the memory, which does not grow */
  private encodeHead(pages: number): Uint8Array {
    const { base } = this;
    if (base && base.types.length === this.types.length && base.imports.length === this.imports.length) {
      return base.encodeHead(pages);
    }
    if (!this.head) {
      const out = new ByteWriter();
      section(out, 1, () => this.encodeTypes(out));
      section(out, 2, () => this.encodeImports(out, pages));
      this.head = out.view().slice();
      out.release();
    }
    return this.head;
  }

  private encodeTypes(body: ByteWriter): void {
    body.unsigned(this.types.length);
    for (const type of this.types) {
      body.byte(0x60);
      for (const list of [type.parameters, type.results]) {
        body.unsigned(list.length);
        for (const value of list) body.byte(TYPE_CODE[value]);
      }
    }
  }

  private encodeImports(body: ByteWriter, pages: number): void {
    body.unsigned(this.imports.length + 2);
    for (const { name, type } of this.imports) {
      body.name('env');
      body.name(name);
      body.byte(0);
      body.unsigned(type);
    }
    body.name('env');
    body.name('memory');
    body.byte(2);
    body.byte(1);
    body.unsigned(pages);
    body.unsigned(pages);
    body.name('env');
    body.name('table');
    body.byte(1);
    body.append([0x70, 0]);
    body.unsigned(0);
  }
}

/** Links a module that a ModuleBuilder has compiled. @returns its functions */
export function link(module: WebAssembly.Module, imports: ModuleImports, count = 1): CallableFunction[] {
  const { exports } = new WebAssembly.Instance(module, { env: environmentOf(imports) });
  return Array.from({ length: count }, (_, i) => exports[`f${i}`] as CallableFunction);
}

/** What modules see of their imports, by the object that holds the functions: many modules import the same. */
const environments = new WeakMap<ModuleImports['functions'], WebAssembly.ModuleImports>();

function environmentOf({ memory, table, functions }: ModuleImports): WebAssembly.ModuleImports {
  let environment = environments.get(functions);
  if (!environment) {
    environment = { memory, table, ...functions } as WebAssembly.ModuleImports;
    environments.set(functions, environment);
  }
  return environment;
}

const isSame = (a: Signature, b: Signature): boolean =>
  a === b || (isEqual(a.parameters, b.parameters) && isEqual(a.results, b.results));

const isEqual = (a: readonly ValueType[], b: readonly ValueType[]): boolean =>
  a.length === b.length && a.every((type, i) => type === b[i]);

function section(out: ByteWriter, id: number, write: () => void): void {
  out.byte(id);
  out.sized(write);
}
