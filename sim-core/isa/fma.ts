import type { Semantics, Stage } from '../engine/stage.ts';
import { lanes64, shuffle, simd, type V128, ZERO_VECTOR } from '../engine/vector.ts';
import {
  and,
  anyLane,
  ifUsualMxcsr,
  isDenormal,
  isNonzero,
  isNotFinite,
  LEAST_SINGLE,
  or,
  slowIfAny,
  whilePrecise,
} from './sse-float.ts';
import { FLOAT_VARIANTS, type FloatVariant, readHalves, writeHalves } from './sse-operands.ts';

/**
 * FMA (SDM Vol. 2, "VFMADD132PD" and its kin) in the usual case of sse-float.ts, with one rounding, from operations
 * that round once each: S. Boldo and G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms
 * Using Rounding to Odd", IEEE Transactions on Computers 57 (4), 2008. A value that is rounded to odd in a wider
 * format, or as the small term of a sum, still shows on which side of a midpoint it is: rounding again is right.
 */

const double = (operation: 'add' | 'sub' | 'mul', a: V128, b: V128): V128 => simd(`f64x2.${operation}`, a, b);

/** A number as the sum of two that do not overlap: what a rounded operation gave, and its error. */
interface Exact {
  readonly rounded: V128;
  readonly error: V128;
}

/** Knuth's sum (The Art of Computer Programming, Vol. 2, 4.2.2, theorem B). */
function exactSum({ code }: Stage, a: V128, b: V128): Exact {
  const rounded = code.keep(double('add', a, b));
  const part = code.keep(double('sub', rounded, a));
  const error = code.keep(double('add', double('sub', a, double('sub', rounded, part)), double('sub', b, part)));
  return { rounded, error };
}

/** 2^27 + 1. */
const SPLITTER = lanes64(0x41a0_0000_0200_0000n);

/** The upper half of the significand, so that products of halves are exact (Veltkamp). */
function upperHalf({ code }: Stage, a: V128): V128 {
  const scaled = code.keep(double('mul', SPLITTER, a));
  return code.keep(double('sub', scaled, double('sub', scaled, a)));
}

/** Dekker's product. */
function exactProduct(s: Stage, a: V128, b: V128): Exact {
  const { code } = s;
  const rounded = code.keep(double('mul', a, b));
  const [aHigh, bHigh] = [upperHalf(s, a), upperHalf(s, b)];
  const [aLow, bLow] = [code.keep(double('sub', a, aHigh)), code.keep(double('sub', b, bHigh))];
  let error = double('sub', double('mul', aHigh, bHigh), rounded);
  error = double('add', error, double('mul', aHigh, bLow));
  error = double('add', error, double('mul', aLow, bHigh));
  return { rounded, error: code.keep(double('add', error, double('mul', aLow, bLow))) };
}

/** Where the error is not 0, the neighbour with an odd significand: the rounded number, or that on the error's side. */
function toOdd({ code }: Stage, { rounded, error }: Exact): V128 {
  const isEven = simd('i64x2.eq', and(rounded, lanes64(1n)), ZERO_VECTOR);
  const changes = and(isEven, isNonzero('f64x2', error));
  // Patterns grow with the magnitude: away from zero when the signs are the same.
  const outwards = simd('i64x2.gt_s', simd('v128.xor', rounded, error), lanes64(-1n));
  const step = simd('v128.bitselect', lanes64(1n), lanes64(-1n), outwards);
  return code.keep(simd('i64x2.add', rounded, and(step, changes)));
}

/** A result by lanes, and what is wrong with it. */
interface Fused {
  readonly result: V128;
  /** Lanes that the slow implementation must compute, and those that are inexact. */
  readonly unusual: V128;
  readonly inexact: V128;
}

const ABOVE = (limit: bigint) => {
  const bits = lanes64((1023n + limit) << 52n);
  return (v: V128): V128 => simd('v128.not', simd('f64x2.le', simd('f64x2.abs', v), bits));
};
const BELOW = (limit: bigint) => {
  const bits = lanes64((1023n - limit) << 52n);
  return (v: V128): V128 => and(simd('f64x2.lt', simd('f64x2.abs', v), bits), isNonzero('f64x2', v));
};
/** Within 2^±400 the parts of a product neither overflow nor underflow; addends may be larger and smaller. */
const FACTOR = { large: ABOVE(400n), small: BELOW(400n) };
const ADDEND = { large: ABOVE(960n), small: BELOW(800n) };

/** a × b + c of doubles. */
function fuseDoubles(s: Stage, a: V128, b: V128, c: V128): Fused {
  const { code } = s;
  const product = exactProduct(s, a, b);
  const low = exactSum(s, c, product.error);
  const high = exactSum(s, product.rounded, low.rounded);
  const rest = exactSum(s, high.error, low.error);
  const sum = exactSum(s, high.rounded, toOdd(s, rest));
  // With a product of 0 the sum is exact, and its sign that of an ordinary sum.
  const isZero = simd('f64x2.eq', product.rounded, ZERO_VECTOR);
  const plain = double('add', product.rounded, c);
  return {
    result: code.keep(simd('v128.bitselect', plain, sum.rounded, isZero)),
    unusual: or(FACTOR.large(a), FACTOR.small(a), FACTOR.large(b), FACTOR.small(b), ADDEND.large(c), ADDEND.small(c)),
    inexact: and(simd('v128.not', isZero), or(isNonzero('f64x2', rest.error), isNonzero('f64x2', sum.error))),
  };
}

/** a × b + c of two singles, all given as doubles, in which products of singles are exact. @returns doubles, too */
function fuseSingles(s: Stage, a: V128, b: V128, c: V128): Fused {
  const { code } = s;
  const odd = toOdd(s, exactSum(s, code.keep(double('mul', a, b)), c));
  const single = simd('f32x4.demote_f64x2_zero', odd);
  const result = code.keep(simd('f64x2.promote_low_f32x4', single));
  const tiny = simd('f64x2.le', simd('f64x2.abs', result), LEAST_SINGLE);
  return {
    result,
    unusual: or(isNotFinite('f64x2', result), and(tiny, isNonzero('f64x2', odd))),
    inexact: simd('f64x2.ne', result, odd),
  };
}

// ---- operands

const UPPER_SINGLES = [1, 1] as const;
/** Singles of half a register as doubles: the lower two, then the upper two unless only the lowest counts. */
const asDoubles = (s: Stage, { scalar }: FloatVariant, v: V128): V128[] => {
  const lower = s.code.keep(simd('f64x2.promote_low_f32x4', v));
  return scalar ? [lower] : [lower, s.code.keep(simd('f64x2.promote_low_f32x4', shuffle(8, v, v, UPPER_SINGLES)))];
};

function fuseHalf(s: Stage, variant: FloatVariant, [a, b, c]: readonly [V128, V128, V128]): readonly Fused[] {
  if (variant.shape === 'f64x2') return [fuseDoubles(s, a, b, c)];
  const [x, y, z] = [a, b, c].map((v) => asDoubles(s, variant, v)) as [V128[], V128[], V128[]];
  return x.map((first, i) => fuseSingles(s, first, y[i] as V128, z[i] as V128));
}

/** The results of half a register in the format of its operands. */
function packed(s: Stage, { shape }: FloatVariant, parts: readonly Fused[]): V128 {
  const [low, high] = parts.map(({ result }) =>
    shape === 'f64x2' ? result : simd('f32x4.demote_f64x2_zero', result),
  ) as [V128, V128?];
  return s.code.keep(high ? shuffle(8, low, high, [0, 2]) : low);
}

/** Operand numbers of multiplicand, multiplier and addend by the digits in the mnemonic. */
const ORDERS = { 132: [0, 2, 1], 213: [1, 0, 2], 231: [1, 2, 0] } as const;

/** Sign bits of the lanes of even and of odd numbers. */
const SIGNS = {
  f32x4: { even: lanes64(0x8000_0000n), odd: lanes64(0x8000_0000_0000_0000n) },
  f64x2: {
    even: shuffle(8, lanes64(1n << 63n), ZERO_VECTOR, [0, 2]),
    odd: shuffle(8, ZERO_VECTOR, lanes64(1n << 63n), [0, 2]),
  },
} as const;
type Lanes = 'none' | 'all' | 'even' | 'odd';

function negated(s: Stage, { shape }: FloatVariant, lanes: Lanes, v: V128): V128 {
  if (lanes === 'none') return v;
  return s.code.keep(lanes === 'all' ? simd(`${shape}.neg`, v) : simd('v128.xor', v, SIGNS[shape][lanes]));
}

/** Operand `i` by halves; of a scalar in memory there is no more than that. */
const readOperand = (s: Stage, i: number, { scalar, bytes }: FloatVariant): readonly V128[] =>
  scalar ? [s.vector(i, 'read').readLow(bytes)] : readHalves(s, i);

const fused =
  (order: readonly number[], negatesProduct: boolean, negatesAddend: Lanes) =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const operands = [2, 1, 0].map((i) => readOperand(s, i, variant)).toReversed();
    const [a, b, c] = order.map((i) => operands[i]) as [V128[], V128[], V128[]];
    const { shape } = variant;
    const denormal = shape === 'f32x4' ? operands.flat().map((v) => isDenormal(shape, v)) : [];
    if (denormal.length > 0) slowIfAny(s, variant, denormal);
    const halves = a.map((x, i) => {
      const factor = negated(s, variant, negatesProduct ? 'all' : 'none', x);
      return fuseHalf(s, variant, [factor, b[i] as V128, negated(s, variant, negatesAddend, c[i] as V128)]);
    });
    // Results are doubles here, whatever the format.
    const lanes = { scalar: variant.scalar, bytes: 8 } as const;
    slowIfAny(
      s,
      lanes,
      halves.flat().map(({ unusual }) => unusual),
    );
    whilePrecise(s, () =>
      anyLane(
        lanes,
        halves.flat().map(({ inexact }) => inexact),
      ),
    );
    const results = halves.map((parts) => packed(s, variant, parts));
    writeHalves(s, variant.scalar ? [withRest(s, variant, results[0] as V128)] : results);
  };

/** The rest of a scalar's register stays as it is, up to 16 bytes. */
function withRest(s: Stage, { bytes }: FloatVariant, value: V128): V128 {
  const rest = s.vector(0, 'read').read();
  return bytes === 4 ? shuffle(4, value, rest, [0, 5, 6, 7]) : shuffle(8, value, rest, [0, 3]);
}

/** By the stem of the mnemonic: whether the product is negated, in which lanes the addend, and whether packed only. */
const STEMS = {
  Vfmadd: [false, 'none', false], Vfmsub: [false, 'all', false],
  Vfnmadd: [true, 'none', false], Vfnmsub: [true, 'all', false],
  Vfmaddsub: [false, 'even', true], Vfmsubadd: [false, 'odd', true],
} as const; // biome-ignore format: a table reads better in rows

export const FMA: Readonly<Record<string, Semantics>> = Object.fromEntries(
  Object.entries(STEMS).flatMap(([stem, [negatesProduct, negatesAddend, packedOnly]]) =>
    Object.entries(ORDERS).flatMap(([digits, order]) =>
      Object.entries(FLOAT_VARIANTS)
        .filter(([, { scalar }]) => !(packedOnly && scalar))
        .map(([suffix, variant]) => [
          `${stem}${digits}${suffix}`,
          ifUsualMxcsr(fused(order, negatesProduct, negatesAddend)(variant)),
        ]),
    ),
  ),
);
