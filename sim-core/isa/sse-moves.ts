import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32 } from '../engine/value.ts';
import {
  integerLane, replaceLane, shuffle, simd, splat, summary, type V128, vectorConstant, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { immediate, wide } from './sse-operands.ts';
import { toWord } from './word.ts';

/** SSE and SSE2 moves, shuffles and unpacks (SDM Vol. 2). */

const kindOf = (s: Stage, i: number): string | undefined => s.form.operands[i]?.kind;

// ---- whole registers

const moveAligned: Semantics = (s) => wide(s, 0, 'write').write(wide(s, 1).read());
const moveUnaligned: Semantics = (s) => s.vector(0, 'write').write(s.vector(1, 'read').read());

// ---- low parts

/** MOVSS, MOVSD: from memory the rest is cleared, between registers it stays. */
const moveScalar =
  (bytes: 4 | 8): Semantics =>
  (s) => {
    const value = s.vector(1, 'read').readLow(bytes);
    const target = s.vector(0, 'write');
    if (kindOf(s, 1) === 'memory') target.write(value);
    else target.writeLow(bytes, value);
  };

/** MOVD, MOVQ: between the low part of a vector register and anything; a vector register is cleared above it. */
const moveInteger =
  (bytes: 4 | 8): Semantics =>
  (s) => {
    const shape = bytes === 4 ? 'i32x4' : 'i64x2';
    if (kindOf(s, 0) === 'gpr') {
      s.operand(0, 'write').write(integerLane(shape, s.vector(1, 'read').readLow(bytes), 0));
      return;
    }
    const target = s.vector(0, 'write');
    if (kindOf(s, 1) === 'gpr') {
      const value = s.operand(1, 'read').read();
      target.write(
        bytes === 4
          ? replaceLane('i32x4', ZERO_VECTOR, 0, value as I32)
          : replaceLane('i64x2', ZERO_VECTOR, 0, value as I64),
      );
      return;
    }
    const value = s.vector(1, 'read').readLow(bytes);
    if (kindOf(s, 0) === 'memory') target.writeLow(bytes, value);
    else target.write(value);
  };

/** MOVLPS, MOVLPD: the low half, from or to memory. */
const moveLow: Semantics = (s) => s.vector(0, 'write').writeLow(8, s.vector(1, 'read').readLow(8));

/** MOVHPS, MOVHPD: the high half, from or to memory. */
const moveHigh: Semantics = (s) => {
  if (kindOf(s, 0) === 'memory') {
    const value = s.vector(1, 'read').read();
    s.vector(0, 'write').writeLow(8, shuffle(8, value, value, [1, 1]));
    return;
  }
  const target = s.vector(0, 'modify');
  const value = s.vector(1, 'read').readLow(8);
  target.write(shuffle(8, target.read(), value, [0, 2]));
};

// ---- fixed selections of lanes

/** Lanes of `width` bytes of the first operand (from 0) and the second one. */
const unpack =
  (width: 1 | 2 | 4 | 8, lanes: readonly number[]): Semantics =>
  (s) => {
    const b = wide(s, 1).read();
    const target = s.vector(0, 'modify');
    target.write(shuffle(width, target.read(), b, lanes));
  };

/** Alternating lanes of the low or high halves of both operands. */
function interleave(width: 1 | 2 | 4 | 8, high: boolean): Semantics {
  const count = 16 / width;
  const from = high ? count / 2 : 0;
  return unpack(
    width,
    Array.from({ length: count }, (_, i) => from + (i >> 1) + (i % 2 === 0 ? 0 : count)),
  );
}

// ---- selections by an immediate

const IDENTITY = vectorConstant(0x0706050403020100n, 0x0f0e0d0c0b0a0908n);

/** `width`-byte lane number `lane` of a byte selection: the bytes of lane number `index`. */
function selectLane(control: V128, width: 2 | 4 | 8, lane: number, index: I32): V128 {
  if (width === 2) return replaceLane('i16x8', control, lane, index.mul(0x0202).add(0x0100));
  if (width === 4) return replaceLane('i32x4', control, lane, index.mul(0x04040404).add(0x03020100));
  return replaceLane('i64x2', control, lane, index.extendU().mul(0x0808080808080808n).add(0x0706050403020100n));
}

/** A byte selection for `i8x16.swizzle`: lanes from `first` on are chosen by successive fields of the immediate. */
function selection(order: I32, width: 2 | 4 | 8, first: number): V128 {
  const fieldBits = width === 8 ? 1 : 2;
  const lanes = width === 8 ? 2 : 4;
  let control = IDENTITY;
  for (let i = 0; i < lanes; i++) {
    const index = order.shrU(i * fieldBits).and((1 << fieldBits) - 1);
    control = selectLane(control, width, first + i, index.add(first));
  }
  return control;
}

/** PSHUFD, PSHUFLW, PSHUFHW. */
const shuffleOne =
  (width: 2 | 4, first: number): Semantics =>
  (s) => {
    const source = wide(s, 1).read();
    s.vector(0, 'write').write(simd('i8x16.swizzle', source, selection(immediate(s, 2), width, first)));
  };

/** SHUFPS, SHUFPD: the low half from the first operand, the high half from the second. */
const shuffleTwo =
  (width: 4 | 8): Semantics =>
  (s) => {
    const b = wide(s, 1).read();
    const target = s.vector(0, 'modify');
    const control = s.code.keep(selection(immediate(s, 2), width, 0));
    const low = simd('i8x16.swizzle', target.read(), control);
    const high = simd('i8x16.swizzle', b, control);
    target.write(shuffle(8, low, high, [0, 3]));
  };

// ---- single words

const WORD_NUMBERS = vectorConstant(0x0003000200010000n, 0x0007000600050004n);

const extractWord: Semantics = (s) => {
  const source = s.vector(1, 'read').read();
  const control = selectLane(ZERO_VECTOR, 2, 0, immediate(s, 2).and(7));
  const target = s.operand(0, 'write');
  const word = integerLane('i16x8', simd('i8x16.swizzle', source, control), 0);
  target.write(toWord(word, target.size === 8 ? 'i64' : 'i32'));
};

const insertWord: Semantics = (s) => {
  const word = s.operand(1, 'read').read().wrap();
  const chosen = simd('i16x8.eq', WORD_NUMBERS, splat('i16x8', immediate(s, 2).and(7)));
  const target = s.vector(0, 'modify');
  target.write(simd('v128.bitselect', splat('i16x8', word), target.read(), chosen));
};

// ---- byte shifts

const BYTE_NUMBERS = IDENTITY;

/** PSLLDQ, PSRLDQ: swizzle gives 0 for bytes outside the register. */
const shiftBytes =
  (left: boolean): Semantics =>
  (s) => {
    const given = immediate(s, 1);
    const count = s.code.variable('i32', given);
    s.code.if(given.gtU(15), () => count.set(i32(16)));
    const target = s.vector(0, 'modify');
    const control = simd(left ? 'i8x16.sub' : 'i8x16.add', BYTE_NUMBERS, splat('i8x16', count.get()));
    target.write(simd('i8x16.swizzle', target.read(), control));
  };

// ---- sign masks

const signMask =
  (shape: 'i8x16' | 'i32x4' | 'i64x2'): Semantics =>
  (s) => {
    const mask = summary(`${shape}.bitmask`, s.vector(1, 'read').read());
    const target = s.operand(0, 'write');
    target.write(toWord(mask, target.size === 8 ? 'i64' : 'i32'));
  };

export const SSE_MOVES = {
  Movaps: moveAligned, Movapd: moveAligned, Movdqa: moveAligned,
  Movntps: moveAligned, Movntpd: moveAligned, Movntdq: moveAligned,
  Movups: moveUnaligned, Movupd: moveUnaligned, Movdqu: moveUnaligned,
  Movss: moveScalar(4), Movsd: moveScalar(8), Movd: moveInteger(4), Movq: moveInteger(8),
  Movlps: moveLow, Movlpd: moveLow, Movhps: moveHigh, Movhpd: moveHigh,
  Movhlps: unpack(8, [3, 1]), Movlhps: unpack(8, [0, 2]),
  Unpcklps: interleave(4, false), Unpckhps: interleave(4, true),
  Unpcklpd: interleave(8, false), Unpckhpd: interleave(8, true),
  Punpcklbw: interleave(1, false), Punpckhbw: interleave(1, true),
  Punpcklwd: interleave(2, false), Punpckhwd: interleave(2, true),
  Punpckldq: interleave(4, false), Punpckhdq: interleave(4, true),
  Punpcklqdq: interleave(8, false), Punpckhqdq: interleave(8, true),
  Pshufd: shuffleOne(4, 0), Pshuflw: shuffleOne(2, 0), Pshufhw: shuffleOne(2, 4),
  Shufps: shuffleTwo(4), Shufpd: shuffleTwo(8),
  Pextrw: extractWord, Pinsrw: insertWord,
  Pslldq: shiftBytes(true), Psrldq: shiftBytes(false),
  Movmskps: signMask('i32x4'), Movmskpd: signMask('i64x2'), Pmovmskb: signMask('i8x16'),
} satisfies Record<string, Semantics>; // biome-ignore format: a table reads better in rows
