import { OFFSET } from '../state/layout.ts';
import type { Code } from './code.ts';
import type { Flags } from './stage.ts';
import { type I32, type I64, i32, i64, load32, load64, select, type Word } from './value.ts';

/**
 * Status flags kept lazily in three cells (see state/layout.ts): the sign-extended result gives ZF, SF and PF; the
 * carry vector, moved up so that the operand's top bit is bit 63, gives CF (bit 63) and OF (bit 63 xor bit 62);
 * `flagMisc` gives AF (bit 4) and corrects PF (bits 15:8) and SF (bit 31) for combinations that no result has.
 */

/** Where the three cells live: memory for handlers, locals for compiled blocks. */
export interface FlagCells {
  result(): I64;
  carry(): I64;
  misc(): I32;
  setResult(value: I64): void;
  setCarry(value: I64): void;
  setMisc(value: I32): void;
}

const ZERO = i32(0);
const AF = 0x10;

export function memoryFlagCells(code: Code): FlagCells {
  return {
    result: () => load64(ZERO, OFFSET.flagResult),
    carry: () => load64(ZERO, OFFSET.flagCarry),
    misc: () => load32(ZERO, OFFSET.flagMisc),
    setResult: (value) => code.store(8, ZERO, value, OFFSET.flagResult),
    setCarry: (value) => code.store(8, ZERO, value, OFFSET.flagCarry),
    setMisc: (value) => code.store(4, ZERO, value, OFFSET.flagMisc),
  };
}

/** A value of `size` bytes, sign-extended to 64 bits. */
const signed = (size: number, value: Word): I64 =>
  size === 8 ? value.extendU() : size === 4 ? value.extendS() : value.signExtend(size === 2 ? 16 : 8).extendS();

/** Moves bit 8·size - 1 to bit 63. */
const toTop = (size: number, vector: Word): I64 => vector.extendU().shl(64 - 8 * size);

const topBits = (carry: I32, overflow: I32): I64 => carry.shl(1).or(carry.xor(overflow)).extendU().shl(62);

export class LazyFlags implements Flags {
  private readonly code: Code;
  private readonly cells: FlagCells;

  constructor(code: Code, cells: FlagCells) {
    this.code = code;
    this.cells = cells;
  }

  add(size: number, a: Word, b: Word, result: Word): void {
    const carries = a.and(b).or(a.or(b).and(result.not()));
    this.setAll(size, a.xor(b), result, toTop(size, carries));
  }

  sub(size: number, a: Word, b: Word, result: Word): void {
    const borrows = a.not().and(b).or(a.not().or(b).and(result));
    this.setAll(size, a.xor(b), result, toTop(size, borrows));
  }

  /** The carry vector says the same with and without a carry in. */
  addCarry(size: number, a: Word, b: Word, result: Word): void {
    this.add(size, a, b, result);
  }
  subBorrow(size: number, a: Word, b: Word, result: Word): void {
    this.sub(size, a, b, result);
  }

  private setAll(size: number, aXorB: Word, result: Word, carry: I64): void {
    this.cells.setResult(signed(size, result));
    this.cells.setCarry(carry);
    this.cells.setMisc(aXorB.xor(result).wrap().and(AF));
  }

  logic(size: number, result: Word): void {
    this.cells.setResult(signed(size, result));
    this.cells.setCarry(i64(0));
    this.cells.setMisc(i32(0));
  }

  increment(size: number, a: Word, result: Word): void {
    const overflow = a.not().and(result);
    this.step(size, a, result, overflow);
  }

  decrement(size: number, a: Word, result: Word): void {
    const overflow = a.and(result.not());
    this.step(size, a, result, overflow);
  }

  /** INC and DEC: overflow is the top bit of the vector; CF stays, so bit 62 becomes CF xor OF. */
  private step(size: number, a: Word, result: Word, overflowVector: Word): void {
    const carry = this.code.let(this.carry());
    const overflow = this.code.let(toTop(size, overflowVector).shrU(63).wrap());
    this.cells.setResult(signed(size, result));
    this.cells.setCarry(topBits(carry, overflow));
    this.cells.setMisc(a.xor(result).xor(a.like(1)).wrap().and(AF));
  }

  result(size: number, result: Word, carry: I32, overflow: I32): void {
    this.cells.setResult(signed(size, result));
    this.cells.setCarry(topBits(carry, overflow));
    this.cells.setMisc(i32(0));
  }

  setCarry(carry: I32): void {
    const overflow = this.code.let(this.overflow());
    this.cells.setCarry(topBits(carry, overflow));
  }

  setCarryOverflow(carry: I32, overflow: I32): void {
    this.cells.setCarry(topBits(carry, overflow));
  }

  setZero(zero: I32): void {
    const packed = this.code.let(this.pack().and(~0x40).or(zero.shl(6)));
    this.unpack(packed);
  }

  carry(): I32 {
    return this.cells.carry().shrU(63).wrap();
  }
  private overflow(): I32 {
    const carry = this.cells.carry();
    return carry.xor(carry.shl(1)).shrU(63).wrap();
  }
  private zero(): I32 {
    return this.cells.result().eqz();
  }
  private sign(): I32 {
    return this.cells.result().shrU(63).wrap().xor(this.cells.misc().shrU(31));
  }
  private parity(): I32 {
    const low = this.cells.result().wrap().xor(this.cells.misc().shrU(8)).and(0xff);
    return low.popcnt().and(1).xor(1);
  }

  condition(cc: number): I32 {
    const base = [
      () => this.overflow(),
      () => this.carry(),
      () => this.zero(),
      () => this.carry().or(this.zero()),
      () => this.sign(),
      () => this.parity(),
      () => this.sign().xor(this.overflow()),
      () => this.zero().or(this.sign().xor(this.overflow())),
    ][cc >> 1];
    if (base === undefined) throw new RangeError(`no condition ${cc}`);
    return (cc & 1) === 0 ? base() : base().eqz();
  }

  pack(): I32 {
    return this.carry()
      .or(this.parity().shl(2))
      .or(this.cells.misc().and(AF))
      .or(this.zero().shl(6))
      .or(this.sign().shl(7))
      .or(this.overflow().shl(11));
  }

  unpack(packed: I32): void {
    const value = this.code.let(packed);
    const zero = value.shrU(6).and(1);
    const sign = value.shrU(7).and(1);
    const carry = value.and(1);
    const overflow = value.shrU(11).and(1);
    // The result is 0 (ZF) or 1: its parity is even or odd, so the correction byte is 1 where PF differs from it.
    const parityCorrection = value.shrU(2).and(1).xor(zero);
    this.cells.setResult(select(zero, i64(0), i64(1)));
    this.cells.setCarry(topBits(carry, overflow));
    this.cells.setMisc(value.and(AF).or(parityCorrection.shl(8)).or(sign.shl(31)));
  }
}
