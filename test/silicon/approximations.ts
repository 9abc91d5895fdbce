/**
 * RCPxx and RSQRTxx: the manual (SDM Vol. 2B) promises a relative error of at most 1.5 × 2^-12, and every processor
 * family has another table. Results within that bound are alike here; what the manual says exactly (zeros, infinities,
 * NaNs, denormals, negative numbers) is compared exactly.
 */

const LARGEST_RELATIVE_ERROR = 1.5 * 2 ** -12;

const KINDS: Readonly<Record<string, Approximation['kind']>> = {
  Rcpps: 'reciprocal', Rcpss: 'reciprocal', Vrcpps: 'reciprocal', Vrcpss: 'reciprocal',
  Rsqrtps: 'reciprocal root', Rsqrtss: 'reciprocal root', Vrsqrtps: 'reciprocal root', Vrsqrtss: 'reciprocal root',
}; // biome-ignore format: a table reads better in rows

/** What an approximating instruction works on. */
export interface Approximation {
  readonly kind: 'reciprocal' | 'reciprocal root';
  /** Number of the destination's YMM register. */
  readonly destination: number;
  /** Bit patterns of the source's numbers, by lane. */
  readonly sources: readonly number[];
}

export const isApproximation = (mnemonic: string): boolean => mnemonic in KINDS;

/** @param source the last operand's bytes, at least 4; scalars use the first lane */
export function approximationOf(
  mnemonic: string,
  destination: number,
  size: number,
  source: Uint8Array,
): Approximation | undefined {
  const kind = KINDS[mnemonic];
  if (kind === undefined) return undefined;
  const view = new DataView(source.buffer, source.byteOffset);
  const lanes = mnemonic.toLowerCase().endsWith('ss') ? 1 : size / 4;
  return { kind, destination, sources: Array.from({ length: lanes }, (_, i) => view.getUint32(4 * i, true)) };
}

const INFINITY = 0x7f80_0000;
const MAGNITUDE = 0x7fff_ffff;
const SMALLEST_NORMAL = 0x0080_0000;
const view = new DataView(new ArrayBuffer(4));
const numberOf = (bits: number): number => {
  view.setUint32(0, bits);
  return view.getFloat32(0);
};

/** Reciprocals of numbers above the first are perhaps tiny, of numbers from the second on they are: zeros (“RCPPS”). */
const PERHAPS_TINY = { above: 0x7e7f_e800, below: 0x7e80_0c01 } as const;

/** Whether the result is an approximation that the manual allows. False where the manual says the result exactly. */
export function isWithinBound(kind: Approximation['kind'], source: number, result: number): boolean {
  const magnitude = source & MAGNITUDE;
  if (magnitude < SMALLEST_NORMAL || magnitude >= INFINITY) return false;
  if (kind === 'reciprocal root' && magnitude !== source) return false;
  if (kind === 'reciprocal' && magnitude >= PERHAPS_TINY.below) return false;
  const value = numberOf(source);
  const exact = kind === 'reciprocal' ? 1 / value : 1 / Math.sqrt(value);
  if (kind === 'reciprocal' && magnitude > PERHAPS_TINY.above && result << 1 === 0)
    return result >>> 31 === source >>> 31;
  return Math.abs(numberOf(result) - exact) <= LARGEST_RELATIVE_ERROR * Math.abs(exact);
}

/** Stands for any result within the bound: a NaN that these instructions do not make. */
const WITHIN_BOUND = 0x7fff_a55a;

/** YMM registers in which results within the bound are the same. */
export function withoutApproximations({ kind, destination, sources }: Approximation, ymm: Uint8Array): Uint8Array {
  const same = ymm.slice();
  const lanes = new DataView(same.buffer, 32 * destination);
  sources.forEach((source, i) => {
    if (isWithinBound(kind, source, lanes.getUint32(4 * i, true))) lanes.setUint32(4 * i, WITHIN_BOUND, true);
  });
  return same;
}
