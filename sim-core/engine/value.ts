import type { ByteWriter } from './bytes.ts';

/**
 * Staged values: expressions of a WebAssembly function that is being built, not numbers. A value is evaluated where
 * it is consumed, so one that is used twice, or that reads state that changes in between, must first be kept by
 * `Code.let`.
 */

export type IntType = 'i32' | 'i64';
export type ValueType = IntType | 'f32' | 'f64' | 'v128';

export const TYPE_CODE: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
};

/** Writes the instructions that leave the value on WebAssembly's operand stack. */
export type Emit = (out: ByteWriter) => void;

export class Value<T extends ValueType = ValueType> {
  readonly type: T;
  readonly emit: Emit;
  constructor(type: T, emit: Emit) {
    this.type = type;
    this.emit = emit;
  }
}

/** Opcodes of binary operations: [i32, i64]. */
const BINARY = {
  add: [0x6a, 0x7c], sub: [0x6b, 0x7d], mul: [0x6c, 0x7e], divS: [0x6d, 0x7f], divU: [0x6e, 0x80], remS: [0x6f, 0x81],
  remU: [0x70, 0x82], and: [0x71, 0x83], or: [0x72, 0x84], xor: [0x73, 0x85], shl: [0x74, 0x86], shrS: [0x75, 0x87],
  shrU: [0x76, 0x88], rotl: [0x77, 0x89], rotr: [0x78, 0x8a],
} as const; // biome-ignore format: a table reads better in rows
const COMPARE = {
  eq: [0x46, 0x51], ne: [0x47, 0x52], ltS: [0x48, 0x53], ltU: [0x49, 0x54], gtS: [0x4a, 0x55], gtU: [0x4b, 0x56],
  leS: [0x4c, 0x57], leU: [0x4d, 0x58], geS: [0x4e, 0x59], geU: [0x4f, 0x5a],
} as const; // biome-ignore format: a table reads better in rows
const UNARY = { clz: [0x67, 0x79], ctz: [0x68, 0x7a], popcnt: [0x69, 0x7b] } as const;

type Binary = keyof typeof BINARY;
type Compare = keyof typeof COMPARE;

const opcode = (type: IntType, pair: readonly [number, number]): number => pair[type === 'i32' ? 0 : 1];

/** Folds an operation on constants; undefined where WebAssembly would trap or folding is not worth it. */
function fold(operation: Binary, type: IntType, a: bigint, b: bigint): bigint | undefined {
  const bits = type === 'i32' ? 32n : 64n;
  const count = b & (bits - 1n);
  const wrap = (value: bigint): bigint => BigInt.asIntN(Number(bits), value);
  switch (operation) {
    case 'add': return wrap(a + b);
    case 'sub': return wrap(a - b);
    case 'mul': return wrap(a * b);
    case 'and': return a & b;
    case 'or': return a | b;
    case 'xor': return a ^ b;
    case 'shl': return wrap(a << count);
    case 'shrS': return a >> count;
    case 'shrU': return wrap(BigInt.asUintN(Number(bits), a) >> count);
    default: return undefined;
  }
} // biome-ignore format: a table reads better in rows

function foldCompare(operation: Compare, type: IntType, a: bigint, b: bigint): boolean {
  const unsigned = (value: bigint): bigint => BigInt.asUintN(type === 'i32' ? 32 : 64, value);
  const [x, y] = operation.endsWith('U') ? [unsigned(a), unsigned(b)] : [a, b];
  switch (operation) {
    case 'eq': return x === y;
    case 'ne': return x !== y;
    case 'ltS': case 'ltU': return x < y;
    case 'gtS': case 'gtU': return x > y;
    case 'leS': case 'leU': return x <= y;
    case 'geS': case 'geU': return x >= y;
  }
} // biome-ignore format: a table reads better in rows

/** Constants that were used before, by value: most are small, addresses in the state. */
const COMMON: Readonly<Record<IntType, unknown[]>> = {
  i32: Array.from({ length: 8192 }),
  i64: Array.from({ length: 8192 }),
};

/** A staged integer. `Int<'i32' | 'i64'>` is one whose width depends on the operand size known when staging. */
export class Int<T extends IntType = IntType> extends Value<T> {
  /** The value as a signed number when it is known at staging time. */
  readonly constant: bigint | undefined;

  constructor(type: T, emit: Emit, constant?: bigint) {
    super(type, emit);
    this.constant = constant;
  }

  static of<T extends IntType>(type: T, value: number | bigint): Int<T> {
    if (typeof value !== 'number' || value < 0 || value >= COMMON[type].length) return Int.constant(type, value);
    const common = COMMON[type] as (Int<T> | undefined)[];
    common[value] ??= Int.constant(type, value);
    return common[value] as Int<T>;
  }

  private static constant<T extends IntType>(type: T, value: number | bigint): Int<T> {
    const constant = BigInt.asIntN(type === 'i32' ? 32 : 64, BigInt(value));
    const code = type === 'i32' ? 0x41 : 0x42;
    const small = BigInt.asIntN(32, constant) === constant ? Number(constant) : undefined;
    const emit = (out: ByteWriter): void => {
      out.byte(code);
      if (small === undefined) out.signed64(constant);
      else out.signed32(small);
    };
    return new Int(type, emit, constant);
  }

  /** A constant of this value's type. */
  like(value: number | bigint): Int<T> {
    return Int.of(this.type, value);
  }

  private coerce(other: Int<T> | number | bigint): Int<T> {
    if (typeof other !== 'object') return this.like(other);
    if (other.type !== this.type) throw new TypeError(`staged ${this.type} combined with ${other.type}`);
    return other;
  }

  private binary(operation: Binary, right: Int<T> | number | bigint): Int<T> {
    const other = this.coerce(right);
    if (this.constant !== undefined && other.constant !== undefined) {
      const folded = fold(operation, this.type, this.constant, other.constant);
      if (folded !== undefined) return this.like(folded);
    }
    if (other.constant === 0n && ['add', 'sub', 'or', 'xor', 'shl', 'shrU', 'shrS'].includes(operation)) return this;
    return new Int(this.type, this.with(other, opcode(this.type, BINARY[operation])));
  }

  private compare(operation: Compare, right: Int<T> | number | bigint): I32 {
    const other = this.coerce(right);
    if (this.constant !== undefined && other.constant !== undefined) {
      return Int.of('i32', foldCompare(operation, this.type, this.constant, other.constant) ? 1 : 0);
    }
    return new Int('i32', this.with(other, opcode(this.type, COMPARE[operation])));
  }

  private with(other: Value, code: number): Emit {
    return (out) => {
      this.emit(out);
      other.emit(out);
      out.byte(code);
    };
  }

  private unary(code: number): Emit {
    return (out) => {
      this.emit(out);
      out.byte(code);
    };
  }

  add(b: Int<T> | number | bigint): Int<T> { return this.binary('add', b); }
  sub(b: Int<T> | number | bigint): Int<T> { return this.binary('sub', b); }
  mul(b: Int<T> | number | bigint): Int<T> { return this.binary('mul', b); }
  and(b: Int<T> | number | bigint): Int<T> { return this.binary('and', b); }
  or(b: Int<T> | number | bigint): Int<T> { return this.binary('or', b); }
  xor(b: Int<T> | number | bigint): Int<T> { return this.binary('xor', b); }
  shl(b: Int<T> | number | bigint): Int<T> { return this.binary('shl', b); }
  shrU(b: Int<T> | number | bigint): Int<T> { return this.binary('shrU', b); }
  shrS(b: Int<T> | number | bigint): Int<T> { return this.binary('shrS', b); }
  rotl(b: Int<T> | number | bigint): Int<T> { return this.binary('rotl', b); }
  rotr(b: Int<T> | number | bigint): Int<T> { return this.binary('rotr', b); }
  divS(b: Int<T> | number | bigint): Int<T> { return this.binary('divS', b); }
  divU(b: Int<T> | number | bigint): Int<T> { return this.binary('divU', b); }
  remS(b: Int<T> | number | bigint): Int<T> { return this.binary('remS', b); }
  remU(b: Int<T> | number | bigint): Int<T> { return this.binary('remU', b); }
  eq(b: Int<T> | number | bigint): I32 { return this.compare('eq', b); }
  ne(b: Int<T> | number | bigint): I32 { return this.compare('ne', b); }
  ltS(b: Int<T> | number | bigint): I32 { return this.compare('ltS', b); }
  ltU(b: Int<T> | number | bigint): I32 { return this.compare('ltU', b); }
  leS(b: Int<T> | number | bigint): I32 { return this.compare('leS', b); }
  leU(b: Int<T> | number | bigint): I32 { return this.compare('leU', b); }
  gtS(b: Int<T> | number | bigint): I32 { return this.compare('gtS', b); }
  gtU(b: Int<T> | number | bigint): I32 { return this.compare('gtU', b); }
  geS(b: Int<T> | number | bigint): I32 { return this.compare('geS', b); }
  geU(b: Int<T> | number | bigint): I32 { return this.compare('geU', b); }
  clz(): Int<T> { return new Int(this.type, this.unary(opcode(this.type, UNARY.clz))); }
  ctz(): Int<T> { return new Int(this.type, this.unary(opcode(this.type, UNARY.ctz))); }
  popcnt(): Int<T> { return new Int(this.type, this.unary(opcode(this.type, UNARY.popcnt))); }
  not(): Int<T> { return this.xor(-1); }
  negate(): Int<T> { return this.like(0).sub(this); }
  eqz(): I32 {
    if (this.constant !== undefined) return Int.of('i32', this.constant === 0n ? 1 : 0);
    return new Int('i32', this.unary(this.type === 'i32' ? 0x45 : 0x50));
  }

  /** The low 32 bits. */
  wrap(): I32 {
    if (this.type === 'i32') return new Int('i32', this.emit, this.constant);
    return this.constant !== undefined ? Int.of('i32', this.constant) : new Int('i32', this.unary(0xa7));
  }
  /** To 64 bits, zero-extended. */
  extendU(): I64 {
    if (this.type === 'i64') return new Int('i64', this.emit, this.constant);
    if (this.constant !== undefined) return Int.of('i64', BigInt.asUintN(32, this.constant));
    return new Int('i64', this.unary(0xad));
  }
  /** To 64 bits, sign-extended. */
  extendS(): I64 {
    if (this.type === 'i64') return new Int('i64', this.emit, this.constant);
    return this.constant !== undefined ? Int.of('i64', this.constant) : new Int('i64', this.unary(0xac));
  }
  /** Sign-extends the low 8, 16 or 32 bits within the type. */
  signExtend(bits: 8 | 16 | 32): Int<T> {
    if (this.type === 'i32') return bits === 32 ? this : new Int(this.type, this.unary(bits === 8 ? 0xc0 : 0xc1));
    return new Int(this.type, this.unary(bits === 8 ? 0xc2 : bits === 16 ? 0xc3 : 0xc4));
  }
  /** Zero-extends the low `bits` bits within the type. */
  zeroExtend(bits: number): Int<T> {
    if (bits >= (this.type === 'i32' ? 32 : 64)) return this;
    return this.and((1n << BigInt(bits)) - 1n);
  }
} // biome-ignore format: one operation a line

export type I32 = Int<'i32'>;
export type I64 = Int<'i64'>;
/** An integer whose width is that of an operand: i64 for 8-byte operands, else i32. */
export type Word = Int<IntType>;

export const i32 = (value: number | bigint): I32 => Int.of('i32', value);
export const i64 = (value: number | bigint): I64 => Int.of('i64', value);

/** `condition` ? `a` : `b`; both are evaluated. */
export function select<T extends IntType>(condition: I32, a: Int<T>, b: Int<T>): Int<T> {
  return new Int(a.type, (out) => {
    a.emit(out);
    b.emit(out);
    condition.emit(out);
    out.byte(0x1b);
  });
}

/** Opcodes and results of memory loads; bytes are at `address` + `offset`. */
const LOAD = {
  i32: [0x28, 'i32'], i64: [0x29, 'i64'], f32: [0x2a, 'f32'], f64: [0x2b, 'f64'], i32u8: [0x2d, 'i32'],
  i32s8: [0x2c, 'i32'], i32u16: [0x2f, 'i32'], i32s16: [0x2e, 'i32'], i64u8: [0x31, 'i64'], i64u16: [0x33, 'i64'],
  i64u32: [0x35, 'i64'],
} as const; // biome-ignore format: a table reads better in rows
export type IntLoad = Exclude<keyof typeof LOAD, 'f32' | 'f64'>;

/** Loads an integer of the given shape from linear memory (address in bytes, no alignment required). */
export function loadInt(shape: IntLoad, address: I32, offset = 0): Word {
  const [code, type] = LOAD[shape];
  return new Int(type, (out) => {
    address.emit(out);
    out.byte(code);
    out.byte(0);
    out.unsigned(offset);
  });
}
/** Loads a floating-point number. */
export const loadF64 = (address: I32, offset = 0): Value<'f64'> =>
  new Value('f64', (out) => {
    address.emit(out);
    out.byte(LOAD.f64[0]);
    out.byte(0);
    out.unsigned(offset);
  });
export const load32 = (address: I32, offset = 0): I32 => loadInt('i32', address, offset) as I32;
export const load64 = (address: I32, offset = 0): I64 => loadInt('i64', address, offset) as I64;
export const load16 = (address: I32, offset = 0): I32 => loadInt('i32u16', address, offset) as I32;
export const load8 = (address: I32, offset = 0): I32 => loadInt('i32u8', address, offset) as I32;
