import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, select, type Word } from '../engine/value.ts';
import { bitsOf, signExtended, topBit, toWord, truncated } from './word.ts';

/** Shifts, rotates and bit tests (SDM Vol. 2). A count of 0 changes no flag. */

interface Shifted {
  readonly result: Word;
  readonly carry: I32;
  readonly overflow: I32;
}

/** dst = f(dst, count & 31 or 63); `arithmetic` also sets SF, ZF, PF. */
const shift =
  (compute: (s: Stage, size: number, value: Word, count: Word) => Shifted, arithmetic: boolean): Semantics =>
  (s) => {
    const target = s.operand(0, 'modify');
    const size = target.size;
    const value = target.read();
    const amount = s
      .operand(1, 'read')
      .read()
      .and(size === 8 ? 63 : 31);
    const count = s.code.let(toWord(amount, value.type));
    const { result, carry, overflow } = compute(s, size, value, count);
    target.write(result);
    s.when(count.ne(0), () => {
      if (arithmetic) s.flags.result(size, result, carry, overflow);
      else s.flags.setCarryOverflow(s.code.let(carry), s.code.let(overflow));
    });
  };

const shl = shift((s, size, value, count) => {
  if (size === 8) {
    const result = s.code.let(value.shl(count));
    const carry = s.code.let(value.shrU(count.like(64).sub(count)).wrap().and(1));
    return { result, carry, overflow: s.code.let(topBit(8, result).xor(carry)) };
  }
  const wide = s.code.let(value.extendU().shl(count.extendU()));
  const result = s.code.let(truncated(size, wide.wrap()));
  const carry = s.code.let(wide.shrU(bitsOf(size)).wrap().and(1));
  return { result, carry, overflow: s.code.let(topBit(size, result).xor(carry)) };
}, true);

const shr = shift((s, size, value, count) => {
  const result = s.code.let(value.shrU(count));
  const carry = s.code.let(value.shrU(count.sub(1)).wrap().and(1));
  return { result, carry, overflow: s.code.let(topBit(size, value)) };
}, true);

const sar = shift((s, size, value, count) => {
  const extended = s.code.let(signExtended(size, value));
  const result = s.code.let(truncated(size, extended.shrS(count)));
  const carry = s.code.let(extended.shrS(count.sub(1)).wrap().and(1));
  return { result, carry, overflow: i32(0) };
}, true);

/** Rotates a narrow value by repeating it across the i32; the count is taken modulo the size. */
function rotated(s: Stage, size: number, value: Word, count: Word, left: boolean): Word {
  if (size >= 4) return s.code.let(left ? value.rotl(count) : value.rotr(count));
  const bits = bitsOf(size);
  const twice = value.or(value.shl(bits));
  const repeated = s.code.let(size === 1 ? twice.or(twice.shl(16)) : twice);
  return s.code.let(truncated(size, left ? repeated.rotl(count) : repeated.rotr(count)));
}

const rol = shift((s, size, value, count) => {
  const result = rotated(s, size, value, count, true);
  const carry = s.code.let(result.wrap().and(1));
  return { result, carry, overflow: topBit(size, result).xor(carry) };
}, false);

const ror = shift((s, size, value, count) => {
  const result = rotated(s, size, value, count, false);
  const carry = s.code.let(topBit(size, result));
  return {
    result,
    carry,
    overflow: carry.xor(
      result
        .shrU(bitsOf(size) - 2)
        .wrap()
        .and(1),
    ),
  };
}, false);

/** RCL and RCR rotate size·8 + 1 bits. Operands up to 4 bytes fit in 64 bits together with CF. */
function rotateThroughCarry(s: Stage, size: number, value: Word, count: Word, left: boolean): Shifted {
  const carryIn = s.code.let(s.flags.carry().extendU());
  const { result, carry } =
    size === 8
      ? wideThroughCarry(s, value as I64, count as I64, carryIn, left)
      : narrowThroughCarry(s, size, value, count, carryIn, left);
  const top = topBit(size, result);
  return {
    result,
    carry,
    overflow: left
      ? top.xor(carry)
      : top.xor(
          result
            .shrU(bitsOf(size) - 2)
            .wrap()
            .and(1),
        ),
  };
}

function narrowThroughCarry(s: Stage, size: number, value: Word, count: Word, carryIn: I64, left: boolean) {
  const width = bitsOf(size) + 1;
  const whole = s.code.let(value.extendU().or(carryIn.shl(bitsOf(size))));
  const turns = s.code.let(size === 4 ? count.extendU() : count.remU(width).extendU());
  const back = turns.like(width).sub(turns);
  const turned = s.code.let(
    (left ? whole.shl(turns).or(whole.shrU(back)) : whole.shrU(turns).or(whole.shl(back))).zeroExtend(width),
  );
  return { result: s.code.let(truncated(size, turned.wrap())), carry: s.code.let(turned.shrU(bitsOf(size)).wrap()) };
}

function wideThroughCarry(s: Stage, value: I64, count: I64, carryIn: I64, left: boolean) {
  const back = s.code.let(count.like(64).sub(count));
  const turned = left
    ? value
        .shl(count)
        .or(carryIn.shl(count.sub(1)))
        .or(value.shrU(1).shrU(back))
    : value.shrU(count).or(carryIn.shl(back)).or(value.shl(1).shl(back));
  const out = left ? value.shrU(back) : value.shrU(count.sub(1));
  const result = s.code.let(select(count.eqz(), value, turned));
  return { result, carry: s.code.let(out.wrap().and(1)) };
}

const rcl = shift((s, size, value, count) => rotateThroughCarry(s, size, value, count, true), false);
const rcr = shift((s, size, value, count) => rotateThroughCarry(s, size, value, count, false), false);

/** SHLD and SHRD: `count` bits come in from the source. */
const doubleShift =
  (left: boolean): Semantics =>
  (s) => {
    const target = s.operand(0, 'modify');
    const size = target.size;
    const a = target.read();
    const b = s.operand(1, 'read').read();
    const count = s.code.let(
      toWord(
        s
          .operand(2, 'read')
          .read()
          .and(size === 8 ? 63 : 31),
        a.type,
      ),
    );
    s.when(count.ne(0), () => {
      const { result, carry } = size === 2 ? shift16(s, a, b, count, left) : shiftWide(s, size, a, b, count, left);
      target.write(result);
      s.flags.result(size, result, carry, s.code.let(topBit(size, result).xor(topBit(size, a))));
    });
    if (size === 4) s.when(count.eqz(), () => target.write(a));
  };

function shiftWide(s: Stage, size: number, a: Word, b: Word, count: Word, left: boolean) {
  const back = s.code.let(a.like(bitsOf(size)).sub(count));
  const result = s.code.let(left ? a.shl(count).or(b.shrU(back)) : a.shrU(count).or(b.shl(back)));
  const carry = s.code.let((left ? a.shrU(back) : a.shrU(count.sub(1))).wrap().and(1));
  return { result, carry };
}

/** Counts above 16 shift in the destination again, as processors do (the manual leaves it undefined). */
function shift16(s: Stage, a: Word, b: Word, count: Word, left: boolean) {
  const wide = (high: Word, middle: Word, low: Word): I64 =>
    s.code.let(high.extendU().shl(32).or(middle.extendU().shl(16)).or(low.extendU()));
  const turns = count.extendU();
  if (left) {
    const shifted = s.code.let(wide(a, b, a).shl(turns));
    return {
      result: s.code.let(shifted.shrU(32).wrap().and(0xffff)),
      carry: s.code.let(shifted.shrU(48).wrap().and(1)),
    };
  }
  const whole = wide(a, b, a);
  return {
    result: s.code.let(whole.shrU(turns).wrap().and(0xffff)),
    carry: s.code.let(whole.shrU(turns.sub(1)).wrap().and(1)),
  };
}

/** BT, BTS, BTR, BTC: a register bit offset reaches beyond a memory operand. */
const bitTest =
  (change: ((value: Word, mask: Word) => Word) | undefined): Semantics =>
  (s) => {
    const index = s.operand(1, 'read');
    const offset = index.read();
    const memory = s.form.operands[0]?.kind === 'memory' && s.form.operands[1]?.kind === 'gpr';
    const size = operandSize(s);
    const bits = bitsOf(size);
    const displacement = memory
      ? s.code.let(signExtended(size, offset).extendS().shrS(Math.log2(bits)).mul(size))
      : undefined;
    const target = s.operand(0, change ? 'modify' : 'read', displacement);
    const value = target.read();
    const count = s.code.let(toWord(offset, value.type).and(bits - 1));
    s.flags.setCarry(s.code.let(value.shrU(count).wrap().and(1)));
    if (change) target.write(s.code.let(truncated(size, change(value, value.like(1).shl(count)))));
  };

function operandSize(s: Stage): number {
  const operand = s.form.operands[0];
  if (operand?.kind === 'gpr' || operand?.kind === 'memory') return operand.size;
  throw new TypeError(`${s.form.name} has no sized operand`);
}

export const SHIFTS = {
  Shl: shl, Sal: shl, Shr: shr, Sar: sar, Rol: rol, Ror: ror, Rcl: rcl, Rcr: rcr,
  Shld: doubleShift(true), Shrd: doubleShift(false),
  Bt: bitTest(undefined),
  Bts: bitTest((value, mask) => value.or(mask)),
  Btr: bitTest((value, mask) => value.and(mask.not())),
  Btc: bitTest((value, mask) => value.xor(mask)),
} satisfies Record<string, Semantics>; // biome-ignore format: a table reads better in rows
