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

/** A binary operation, opcodes by type. */
interface Binary {
  readonly i32: number;
  readonly i64: number;
  /** Result on constants, not cut to its width; absent where WebAssembly would trap or folding is not worth it. */
  readonly fold?: (a: bigint, b: bigint, bits: bigint) => bigint;
  /** Whether the second operand 0 changes nothing. */
  readonly keeps?: boolean;
}
/** A comparison, opcodes by type. */
interface Compare {
  readonly i32: number;
  readonly i64: number;
  /** On signed or unsigned values, as the operation has it. */
  readonly fold: (a: bigint, b: bigint) => boolean;
  readonly unsigned?: boolean;
}

const unsigned = (bits: bigint, value: bigint): bigint => BigInt.asUintN(Number(bits), value);

const BINARY = {
  add: { i32: 0x6a, i64: 0x7c, fold: (a, b) => a + b, keeps: true },
  sub: { i32: 0x6b, i64: 0x7d, fold: (a, b) => a - b, keeps: true },
  mul: { i32: 0x6c, i64: 0x7e, fold: (a, b) => a * b },
  divS: { i32: 0x6d, i64: 0x7f },
  divU: { i32: 0x6e, i64: 0x80 },
  remS: { i32: 0x6f, i64: 0x81 },
  remU: { i32: 0x70, i64: 0x82 },
  and: { i32: 0x71, i64: 0x83, fold: (a, b) => a & b },
  or: { i32: 0x72, i64: 0x84, fold: (a, b) => a | b, keeps: true },
  xor: { i32: 0x73, i64: 0x85, fold: (a, b) => a ^ b, keeps: true },
  shl: { i32: 0x74, i64: 0x86, fold: (a, b, bits) => a << (b & (bits - 1n)), keeps: true },
  shrS: { i32: 0x75, i64: 0x87, fold: (a, b, bits) => a >> (b & (bits - 1n)), keeps: true },
  shrU: { i32: 0x76, i64: 0x88, fold: (a, b, bits) => unsigned(bits, a) >> (b & (bits - 1n)), keeps: true },
  rotl: { i32: 0x77, i64: 0x89 },
  rotr: { i32: 0x78, i64: 0x8a },
} as const satisfies Readonly<Record<string, Binary>>; // biome-ignore format: a table reads better in rows
const COMPARE = {
  eq: { i32: 0x46, i64: 0x51, fold: (a, b) => a === b },
  ne: { i32: 0x47, i64: 0x52, fold: (a, b) => a !== b },
  ltS: { i32: 0x48, i64: 0x53, fold: (a, b) => a < b },
  ltU: { i32: 0x49, i64: 0x54, fold: (a, b) => a < b, unsigned: true },
  gtS: { i32: 0x4a, i64: 0x55, fold: (a, b) => a > b },
  gtU: { i32: 0x4b, i64: 0x56, fold: (a, b) => a > b, unsigned: true },
  leS: { i32: 0x4c, i64: 0x57, fold: (a, b) => a <= b },
  leU: { i32: 0x4d, i64: 0x58, fold: (a, b) => a <= b, unsigned: true },
  geS: { i32: 0x4e, i64: 0x59, fold: (a, b) => a >= b },
  geU: { i32: 0x4f, i64: 0x5a, fold: (a, b) => a >= b, unsigned: true },
} as const satisfies Readonly<Record<string, Compare>>; // biome-ignore format: a table reads better in rows
const UNARY = {
  clz: { i32: 0x67, i64: 0x79 },
  ctz: { i32: 0x68, i64: 0x7a },
  popcnt: { i32: 0x69, i64: 0x7b },
} as const;

const bitsOf = (type: IntType): bigint => (type === 'i32' ? 32n : 64n);

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
    const code = type === 'i32' ? 0x41 : 0x42;
    const isSmall = typeof value === 'number' && (value | 0) === value;
    const constant = isSmall ? BigInt(value) : BigInt.asIntN(Number(bitsOf(type)), BigInt(value));
    const small = isSmall || BigInt.asIntN(32, constant) === constant ? Number(constant) : undefined;
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
    const { type, constant: left } = this;
    const other = this.coerce(right);
    const { constant } = other;
    if (constant !== undefined) {
      if (left !== undefined && operation.fold) return this.like(operation.fold(left, constant, bitsOf(type)));
      if (operation.keeps === true && constant === 0n) return this;
    }
    return new Int(type, this.with(other, operation[type]));
  }

  private compare(operation: Compare, right: Int<T> | number | bigint): I32 {
    const { type, constant: left } = this;
    const other = this.coerce(right);
    const { constant } = other;
    if (left === undefined || constant === undefined) return new Int('i32', this.with(other, operation[type]));
    const seen = (value: bigint): bigint => (operation.unsigned ? unsigned(bitsOf(type), value) : value);
    return Int.of('i32', operation.fold(seen(left), seen(constant)) ? 1 : 0);
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

  add(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.add, b); }
  sub(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.sub, b); }
  mul(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.mul, b); }
  and(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.and, b); }
  or(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.or, b); }
  xor(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.xor, b); }
  shl(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.shl, b); }
  shrU(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.shrU, b); }
  shrS(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.shrS, b); }
  rotl(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.rotl, b); }
  rotr(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.rotr, b); }
  divS(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.divS, b); }
  divU(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.divU, b); }
  remS(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.remS, b); }
  remU(b: Int<T> | number | bigint): Int<T> { return this.binary(BINARY.remU, b); }
  eq(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.eq, b); }
  ne(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.ne, b); }
  ltS(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.ltS, b); }
  ltU(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.ltU, b); }
  leS(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.leS, b); }
  leU(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.leU, b); }
  gtS(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.gtS, b); }
  gtU(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.gtU, b); }
  geS(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.geS, b); }
  geU(b: Int<T> | number | bigint): I32 { return this.compare(COMPARE.geU, b); }
  clz(): Int<T> { return new Int(this.type, this.unary(UNARY.clz[this.type])); }
  ctz(): Int<T> { return new Int(this.type, this.unary(UNARY.ctz[this.type])); }
  popcnt(): Int<T> { return new Int(this.type, this.unary(UNARY.popcnt[this.type])); }
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
    return this.and(bits <= 32 ? 0xffff_ffff >>> (32 - bits) : (1n << BigInt(bits)) - 1n);
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
