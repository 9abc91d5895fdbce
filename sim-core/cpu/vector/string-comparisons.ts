/** PCMPxSTRx, and the packed integer instructions that are too intricate to be staged (SDM Vol. 2). */

import type { DecodedInstruction } from '../../isa/instruction.ts';
import type { Fault } from '../../mmu/fault.ts';
import { RFLAGS } from '../../state/control-bits.ts';
import { GPR, OFFSET } from '../../state/layout.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { writeStatusFlags } from '../rflags.ts';
import type { NamedInstructions } from '../table.ts';
import {
  type Bytes, immediateOf, isVex, readSources, readVector, registerBytes, vectorInstruction, viewOf,
  writeResult,
} from './operands.ts'; // biome-ignore format: a list reads better in rows

/** One operand: its elements, and how many of them are valid. */
interface Text {
  readonly elements: readonly number[];
  readonly length: number;
}

/** Elements by immediate bits 1:0: bytes or words, unsigned or signed. */
function elementsOf(bytes: Bytes, control: number): number[] {
  const view = viewOf(bytes);
  const signed = (control & 2) !== 0;
  if ((control & 1) === 0) return Array.from(bytes, (_, i) => (signed ? view.getInt8(i) : view.getUint8(i)));
  return Array.from({ length: 8 }, (_, i) => (signed ? view.getInt16(2 * i, true) : view.getUint16(2 * i, true)));
}

/** Up to the first zero, or as long as a register says: the absolute value of its low 32 or all 64 bits. */
function textOf(bytes: Bytes, control: number, explicitLength: bigint | undefined): Text {
  const elements = elementsOf(bytes, control);
  if (explicitLength === undefined) {
    const end = elements.indexOf(0);
    return { elements, length: end < 0 ? elements.length : end };
  }
  const magnitude = explicitLength < 0n ? -explicitLength : explicitLength;
  return { elements, length: magnitude > BigInt(elements.length) ? elements.length : Number(magnitude) };
}

type Aggregation = (first: Text, second: Text, at: number) => boolean;

const equalAny: Aggregation = (first, second, at) =>
  at < second.length && first.elements.slice(0, first.length).includes(second.elements[at] as number);

const inRanges: Aggregation = (first, second, at) => {
  const value = second.elements[at] as number;
  if (at >= second.length) return false;
  for (let i = 0; i + 1 < first.length; i += 2) {
    if (value >= (first.elements[i] as number) && value <= (first.elements[i + 1] as number)) return true;
  }
  return false;
};

const equalEach: Aggregation = (first, second, at) => {
  const [inFirst, inSecond] = [at < first.length, at < second.length];
  return inFirst && inSecond ? first.elements[at] === second.elements[at] : inFirst === inSecond;
};

const equalOrdered: Aggregation = (first, second, at) => {
  for (let i = 0; i < first.length && at + i < second.elements.length; i++) {
    if (at + i >= second.length || first.elements[i] !== second.elements[at + i]) return false;
  }
  return true;
};

/** By immediate bits 3:2. */
const AGGREGATIONS = [equalAny, inRanges, equalEach, equalOrdered] as const;

/** IntRes2: one bit an element; polarity is immediate bits 5:4. */
function compareTexts(first: Text, second: Text, control: number): number {
  const aggregate = AGGREGATIONS[(control >> 2) & 3] as Aggregation;
  let bits = 0;
  second.elements.forEach((_, at) => {
    const negates = (control & 0x10) !== 0 && ((control & 0x20) === 0 || at < second.length);
    if (aggregate(first, second, at) !== negates) bits |= 1 << at;
  });
  return bits;
}

const WIDE = 0x40;

/** PCMPxSTRM's mask: bits, or with immediate bit 6 whole elements. */
function expanded(bits: number, count: number, control: number): Bytes {
  if ((control & WIDE) !== 0) {
    return Uint8Array.from({ length: 16 }, (_, i) => ((bits >> Math.floor((i * count) / 16)) & 1 ? 0xff : 0));
  }
  const mask = new Uint8Array(16);
  viewOf(mask).setUint16(0, bits, true);
  return mask;
}

/** PCMPxSTRI's index: of the lowest set bit, or with immediate bit 6 the highest; their number when none is set. */
const indexOf = (bits: number, count: number, control: number): number =>
  bits === 0 ? count : 31 - Math.clz32((control & WIDE) === 0 ? bits & -bits : bits);

const compareStrings =
  (lengths: 'implicit' | 32 | 64, result: 'index' | 'mask'): SlowInstruction =>
  (cpu, instruction) => {
    const { state } = cpu;
    const b = readVector(cpu, instruction, 1, 16, true);
    if ('kind' in b) return b;
    const control = immediateOf(instruction, 2);
    const explicit = (register: number) =>
      lengths === 'implicit' ? undefined : BigInt.asIntN(lengths, state.get64('gpr', register));
    const first = textOf(registerBytes(state, instruction, 0), control, explicit(GPR.rax));
    const second = textOf(b, control, explicit(GPR.rdx));
    const bits = compareTexts(first, second, control);
    const count = second.elements.length;
    if (result === 'index') state.set64('gpr', BigInt(indexOf(bits, count, control)), GPR.rcx);
    else {
      if (isVex(instruction)) state.bytes.fill(0, OFFSET.ymm, OFFSET.ymm + 32);
      state.bytes.set(expanded(bits, count, control), OFFSET.ymm);
    }
    writeStatusFlags(
      state,
      (bits !== 0 ? RFLAGS.cf : 0) |
        (second.length < count ? RFLAGS.zf : 0) |
        (first.length < count ? RFLAGS.sf : 0) |
        ((bits & 1) !== 0 ? RFLAGS.of : 0),
    );
    return NEXT.sequential;
  };

/** MPSADBW: eight sums of four differences; immediate bits choose the blocks, three for each half. */
function sumsOfDifferences(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const sources = readSources(cpu, instruction);
  if ('kind' in sources) return sources;
  const [a, b] = sources;
  const result = new Uint8Array(a.length);
  for (let half = 0; half < a.length; half += 16) {
    const control = immediateOf(instruction, instruction.operands.length - 1) >> (half === 0 ? 0 : 3);
    const from = half + (control & 4);
    const block = half + 4 * (control & 3);
    for (let i = 0; i < 8; i++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += Math.abs((a[from + i + k] as number) - (b[block + k] as number));
      viewOf(result).setUint16(half + 2 * i, sum, true);
    }
  }
  return writeResult(cpu.state, instruction, result);
}

/** PHMINPOSUW: the least word and its number. */
function leastWord(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const source = readVector(cpu, instruction, 1, 16);
  if ('kind' in source) return source;
  const values = elementsOf(source, 1);
  const least = Math.min(...values);
  const result = new Uint8Array(16);
  viewOf(result).setUint16(0, least, true);
  viewOf(result).setUint16(2, values.indexOf(least), true);
  return writeResult(cpu.state, instruction, result);
}

const ROWS: NamedInstructions = {
  Pcmpistri: compareStrings('implicit', 'index'), Pcmpistrm: compareStrings('implicit', 'mask'),
  Pcmpestri: compareStrings(32, 'index'), Pcmpestrm: compareStrings(32, 'mask'),
  Pcmpestri64: compareStrings(64, 'index'), Pcmpestrm64: compareStrings(64, 'mask'),
  Mpsadbw: sumsOfDifferences, Phminposuw: leastWord,
}; // biome-ignore format: a table reads better in rows

export const STRING_COMPARISONS: NamedInstructions = Object.fromEntries(
  Object.entries(ROWS).flatMap(([name, execute]) => [
    [name, vectorInstruction(execute)],
    [`V${name.toLowerCase()}`, vectorInstruction(execute)],
  ]),
);
