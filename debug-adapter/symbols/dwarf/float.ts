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

/** The nearest value of 4 or 8 bytes. */
export function bitsOfFloat(value: number, bytes: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (bytes === 4) {
    view.setFloat32(0, value);
    return BigInt(view.getUint32(0));
  }
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}
