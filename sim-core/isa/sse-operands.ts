import type { Intent, Stage, VectorPlace } from '../engine/stage.ts';
import { type I32, i32, load32 } from '../engine/value.ts';
import type { V128 } from '../engine/vector.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { OFFSET } from '../state/layout.ts';

/** What SSE and SSE2 instructions have in common: operands and the conditions under which they may execute. */

const ZERO = i32(0);
const UNDEFINED_OPCODE = 6;
const DEVICE_NOT_AVAILABLE = 7;

/** #UD or #NM as CR0 and CR4 ask for (SDM Vol. 2A, "Exception Conditions of Legacy SSE instructions"). */
export function requireSse(s: Stage): void {
  const { code } = s;
  const cr0 = code.let(load32(ZERO, OFFSET.cr0));
  const noSave = code.let(load32(ZERO, OFFSET.cr4).and(CR4.osfxsr).eqz());
  code.if(cr0.and(CR0.em | CR0.ts).or(noSave), () => {
    s.faultIf(cr0.and(CR0.em).or(noSave), UNDEFINED_OPCODE);
    s.faultIf(i32(1), DEVICE_NOT_AVAILABLE);
  });
}

/** MXCSR after power-up without its six status flags: round to nearest, all exceptions masked, no DAZ, no FTZ. */
const MXCSR_DEFAULT = 0x1f80;
export const MXCSR_STATUS = 0x3f;

/**
 * Floating-point results are computed for the default MXCSR only; with another one the instruction is handed to its
 * slow implementation.
 */
export function requireDefaultMxcsr(s: Stage): void {
  s.slowIf(
    load32(ZERO, OFFSET.mxcsr)
      .and(0xffff & ~MXCSR_STATUS)
      .ne(MXCSR_DEFAULT),
  );
}

/** Operand `i` of 16 bytes: in memory it must be aligned. */
export const wide = (s: Stage, i: number, intent: Intent = 'read'): VectorPlace => s.vector(i, intent, true);

/** An 8-bit immediate, zero-extended. */
export const immediate = (s: Stage, i: number): I32 => s.code.let(s.operand(i, 'read').read().wrap().and(0xff));

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

/** The numbers of operand `i`; a scalar has zeros above it. */
export const readFloats = (s: Stage, i: number, { scalar, bytes }: FloatVariant): V128 =>
  scalar ? s.vector(i, 'read').readLow(bytes) : wide(s, i).read();

export function writeFloats(s: Stage, { scalar, bytes }: FloatVariant, value: V128): void {
  const target = s.vector(0, 'write');
  if (scalar) target.writeLow(bytes, value);
  else target.write(value);
}
