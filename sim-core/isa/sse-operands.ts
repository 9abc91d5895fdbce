import type { Intent, Stage, VectorPlace } from '../engine/stage.ts';
import { type I32, i32, load32 } from '../engine/value.ts';
import { shuffle, type V128, ZERO_VECTOR } from '../engine/vector.ts';
import { CR0, CR4, RFLAGS } from '../state/control-bits.ts';
import { CODE_MODE, OFFSET } from '../state/layout.ts';
import { VECTOR } from '../state/vectors.ts';

/** What SSE and AVX instructions have in common: operands and the conditions under which they may execute. */

const ZERO = i32(0);

/** #UD or #NM as CR0 and CR4 ask for (SDM Vol. 2A, "Exception Conditions of Legacy SSE instructions"). */
export function requireSse(s: Stage): void {
  const { code } = s;
  const cr0 = code.let(load32(ZERO, OFFSET.cr0));
  const noSave = code.let(load32(ZERO, OFFSET.cr4).and(CR4.osfxsr).eqz());
  code.if(cr0.and(CR0.em | CR0.ts).or(noSave), () => {
    s.faultIf(cr0.and(CR0.em).or(noSave), VECTOR.ud);
    s.faultIf(i32(1), VECTOR.nm);
  });
}

/** SSE and AVX state in XCR0. */
const AVX_STATE = 0x6;

/** #UD unless VEX prefixes are recognised: not in real-address and virtual-8086 mode. */
export function requireVexMode(s: Stage): void {
  const isProtected = load32(ZERO, OFFSET.cr0).and(CR0.pe);
  s.faultIf(isProtected.eqz().or(load32(ZERO, OFFSET.rflagsSystem).and(RFLAGS.vm)), VECTOR.ud);
}

/** #UD or #NM as CR4, XCR0 and CR0 ask for (SDM Vol. 2A, "VEX Exception Classes"). */
export function requireAvx(s: Stage): void {
  const { code } = s;
  if (s.form.mode !== CODE_MODE.code64) requireVexMode(s);
  const cr4 = load32(ZERO, OFFSET.cr4).and(CR4.osxsave).eqz();
  const noState = code.let(cr4.or(load32(ZERO, OFFSET.xcr0).and(AVX_STATE).ne(AVX_STATE)));
  s.faultIf(noState, VECTOR.ud);
  s.faultIf(load32(ZERO, OFFSET.cr0).and(CR0.ts), VECTOR.nm);
}

// ---- operands

/** Numbers of the source operands: without VEX the destination is the first source. */
export const sources = (s: Stage): readonly [first: number, second: number] => (s.form.vex ? [1, 2] : [0, 1]);

/** Halves of 16 bytes that the destination has. */
export const halvesOf = (s: Stage): number => (s.form.operands[0]?.kind === 'ymm' ? 2 : 1);

/** A whole operand; without VEX, one in memory must be aligned. */
const wide = (s: Stage, i: number, intent: Intent = 'read'): VectorPlace => s.vector(i, intent, !s.form.vex);

/** The 16-byte halves of operand `i`. */
export function readHalves(s: Stage, i: number, count = halvesOf(s)): readonly V128[] {
  const place = wide(s, i);
  return Array.from({ length: count }, (_, half) => place.read(half));
}

/** Writes the register in operand 0: VEX encodings clear what is above the result. */
export function writeHalves(s: Stage, [low, high]: readonly V128[]): void {
  if (!low) throw new TypeError(`${s.form.name} has no result`);
  s.vector(0, 'write').write(low, high ?? (s.form.vex ? ZERO_VECTOR : undefined));
}

/** Writes the low bytes of the register in operand 0; the rest of 16 is the first source's. */
export function writeScalar(s: Stage, bytes: 4 | 8, value: V128): void {
  if (!s.form.vex) return s.vector(0, 'write').writeLow(bytes, value);
  const rest = s.vector(1, 'read').read();
  writeHalves(s, [bytes === 4 ? shuffle(4, value, rest, [0, 5, 6, 7]) : shuffle(8, value, rest, [0, 3])]);
}

/** An 8-bit immediate, zero-extended. */
export const immediate = (s: Stage, i: number): I32 => s.code.let(s.operand(i, 'read').read().wrap().and(0xff));
export const lastImmediate = (s: Stage): I32 => immediate(s, s.form.operands.length - 1);

export const isImmediate = (s: Stage, i: number): boolean => s.form.operands[i]?.kind === 'immediate';

// ---- floating-point numbers

/** How floating-point numbers lie in a vector: the suffixes PS, PD, SS, SD. */
export interface FloatVariant {
  readonly shape: 'f32x4' | 'f64x2';
  /** Bytes of one number. */
  readonly bytes: 4 | 8;
  /** Only the low number counts. */
  readonly scalar: boolean;
}

export const FLOAT_VARIANTS = {
  ps: { shape: 'f32x4', bytes: 4, scalar: false },
  pd: { shape: 'f64x2', bytes: 8, scalar: false },
  ss: { shape: 'f32x4', bytes: 4, scalar: true },
  sd: { shape: 'f64x2', bytes: 8, scalar: true },
} as const satisfies Record<string, FloatVariant>;

/** The numbers of operand `i` by halves; a scalar has zeros above it. */
export const readFloats = (s: Stage, i: number, { scalar, bytes }: FloatVariant): readonly V128[] =>
  scalar ? [s.vector(i, 'read').readLow(bytes)] : readHalves(s, i);

export function writeFloats(s: Stage, { scalar, bytes }: FloatVariant, halves: readonly V128[]): void {
  if (scalar) writeScalar(s, bytes, halves[0] as V128);
  else writeHalves(s, halves);
}
