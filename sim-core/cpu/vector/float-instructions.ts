/**
 * SSE, AVX, FMA and F16C floating-point instructions in full: every rounding mode, exception flags, unmasked
 * exceptions.
 * Staged ones come here when MXCSR or an operand asks for what they do not compute.
 */

import type { DecodedInstruction } from '../../isa/instruction.ts';
import { exception, type Fault, undefinedOpcode, VECTOR } from '../../mmu/fault.ts';
import { CR4, RFLAGS } from '../../state/control-bits.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { readOperand, sizeOf, writeOperand } from '../operands.ts';
import { writeStatusFlags } from '../rflags.ts';
import type { NamedInstructions } from '../table.ts';
import {
  type Bytes, immediateOf, isVex, probeVector, readSources, readVector, sizeOfVector, sourcesOf, vectorInstruction,
  viewOf,  writeResult,
  writeVector,
} from './operands.ts'; // biome-ignore format: a list reads better in rows
import { DOUBLE, type FloatFormat, HALF, ROUNDING, type Rounding, SINGLE, SoftFloat } from './soft-float.ts';

// ---- numbers in vectors

function readLane({ width }: FloatFormat, bytes: Bytes, lane: number): bigint {
  const view = viewOf(bytes);
  if (width === 64) return view.getBigUint64(8 * lane, true);
  return BigInt(width === 32 ? view.getUint32(4 * lane, true) : view.getUint16(2 * lane, true));
}

function writeLane({ width }: FloatFormat, bytes: Bytes, lane: number, value: bigint): void {
  const view = viewOf(bytes);
  if (width === 64) view.setBigUint64(8 * lane, value, true);
  else if (width === 32) view.setUint32(4 * lane, Number(value), true);
  else view.setUint16(2 * lane, Number(value), true);
}

/** The suffixes PS, PD, SS, SD. */
const VARIANTS = {
  ps: { format: SINGLE, scalar: false }, pd: { format: DOUBLE, scalar: false },
  ss: { format: SINGLE, scalar: true }, sd: { format: DOUBLE, scalar: true },
} as const; // biome-ignore format: a table reads better in rows
type Suffix = keyof typeof VARIANTS;
interface Variant {
  readonly format: FloatFormat;
  readonly scalar: boolean;
}

const bytesOf = ({ width }: FloatFormat): number => width / 8;

/** Bytes of a source: all of the register's, or one number's. */
const sourceSize = ({ format, scalar }: Variant, instruction: DecodedInstruction): number =>
  scalar ? bytesOf(format) : sizeOfVector(instruction, 0);

// ---- exceptions

/** Accumulates flags in MXCSR; #XM, or #UD without CR4.OSXMMEXCPT, when one of them is unmasked. */
function settle(state: State, float: SoftFloat): Fault | undefined {
  const { flags, isUnmasked } = float.outcome();
  state.set32('mxcsr', state.get32('mxcsr') | flags);
  if (!isUnmasked) return undefined;
  return (state.low('cr4') & CR4.osxmmexcpt) !== 0 ? exception(VECTOR.xm) : undefinedOpcode();
}

const softFloat = (state: State): SoftFloat => new SoftFloat(state.get32('mxcsr'));

// ---- the general shape: one result a lane

type Compute = (
  float: SoftFloat,
  format: FloatFormat,
  a: Bytes,
  b: Bytes,
  lane: number,
  instruction: DecodedInstruction,
) => bigint;

/** dst = f(first, second) lane by lane; a scalar leaves the rest of the first operand. */
const binary =
  (compute: Compute) =>
  (variant: Variant): SlowInstruction =>
  (cpu, instruction) => {
    const { state } = cpu;
    const { format, scalar } = variant;
    const sources = readSources(cpu, instruction, sourceSize(variant, instruction));
    if ('kind' in sources) return sources;
    const [a, b] = sources;
    const float = softFloat(state);
    const result = a.slice();
    const lanes = scalar ? 1 : a.length / bytesOf(format);
    for (let i = 0; i < lanes; i++) writeLane(format, result, i, compute(float, format, a, b, i, instruction));
    return settle(state, float) ?? writeResult(state, instruction, result);
  };

/** From two numbers in the same lane. */
const lanewise = (compute: (float: SoftFloat, format: FloatFormat, a: bigint, b: bigint) => bigint) =>
  binary((float, format, a, b, lane) => compute(float, format, readLane(format, a, lane), readLane(format, b, lane)));

/** dst = f(source): packed operands are the last but an immediate; scalars keep the rest of the first source. */
const unary =
  (compute: (float: SoftFloat, format: FloatFormat, a: bigint, instruction: DecodedInstruction) => bigint) =>
  (variant: Variant): SlowInstruction => {
    const each: Compute = (float, format, _a, b, lane, instruction) =>
      compute(float, format, readLane(format, b, lane), instruction);
    return variant.scalar ? binary(each)(variant) : packedUnary(variant, compute);
  };

const packedUnary =
  (
    variant: Variant,
    compute: (float: SoftFloat, format: FloatFormat, a: bigint, instruction: DecodedInstruction) => bigint,
  ): SlowInstruction =>
  (cpu, instruction) => {
    const { format } = variant;
    const source = readVector(cpu, instruction, 1, sizeOfVector(instruction, 0));
    if ('kind' in source) return source;
    const float = softFloat(cpu.state);
    const result = new Uint8Array(source.length);
    for (let i = 0; i < result.length / bytesOf(format); i++) {
      writeLane(format, result, i, compute(float, format, readLane(format, source, i), instruction));
    }
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

// ---- arithmetic

/** Subtracts in even lanes and adds in odd ones. */
const addSubtract = binary((float, format, a, b, lane) => {
  const x = readLane(format, a, lane);
  const y = readLane(format, b, lane);
  return lane % 2 === 0 ? float.sub(format, x, y) : float.add(format, x, y);
});

/** Pairs of the first operand's numbers, then of the second's, in each half. */
const horizontal = (operation: 'add' | 'sub') =>
  binary((float, format, a, b, lane) => {
    const perHalf = 128 / format.width;
    const within = lane % perHalf;
    const source = within < perHalf / 2 ? a : b;
    const from = lane - within + 2 * (within % (perHalf / 2));
    return float[operation](format, readLane(format, source, from), readLane(format, source, from + 1));
  });

/** Rounding control of ROUNDxx and VCVTPS2PH: MXCSR's if bit 2 is set. */
const chosenRounding = (float: SoftFloat, control: number): Rounding =>
  (control & 4) !== 0 ? float.rounding : ((control & 3) as Rounding);

const lastImmediate = (instruction: DecodedInstruction): number =>
  immediateOf(instruction, instruction.operands.length - 1);

const round = unary((float, format, a, instruction) => {
  const control = lastImmediate(instruction);
  return float.roundToIntegral(format, a, chosenRounding(float, control), (control & 8) !== 0);
});

/** DPPS, DPPD: products that bits 7:4 choose, summed by pairs, to the places that bits 3:0 choose; in each half. */
const dotProduct =
  (format: FloatFormat): SlowInstruction =>
  (cpu, instruction) => {
    const sources = readSources(cpu, instruction);
    if ('kind' in sources) return sources;
    const [a, b] = sources;
    const size = a.length;
    const control = lastImmediate(instruction);
    const float = softFloat(cpu.state);
    const result = new Uint8Array(size);
    const perHalf = 128 / format.width;
    const products = Array.from({ length: size / bytesOf(format) }, (_, lane) =>
      (control & (16 << (lane % perHalf))) === 0
        ? 0n
        : float.mul(format, readLane(format, a, lane), readLane(format, b, lane)),
    );
    const sums = sumsOfPairs(float, format, products, size / 16);
    products.forEach((_, lane) => {
      const sum = sums[Math.floor(lane / perHalf)] ?? 0n;
      writeLane(format, result, lane, (control & (1 << (lane % perHalf))) === 0 ? 0n : sum);
    });
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

/** Neighbours summed, and sums of neighbours, down to `count` numbers; steps after an unmasked exception are left out. */
function sumsOfPairs(
  float: SoftFloat,
  format: FloatFormat,
  terms: readonly bigint[],
  count: number,
): readonly bigint[] {
  if (terms.length === count || !float.endStep()) return terms;
  const sums: bigint[] = [];
  for (let i = 0; i < terms.length; i += 2) sums.push(float.add(format, terms[i] as bigint, terms[i + 1] as bigint));
  return sumsOfPairs(float, format, sums, count);
}

// ---- approximations

/** RCPxS and RSQRTxS are rounded to 12 bits: within the relative error of 1.5 × 2^-12 that the manual allows. */
const APPROXIMATE_BITS = 12n;

/** @param exact the function on the precise format's pattern; approximations treat denormals as zeros, raise nothing */
const approximate = (exact: (float: SoftFloat, a: bigint) => bigint) =>
  unary((_float, format, a) => {
    const isTiny = (bits: bigint): boolean => (bits & format.infinity) === 0n;
    const silent = new SoftFloat(0x1fc0);
    const result = exact(silent, a);
    if (isTiny(result)) return result & format.signBit;
    if ((result & format.infinity) === format.infinity) return result;
    const dropped = format.fractionBits - APPROXIMATE_BITS + 1n;
    return ((result + (1n << (dropped - 1n))) >> dropped) << dropped;
  });

const ONE = 0x3f80_0000n;
const reciprocal = approximate((float, a) => float.div(SINGLE, ONE, a));
const reciprocalRoot = approximate((float, a) => float.div(SINGLE, ONE, float.sqrt(SINGLE, a)));

// ---- comparison

/** The 32 predicates (SDM Vol. 2A, "CMPPD"): orders that give true, as bits 3:0 = unordered, greater, less, equal. */
const ORDER_BIT = { equal: 1, less: 2, greater: 4, unordered: 8 } as const;
const PREDICATES = [1, 2, 3, 8, 14, 13, 12, 7, 9, 10, 11, 0, 6, 5, 4, 15];
/** Predicates 0…15 with which a quiet NaN is invalid; with 16 more it is the other way round. */
const SIGNALING = new Set([1, 2, 5, 6, 9, 10, 13, 14]);

const compare = binary((float, format, a, b, lane, instruction) => {
  const predicate = lastImmediate(instruction) & (isVex(instruction) ? 31 : 7);
  const signals = SIGNALING.has(predicate & 15) !== predicate >= 16;
  const order = float.compare(format, readLane(format, a, lane), readLane(format, b, lane), signals);
  const holds = ((PREDICATES[predicate & 15] as number) & ORDER_BIT[order]) !== 0;
  return holds ? (1n << BigInt(format.width)) - 1n : 0n;
});

const COMPARED = {
  unordered: RFLAGS.zf | RFLAGS.pf | RFLAGS.cf, greater: 0, less: RFLAGS.cf, equal: RFLAGS.zf,
} as const; // biome-ignore format: one line says it

const compareToFlags =
  (signals: boolean) =>
  ({ format }: Variant): SlowInstruction =>
  (cpu, instruction) => {
    const a = readVector(cpu, instruction, 0, bytesOf(format));
    if ('kind' in a) return a;
    const b = readVector(cpu, instruction, 1, bytesOf(format));
    if ('kind' in b) return b;
    const float = softFloat(cpu.state);
    const order = float.compare(format, readLane(format, a, 0), readLane(format, b, 0), signals);
    const fault = settle(cpu.state, float);
    if (fault) return fault;
    writeStatusFlags(cpu.state, COMPARED[order]);
    return NEXT.sequential;
  };

// ---- conversion

/** Between packed formats of different widths: what the narrower side has is what counts. */
const convertPacked =
  (
    from: number,
    to: number,
    convert: (float: SoftFloat, source: Bytes, result: Bytes, lane: number) => void,
  ): SlowInstruction =>
  (cpu, instruction) => {
    const lanes = Math.min(sizeOfVector(instruction, 0) / to, sourceLimit(instruction) / from);
    const source = readVector(cpu, instruction, 1, lanes * from);
    if ('kind' in source) return source;
    const float = softFloat(cpu.state);
    const result = new Uint8Array(Math.max(16, lanes * to));
    for (let i = 0; i < lanes; i++) convert(float, source, result, i);
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

/** Bytes that the source operand may have. */
const sourceLimit = (instruction: DecodedInstruction): number => sizeOfVector(instruction, 1);

const between = (from: FloatFormat, to: FloatFormat): SlowInstruction =>
  convertPacked(bytesOf(from), bytesOf(to), (float, source, result, i) =>
    writeLane(to, result, i, float.convert(from, to, readLane(from, source, i))),
  );

const toIntegers = (format: FloatFormat, rounding?: Rounding): SlowInstruction =>
  convertPacked(bytesOf(format), 4, (float, source, result, i) =>
    writeLane(SINGLE, result, i, float.toInteger(format, readLane(format, source, i), 32, rounding)),
  );

const fromIntegers = (format: FloatFormat): SlowInstruction =>
  convertPacked(4, bytesOf(format), (float, source, result, i) =>
    writeLane(format, result, i, float.fromInteger(format, BigInt(viewOf(source).getInt32(4 * i, true)))),
  );

/** CVTSS2SD, CVTSD2SS. */
const convertScalar =
  (from: FloatFormat, to: FloatFormat): SlowInstruction =>
  (cpu, instruction) => {
    const [first, second] = sourcesOf(instruction);
    const result = readVector(cpu, instruction, first, 16);
    if ('kind' in result) return result;
    const source = readVector(cpu, instruction, second, bytesOf(from));
    if ('kind' in source) return source;
    const float = softFloat(cpu.state);
    writeLane(to, result, 0, float.convert(from, to, readLane(from, source, 0)));
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

const fromGpr =
  (format: FloatFormat): SlowInstruction =>
  (cpu, instruction) => {
    const [first, second] = sourcesOf(instruction);
    const result = readVector(cpu, instruction, first, 16);
    if ('kind' in result) return result;
    const value = readOperand(cpu, instruction, second);
    if (typeof value === 'object') return value;
    const float = softFloat(cpu.state);
    const signed = BigInt.asIntN(8 * sizeOf(instruction, second), value);
    writeLane(format, result, 0, float.fromInteger(format, signed));
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

const toGpr =
  (format: FloatFormat, rounding?: Rounding): SlowInstruction =>
  (cpu, instruction) => {
    const source = readVector(cpu, instruction, 1, bytesOf(format));
    if ('kind' in source) return source;
    const float = softFloat(cpu.state);
    const width = sizeOf(instruction, 0) === 8 ? 64 : 32;
    const value = float.toInteger(format, readLane(format, source, 0), width, rounding);
    return settle(cpu.state, float) ?? writeOperand(cpu, instruction, 0, value) ?? NEXT.sequential;
  };

// ---- half precision

/** VCVTPH2PS: denormals are numbers whatever MXCSR.DAZ says, and raise nothing. */
const fromHalves = convertPacked(2, 4, (float, source, result, i) => {
  const plain = new SoftFloat(0x1f80);
  writeLane(SINGLE, result, i, plain.convert(HALF, SINGLE, readLane(HALF, source, i)));
  float.flags |= plain.flags & 1;
});

/** VCVTPS2PH: MXCSR.FTZ does not count. */
function toHalves(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const size = sizeOfVector(instruction, 1);
  const source = readVector(cpu, instruction, 1, size);
  if ('kind' in source) return source;
  const mxcsr = cpu.state.get32('mxcsr');
  const rounding = chosenRounding(softFloat(cpu.state), immediateOf(instruction, 2));
  const float = new SoftFloat((mxcsr & 0x1fff) | (rounding << 13));
  const result = new Uint8Array(size / 2);
  for (let i = 0; i < size / 4; i++) {
    writeLane(HALF, result, i, float.convert(SINGLE, HALF, readLane(SINGLE, source, i)));
  }
  if (instruction.operands[0]?.kind === 'memory') {
    // A fault of the store comes first, and leaves MXCSR as it was.
    return (
      probeVector(cpu, instruction, 0, result.length) ??
      settle(cpu.state, float) ??
      writeVector(cpu, instruction, 0, result) ??
      NEXT.sequential
    );
  }
  return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
}

// ---- fused multiply and add

/** Operand numbers of multiplicand, multiplier and addend by the digits in the mnemonic. */
const ORDERS = { 132: [0, 2, 1], 213: [1, 0, 2], 231: [1, 2, 0] } as const;

/** @param negatesProduct, negatesAddend for the number in a lane */
const fused =
  (order: readonly number[], negatesProduct: boolean, negatesAddend: (lane: number) => boolean) =>
  (variant: Variant): SlowInstruction =>
  (cpu, instruction) => {
    const { format, scalar } = variant;
    const size = sizeOfVector(instruction, 0);
    const operands: Bytes[] = [];
    for (let i = 0; i < 3; i++) {
      const bytes = readVector(cpu, instruction, i, i === 2 && scalar ? bytesOf(format) : size);
      if ('kind' in bytes) return bytes;
      operands.push(bytes);
    }
    const [a, b, c] = order.map((i) => operands[i]) as [Bytes, Bytes, Bytes];
    const float = softFloat(cpu.state);
    const result = (operands[0] as Bytes).slice();
    for (let i = 0; i < (scalar ? 1 : size / bytesOf(format)); i++) {
      const x = readLane(format, a, i);
      const y = readLane(format, b, i);
      const z = readLane(format, c, i);
      const product = negatesProduct ? negated(format, x) : x;
      writeLane(format, result, i, float.fma(format, product, y, negatesAddend(i) ? negated(format, z) : z));
    }
    return settle(cpu.state, float) ?? writeResult(cpu.state, instruction, result);
  };

/** A NaN keeps its sign. */
const negated = (format: FloatFormat, bits: bigint): bigint =>
  (bits & ~format.signBit) > format.infinity ? bits : bits ^ format.signBit;

const never = (): boolean => false;
const always = (): boolean => true;

const FUSED = {
  Vfmadd: [false, never], Vfmsub: [false, always], Vfnmadd: [true, never], Vfnmsub: [true, always],
  Vfmaddsub: [false, (lane: number) => lane % 2 === 0], Vfmsubadd: [false, (lane: number) => lane % 2 === 1],
} as const; // biome-ignore format: a table reads better in rows

// ---- rows

const ALL: readonly Suffix[] = ['ps', 'pd', 'ss', 'sd'];
const PACKED: readonly Suffix[] = ['ps', 'pd'];
const SCALAR: readonly Suffix[] = ['ss', 'sd'];

const rows = (
  name: string,
  row: (variant: Variant) => SlowInstruction,
  suffixes: readonly Suffix[] = ALL,
): NamedInstructions => Object.fromEntries(suffixes.map((suffix) => [`${name}${suffix}`, row(VARIANTS[suffix])]));

/** Instructions with a legacy encoding and a VEX encoding. */
const SSE_ROWS: NamedInstructions = {
  ...rows('Add', lanewise((float, f, a, b) => float.add(f, a, b))),
  ...rows('Sub', lanewise((float, f, a, b) => float.sub(f, a, b))),
  ...rows('Mul', lanewise((float, f, a, b) => float.mul(f, a, b))),
  ...rows('Div', lanewise((float, f, a, b) => float.div(f, a, b))),
  ...rows('Min', lanewise((float, f, a, b) => float.extreme(f, a, b, 'less'))),
  ...rows('Max', lanewise((float, f, a, b) => float.extreme(f, a, b, 'greater'))),
  ...rows('Sqrt', unary((float, f, a) => float.sqrt(f, a))),
  ...rows('Addsub', addSubtract, PACKED),
  ...rows('Hadd', horizontal('add'), PACKED), ...rows('Hsub', horizontal('sub'), PACKED),
  ...rows('Round', round),
  ...rows('Rcp', reciprocal, ['ps', 'ss']), ...rows('Rsqrt', reciprocalRoot, ['ps', 'ss']),
  ...rows('Cmp', compare),
  ...rows('Comi', compareToFlags(true), SCALAR), ...rows('Ucomi', compareToFlags(false), SCALAR),
  Dpps: dotProduct(SINGLE), Dppd: dotProduct(DOUBLE),
  Cvtps2pd: between(SINGLE, DOUBLE), Cvtpd2ps: between(DOUBLE, SINGLE),
  Cvtss2sd: convertScalar(SINGLE, DOUBLE), Cvtsd2ss: convertScalar(DOUBLE, SINGLE),
  Cvtsi2ss: fromGpr(SINGLE), Cvtsi2sd: fromGpr(DOUBLE),
  Cvtss2si: toGpr(SINGLE), Cvttss2si: toGpr(SINGLE, ROUNDING.zero),
  Cvtsd2si: toGpr(DOUBLE), Cvttsd2si: toGpr(DOUBLE, ROUNDING.zero),
  Cvtps2dq: toIntegers(SINGLE), Cvttps2dq: toIntegers(SINGLE, ROUNDING.zero),
  Cvtpd2dq: toIntegers(DOUBLE), Cvttpd2dq: toIntegers(DOUBLE, ROUNDING.zero),
  Cvtdq2ps: fromIntegers(SINGLE), Cvtdq2pd: fromIntegers(DOUBLE),
}; // biome-ignore format: a table reads better in rows

const FMA_ROWS: NamedInstructions = Object.fromEntries(
  Object.entries(FUSED).flatMap(([stem, [negatesProduct, negatesAddend]]) =>
    Object.entries(ORDERS).flatMap(([digits, order]) =>
      Object.entries(
        rows(
          `${stem}${digits}`,
          fused(order, negatesProduct, negatesAddend),
          stem.length > 7 && !stem.startsWith('Vfn') ? PACKED : ALL,
        ),
      ),
    ),
  ),
);

const vexName = (name: string): string => `V${name.toLowerCase()}`;

export const FLOAT_INSTRUCTIONS: NamedInstructions = Object.fromEntries(
  [
    ...Object.entries(SSE_ROWS),
    ...Object.entries(SSE_ROWS).map(([name, execute]) => [vexName(name), execute] as const),
    ...Object.entries(FMA_ROWS),
    ['Vcvtph2ps', fromHalves] as const,
    ['Vcvtps2ph', toHalves] as const,
  ].map(([name, execute]) => [name, vectorInstruction(execute)]),
);
