/** x87 loads, stores, exchanges and moves (SDM Vol. 2A, FBLD … FXCH). */

import type { DecodedInstruction } from '../../isa/instruction.ts';
import type { Fault } from '../../mmu/fault.ts';
import { RFLAGS } from '../../state/control-bits.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { writeMemoryOperand } from '../operands.ts';
import { readRflags } from '../rflags.ts';
import type { NamedInstructions } from '../table.ts';
import {
  Arithmetic,
  classify,
  type Exact,
  FLAG,
  type Float80,
  INDEFINITE,
  ROUNDING,
  type Rounding,
  zero,
} from './float80.ts';
import {
  type FloatSize, fromPackedBcd, toMemoryFormat, toMemoryInteger, toPackedBcd,
} from './formats.ts'; // biome-ignore format: a list reads better in rows
import {
  computing, EXTENDED_SIZE, hasMemoryOperand, isFault, memorySize, probeForWriting, readExtended, readNumber,
  stackNumber, toBits, writeExtended,
} from './instruction.ts'; // biome-ignore format: a list reads better in rows
import { fromInteger } from './operations.ts';
import {
  isEmpty, pop, push, readStack, setEmpty, setTop, settle, stackOverflow, stackUnderflow, topOf, writeStack,
} from './registers.ts'; // biome-ignore format: a list reads better in rows
import { LOADED_CONSTANTS, ONE } from './transcendental.ts';

const newArithmetic = (state: State): Arithmetic => new Arithmetic(state.get32('x87Control'));

// ---- loads

/** Pushes what `read` gives; undefined stands for an empty register. */
const load = (
  read: (cpu: Cpu, instruction: DecodedInstruction, arithmetic: Arithmetic) => Float80 | Fault | undefined,
): SlowInstruction =>
  computing((cpu, instruction) => {
    const { state } = cpu;
    const arithmetic = newArithmetic(state);
    const value = read(cpu, instruction, arithmetic);
    if (value && isFault(value)) return value;
    if (!isEmpty(state, -1) || value === undefined) {
      const response = (value === undefined ? stackUnderflow : stackOverflow)(state, arithmetic);
      if (response) push(state, response);
      return NEXT.sequential;
    }
    settle(state, arithmetic);
    // An unmasked denormal operand is reported, but loaded.
    const prevented = (arithmetic.flags & ~arithmetic.masks & FLAG.invalid) !== 0;
    if (!prevented) push(state, value);
    return NEXT.sequential;
  });

/** Only single and double precision are converted: signaling NaNs and denormals are noticed. */
const loadReal = load((cpu, instruction, arithmetic) => {
  if (!hasMemoryOperand(instruction)) {
    const register = stackNumber(instruction, 0);
    return isEmpty(cpu.state, register) ? undefined : readStack(cpu.state, register);
  }
  const value = readNumber(cpu, instruction, 'real');
  if (isFault(value) || memorySize(instruction) === EXTENDED_SIZE) return value;
  if (value.wasDenormal) arithmetic.flags |= FLAG.denormal;
  return arithmetic.special(value, classify(value)) ?? value;
});

const loadBcd = load((cpu, instruction) => {
  const bits = readExtended(cpu, instruction);
  return typeof bits === 'object' ? bits : fromInteger(bits >> 79n === 0n ? 0 : 1, fromPackedBcd(bits));
});

const loadConstant = (constant: Exact): SlowInstruction =>
  load((_cpu, _instruction, { rounding }) => new Arithmetic(CONSTANT_CONTROL | (rounding << 10)).round(constant));
/** All exceptions masked, 64 bits. */
const CONSTANT_CONTROL = 0x33f;

// ---- stores

/** What a store writes: bits for the size of the operand. */
type Conversion = (arithmetic: Arithmetic, value: Float80, size: number) => bigint;

const toReal: Conversion = (arithmetic, value, size) =>
  size === EXTENDED_SIZE ? toBits(value) : toMemoryFormat(arithmetic, value, size as FloatSize);
const integerBy =
  (rounding?: Rounding): Conversion =>
  (arithmetic, value, size) =>
    toMemoryInteger(arithmetic, value, size, rounding);
const toBcd: Conversion = (arithmetic, value) => toPackedBcd(arithmetic, value);

/** Exceptions that keep a store to memory from being done when unmasked. */
const PREVENTS_STORE = FLAG.invalid | FLAG.overflow | FLAG.underflow;

const write = (cpu: Cpu, instruction: DecodedInstruction, size: number, bits: bigint): Fault | undefined =>
  size === EXTENDED_SIZE ? writeExtended(cpu, instruction, bits) : writeMemoryOperand(cpu, instruction, 0, size, bits);

const storeMemory = (convert: Conversion, pops: boolean): SlowInstruction =>
  computing((cpu, instruction) => {
    const { state } = cpu;
    const arithmetic = newArithmetic(state);
    const size = memorySize(instruction);
    const empty = isEmpty(state, 0);
    const bits = convert(arithmetic, empty ? INDEFINITE : readStack(state, 0), size);
    if (empty) arithmetic.flags = FLAG.invalid | FLAG.stackFault;
    const prevented = (arithmetic.flags & ~arithmetic.masks & PREVENTS_STORE) !== 0;
    // What is not stored is not rounded; its memory must be accessible all the same.
    if (prevented) arithmetic.withdrawRounding();
    const fault = prevented ? probeForWriting(cpu, instruction, size) : write(cpu, instruction, size, bits);
    if (fault) return fault;
    settle(state, arithmetic);
    if (pops && !prevented) pop(state);
    return NEXT.sequential;
  });

const storeRegister = (pops: boolean): SlowInstruction =>
  computing(({ state }, instruction) => {
    const arithmetic = newArithmetic(state);
    const value = isEmpty(state, 0) ? stackUnderflow(state, arithmetic) : readStack(state, 0);
    if (!value) return NEXT.sequential;
    settle(state, arithmetic);
    writeStack(state, stackNumber(instruction, 0), value);
    if (pops) pop(state);
    return NEXT.sequential;
  });

/** FST and FSTP: to a register, or to memory. */
function storeReal(pops: boolean): SlowInstruction {
  const toMemory = storeMemory(toReal, pops);
  const toRegister = storeRegister(pops);
  return (cpu, instruction) => (hasMemoryOperand(instruction) ? toMemory : toRegister)(cpu, instruction);
}

// ---- between registers

/** Empty registers are exchanged as indefinites. */
const exchange = computing(({ state }, instruction) => {
  const arithmetic = newArithmetic(state);
  const other = stackNumber(instruction, 1);
  const contents = (i: number) => (isEmpty(state, i) ? INDEFINITE : readStack(state, i));
  const values = [contents(0), contents(other)] as const;
  if ((isEmpty(state, 0) || isEmpty(state, other)) && !stackUnderflow(state, arithmetic)) return NEXT.sequential;
  settle(state, arithmetic);
  writeStack(state, 0, values[1]);
  writeStack(state, other, values[0]);
  return NEXT.sequential;
});

const conditionalMove = (flags: number, wanted: boolean): SlowInstruction =>
  computing(({ state }, instruction) => {
    const arithmetic = newArithmetic(state);
    const source = stackNumber(instruction, 1);
    if (isEmpty(state, 0) || isEmpty(state, source)) {
      const response = stackUnderflow(state, arithmetic);
      if (response) writeStack(state, 0, response);
      return NEXT.sequential;
    }
    if (((readRflags(state) & flags) !== 0) === wanted) writeStack(state, 0, readStack(state, source));
    return NEXT.sequential;
  });

/** FINCSTP, FDECSTP: only TOP and C1 change. */
const rotate = (by: number): SlowInstruction =>
  computing(({ state }) => {
    setTop(state, topOf(state) + by);
    settle(state, newArithmetic(state));
    return NEXT.sequential;
  });

const free = (pops: boolean): SlowInstruction =>
  computing(({ state }, instruction) => {
    setEmpty(state, stackNumber(instruction, 0));
    if (pops) pop(state);
    settle(state, newArithmetic(state));
    return NEXT.sequential;
  });

const nothing = computing((): Next => NEXT.sequential);

// ---- rows

const { cf, zf, pf } = RFLAGS;

export const X87_TRANSFERS: NamedInstructions = {
  Fld: loadReal, Fild: load((cpu, instruction) => readNumber(cpu, instruction, "integer")), Fbld: loadBcd,
  Fldz: load(() => zero(0)), Fld1: load(() => ONE),
  ...Object.fromEntries(Object.entries(LOADED_CONSTANTS).map(([name, value]) => [name, loadConstant(value)])),
  Fst: storeReal(false), Fstp: storeReal(true),
  Fist: storeMemory(integerBy(), false), Fistp: storeMemory(integerBy(), true),
  Fisttp: storeMemory(integerBy(ROUNDING.zero), true), Fbstp: storeMemory(toBcd, true),
  Fxch: exchange,
  Fcmovb: conditionalMove(cf, true), Fcmovnb: conditionalMove(cf, false),
  Fcmove: conditionalMove(zf, true), Fcmovne: conditionalMove(zf, false),
  Fcmovbe: conditionalMove(cf | zf, true), Fcmovnbe: conditionalMove(cf | zf, false),
  Fcmovu: conditionalMove(pf, true), Fcmovnu: conditionalMove(pf, false),
  Fincstp: rotate(1), Fdecstp: rotate(-1), Ffree: free(false), Ffreep: free(true), Fnop: nothing,
}; // biome-ignore format: a table reads better in rows
