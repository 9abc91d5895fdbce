/** Operands of slow instructions: values are unsigned BigInts of the operand's size. */

import { Register } from 'iced-x86';
import type { DecodedInstruction, MemoryOperand } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import type { Fault } from '../mmu/fault.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { segmentAddress } from './segments.ts';

/** Reads a general-purpose or segment register by its iced-x86 number. */
export function readRegister(state: State, register: Register): bigint {
  const location = REGISTERS.get(register);
  if (location === undefined) throw new RangeError(`register ${register} has no place in the state`);
  const { view } = state;
  const { address, size } = location;
  if (size === 8) return view.getBigUint64(address, true);
  return BigInt(
    size === 4 ? view.getUint32(address, true) : size === 2 ? view.getUint16(address, true) : view.getUint8(address),
  );
}

/** Writes a general-purpose register; 32-bit writes clear the upper half. */
export function writeRegister(state: State, register: Register, value: bigint): void {
  const location = REGISTERS.get(register);
  if (location === undefined) throw new RangeError(`register ${register} has no place in the state`);
  const { view } = state;
  const { address, size } = location;
  if (size >= 4) view.setBigUint64(address, BigInt.asUintN(8 * size, value), true);
  else if (size === 2) view.setUint16(address, Number(value & 0xffffn), true);
  else view.setUint8(address, Number(value & 0xffn));
}

/** Writes `size` bytes of general-purpose register `number` with the rules of `writeRegister`. */
export function writeGpr(state: State, number: number, size: 2 | 4 | 8, value: bigint): void {
  if (size === 2) value = (state.get64('gpr', number) & ~0xffffn) | (value & 0xffffn);
  state.set64('gpr', BigInt.asUintN(size === 2 ? 64 : 8 * size, value), number);
}

/** Reads the low `size` bytes of general-purpose register `number`. */
export const readGpr = (state: State, number: number, size: 1 | 2 | 4 | 8): bigint =>
  BigInt.asUintN(8 * size, state.get64('gpr', number));

/** Offset of a memory operand in its segment. */
export function effectiveAddress(state: State, memory: MemoryOperand, length: number): bigint {
  let address = memory.displacement;
  if (memory.base === Register.RIP || memory.base === Register.EIP) address += state.get64('rip') + BigInt(length);
  else if (memory.base !== Register.None) address += readRegister(state, memory.base);
  if (memory.index !== Register.None) address += readRegister(state, memory.index) * BigInt(memory.scale);
  return BigInt.asUintN(8 * memory.addressSize, address);
}

/** The memory operand at `index`. @throws RangeError when it is none: the row of the table is wrong. */
export function memoryOperand(instruction: DecodedInstruction, index: number): MemoryOperand {
  const operand = instruction.operands[index];
  if (operand?.kind !== 'memory') throw new RangeError(`operand ${index} is not in memory`);
  return operand.memory;
}

/** Linear address of `size` bytes of a memory operand, after the segment's checks. */
export function operandAddress(
  cpu: Cpu,
  instruction: DecodedInstruction,
  index: number,
  size: number,
  write: boolean,
  displacement = 0n,
): bigint | Fault {
  const memory = memoryOperand(instruction, index);
  const offset = effectiveAddress(cpu.state, memory, instruction.length) + displacement;
  return segmentAddress(cpu.state, memory.segment, BigInt.asUintN(8 * memory.addressSize, offset), size, write);
}

/** Reads `size` bytes (1, 2, 4, 8) of a memory operand, `displacement` bytes from its start. */
export function readMemoryOperand(
  cpu: Cpu,
  instruction: DecodedInstruction,
  index: number,
  size: number,
  displacement = 0n,
): bigint | Fault {
  const address = operandAddress(cpu, instruction, index, size, false, displacement);
  return typeof address === 'object' ? address : cpu.mmu.read(address, size);
}

/** Writes `size` bytes of a memory operand. */
export function writeMemoryOperand(
  cpu: Cpu,
  instruction: DecodedInstruction,
  index: number,
  size: number,
  value: bigint,
): Fault | undefined {
  const address = operandAddress(cpu, instruction, index, size, true);
  return typeof address === 'object' ? address : cpu.mmu.write(address, size, value);
}

/** Value of a register, memory or immediate operand. */
export function readOperand(cpu: Cpu, instruction: DecodedInstruction, index: number): bigint | Fault {
  const operand = instruction.operands[index];
  switch (operand?.kind) {
    case 'register':
      return readRegister(cpu.state, operand.register);
    case 'memory':
      return readMemoryOperand(cpu, instruction, index, operand.size);
    case 'immediate':
      return BigInt.asUintN(8 * operand.size, operand.value);
    default:
      throw new RangeError(`operand ${index} has no value`);
  }
}

/** Writes a register or memory operand. */
export function writeOperand(
  cpu: Cpu,
  instruction: DecodedInstruction,
  index: number,
  value: bigint,
): Fault | undefined {
  const operand = instruction.operands[index];
  if (operand?.kind === 'register') {
    writeRegister(cpu.state, operand.register, value);
    return undefined;
  }
  if (operand?.kind !== 'memory') throw new RangeError(`operand ${index} cannot be written`);
  return writeMemoryOperand(cpu, instruction, index, operand.size, value);
}

/** Size in bytes of an operand. */
export function sizeOf(instruction: DecodedInstruction, index: number): number {
  const operand = instruction.operands[index];
  if (operand === undefined || !('size' in operand)) throw new RangeError(`operand ${index} has no size`);
  return operand.size;
}
