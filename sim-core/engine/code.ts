import { ByteWriter } from './bytes.ts';
import { type Emit, type I32, Int, type IntType, TYPE_CODE, Value, type ValueType } from './value.ts';

/** A mutable local variable of the function being built. */
export interface Variable<T extends IntType> {
  get(): Int<T>;
  set(value: Int<T>): void;
}

/** Signature of a WebAssembly function. */
export interface Signature {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
}

/** A function that a module imports, or one of its own, as `Code.call` sees it. */
export interface Callee {
  readonly index: number;
  readonly signature: Signature;
}

/** Store opcodes by width: the value's low bytes go to memory. */
const STORE: Readonly<Record<Exclude<ValueType, 'v128'>, Readonly<Record<number, number>>>> = {
  i32: { 1: 0x3a, 2: 0x3b, 4: 0x36 },
  i64: { 1: 0x3c, 2: 0x3d, 4: 0x3e, 8: 0x37 },
  f32: { 4: 0x38 },
  f64: { 8: 0x39 },
};

/** Emits a case of `Code.switch`; `skipTo` branches to a later case. */
export type SwitchCase = (skipTo: (later: number) => void) => void;

/** One WebAssembly function under construction: statements in order over staged values. */
export class Code {
  readonly signature: Signature;
  private readonly locals: ValueType[] = [];
  /** Statements that come before `body` but are known later (`prologue`). */
  private readonly head = new ByteWriter();
  private readonly main = new ByteWriter();
  private body = this.main;
  /** Nesting of blocks, for branch depths. */
  private depth = 0;
  /** Locals of values that are kept within `temporarily`, and those of former ones, by type: to be used again. */
  private temporaries: { readonly type: ValueType; readonly index: number }[] | undefined;
  private readonly unused = new Map<ValueType, number[]>();

  constructor(signature: Signature) {
    this.signature = signature;
  }

  parameter<T extends IntType>(index: number, type: T): Int<T> {
    return new Int(type, localGet(index));
  }

  private newLocal(type: ValueType): number {
    this.locals.push(type);
    return this.signature.parameters.length + this.locals.length - 1;
  }

  private newTemporary(type: ValueType): number {
    if (!this.temporaries) return this.newLocal(type);
    const index = this.unused.get(type)?.pop() ?? this.newLocal(type);
    this.temporaries.push({ type, index });
    return index;
  }

  /**
   * Emits statements after which nothing that they keep is used any more (but `lasting` variables): its locals are
   * used again. First-tier compilers take time for each local at each branch, and at the function's start.
   */
  temporarily(statements: () => void): void {
    const outer = this.temporaries;
    const own: { readonly type: ValueType; readonly index: number }[] = [];
    this.temporaries = own;
    statements();
    this.temporaries = outer;
    for (const { type, index } of own) {
      const list = this.unused.get(type);
      if (list) list.push(index);
      else this.unused.set(type, [index]);
    }
  }

  private setLocal(index: number, value: Value): void {
    value.emit(this.body);
    this.body.byte(0x21);
    this.body.unsigned(index);
  }

  /** Evaluates `value` now and keeps it. */
  let<T extends IntType>(value: Int<T>): Int<T> {
    if (value.constant !== undefined) return value;
    const index = this.newTemporary(value.type);
    this.setLocal(index, value);
    return new Int(value.type, localGet(index));
  }

  /** `let` for values that are not integers. */
  keep<T extends ValueType>(value: Value<T>): Value<T> {
    const index = this.newTemporary(value.type);
    this.setLocal(index, value);
    return new Value(value.type, localGet(index));
  }

  variable<T extends IntType>(type: T, initial: Int<T>): Variable<T> {
    const index = this.newTemporary(type);
    this.setLocal(index, initial);
    return this.variableAt(type, index);
  }

  /** A variable that outlasts `temporarily`; 0 at first. */
  lasting<T extends IntType>(type: T): Variable<T> {
    return this.variableAt(type, this.newLocal(type));
  }

  private variableAt<T extends IntType>(type: T, index: number): Variable<T> {
    return { get: () => new Int(type, localGet(index)), set: (value) => this.setLocal(index, value) };
  }

  /** Appends a statement: instructions that leave nothing on WebAssembly's operand stack. */
  emit(statement: Emit): void {
    statement(this.body);
  }

  /** Stores the low `width` bytes (1, 2, 4, 8; 16 for v128) of `value` at `address` + `offset`. */
  store(width: number, address: I32, value: Value, offset = 0): void {
    address.emit(this.body);
    value.emit(this.body);
    if (value.type === 'v128') {
      this.body.byte(0xfd);
      this.body.unsigned(11);
    } else {
      const code = STORE[value.type][width];
      if (code === undefined) throw new TypeError(`no ${width}-byte store of ${value.type}`);
      this.body.byte(code);
    }
    this.body.byte(0);
    this.body.unsigned(offset);
  }

  /** Sets `length` bytes at `address` to the low byte of `value`. */
  fill(address: I32, value: I32, length: I32): void {
    for (const part of [address, value, length]) part.emit(this.body);
    this.body.append([0xfc, 0x0b, 0]);
  }

  /** Copies `length` bytes, which may overlap. */
  copy(to: I32, from: I32, length: I32): void {
    for (const part of [to, from, length]) part.emit(this.body);
    this.body.append([0xfc, 0x0a, 0, 0]);
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    if (condition.constant !== undefined) {
      if (condition.constant !== 0n) then();
      else otherwise?.();
      return;
    }
    condition.emit(this.body);
    this.body.byte(0x04);
    this.body.byte(0x40);
    this.depth++;
    then();
    if (otherwise) {
      this.body.byte(0x05);
      otherwise();
    }
    this.depth--;
    this.body.byte(0x0b);
  }

  /** A loop that runs once; calling `again` inside branches to its start. */
  loop(body: (again: (condition?: I32) => void) => void): void {
    this.nested(0x03, body);
  }

  /** Statements that calling the argument leaves: forwards out of the block. */
  block(body: (leave: (condition?: I32) => void) => void): void {
    this.nested(0x02, body);
  }

  /** @param opcode of `loop` or `block`, to which the argument of `body` branches */
  private nested(opcode: number, body: (branch: (condition?: I32) => void) => void): void {
    this.body.byte(opcode);
    this.body.byte(0x40);
    this.depth++;
    const depth = this.depth;
    body((condition) => this.branch(this.depth - depth, condition));
    this.depth--;
    this.body.byte(0x0b);
  }

  private branch(levels: number, condition: I32 | undefined): void {
    condition?.emit(this.body);
    this.body.byte(condition ? 0x0d : 0x0c);
    this.body.unsigned(levels);
  }

  /**
   * Executes `cases[table[index]]` (the last one for larger indices); each case falls through to the next. A case may
   * skip to a later one.
   * @param table without it cases have the numbers 0, 1, …
   */
  switch(index: I32, cases: readonly SwitchCase[], table = cases.map((_, i) => i)): void {
    this.cases(cases, () => {
      index.emit(this.body);
      this.body.byte(0x0e);
      this.body.unsigned(table.length - 1);
      for (const target of table) this.body.unsigned(target);
    });
  }

  /** Executes `cases` from the first one on. */
  sequence(cases: readonly SwitchCase[]): void {
    this.cases(cases, () => {});
  }

  private cases(cases: readonly SwitchCase[], begin: () => void): void {
    for (const _ of cases) {
      this.body.byte(0x02);
      this.body.byte(0x40);
    }
    this.depth += cases.length;
    const outermost = this.depth - cases.length + 1;
    begin();
    for (const emit of cases) {
      this.depth--;
      this.body.byte(0x0b);
      emit((later) => this.branch(this.depth - (outermost + cases.length - 1 - later), undefined));
    }
  }

  /** Builds statements that run before all others of the function. */
  prologue(statements: () => void): void {
    this.body = this.head;
    statements();
    this.body = this.main;
  }

  return(value?: Value): void {
    value?.emit(this.body);
    this.body.byte(0x0f);
  }

  /** Leaves `value` as the function's result: the last statement. */
  result(value: Value): void {
    value.emit(this.body);
  }

  /** The value of calling `callee`, which must have exactly one integer result; evaluated where it is consumed. */
  call<T extends IntType>(type: T, callee: Callee, args: readonly Value[]): Int<T> {
    return new Int(type, callEmit(callee, args));
  }

  /** Calls a function without result. */
  do(callee: Callee, args: readonly Value[]): void {
    callEmit(callee, args)(this.body);
    for (const _ of callee.signature.results) this.body.byte(0x1a);
  }

  /** Calls the function at `index` of the module's table 0; `typeIndex` is its type in the module. */
  callIndirect<T extends IntType>(type: T, typeIndex: number, args: readonly Value[], index: I32): Int<T> {
    return new Int(type, (out) => {
      for (const arg of args) arg.emit(out);
      index.emit(out);
      out.byte(0x11);
      out.unsigned(typeIndex);
      out.byte(0);
    });
  }

  /** Leaves the function for `callee`, whose result is its result. */
  returnCall(callee: Callee, args: readonly Value[]): void {
    for (const arg of args) arg.emit(this.body);
    this.body.byte(0x12);
    this.body.unsigned(callee.index);
  }

  /** As `returnCall`, for the function at `index` of the module's table 0. */
  returnCallIndirect(typeIndex: number, args: readonly Value[], index: I32): void {
    for (const arg of [...args, index]) arg.emit(this.body);
    this.body.byte(0x13);
    this.body.unsigned(typeIndex);
    this.body.byte(0);
  }

  unreachable(): void {
    this.body.byte(0x00);
  }

  /** Appends the function as an entry of the code section. */
  encode(out: ByteWriter): void {
    out.sized(() => {
      out.unsigned(this.locals.length);
      for (const type of this.locals) {
        out.byte(1);
        out.byte(TYPE_CODE[type]);
      }
      out.append(this.head.view());
      out.append(this.main.view());
      out.byte(0x0b);
    });
  }

  /** Gives up what was built. */
  release(): void {
    this.head.release();
    this.main.release();
  }
}

const localGet = (index: number) => (out: ByteWriter) => {
  out.byte(0x20);
  out.unsigned(index);
};

const callEmit = (callee: Callee, args: readonly Value[]) => (out: ByteWriter) => {
  for (const arg of args) arg.emit(out);
  out.byte(0x10);
  out.unsigned(callee.index);
};
