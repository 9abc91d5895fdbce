import type { Callee, Code, Variable } from './code.ts';
import { LazyFlags, memoryFlagCells } from './flags.ts';
import type { Flags } from './stage.ts';
import { type I32, type I64, i32, type Word } from './value.ts';

/**
 * Status flags in compiled code. While staging, the last producer is known and conditions are computed from its
 * operands; where control flow joins, the producer travels in four locals; memory gets the three cells of
 * engine/flags.ts only when compiled code is left (or something rare asks for them).
 */

/**
 * What the locals `a`, `b`, `result` mean; numbered in order from 0. `memory`: nothing, the cells in memory are
 * current.
 */
const PRODUCER = {
  memory: 0,
  add: 1,
  sub: 2,
  logic: 3,
  increment: 4,
  decrement: 5,
  given: 6,
  adc: 7,
  sbb: 8,
} as const;
type ProducerKind = keyof typeof PRODUCER;

interface Producer {
  readonly kind: ProducerKind;
  readonly size: number;
  /** First operand; the carry (0 or 1) for increment, decrement and given. */
  readonly a: Word;
  /** Second operand; the overflow for given. */
  readonly b: Word;
  readonly result: Word;
}

/** How many of `a` and `b` a producer's flags depend on. */
const OPERANDS: Readonly<Record<ProducerKind, 0 | 1 | 2>> = {
  memory: 0,
  add: 2,
  sub: 2,
  logic: 0,
  increment: 1,
  decrement: 1,
  given: 2,
  adc: 2,
  sbb: 2,
};

const NONE = i32(0);
const MEMORY: Producer = { kind: 'memory', size: 4, a: NONE, b: NONE, result: NONE };

/** Producer number as the locals carry it: kind × 4 + log2(size). */
const producerCode = (producer: Producer): number => PRODUCER[producer.kind] * 4 + Math.log2(producer.size);

export interface FlagLocals {
  readonly kind: Variable<'i32'>;
  readonly a: Variable<'i64'>;
  readonly b: Variable<'i64'>;
  readonly result: Variable<'i64'>;
}

/** Puts a value into a local. @returns it as the local, or the constant that it is, has it */
function keep(local: Variable<'i64'>, value: Word): Word {
  local.set(value.extendU());
  if (value.constant !== undefined) return value;
  return value.type === 'i64' ? local.get() : local.get().wrap();
}

/** Sign-extends the low `size` bytes within the word's type. */
const signed = (size: number, word: Word): Word =>
  size === 1 ? word.signExtend(8) : size === 2 ? word.signExtend(16) : word;

export class CompiledFlags implements Flags {
  private readonly code: Code;
  private readonly locals: FlagLocals;
  /** store(kind, a, b, result): writes the cells in memory. */
  private readonly storeCells: Callee;
  private readonly cells: LazyFlags;
  /** Undefined where only the locals know. */
  private producer: Producer | undefined;

  constructor(code: Code, locals: FlagLocals, storeCells: Callee) {
    this.code = code;
    this.locals = locals;
    this.storeCells = storeCells;
    this.cells = new LazyFlags(code, memoryFlagCells(code));
  }

  // ---- at the borders of straight-line code

  /** The start of a block: the producer is whatever the locals say. */
  enterBlock(): void {
    this.producer = undefined;
  }

  /** Makes the locals say what the producer is (its values are in them); without effect on what is known here. */
  settle(): void {
    const { producer, locals } = this;
    if (!producer) return;
    locals.kind.set(i32(producerCode(producer)));
  }

  /** Builds a conditional statement whose branches may set flags; `branch` wraps each of them. */
  conditionally(build: (branch: (emit: () => void) => () => void) => void): void {
    this.settle();
    const before = this.producer;
    let changed = false;
    build((emit) => () => {
      this.producer = before;
      emit();
      if (this.producer === before) return;
      this.settle();
      changed = true;
    });
    this.producer = changed ? undefined : before;
  }

  /** The cells in memory, made current. */
  private inMemory(): LazyFlags {
    if (this.producer?.kind !== 'memory') {
      this.settle();
      const { kind, a, b, result } = this.locals;
      this.code.do(this.storeCells, [kind.get(), a.get(), b.get(), result.get()]);
      this.locals.kind.set(i32(0));
      this.producer = MEMORY;
    }
    return this.cells;
  }

  private produce(kind: ProducerKind, size: number, a: Word, b: Word, result: Word): void {
    const { locals } = this;
    const operands = OPERANDS[kind];
    this.producer = {
      kind,
      size,
      a: operands > 0 ? keep(locals.a, a) : a,
      b: operands > 1 ? keep(locals.b, b) : b,
      result: keep(locals.result, result),
    };
  }

  // ---- producers

  add(size: number, a: Word, b: Word, result: Word): void {
    this.produce('add', size, a, b, result);
  }
  sub(size: number, a: Word, b: Word, result: Word): void {
    this.produce('sub', size, a, b, result);
  }
  addCarry(size: number, a: Word, b: Word, result: Word): void {
    this.produce('adc', size, a, b, result);
  }
  subBorrow(size: number, a: Word, b: Word, result: Word): void {
    this.produce('sbb', size, a, b, result);
  }
  logic(size: number, result: Word): void {
    this.produce('logic', size, NONE, NONE, result);
  }
  increment(size: number, _a: Word, result: Word): void {
    this.produce('increment', size, this.carry(), NONE, result);
  }
  decrement(size: number, _a: Word, result: Word): void {
    this.produce('decrement', size, this.carry(), NONE, result);
  }
  result(size: number, result: Word, carry: I32, overflow: I32): void {
    this.produce('given', size, carry, overflow, result);
  }
  setCarry(carry: I32): void {
    const kept = this.code.let(carry);
    this.inMemory().setCarry(kept);
  }
  setCarryOverflow(carry: I32, overflow: I32): void {
    const keptCarry = this.code.let(carry);
    const keptOverflow = this.code.let(overflow);
    this.inMemory().setCarryOverflow(keptCarry, keptOverflow);
  }
  setZero(zero: I32): void {
    const kept = this.code.let(zero);
    this.inMemory().setZero(kept);
  }
  pack(): I32 {
    return this.inMemory().pack();
  }
  unpack(value: I32): void {
    const kept = this.code.let(value);
    this.inMemory().unpack(kept);
  }

  // ---- conditions

  carry(): I32 {
    return this.condition(2);
  }

  condition(cc: number): I32 {
    const { producer } = this;
    if (!producer || producer.kind === 'memory') return this.code.let(this.inMemory().condition(cc));
    const base = baseCondition(producer, cc >> 1);
    return this.code.let((cc & 1) === 0 ? base : base.eqz());
  }
}

/** Overflow, carry, zero, below-or-equal, sign, parity, less, less-or-equal of a known producer. */
function baseCondition(producer: Producer, pair: number): I32 {
  switch (pair) {
    case 0:
      return overflowOf(producer);
    case 1:
      return carryOf(producer);
    case 2:
      return producer.result.eqz();
    case 3:
      return producer.kind === 'sub' ? producer.a.leU(producer.b) : carryOf(producer).or(producer.result.eqz());
    case 4:
      return signOf(producer);
    case 5:
      return producer.result.wrap().and(0xff).popcnt().and(1).xor(1);
    case 6:
      return lessOf(producer);
    default:
      return lessOrEqualOf(producer);
  }
}

function lessOf(producer: Producer): I32 {
  const { kind, size, a, b } = producer;
  if (kind === 'logic') return signOf(producer);
  if (kind === 'sub') return signed(size, a).ltS(signed(size, b));
  return signOf(producer).xor(overflowOf(producer));
}

function lessOrEqualOf(producer: Producer): I32 {
  const { kind, size, a, b } = producer;
  if (kind === 'sub') return signed(size, a).leS(signed(size, b));
  return producer.result.eqz().or(lessOf(producer));
}

const topBitOf = (size: number, word: Word): I32 =>
  word
    .shrU(8 * size - 1)
    .wrap()
    .and(1);

function signOf({ size, result }: Producer): I32 {
  return size >= 4 ? result.ltS(0) : topBitOf(size, result);
}

function carryOf({ kind, size, a, b, result }: Producer): I32 {
  switch (kind) {
    case 'add':
      return result.ltU(a);
    case 'sub':
      return a.ltU(b);
    case 'adc':
      return topBitOf(size, a.and(b).or(a.or(b).and(result.not())));
    case 'sbb':
      return topBitOf(size, a.not().and(b).or(a.not().or(b).and(result)));
    case 'logic':
      return i32(0);
    default:
      return a.wrap();
  }
}

function overflowOf({ kind, size, a, b, result }: Producer): I32 {
  switch (kind) {
    case 'add':
    case 'adc':
      return topBitOf(size, a.xor(result).and(b.xor(result)));
    case 'sub':
    case 'sbb':
      return topBitOf(size, a.xor(b).and(a.xor(result)));
    case 'logic':
      return i32(0);
    case 'increment':
      return result.eq(minimum(size, result));
    case 'decrement':
      return result.eq(minimum(size, result).sub(1));
    default:
      return b.wrap();
  }
}

/** The most negative value of the size, zero-extended. */
const minimum = (size: number, like: Word): Word => like.like(1n << BigInt(8 * size - 1));

/**
 * The function store(kind, a, b, result) of the core module: writes the three cells of engine/flags.ts from a producer
 * as the locals carry it.
 */
export function storeCellsFunction(code: Code): void {
  const values = [1, 2, 3].map((i) => code.parameter(i, 'i64')) as [I64, I64, I64];
  const flags = new LazyFlags(code, memoryFlagCells(code));
  const kinds = Object.keys(PRODUCER) as ProducerKind[];
  const cases = kinds.flatMap((kind) =>
    [1, 2, 4, 8].map((size) => () => {
      const [a, b, result] = values.map((value) => (size === 8 ? value : value.wrap())) as [Word, Word, Word];
      if (kind !== 'memory') writeCells(code, flags, kind, size, a, b, result);
      code.return();
    }),
  );
  code.switch(code.parameter(0, 'i32'), cases);
}

function writeCells(
  code: Code,
  flags: LazyFlags,
  kind: ProducerKind,
  size: number,
  a: Word,
  b: Word,
  result: Word,
): void {
  switch (kind) {
    case 'add':
    case 'adc':
      return flags.add(size, a, b, result);
    case 'sub':
    case 'sbb':
      return flags.sub(size, a, b, result);
    case 'logic':
      return flags.logic(size, result);
    case 'given':
      return flags.result(size, result, a.wrap(), b.wrap());
    case 'increment':
    case 'decrement': {
      // The cells' own increment keeps the carry that is in memory.
      flags.setCarryOverflow(a.wrap(), i32(0));
      const before = code.let(kind === 'increment' ? result.sub(1) : result.add(1));
      if (kind === 'increment') flags.increment(size, before, result);
      else flags.decrement(size, before, result);
      return;
    }
    case 'memory':
      return;
  }
}
