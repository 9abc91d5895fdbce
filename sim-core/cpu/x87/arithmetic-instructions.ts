/** x87 arithmetic and comparison on the register stack (SDM Vol. 2A, FABS … FYL2XP1). */

import type { DecodedInstruction } from '../../isa/instruction.ts';
import type { Fault } from '../../mmu/fault.ts';
import { RFLAGS } from '../../state/control-bits.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type SlowInstruction } from '../cpu.ts';
import { readRflags, writeRflags } from '../rflags.ts';
import type { NamedInstructions } from '../table.ts';
import { Arithmetic, classify, FLAG, type Float80, type FloatClass, zero } from './float80.ts';
import { computing, hasMemoryOperand, isFault, type MemoryKind, readNumber, stackNumber } from './instruction.ts';
import {
  absolute, add, type BinaryOperation, changeSign, compare, divide, extract, multiply, type Relation, remainder,
  roundToInteger, scaleByPower, squareRoot, subtract, type UnaryOperation,
} from './operations.ts'; // biome-ignore format: a list reads better in rows
import {
  isEmpty, pop, push, readStack, STATUS, setConditions, settle, stackOverflow, stackUnderflow, writeStack,
} from './registers.ts'; // biome-ignore format: a list reads better in rows
import {
  angle, cosineInstruction, logarithm, logarithmPlusOne, ONE, powerMinusOne, sineAndCosine, sineInstruction,
  type Trigonometric, tangentInstruction, 
} from './transcendental.ts'; // biome-ignore format: a list reads better in rows

const newArithmetic = (state: State): Arithmetic => new Arithmetic(state.get32('x87Control'));

/** Settles the exceptions, then writes unless an unmasked one prevents it. */
function complete(state: State, arithmetic: Arithmetic, write: () => void): typeof NEXT.sequential {
  settle(state, arithmetic);
  if (!arithmetic.isPrevented) write();
  return NEXT.sequential;
}

/** The masked response to an empty register: `write` gets the indefinite. */
function underflow(state: State, arithmetic: Arithmetic, write: (value: Float80) => void): typeof NEXT.sequential {
  const response = stackUnderflow(state, arithmetic);
  if (response) write(response);
  return NEXT.sequential;
}

function popTimes(state: State, count: number): void {
  for (let i = 0; i < count; i++) pop(state);
}

// ---- two operands

interface Pair {
  /** Number of the destination and of the source register; the latter is undefined for memory. */
  readonly destination: number;
  readonly register: number | undefined;
  readonly source: Float80;
}

/** ST(0) and memory, two named registers, or ST(0) and ST(1). */
function readPair(cpu: Cpu, instruction: DecodedInstruction, kind: MemoryKind): Pair | Fault {
  if (hasMemoryOperand(instruction)) {
    const source = readNumber(cpu, instruction, kind);
    return isFault(source) ? source : { destination: 0, register: undefined, source };
  }
  const named = instruction.operands.length === 2;
  const register = named ? stackNumber(instruction, 1) : 1;
  const destination = named ? stackNumber(instruction, 0) : 0;
  return { destination, register, source: readStack(cpu.state, register) };
}

const anyEmpty = (state: State, { destination, register }: Pair): boolean =>
  isEmpty(state, destination) || (register !== undefined && isEmpty(state, register));

interface Variant {
  readonly kind: MemoryKind;
  readonly pops: number;
}

const binary = (operation: BinaryOperation, { kind, pops }: Variant): SlowInstruction =>
  computing((cpu, instruction) => {
    const { state } = cpu;
    const pair = readPair(cpu, instruction, kind);
    if ('kind' in pair) return pair;
    const arithmetic = newArithmetic(state);
    const write = (value: Float80) => {
      writeStack(state, pair.destination, value);
      popTimes(state, pops);
    };
    if (anyEmpty(state, pair)) return underflow(state, arithmetic, write);
    const result = operation(arithmetic, readStack(state, pair.destination), pair.source);
    return complete(state, arithmetic, () => write(result));
  });

const reversed =
  (operation: BinaryOperation): BinaryOperation =>
  (arithmetic, a, b) =>
    operation(arithmetic, b, a);

/** Fxxx, Fxxxp and Fixxx of an operation. */
const binaryRows = (stem: string, operation: BinaryOperation): NamedInstructions => ({
  [`F${stem}`]: binary(operation, { kind: 'real', pops: 0 }),
  [`F${stem}p`]: binary(operation, { kind: 'real', pops: 1 }),
  [`Fi${stem}`]: binary(operation, { kind: 'integer', pops: 0 }),
});

/** Operations on ST(0) and ST(1) whose result replaces ST(1), which then becomes ST(0). */
const intoSecond = (operation: BinaryOperation): SlowInstruction =>
  computing(({ state }) => {
    const arithmetic = newArithmetic(state);
    const write = (value: Float80) => {
      writeStack(state, 1, value);
      pop(state);
    };
    if (isEmpty(state, 0) || isEmpty(state, 1)) return underflow(state, arithmetic, write);
    const result = operation(arithmetic, readStack(state, 0), readStack(state, 1));
    return complete(state, arithmetic, () => write(result));
  });

// ---- one operand

const unary = (operation: UnaryOperation): SlowInstruction =>
  computing(({ state }) => {
    const arithmetic = newArithmetic(state);
    const write = (value: Float80) => writeStack(state, 0, value);
    if (isEmpty(state, 0)) return underflow(state, arithmetic, write);
    const result = operation(arithmetic, readStack(state, 0));
    return complete(state, arithmetic, () => write(result));
  });

const setC2 = (state: State, set: boolean): void => {
  const status = state.get32('x87Status');
  state.set32('x87Status', set ? status | STATUS.c2 : status & ~STATUS.c2);
};

const trigonometric = (operation: Trigonometric): SlowInstruction =>
  computing(({ state }) => {
    const arithmetic = newArithmetic(state);
    setC2(state, false);
    const write = (value: Float80) => writeStack(state, 0, value);
    if (isEmpty(state, 0)) return underflow(state, arithmetic, write);
    const result = operation(arithmetic, readStack(state, 0));
    setC2(state, result === 'range');
    return complete(state, arithmetic, () => {
      if (result !== 'range') write(result);
    });
  });

/** Instructions that replace ST(0) and push a second result. */
const withSecondResult = (
  operation: (arithmetic: Arithmetic, value: Float80) => { replaced: Float80; pushed: Float80 } | 'range',
  usesC2: boolean,
): SlowInstruction =>
  computing(({ state }) => {
    const arithmetic = newArithmetic(state);
    if (usesC2) setC2(state, false);
    const write = (replaced: Float80, pushed: Float80) => {
      writeStack(state, 0, replaced);
      push(state, pushed);
    };
    if (isEmpty(state, 0) || !isEmpty(state, -1)) {
      const response = (isEmpty(state, 0) ? stackUnderflow : stackOverflow)(state, arithmetic);
      if (response) write(response, response);
      return NEXT.sequential;
    }
    const results = operation(arithmetic, readStack(state, 0));
    if (usesC2) setC2(state, results === 'range');
    return complete(state, arithmetic, () => {
      if (results !== 'range') write(results.replaced, results.pushed);
    });
  });

const tangent = withSecondResult((arithmetic, value) => {
  const result = tangentInstruction(arithmetic, value);
  if (result === 'range') return result;
  const kind = classify(result);
  return { replaced: result, pushed: kind === 'quiet' ? result : ONE };
}, true);

const sineCosine = withSecondResult((arithmetic, value) => {
  const results = sineAndCosine(arithmetic, value);
  return results === 'range' ? results : { replaced: results.sine, pushed: results.cosine };
}, true);

const extractParts = withSecondResult((arithmetic, value) => {
  const { exponent, significand } = extract(arithmetic, value);
  return { replaced: exponent, pushed: significand };
}, false);

/** FPREM, FPREM1: C0, C3 and C1 are bits 2, 1 and 0 of the quotient, C2 says that the reduction is not complete. */
const partialRemainder = (nearest: boolean): SlowInstruction =>
  computing(({ state }) => {
    const arithmetic = newArithmetic(state);
    setC2(state, false);
    const write = (value: Float80) => writeStack(state, 0, value);
    if (isEmpty(state, 0) || isEmpty(state, 1)) return underflow(state, arithmetic, write);
    const { value, quotient } = remainder(arithmetic, readStack(state, 0), readStack(state, 1), nearest);
    const bits = typeof quotient === 'bigint' ? quotient : 0n;
    arithmetic.roundedUp = (bits & 1n) !== 0n;
    settle(state, arithmetic);
    if (arithmetic.isPrevented) return NEXT.sequential;
    write(value);
    if (quotient === 'incomplete') setConditions(state, STATUS.c2);
    else if (quotient !== 'none')
      setConditions(state, ((bits & 4n) !== 0n ? STATUS.c0 : 0) | ((bits & 2n) !== 0n ? STATUS.c3 : 0));
    return NEXT.sequential;
  });

// ---- comparison

const RELATION: Readonly<Record<Relation, number>> = {
  greater: 0,
  less: STATUS.c0,
  equal: STATUS.c3,
  unordered: STATUS.c0 | STATUS.c2 | STATUS.c3,
};

const comparison = (quietIsInvalid: boolean, { kind, pops }: Variant): SlowInstruction =>
  computing((cpu, instruction) => {
    const { state } = cpu;
    const pair = readPair(cpu, instruction, kind);
    if ('kind' in pair) return pair;
    const arithmetic = newArithmetic(state);
    const empty = anyEmpty(state, pair);
    const relation = empty
      ? 'unordered'
      : compare(arithmetic, readStack(state, pair.destination), pair.source, quietIsInvalid);
    if (empty) stackUnderflow(state, arithmetic);
    else settle(state, arithmetic);
    setConditions(state, RELATION[relation]);
    if (!arithmetic.isPrevented) popTimes(state, pops);
    return NEXT.sequential;
  });

const test = computing(({ state }) => {
  const arithmetic = newArithmetic(state);
  const empty = isEmpty(state, 0);
  const relation = empty ? 'unordered' : compare(arithmetic, readStack(state, 0), zero(0), true);
  if (empty) stackUnderflow(state, arithmetic);
  else settle(state, arithmetic);
  setConditions(state, RELATION[relation]);
  return NEXT.sequential;
});

const FLAGS_OF_RELATION: Readonly<Record<Relation, number>> = {
  greater: 0,
  less: RFLAGS.cf,
  equal: RFLAGS.zf,
  unordered: RFLAGS.zf | RFLAGS.pf | RFLAGS.cf,
};
const STATUS_FLAGS = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of;

/** FCOMI and its kin: the result in RFLAGS. */
const comparisonToFlags = (quietIsInvalid: boolean, pops: number): SlowInstruction =>
  computing(({ state }, instruction) => {
    const arithmetic = newArithmetic(state);
    const other = stackNumber(instruction, 1);
    const empty = isEmpty(state, 0) || isEmpty(state, other);
    const relation = empty
      ? 'unordered'
      : compare(arithmetic, readStack(state, 0), readStack(state, other), quietIsInvalid);
    if (empty) stackUnderflow(state, arithmetic);
    else settle(state, arithmetic);
    const unmaskedInvalid = (arithmetic.flags & ~arithmetic.masks & FLAG.invalid) !== 0;
    if (!unmaskedInvalid) writeRflags(state, (readRflags(state) & ~STATUS_FLAGS) | FLAGS_OF_RELATION[relation]);
    if (!arithmetic.isPrevented) popTimes(state, pops);
    return NEXT.sequential;
  });

const EXAMINED: Readonly<Record<FloatClass, number>> = {
  unsupported: 0,
  quiet: STATUS.c0,
  signaling: STATUS.c0,
  normal: STATUS.c2,
  infinity: STATUS.c2 | STATUS.c0,
  zero: STATUS.c3,
  denormal: STATUS.c3 | STATUS.c2,
};

/** FXAM tells the class of ST(0), or that it is empty, and in C1 its sign. */
const examine = computing(({ state }) => {
  const value = readStack(state, 0);
  const status = state.get32('x87Status') & ~STATUS.c1;
  state.set32('x87Status', value.sign === 1 ? status | STATUS.c1 : status);
  setConditions(state, isEmpty(state, 0) ? STATUS.c3 | STATUS.c0 : EXAMINED[classify(value)]);
  return NEXT.sequential;
});

// ---- rows

const real = (pops: number): Variant => ({ kind: 'real', pops });
const integer = (pops: number): Variant => ({ kind: 'integer', pops });

export const X87_ARITHMETIC: NamedInstructions = {
  ...binaryRows('add', add), ...binaryRows('mul', multiply),
  ...binaryRows('sub', subtract), ...binaryRows('subr', reversed(subtract)),
  ...binaryRows('div', divide), ...binaryRows('divr', reversed(divide)),
  Fcom: comparison(true, real(0)), Fcomp: comparison(true, real(1)), Fcompp: comparison(true, real(2)),
  Ficom: comparison(true, integer(0)), Ficomp: comparison(true, integer(1)),
  Fucom: comparison(false, real(0)), Fucomp: comparison(false, real(1)), Fucompp: comparison(false, real(2)),
  Fcomi: comparisonToFlags(true, 0), Fcomip: comparisonToFlags(true, 1),
  Fucomi: comparisonToFlags(false, 0), Fucomip: comparisonToFlags(false, 1),
  Ftst: test, Fxam: examine,
  Fabs: unary(absolute), Fchs: unary(changeSign), Fsqrt: unary(squareRoot), Frndint: unary(roundToInteger),
  Fscale: binary(scaleByPower, real(0)), Fprem: partialRemainder(false), Fprem1: partialRemainder(true),
  Fxtract: extractParts, F2xm1: unary(powerMinusOne), Fyl2x: intoSecond(logarithm),
  Fyl2xp1: intoSecond(logarithmPlusOne), Fpatan: intoSecond(angle), Fsin: trigonometric(sineInstruction),
  Fcos: trigonometric(cosineInstruction), Fptan: tangent, Fsincos: sineCosine,
}; // biome-ignore format: a table reads better in rows
