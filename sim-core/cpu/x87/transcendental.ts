/**
 * Transcendental instructions (SDM Vol. 2A, F2XM1 … FYL2XP1 with their tables of special operands). Functions are
 * computed with at least 100 correct bits and rounded once, so results are the nearest ones by rounding control; the
 * manual asks for less than one unit in the last place.
 */

import {
  type Arithmetic, BIAS, bitLength, classify, type Exact, exactly, FLAG, type Float80, INTEGER_BIT, infinity,
  zero,
} from './float80.ts'; // biome-ignore format: a list reads better in rows
import { type BinaryOperation, integerRoot, type UnaryOperation } from './operations.ts';
import {
  arctan, artanh, CONSTANT_BITS, cosine, exponentialMinusOne, LN2, LN10, PI, ratio, sine,
} from './series.ts'; // biome-ignore format: a list reads better in rows

export const ONE: Float80 = { sign: 0, exponent: BIAS, significand: INTEGER_BIT };
const opposite = (sign: 0 | 1): 0 | 1 => (sign === 0 ? 1 : 0);
const differing = (a: Float80, b: Float80): 0 | 1 => (a.sign === b.sign ? 0 : 1);

/** Correct bits aimed at, and the exponent below which a function is its first term as far as these bits go. */
const BITS = 200;
const TINY = -80;
/** Fraction bits that give small arguments `BITS` bits, too. */
const FRACTION_BITS = BITS - TINY;
const F = BigInt(FRACTION_BITS);

/** Exponent of the leading bit. */
const leadingExponent = ({ significand, scale }: Exact): number => scale + bitLength(significand) - 1;

/** A number's magnitude in fixed point. */
const fixed = ({ significand, scale }: Exact): bigint => {
  const shift = scale + FRACTION_BITS;
  return shift >= 0 ? significand << BigInt(shift) : significand >> BigInt(-shift);
};

/** A fixed-point result that is not exact; its sign is turned when `negate`. */
const approximate = (value: bigint, fractionBits = FRACTION_BITS, negate = false): Exact => ({
  sign: value < 0n !== negate ? 1 : 0,
  significand: value < 0n ? -value : value,
  scale: -fractionBits,
  inexact: true,
});

/** The same a little nearer to zero, or further from it, than all its bits tell. */
const GUARD_BITS = 80n;
const justBelow = (exact: Exact): Exact => ({
  ...exact,
  significand: (exact.significand << GUARD_BITS) - 1n,
  scale: exact.scale - Number(GUARD_BITS),
  inexact: true,
});
const justAbove = (exact: Exact): Exact => ({
  ...exact,
  significand: exact.significand << GUARD_BITS,
  scale: exact.scale - Number(GUARD_BITS),
  inexact: true,
});

const times = (a: Exact, b: Exact): Exact => ({
  sign: a.sign === b.sign ? 0 : 1,
  significand: a.significand * b.significand,
  scale: a.scale + b.scale,
  inexact: a.inexact || b.inexact,
});

const fromConstant = (value: bigint, sign: 0 | 1 = 0): Exact => ({
  sign,
  significand: value,
  scale: -Number(CONSTANT_BITS),
  inexact: true,
});

/** Constants that instructions load: FLD1 and FLDZ are exact, the others rounded by rounding control. */
export const LOADED_CONSTANTS = {
  Fldl2t: fromConstant(ratio(LN10, LN2)),
  Fldl2e: fromConstant(ratio(1n << CONSTANT_BITS, LN2)),
  Fldpi: fromConstant(PI),
  Fldlg2: fromConstant(ratio(LN2, LN10)),
  Fldln2: fromConstant(LN2),
} as const;

/** Processors do not look whether a result happens to be exact. */
function neverExact(arithmetic: Arithmetic, result: Float80): Float80 {
  arithmetic.flags |= result.exponent === 0 ? FLAG.precision | FLAG.underflow : FLAG.precision;
  return result;
}

// ---- powers and logarithms

/** F2XM1; for operands outside [-1, 1], which the manual leaves undefined, the operand itself. */
export const powerMinusOne: UnaryOperation = (arithmetic, x) => {
  const kind = classify(x);
  const special = arithmetic.special(x, kind);
  if (special) return special;
  if (kind === 'infinity') return x.sign === 0 ? x : { ...ONE, sign: 1 };
  if (kind === 'zero' || arithmetic.denormal(kind)) return x;
  if (x.exponent >= BIAS) return neverExact(arithmetic, powerOfOne(x));
  const exact = exactly(x);
  const logarithm = times(exact, fromConstant(LN2));
  if (leadingExponent(logarithm) < TINY) return arithmetic.round(logarithm, 64);
  const argument = fixed(logarithm);
  return arithmetic.round(approximate(exponentialMinusOne(x.sign === 1 ? -argument : argument, F)), 64);
};

function powerOfOne(x: Float80): Float80 {
  if (x.exponent > BIAS || x.significand !== INTEGER_BIT) return x;
  return x.sign === 0 ? ONE : { ...ONE, sign: 1, exponent: BIAS - 1 };
}

/** Binary logarithm of a positive finite number; undefined for 1, whose logarithm is zero. */
function binaryLogarithm(x: Exact): Exact | undefined {
  const length = bitLength(x.significand);
  const isPower = x.significand === 1n << BigInt(length - 1);
  let exponent = x.scale + length - 1;
  if (isPower) {
    if (exponent === 0) return undefined;
    return { sign: exponent < 0 ? 1 : 0, significand: BigInt(Math.abs(exponent)), scale: 0, inexact: false };
  }
  // Mantissa between √½ and √2, near enough, so that the series converges quickly and nothing cancels.
  let mantissa = x.significand << BigInt(FRACTION_BITS + 1 - length);
  if (mantissa > 3n << (F - 1n)) {
    mantissa >>= 1n;
    exponent++;
  }
  const one = 1n << F;
  const natural = 2n * artanh(((mantissa - one) << F) / (mantissa + one), F);
  const logarithm = (natural << CONSTANT_BITS) / LN2;
  return approximate((BigInt(exponent) << F) + logarithm);
}

/** FYL2X: y × log2 x. */
export const logarithm: BinaryOperation = (arithmetic, x, y) => {
  const [xKind, yKind] = [classify(x), classify(y)];
  const special = arithmetic.special(x, xKind, y, yKind);
  if (special) return special;
  if (xKind === 'zero') {
    if (yKind === 'zero') return arithmetic.invalid();
    if (yKind !== 'infinity') {
      arithmetic.flags |= FLAG.zeroDivide;
    }
    return infinity(opposite(y.sign));
  }
  if (x.sign === 1) return arithmetic.invalid();
  const isOne = x.exponent === BIAS && x.significand === INTEGER_BIT;
  const isInvalid = (yKind === 'infinity' && isOne) || (yKind === 'zero' && xKind === 'infinity');
  if (isInvalid) return arithmetic.invalid();
  if (arithmetic.denormal(xKind, yKind)) return x;
  const sign = x.exponent < BIAS ? opposite(y.sign) : y.sign;
  if (xKind === 'infinity' || yKind === 'infinity') return infinity(sign);
  if (yKind === 'zero') return zero(sign);
  const factor = binaryLogarithm(exactly(x));
  if (!factor) return zero(sign);
  const result = arithmetic.round(times(factor, exactly(y)), 64);
  return neverExact(arithmetic, result);
};

/** FYL2XP1: y × log2 (x + 1); for x below -1, which the manual leaves undefined, an invalid operation. */
export const logarithmPlusOne: BinaryOperation = (arithmetic, x, y) => {
  const [xKind, yKind] = [classify(x), classify(y)];
  const special = arithmetic.special(x, xKind, y, yKind);
  if (special) return special;
  const isInvalid =
    (xKind === 'zero' && yKind === 'infinity') ||
    (xKind === 'infinity' && (x.sign === 1 || yKind === 'zero')) ||
    (x.sign === 1 && x.exponent >= BIAS);
  if (isInvalid) return arithmetic.invalid();
  if (arithmetic.denormal(xKind, yKind)) return x;
  const sign = differing(x, y);
  if (xKind === 'infinity' || yKind === 'infinity') return infinity(sign);
  if (xKind === 'zero' || yKind === 'zero') return zero(sign);
  return arithmetic.round(times(logarithmNearOne(exactly(x)), exactly(y)), 64);
};

/** log2 (x + 1) of x > -1. */
function logarithmNearOne(x: Exact): Exact {
  const exponent = leadingExponent(x);
  if (exponent > -TINY) return binaryLogarithm(justAbove(x)) ?? UNIT;
  if (exponent < TINY) return times(x, fromConstant(ratio(1n << CONSTANT_BITS, LN2)));
  const magnitude = fixed(x);
  const value = x.sign === 1 ? -magnitude : magnitude;
  const one = 1n << F;
  if (exponent >= -1) {
    const above = binaryLogarithm({ sign: 0, significand: value + one, scale: -FRACTION_BITS, inexact: false });
    return above ?? approximate(0n);
  }
  const natural = 2n * artanh((value << F) / (value + 2n * one), F);
  return approximate((natural << CONSTANT_BITS) / LN2);
}

// ---- trigonometry

/**
 * π/2 as the processor reduces arguments with it: π to 66 bits (SDM Vol. 1, "Approximation of Pi"). Number and scale.
 */
const HALF_PI = { significand: 0xc90f_daa2_2168_c234cn, scale: 1 - 68 } as const;
/** Operands from 2^63 on are not reduced: C2. */
const LIMIT_EXPONENT = BIAS + 63;
const isOutOfRange = (x: Float80): boolean => x.exponent >= LIMIT_EXPONENT && x.significand >= INTEGER_BIT;

interface Reduced {
  /** Between -π/4 and π/4. */
  readonly rest: Exact;
  /** Quarters of a turn taken off, modulo 4. */
  readonly quadrant: number;
}

/** Exact: nothing is lost but what the 66 bits lack. */
function reduce(x: Exact): Reduced {
  if (leadingExponent(x) < -1) return { rest: x, quadrant: 0 };
  const scale = Math.min(x.scale, HALF_PI.scale);
  const value = x.significand << BigInt(x.scale - scale);
  const unit = HALF_PI.significand << BigInt(HALF_PI.scale - scale);
  const turns = (2n * value + unit) / (2n * unit);
  const rest = value - turns * unit;
  const quarters = Number(turns & 3n);
  const sign = rest < 0n ? opposite(x.sign) : x.sign;
  return {
    rest: { sign, significand: rest < 0n ? -rest : rest, scale, inexact: false },
    quadrant: x.sign === 1 ? -quarters & 3 : quarters,
  };
}

const UNIT: Exact = { sign: 0, significand: 1n << 64n, scale: -64, inexact: false };

function sineOf(x: Exact): Exact {
  if (x.significand === 0n) return x;
  if (leadingExponent(x) < TINY) return justBelow(x);
  return approximate(sine(fixed(x), F), FRACTION_BITS, x.sign === 1);
}

function cosineOf(x: Exact): Exact {
  if (x.significand === 0n) return UNIT;
  if (leadingExponent(x) < TINY) return justBelow(UNIT);
  return approximate(cosine(fixed(x), F));
}

const negated = (x: Exact): Exact => ({ ...x, sign: opposite(x.sign) });

/** The sine `quadrant` quarters of a turn after `rest`. */
function turned({ rest, quadrant }: Reduced, quarters: number): Exact {
  const turn = (quadrant + quarters) & 3;
  const value = (turn & 1) === 0 ? sineOf(rest) : cosineOf(rest);
  return (turn & 2) === 0 ? value : negated(value);
}

/** Operands of trigonometric instructions that need no computation; 'range' when C2 is to be set. */
function trigonometricSpecial(arithmetic: Arithmetic, x: Float80): Float80 | 'range' | undefined {
  const kind = classify(x);
  const special = arithmetic.special(x, kind);
  if (special) return special;
  if (kind === 'infinity') return arithmetic.invalid();
  if (isOutOfRange(x)) return 'range';
  return arithmetic.denormal(kind) ? x : undefined;
}

/** 'range': the operand is too large and stays. */
export type Trigonometric = (arithmetic: Arithmetic, x: Float80) => Float80 | 'range';

export const sineAndCosine = (arithmetic: Arithmetic, x: Float80): { sine: Float80; cosine: Float80 } | 'range' => {
  const special = trigonometricSpecial(arithmetic, x);
  if (special === 'range') return special;
  if (special) return { sine: special, cosine: special };
  if (x.significand === 0n) return { sine: x, cosine: ONE };
  const reduced = reduce(exactly(x));
  const sineValue = arithmetic.round(turned(reduced, 0), 64);
  return { sine: sineValue, cosine: arithmetic.round(turned(reduced, 1), 64) };
};

const trigonometric =
  (atZero: (x: Float80) => Float80, compute: (reduced: Reduced) => Exact): Trigonometric =>
  (arithmetic, x) => {
    const special = trigonometricSpecial(arithmetic, x);
    if (special) return special;
    if (x.significand === 0n) return atZero(x);
    return arithmetic.round(compute(reduce(exactly(x))), 64);
  };

export const sineInstruction = trigonometric(
  (x) => x,
  (reduced) => turned(reduced, 0),
);
export const cosineInstruction = trigonometric(
  () => ONE,
  (reduced) => turned(reduced, 1),
);

export const tangentInstruction = trigonometric(
  (x) => x,
  (reduced) => {
    if (reduced.quadrant === 0 && leadingExponent(reduced.rest) < TINY) return justAbove(reduced.rest);
    return quotientOf(turned(reduced, 0), turned(reduced, 1));
  },
);

/** a / b with `BITS` bits. */
function quotientOf(a: Exact, b: Exact): Exact {
  const shift = Math.max(0, BITS + bitLength(b.significand) - bitLength(a.significand));
  return {
    sign: a.sign === b.sign ? 0 : 1,
    significand: (a.significand << BigInt(shift)) / b.significand,
    scale: a.scale - b.scale - shift,
    inexact: true,
  };
}

/** Multiples of π/4 that infinities and zeros give, in the manual's table: by the signs and kinds of y and x. */
function specialAngle(y: Float80, x: Float80): number | undefined {
  const [yKind, xKind] = [classify(y), classify(x)];
  const negative = x.sign === 1;
  if (yKind === 'infinity') return xKind !== 'infinity' ? 2 : negative ? 3 : 1;
  if (yKind === 'zero' || xKind === 'infinity') return negative ? 4 : 0;
  return xKind === 'zero' ? 2 : undefined;
}

/** FPATAN: the angle of the point (x, y). */
export const angle: BinaryOperation = (arithmetic, x, y) => {
  const [xKind, yKind] = [classify(x), classify(y)];
  const special = arithmetic.special(x, xKind, y, yKind);
  if (special) return special;
  if (arithmetic.denormal(xKind, yKind)) return x;
  const quarters = specialAngle(y, x);
  if (quarters === 0) return zero(y.sign);
  if (quarters !== undefined) {
    const multiple = fromConstant(BigInt(quarters) * PI, y.sign);
    return arithmetic.round({ ...multiple, scale: multiple.scale - 2 }, 64);
  }
  return arithmetic.round(finiteAngle(exactly(x), exactly(y)), 64);
};

function finiteAngle(x: Exact, y: Exact): Exact {
  const positive = { sign: 0 } as const;
  const [width, height] = [
    { ...x, ...positive },
    { ...y, ...positive },
  ];
  const slope = quotientOf(height, width);
  if (x.sign === 0 && leadingExponent(slope) < TINY) return { ...justBelow(slope), sign: y.sign };
  const pi = PI << (F - CONSTANT_BITS);
  const isSteep = leadingExponent(slope) >= 0;
  const small = arctanOf(fixed(isSteep ? quotientOf(width, height) : slope));
  const acute = isSteep ? pi / 2n - small : small;
  return approximate(x.sign === 1 ? pi - acute : acute, FRACTION_BITS, y.sign === 1);
}

/** Halves the angle twice, so that the series converges quickly: tan ½α = tan α / (1 + √(1 + tan² α)). */
function arctanOf(slope: bigint): bigint {
  const one = 1n << F;
  const half = (tangent: bigint) => (tangent << F) / (one + integerRoot((one << F) + tangent * tangent));
  return 4n * arctan(half(half(slope)), F);
}
