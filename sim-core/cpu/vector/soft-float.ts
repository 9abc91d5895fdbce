/**
 * Binary floating-point arithmetic on bit patterns with every rounding mode and exception of MXCSR, exact (SDM Vol. 1,
 * "SIMD Floating-Point Exceptions" and "Rules for Handling NaNs"). Staged code computes the usual cases by itself and
 * comes here for the others.
 */

/** Exception flags at their places in MXCSR; their masks lie seven bits higher. */
const FLAG = { invalid: 1, denormal: 2, zeroDivide: 4, overflow: 8, underflow: 16, precision: 32 } as const;
/** Exceptions that are found before an operation: unmasked ones keep all others from being looked for. */
const BEFORE_OPERATION = FLAG.invalid | FLAG.denormal | FLAG.zeroDivide;

/** Rounding control. */
export const ROUNDING = { nearest: 0, down: 1, up: 2, zero: 3 } as const;
export type Rounding = (typeof ROUNDING)[keyof typeof ROUNDING];

const DAZ = 0x40;
const MASKS_SHIFT = 7;
const ROUNDING_SHIFT = 13;
const FTZ = 0x8000;

export interface FloatFormat {
  /** Bits of the whole pattern, and of the significand with its implied bit. */
  readonly width: 16 | 32 | 64;
  readonly precision: number;
  /** Exponents of the least and the greatest normal number. */
  readonly minimum: number;
  readonly maximum: number;
  readonly fractionBits: bigint;
  readonly fraction: bigint;
  readonly quietBit: bigint;
  readonly signBit: bigint;
  readonly infinity: bigint;
  /** The QNaN floating-point indefinite. */
  readonly indefinite: bigint;
}

function format(width: 16 | 32 | 64, precision: number): FloatFormat {
  const fractionBits = BigInt(precision - 1);
  const maximum = 2 ** (width - precision - 1) - 1;
  const signBit = 1n << BigInt(width - 1);
  const infinity = BigInt(2 * maximum + 1) << fractionBits;
  const quietBit = 1n << (fractionBits - 1n);
  return {
    width, precision, minimum: 1 - maximum, maximum, fractionBits, fraction: (1n << fractionBits) - 1n, quietBit,
    signBit, infinity, indefinite: signBit | infinity | quietBit,
  }; // biome-ignore format: a list reads better in rows
}

export const HALF = format(16, 11);
export const SINGLE = format(32, 24);
export const DOUBLE = format(64, 53);

type FloatClass = 'zero' | 'denormal' | 'normal' | 'infinity' | 'quiet' | 'signaling';

/** An operand taken apart; a finite one is (-1)^sign × significand × 2^scale. */
interface Unpacked {
  readonly kind: FloatClass;
  readonly sign: 0 | 1;
  readonly significand: bigint;
  readonly scale: number;
  readonly bits: bigint;
}

const isNan = ({ kind }: Unpacked): boolean => kind === 'quiet' || kind === 'signaling';

function unpack(f: FloatFormat, bits: bigint): Unpacked {
  const sign = (bits & f.signBit) === 0n ? 0 : 1;
  const fraction = bits & f.fraction;
  const exponent = Number((bits & f.infinity) >> f.fractionBits);
  const least = f.minimum - f.precision + 1;
  if (exponent === 2 * f.maximum + 1) {
    const kind = fraction === 0n ? 'infinity' : (fraction & f.quietBit) === 0n ? 'signaling' : 'quiet';
    return { kind, sign, significand: 0n, scale: 0, bits };
  }
  if (exponent === 0) {
    return { kind: fraction === 0n ? 'zero' : 'denormal', sign, significand: fraction, scale: least, bits };
  }
  return { kind: 'normal', sign, significand: fraction | (f.fraction + 1n), scale: least + exponent - 1, bits };
}

const bitLength = (value: bigint): number => {
  const digits = value.toString(16);
  return 4 * (digits.length - 1) + (32 - Math.clz32(Number.parseInt(digits[0] as string, 16)));
};

/** The integer part of the square root. */
function squareRoot(value: bigint): bigint {
  let root = 1n << BigInt((bitLength(value) + 1) >> 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** What a cut at some bit keeps of a significand. */
interface Cut {
  readonly kept: bigint;
  readonly inexact: boolean;
}

/** Result of a comparison. */
export type Order = 'less' | 'equal' | 'greater' | 'unordered';

/** One instruction's arithmetic: what MXCSR asks for, and the exceptions that were found. */
export class SoftFloat {
  /** Exceptions found so far (FLAG), in the present step of instructions that have several. */
  flags = 0;
  private earlierFlags = 0;
  readonly masks: number;
  readonly rounding: Rounding;
  private readonly denormalsAreZeros: boolean;
  private readonly flushToZero: boolean;

  constructor(mxcsr: number) {
    this.masks = (mxcsr >>> MASKS_SHIFT) & 0x3f;
    this.rounding = ((mxcsr >>> ROUNDING_SHIFT) & 3) as Rounding;
    this.denormalsAreZeros = (mxcsr & DAZ) !== 0;
    this.flushToZero = (mxcsr & FTZ) !== 0;
  }

  /** The flags that MXCSR receives, and whether one of them is unmasked: then the instruction writes no result. */
  outcome(): { readonly flags: number; readonly isUnmasked: boolean } {
    const prevented = (this.flags & BEFORE_OPERATION & ~this.masks) !== 0;
    const flags = this.earlierFlags | (prevented ? this.flags & BEFORE_OPERATION : this.flags);
    return { flags, isUnmasked: (flags & ~this.masks) !== 0 };
  }

  /**
   * Ends a step of an instruction that multiplies, then adds: exceptions are determined for each step by itself.
   * @returns whether the next step happens
   */
  endStep(): boolean {
    const { flags, isUnmasked } = this.outcome();
    if (isUnmasked) return false;
    this.earlierFlags = flags;
    this.flags = 0;
    return true;
  }

  private isMasked(flag: number): boolean {
    return (this.masks & flag) !== 0;
  }

  private open(f: FloatFormat, bits: bigint): Unpacked {
    const value = unpack(f, bits);
    if (value.kind !== 'denormal' || !this.denormalsAreZeros) return value;
    return { ...value, kind: 'zero', significand: 0n, bits: bits & f.signBit };
  }

  // ---- special operands

  private invalid(f: FloatFormat): bigint {
    this.flags |= FLAG.invalid;
    return f.indefinite;
  }

  /** The result when an operand is a NaN: the first one, made quiet. */
  private nan(f: FloatFormat, operands: readonly Unpacked[]): bigint | undefined {
    const first = operands.find(isNan);
    if (first === undefined) return undefined;
    if (operands.some(({ kind }) => kind === 'signaling')) this.flags |= FLAG.invalid;
    return first.bits | f.quietBit;
  }

  private noteDenormals(operands: readonly Unpacked[]): void {
    if (operands.some(({ kind }) => kind === 'denormal')) this.flags |= FLAG.denormal;
  }

  private zero(f: FloatFormat, sign: 0 | 1): bigint {
    return sign === 1 ? f.signBit : 0n;
  }

  private infinity(f: FloatFormat, sign: 0 | 1): bigint {
    return this.zero(f, sign) | f.infinity;
  }

  // ---- rounding

  private cut(sign: 0 | 1, significand: bigint, scale: number, at: number, rounding = this.rounding): Cut {
    if (scale >= at) return { kept: significand << BigInt(scale - at), inexact: false };
    const dropped = BigInt(at - scale);
    const kept = significand >> dropped;
    const rest = significand - (kept << dropped);
    if (rest === 0n) return { kept, inexact: false };
    const half = 1n << (dropped - 1n);
    const up =
      rounding === ROUNDING.nearest
        ? rest > half || (rest === half && (kept & 1n) === 1n)
        : rounding === (sign === 1 ? ROUNDING.down : ROUNDING.up);
    return { kept: up ? kept + 1n : kept, inexact: true };
  }

  /** (-1)^sign × significand × 2^scale in the format, with the exceptions that rounding raises. */
  private round(f: FloatFormat, sign: 0 | 1, significand: bigint, scale: number): bigint {
    if (significand === 0n) return this.zero(f, sign);
    const leading = bitLength(significand) - 1 + scale;
    const { kept, inexact } = this.cut(sign, significand, scale, leading - f.precision + 1);
    const carried = kept >> BigInt(f.precision) !== 0n;
    const exponent = carried ? leading + 1 : leading;
    if (exponent < f.minimum) return this.underflow(f, sign, significand, scale, inexact);
    if (exponent > f.maximum) return this.overflow(f, sign, inexact);
    if (inexact) this.flags |= FLAG.precision;
    const fraction = (carried ? kept >> 1n : kept) & f.fraction;
    return this.zero(f, sign) | (BigInt(exponent + f.maximum) << f.fractionBits) | fraction;
  }

  private overflow(f: FloatFormat, sign: 0 | 1, inexact: boolean): bigint {
    this.flags |= FLAG.overflow;
    if (inexact || this.isMasked(FLAG.overflow)) this.flags |= FLAG.precision;
    const toInfinity =
      this.rounding === ROUNDING.nearest || this.rounding === (sign === 1 ? ROUNDING.down : ROUNDING.up);
    return toInfinity ? this.infinity(f, sign) : this.infinity(f, sign) - 1n;
  }

  /** Tininess is detected after rounding; masked, it is an exception only when the result is inexact. */
  private underflow(f: FloatFormat, sign: 0 | 1, significand: bigint, scale: number, inexact: boolean): bigint {
    if (!this.isMasked(FLAG.underflow)) {
      this.flags |= FLAG.underflow | (inexact ? FLAG.precision : 0);
      return 0n;
    }
    if (this.flushToZero) {
      this.flags |= FLAG.underflow | FLAG.precision;
      return this.zero(f, sign);
    }
    const denormal = this.cut(sign, significand, scale, f.minimum - f.precision + 1);
    if (denormal.inexact) this.flags |= FLAG.underflow | FLAG.precision;
    // A significand that was rounded up to the least normal number carries into the exponent.
    return this.zero(f, sign) | denormal.kept;
  }

  // ---- arithmetic

  add(f: FloatFormat, a: bigint, b: bigint): bigint {
    return this.sum(f, this.open(f, a), this.open(f, b));
  }

  sub(f: FloatFormat, a: bigint, b: bigint): bigint {
    const right = this.open(f, b);
    // The sign of a NaN stays.
    return this.sum(f, this.open(f, a), isNan(right) ? right : this.open(f, b ^ f.signBit));
  }

  private sum(f: FloatFormat, a: Unpacked, b: Unpacked): bigint {
    const nan = this.nan(f, [a, b]);
    if (nan !== undefined) return nan;
    if (a.kind === 'infinity' && b.kind === 'infinity' && a.sign !== b.sign) return this.invalid(f);
    this.noteDenormals([a, b]);
    if (a.kind === 'infinity') return a.bits;
    if (b.kind === 'infinity') return b.bits;
    return this.exactSum(f, a, b);
  }

  private exactSum(f: FloatFormat, a: Omit<Unpacked, 'bits'>, b: Omit<Unpacked, 'bits'>): bigint {
    const scale = Math.min(a.scale, b.scale);
    const signed = ({ sign, significand, scale: own }: Omit<Unpacked, 'bits'>): bigint => {
      const magnitude = significand << BigInt(own - scale);
      return sign === 1 ? -magnitude : magnitude;
    };
    const total = signed(a) + signed(b);
    if (total === 0n) {
      const both = a.kind === 'zero' && b.kind === 'zero' && a.sign === b.sign;
      return this.zero(f, both ? a.sign : this.rounding === ROUNDING.down ? 1 : 0);
    }
    return this.round(f, total < 0n ? 1 : 0, total < 0n ? -total : total, scale);
  }

  mul(f: FloatFormat, a: bigint, b: bigint): bigint {
    const [x, y] = [this.open(f, a), this.open(f, b)];
    const nan = this.nan(f, [x, y]);
    if (nan !== undefined) return nan;
    const sign = (x.sign ^ y.sign) as 0 | 1;
    const infinite = x.kind === 'infinity' || y.kind === 'infinity';
    if (infinite && (x.kind === 'zero' || y.kind === 'zero')) return this.invalid(f);
    this.noteDenormals([x, y]);
    if (infinite) return this.infinity(f, sign);
    return this.round(f, sign, x.significand * y.significand, x.scale + y.scale);
  }

  div(f: FloatFormat, a: bigint, b: bigint): bigint {
    const [x, y] = [this.open(f, a), this.open(f, b)];
    const nan = this.nan(f, [x, y]);
    if (nan !== undefined) return nan;
    const sign = (x.sign ^ y.sign) as 0 | 1;
    const same = x.kind === y.kind && (x.kind === 'infinity' || x.kind === 'zero');
    if (same) return this.invalid(f);
    if (x.kind !== 'infinity' && y.kind === 'zero') this.flags |= FLAG.zeroDivide;
    else this.noteDenormals([x, y]);
    if (x.kind === 'infinity' || y.kind === 'zero') return this.infinity(f, sign);
    if (y.kind === 'infinity') return this.zero(f, sign);
    // Enough bits of the quotient to round it, and one more that says whether there is a remainder.
    const shift = Math.max(0, f.precision + 3 + bitLength(y.significand) - bitLength(x.significand || 1n));
    const dividend = x.significand << BigInt(shift);
    const quotient = dividend / y.significand;
    const sticky = quotient * y.significand === dividend ? 0n : 1n;
    return this.round(f, sign, (quotient << 1n) | sticky, x.scale - y.scale - shift - 1);
  }

  sqrt(f: FloatFormat, a: bigint): bigint {
    const x = this.open(f, a);
    const nan = this.nan(f, [x]);
    if (nan !== undefined) return nan;
    if (x.kind === 'zero') return x.bits;
    if (x.sign === 1) return this.invalid(f);
    this.noteDenormals([x]);
    if (x.kind === 'infinity') return x.bits;
    const least = 2 * (f.precision + 3) - bitLength(x.significand);
    const shift = Math.max(0, least) + ((x.scale - Math.max(0, least)) & 1);
    const radicand = x.significand << BigInt(shift);
    const root = squareRoot(radicand);
    const sticky = root * root === radicand ? 0n : 1n;
    return this.round(f, 0, (root << 1n) | sticky, (x.scale - shift) / 2 - 1);
  }

  /** a × b + c with one rounding. */
  fma(f: FloatFormat, a: bigint, b: bigint, c: bigint): bigint {
    const [x, y, z] = [this.open(f, a), this.open(f, b), this.open(f, c)];
    const infinite = x.kind === 'infinity' || y.kind === 'infinity';
    const impossible = infinite && (x.kind === 'zero' || y.kind === 'zero');
    const nan = this.nan(f, [x, y, z]);
    if (nan !== undefined) return nan;
    const sign = (x.sign ^ y.sign) as 0 | 1;
    if (impossible || (infinite && z.kind === 'infinity' && z.sign !== sign)) return this.invalid(f);
    this.noteDenormals([x, y, z]);
    if (infinite) return this.infinity(f, sign);
    if (z.kind === 'infinity') return z.bits;
    const significand = x.significand * y.significand;
    const kind = significand === 0n ? 'zero' : 'normal';
    return this.exactSum(f, { kind, sign, significand, scale: x.scale + y.scale }, z);
  }

  // ---- comparison

  /** @param quietIsInvalid whether a quiet NaN is an invalid operand, too. */
  compare(f: FloatFormat, a: bigint, b: bigint, quietIsInvalid: boolean): Order {
    const [x, y] = [this.open(f, a), this.open(f, b)];
    if (isNan(x) || isNan(y)) {
      if (quietIsInvalid || x.kind === 'signaling' || y.kind === 'signaling') this.flags |= FLAG.invalid;
      return 'unordered';
    }
    this.noteDenormals([x, y]);
    const key = ({ bits, sign }: Unpacked): bigint => (sign === 1 ? -(bits ^ f.signBit) : bits);
    return key(x) < key(y) ? 'less' : key(x) > key(y) ? 'greater' : 'equal';
  }

  /** The first operand if it compares as `wanted`, else the second, also when a NaN is among them. */
  extreme(f: FloatFormat, a: bigint, b: bigint, wanted: 'less' | 'greater'): bigint {
    return this.open(f, this.compare(f, a, b, true) === wanted ? a : b).bits;
  }

  // ---- conversion

  convert(from: FloatFormat, to: FloatFormat, a: bigint): bigint {
    const x = this.open(from, a);
    const shift = to.fractionBits - from.fractionBits;
    if (isNan(x)) {
      if (x.kind === 'signaling') this.flags |= FLAG.invalid;
      const fraction = x.bits & from.fraction;
      const payload = shift >= 0n ? fraction << shift : fraction >> -shift;
      return this.infinity(to, x.sign) | payload | to.quietBit;
    }
    if (x.kind === 'infinity') return this.infinity(to, x.sign);
    this.noteDenormals([x]);
    return this.round(to, x.sign, x.significand, x.scale);
  }

  /** A signed integer of `width` bits as its bit pattern; the integer indefinite when it does not fit. */
  toInteger(f: FloatFormat, a: bigint, width: 32 | 64, rounding: Rounding = this.rounding): bigint {
    const x = this.open(f, a);
    const indefinite = 1n << BigInt(width - 1);
    const hasValue = !isNan(x) && x.kind !== 'infinity';
    const { kept, inexact } = this.cut(x.sign, x.significand, x.scale, 0, rounding);
    const value = x.sign === 1 ? -kept : kept;
    if (!hasValue || value >= indefinite || value < -indefinite) {
      this.flags |= FLAG.invalid;
      return indefinite;
    }
    if (inexact) this.flags |= FLAG.precision;
    return BigInt.asUintN(width, value);
  }

  fromInteger(f: FloatFormat, value: bigint): bigint {
    return this.round(f, value < 0n ? 1 : 0, value < 0n ? -value : value, 0);
  }

  /** Rounds to an integer in the same format. @param quietly without the precision exception. */
  roundToIntegral(f: FloatFormat, a: bigint, rounding: Rounding, quietly: boolean): bigint {
    const x = this.open(f, a);
    const nan = this.nan(f, [x]);
    if (nan !== undefined) return nan;
    if (x.kind === 'infinity' || x.kind === 'zero' || x.scale >= 0) return x.bits;
    const { kept, inexact } = this.cut(x.sign, x.significand, x.scale, 0, rounding);
    if (inexact && !quietly) this.flags |= FLAG.precision;
    if (kept === 0n) return this.zero(f, x.sign);
    const length = bitLength(kept);
    const fraction = (kept << BigInt(f.precision - length)) & f.fraction;
    return this.zero(f, x.sign) | (BigInt(length - 1 + f.maximum) << f.fractionBits) | fraction;
  }
}
