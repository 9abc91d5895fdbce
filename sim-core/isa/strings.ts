/**
 * MOVS and STOS of 64-bit code, staged for the plain case: without REP always, with REP as long as all of it is RAM
 * on one page each that the fast TLB holds, upwards. cpu/string-instructions.ts does the rest.
 */

import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, i64, load32, type Word } from '../engine/value.ts';
import { RFLAGS } from '../state/control-bits.ts';
import { GPR, OFFSET, SEGMENT } from '../state/layout.ts';

const ZERO = i32(0);
const PAGE = 4096;

type Size = 1 | 2 | 4 | 8;

function elementSize(s: Stage): Size {
  const string = s.form.operands.find((operand) => operand.kind === 'string');
  if (string?.kind !== 'string') throw new TypeError(`${s.form.name} has no string operand`);
  return string.size;
}

function advance(s: Stage, register: number, bytes: I64): void {
  const pointer = s.gpr(register, 8);
  pointer.write(pointer.read().extendU().add(bytes));
}

/** Bytes from one element to the next: negative with RFLAGS.DF. */
const step = (s: Stage, size: Size): I64 => s.code.let(load32(ZERO, OFFSET.stringStep).mul(size).extendS());

const pointerOf = (s: Stage, register: number): I64 => s.gpr(register, 8).read().extendU();

/**
 * Executes a repeated instruction as a whole, if RCX counts at most a page of elements; nothing when it is 0.
 * @param run given the bytes of all elements: does what can fail, then what the instruction does
 */
function repeat(s: Stage, size: Size, registers: readonly number[], run: (bytes: I64) => void): void {
  const count = s.gpr(GPR.rcx, 8).read().extendU();
  const flags = load32(ZERO, OFFSET.rflagsSystem);
  s.slowIf(flags.and(RFLAGS.df | RFLAGS.tf | RFLAGS.rf).or(count.gtU(PAGE / size)));
  s.when(count.ne(0), () => {
    const bytes = s.code.let(count.mul(size));
    run(bytes);
    for (const register of registers) advance(s, register, bytes);
    s.gpr(GPR.rcx, 8).write(i64(0));
  });
}

const movs: Semantics = (s) => {
  const size = elementSize(s);
  if (s.form.repeat === 'none') {
    const value = s.memory(SEGMENT.ds, pointerOf(s, GPR.rsi), size, 'read').read();
    s.memory(SEGMENT.es, pointerOf(s, GPR.rdi), size, 'write').write(value);
    const bytes = step(s, size);
    for (const register of [GPR.rsi, GPR.rdi]) advance(s, register, bytes);
    return;
  }
  repeat(s, size, [GPR.rsi, GPR.rdi], (bytes) => {
    const from = s.bytesAt(pointerOf(s, GPR.rsi), bytes, false);
    const to = s.bytesAt(pointerOf(s, GPR.rdi), bytes, true);
    // Elements that the copy has written may be read again.
    s.slowIf(to.sub(from).ltU(bytes.wrap()));
    s.code.copy(to, from, bytes.wrap());
  });
};

const bits = (size: Size): bigint => (1n << BigInt(8 * size)) - 1n;

/** @returns a byte that all bytes of the value equal; other values are for the slow instruction */
function uniformByte(s: Stage, value: Word, size: Size): I32 {
  const byte = s.code.let(value.wrap().and(0xff));
  if (size === 1) return byte;
  const spread = 0x0101_0101_0101_0101n & bits(size);
  s.slowIf(size === 8 ? value.ne(byte.extendU().mul(spread) as Word) : value.ne(byte.mul(spread) as Word));
  return byte;
}

const stos: Semantics = (s) => {
  const size = elementSize(s);
  const value = s.gpr(GPR.rax, size).read();
  if (s.form.repeat === 'none') {
    s.memory(SEGMENT.es, pointerOf(s, GPR.rdi), size, 'write').write(value);
    advance(s, GPR.rdi, step(s, size));
    return;
  }
  repeat(s, size, [GPR.rdi], (bytes) => {
    const byte = uniformByte(s, value, size);
    s.code.fill(s.bytesAt(pointerOf(s, GPR.rdi), bytes, true), byte, bytes.wrap());
  });
};

export const STRINGS: Readonly<Record<string, Semantics>> = {
  Movsb: movs, Movsw: movs, Movsd: movs, Movsq: movs,
  Stosb: stos, Stosw: stos, Stosd: stos, Stosq: stos,
}; // biome-ignore format: a table reads better in rows
