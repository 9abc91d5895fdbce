/**
 * The double extended-precision format and its rounding (SDM Vol. 1, "Real Numbers and Floating-Point Formats" and
 * "Floating-Point Exception Conditions"), exact for significands of any length.
 */

/** A number as a register holds it: any 80 bits. */
export interface Float80 {
  readonly sign: 0 | 1;
  /** Biased, 15 bits. */
  readonly exponent: number;
  /** 64 bits with the explicit integer bit. */
  readonly significand: bigint;
  /** A denormal of single or double precision in memory, which has become a normal number here. */
  readonly wasDenormal?: true;
}

export const BIAS = 16383;
export const INTEGER_BIT = 1n << 63n;
const QUIET_BIT = 1n << 62n;
export const SPECIAL_EXPONENT = 0x7fff;

export type FloatClass = 'zero' | 'denormal' | 'normal' | 'infinity' | 'quiet' | 'signaling' | 'unsupported';

/** Pseudo-denormals are denormals; unnormals, pseudo-NaNs and pseudo-infinities are unsupported. */
export function classify({ exponent, significand, wasDenormal }: Float80): FloatClass {
  if (wasDenormal) return 'denormal';
  if (exponent === 0) return significand === 0n ? 'zero' : 'denormal';
  if (significand < INTEGER_BIT) return 'unsupported';
  if (exponent !== SPECIAL_EXPONENT) return 'normal';
  if (significand === INTEGER_BIT) return 'infinity';
  return (significand & QUIET_BIT) !== 0n ? 'quiet' : 'signaling';
}

export const isNan = (kind: FloatClass): boolean => kind === 'quiet' || kind === 'signaling';

/** The real indefinite: the masked response to an invalid operation. */
export const INDEFINITE: Float80 = { sign: 1, exponent: SPECIAL_EXPONENT, significand: INTEGER_BIT | QUIET_BIT };
export const zero = (sign: 0 | 1): Float80 => ({ sign, exponent: 0, significand: 0n });
export const infinity = (sign: 0 | 1): Float80 => ({ sign, exponent: SPECIAL_EXPONENT, significand: INTEGER_BIT });
export const quieted = (nan: Float80): Float80 => ({ ...nan, significand: nan.significand | QUIET_BIT });
export const withSign = (value: Float80, sign: 0 | 1): Float80 => ({ ...value, sign });

/** A finite number is (-1)^sign × significand × 2^scaleOf. */
export const scaleOf = ({ exponent }: Float80): number => (exponent || 1) - BIAS - 63;

/** Exception flags at their places in the status word; their masks have the same places in the control word. */
export const FLAG = {
  invalid: 0x1, denormal: 0x2, zeroDivide: 0x4, overflow: 0x8, underflow: 0x10, precision: 0x20, stackFault: 0x40,
} as const; // biome-ignore format: a table reads better in rows
export const ALL_EXCEPTIONS = 0x3f;
/** Exceptions that are found before an operation: unmasked, they keep it from being done. */
const BEFORE_OPERATION = FLAG.invalid | FLAG.denormal | FLAG.zeroDivide;

/** Rounding control of the control word. */
export const ROUNDING = { nearest: 0, down: 1, up: 2, zero: 3 } as const;
export type Rounding = (typeof ROUNDING)[keyof typeof ROUNDING];

/** Significand bits by precision control; 1 is reserved. */
const PRECISIONS = [24, 64, 53, 64] as const;

/** One instruction's arithmetic: what the control word asks for, and what the operation found. */
export class Arithmetic {
  /** Exceptions found (FLAG). */
  flags = 0;
  /** C1 of an inexact result: its magnitude was rounded up. */
  roundedUp = false;
  readonly masks: number;
  readonly rounding: Rounding;
  readonly precision: 24 | 53 | 64;

  /** @param control the x87 control word. */
  constructor(control: number) {
    this.masks = control & ALL_EXCEPTIONS;
    this.rounding = ((control >>> 10) & 3) as Rounding;
    this.precision = PRECISIONS[(control >>> 8) & 3] as 24 | 53 | 64;
  }

  isMasked(flag: number): boolean {
    return (this.masks & flag) !== 0;
  }

  /** Whether an unmasked exception was found before the operation: nothing is to be written. */
  get isPrevented(): boolean {
    return (this.flags & ~this.masks & BEFORE_OPERATION) !== 0;
  }

  invalid(): Float80 {
    this.flags |= FLAG.invalid;
    return INDEFINITE;
  }

  /** Forgets that a result was inexact. */
  withdrawRounding(): void {
    this.flags &= ~FLAG.precision;
    this.roundedUp = false;
  }

  /** Notes a denormal operand. @returns whether that exception is unmasked, so that the operation is not done */
  denormal(...kinds: readonly FloatClass[]): boolean {
    if (!kinds.includes('denormal')) return false;
    this.flags |= FLAG.denormal;
    return !this.isMasked(FLAG.denormal);
  }

  /**
   * The result for operands of which one is a NaN or unsupported; undefined when none is (SDM Vol. 1, "Rules for
   * Generating NaNs"): the only quiet NaN, or else the NaN with the larger significand.
   */
  special(a: Float80, aKind: FloatClass, b: Float80 = a, bKind: FloatClass = aKind): Float80 | undefined {
    if (aKind === 'unsupported' || bKind === 'unsupported') return this.invalid();
    if (!isNan(aKind) && !isNan(bKind)) return undefined;
    const signaling = aKind === 'signaling' || bKind === 'signaling';
    if (signaling) this.flags |= FLAG.invalid;
    if (!isNan(bKind) || (aKind === 'quiet' && bKind === 'signaling')) return quieted(a);
    if (!isNan(aKind) || (bKind === 'quiet' && aKind === 'signaling')) return quieted(b);
    if (a.significand !== b.significand) return quieted(a.significand > b.significand ? a : b);
    return quieted(a.sign <= b.sign ? a : b);
  }

  /** Rounds to a register's format, with the precision of the precision control unless another is given. */
  round(value: Exact, precision: 24 | 53 | 64 = this.precision): Float80 {
    const { sign } = value;
    const { infinite, exponent, kept } = this.roundTo(value, { ...EXTENDED, precision });
    if (infinite) return infinity(sign);
    if (kept === 0n) return zero(sign);
    const significand = kept << BigInt(64 - precision);
    const isNormal = significand >= INTEGER_BIT;
    return { sign, exponent: isNormal ? exponent + BIAS : 0, significand };
  }

  /**
   * Rounds to a format with the exceptions of SDM Vol. 1, "Numeric Overflow", "Numeric Underflow" (tininess is detected
   * after rounding) and "Inexact Result". Unmasked overflow and underflow give a result with an adjusted exponent, or,
   * where that is not enough (FSCALE), infinity and zero.
   */
  roundTo(value: Exact, format: FloatFormat): Rounded {
    const { precision, minimum, maximum, adjustment } = format;
    const leading = value.scale + bitLength(value.significand) - 1;
    const unbounded = this.roundAt(value, leading - precision + 1);
    const exponent = unbounded.kept >> BigInt(precision) === 0n ? leading : leading + 1;
    if (exponent < minimum) return this.underflow(value, format, leading, unbounded);
    this.note(unbounded);
    const kept = exponent === leading ? unbounded.kept : unbounded.kept >> 1n;
    if (exponent <= maximum) return { infinite: false, exponent, kept };
    this.flags |= FLAG.overflow;
    const adjusted = exponent - adjustment;
    const unmasked = !this.isMasked(FLAG.overflow);
    if (unmasked && adjusted <= maximum) return { infinite: false, exponent: adjusted, kept };
    this.flags |= FLAG.precision;
    this.roundedUp = unmasked || this.roundsAway(value.sign);
    return { infinite: this.roundedUp, exponent: maximum, kept: (1n << BigInt(precision)) - 1n };
  }

  private underflow(value: Exact, format: FloatFormat, leading: number, unbounded: RoundedAt): Rounded {
    const { precision, minimum, adjustment } = format;
    if (this.isMasked(FLAG.underflow)) {
      const denormal = this.roundAt(value, minimum - precision + 1);
      if (denormal.inexact) this.flags |= FLAG.underflow;
      this.note(denormal);
      return { infinite: false, exponent: minimum, kept: denormal.kept };
    }
    this.flags |= FLAG.underflow;
    const carried = unbounded.kept >> BigInt(precision) !== 0n;
    const adjusted = leading + adjustment + (carried ? 1 : 0);
    if (adjusted < minimum) {
      this.note({ kept: 0n, inexact: true, up: false });
      return { infinite: false, exponent: minimum, kept: 0n };
    }
    this.note(unbounded);
    return { infinite: false, exponent: adjusted, kept: unbounded.kept >> (carried ? 1n : 0n) };
  }

  private note({ inexact, up }: RoundedAt): void {
    if (inexact) this.flags |= FLAG.precision;
    this.roundedUp = up;
  }

  /** Whether rounding control takes what is too large to infinity. */
  private roundsAway(sign: 0 | 1): boolean {
    if (this.rounding === ROUNDING.nearest) return true;
    return this.rounding === (sign === 1 ? ROUNDING.down : ROUNDING.up);
  }

  /** Rounds to a multiple of 2^quantum by `rounding`. */
  roundAt({ sign, significand, scale, inexact: tail }: Exact, quantum: number, rounding = this.rounding): RoundedAt {
    const shift = quantum - scale;
    if (shift <= 0) {
      // A tail is given only with more bits than any format keeps.
      return { kept: significand << BigInt(-shift), inexact: tail, up: false };
    }
    const by = BigInt(shift);
    const kept = significand >> by;
    const rest = significand - (kept << by);
    const inexact = rest !== 0n || tail;
    const up = inexact && roundsUp(rounding, sign, (kept & 1n) !== 0n, compareToHalf(rest, by, tail));
    return { kept: up ? kept + 1n : kept, inexact, up };
  }
}

/** -1, 0 or 1 as the part cut off, of `by` bits with a tail behind it, is less than, equal to or more than a half. */
function compareToHalf(rest: bigint, by: bigint, tail: boolean): number {
  const half = 1n << (by - 1n);
  if (rest === half) return tail ? 1 : 0;
  return rest > half ? 1 : -1;
}

function roundsUp(rounding: Rounding, sign: 0 | 1, odd: boolean, half: number): boolean {
  switch (rounding) {
    case ROUNDING.nearest:
      return half > 0 || (half === 0 && odd);
    case ROUNDING.down:
      return sign === 1;
    case ROUNDING.up:
      return sign === 0;
    case ROUNDING.zero:
      return false;
  }
}

/** (-1)^sign × significand × 2^scale, with something smaller than the last bit behind it when `inexact`. */
export interface Exact {
  readonly sign: 0 | 1;
  /** Above 0; at least 67 bits when `inexact`. */
  readonly significand: bigint;
  readonly scale: number;
  readonly inexact: boolean;
}

interface RoundedAt {
  readonly kept: bigint;
  readonly inexact: boolean;
  readonly up: boolean;
}

/** kept × 2^(exponent - precision + 1); fewer bits than the precision have the smallest exponent. */
export interface Rounded {
  readonly infinite: boolean;
  readonly exponent: number;
  readonly kept: bigint;
}

export interface FloatFormat {
  readonly precision: number;
  /** Least and greatest exponent of normal numbers, and what unmasked overflow and underflow take off or add. */
  readonly minimum: number;
  readonly maximum: number;
  readonly adjustment: number;
}

const EXTENDED = { minimum: 1 - BIAS, maximum: BIAS, adjustment: 24576 } as const;

const scratch = new DataView(new ArrayBuffer(8));

/** Number of bits of a positive integer below 2^1000. */
export function bitLength(value: bigint): number {
  scratch.setFloat64(0, Number(value));
  const bits = (scratch.getUint16(0) >>> 4) - 1022;
  // The conversion may have rounded up to the next power of two.
  return value >> BigInt(bits - 1) === 0n ? bits - 1 : bits;
}

/** The exact value of a finite number other than zero. */
export const exactly = (value: Float80): Exact => ({
  sign: value.sign,
  significand: value.significand,
  scale: scaleOf(value),
  inexact: false,
});
