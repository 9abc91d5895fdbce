/** Masked moves and gathers of AVX and AVX2 (SDM Vol. 2): elements that the mask leaves out are not accessed. */

import { Register } from 'iced-x86';
import type { DecodedInstruction, MemoryOperand } from '../../isa/instruction.ts';
import { REGISTERS } from '../../isa/registers.ts';
import { type Fault, undefinedOpcode } from '../../mmu/fault.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { memoryOperand, operandAddress, readRegister } from '../operands.ts';
import { segmentAddress } from '../segments.ts';
import type { NamedInstructions } from '../table.ts';
import { type Bytes, registerBytes, vectorInstruction, viewOf, writeResult } from './operands.ts';

type Width = 4 | 8;

/** Numbers of the elements whose mask has its top bit set. */
const chosenOf = (mask: Bytes, width: Width): number[] =>
  Array.from({ length: mask.length / width }, (_, i) => i).filter(
    (i) => (mask[width * i + width - 1] as number) >= 0x80,
  );

/** A copy of one element, or the fault of reading it. */
function readElement({ state, mmu }: Cpu, linear: bigint, width: Width): Bytes | Fault {
  const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), width, false);
  return at === 0 ? mmu.lastFault() : state.bytes.slice(at, at + width);
}

const load =
  (width: Width): SlowInstruction =>
  (cpu, instruction) => {
    const mask = registerBytes(cpu.state, instruction, 1);
    const result = new Uint8Array(mask.length);
    for (const i of chosenOf(mask, width)) {
      const linear = operandAddress(cpu, instruction, 2, width, false, BigInt(width * i));
      if (typeof linear === 'object') return linear;
      const element = readElement(cpu, linear, width);
      if ('kind' in element) return element;
      result.set(element, width * i);
    }
    return writeResult(cpu.state, instruction, result);
  };

const store =
  (width: Width): SlowInstruction =>
  (cpu, instruction) => {
    const { state, mmu } = cpu;
    const source = registerBytes(state, instruction, 2);
    const writes: (readonly [linear: bigint, element: Bytes])[] = [];
    for (const i of chosenOf(registerBytes(state, instruction, 1), width)) {
      const linear = operandAddress(cpu, instruction, 0, width, true, BigInt(width * i));
      if (typeof linear === 'object') return linear;
      // All elements are probed before the first one is written.
      if (mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), width, true) === 0) return mmu.lastFault();
      writes.push([linear, source.subarray(width * i, width * i + width)]);
    }
    for (const [linear, element] of writes) {
      const value = width === 8 ? viewOf(element).getBigUint64(0, true) : BigInt(viewOf(element).getUint32(0, true));
      const fault = mmu.write(linear, width, value);
      if (fault) return fault;
    }
    return NEXT.sequential;
  };

const masked =
  (width: Width): SlowInstruction =>
  (cpu, instruction) =>
    (instruction.operands[0]?.kind === 'memory' ? store(width) : load(width))(cpu, instruction);

// ---- gathers

/** The linear address of an element, or the fault of its segment. */
function elementAddress({ state }: Cpu, memory: MemoryOperand, index: bigint, width: Width): bigint | Fault {
  const base = memory.base === Register.None ? 0n : readRegister(state, memory.base);
  const offset = BigInt.asUintN(8 * memory.addressSize, base + index * BigInt(memory.scale) + memory.displacement);
  return segmentAddress(state, memory.segment, offset, width, false);
}

function indexRegister(state: State, memory: MemoryOperand): Bytes {
  const location = REGISTERS.get(memory.index);
  if (location === undefined) throw new RangeError('a gather has no index');
  return state.bytes.slice(location.address, location.address + location.size);
}

const numberOf = (register: Register): number | undefined => REGISTERS.get(register)?.number;

/** Destination, index and mask must be three registers. */
function sharesRegisters(instruction: DecodedInstruction): boolean {
  const [target, memory, mask] = instruction.operands;
  if (target?.kind !== 'register' || memory?.kind !== 'memory' || mask?.kind !== 'register') return true;
  return new Set([target.register, memory.memory.index, mask.register].map(numberOf)).size < 3;
}

/** Element `i` of a vector of signed indices. */
const indexAt = (indices: Bytes, width: Width, i: number): bigint =>
  width === 8 ? viewOf(indices).getBigInt64(8 * i, true) : BigInt(viewOf(indices).getInt32(4 * i, true));

/**
 * Elements are read one by one, and each one's mask is cleared: after a fault the instruction goes on where it stopped.
 */
const gather =
  (indexWidth: Width, width: Width): SlowInstruction =>
  (cpu, instruction) => {
    if (sharesRegisters(instruction)) return undefinedOpcode();
    const { state } = cpu;
    const target = registerBytes(state, instruction, 0);
    const mask = registerBytes(state, instruction, 2);
    const memory = memoryOperand(instruction, 1);
    const indices = indexRegister(state, memory);
    const count = Math.min(target.length / width, indices.length / indexWidth);
    const chosen = new Set(chosenOf(mask, width));
    for (let i = 0; i < count; i++) {
      if (chosen.has(i)) {
        const linear = elementAddress(cpu, memory, indexAt(indices, indexWidth, i), width);
        if (typeof linear === 'object') return linear;
        const element = readElement(cpu, linear, width);
        if ('kind' in element) return element;
        target.set(element, width * i);
      }
      mask.fill(0, width * i, width * i + width);
    }
    return finishGather(state, target, mask, count * width);
  };

/** The mask becomes zero, and so does what is above the elements of the destination. */
function finishGather(state: State, target: Bytes, mask: Bytes, used: number): Next {
  state.bytes.fill(0, mask.byteOffset, mask.byteOffset + 32);
  state.bytes.fill(0, target.byteOffset + used, target.byteOffset + 32);
  return NEXT.sequential;
}

const ROWS: NamedInstructions = {
  Vmaskmovps: masked(4), Vmaskmovpd: masked(8), Vpmaskmovd: masked(4), Vpmaskmovq: masked(8),
  Vgatherdps: gather(4, 4), Vgatherdpd: gather(4, 8), Vgatherqps: gather(8, 4), Vgatherqpd: gather(8, 8),
  Vpgatherdd: gather(4, 4), Vpgatherdq: gather(4, 8), Vpgatherqd: gather(8, 4), Vpgatherqq: gather(8, 8),
}; // biome-ignore format: a table reads better in rows

export const MASKED_INSTRUCTIONS: NamedInstructions = Object.fromEntries(
  Object.entries(ROWS).map(([name, execute]) => [name, vectorInstruction(execute)]),
);
