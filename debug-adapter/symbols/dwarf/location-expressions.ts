/** DWARF expressions (DWARF 5, 2.5 and 2.6): where a value is, or what it is. */

import { ByteReader, FormatError } from '../byte-reader.ts';
import { AT, ENCODING } from './constants.ts';
import { bitsOfFloat, floatOf } from './float.ts';
import type { Unit } from './unit.ts';

export type Location =
  | { readonly kind: 'memory'; readonly address: bigint }
  /** DWARF's number. */
  | { readonly kind: 'register'; readonly register: number }
  /** The value itself, which is nowhere in the machine: at most 8 bytes, or bytes that stand in the program. */
  | { readonly kind: 'value'; readonly bytes: Uint8Array }
  | { readonly kind: 'pieces'; readonly pieces: readonly Piece[] }
  /** A pointer whose target exists only in pieces: the entry's offset, and bytes into it. */
  | { readonly kind: 'implicitPointer'; readonly entry: number; readonly offset: number };

/** @property location undefined: this part has been optimised out. */
export interface Piece {
  readonly location: Location | undefined;
  readonly bits: number;
  /** Bits of the place below those that are meant. */
  readonly skipped: number;
}

/** Why a value cannot be had. @property message what stands in its place: 'optimised out', 'not saved', … */
export class Unavailable extends Error {}
export const OPTIMISED_OUT = 'optimised out';

/** What an expression may ask of its frame. Everything throws Unavailable where it has none. */
export interface ExpressionContext {
  /** Undefined for expressions of call-frame information, which name no types. */
  readonly unit: Unit | undefined;
  readonly addressSize: number;
  /** Run-time address of a linked one. */
  place(linked: bigint): bigint;
  /** Of a thread's own copy of a variable. @param offset from the beginning of what each thread has a copy of. */
  threadLocal(offset: bigint): bigint;
  register(number: number): bigint;
  read(address: bigint, bytes: number): Uint8Array;
  frameBase(): bigint;
  cfa(): bigint;
  /** What the expression gave when the function was entered. */
  entryValue(expression: Uint8Array): bigint;
  /** What the caller passed for a parameter that is told by its entry's offset in .debug_info. */
  parameterValue(entry: number): bigint;
}

interface BaseType {
  readonly bytes: number;
  readonly float: boolean;
  readonly signed: boolean;
}

/** An element of the stack: bits of its type's width; without a type an address-sized number. */
interface Operand {
  readonly bits: bigint;
  readonly type: BaseType | undefined;
}

/** More operations than any compiler writes: the program loops. */
const MOST_OPERATIONS = 10_000;

class Evaluation {
  readonly stack: Operand[] = [];
  readonly reader: ByteReader;
  readonly context: ExpressionContext;
  /** What the expression has said about the place that is described. */
  described: Location | undefined;
  readonly pieces: Piece[] = [];

  constructor(expression: Uint8Array, context: ExpressionContext) {
    this.reader = new ByteReader(expression);
    this.context = context;
  }

  get unit(): Unit {
    const { unit } = this.context;
    if (!unit) throw new FormatError('a DWARF expression refers to a unit that it does not have');
    return unit;
  }
  get addressBits(): number {
    return 8 * this.context.addressSize;
  }
  push(value: bigint, type?: BaseType): void {
    this.stack.push({ bits: BigInt.asUintN(type ? 8 * type.bytes : this.addressBits, value), type });
  }
  pop(): Operand {
    const operand = this.stack.pop();
    if (!operand) throw new FormatError('a DWARF expression finds its stack empty');
    return operand;
  }
  /** As a signed number, as the operations on untyped values see them (DWARF 5, 2.5.1.4). */
  popSigned(): bigint {
    const { bits, type } = this.pop();
    return type && !type.signed ? bits : BigInt.asIntN(type ? 8 * type.bytes : this.addressBits, bits);
  }
  pick(depth: number): void {
    const operand = this.stack.at(-1 - depth);
    if (!operand) throw new FormatError('a DWARF expression picks below its stack');
    this.stack.push(operand);
  }
  read(address: bigint, bytes: number): bigint {
    return numberOf(this.context.read(address, bytes));
  }
  block(length: number): Uint8Array {
    const start = this.reader.at;
    this.reader.skip(length);
    return this.reader.bytes.subarray(start, start + length);
  }
  /** The base type at an offset of the unit; 0 stands for the untyped one. */
  type(offset: number): BaseType | undefined {
    if (offset === 0) return undefined;
    const { unit } = this;
    const entry = unit.entryAt(unit.header.offset + offset);
    const encoding = entry.number(AT.encoding);
    return {
      bytes: entry.number(AT.byteSize) ?? 0,
      float: encoding === ENCODING.float,
      signed: encoding === ENCODING.signed || encoding === ENCODING.signedChar,
    };
  }

  run(): Location | undefined {
    if (this.reader.done) return undefined;
    for (let count = 0; !this.reader.done; count++) {
      if (count > MOST_OPERATIONS) throw new FormatError('a DWARF expression does not end');
      this.step(this.reader.u8());
    }
    return this.pieces.length > 0 ? { kind: 'pieces', pieces: this.pieces } : this.simple();
  }

  private step(code: number): void {
    if (code >= 0x30 && code < 0x50) this.push(BigInt(code - 0x30));
    else if (code >= 0x50 && code < 0x70) this.described = { kind: 'register', register: code - 0x50 };
    else if (code >= 0x70 && code < 0x90) this.push(this.context.register(code - 0x70) + this.reader.sleb());
    else {
      const operation = OPERATIONS[code];
      if (!operation) throw new Unavailable(`DWARF operation 0x${code.toString(16)} is not supported`);
      operation(this);
    }
  }

  /** The place that has been described so far; undefined when nothing was said: it is nowhere. */
  simple(): Location | undefined {
    if (this.described) return this.described;
    const top = this.stack.at(-1);
    return top && { kind: 'memory', address: top.bits };
  }
  piece(bits: number, skipped = 0): void {
    this.pieces.push({ location: this.simple(), bits, skipped });
    this.described = undefined;
    this.stack.length = 0;
  }
}

/** Little-endian. */
export function numberOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let index = bytes.length - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index] as number);
  return value;
}
export const bytesOf = (value: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn));

type Operation = (evaluation: Evaluation) => void;

/** Of two operands of one type: for whole numbers, and for floating-point ones where that is defined. */
function binary(
  whole: (a: bigint, b: bigint) => bigint,
  options: { readonly signed?: boolean; readonly float?: (a: number, b: number) => number } = {},
): Operation {
  return (e) => {
    const second = e.pop();
    const first = e.pop();
    const { type } = first;
    if (type?.float) {
      if (!options.float) throw new FormatError('a DWARF operation on floating-point values that has none');
      const result = options.float(floatOf(first.bits, type.bytes), floatOf(second.bits, type.bytes));
      e.push(bitsOfFloat(result, type.bytes), type);
      return;
    }
    const bits = type ? 8 * type.bytes : e.addressBits;
    const signed = options.signed === true || type?.signed === true;
    const number = (value: bigint): bigint => (signed ? BigInt.asIntN(bits, value) : value);
    e.push(whole(number(first.bits), number(second.bits)), type);
  };
}

function compare(whole: (a: bigint, b: bigint) => boolean, float: (a: number, b: number) => boolean): Operation {
  return (e) => {
    const second = e.pop();
    const first = e.pop();
    const { type } = first;
    const bits = type ? 8 * type.bytes : e.addressBits;
    const signed = type === undefined || type.signed;
    const number = (value: bigint): bigint => (signed ? BigInt.asIntN(bits, value) : value);
    const holds = type?.float
      ? float(floatOf(first.bits, type.bytes), floatOf(second.bits, type.bytes))
      : whole(number(first.bits), number(second.bits));
    e.push(holds ? 1n : 0n);
  };
}

function divide(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new FormatError('a DWARF expression divides by zero');
  return a / b;
}
function remainder(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new FormatError('a DWARF expression divides by zero');
  return a % b;
}
const shift = (count: bigint, go: () => bigint): bigint => (count < 0n || count > 64n ? 0n : go());

const constant =
  (read: (reader: ByteReader, e: Evaluation) => bigint): Operation =>
  (e) =>
    e.push(read(e.reader, e));
const unary =
  (apply: (value: bigint) => bigint, float?: (value: number) => number): Operation =>
  (e) => {
    const { bits, type } = e.pop();
    if (type?.float && float) e.push(bitsOfFloat(float(floatOf(bits, type.bytes)), type.bytes), type);
    else e.push(apply(BigInt.asIntN(type ? 8 * type.bytes : e.addressBits, bits)), type);
  };

function branch(e: Evaluation, taken: boolean): void {
  const distance = BigInt.asIntN(16, BigInt(e.reader.u16()));
  const to = e.reader.at + Number(distance);
  if (!taken) return;
  if (to < 0 || to > e.reader.bytes.length) throw new FormatError('a DWARF expression jumps out of itself');
  e.reader.at = to;
}

const link = (e: Evaluation, address: bigint): bigint => e.context.place(address);
const unavailable =
  (why: string): Operation =>
  () => {
    throw new Unavailable(why);
  };

const implicitPointer: Operation = (e) => {
  const { info, header } = e.unit;
  const { sizes, version } = header;
  const { offsetSize, addressSize } = sizes;
  const entry = version === 2 ? Number(e.reader.unsigned(addressSize)) : e.reader.offset(offsetSize);
  e.described = { kind: 'implicitPointer', entry: info.base + entry, offset: Number(e.reader.sleb()) };
};
const entryValue: Operation = (e) => e.push(e.context.entryValue(e.block(e.reader.count())));
const typedConstant: Operation = (e) => {
  const type = e.type(e.reader.count());
  e.push(numberOf(e.block(e.reader.u8())), type);
};
const typedRegister: Operation = (e) => {
  const value = e.context.register(e.reader.count());
  e.push(value, e.type(e.reader.count()));
};
const typedRead: Operation = (e) => {
  const size = e.reader.u8();
  const type = e.type(e.reader.count());
  e.push(e.read(e.pop().bits, size), type);
};
const convert: Operation = (e) => {
  const type = e.type(e.reader.count());
  const { bits, type: from } = e.pop();
  const whole = from?.float ? 0n : from?.signed ? BigInt.asIntN(8 * from.bytes, bits) : bits;
  const number = from?.float ? floatOf(bits, from.bytes) : Number(whole);
  if (type?.float) e.push(bitsOfFloat(number, type.bytes), type);
  else e.push(from?.float ? BigInt(Math.trunc(number) || 0) : whole, type);
};
const reinterpret: Operation = (e) => {
  const type = e.type(e.reader.count());
  e.push(e.pop().bits, type);
};
const indexedAddress: Operation = (e) => e.push(link(e, e.unit.indexedAddress(e.reader.uleb())));
const indexedConstant: Operation = (e) => e.push(e.unit.indexedAddress(e.reader.uleb()));
const threadLocal: Operation = (e) => e.push(e.context.threadLocal(e.pop().bits));
const nothing: Operation = () => {};

/** DW_OP codes but for the numbered literals and registers, which Evaluation.step knows; with GNU's forerunners. */
const OPERATIONS: Readonly<Record<number, Operation>> = {
  3: (e) => e.push(link(e, e.reader.unsigned(e.context.addressSize))),
  6: (e) => e.push(e.read(e.pop().bits, e.context.addressSize)),
  8: constant((reader) => BigInt(reader.u8())),
  9: constant((reader) => BigInt(reader.i8())),
  10: constant((reader) => BigInt(reader.u16())),
  11: constant((reader) => BigInt.asIntN(16, BigInt(reader.u16()))),
  12: constant((reader) => BigInt(reader.u32())),
  13: constant((reader) => BigInt.asIntN(32, BigInt(reader.u32()))),
  14: constant((reader) => reader.u64()),
  15: constant((reader) => reader.i64()),
  16: constant((reader) => reader.uleb()),
  17: constant((reader) => reader.sleb()),
  18: (e) => e.pick(0),
  19: (e) => {
    e.pop();
  },
  20: (e) => e.pick(1),
  21: (e) => e.pick(e.reader.u8()),
  22: (e) => {
    const [top, below] = [e.pop(), e.pop()];
    e.stack.push(top, below);
  },
  23: (e) => {
    const [first, second, third] = [e.pop(), e.pop(), e.pop()];
    e.stack.push(first, third, second);
  },
  25: unary((value) => (value < 0n ? -value : value), Math.abs),
  26: binary((a, b) => a & b),
  27: binary(divide, { signed: true, float: (a, b) => a / b }),
  28: binary((a, b) => a - b, { float: (a, b) => a - b }),
  29: binary(remainder),
  30: binary((a, b) => a * b, { float: (a, b) => a * b }),
  31: unary(
    (value) => -value,
    (value) => -value,
  ),
  32: unary((value) => ~value),
  33: binary((a, b) => a | b),
  34: binary((a, b) => a + b, { float: (a, b) => a + b }),
  35: (e) => {
    const { bits, type } = e.pop();
    e.push(bits + e.reader.uleb(), type);
  },
  36: binary((a, b) => shift(b, () => a << b)),
  37: binary((a, b) => shift(b, () => a >> b)),
  38: (e) => {
    const count = e.pop().bits;
    const { type } = e.stack.at(-1) ?? { type: undefined };
    const value = e.popSigned();
    e.push(count > 64n ? (value < 0n ? -1n : 0n) : value >> count, type);
  },
  39: binary((a, b) => a ^ b),
  40: (e) => branch(e, e.pop().bits !== 0n),
  41: compare(
    (a, b) => a === b,
    (a, b) => a === b,
  ),
  42: compare(
    (a, b) => a >= b,
    (a, b) => a >= b,
  ),
  43: compare(
    (a, b) => a > b,
    (a, b) => a > b,
  ),
  44: compare(
    (a, b) => a <= b,
    (a, b) => a <= b,
  ),
  45: compare(
    (a, b) => a < b,
    (a, b) => a < b,
  ),
  46: compare(
    (a, b) => a !== b,
    (a, b) => a !== b,
  ),
  47: (e) => branch(e, true),
  144: (e) => {
    e.described = { kind: 'register', register: e.reader.count() };
  },
  145: (e) => e.push(e.context.frameBase() + e.reader.sleb()),
  146: (e) => {
    const register = e.reader.count();
    e.push(e.context.register(register) + e.reader.sleb());
  },
  147: (e) => e.piece(8 * e.reader.count()),
  148: (e) => {
    const size = e.reader.u8();
    e.push(e.read(e.pop().bits, size));
  },
  150: nothing,
  151: unavailable('it depends on an object that is not known'),
  155: threadLocal,
  156: (e) => e.push(e.context.cfa()),
  157: (e) => e.piece(e.reader.count(), e.reader.count()),
  158: (e) => {
    e.described = { kind: 'value', bytes: e.block(e.reader.count()) };
  },
  159: (e) => {
    const { bits, type } = e.pop();
    e.described = { kind: 'value', bytes: bytesOf(bits, type?.bytes ?? 8) };
  },
  160: implicitPointer,
  161: indexedAddress,
  162: indexedConstant,
  163: entryValue,
  164: typedConstant,
  165: typedRegister,
  166: typedRead,
  168: convert,
  169: reinterpret,
  224: threadLocal,
  242: implicitPointer,
  243: entryValue,
  244: typedConstant,
  245: typedRegister,
  246: typedRead,
  247: convert,
  249: reinterpret,
  250: (e) => e.push(e.context.parameterValue(e.unit.header.offset + e.reader.u32())),
  251: indexedAddress,
  252: indexedConstant,
};

/**
 * Evaluates a location expression.
 * @returns undefined when the value has been optimised out.
 * @throws Unavailable when the frame does not have what it takes; FormatError when it makes no sense.
 */
export function locate(expression: Uint8Array, context: ExpressionContext): Location | undefined {
  return new Evaluation(expression, context).run();
}

/** An expression whose result is a number: a CFA, a frame base, a register's value, a call site's parameter. */
export function compute(expression: Uint8Array, context: ExpressionContext, initial?: bigint): bigint {
  const evaluation = new Evaluation(expression, context);
  if (initial !== undefined) evaluation.push(initial);
  const location = evaluation.run();
  if (!location) throw new Unavailable(OPTIMISED_OUT);
  if (location.kind === 'register') return context.register(location.register);
  if (location.kind === 'memory') return location.address;
  if (location.kind === 'value') return numberOf(location.bytes);
  throw new Unavailable('it is in pieces');
}
