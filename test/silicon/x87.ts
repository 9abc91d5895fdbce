/** The x87 state of cases: random contents with a liking for the edges, and its parts by name. */

import { packArea, unpackArea } from '../../sim-core/cpu/fpu-instructions.ts';
import type { State } from '../../sim-core/state/state.ts';
import { X87_BYTES } from './layout.ts';
import type { Random } from './random.ts';

/** Offsets in the FXSAVE64 area. */
const AREA = { control: 0, status: 2, tags: 4, opcode: 6, ip: 8, dp: 16, mxcsr: 24, registers: 32 } as const;
const REGISTER_STEP = 16;
const REGISTER_BYTES = 10;
const FXSAVE_BYTES = 416;

/** As FNINIT leaves it. */
export const INITIAL_X87: Uint8Array = Uint8Array.from({ length: X87_BYTES }, (_, i) => [0x7f, 0x03][i] ?? 0);

/** Gives the simulator's processor an x87 state. */
export function setX87(state: State, x87: Uint8Array): void {
  const area = packArea(state, true);
  const whole = new Uint8Array(Math.max(area.length, FXSAVE_BYTES));
  whole.set(area);
  whole.set(x87.subarray(0, AREA.mxcsr));
  whole.set(x87.subarray(AREA.registers), AREA.registers);
  unpackArea(state, whole, true);
}

export const x87Of = (state: State): Uint8Array => packArea(state, true).slice(0, X87_BYTES);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes.slice().reverse()).toString('hex');

/** Whether an exception waits to be reported: only then do some processors save the pointers. */
const isPending = (x87: Uint8Array): boolean => ((x87[AREA.status] ?? 0) & 0x80) !== 0;

/** Registers as their 20 hexadecimal digits, with what else the processor keeps. */
export function x87Parts(x87: Uint8Array, undefinedStatusBits = 0): Map<string, string> {
  const word = (at: number, size: number) => hex(x87.subarray(at, at + size));
  const parts = new Map([
    ['x87 control', word(AREA.control, 2)],
    ['x87 status', ((Number.parseInt(word(AREA.status, 2), 16) & ~undefinedStatusBits) >>> 0).toString(16)],
    ['x87 tags', word(AREA.tags, 1)],
  ]);
  if (isPending(x87)) {
    parts.set('x87 ip', word(AREA.ip, 8)).set('x87 dp', word(AREA.dp, 8)).set('x87 opcode', word(AREA.opcode, 2));
  }
  for (let i = 0; i < 8; i++) parts.set(`st${i}`, word(AREA.registers + REGISTER_STEP * i, REGISTER_BYTES));
  return parts;
}

/** Control, status and tag words, pointers, opcode, registers: 4 + 4 + 4 + 20 + 80 bytes. */
export const X87_COMPARED_BYTES = 112;

/** The compared parts as bytes; what is not compared is 0. */
export function x87Compared(x87: Uint8Array, undefinedStatusBits: number): Uint8Array {
  const bytes = new Uint8Array(X87_COMPARED_BYTES);
  bytes.set(x87.subarray(AREA.control, AREA.status + 2));
  const view = new DataView(bytes.buffer);
  view.setUint16(AREA.status, view.getUint16(AREA.status, true) & ~undefinedStatusBits, true);
  bytes[AREA.tags] = x87[AREA.tags] ?? 0;
  if (isPending(x87)) bytes.set(x87.subarray(AREA.opcode, AREA.mxcsr), 8);
  for (let i = 0; i < 8; i++) {
    const from = AREA.registers + REGISTER_STEP * i;
    bytes.set(x87.subarray(from, from + REGISTER_BYTES), 32 + REGISTER_BYTES * i);
  }
  return bytes;
}

// ---- random states

const INTEGER_BIT = 1n << 63n;
const EXPONENT_ONES = 0x7fffn;

/** Exponent and significand of numbers at the edges of all kinds. */
const EDGES: readonly (readonly [bigint, bigint])[] = [
  [0n, 0n], [0n, 1n], [0n, INTEGER_BIT - 1n], [0n, INTEGER_BIT], [0n, 0xffff_ffff_ffff_ffffn], [1n, INTEGER_BIT],
  [1n, INTEGER_BIT + 1n], [0x7ffen, 0xffff_ffff_ffff_ffffn], [EXPONENT_ONES, INTEGER_BIT],
  [EXPONENT_ONES, 0xc000_0000_0000_0000n], [EXPONENT_ONES, 0xc000_0000_1234_5678n],
  [EXPONENT_ONES, 0x8000_0000_0000_0001n], [EXPONENT_ONES, 0xa5a5_a5a5_a5a5_a5a5n], [EXPONENT_ONES, 0n],
  [EXPONENT_ONES, 0x4000_0000_0000_0000n], [0x3fffn, 0x4000_0000_0000_0000n], [1n, 0n], [0x3fffn, INTEGER_BIT],
  [0x3ffen, INTEGER_BIT], [0x3fffn, 0xc000_0000_0000_0000n], [0x4000n, 0xa000_0000_0000_0000n],
  [0x400dn, 0xfffe_0000_0000_0000n], [0x400dn, 0xffff_0000_0000_0000n], [0x400en, INTEGER_BIT],
  [0x401dn, 0xffff_ffff_0000_0000n], [0x401en, INTEGER_BIT], [0x401en, 0x8000_0000_8000_0000n],
  [0x403dn, 0xffff_ffff_ffff_ffffn], [0x403en, INTEGER_BIT], [0x403en, INTEGER_BIT + 1n],
  [0x403an, 0xde0b_6b3a_763f_fff0n], [0x403an, 0xde0b_6b3a_7640_0000n], [0x407en, 0xffff_ff80_0000_0000n],
  [0x407en, 0xffff_ff00_0000_0000n], [0x43fen, 0xffff_ffff_ffff_fc00n], [0x43fen, 0xffff_ffff_ffff_f800n],
  [0x3f81n, INTEGER_BIT], [0x3f80n, 0xffff_ff80_0000_0000n], [0x3f69n, INTEGER_BIT], [0x3f6an, INTEGER_BIT],
  [0x3c01n, INTEGER_BIT], [0x3c00n, 0xffff_ffff_ffff_fc00n], [0x3bcdn, INTEGER_BIT], [0x3bccn, INTEGER_BIT],
  [0x3fffn, 0x8000_0080_0000_0000n], [0x3fffn, 0x8000_0180_0000_0000n], [0x3fffn, 0x8000_0000_0000_0400n],
  [0x3fffn, 0x8000_0000_0000_0c00n], [0x3fffn, 0xffff_ffff_ffff_ffffn], [0x3ffen, 0xffff_ffff_ffff_ffffn],
  [0x4000n, 0xc90f_daa2_2168_c235n], [0x3fffn, 0xc90f_daa2_2168_c235n], [0x3ffen, 0xc90f_daa2_2168_c234n],
  [0x400cn, 0x8002_0000_0000_0000n], [0x400dn, 0xc000_0000_0000_0000n],
]; // biome-ignore format: a list reads better in rows

/** A significand with few ones, all of them, or any. */
function significand(random: Random): bigint {
  const bits = random.bits64();
  const kind = random.below(4);
  if (kind === 0) return INTEGER_BIT | (1n << BigInt(random.below(64)));
  if (kind === 1) return BigInt.asUintN(64, ~0n << BigInt(random.below(64)));
  return INTEGER_BIT | (kind === 2 ? bits : (bits >> BigInt(random.below(64))) << BigInt(random.below(40)));
}

function randomNumber(random: Random): readonly [bigint, bigint] {
  const kind = random.below(8);
  if (kind < 2) return random.pick(EDGES);
  const fraction = BigInt.asUintN(64, significand(random)) | INTEGER_BIT;
  if (kind < 6) return [BigInt(0x3fff + random.below(90) - 45), fraction];
  if (kind === 6) return [BigInt(random.below(0x7fff)), fraction];
  return random.chance(50) ? [0n, random.bits64() >> BigInt(random.below(64))] : [BigInt(random.below(70)), fraction];
}

/** Ten bytes of a number. */
export function randomExtended(random: Random): Uint8Array {
  const [exponent, fraction] = randomNumber(random);
  const bytes = new Uint8Array(REGISTER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, fraction, true);
  view.setUint16(8, Number(exponent) | (random.below(2) << 15), true);
  return bytes;
}

const EXCEPTIONS = 0x3f;
const SUMMARY = 0x8080;
const NO_ST7 = 0x7f;

/** @param mnemonic transcendental instructions mostly get operands in their range. */
export function randomX87(random: Random, mnemonic: string): Uint8Array {
  const x87 = new Uint8Array(X87_BYTES);
  const view = new DataView(x87.buffer);
  const masks = random.chance(65) ? EXCEPTIONS : random.below(64);
  const precision = random.pick([0, 2, 3, 3]);
  const control = (random.below(4) << 10) | (precision << 8) | 0x40 | masks;
  const pending = random.chance(5) ? EXCEPTIONS : masks;
  const flags = random.below(64) & pending & (random.chance(50) ? EXCEPTIONS : 0);
  const summary = (flags & ~masks) === 0 ? 0 : SUMMARY;
  const top = random.below(8);
  view.setUint16(AREA.control, control, true);
  view.setUint16(AREA.status, (random.below(8) << 8) | (random.below(2) << 14) | (top << 11) | flags | summary, true);
  const filled = random.pick([0xff, NO_ST7, NO_ST7, random.below(256)]);
  // Tags are by physical number.
  x87[AREA.tags] = ((filled << top) | (filled >> (8 - top))) & 0xff;
  if (isPending(x87)) {
    view.setUint16(AREA.opcode, random.below(0x800), true);
    view.setBigUint64(AREA.ip, random.bits64() >> 20n, true);
    view.setBigUint64(AREA.dp, random.bits64() >> 20n, true);
  }
  for (let i = 0; i < 8; i++) x87.set(randomExtended(random), AREA.registers + REGISTER_STEP * i);
  if (isOutsideRange(mnemonic, x87) && random.chance(80)) view.setUint16(AREA.registers + 8, moderate(random), true);
  return x87;
}

/** Sign and exponent of a number below a quarter. */
const moderate = (random: Random): number => (random.below(2) << 15) | (0x3ffc - random.below(70));

// ---- transcendental instructions

export const TRANSCENDENTAL: ReadonlySet<string> = new Set([
  'F2xm1', 'Fyl2x', 'Fyl2xp1', 'Fsin', 'Fcos', 'Fsincos', 'Fptan', 'Fpatan',
]); // biome-ignore format: one line says it

/** Whether ST(0) is a finite number for which the manual leaves the result undefined. */
export function isOutsideRange(mnemonic: string, x87: Uint8Array): boolean {
  if (mnemonic !== 'F2xm1' && mnemonic !== 'Fyl2xp1') return false;
  const view = new DataView(x87.buffer, x87.byteOffset + AREA.registers);
  const exponent = view.getUint16(8, true) & 0x7fff;
  const fraction = view.getBigUint64(0, true);
  // 1 for F2XM1, a little less than 1 - √½ for FYL2XP1.
  if (mnemonic === 'F2xm1') return exponent > 0x3fff || (exponent === 0x3fff && fraction !== INTEGER_BIT);
  return exponent > 0x3ffd || (exponent === 0x3ffd && fraction > 0x9000_0000_0000_0000n);
}

const C1 = 0x200;
const COMPARED_TO_FLAGS: ReadonlySet<string> = new Set(['Fcomi', 'Fcomip', 'Fucomi', 'Fucomip']);

/**
 * Status-word bits where processors differ: C1 of a transcendental result depends on bits that nobody sees, and AMD's
 * do not clear C1 in FCOMI as Intel's manual says.
 */
export const undefinedStatus = (mnemonic: string): number =>
  TRANSCENDENTAL.has(mnemonic) || COMPARED_TO_FLAGS.has(mnemonic) ? C1 : 0;

const INVALID = 1;
const ARITHMETIC_FLAGS = 0x8d5;

/** Flags of FCOMI with the invalid-operation exception unmasked: Intel's manual says they stay, AMD's are set. */
export const undefinedRelation = (mnemonic: string, x87: Uint8Array): number =>
  COMPARED_TO_FLAGS.has(mnemonic) && ((x87[AREA.control] ?? 0) & INVALID) === 0 ? ARITHMETIC_FLAGS : 0;

/** A number's place in the order of magnitudes with its sign above them, so that neighbours differ by 1. */
function ordinal(x87: Uint8Array, register: number): bigint {
  const view = new DataView(x87.buffer, x87.byteOffset + AREA.registers + REGISTER_STEP * register);
  return (BigInt(view.getUint16(8, true)) << 63n) + BigInt.asUintN(63, view.getBigUint64(0, true));
}

/** The state and those whose ST(0) and ST(1) differ from its by at most one unit in the last place. */
export function neighbours(x87: Uint8Array): Uint8Array[] {
  let states = [x87];
  for (const register of [0, 1]) {
    states = states.flatMap((state) => [state, nudged(state, register, 1n), nudged(state, register, -1n)]);
  }
  return states;
}

/** The next number up or down in magnitude; zeros stay. */
function nudged(x87: Uint8Array, register: number, by: bigint): Uint8Array {
  const state = x87.slice();
  const at = AREA.registers + REGISTER_STEP * register;
  const view = new DataView(state.buffer);
  const place = ordinal(x87, register);
  const moved = place + by;
  const exponent = (moved >> 63n) & EXPONENT_ONES;
  view.setUint16(at + 8, Number(moved >> 63n), true);
  view.setBigUint64(at, BigInt.asUintN(63, moved) | (exponent === 0n ? 0n : INTEGER_BIT), true);
  return place === 0n ? x87 : state;
}

/** The simulator's state with those registers taken from silicon that are its neighbours, and whether there are any. */
export function withoutLastBits(silicon: Uint8Array, simulator: Uint8Array): { x87: Uint8Array; differed: boolean } {
  const x87 = simulator.slice();
  let differed = false;
  for (let i = 0; i < 8; i++) {
    const distance = ordinal(silicon, i) - ordinal(simulator, i);
    if (distance !== 1n && distance !== -1n) continue;
    const from = AREA.registers + REGISTER_STEP * i;
    x87.set(silicon.subarray(from, from + REGISTER_BYTES), from);
    differed = true;
  }
  return { x87, differed };
}
