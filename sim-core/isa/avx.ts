import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, i32, select } from '../engine/value.ts';
import {
  integerLane, lanes32, lanes64, replaceLane, shiftLanes, shuffle, simd, splat, type V128, type VectorShift,
  vectorConstant, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { CODE_MODE, OFFSET } from '../state/layout.ts';
import { blendByImmediate, test } from './sse-integer.ts';
import { selection } from './sse-moves.ts';
import { halvesOf, isImmediate, lastImmediate, readHalves, writeHalves } from './sse-operands.ts';

/** AVX and AVX2 instructions without a legacy SSE form (SDM Vol. 2). */

const kindOf = (s: Stage, i: number): string | undefined => s.form.operands[i]?.kind;

// ---- broadcasts

const SPLAT_LANES = { 1: Array(16).fill(0), 2: Array(8).fill(0), 4: [0, 0, 0, 0], 8: [0, 0] } as const;

/** The lowest element in all places. */
const broadcast =
  (width: 1 | 2 | 4 | 8): Semantics =>
  (s) => {
    const source = s.vector(1, 'read').readLow(width);
    const all = s.code.keep(shuffle(width, source, source, SPLAT_LANES[width]));
    writeHalves(
      s,
      Array.from({ length: halvesOf(s) }, () => all),
    );
  };

const broadcastHalf: Semantics = (s) => {
  const source = s.vector(1, 'read').read();
  writeHalves(s, [source, source]);
};

// ---- halves of 256-bit registers

const extractHalf: Semantics = (s) => {
  const source = s.vector(1, 'read');
  const [low, high] = [source.read(), source.read(1)];
  const value = s.code.keep(chosen(lastImmediate(s).and(1), high, low));
  if (kindOf(s, 0) === 'memory') s.vector(0, 'write').write(value);
  else writeHalves(s, [value]);
};

const insertHalf: Semantics = (s) => {
  const value = s.vector(2, 'read').read();
  const [low, high] = readHalves(s, 1, 2) as [V128, V128];
  const upper = s.code.let(lastImmediate(s).and(1));
  writeHalves(s, [s.code.keep(chosen(upper, low, value)), chosen(upper, value, high)]);
};

/** `condition` ? `a` : `b` without a branch. */
const chosen = (condition: I32, a: V128, b: V128): V128 =>
  simd('v128.bitselect', a, b, splat('i32x4', i32(0).sub(condition)));

/** VPERM2F128, VPERM2I128: each half is one of four or zero. */
const permuteHalves: Semantics = (s) => {
  const control = lastImmediate(s);
  const b = readHalves(s, 2);
  const all = [...readHalves(s, 1), ...b] as [V128, V128, V128, V128];
  const half = (field: I32): V128 => {
    const low = chosen(field.and(1), all[1], all[0]);
    const high = chosen(field.and(1), all[3], all[2]);
    const picked = chosen(field.shrU(1).and(1), high, low);
    return s.code.keep(chosen(field.shrU(3).and(1), ZERO_VECTOR, picked));
  };
  writeHalves(s, [half(control), half(control.shrU(4))]);
};

// ---- permutations within halves

/** VPERMILPS, VPERMILPD with an immediate; VPERMILPD has bits of its own for each half. */
function permuteByImmediate(s: Stage, width: 4 | 8): void {
  const order = lastImmediate(s);
  const result = readHalves(s, 1).map((half, i) =>
    simd('i8x16.swizzle', half, selection(width === 8 ? order.shrU(2 * i) : order, width, 0)),
  );
  writeHalves(s, result);
}

/** Byte selections from lane numbers that stand in the lanes: number × width in every byte, plus the byte's own. */
const bytesOfLanes = (numbers: V128, width: 4 | 8): V128 =>
  width === 4
    ? simd('i32x4.add', simd('i32x4.mul', numbers, lanes32(0x0404_0404n)), lanes32(0x0302_0100n))
    : simd('i64x2.add', simd('i64x2.mul', numbers, lanes64(0x0808_0808_0808_0808n)), lanes64(0x0706_0504_0302_0100n));

const permuteInLane =
  (width: 4 | 8): Semantics =>
  (s) => {
    if (isImmediate(s, 2)) return permuteByImmediate(s, width);
    const controls = readHalves(s, 2);
    const result = readHalves(s, 1).map((half, i) => {
      const control = controls[i] as V128;
      const numbers =
        width === 4
          ? simd('v128.and', control, lanes32(3n))
          : simd('v128.and', shiftLanes('i64x2.shr_u', control, i32(1)), lanes64(1n));
      return simd('i8x16.swizzle', half, bytesOfLanes(numbers, width));
    });
    writeHalves(s, result);
  };

// ---- permutations across halves

/** Lanes of a 32-byte table that byte numbers 0…31 name. */
function lookUp(low: V128, high: V128, numbers: V128): V128 {
  const fromHigh = simd('i8x16.sub', numbers, lanes32(0x1010_1010n));
  return simd('v128.or', simd('i8x16.swizzle', low, numbers), simd('i8x16.swizzle', high, fromHigh));
}

/** VPERMD, VPERMPS: doublewords by the numbers in the first operand. */
const permuteDoublewords: Semantics = (s) => {
  const [low, high] = readHalves(s, 2) as [V128, V128];
  const result = readHalves(s, 1).map((indices) => {
    const numbers = s.code.keep(bytesOfLanes(simd('v128.and', indices, lanes32(7n)), 4));
    return lookUp(low, high, numbers);
  });
  writeHalves(s, result);
};

/** VPERMQ, VPERMPD: quadwords by fields of the immediate. */
const permuteQuadwords: Semantics = (s) => {
  const [low, high] = readHalves(s, 1, 2) as [V128, V128];
  const order = lastImmediate(s);
  const result = [0, 1].map((half) => {
    const field = (i: number) =>
      order
        .shrU(4 * half + 2 * i)
        .and(3)
        .extendU();
    const numbers = replaceLane('i64x2', splat('i64x2', field(0)), 1, field(1));
    return lookUp(low, high, s.code.keep(bytesOfLanes(numbers, 8)));
  });
  writeHalves(s, result);
};

// ---- shifts by vectors

/** Each lane by its own count; counts of the lane's width or more clear it, or fill it with the sign. */
const shiftByVector =
  (operation: VectorShift, width: 4 | 8): Semantics =>
  (s) => {
    const counts = readHalves(s, 2);
    const result = readHalves(s, 1).map((value, half) =>
      s.code.keep(shiftedLanes(s, operation, width, value, counts[half] as V128)),
    );
    writeHalves(s, result);
  };

function shiftedLanes(s: Stage, operation: VectorShift, width: 4 | 8, value: V128, counts: V128): V128 {
  let result = ZERO_VECTOR;
  for (let lane = 0; lane < 16 / width; lane++) {
    const bits = 8 * width;
    const count =
      width === 4 ? s.code.let(integerLane('i32x4', counts, lane)) : s.code.let(integerLane('i64x2', counts, lane));
    const tooMuch = s.code.let(count.geU(bits));
    const limited = select(tooMuch, i32(bits - 1), count.wrap());
    const shifted = shiftLanes(operation, value, limited);
    const kept = operation.endsWith('shr_s') ? shifted : chosen(tooMuch, ZERO_VECTOR, shifted);
    result = s.code.keep(shuffle(width, result, kept, LANE_FROM[width](lane)));
  }
  return result;
}

/** All lanes of the first vector but one, which is the second's. */
const laneFrom =
  (count: number) =>
  (lane: number): number[] =>
    Array.from({ length: count }, (_, i) => (i === lane ? count + i : i));
const LANE_FROM = { 4: laneFrom(4), 8: laneFrom(2) } as const;

// ---- clearing

/** VZEROUPPER, VZEROALL: outside 64-bit mode of the first eight registers. @param halves which are cleared */
const clearRegisters =
  (halves: readonly number[]): Semantics =>
  (s) => {
    const registers = s.form.mode === CODE_MODE.code64 ? 16 : 8;
    for (let i = 0; i < registers; i++) {
      for (const half of halves) s.code.store(16, i32(0), ZERO_VECTOR, OFFSET.ymm + 32 * i + 16 * half);
    }
  };

const SIGN_BITS_32 = lanes32(0x8000_0000n);
const SIGN_BITS_64 = vectorConstant(1n << 63n, 1n << 63n);

export const AVX_ONLY: Readonly<Record<string, Semantics>> = {
  Vbroadcastss: broadcast(4), Vbroadcastsd: broadcast(8), Vbroadcastf128: broadcastHalf, Vbroadcasti128: broadcastHalf,
  Vpbroadcastb: broadcast(1), Vpbroadcastw: broadcast(2), Vpbroadcastd: broadcast(4), Vpbroadcastq: broadcast(8),
  Vextractf128: extractHalf, Vextracti128: extractHalf, Vinsertf128: insertHalf, Vinserti128: insertHalf,
  Vperm2f128: permuteHalves, Vperm2i128: permuteHalves,
  Vpermilps: permuteInLane(4), Vpermilpd: permuteInLane(8),
  Vpermd: permuteDoublewords, Vpermps: permuteDoublewords, Vpermq: permuteQuadwords, Vpermpd: permuteQuadwords,
  Vpsllvd: shiftByVector('i32x4.shl', 4), Vpsllvq: shiftByVector('i64x2.shl', 8),
  Vpsrlvd: shiftByVector('i32x4.shr_u', 4), Vpsrlvq: shiftByVector('i64x2.shr_u', 8),
  Vpsravd: shiftByVector('i32x4.shr_s', 4),
  Vpblendd: blendByImmediate(4), Vtestps: test(SIGN_BITS_32), Vtestpd: test(SIGN_BITS_64),
  Vzeroupper: clearRegisters([1]), Vzeroall: clearRegisters([0, 1]),
}; // biome-ignore format: a table reads better in rows
