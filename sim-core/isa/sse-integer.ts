import type { Semantics, Stage } from '../engine/stage.ts';
import { i32, select } from '../engine/value.ts';
import {
  integerLane, lanes32, lanes64, loadVector, selectVector, shiftLanes, shuffle, simd, splat, summary, type V128,
  type VectorOperation, type VectorShift, vectorConstant, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { OFFSET } from '../state/layout.ts';
import {
  halvesOf, isImmediate, lastImmediate, readHalves, sources, writeHalves,
} from './sse-operands.ts'; // biome-ignore format: a list reads better in rows

/**
 * Packed integers of SSE2 to SSE4.2 and AVX2, and the bitwise operations of all three element kinds (SDM Vol. 2). A
 * 256-bit instruction does in both halves what the 128-bit one does.
 */

/** dst = f(first, second) in each half. */
const packed =
  (compute: (a: V128, b: V128, s: Stage) => V128): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readHalves(s, second);
    writeHalves(
      s,
      readHalves(s, first).map((half, i) => compute(half, b[i] as V128, s)),
    );
  };

const op = (operation: VectorOperation): Semantics => packed((a, b) => simd(operation, a, b));

/** dst = f(source) in each half. */
const unary =
  (compute: (a: V128) => V128): Semantics =>
  (s) =>
    writeHalves(s, readHalves(s, 1).map(compute));

const lowLane = (v: V128): V128 => simd('v128.and', v, LOW_DOUBLEWORDS);
const LOW_DOUBLEWORDS = lanes64(0xffff_ffffn);

// ---- multiplication

/** The upper words of the products of words. */
const multiplyHigh = (sign: 's' | 'u'): Semantics =>
  packed((a, b) =>
    shuffle(
      2,
      simd(`i32x4.extmul_low_i16x8_${sign}`, a, b),
      simd(`i32x4.extmul_high_i16x8_${sign}`, a, b),
      [1, 3, 5, 7, 9, 11, 13, 15],
    ),
  );

const multiplyEven = packed((a, b) => simd('i64x2.mul', lowLane(a), lowLane(b)));
const even = (v: V128): V128 => shuffle(4, v, v, [0, 2, 0, 2]);
const multiplyEvenSigned = packed((a, b) => simd('i64x2.extmul_low_i32x4_s', even(a), even(b)));

/** PMADDUBSW: unsigned bytes of the first times signed ones of the second, summed by pairs with saturation. */
const multiplyAddBytes = packed((a, b) => {
  const products = (half: 'low' | 'high'): V128 =>
    simd('i16x8.mul', simd(`i16x8.extend_${half}_i8x16_u`, a), simd(`i16x8.extend_${half}_i8x16_s`, b));
  return pairs(2, (x, y) => simd('i16x8.add_sat_s', x, y))(products('low'), products('high'));
});

/** PMULHRSW; -1 × -1 wraps, which WebAssembly's saturating operation does not. */
const multiplyRounded = packed((a, b, s) => {
  const product = s.code.keep(simd('i16x8.q15mulr_sat_s', a, b));
  const saturated = simd('i16x8.eq', product, lanes32(0x7fff_7fffn));
  const least = lanes32(0x8000_8000n);
  const both = simd('v128.and', simd('i16x8.eq', a, least), simd('i16x8.eq', b, least));
  return simd('v128.xor', product, simd('v128.and', saturated, both));
});

// ---- neighbours

/** f of even and odd lanes of both operands: the first one's results below the second one's. */
const pairs =
  (width: 2 | 4, compute: (x: V128, y: V128) => V128) =>
  (a: V128, b: V128): V128 => {
    const lanes = Array.from({ length: 16 / width }, (_, i) => 2 * i);
    return compute(
      shuffle(width, a, b, lanes),
      shuffle(
        width,
        a,
        b,
        lanes.map((lane) => lane + 1),
      ),
    );
  };
const horizontal = (width: 2 | 4, operation: VectorOperation): Semantics =>
  packed(pairs(width, (x, y) => simd(operation, x, y)));

/** PSADBW: sums of eight absolute differences of bytes; of two saturated differences one is zero. */
const sumOfDifferences = packed((a, b) => {
  const difference = simd('v128.or', simd('i8x16.sub_sat_u', a, b), simd('i8x16.sub_sat_u', b, a));
  const sums = simd('i32x4.extadd_pairwise_i16x8_u', simd('i16x8.extadd_pairwise_i8x16_u', difference));
  return simd('i64x2.add', lowLane(sums), shiftLanes('i64x2.shr_u', sums, i32(32)));
});

/** PSIGNx: the first operand, negated where the second is negative, zero where it is zero. */
const sign = (shape: 'i8x16' | 'i16x8' | 'i32x4'): Semantics =>
  packed((a, b) => {
    const negative = simd(`${shape}.gt_s`, ZERO_VECTOR, b);
    const signed = simd('v128.bitselect', simd(`${shape}.neg`, a), a, negative);
    return simd('v128.andnot', signed, simd(`${shape}.eq`, b, ZERO_VECTOR));
  });

/** PSHUFB: bit 7 of an index gives zero, bits 3:0 choose the byte. */
const shuffleBytes = packed((a, b) => simd('i8x16.swizzle', a, simd('v128.and', b, lanes32(0x8f8f_8f8fn))));

// ---- shifts

/** Counts of the lane's width or more clear the lanes, or fill them with the sign. */
const shift =
  (operation: VectorShift, bits: number): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const amount = isImmediate(s, second)
      ? lastImmediate(s).extendU()
      : integerLane('i64x2', readHalves(s, second, 1)[0] as V128, 0);
    const count = s.code.let(amount);
    const tooMuch = s.code.let(count.gtU(bits - 1));
    const shifted = (value: V128): V128 =>
      operation.endsWith('shr_s')
        ? shiftLanes(operation, value, select(tooMuch, i32(bits - 1), count.wrap()))
        : selectVector(tooMuch, ZERO_VECTOR, shiftLanes(operation, value, count.wrap()));
    writeHalves(s, readHalves(s, first).map(shifted));
  };

// ---- selections

/** The second operand's lanes where the mask's top bits are set: PBLENDVB, BLENDVPS, BLENDVPD. */
const blendByMask =
  (spread: (mask: V128) => V128): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readHalves(s, second);
    const a = readHalves(s, first);
    // Without VEX the mask is in XMM0.
    const masks = s.form.vex ? readHalves(s, 3) : [s.code.keep(loadVector(16, i32(OFFSET.ymm)))];
    writeHalves(
      s,
      a.map((half, i) => simd('v128.bitselect', b[i] as V128, half, spread(masks[i] as V128))),
    );
  };

const signs32 = (mask: V128): V128 => shiftLanes('i32x4.shr_s', mask, i32(31));
const signs64 = (mask: V128): V128 => simd('i64x2.gt_s', ZERO_VECTOR, mask);

/** Lane i has bit i set, for lanes of the given width. */
const LANE_BITS = {
  2: vectorConstant(0x0008_0004_0002_0001n, 0x0080_0040_0020_0010n),
  4: vectorConstant(0x2_0000_0001n, 0x8_0000_0004n),
  8: vectorConstant(1n, 2n),
} as const;
const UPPER_LANE_BITS = {
  2: LANE_BITS[2],
  4: vectorConstant(0x20_0000_0010n, 0x80_0000_0040n),
  8: vectorConstant(4n, 8n),
} as const;
const SHAPE = { 2: 'i16x8', 4: 'i32x4', 8: 'i64x2' } as const;

/** The second operand's lanes where the immediate has a bit set. PBLENDW uses the same bits in both halves. */
export const blendByImmediate =
  (width: 2 | 4 | 8): Semantics =>
  (s) => {
    const chosen = lastImmediate(s);
    const [first, second] = sources(s);
    const b = readHalves(s, second);
    const control = s.code.keep(
      width === 2 ? splat('i16x8', chosen) : width === 4 ? splat('i32x4', chosen) : splat('i64x2', chosen.extendU()),
    );
    const result = readHalves(s, first).map((half, i) => {
      const bits = (i === 0 ? LANE_BITS : UPPER_LANE_BITS)[width];
      return simd(
        'v128.bitselect',
        b[i] as V128,
        half,
        simd(`${SHAPE[width]}.eq`, simd('v128.and', control, bits), bits),
      );
    });
    writeHalves(s, result);
  };

// ---- widening

type Widening = { readonly from: 1 | 2 | 4; readonly to: 2 | 4 | 8; readonly sign: 's' | 'u' };

const EXTEND = { 1: 'i16x8.extend_low_i8x16', 2: 'i32x4.extend_low_i16x8', 4: 'i64x2.extend_low_i32x4' } as const;

/** PMOVSXxx, PMOVZXxx: the low lanes of the source in lanes of the destination's width. */
const widen =
  ({ from, to, sign: kind }: Widening): Semantics =>
  (s) => {
    const bytes = (16 / to) * from;
    const count = halvesOf(s);
    const source = s.vector(1, 'read');
    const all = count * bytes === 16 ? source.read() : source.readLow((count * bytes) as 2 | 4 | 8);
    const results = Array.from({ length: count }, (_, half) => {
      let value = half === 0 ? all : shuffle(1, all, ZERO_VECTOR, lanesFrom(bytes));
      for (let width = from; width < to; width = (2 * width) as 2) value = simd(`${EXTEND[width]}_${kind}`, value);
      return value;
    });
    writeHalves(s, results);
  };

const lanesFrom = (first: number): number[] => Array.from({ length: 16 }, (_, i) => Math.min(16, first + i));

// ---- tests

/** PTEST, VTESTPS, VTESTPD: ZF = no common bit, CF = none outside the first operand; of sign bits only with a mask. */
export const test =
  (counted?: V128): Semantics =>
  (s) => {
    const halves = halvesOf(s);
    const b = readHalves(s, 1, halves);
    const a = readHalves(s, 0, halves);
    const any = (compute: (x: V128, y: V128) => V128) =>
      a
        .map((x, i) => compute(x, b[i] as V128))
        .map((v) => summary('v128.any_true', counted ? simd('v128.and', v, counted) : v))
        .reduce((x, y) => x.or(y));
    const zero = s.code.let(any((x, y) => simd('v128.and', x, y)).eqz());
    const carry = s.code.let(any((x, y) => simd('v128.andnot', y, x)).eqz());
    s.flags.unpack(s.code.let(carry.or(zero.shl(6))));
  };

/** PALIGNR: 16 bytes of both operands joined, from the byte that the immediate names. */
const alignRight: Semantics = (s) => {
  const count = lastImmediate(s);
  const [first, second] = sources(s);
  const b = readHalves(s, second);
  const numbers = s.code.keep(simd('i8x16.add_sat_u', BYTE_NUMBERS, splat('i8x16', count)));
  const fromFirst = s.code.keep(simd('i8x16.sub', numbers, lanes32(0x1010_1010n)));
  const result = readHalves(s, first).map((a, i) =>
    simd('v128.or', simd('i8x16.swizzle', b[i] as V128, numbers), simd('i8x16.swizzle', a, fromFirst)),
  );
  writeHalves(s, result);
};
const BYTE_NUMBERS = vectorConstant(0x0706050403020100n, 0x0f0e0d0c0b0a0908n);

const and = op('v128.and');
/** Not the first operand, and the second. */
const andNot = packed((a, b) => simd('v128.andnot', b, a));
const or = op('v128.or');
const xor = op('v128.xor');

const widening = Object.fromEntries(
  (['s', 'u'] as const).flatMap((kind) =>
    ([['bw', 1, 2], ['bd', 1, 4], ['bq', 1, 8], ['wd', 2, 4], ['wq', 2, 8], ['dq', 4, 8]] as const).map(
      ([name, from, to]) => [`Pmov${kind === 's' ? 'sx' : 'zx'}${name}`, widen({ from, to, sign: kind })] as const,
    ),
  ),
); // biome-ignore format: a table reads better in rows

export const SSE_INTEGER: Readonly<Record<string, Semantics>> = {
  Pand: and, Andps: and, Andpd: and, Pandn: andNot, Andnps: andNot, Andnpd: andNot,
  Por: or, Orps: or, Orpd: or, Pxor: xor, Xorps: xor, Xorpd: xor,
  Paddb: op('i8x16.add'), Paddw: op('i16x8.add'), Paddd: op('i32x4.add'), Paddq: op('i64x2.add'),
  Psubb: op('i8x16.sub'), Psubw: op('i16x8.sub'), Psubd: op('i32x4.sub'), Psubq: op('i64x2.sub'),
  Paddsb: op('i8x16.add_sat_s'), Paddsw: op('i16x8.add_sat_s'),
  Paddusb: op('i8x16.add_sat_u'), Paddusw: op('i16x8.add_sat_u'),
  Psubsb: op('i8x16.sub_sat_s'), Psubsw: op('i16x8.sub_sat_s'),
  Psubusb: op('i8x16.sub_sat_u'), Psubusw: op('i16x8.sub_sat_u'),
  Pmullw: op('i16x8.mul'), Pmulhw: multiplyHigh('s'), Pmulhuw: multiplyHigh('u'), Pmuludq: multiplyEven,
  Pmulld: op('i32x4.mul'), Pmuldq: multiplyEvenSigned, Pmaddubsw: multiplyAddBytes, Pmulhrsw: multiplyRounded,
  Pmaddwd: op('i32x4.dot_i16x8_s'), Psadbw: sumOfDifferences,
  Pavgb: op('i8x16.avgr_u'), Pavgw: op('i16x8.avgr_u'),
  Pminub: op('i8x16.min_u'), Pmaxub: op('i8x16.max_u'), Pminsw: op('i16x8.min_s'), Pmaxsw: op('i16x8.max_s'),
  Pminsb: op('i8x16.min_s'), Pmaxsb: op('i8x16.max_s'), Pminuw: op('i16x8.min_u'), Pmaxuw: op('i16x8.max_u'),
  Pminsd: op('i32x4.min_s'), Pmaxsd: op('i32x4.max_s'), Pminud: op('i32x4.min_u'), Pmaxud: op('i32x4.max_u'),
  Pabsb: unary((a) => simd('i8x16.abs', a)), Pabsw: unary((a) => simd('i16x8.abs', a)),
  Pabsd: unary((a) => simd('i32x4.abs', a)),
  Psignb: sign('i8x16'), Psignw: sign('i16x8'), Psignd: sign('i32x4'),
  Phaddw: horizontal(2, 'i16x8.add'), Phaddd: horizontal(4, 'i32x4.add'), Phaddsw: horizontal(2, 'i16x8.add_sat_s'),
  Phsubw: horizontal(2, 'i16x8.sub'), Phsubd: horizontal(4, 'i32x4.sub'), Phsubsw: horizontal(2, 'i16x8.sub_sat_s'),
  Pcmpeqb: op('i8x16.eq'), Pcmpeqw: op('i16x8.eq'), Pcmpeqd: op('i32x4.eq'), Pcmpeqq: op('i64x2.eq'),
  Pcmpgtb: op('i8x16.gt_s'), Pcmpgtw: op('i16x8.gt_s'), Pcmpgtd: op('i32x4.gt_s'), Pcmpgtq: op('i64x2.gt_s'),
  Packsswb: op('i8x16.narrow_i16x8_s'), Packuswb: op('i8x16.narrow_i16x8_u'), Packssdw: op('i16x8.narrow_i32x4_s'),
  Packusdw: op('i16x8.narrow_i32x4_u'),
  Psllw: shift('i16x8.shl', 16), Pslld: shift('i32x4.shl', 32), Psllq: shift('i64x2.shl', 64),
  Psrlw: shift('i16x8.shr_u', 16), Psrld: shift('i32x4.shr_u', 32), Psrlq: shift('i64x2.shr_u', 64),
  Psraw: shift('i16x8.shr_s', 16), Psrad: shift('i32x4.shr_s', 32),
  Pshufb: shuffleBytes, Palignr: alignRight, Ptest: test(),
  Pblendvb: blendByMask((mask) => simd('i8x16.gt_s', ZERO_VECTOR, mask)),
  Blendvps: blendByMask(signs32), Blendvpd: blendByMask(signs64),
  Pblendw: blendByImmediate(2), Blendps: blendByImmediate(4), Blendpd: blendByImmediate(8),
  ...widening,
}; // biome-ignore format: a table reads better in rows
