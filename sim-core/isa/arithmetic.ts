import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, i64, select, type Word } from '../engine/value.ts';
import { GPR } from '../state/layout.ts';
import { bitsOf, signExtended, toWord, truncated } from './word.ts';

/** Integer arithmetic and logic (SDM Vol. 2), one row an instruction. */

type Size = 1 | 2 | 4 | 8;

/** dst = dst ∘ src with flags; `store` false for CMP and TEST. */
const binary =
  (
    compute: (a: Word, b: Word, stage: Stage) => Word,
    flags: (stage: Stage, size: number, a: Word, b: Word, result: Word) => void,
    store = true,
  ): Semantics =>
  (stage) => {
    const target = stage.operand(0, store ? 'modify' : 'read');
    const a = target.read();
    const b = stage.operand(1, 'read').read();
    const result = stage.code.let(truncated(target.size, compute(a, b, stage)));
    if (store) target.write(result);
    flags(stage, target.size, a, b, result);
  };

const addFlags = (s: Stage, size: number, a: Word, b: Word, result: Word) => s.flags.add(size, a, b, result);
const subFlags = (s: Stage, size: number, a: Word, b: Word, result: Word) => s.flags.sub(size, a, b, result);
const adcFlags = (s: Stage, size: number, a: Word, b: Word, result: Word) => s.flags.addCarry(size, a, b, result);
const sbbFlags = (s: Stage, size: number, a: Word, b: Word, result: Word) => s.flags.subBorrow(size, a, b, result);
const logicFlags = (s: Stage, size: number, _a: Word, _b: Word, result: Word) => s.flags.logic(size, result);

/** CF as an integer of the operands' type. */
const carryLike = (stage: Stage, word: Word): Word => toWord(stage.flags.carry(), word.type);

const add = binary((a, b) => a.add(b), addFlags);
const adc = binary((a, b, s) => a.add(b).add(carryLike(s, a)), adcFlags);
const sub = binary((a, b) => a.sub(b), subFlags);
const sbb = binary((a, b, s) => a.sub(b).sub(carryLike(s, a)), sbbFlags);
const cmp = binary((a, b) => a.sub(b), subFlags, false);
const and = binary((a, b) => a.and(b), logicFlags);
const or = binary((a, b) => a.or(b), logicFlags);
const xor = binary((a, b) => a.xor(b), logicFlags);
const test = binary((a, b) => a.and(b), logicFlags, false);

const inc: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const a = target.read();
  const result = s.code.let(truncated(target.size, a.add(1)));
  target.write(result);
  s.flags.increment(target.size, a, result);
};

const dec: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const a = target.read();
  const result = s.code.let(truncated(target.size, a.sub(1)));
  target.write(result);
  s.flags.decrement(target.size, a, result);
};

const neg: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const a = target.read();
  const result = s.code.let(truncated(target.size, a.negate()));
  target.write(result);
  s.flags.sub(target.size, a.like(0), a, result);
};

const not: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  target.write(s.code.let(truncated(target.size, target.read().not())));
};

// ---- multiplication

/** High 64 bits of the unsigned product, by 32-bit halves. */
export function highUnsigned(s: Stage, a: I64, b: I64): I64 {
  const keep = (value: I64) => s.code.let(value);
  const aLow = keep(a.zeroExtend(32));
  const aHigh = keep(a.shrU(32));
  const bLow = keep(b.zeroExtend(32));
  const bHigh = keep(b.shrU(32));
  const low = keep(aLow.mul(bLow).shrU(32).add(aHigh.mul(bLow)));
  const middle = keep(low.zeroExtend(32).add(aLow.mul(bHigh)));
  return keep(aHigh.mul(bHigh).add(low.shrU(32)).add(middle.shrU(32)));
}

function highSigned(s: Stage, a: I64, b: I64): I64 {
  const zero = i64(0);
  return s.code.let(
    highUnsigned(s, a, b)
      .sub(select(a.ltS(0), b, zero))
      .sub(select(b.ltS(0), a, zero)),
  );
}

/** rDX:rAX (AX for bytes) = rAX × operand; CF = OF = the high half matters. */
const widening =
  (isSigned: boolean): Semantics =>
  (s) => {
    const source = s.operand(0, 'read');
    const size = source.size as Size;
    const b = source.read();
    const a = s.gpr(GPR.rax, size).read();
    if (size === 8) {
      const low = s.code.let(a.mul(b));
      const high = isSigned ? highSigned(s, a as I64, b as I64) : highUnsigned(s, a as I64, b as I64);
      const lost = s.code.let(isSigned ? high.ne((low as I64).shrS(63)) : high.ne(0));
      s.gpr(GPR.rax, 8).write(low);
      s.gpr(GPR.rdx, 8).write(high);
      s.flags.result(8, low, lost, lost);
      return;
    }
    const bits = bitsOf(size);
    const extend = (word: Word): I64 => (isSigned ? signExtended(size, word).extendS() : word.extendU());
    const product = s.code.let(extend(a).mul(extend(b)));
    const low = s.code.let(truncated(size, product.wrap()));
    const back = isSigned ? signExtended(size, low).extendS() : low.extendU();
    const lost = s.code.let(back.ne(product));
    if (size === 1) s.gpr(GPR.rax, 2).write(product.wrap());
    else {
      s.gpr(GPR.rax, size).write(low);
      s.gpr(GPR.rdx, size).write(truncated(size, product.shrU(bits).wrap()));
    }
    s.flags.result(size, low, lost, lost);
  };

/** IMUL r, r/m and IMUL r, r/m, imm: truncated product, CF = OF = it was truncated. */
const imul: Semantics = (s) => {
  if (s.form.operands.length === 1) return widening(true)(s);
  const three = s.form.operands.length === 3;
  const source = s.operand(1, 'read');
  const size = source.size;
  const target = s.operand(0, 'modify');
  const a = three ? s.operand(2, 'read').read() : target.read();
  const b = source.read();
  if (size === 8) {
    const low = s.code.let(a.mul(b));
    const lost = s.code.let(highSigned(s, a as I64, b as I64).ne((low as I64).shrS(63)));
    target.write(low);
    s.flags.result(8, low, lost, lost);
    return;
  }
  const product = s.code.let(signExtended(size, a).extendS().mul(signExtended(size, b).extendS()));
  const low = s.code.let(truncated(size, product.wrap()));
  const lost = s.code.let(signExtended(size, low).extendS().ne(product));
  target.write(low);
  s.flags.result(size, low, lost, lost);
};

// ---- division: the usual quotients here, #DE and 128-bit dividends in the slow instruction

/** The dividend rDX:rAX of a division of up to 4 bytes, as 64 bits. */
function dividend(s: Stage, size: Size, isSigned: boolean): I64 {
  if (size === 1) {
    const ax = s.gpr(GPR.rax, 2).read();
    return s.code.let(isSigned ? ax.signExtend(16).extendS() : ax.extendU());
  }
  const low = s.gpr(GPR.rax, size).read().extendU();
  const high = s.gpr(GPR.rdx, size).read();
  const upper = isSigned ? signExtended(size, high).extendS() : high.extendU();
  return s.code.let(upper.shl(bitsOf(size)).or(low));
}

function writeQuotient(s: Stage, size: Size, quotient: Word, remainder: Word): void {
  if (size === 1) {
    s.gpr(GPR.rax, 2).write(truncated(1, quotient.wrap()).or(truncated(1, remainder.wrap()).shl(8)));
    return;
  }
  const narrow = (word: Word): Word => (size === 8 ? word : truncated(size, word.wrap()));
  s.gpr(GPR.rax, size).write(narrow(quotient));
  s.gpr(GPR.rdx, size).write(narrow(remainder));
}

const div: Semantics = (s) => {
  const source = s.operand(0, 'read');
  const size = source.size as Size;
  const b = source.read();
  if (size === 8) {
    const a = s.gpr(GPR.rax, 8).read();
    s.slowIf(b.eqz().or(s.gpr(GPR.rdx, 8).read().ne(0)));
    writeQuotient(s, 8, s.code.let(a.divU(b)), s.code.let(a.remU(b)));
    return;
  }
  const divisor = s.code.let(b.extendU());
  const a = dividend(s, size, false);
  // The quotient fits when the dividend's upper half is below the divisor.
  s.slowIf(a.shrU(bitsOf(size)).geU(divisor));
  writeQuotient(s, size, s.code.let(a.divU(divisor)), s.code.let(a.remU(divisor)));
};

const idiv: Semantics = (s) => {
  const source = s.operand(0, 'read');
  const size = source.size as Size;
  const b = source.read();
  const divisor = s.code.let(signExtended(size, b).extendS());
  // Division by -1 may overflow, which WebAssembly traps on.
  s.slowIf(divisor.eqz().or(divisor.eq(-1)));
  const a = size === 8 ? (s.gpr(GPR.rax, 8).read() as I64) : dividend(s, size, true);
  if (size === 8) s.slowIf(s.gpr(GPR.rdx, 8).read().ne(a.shrS(63)));
  const quotient = s.code.let(a.divS(divisor));
  if (size !== 8) s.slowIf(signExtended(size, quotient.wrap()).extendS().ne(quotient));
  writeQuotient(s, size, quotient, s.code.let(a.remS(divisor)));
};

// ---- sign extension of the accumulator

const extendAccumulator =
  (from: Size, to: Size): Semantics =>
  (s) => {
    const value = signExtended(from, s.gpr(GPR.rax, from).read());
    s.gpr(GPR.rax, to).write(to === 8 ? value.extendS() : truncated(to, value));
  };

/** CWD, CDQ, CQO: rDX = the sign of rAX. */
const signToDx =
  (size: Size): Semantics =>
  (s) => {
    const value = signExtended(size, s.gpr(GPR.rax, size).read());
    s.gpr(GPR.rdx, size).write(truncated(size, value.shrS(size === 8 ? 63 : 31)));
  };

// ---- exchange and add, compare and exchange

const xadd: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const source = s.operand(1, 'modify');
  const a = target.read();
  const b = source.read();
  const result = s.code.let(truncated(target.size, a.add(b)));
  source.write(a);
  target.write(result);
  s.flags.add(target.size, a, b, result);
};

const cmpxchg: Semantics = (s) => {
  const target = s.operand(0, 'modify');
  const size = target.size as Size;
  const accumulator = s.gpr(GPR.rax, size);
  const a = accumulator.read();
  const b = target.read();
  const equal = s.code.let(a.eq(b));
  const source = s.operand(1, 'read').read();
  s.when(
    equal,
    () => target.write(source),
    () => {
      // Memory is written in any case; a register is not touched, its upper half not cleared.
      if (s.form.operands[0]?.kind === 'memory') target.write(b);
      accumulator.write(b);
    },
  );
  s.flags.sub(size, a, b, s.code.let(truncated(size, a.sub(b))));
};

// ---- bit counts

/** ZF from the source and the result; the other flags cleared. */
const zeroFlagOnly = (s: Stage, zero: I32) => s.flags.unpack(zero.shl(6));

const popcnt: Semantics = (s) => {
  const source = s.operand(1, 'read').read();
  s.operand(0, 'write').write(source.popcnt());
  zeroFlagOnly(s, source.eqz());
};

/** LZCNT and TZCNT: CF = source is zero, ZF = result is zero. */
const countZeros =
  (count: (size: number, source: Word) => Word): Semantics =>
  (s) => {
    const source = s.operand(1, 'read');
    const value = source.read();
    const result = s.code.let(count(source.size, value));
    s.operand(0, 'write').write(result);
    s.flags.result(source.size, result, value.eqz(), i32(0));
  };

/** A bit above the operand stops the count at its width. */
const trailingZeros = (size: number, value: Word): Word => (size < 4 ? value.or(1 << bitsOf(size)).ctz() : value.ctz());
const leadingZeros = (size: number, value: Word): Word => (size < 4 ? value.clz().sub(32 - bitsOf(size)) : value.clz());

/** BSF and BSR: a zero source sets ZF and leaves the destination. */
const bitScan =
  (find: (size: number, source: Word) => Word): Semantics =>
  (s) => {
    const source = s.operand(1, 'read');
    const value = source.read();
    const zero = s.code.let(value.eqz());
    s.when(zero.eqz(), () => s.operand(0, 'write').write(find(source.size, value)));
    s.flags.result(source.size, value, i32(0), i32(0));
    s.flags.setZero(zero);
  };

export const ARITHMETIC = {
  Add: add, Adc: adc, Sub: sub, Sbb: sbb, Cmp: cmp, And: and, Or: or, Xor: xor, Test: test,
  Inc: inc, Dec: dec, Neg: neg, Not: not,
  Mul: widening(false), Imul: imul, Div: div, Idiv: idiv,
  Cbw: extendAccumulator(1, 2), Cwde: extendAccumulator(2, 4), Cdqe: extendAccumulator(4, 8),
  Cwd: signToDx(2), Cdq: signToDx(4), Cqo: signToDx(8),
  Xadd: xadd, Cmpxchg: cmpxchg,
  Popcnt: popcnt, Tzcnt: countZeros(trailingZeros), Lzcnt: countZeros(leadingZeros),
  Bsf: bitScan((_size, value) => value.ctz()),
  Bsr: bitScan((_size, value) => value.clz().xor(value.type === 'i64' ? 63 : 31)),
} satisfies Record<string, Semantics>; // biome-ignore format: a table reads better in rows
