/** Floating-point formats of x86 as numbers. */

/** @param bits of the format's width: 32, 64, or 80 (of which the sign, exponent and integer bit are explicit). */
export function floatOf(bits: bigint, bytes: number): number {
  const view = new DataView(new ArrayBuffer(8));
  if (bytes === 4) {
    view.setUint32(0, Number(BigInt.asUintN(32, bits)));
    return view.getFloat32(0);
  }
  if (bytes === 8) {
    view.setBigUint64(0, BigInt.asUintN(64, bits));
    return view.getFloat64(0);
  }
  const mantissa = BigInt.asUintN(64, bits);
  const exponent = Number((bits >> 64n) & 0x7fffn);
  const sign = (bits >> 79n) & 1n ? -1 : 1;
  if (exponent === 0x7fff) return BigInt.asUintN(63, mantissa) === 0n ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * Number(mantissa) * 2 ** (Math.max(exponent, 1) - 16383 - 63);
}

/** The nearest value of 4 or 8 bytes, or the same one of 10. */
export function bitsOfFloat(value: number, bytes: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (bytes === 4) {
    view.setFloat32(0, value);
    return BigInt(view.getUint32(0));
  }
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  return bytes === 8 ? bits : extended(bits);
}

/** A double in the extended format (SDM Vol. 1, "x87 FPU Data Types"), whose integer bit is explicit. */
function extended(double: bigint): bigint {
  const sign = (double >> 63n) << 79n;
  const exponent = (double >> 52n) & 0x7ffn;
  const fraction = BigInt.asUintN(52, double) << 11n;
  if (exponent === 0x7ffn) return sign | (0x7fffn << 64n) | (1n << 63n) | fraction;
  if (exponent !== 0n) return sign | ((exponent - 1023n + 16383n) << 64n) | (1n << 63n) | fraction;
  if (fraction === 0n) return sign;
  // A denormal double is a normal number here.
  const shift = BigInt(64 - fraction.toString(2).length);
  return sign | ((16383n - 1022n - shift) << 64n) | (fraction << shift);
}
