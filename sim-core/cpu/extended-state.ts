/** The XSAVE-managed state (SDM Vol. 1, "Managing State Using the XSAVE Feature Set"): its components, each once. */

import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { CpuModel } from './cpu.ts';
import type { FeatureName } from './features.ts';
import { packArea, unpackArea } from './fpu-instructions.ts';
import { in64BitMode } from './modes.ts';

/** The part of the area before the extended region: FXSAVE's 512 bytes and the header. */
export const LEGACY = { size: 512, x87: 0, mxcsr: 24, registers: 32, xmm: 160 } as const;
export const HEADER = { start: 512, size: 64, stateBv: 512, compactionBv: 520 } as const;
const EXTENDED = HEADER.start + HEADER.size;
export const INITIAL_MXCSR = 0x1f80;
const INITIAL_CONTROL = 0x37f;
export const BIT = { x87: 1n, sse: 2n, avx: 4n, pkru: 1n << 9n } as const;

/** A component in the extended region. */
export interface Component {
  readonly number: number;
  readonly bit: bigint;
  readonly feature: FeatureName;
  readonly size: number;
  /** In the standard format. */
  readonly offset: number;
  inUse(state: State): boolean;
  pack(state: State): Uint8Array;
  /** @param bytes undefined for the initial configuration */
  unpack(state: State, bytes: Uint8Array | undefined): void;
}

const HALF = 16;
const upperHalf = (state: State, i: number): Uint8Array => {
  const at = OFFSET.ymm + 2 * HALF * i + HALF;
  return state.bytes.subarray(at, at + HALF);
};
/** Vector registers that the mode shows. */
const vectorCount = (state: State): number => (in64BitMode(state) ? 16 : 8);
const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

const COMPONENTS: readonly Component[] = [
  {
    number: 2,
    bit: BIT.avx,
    feature: 'avx',
    size: 256,
    offset: EXTENDED,
    inUse: (state) => indices(16).some((i) => !isZero(upperHalf(state, i))),
    pack: (state) => {
      const bytes = new Uint8Array(HALF * vectorCount(state));
      for (const i of indices(vectorCount(state))) bytes.set(upperHalf(state, i), HALF * i);
      return bytes;
    },
    unpack: (state, bytes) => {
      for (const i of indices(vectorCount(state))) {
        if (bytes === undefined) upperHalf(state, i).fill(0);
        else upperHalf(state, i).set(bytes.subarray(HALF * i, HALF * (i + 1)));
      }
    },
  },
  {
    number: 9,
    bit: BIT.pkru,
    feature: 'pku',
    size: 8,
    offset: 2688,
    inUse: (state) => state.get32('pkru') !== 0,
    pack: (state) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setUint32(0, state.get32('pkru'), true);
      return bytes;
    },
    unpack: (state, bytes) => {
      const value = bytes === undefined ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      state.set32('pkru', value);
    },
  },
];

export const componentsOf = ({ features }: CpuModel): readonly Component[] =>
  COMPONENTS.filter(({ feature }) => features.has(feature));

/** XCR0 bits that the model has. */
export const xcr0Bits = (model: CpuModel): bigint =>
  componentsOf(model).reduce((bits, { bit }) => bits | bit, BIT.x87 | BIT.sse);

/** Whether XSETBV accepts the value. */
export const isValidXcr0 = (model: CpuModel, value: bigint): boolean =>
  (value & BIT.x87) !== 0n &&
  (value & ~xcr0Bits(model)) === 0n &&
  ((value & BIT.avx) === 0n || (value & BIT.sse) !== 0n);

/** Bytes of an area with these components, in the standard or the compacted format. */
export function areaSize(model: CpuModel, components: bigint, compacted: boolean): number {
  const chosen = componentsOf(model).filter(({ bit }) => (components & bit) !== 0n);
  if (compacted) return chosen.reduce((size, component) => size + component.size, EXTENDED);
  return chosen.reduce((size, { offset, size: own }) => Math.max(size, offset + own), EXTENDED);
}

/** Where a component lies in a compacted area that holds `present`. None is aligned. */
export function compactedOffset(model: CpuModel, present: bigint, component: Component): number {
  const before = componentsOf(model).filter(({ bit, number }) => number < component.number && (present & bit) !== 0n);
  return before.reduce((offset, { size }) => offset + size, EXTENDED);
}

/** XINUSE: components that are not in their initial configuration. */
export function inUse(state: State, model: CpuModel): bigint {
  const area = packArea(state, true);
  const x87 = new Uint8Array(area.subarray(0, LEGACY.mxcsr));
  const control = new DataView(x87.buffer).getUint16(0, true);
  x87.fill(0, 0, 2);
  const initial = control === INITIAL_CONTROL && isZero(x87) && isZero(area.subarray(LEGACY.registers, LEGACY.xmm));
  const vectors = indices(16).some((i) => !isZero(state.bytes.subarray(OFFSET.ymm + 32 * i, OFFSET.ymm + 32 * i + 16)));
  const legacy = (initial ? 0n : BIT.x87) | (vectors ? BIT.sse : 0n);
  return componentsOf(model).reduce((bits, component) => bits | (component.inUse(state) ? component.bit : 0n), legacy);
}

/** What XRSTOR does to the legacy region's components. */
export interface LegacyRestore {
  /** 'load' from the area, 'initialise', or 'keep'. */
  readonly x87: Restore;
  readonly sse: Restore;
  /** New MXCSR; undefined keeps it. */
  readonly mxcsr: number | undefined;
}
export type Restore = 'load' | 'initialise' | 'keep';

/** @param area at least the legacy region's first 416 bytes @param wide 64-bit pointers */
export function restoreLegacy(state: State, area: Uint8Array, wide: boolean, { x87, sse, mxcsr }: LegacyRestore): void {
  const image = packArea(state, wide);
  const take = (how: Restore, from: number, to: number): void => {
    if (how === 'load') image.set(area.subarray(from, to), from);
    else if (how === 'initialise') image.fill(0, from, to);
  };
  take(x87, LEGACY.x87, LEGACY.mxcsr);
  take(x87, LEGACY.registers, LEGACY.xmm);
  take(sse, LEGACY.xmm, image.length);
  const view = new DataView(image.buffer);
  if (x87 === 'initialise') view.setUint16(0, INITIAL_CONTROL, true);
  if (mxcsr !== undefined) view.setUint32(LEGACY.mxcsr, mxcsr, true);
  unpackArea(state, image, wide);
}
