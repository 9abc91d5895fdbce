/** The x87 register stack in the state (SDM Vol. 1, "x87 FPU Execution Environment"). */

import { OFFSET } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import { ALL_EXCEPTIONS, type Arithmetic, classify, FLAG, type Float80, INDEFINITE } from './float80.ts';

/** Status word. */
export const STATUS = {
  summary: 0x80, c0: 0x100, c1: 0x200, c2: 0x400, c3: 0x4000, top: 0x3800, busy: 0x8000,
} as const; // biome-ignore format: a table reads better in rows
const CONDITIONS = STATUS.c0 | STATUS.c1 | STATUS.c2 | STATUS.c3;
const TOP_SHIFT = 11;

export const DEFAULT_CONTROL = 0x37f;
export const ALL_EMPTY = 0xffff;
const EMPTY = 3;

const at = (physical: number): number => OFFSET.x87 + 16 * physical;

export const topOf = (state: State): number => (state.get32('x87Status') & STATUS.top) >>> TOP_SHIFT;

export function setTop(state: State, top: number): void {
  state.set32('x87Status', (state.get32('x87Status') & ~STATUS.top) | ((top & 7) << TOP_SHIFT));
}

/** Number in the register file of ST(i). */
const physicalOf = (state: State, i: number): number => (topOf(state) + i) & 7;

function physicalRegister(state: State, physical: number): Float80 {
  const high = state.view.getUint16(at(physical) + 8, true);
  return {
    sign: (high >>> 15) as 0 | 1,
    exponent: high & 0x7fff,
    significand: state.view.getBigUint64(at(physical), true),
  };
}

export const readStack = (state: State, i: number): Float80 => physicalRegister(state, physicalOf(state, i));

/** Writes ST(i), which thereby is not empty. */
export function writeStack(state: State, i: number, { sign, exponent, significand }: Float80): void {
  const physical = physicalOf(state, i);
  state.view.setBigUint64(at(physical), significand, true);
  state.view.setUint16(at(physical) + 8, (sign << 15) | exponent, true);
  state.set32('x87Tag', state.get32('x87Tag') & ~(EMPTY << (2 * physical)));
}

/** The 80 bits of ST(i), in the double extended-precision format. */
export function readStackBits(state: State, i: number): bigint {
  const address = at(physicalOf(state, i));
  return (BigInt(state.view.getUint16(address + 8, true)) << 64n) | state.view.getBigUint64(address, true);
}

/** Leaves the tag as it is. */
export function writeStackBits(state: State, i: number, bits: bigint): void {
  const address = at(physicalOf(state, i));
  state.view.setBigUint64(address, BigInt.asUintN(64, bits), true);
  state.view.setUint16(address + 8, Number(bits >> 64n), true);
}

const isEmptyRegister = (state: State, physical: number): boolean =>
  ((state.get32('x87Tag') >>> (2 * physical)) & EMPTY) === EMPTY;

export const isEmpty = (state: State, i: number): boolean => isEmptyRegister(state, physicalOf(state, i));

export function setEmpty(state: State, i: number): void {
  state.set32('x87Tag', state.get32('x87Tag') | (EMPTY << (2 * physicalOf(state, i))));
}

export function pop(state: State): void {
  setEmpty(state, 0);
  setTop(state, topOf(state) + 1);
}

export function push(state: State, value: Float80): void {
  setTop(state, topOf(state) - 1);
  writeStack(state, 0, value);
}

// ---- tags

const TAG = { normal: 'valid', zero: 'zero', other: 'special' } as const;
const TAG_NUMBER = { valid: 0, zero: 1, special: 2 } as const;

/**
 * The tag word as FNSTENV stores it: valid, zero, special or empty. The state keeps only which registers are empty;
 * the rest follows from their contents.
 */
export function fullTags(state: State): number {
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    const kind = classify(physicalRegister(state, i));
    const tag = kind === 'normal' || kind === 'zero' ? TAG[kind] : TAG.other;
    tags |= (isEmptyRegister(state, i) ? EMPTY : TAG_NUMBER[tag]) << (2 * i);
  }
  return tags;
}

/** Keeps of a tag word which registers are empty. */
export function setTags(state: State, tags: number): void {
  const pairs = tags & (tags >>> 1) & 0x5555;
  state.set32('x87Tag', pairs | (pairs << 1));
}

// ---- exceptions

/** Brings the summary bits ES and B in line with flags and masks. */
export function summarise(state: State): void {
  const status = state.get32('x87Status');
  const pending = (status & ~state.get32('x87Control') & ALL_EXCEPTIONS) !== 0;
  const bits = STATUS.summary | STATUS.busy;
  state.set32('x87Status', pending ? status | bits : status & ~bits);
}

/** Adds an operation's exceptions to the status word, and its C1. */
export function settle(state: State, { flags, roundedUp }: Arithmetic): void {
  const status = state.get32('x87Status') & ~STATUS.c1;
  state.set32('x87Status', status | flags | (roundedUp ? STATUS.c1 : 0));
  summarise(state);
}

/** A register expected full is empty. @returns what masked responses write; undefined when it is unmasked */
export const stackUnderflow = (state: State, arithmetic: Arithmetic): Float80 | undefined =>
  stackFault(state, arithmetic, false);

/** A register expected empty is full. */
export const stackOverflow = (state: State, arithmetic: Arithmetic): Float80 | undefined =>
  stackFault(state, arithmetic, true);

function stackFault(state: State, arithmetic: Arithmetic, overflow: boolean): Float80 | undefined {
  arithmetic.flags = FLAG.invalid | FLAG.stackFault;
  arithmetic.roundedUp = overflow;
  settle(state, arithmetic);
  return arithmetic.isPrevented ? undefined : INDEFINITE;
}

/** C0, C2 and C3; C1 is set with the exceptions. */
export function setConditions(state: State, bits: number): void {
  const others = CONDITIONS & ~STATUS.c1;
  state.set32('x87Status', (state.get32('x87Status') & ~others) | bits);
}
