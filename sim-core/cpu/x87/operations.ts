/** The basic operations on 80-bit numbers (SDM Vol. 2A, FADD … FXTRACT, with their tables of special operands). */

import {
  type Arithmetic, BIAS, bitLength, classify, type Exact, exactly, FLAG, type Float80, type FloatClass, infinity,
  ROUNDING, type Rounding, scaleOf, withSign, zero,
} from './float80.ts'; // biome-ignore format: a list reads better in rows

/** Computes a result, and notes the exceptions on the way. */
export type BinaryOperation = (arithmetic: Arithmetic, a: Float80, b: Float80) => Float80;
export type UnaryOperation = (arithmetic: Arithmetic, a: Float80) => Float80;

const opposite = (sign: 0 | 1): 0 | 1 => (sign === 0 ? 1 : 0);
const product = (a: Float80, b: Float80): 0 | 1 => (a.sign === b.sign ? 0 : 1);

// ---- sums

/** Numbers further apart than this many bits differ only in which way the sum rounds. */
const FAR_APART = 140;

export const add: BinaryOperation = (arithmetic, a, b) => sum(arithmetic, a, b, b.sign);
export const subtract: BinaryOperation = (arithmetic, a, b) => sum(arithmetic, a, b, opposite(b.sign));

/** a plus b with sign `bSign`; as a NaN b keeps its own. */
function sum(arithmetic: Arithmetic, a: Float80, b: Float80, bSign: 0 | 1): Float80 {
  const [aKind, bKind] = [classify(a), classify(b)];
  const special = arithmetic.special(a, aKind, b, bKind);
  if (special) return special;
  if (aKind === 'infinity' && bKind === 'infinity' && a.sign !== bSign) return arithmetic.invalid();
  if (arithmetic.denormal(aKind, bKind)) return a;
  if (aKind === 'infinity') return a;
  if (bKind === 'infinity') return infinity(bSign);
  if (aKind === 'zero' && bKind === 'zero') return zero(a.sign === bSign ? a.sign : zeroSign(arithmetic));
  return addFinite(arithmetic, a, { ...b, sign: bSign });
}

/** The sign of an exact zero difference. */
const zeroSign = ({ rounding }: Arithmetic): 0 | 1 => (rounding === ROUNDING.down ? 1 : 0);

function addFinite(arithmetic: Arithmetic, a: Float80, b: Float80): Float80 {
  const distance = scaleOf(a) - scaleOf(b);
  const [high, low] = distance >= 0 ? [a, b] : [b, a];
  const shift = Math.min(Math.abs(distance), FAR_APART);
  const tiny = Math.abs(distance) > FAR_APART && low.significand !== 0n;
  const lowPart = tiny ? 1n : low.significand;
  const signed = (value: bigint, sign: 0 | 1) => (sign === 1 ? -value : value);
  const total = signed(high.significand << BigInt(shift), high.sign) + signed(lowPart, low.sign);
  if (total === 0n) return zero(a.sign === b.sign ? a.sign : zeroSign(arithmetic));
  const sign = total < 0n ? 1 : 0;
  const scale = scaleOf(high) - shift;
  return arithmetic.round({ sign, significand: sign === 1 ? -total : total, scale, inexact: false });
}

// ---- products and quotients

export const multiply: BinaryOperation = (arithmetic, a, b) => {
  const [aKind, bKind] = [classify(a), classify(b)];
  const special = arithmetic.special(a, aKind, b, bKind);
  if (special) return special;
  const sign = product(a, b);
  const either = (kind: FloatClass) => aKind === kind || bKind === kind;
  if (either('infinity') && either('zero')) return arithmetic.invalid();
  if (arithmetic.denormal(aKind, bKind)) return a;
  if (either('infinity')) return infinity(sign);
  if (either('zero')) return zero(sign);
  return arithmetic.round({
    sign,
    significand: a.significand * b.significand,
    scale: scaleOf(a) + scaleOf(b),
    inexact: false,
  });
};

export const divide: BinaryOperation = (arithmetic, a, b) => {
  const [aKind, bKind] = [classify(a), classify(b)];
  const special = arithmetic.special(a, aKind, b, bKind);
  if (special) return special;
  const sign = product(a, b);
  if (aKind === bKind && (aKind === 'zero' || aKind === 'infinity')) return arithmetic.invalid();
  if (bKind === 'zero' && aKind !== 'infinity') {
    arithmetic.flags |= FLAG.zeroDivide;
    return infinity(sign);
  }
  if (arithmetic.denormal(aKind, bKind)) return a;
  if (aKind === 'infinity') return infinity(sign);
  if (aKind === 'zero' || bKind === 'infinity') return zero(sign);
  return arithmetic.round(quotient(sign, exactly(a), exactly(b)));
};

/** Bits of a quotient or root: more than any format keeps, the rest is a tail. */
const WORKING_BITS = 68;

function quotient(sign: 0 | 1, a: Exact, b: Exact): Exact {
  const shift = Math.max(0, WORKING_BITS + bitLength(b.significand) - bitLength(a.significand));
  const dividend = a.significand << BigInt(shift);
  const significand = dividend / b.significand;
  return {
    sign,
    significand,
    scale: a.scale - b.scale - shift,
    inexact: significand * b.significand !== dividend,
  };
}

/** The integer part of a square root. */
export function integerRoot(value: bigint): bigint {
  if (value === 0n) return 0n;
  const excess = Math.max(0, bitLength(value) - 1000);
  const even = BigInt(excess + (excess % 2));
  // A first guess that is not too small, then Newton's steps downwards.
  let guess = (BigInt(Math.ceil(Math.sqrt(Number(value >> even)) * (1 + 2 ** -50))) + 1n) << (even / 2n);
  for (;;) {
    const next = (guess + value / guess) >> 1n;
    if (next >= guess) return guess;
    guess = next;
  }
}

export const squareRoot: UnaryOperation = (arithmetic, a) => {
  const kind = classify(a);
  const special = arithmetic.special(a, kind);
  if (special) return special;
  if (kind === 'zero') return a;
  if (a.sign === 1) return arithmetic.invalid();
  if (arithmetic.denormal(kind) || kind === 'infinity') return a;
  const shift = 2 * WORKING_BITS - bitLength(a.significand);
  const even = shift + (Math.abs(scaleOf(a) - shift) % 2);
  const radicand = a.significand << BigInt(even);
  const significand = integerRoot(radicand);
  const inexact = significand * significand !== radicand;
  return arithmetic.round({ sign: 0, significand, scale: (scaleOf(a) - even) / 2, inexact });
};

// ---- comparison

export type Relation = 'greater' | 'less' | 'equal' | 'unordered';

/** @param quietIsInvalid whether quiet NaNs are invalid operands, too (FCOM, FTST; not FUCOM). */
export function compare(arithmetic: Arithmetic, a: Float80, b: Float80, quietIsInvalid: boolean): Relation {
  const [aKind, bKind] = [classify(a), classify(b)];
  if (arithmetic.special(a, aKind, b, bKind)) {
    if (quietIsInvalid) arithmetic.flags |= FLAG.invalid;
    return 'unordered';
  }
  arithmetic.denormal(aKind, bKind);
  const difference = order(a) - order(b);
  return difference === 0n ? 'equal' : difference > 0n ? 'greater' : 'less';
}

/** An integer that orders as the numbers do: pseudo-denormals are as large as the least normal numbers. */
function order(value: Float80): bigint {
  const { sign, significand } = value;
  const exponent = value.exponent === 0 && significand >> 63n === 1n ? 1 : value.exponent;
  const magnitude = (BigInt(exponent) << 64n) | significand;
  return sign === 1 ? -magnitude : magnitude;
}

// ---- rounding to integers, scaling

/** The integer nearest by `rounding` to a finite number, as its magnitude. */
export function toInteger(arithmetic: Arithmetic, a: Float80, rounding: Rounding = arithmetic.rounding): bigint {
  if (a.significand === 0n) return 0n;
  const scale = Math.max(scaleOf(a), -FAR_APART);
  // Less than a half by far, whatever it is.
  const exact = scale === scaleOf(a) ? exactly(a) : { sign: a.sign, significand: 1n, scale, inexact: true };
  const { kept, inexact, up } = arithmetic.roundAt(exact, 0, rounding);
  if (inexact) arithmetic.flags |= FLAG.precision;
  arithmetic.roundedUp = up;
  return kept;
}

export const roundToInteger: UnaryOperation = (arithmetic, a) => {
  const kind = classify(a);
  const special = arithmetic.special(a, kind);
  if (special) return special;
  if (arithmetic.denormal(kind) || kind === 'infinity' || kind === 'zero') return a;
  if (scaleOf(a) >= 0) return a;
  const magnitude = toInteger(arithmetic, a);
  return fromInteger(a.sign, magnitude);
};

/** The number of an integer below 2^64 in magnitude. */
export function fromInteger(sign: 0 | 1, magnitude: bigint): Float80 {
  if (magnitude === 0n) return zero(sign);
  const length = bitLength(magnitude);
  return { sign, exponent: BIAS + length - 1, significand: magnitude << BigInt(64 - length) };
}

/** No scaling moves a number further than this from one end of the range past the other. */
const LARGEST_SCALING = 0x1_0000n;

/** FSCALE: a × 2^(b cut to an integer). */
export const scaleByPower: BinaryOperation = (arithmetic, a, b) => {
  const [aKind, bKind] = [classify(a), classify(b)];
  const special = arithmetic.special(a, aKind, b, bKind);
  if (special) return special;
  if (bKind === 'infinity') {
    if (aKind === (b.sign === 0 ? 'zero' : 'infinity')) return arithmetic.invalid();
    if (arithmetic.denormal(aKind)) return a;
    return b.sign === 0 ? infinity(a.sign) : zero(a.sign);
  }
  if (arithmetic.denormal(aKind, bKind)) return a;
  if (aKind === 'infinity' || aKind === 'zero') return a;
  const power = magnitudeOfPower(b);
  const by = Number(power > LARGEST_SCALING ? LARGEST_SCALING : power) * (b.sign === 1 ? -1 : 1);
  const exact = exactly(a);
  return arithmetic.round({ ...exact, scale: exact.scale + by }, 64);
};

/** The integer part of a finite number's magnitude. */
function magnitudeOfPower(b: Float80): bigint {
  const scale = scaleOf(b);
  if (scale > 0) return LARGEST_SCALING;
  return scale < -64 ? 0n : b.significand >> BigInt(-scale);
}

/** FXTRACT: exponent and significand as numbers. */
export function extract(arithmetic: Arithmetic, a: Float80): { exponent: Float80; significand: Float80 } {
  const kind = classify(a);
  const special = arithmetic.special(a, kind);
  if (special) return { exponent: special, significand: special };
  if (kind === 'infinity') return { exponent: infinity(0), significand: a };
  if (kind === 'zero') {
    arithmetic.flags |= FLAG.zeroDivide;
    return { exponent: infinity(1), significand: a };
  }
  arithmetic.denormal(kind);
  const length = bitLength(a.significand);
  const exponent = scaleOf(a) + length - 1;
  return {
    exponent: fromInteger(exponent < 0 ? 1 : 0, BigInt(Math.abs(exponent))),
    significand: { sign: a.sign, exponent: BIAS, significand: a.significand << BigInt(64 - length) },
  };
}

// ---- remainders

export interface Remainder {
  readonly value: Float80;
  /** 'none' when there is nothing to divide. */
  readonly quotient: bigint | 'incomplete' | 'none';
}

/** Exponents further apart than this are reduced by several instructions. */
const COMPLETE = 64;

/** FPREM (quotient cut) and FPREM1 (quotient to nearest). */
export function remainder(arithmetic: Arithmetic, a: Float80, b: Float80, nearest: boolean): Remainder {
  const [aKind, bKind] = [classify(a), classify(b)];
  const special = arithmetic.special(a, aKind, b, bKind);
  if (special) return { value: special, quotient: 'none' };
  if (aKind === 'infinity' || bKind === 'zero') return { value: arithmetic.invalid(), quotient: 'none' };
  if (arithmetic.denormal(aKind, bKind) || aKind === 'zero') return { value: a, quotient: 0n };
  if (bKind === 'infinity') return { value: arithmetic.round(exactly(a), 64), quotient: 0n };
  const [x, y] = [normalised(a), normalised(b)];
  const distance = x.scale - y.scale;
  if (distance >= COMPLETE) return partialRemainder(arithmetic, x, y, distance);
  return completeRemainder(arithmetic, x, y, distance, nearest);
}

/** A finite number with a significand of 64 bits. */
function normalised(value: Float80): Exact {
  const shift = 64 - bitLength(value.significand);
  return { ...exactly(value), significand: value.significand << BigInt(shift), scale: scaleOf(value) - shift };
}

function completeRemainder(arithmetic: Arithmetic, x: Exact, y: Exact, distance: number, nearest: boolean): Remainder {
  // Both in units of the smaller last bit.
  const scale = Math.min(x.scale, y.scale);
  if (distance < -2) return { value: arithmetic.round(x, 64), quotient: 0n };
  const dividend = x.significand << BigInt(x.scale - scale);
  const divisor = y.significand << BigInt(y.scale - scale);
  let quotient = dividend / divisor;
  let rest = dividend - quotient * divisor;
  const half = 2n * rest - divisor;
  if (nearest && (half > 0n || (half === 0n && (quotient & 1n) === 1n))) {
    quotient++;
    rest -= divisor;
  }
  if (rest === 0n) return { value: zero(x.sign), quotient };
  const sign = rest < 0n ? opposite(x.sign) : x.sign;
  const significand = rest < 0n ? -rest : rest;
  return { value: arithmetic.round({ sign, significand, scale, inexact: false }, 64), quotient };
}

/** Takes at least 32 bits off the distance; how many is left to the processor (SDM Vol. 2A, FPREM). */
function partialRemainder(arithmetic: Arithmetic, x: Exact, y: Exact, distance: number): Remainder {
  const reduction = (distance & 0x1f) | 0x20;
  const rest = (x.significand << BigInt(reduction)) % y.significand;
  const scale = x.scale - reduction;
  const value = rest === 0n ? zero(x.sign) : arithmetic.round({ ...x, significand: rest, scale }, 64);
  return { value, quotient: 'incomplete' };
}

export const changeSign: UnaryOperation = (_, a) => withSign(a, opposite(a.sign));
export const absolute: UnaryOperation = (_, a) => withSign(a, 0);
