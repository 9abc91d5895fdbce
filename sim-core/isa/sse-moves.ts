import type { LowBytes, Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, type Word } from '../engine/value.ts';
import {
  integerLane, replaceLane, shuffle, simd, splat, summary, type V128, vectorConstant, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import {
  halvesOf, immediate, lastImmediate, readHalves, sources, writeHalves, writeScalar,
} from './sse-operands.ts'; // biome-ignore format: a list reads better in rows
import { toWord } from './word.ts';

/** SSE to SSE4.1 moves, shuffles and unpacks, and AVX's forms of them (SDM Vol. 2). */

const kindOf = (s: Stage, i: number): string | undefined => s.form.operands[i]?.kind;

// ---- whole registers

/** Writes a register, or all of a memory operand. */
function writeWhole(s: Stage, halves: readonly V128[], aligned: boolean): void {
  if (kindOf(s, 0) === 'memory') s.vector(0, 'write', aligned).write(halves[0] as V128, halves[1]);
  else writeHalves(s, halves);
}

const move =
  (aligned: boolean): Semantics =>
  (s) => {
    const source = s.vector(1, 'read', aligned);
    writeWhole(s, source.size === 32 ? [source.read(), source.read(1)] : [source.read()], aligned);
  };

// ---- low parts

/** MOVSS, MOVSD: from memory the rest is cleared, between registers it stays. */
const moveScalar =
  (bytes: 4 | 8): Semantics =>
  (s) => {
    const last = s.form.operands.length - 1;
    const value = s.vector(last, 'read').readLow(bytes);
    if (kindOf(s, 0) === 'memory') s.vector(0, 'write').writeLow(bytes, value);
    else if (kindOf(s, 1) === 'memory') writeHalves(s, [value]);
    else writeScalar(s, bytes, value);
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
    if (kindOf(s, 1) === 'gpr') {
      const value = s.operand(1, 'read').read();
      writeHalves(s, [
        bytes === 4
          ? replaceLane('i32x4', ZERO_VECTOR, 0, value as I32)
          : replaceLane('i64x2', ZERO_VECTOR, 0, value as I64),
      ]);
      return;
    }
    const value = s.vector(1, 'read').readLow(bytes);
    if (kindOf(s, 0) === 'memory') s.vector(0, 'write').writeLow(bytes, value);
    else writeHalves(s, [value]);
  };

/** MOVLPS, MOVLPD: the low half, from or to memory. */
const moveLow: Semantics = (s) => {
  const value = s.vector(s.form.operands.length - 1, 'read').readLow(8);
  if (kindOf(s, 0) === 'memory') s.vector(0, 'write').writeLow(8, value);
  else writeScalar(s, 8, value);
};

/** MOVHPS, MOVHPD: the high half, from or to memory. */
const moveHigh: Semantics = (s) => {
  if (kindOf(s, 0) === 'memory') {
    const value = s.vector(1, 'read').read();
    s.vector(0, 'write').writeLow(8, shuffle(8, value, value, [1, 1]));
    return;
  }
  const [first, second] = sources(s);
  const value = s.vector(second, 'read').readLow(8);
  writeHalves(s, [shuffle(8, s.vector(first, 'read').read(), value, [0, 2])]);
};

// ---- fixed selections of lanes

/** Lanes of `width` bytes of the first operand (from 0) and the second one. */
const unpack =
  (width: 1 | 2 | 4 | 8, lanes: readonly number[]): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readHalves(s, second);
    writeHalves(
      s,
      readHalves(s, first).map((half, i) => shuffle(width, half, b[i] as V128, lanes)),
    );
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

/** MOVSLDUP, MOVSHDUP. */
const duplicate =
  (lanes: readonly number[]): Semantics =>
  (s) =>
    writeHalves(
      s,
      readHalves(s, 1).map((half) => shuffle(4, half, half, lanes)),
    );

/** MOVDDUP: 128-bit forms read 8 bytes only. */
const duplicateDouble: Semantics = (s) => {
  const source = s.vector(1, 'read');
  const halves = halvesOf(s) === 1 ? [source.readLow(8)] : [source.read(), source.read(1)];
  writeHalves(
    s,
    halves.map((half) => shuffle(8, half, half, [0, 0])),
  );
};

// ---- selections by an immediate

const IDENTITY = vectorConstant(0x0706050403020100n, 0x0f0e0d0c0b0a0908n);

/** `width`-byte lane number `lane` of a byte selection: the bytes of lane number `index`. */
function selectLane(control: V128, width: 2 | 4 | 8, lane: number, index: I32): V128 {
  if (width === 2) return replaceLane('i16x8', control, lane, index.mul(0x0202).add(0x0100));
  if (width === 4) return replaceLane('i32x4', control, lane, index.mul(0x04040404).add(0x03020100));
  return replaceLane('i64x2', control, lane, index.extendU().mul(0x0808080808080808n).add(0x0706050403020100n));
}

/** A byte selection for `i8x16.swizzle`: lanes from `first` on are chosen by successive fields of the immediate. */
export function selection(order: I32, width: 2 | 4 | 8, first: number): V128 {
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
    const control = s.code.keep(selection(immediate(s, 2), width, first));
    writeHalves(
      s,
      readHalves(s, 1).map((half) => simd('i8x16.swizzle', half, control)),
    );
  };

/**
 * SHUFPS, SHUFPD: the low half from the first operand, the high half from the second; SHUFPD has bits for each half.
 */
const shuffleTwo =
  (width: 4 | 8): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readHalves(s, second);
    const order = lastImmediate(s);
    const result = readHalves(s, first).map((a, i) => {
      const control = s.code.keep(selection(width === 8 ? order.shrU(2 * i) : order, width, 0));
      const low = simd('i8x16.swizzle', a, control);
      return shuffle(8, low, simd('i8x16.swizzle', b[i] as V128, control), [0, 3]);
    });
    writeHalves(s, result);
  };

// ---- single lanes

const SHAPE = { 1: 'i8x16', 2: 'i16x8', 4: 'i32x4', 8: 'i64x2' } as const;
type Width = keyof typeof SHAPE;

/** A vector whose low lane is the one that `index` names. */
const laneDown = (v: V128, width: Width, index: I32): V128 =>
  simd('i8x16.swizzle', v, simd('i8x16.add', IDENTITY, splat('i8x16', index.mul(width))));

/** PEXTRx, EXTRACTPS: to a register zero-extended, to memory the lane alone. */
const extract =
  (width: Width): Semantics =>
  (s) => {
    const source = s.vector(1, 'read').read();
    const moved = laneDown(source, width, immediate(s, 2).and(16 / width - 1));
    if (kindOf(s, 0) === 'memory') {
      s.vector(0, 'write').writeLow(width as LowBytes, moved);
      return;
    }
    const target = s.operand(0, 'write');
    target.write(toWord(integerLane(SHAPE[width], moved, 0) as Word, target.size === 8 ? 'i64' : 'i32'));
  };

const insert =
  (width: Width): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const value = s.operand(second, 'read').read();
    const lane = lastImmediate(s).and(16 / width - 1);
    const numbers = simd('i8x16.sub', IDENTITY, splat('i8x16', lane.mul(width)));
    const chosen = simd('i8x16.swizzle', vectorConstant((1n << BigInt(8 * width)) - 1n, 0n), numbers);
    const repeated = width === 8 ? splat('i64x2', value as I64) : splat(SHAPE[width] as 'i32x4', value.wrap());
    writeHalves(s, [simd('v128.bitselect', repeated, s.vector(first, 'read').read(), s.code.keep(chosen))]);
  };

/** INSERTPS: a lane of the source (memory has one) to a lane of the destination; then lanes are cleared. */
const insertSingle: Semantics = (s) => {
  const [first, second] = sources(s);
  const control = lastImmediate(s);
  const inMemory = kindOf(s, second) === 'memory';
  const source = inMemory ? s.vector(second, 'read').readLow(4) : s.vector(second, 'read').read();
  const single = inMemory ? source : laneDown(source, 4, control.shrU(6));
  const repeated = splat('i32x4', integerLane('i32x4', single, 0));
  const number = (field: I32): V128 => simd('i32x4.eq', LANE_NUMBERS, splat('i32x4', field));
  const placed = simd('v128.bitselect', repeated, s.vector(first, 'read').read(), number(control.shrU(4).and(3)));
  const cleared = simd('i32x4.ne', simd('v128.and', splat('i32x4', control), LANE_BITS), ZERO_VECTOR);
  writeHalves(s, [simd('v128.andnot', placed, cleared)]);
};
const LANE_NUMBERS = vectorConstant(0x1_0000_0000n, 0x3_0000_0002n);
const LANE_BITS = vectorConstant(0x2_0000_0001n, 0x8_0000_0004n);

// ---- byte shifts

/** PSLLDQ, PSRLDQ: swizzle gives 0 for bytes outside the register. */
const shiftBytes =
  (left: boolean): Semantics =>
  (s) => {
    const given = lastImmediate(s);
    const count = s.code.variable('i32', given);
    s.code.if(given.gtU(15), () => count.set(i32(16)));
    const control = s.code.keep(simd(left ? 'i8x16.sub' : 'i8x16.add', IDENTITY, splat('i8x16', count.get())));
    const [first] = sources(s);
    writeHalves(
      s,
      readHalves(s, first).map((half) => simd('i8x16.swizzle', half, control)),
    );
  };

// ---- sign masks

const MASK_BITS = { i8x16: 16, i32x4: 4, i64x2: 2 } as const;

const signMask =
  (shape: keyof typeof MASK_BITS): Semantics =>
  (s) => {
    const source = s.vector(1, 'read');
    const low = summary(`${shape}.bitmask`, source.read());
    const mask = source.size === 32 ? low.or(summary(`${shape}.bitmask`, source.read(1)).shl(MASK_BITS[shape])) : low;
    const target = s.operand(0, 'write');
    target.write(toWord(mask, target.size === 8 ? 'i64' : 'i32'));
  };

export const SSE_MOVES: Readonly<Record<string, Semantics>> = {
  Movaps: move(true), Movapd: move(true), Movdqa: move(true),
  Movntps: move(true), Movntpd: move(true), Movntdq: move(true), Movntdqa: move(true),
  Movups: move(false), Movupd: move(false), Movdqu: move(false), Lddqu: move(false),
  Movss: moveScalar(4), Movsd: moveScalar(8), Movd: moveInteger(4), Movq: moveInteger(8),
  Movlps: moveLow, Movlpd: moveLow, Movhps: moveHigh, Movhpd: moveHigh,
  Movhlps: unpack(8, [3, 1]), Movlhps: unpack(8, [0, 2]),
  Movsldup: duplicate([0, 0, 2, 2]), Movshdup: duplicate([1, 1, 3, 3]), Movddup: duplicateDouble,
  Unpcklps: interleave(4, false), Unpckhps: interleave(4, true),
  Unpcklpd: interleave(8, false), Unpckhpd: interleave(8, true),
  Punpcklbw: interleave(1, false), Punpckhbw: interleave(1, true),
  Punpcklwd: interleave(2, false), Punpckhwd: interleave(2, true),
  Punpckldq: interleave(4, false), Punpckhdq: interleave(4, true),
  Punpcklqdq: interleave(8, false), Punpckhqdq: interleave(8, true),
  Pshufd: shuffleOne(4, 0), Pshuflw: shuffleOne(2, 0), Pshufhw: shuffleOne(2, 4),
  Shufps: shuffleTwo(4), Shufpd: shuffleTwo(8),
  Pextrb: extract(1), Pextrw: extract(2), Pextrd: extract(4), Pextrq: extract(8), Extractps: extract(4),
  Pinsrb: insert(1), Pinsrw: insert(2), Pinsrd: insert(4), Pinsrq: insert(8), Insertps: insertSingle,
  Pslldq: shiftBytes(true), Psrldq: shiftBytes(false),
  Movmskps: signMask('i32x4'), Movmskpd: signMask('i64x2'), Pmovmskb: signMask('i8x16'),
}; // biome-ignore format: a table reads better in rows
