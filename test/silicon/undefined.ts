import { RFLAGS } from '../../sim-core/state/control-bits.ts';

/** What the manual leaves undefined (SDM Vol. 2, "Flags Affected" of each instruction): not compared. */

const { cf, pf, af, zf, sf, of } = RFLAGS;

/** @param size of the first operand in bytes. */
type Undefined = number | ((count: number, size: number) => number);

const shift: Undefined = (count, size) =>
  count === 0 ? 0 : af | (count === 1 ? 0 : of) | (count >= 8 * size ? cf : 0);
const arithmeticShift: Undefined = (count) => (count === 0 ? 0 : af | (count === 1 ? 0 : of));
const rotate: Undefined = (count) => (count <= 1 ? 0 : of);
const doubleShift: Undefined = (count, size) => {
  if (count === 0) return 0;
  return count > 8 * size ? cf | pf | af | zf | sf | of : af | (count === 1 ? 0 : of);
};
const multiply = sf | zf | af | pf;
const bitTest = of | sf | af | pf;
const bitScan = cf | of | sf | af | pf;
const countZeros = of | sf | pf | af;

const UNDEFINED_FLAGS: Readonly<Record<string, Undefined>> = {
  And: af, Or: af, Xor: af, Test: af,
  Mul: multiply, Imul: multiply, Div: multiply | cf | of, Idiv: multiply | cf | of,
  Shl: shift, Sal: shift, Shr: shift, Sar: arithmeticShift, Rol: rotate, Ror: rotate, Rcl: rotate, Rcr: rotate,
  Shld: doubleShift, Shrd: doubleShift,
  Bt: bitTest, Bts: bitTest, Btr: bitTest, Btc: bitTest, Bsf: bitScan, Bsr: bitScan,
  Lzcnt: countZeros, Tzcnt: countZeros,
  Andn: af | pf, Bextr: af | sf | pf, Blsi: af | pf, Blsmsk: af | pf, Blsr: af | pf, Bzhi: af | pf,
  Aaa: of | sf | zf | pf, Aas: of | sf | zf | pf, Daa: of, Das: of, Aam: of | af | cf, Aad: of | af | cf,
}; // biome-ignore format: a table reads better in rows

/**
 * RFLAGS bits to leave out of the comparison.
 * @param size of the first operand in bytes
 * @param count of shifts and rotates, before masking
 */
export function undefinedFlags(mnemonic: string, size: number, count: number): number {
  const rule = UNDEFINED_FLAGS[mnemonic] ?? 0;
  return typeof rule === 'number' ? rule : rule(count & (size === 8 ? 63 : 31), size);
}

/** Whether the manual leaves the destination undefined. */
export function undefinedResult(mnemonic: string, size: number, count: number): boolean {
  if (mnemonic === 'Bswap') return size === 2;
  return size === 2 && ['Shld', 'Shrd'].includes(mnemonic) && (count & 31) > 16;
}
