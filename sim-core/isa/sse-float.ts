import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, i32, type Word } from '../engine/value.ts';
import {
  floatLane, integerLane, lanes32, lanes64, rarely, replaceLane, selectVector, shiftLanes, shuffle, simd, splat,
  summary, toFloat, toInteger, type V128, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import {
  FLOAT_VARIANTS, type FloatVariant, immediate, readFloats, requireDefaultMxcsr, wide, writeFloats,
} from './sse-operands.ts'; // biome-ignore format: a list reads better in rows

/**
 * SSE and SSE2 floating-point arithmetic, comparison and conversion (SDM Vol. 2), for the default MXCSR.
 *
 * WebAssembly leaves open which NaN an operation gives, so NaNs are computed here by the rules of SDM Vol. 1, "Rules
 * for Handling NaNs": the first source operand if it is a NaN, else the second, made quiet; else the default NaN.
 */

const QUIET = { f32x4: lanes32(0x0040_0000n), f64x2: lanes64(0x0008_0000_0000_0000n) } as const;
const DEFAULT_NAN = { f32x4: lanes32(0xffc0_0000n), f64x2: lanes64(0xfff8_0000_0000_0000n) } as const;

const nanMask = ({ shape }: FloatVariant, v: V128): V128 => simd(`${shape}.ne`, v, v);

/** 1 if a lane that counts is set in a mask. */
const anyLane = ({ scalar }: FloatVariant, mask: V128): I32 =>
  scalar ? integerLane('i32x4', mask, 0) : summary('v128.any_true', mask);

/** `result` of an operation on `a` and `b`, with its NaNs replaced by the architecture's. */
function withNaNs(variant: FloatVariant, a: V128, b: V128, result: V128): V128 {
  const { shape } = variant;
  const quiet = (v: V128) => simd('v128.or', v, QUIET[shape]);
  const choose = (mask: V128, yes: V128, no: V128) => simd('v128.bitselect', yes, no, mask);
  const fromB = choose(nanMask(variant, b), quiet(b), DEFAULT_NAN[shape]);
  const fromA = choose(nanMask(variant, a), quiet(a), fromB);
  const replaced = choose(nanMask(variant, result), fromA, result);
  return rarely(anyLane(variant, nanMask(variant, result)), replaced, result);
}

// ---- arithmetic

const arithmetic =
  (operation: 'add' | 'sub' | 'mul' | 'div') =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const b = readFloats(s, 1, variant);
    const a = readFloats(s, 0, variant);
    const result = s.code.keep(simd(`${variant.shape}.${operation}`, a, b));
    writeFloats(s, variant, withNaNs(variant, a, b, result));
  };

const squareRoot =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const source = readFloats(s, 1, variant);
    const result = s.code.keep(simd(`${variant.shape}.sqrt`, source));
    writeFloats(s, variant, withNaNs(variant, source, source, result));
  };

/** The second operand unless the first is less (greater): so it is with NaNs and with zeros of both signs. */
const extreme =
  (operation: 'pmin' | 'pmax') =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const b = readFloats(s, 1, variant);
    const a = readFloats(s, 0, variant);
    writeFloats(s, variant, simd(`${variant.shape}.${operation}`, b, a));
  };

// ---- comparison

/** CMPccPS and its kin: predicates 0…3 are equal, less, less or equal, unordered; bit 2 negates. */
const compare =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const b = readFloats(s, 1, variant);
    const a = readFloats(s, 0, variant);
    const predicate = immediate(s, 2);
    const unordered = simd('v128.or', nanMask(variant, a), nanMask(variant, b));
    const bit = (number: number) => predicate.and(1 << number);
    const first = selectVector(bit(0), simd(`${shape}.lt`, a, b), simd(`${shape}.eq`, a, b));
    const second = selectVector(bit(0), unordered, simd(`${shape}.le`, a, b));
    const negate = splat('i32x4', i32(0).sub(predicate.shrU(2).and(1)));
    writeFloats(s, variant, simd('v128.xor', selectVector(bit(1), second, first), negate));
  };

/** COMISx, UCOMISx: ZF, PF, CF = 111 unordered, 000 greater, 001 less, 100 equal; OF, SF, AF = 0. */
const compareToFlags =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const b = readFloats(s, 1, variant);
    const a = readFloats(s, 0, variant);
    const low = (mask: V128): I32 => s.code.let(integerLane('i32x4', mask, 0).and(1));
    const unordered = low(simd('v128.or', nanMask(variant, a), nanMask(variant, b)));
    const carry = low(simd(`${shape}.lt`, a, b)).or(unordered);
    const zero = low(simd(`${shape}.eq`, a, b)).or(unordered);
    s.flags.unpack(s.code.let(carry.or(unordered.shl(2)).or(zero.shl(6))));
  };

// ---- conversion between floating-point formats

const SINGLE_SIGN = lanes64(0x8000_0000n);
const DOUBLE_INFINITY_QUIET = lanes64(0x7ff8_0000_0000_0000n);

/** Doubles of the two low singles; a NaN keeps its sign and the payload's upper bits. */
function toDouble(s: Stage, variant: FloatVariant, source: V128): V128 {
  const result = s.code.keep(simd('f64x2.promote_low_f32x4', source));
  const bits = s.code.keep(simd('i64x2.extend_low_i32x4_u', source));
  const sign = shiftLanes('i64x2.shl', simd('v128.and', bits, SINGLE_SIGN), i32(32));
  const payload = shiftLanes('i64x2.shr_u', shiftLanes('i64x2.shl', bits, i32(41)), i32(12));
  const nan = simd('v128.or', simd('v128.or', sign, payload), DOUBLE_INFINITY_QUIET);
  const mask = nanMask(variant, result);
  return rarely(anyLane(variant, mask), simd('v128.bitselect', nan, result, mask), result);
}

const SINGLE_PAYLOAD = lanes64(0x003f_ffffn);
const SINGLE_INFINITY_QUIET = lanes64(0x7fc0_0000n);

/** The low doublewords of both quadwords, zeros above. */
const lowDoublewords = (v: V128): V128 => shuffle(4, v, ZERO_VECTOR, [0, 2, 4, 4]);

/** Singles of two doubles, zeros above. */
function toSingle(s: Stage, variant: FloatVariant, source: V128): V128 {
  const result = s.code.keep(simd('f32x4.demote_f64x2_zero', source));
  const sign = simd('v128.and', shiftLanes('i64x2.shr_u', source, i32(32)), SINGLE_SIGN);
  const payload = simd('v128.and', shiftLanes('i64x2.shr_u', source, i32(29)), SINGLE_PAYLOAD);
  const nan = lowDoublewords(simd('v128.or', simd('v128.or', sign, payload), SINGLE_INFINITY_QUIET));
  const mask = nanMask(FLOAT_VARIANTS.ps, result);
  return rarely(anyLane(variant, mask), simd('v128.bitselect', nan, result, mask), result);
}

const singleToDouble =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const source = s.vector(1, 'read').readLow(variant.scalar ? 4 : 8);
    writeFloats(s, variant, toDouble(s, variant, source));
  };

const doublesToSingles: Semantics = (s) =>
  s.vector(0, 'write').write(toSingle(s, FLOAT_VARIANTS.pd, wide(s, 1).read()));
const doubleToSingle: Semantics = (s) =>
  s.vector(0, 'write').writeLow(4, toSingle(s, FLOAT_VARIANTS.ss, s.vector(1, 'read').readLow(8)));

// ---- conversion from and to integers

const fromInteger =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const value = s.operand(1, 'read').read();
    const result =
      variant.shape === 'f64x2'
        ? replaceLane('f64x2', ZERO_VECTOR, 0, toFloat('f64', value))
        : replaceLane('f32x4', ZERO_VECTOR, 0, toFloat('f32', value));
    s.vector(0, 'write').writeLow(variant.bytes, result);
  };

/** The bit patterns of 2^31 and 2^63: the least numbers too large for an integer. */
const TOO_LARGE = {
  f32x4: { 4: lanes32(0x4f00_0000n), 8: lanes32(0x5f00_0000n) },
  f64x2: { 4: lanes64(0x41e0_0000_0000_0000n), 8: lanes64(0x43e0_0000_0000_0000n) },
} as const;

/** CVTxx2SI, CVTTxx2SI: NaN and numbers out of range give the integer indefinite, the most negative number. */
const toGpr =
  (variant: FloatVariant, truncate: boolean): Semantics =>
  (s) => {
    const { shape } = variant;
    const source = readFloats(s, 1, variant);
    const rounded = s.code.keep(truncate ? source : simd(`${shape}.nearest`, source));
    const target = s.operand(0, 'write');
    const size = target.size === 8 ? 8 : 4;
    const converted = toInteger(size === 8 ? 'i64' : 'i32', floatLane(shape, rounded, 0));
    const fits = s.code.let(integerLane('i32x4', simd(`${shape}.lt`, rounded, TOO_LARGE[shape][size]), 0));
    const result = s.code.variable<Word['type']>(converted.type, converted.like(1n << BigInt(8 * size - 1)));
    s.code.if(fits, () => result.set(converted));
    target.write(result.get());
  };

const INDEFINITE = lanes32(0x8000_0000n);

const singlesToIntegers =
  (truncate: boolean): Semantics =>
  (s) => {
    const source = wide(s, 1).read();
    const rounded = s.code.keep(truncate ? source : simd('f32x4.nearest', source));
    const fits = simd('f32x4.lt', rounded, TOO_LARGE.f32x4[4]);
    const converted = simd('i32x4.trunc_sat_f32x4_s', rounded);
    s.vector(0, 'write').write(simd('v128.bitselect', converted, INDEFINITE, fits));
  };

const doublesToIntegers =
  (truncate: boolean): Semantics =>
  (s) => {
    const source = wide(s, 1).read();
    const rounded = s.code.keep(truncate ? source : simd('f64x2.nearest', source));
    const misfits = lowDoublewords(simd('v128.not', simd('f64x2.lt', rounded, TOO_LARGE.f64x2[4])));
    const converted = simd('i32x4.trunc_sat_f64x2_s_zero', rounded);
    s.vector(0, 'write').write(simd('v128.bitselect', INDEFINITE, converted, misfits));
  };

const integersToSingles: Semantics = (s) =>
  s.vector(0, 'write').write(simd('f32x4.convert_i32x4_s', wide(s, 1).read()));
const integersToDoubles: Semantics = (s) =>
  s.vector(0, 'write').write(simd('f64x2.convert_low_i32x4_s', s.vector(1, 'read').readLow(8)));

// ---- rows

type Suffix = keyof typeof FLOAT_VARIANTS;

const rows = (
  name: string,
  row: (variant: FloatVariant) => Semantics,
  suffixes: readonly Suffix[] = ['ps', 'pd', 'ss', 'sd'],
) => Object.fromEntries(suffixes.map((suffix) => [`${name}${suffix}`, row(FLOAT_VARIANTS[suffix])]));

const { ss, sd, pd } = FLOAT_VARIANTS;

/** All of these depend on MXCSR. */
const ROWS: Readonly<Record<string, Semantics>> = {
  ...rows('Add', arithmetic('add')), ...rows('Sub', arithmetic('sub')),
  ...rows('Mul', arithmetic('mul')), ...rows('Div', arithmetic('div')),
  ...rows('Sqrt', squareRoot), ...rows('Min', extreme('pmin')), ...rows('Max', extreme('pmax')),
  ...rows('Cmp', compare),
  ...rows('Comi', compareToFlags, ['ss', 'sd']), ...rows('Ucomi', compareToFlags, ['ss', 'sd']),
  Cvtps2pd: singleToDouble(pd), Cvtss2sd: singleToDouble(sd),
  Cvtpd2ps: doublesToSingles, Cvtsd2ss: doubleToSingle,
  Cvtsi2ss: fromInteger(ss), Cvtsi2sd: fromInteger(sd),
  Cvtss2si: toGpr(ss, false), Cvttss2si: toGpr(ss, true), Cvtsd2si: toGpr(sd, false), Cvttsd2si: toGpr(sd, true),
  Cvtps2dq: singlesToIntegers(false), Cvttps2dq: singlesToIntegers(true),
  Cvtpd2dq: doublesToIntegers(false), Cvttpd2dq: doublesToIntegers(true),
  Cvtdq2ps: integersToSingles, Cvtdq2pd: integersToDoubles,
}; // biome-ignore format: a table reads better in rows

const withDefaultMxcsr =
  (semantics: Semantics): Semantics =>
  (s) => {
    requireDefaultMxcsr(s);
    semantics(s);
  };

export const SSE_FLOAT: Readonly<Record<string, Semantics>> = Object.fromEntries(
  Object.entries(ROWS).map(([name, semantics]) => [name, withDefaultMxcsr(semantics)]),
);
