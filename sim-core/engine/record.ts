/**
 * Operation records: decoded instructions in linear memory, as interpreter handlers read them. Records of one page that
 * follow each other in the guest's code are chained by `next`.
 */

/** Byte offsets in a record; the width follows the name. */
export const RECORD = {
  /** Index of the handler in the table (i32). */
  handler: 0,
  /** The record to go on with (i32). */
  next: 4,
  /** Near branches: the target's record in the same page; LINK.unresolved or LINK.lookup otherwise (i32). */
  target: 8,
  /** Offset of the instruction and of its successor in its page (u16); the latter may be 4096 or more. */
  offset: 12,
  nextOffset: 14,
  /** State addresses of register operands 0…3 (u16 each). */
  operand: 16,
  /** State addresses of base and index registers (u16), `OFFSET.zero` when absent. */
  base: 24,
  index: 26,
  /** Logarithm of the scale (u8). */
  scale: 28,
  /** Segment number × 8: what to add to the per-segment arrays of 8-byte elements (u8). */
  segment: 29,
  /** Executions by the dispatch loop, modulo 65536: counted where code is compiled at all (u16). */
  heat: 30,
  /** Displacement, sign-extended (i64). */
  displacement: 32,
  /** Immediate, or near-branch target relative to `codeBase` (i64). */
  immediate: 40,
  /** Physical page number (u32). */
  page: 48,
  /** Index of the DecodedInstruction kept in TypeScript (u32); 0 = none yet. */
  instruction: 52,
  /** The interpreter handler of a record whose `handler` is a breakpoint or a compiled region (i32). */
  original: 56,
  /** Instruction length (u8). */
  length: 60,
  /** Heads of compiled blocks: the block's number in its region; other compiled instructions: 0xFFFF (u16). */
  entry: 62,
  size: 64,
} as const;

export const LINK = { unresolved: 0, lookup: 1 } as const;

/** Why the dispatch loop returned to TypeScript; `state.exitCode`. `state.rip` is valid in every case. */
export const EXIT = {
  /** The budget is used up. */
  budget: 0,
  /** No record is known for `state.rip`. */
  resolve: 1,
  /** The instruction at `state.rip` faulted; it has changed nothing. */
  fault: 2,
  /** A breakpoint record is at `state.rip`. */
  breakpoint: 3,
  /** A slow instruction finished and something wants TypeScript's attention. */
  attention: 4,
  /** The instruction at `state.rip`, of the record `exitRecord`, has been executed often: RECORD.heat. */
  hot: 5,
} as const;
