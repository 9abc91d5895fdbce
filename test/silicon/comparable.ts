import { RFLAGS } from '../../sim-core/state/control-bits.ts';
import { withoutApproximations } from './approximations.ts';
import { ADDRESS, type Case, type MachineState, NO_EXCEPTION, type Outcome, YMM_BYTES } from './layout.ts';
import { X87_COMPARED_BYTES, x87Compared } from './x87.ts';

/** What of an outcome is defined, as bytes and as digests of few bits. */

const STATUS_FLAGS = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of | RFLAGS.df;
const HEAD_BYTES = 20;
const SIZE = HEAD_BYTES + 128 + YMM_BYTES + X87_COMPARED_BYTES + ADDRESS.WINDOW_SIZE;

/** RFLAGS bits and x87 status-word bits that are not compared, and whether results are not. */
export interface UndefinedParts {
  readonly flags: number;
  readonly results: boolean;
  readonly status: number;
}

/** After a fault nothing has changed, so nothing is undefined. */
export const undefinedParts = (test: Case, { vector }: Outcome): UndefinedParts =>
  vector === NO_EXCEPTION
    ? { flags: test.undefinedFlags, results: test.undefinedResult, status: test.undefinedStatus }
    : { flags: 0, results: false, status: 0 };

/** The outcome with approximations that the manual allows made alike. */
export function withoutLatitude(test: Case, outcome: Outcome): Outcome {
  if (!test.approximation) return outcome;
  const ymm = withoutApproximations(test.approximation, outcome.after.ymm);
  return { ...outcome, after: { ...outcome.after, ymm } };
}

/** Equal for outcomes that the manual takes for the same. */
export function comparable(test: Case, outcome: Outcome): Uint8Array {
  const { after, vector } = withoutLatitude(test, outcome);
  const { flags, results, status } = undefinedParts(test, outcome);
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, vector, true);
  view.setBigUint64(4, after.rip, true);
  view.setUint32(12, Number(after.rflags & BigInt(STATUS_FLAGS & ~flags)), true);
  view.setUint32(16, after.mxcsr, true);
  if (!results) addResults(bytes, view, test, after, status);
  return bytes;
}

function addResults(bytes: Uint8Array, view: DataView, test: Case, after: MachineState, status: number): void {
  // Only 64-bit code sees upper halves; after 16-bit stacks Linux leaves its own there.
  const isWide = test.mode === 'code64';
  after.gpr.forEach((value, i) => {
    view.setBigUint64(HEAD_BYTES + 8 * i, isWide ? value : value & 0xffff_ffffn, true);
  });
  bytes.set(after.ymm, HEAD_BYTES + 128);
  bytes.set(x87Compared(after.x87, status), HEAD_BYTES + 128 + YMM_BYTES);
  bytes.set(after.memory, SIZE - ADDRESS.WINDOW_SIZE);
}

export const areEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** 32 bits of bytes whose number is a multiple of 4 (the mixing steps of MurmurHash3). */
export function hash(bytes: Uint8Array, seed = 0): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  let h = seed | 0;
  for (const word of words) {
    const k = Math.imul(word, 0xcc9e_2d51);
    h ^= Math.imul((k << 15) | (k >>> 17), 0x1b87_3593);
    h = Math.imul((h << 13) | (h >>> 19), 5) + 0xe654_6b64;
  }
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** 16 bits of an outcome: another outcome has others but once in 65,536 times. */
export const digest = (test: Case, outcome: Outcome): number => hash(comparable(test, outcome)) & 0xffff;
