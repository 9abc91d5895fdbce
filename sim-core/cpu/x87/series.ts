/**
 * Elementary functions of fixed-point numbers: a BigInt x with f fraction bits is x × 2^-f. Series are summed until
 * their terms vanish, so errors are a few units of the last place.
 */

/** Sum of first × Π factor(k), k = 1, 2, …; a factor is applied to a term by `next`. */
function sumSeries(first: bigint, next: (term: bigint, k: bigint) => bigint): bigint {
  let total = first;
  let term = first;
  for (let k = 1n; ; k++) {
    term = next(term, k);
    // Shifts round down: a small negative term ends as -1.
    if (term === 0n || term === -1n) return total;
    total += term;
  }
}

/** Powers of x of odd exponents divided by these exponents; `sign` 1 for artanh, -1 for arctan. */
function oddPowers(x: bigint, f: bigint, sign: 1n | -1n): bigint {
  const square = sign * ((x * x) >> f);
  let total = x;
  let power = x;
  for (let k = 3n; ; k += 2n) {
    power = (power * square) >> f;
    if (power === 0n || power === -1n) return total;
    total += power / k;
  }
}

/** Of |x| below about a half. */
export const artanh = (x: bigint, f: bigint): bigint => oddPowers(x, f, 1n);
export const arctan = (x: bigint, f: bigint): bigint => oddPowers(x, f, -1n);

export const sine = (x: bigint, f: bigint): bigint => {
  const square = -((x * x) >> f);
  return sumSeries(x, (term, k) => ((term * square) / (2n * k * (2n * k + 1n))) >> f);
};

export const cosine = (x: bigint, f: bigint): bigint => {
  const square = -((x * x) >> f);
  return sumSeries(1n << f, (term, k) => ((term * square) / (2n * k * (2n * k - 1n))) >> f);
};

/** e^x - 1. */
export const exponentialMinusOne = (x: bigint, f: bigint): bigint =>
  sumSeries(x, (term, k) => ((term * x) / (k + 1n)) >> f);

/** Fraction bits of the constants. */
export const CONSTANT_BITS = 256n;
const GUARD = 32n;
const inverse = (n: bigint): bigint => (1n << (CONSTANT_BITS + GUARD)) / n;
const constant = (value: bigint): bigint => value >> GUARD;

/** Machin's formula: π/4 = 4 arctan 1/5 - arctan 1/239. */
export const PI = constant(
  4n * (4n * arctan(inverse(5n), CONSTANT_BITS + GUARD) - arctan(inverse(239n), CONSTANT_BITS + GUARD)),
);
/** ln 2 = 2 artanh 1/3. */
export const LN2 = constant(2n * artanh(inverse(3n), CONSTANT_BITS + GUARD));
/** ln 10 = 3 ln 2 + ln 5/4, and ln 5/4 = 2 artanh 1/9. */
export const LN10 = 3n * LN2 + constant(2n * artanh(inverse(9n), CONSTANT_BITS + GUARD));
/** a / b of two constants. */
export const ratio = (a: bigint, b: bigint): bigint => (a << CONSTANT_BITS) / b;
