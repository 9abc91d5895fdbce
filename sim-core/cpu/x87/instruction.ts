/** What x87 instructions have in common: when they may execute, their operands, and the pointers they leave. */

import { Register } from 'iced-x86';
import type { DecodedInstruction } from '../../isa/instruction.ts';
import { exception, type Fault, VECTOR } from '../../mmu/fault.ts';
import { CR0 } from '../../state/control-bits.ts';
import { OFFSET, SEGMENT } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import type { Cpu, SlowInstruction } from '../cpu.ts';
import { in64BitMode } from '../modes.ts';
import { effectiveAddress, operandAddress, readMemoryOperand } from '../operands.ts';
import { ALL_EXCEPTIONS, type Float80 } from './float80.ts';
import { type FloatSize, fromMemoryFormat, fromMemoryInteger } from './formats.ts';
import { STATUS } from './registers.ts';

/** #NM when CR0.EM or CR0.TS asks for it. */
export const requireX87 = (state: State): Fault | undefined =>
  (state.low('cr0') & (CR0.em | CR0.ts)) !== 0 ? exception(VECTOR.nm) : undefined;

/** #MF when an unmasked exception is pending. */
export function pendingError(state: State): Fault | undefined {
  if ((state.get32('x87Status') & STATUS.summary) === 0) return undefined;
  if ((state.low('cr0') & CR0.ne) !== 0) return exception(VECTOR.mf);
  return { kind: 'unimplemented', what: 'x87 error reported by FERR# (CR0.NE = 0)' };
}

/** Instructions that only read or set the unit's state: they leave the pointers alone. */
export const control =
  (execute: SlowInstruction): SlowInstruction =>
  (cpu, instruction) =>
    requireX87(cpu.state) ?? execute(cpu, instruction);

/** Control instructions that wait for pending exceptions. */
export const waiting = (execute: SlowInstruction): SlowInstruction =>
  control((cpu, instruction) => pendingError(cpu.state) ?? execute(cpu, instruction));

/** All other instructions: they are what the instruction and data pointers tell of. */
export const computing = (execute: SlowInstruction): SlowInstruction =>
  waiting((cpu, instruction) => {
    const outcome = execute(cpu, instruction);
    if (typeof outcome !== 'object') recordPointers(cpu, instruction);
    return outcome;
  });

/** SDM Vol. 1, "x87 FPU Instruction and Data (Operand) Pointers"; the opcode is kept of unmasked exceptions only. */
function recordPointers({ state }: Cpu, instruction: DecodedInstruction): void {
  const segmented = !in64BitMode(state);
  state.set64('x87Ip', state.get64('rip'));
  state.set32('x87Cs', segmented ? state.get32('segmentSelector', SEGMENT.cs) : 0);
  const operand = instruction.operands[0];
  if (operand?.kind === 'memory') {
    state.set64('x87Dp', effectiveAddress(state, operand.memory, instruction.length));
    state.set32('x87Ds', segmented ? state.get32('segmentSelector', operand.memory.segment) : 0);
  }
  const unmasked = state.get32('x87Status') & ~state.get32('x87Control') & ALL_EXCEPTIONS;
  if (unmasked !== 0) state.set32('x87Opcode', opcodeOf(instruction.bytes));
}

/** The last three bits of the escape opcode, and its second byte. No prefix looks like an escape opcode. */
function opcodeOf(bytes: Uint8Array): number {
  const at = bytes.findIndex((byte) => (byte & 0xf8) === 0xd8);
  return (((bytes[at] ?? 0) & 7) << 8) | (bytes[at + 1] ?? 0);
}

// ---- operands

/** i of operand ST(i). */
export function stackNumber(instruction: DecodedInstruction, index: number): number {
  const operand = instruction.operands[index];
  if (operand?.kind !== 'register') throw new RangeError(`operand ${index} is no register`);
  return operand.register - Register.ST0;
}

export const hasMemoryOperand = (instruction: DecodedInstruction): boolean =>
  instruction.operands[0]?.kind === 'memory';

export function memorySize(instruction: DecodedInstruction): number {
  const operand = instruction.operands[0];
  if (operand?.kind !== 'memory') throw new RangeError('the operand is not in memory');
  return operand.size;
}

export const isFault = (value: Float80 | Fault): value is Fault => 'kind' in value;

/** How a memory operand is to be read. */
export type MemoryKind = 'real' | 'integer';

export function readNumber(cpu: Cpu, instruction: DecodedInstruction, kind: MemoryKind): Float80 | Fault {
  const size = memorySize(instruction);
  if (size === EXTENDED_SIZE) {
    const bits = readExtended(cpu, instruction);
    return typeof bits === 'bigint' ? fromBits(bits) : bits;
  }
  const bits = readMemoryOperand(cpu, instruction, 0, size);
  if (typeof bits === 'object') return bits;
  return kind === 'integer' ? fromMemoryInteger(bits, size) : fromMemoryFormat(bits, size as FloatSize);
}

/** Bytes of a double extended-precision number, and of a packed BCD number. */
export const EXTENDED_SIZE = 10;

const fromBits = (bits: bigint): Float80 => ({
  sign: Number(bits >> 79n) as 0 | 1,
  exponent: Number((bits >> 64n) & 0x7fffn),
  significand: BigInt.asUintN(64, bits),
});
export const toBits = ({ sign, exponent, significand }: Float80): bigint =>
  (BigInt((sign << 15) | exponent) << 64n) | significand;

/** Linear-memory address of the operand. */
function locate(cpu: Cpu, instruction: DecodedInstruction, size: number, write: boolean): number | Fault {
  const linear = operandAddress(cpu, instruction, 0, size, write);
  if (typeof linear === 'object') return linear;
  const { mmu } = cpu;
  return mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), size, write) || mmu.lastFault();
}

/** The fault that a write to the memory operand would have. */
export function probeForWriting(cpu: Cpu, instruction: DecodedInstruction, size: number): Fault | undefined {
  const at = locate(cpu, instruction, size, true);
  return typeof at === 'object' ? at : undefined;
}

/** The 80 bits of the memory operand. */
export function readExtended(cpu: Cpu, instruction: DecodedInstruction): bigint | Fault {
  const at = locate(cpu, instruction, EXTENDED_SIZE, false);
  if (typeof at === 'object') return at;
  const { view } = cpu.state;
  return (BigInt(view.getUint16(at + 8, true)) << 64n) | view.getBigUint64(at, true);
}

export function writeExtended(cpu: Cpu, instruction: DecodedInstruction, value: bigint): Fault | undefined {
  const at = locate(cpu, instruction, EXTENDED_SIZE, true);
  if (typeof at === 'object') return at;
  cpu.state.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  cpu.state.view.setUint16(at + 8, Number(value >> 64n), true);
  if (at === OFFSET.bounce) cpu.mmu.commit();
  return undefined;
}
