import type { I32, IntType, Word } from '../engine/value.ts';

/** Helpers for staged integers of an operand's size (1, 2, 4 bytes in an i32, 8 in an i64). */

export const bitsOf = (size: number): number => 8 * size;

/** The low `size` bytes, zero-extended. */
export const truncated = (size: number, word: Word): Word => (size < 4 ? word.zeroExtend(bitsOf(size)) : word);

/** The low `size` bytes, sign-extended within the type. */
export const signExtended = (size: number, word: Word): Word =>
  size === 1 ? word.signExtend(8) : size === 2 ? word.signExtend(16) : word;

/** The operand's most significant bit, 0 or 1. */
export const topBit = (size: number, word: Word): I32 =>
  word
    .shrU(bitsOf(size) - 1)
    .wrap()
    .and(1);

/** A word as the given type: zero-extended or wrapped. */
export const toWord = (word: Word, type: IntType): Word => (type === 'i64' ? word.extendU() : word.wrap());
