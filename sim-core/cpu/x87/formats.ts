/** Conversions between registers and the formats in memory: single and double precision, integers, packed BCD. */

import {
  type Arithmetic, BIAS, bitLength, classify, exactly, FLAG, type Float80, type FloatFormat, INTEGER_BIT, isNan,
  quieted, type Rounding, SPECIAL_EXPONENT, zero,
} from './float80.ts'; // biome-ignore format: a list reads better in rows
import { fromInteger, toInteger } from './operations.ts';

interface MemoryFormat extends FloatFormat {
  /** Bits of the fraction and of the exponent. */
  readonly fraction: bigint;
  readonly special: number;
}

const format = (precision: 24 | 53, maximum: number, adjustment: number): MemoryFormat => ({
  precision,
  minimum: 1 - maximum,
  maximum,
  adjustment,
  fraction: BigInt(precision - 1),
  special: 2 * maximum + 1,
});

/** By size in bytes. */
const FORMATS = { 4: format(24, 127, 192), 8: format(53, 1023, 1536) } as const;
export type FloatSize = keyof typeof FORMATS;

/** Exact; signaling NaNs stay signaling. */
export function fromMemoryFormat(bits: bigint, size: FloatSize): Float80 {
  const { fraction: fractionBits, special, maximum } = FORMATS[size];
  const sign = Number((bits >> BigInt(8 * size - 1)) & 1n) as 0 | 1;
  const biased = Number((bits >> fractionBits) & BigInt(special));
  const fraction = BigInt.asUintN(Number(fractionBits), bits) << (63n - fractionBits);
  if (biased !== 0) {
    const exponent = biased === special ? SPECIAL_EXPONENT : biased - maximum + BIAS;
    return { sign, exponent, significand: INTEGER_BIT | fraction };
  }
  if (fraction === 0n) return zero(sign);
  const shift = 64 - bitLength(fraction);
  const exponent = 1 - maximum + BIAS - shift;
  return { sign, exponent, significand: fraction << BigInt(shift), wasDenormal: true };
}

/** Rounds to a format in memory; signaling NaNs are invalid operands. */
export function toMemoryFormat(arithmetic: Arithmetic, value: Float80, size: FloatSize): bigint {
  const { fraction: fractionBits, special, maximum } = FORMATS[size];
  const assemble = (sign: number, biased: number, fraction: bigint): bigint =>
    (BigInt(sign) << BigInt(8 * size - 1)) | (BigInt(biased) << fractionBits) | fraction;
  const fractionOf = (significand: bigint): bigint => BigInt.asUintN(63, significand) >> (63n - fractionBits);
  const kind = classify(value);
  if (kind === 'zero') return assemble(value.sign, 0, 0n);
  if (kind === 'infinity') return assemble(value.sign, special, 0n);
  if (isNan(kind)) {
    if (kind === 'signaling') arithmetic.flags |= FLAG.invalid;
    return assemble(value.sign, special, fractionOf(quieted(value).significand));
  }
  if (kind === 'unsupported') {
    const { sign, significand } = arithmetic.invalid();
    return assemble(sign, special, fractionOf(significand));
  }
  const { infinite, exponent, kept } = arithmetic.roundTo(exactly(value), FORMATS[size]);
  if (infinite) return assemble(value.sign, special, 0n);
  const isNormal = kept >> fractionBits !== 0n;
  return assemble(value.sign, isNormal ? exponent + maximum : 0, BigInt.asUintN(Number(fractionBits), kept));
}

/** The number of an integer of `bytes` bytes in two's complement. */
export function fromMemoryInteger(bits: bigint, bytes: number): Float80 {
  const value = BigInt.asIntN(8 * bytes, bits);
  return value < 0n ? fromInteger(1, -value) : fromInteger(0, value);
}

/** An integer of `bytes` bytes in two's complement; what does not fit is invalid and gives the integer indefinite. */
export function toMemoryInteger(arithmetic: Arithmetic, value: Float80, bytes: number, rounding?: Rounding): bigint {
  const limit = 1n << BigInt(8 * bytes - 1);
  const magnitude = integerBelow(arithmetic, value, value.sign === 1 ? limit : limit - 1n, rounding);
  if (magnitude === undefined) return limit;
  return BigInt.asUintN(8 * bytes, value.sign === 1 ? -magnitude : magnitude);
}

/** The magnitude of a number rounded to an integer; undefined, and an invalid operation, when it is above `limit`. */
function integerBelow(
  arithmetic: Arithmetic,
  value: Float80,
  limit: bigint,
  rounding: Rounding = arithmetic.rounding,
): bigint | undefined {
  const kind = classify(value);
  const finite = kind === 'zero' || kind === 'denormal' || kind === 'normal';
  if (finite && value.exponent <= BIAS + 64) {
    const { flags } = arithmetic;
    const magnitude = toInteger(arithmetic, value, rounding);
    if (magnitude <= limit) return magnitude;
    arithmetic.flags = flags;
    arithmetic.roundedUp = false;
  }
  arithmetic.invalid();
  return undefined;
}

const DIGITS = 18;
const LARGEST_BCD = 10n ** BigInt(DIGITS) - 1n;
/** The packed BCD indefinite. */
const BCD_INDEFINITE = 0xffff_c000_0000_0000_0000n;

/** 18 digits, and the sign in bit 79. */
export function toPackedBcd(arithmetic: Arithmetic, value: Float80): bigint {
  const magnitude = integerBelow(arithmetic, value, LARGEST_BCD);
  if (magnitude === undefined) return BCD_INDEFINITE;
  return (BigInt(value.sign) << 79n) | BigInt(`0x${magnitude.toString()}`);
}

/** The magnitude of a packed BCD number; nibbles above 9, which the manual leaves undefined, count as they are. */
export function fromPackedBcd(bits: bigint): bigint {
  let magnitude = 0n;
  for (let i = DIGITS - 1; i >= 0; i--) magnitude = magnitude * 10n + ((bits >> BigInt(4 * i)) & 0xfn);
  return magnitude;
}
