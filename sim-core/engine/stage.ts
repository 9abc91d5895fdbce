import type { Code } from './code.ts';
import type { Form } from './form.ts';
import type { I32, I64, Word } from './value.ts';
import type { V128 } from './vector.ts';

/**
 * The machine as one instruction's semantics sees it while being staged. Two back ends implement it: interpreter
 * handlers (operand numbers are read from the operation record at run time) and, later, the block compiler (they are
 * constants, registers and flags live in locals). Rules: a JavaScript `if` never tests a run-time value; everything
 * that can fault (operand reads, write probes, `faultIf`) comes before the first change of state.
 */
export interface Stage {
  readonly code: Code;
  readonly form: Form;
  readonly flags: Flags;

  /** A conditional part of the instruction: registers, memory and flags may be changed in it (not `code.if`). */
  when(condition: I32, then: () => void, otherwise?: () => void): void;

  /**
   * Explicit operand `i` as an integer. 'modify' probes memory for writing before it is read.
   * @param displacement added to a memory operand's address (bit strings, POP to an RSP-relative address)
   */
  operand(i: number, intent: Intent, displacement?: I64): Place;
  /**
   * Explicit operand `i` as a vector register or memory of the form's size. #GP(0) when `aligned` and in memory, but
   * not at a multiple of its size.
   */
  vector(i: number, intent: Intent, aligned?: boolean): VectorPlace;
  /** A general-purpose register by number (GPR). */
  gpr(register: number, size: 1 | 2 | 4 | 8): Place;
  /** Memory that no operand names: stack and string accesses. `offset` is within the segment. */
  memory(segment: number, offset: I64, size: 1 | 2 | 4 | 8, intent: Intent): Place;
  /**
   * Where `length` bytes of RAM at a linear address are in linear memory: 1 to 4096 on one page that the fast TLB holds;
   * else the slow implementation takes the instruction. Segments are not looked at.
   */
  bytesAt(linear: I64, length: I64, write: boolean): I32;
  /** The effective address of the memory operand (within its segment), truncated to the address size. */
  effectiveAddress(displacement?: I64): I64;
  /** 1 when the memory operand's base register is this one. */
  baseIs(register: number): I32;

  /** Instructions of the slice that are not begun yet: `granted` less these have begun, this one included. */
  budget(): I32;

  /** Takes instructions from the rest of the slice, and leaves the instruction to be slow when too few are left. */
  shorten(instructions: number): void;

  /** RIP of the next instruction, not truncated. */
  nextRip(): I64;
  /** Goes to the near branch target if `condition`, else falls through; the last thing an instruction does. */
  branchIf(condition: I32): void;
  /** Goes to the near branch target. */
  branch(): void;
  /** The near branch target, truncated to the operand size. */
  branchTarget(): I64;
  /** Goes to an offset in the code segment that `checkTarget` has accepted. */
  jump(target: I64): void;
  /** #GP(0) unless `target` is canonical (64-bit mode) or within the code segment's limit. */
  checkTarget(target: I64): void;

  /** Raises an exception without error code, or with error code 0 where the vector pushes one, if `condition`. */
  faultIf(condition: I32, vector: number): void;
  /** Hands the whole instruction to its slow (TypeScript) implementation if `condition`. */
  slowIf(condition: I32): void;
}

export type Intent = 'read' | 'write' | 'modify';

export interface Place {
  /** Bytes: 1, 2, 4 or 8. */
  readonly size: number;
  /** The value, zero-extended in an i32 (1, 2, 4 bytes) or i64 (8 bytes); evaluated now and kept. */
  read(): Word;
  /** Stores the low `size` bytes; a 4-byte register write clears the upper half. */
  write(value: Word): void;
}

export interface VectorPlace {
  /** Bytes of the operand: 16 or 32 for registers, the memory size otherwise. */
  readonly size: number;
  /** 16 bytes, of the upper half with 1; evaluated now and kept. */
  read(half?: number): V128;
  /** The low bytes, zero-extended; evaluated now and kept. */
  readLow(bytes: LowBytes): V128;
  /** Writes 16 or 32 bytes; the latter also to a register that is named by its lower half. */
  write(low: V128, high?: V128): void;
  /** Writes the low bytes of `value` only: registers keep the rest. */
  writeLow(bytes: LowBytes, value: V128): void;
}

/** Sizes of parts of a vector that are loaded and stored. */
export type LowBytes = 1 | 2 | 4 | 8;

/** Status flags. Sizes in bytes; operands and results as `Place.read` gives them, results truncated to the size. */
export interface Flags {
  /** Of a + b = result. */
  add(size: number, a: Word, b: Word, result: Word): void;
  /** Of a + b + CF = result. */
  addCarry(size: number, a: Word, b: Word, result: Word): void;
  /** Of a - b = result. */
  sub(size: number, a: Word, b: Word, result: Word): void;
  /** Of a - b - CF = result. */
  subBorrow(size: number, a: Word, b: Word, result: Word): void;
  /** CF = OF = AF = 0. */
  logic(size: number, result: Word): void;
  /** INC and DEC: like add and sub of 1 with CF unchanged. */
  increment(size: number, a: Word, result: Word): void;
  decrement(size: number, a: Word, result: Word): void;
  /** ZF, SF, PF of the result; CF and OF as given (0 or 1), AF = 0. */
  result(size: number, result: Word, carry: I32, overflow: I32): void;
  setCarry(carry: I32): void;
  /** Replaces CF and OF only (rotates). */
  setCarryOverflow(carry: I32, overflow: I32): void;
  /** Sets ZF alone, leaving the others as they are (BSF, CMPXCHG8B…). */
  setZero(zero: I32): void;
  /** 1 or 0. */
  carry(): I32;
  /** The condition of Jcc/SETcc/CMOVcc number `cc` (0…15, SDM Vol. 1 Appendix B): 1 or 0. */
  condition(cc: number): I32;
  /** CF, PF, AF, ZF, SF, OF at their RFLAGS positions. */
  pack(): I32;
  /** Sets all six from a word in RFLAGS layout. */
  unpack(value: I32): void;
}

/** An instruction's meaning, given once. */
export type Semantics = (stage: Stage) => void;
