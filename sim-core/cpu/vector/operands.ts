/** What slow vector instructions have in common: when they may execute, their operands, their results. */

import { CodeExt, EncodingKind, Mnemonic } from 'iced-x86';
import type { DecodedInstruction } from '../../isa/instruction.ts';
import { REGISTERS } from '../../isa/registers.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../../mmu/fault.ts';
import { CR0, CR4 } from '../../state/control-bits.ts';
import { OFFSET } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from '../cpu.ts';
import { requireSse } from '../fpu-instructions.ts';
import { operandAddress } from '../operands.ts';

/** A vector's bytes: 16 or 32 of a register, fewer in memory. */
export type Bytes = Uint8Array;

export const viewOf = (bytes: Bytes): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

// ---- encodings

const encodings = new Map<number, EncodingKind>();

/** How an iced-x86 Code is encoded, looked up once each. */
function encodingOf(code: number): EncodingKind {
  const known = encodings.get(code);
  if (known !== undefined) return known;
  const info = CodeExt.opCode(code);
  const { encoding } = info;
  info.free();
  encodings.set(code, encoding);
  return encoding;
}

export const isVex = ({ code }: DecodedInstruction): boolean => encodingOf(code) === EncodingKind.VEX;

/** XCR0: SSE and AVX state. */
const AVX_STATE = 0x6;

/** #UD or #NM unless AVX instructions may execute (SDM Vol. 2A, "VEX Exception Classes"). */
function requireAvx(state: State): Fault | undefined {
  const enabled = (state.low('cr4') & CR4.osxsave) !== 0 && (state.low('xcr0') & AVX_STATE) === AVX_STATE;
  if (!enabled || (state.low('cr0') & CR0.pe) === 0) return undefinedOpcode();
  return (state.low('cr0') & CR0.ts) !== 0 ? exception(VECTOR.nm) : undefined;
}

/** The execution of a vector instruction behind the checks that its encoding asks for. */
export const vectorInstruction =
  (execute: SlowInstruction): SlowInstruction =>
  (cpu, instruction) => {
    switch (encodingOf(instruction.code)) {
      case EncodingKind.VEX:
        return requireAvx(cpu.state) ?? execute(cpu, instruction);
      case EncodingKind.Legacy:
        return requireSse(cpu.state) ?? execute(cpu, instruction);
      default:
        return {
          kind: 'unimplemented',
          what: `instruction ${Mnemonic[instruction.mnemonic]?.toLowerCase()} with EVEX`,
        };
    }
  };

// ---- operands

/** The bytes of a vector register, as they are in the state. */
export function registerBytes(state: State, instruction: DecodedInstruction, i: number): Bytes {
  const operand = instruction.operands[i];
  const location = operand?.kind === 'register' ? REGISTERS.get(operand.register) : undefined;
  if (location?.kind !== 'xmm' && location?.kind !== 'ymm') throw new RangeError(`operand ${i} is no vector register`);
  return state.bytes.subarray(location.address, location.address + location.size);
}

/** Bytes of vector operand `i` in a register, or of its memory operand. */
export function sizeOfVector(instruction: DecodedInstruction, i: number): number {
  const operand = instruction.operands[i];
  if (operand === undefined || !('size' in operand)) throw new RangeError(`operand ${i} has no size`);
  return operand.size;
}

/**
 * A copy of `size` bytes of operand `i`.
 * @param unaligned whether memory of 16 bytes need not be aligned in a legacy encoding; VEX encodings never ask for it
 */
export function readVector(
  cpu: Cpu,
  instruction: DecodedInstruction,
  i: number,
  size: number,
  unaligned = false,
): Bytes | Fault {
  const { state, mmu } = cpu;
  if (instruction.operands[i]?.kind === 'register') return registerBytes(state, instruction, i).slice(0, size);
  const linear = operandAddress(cpu, instruction, i, size, false);
  if (typeof linear === 'object') return linear;
  const mustAlign = size === 16 && !unaligned && !isVex(instruction);
  if (mustAlign && (linear & 15n) !== 0n) return generalProtection();
  const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), size, false);
  return at === 0 ? mmu.lastFault() : state.bytes.slice(at, at + size);
}

/** Both sources of an instruction: as many bytes each as the destination has, unless the second is said to differ. */
export function readSources(
  cpu: Cpu,
  instruction: DecodedInstruction,
  secondSize = sizeOfVector(instruction, 0),
): readonly [a: Bytes, b: Bytes] | Fault {
  const [first, second] = sourcesOf(instruction);
  const a = readVector(cpu, instruction, first, sizeOfVector(instruction, 0));
  if ('kind' in a) return a;
  const b = readVector(cpu, instruction, second, secondSize);
  return 'kind' in b ? b : [a, b];
}

/** The fault that writing to memory operand `i` would raise. */
export function probeVector(cpu: Cpu, instruction: DecodedInstruction, i: number, size: number): Fault | undefined {
  const linear = operandAddress(cpu, instruction, i, size, true);
  if (typeof linear === 'object') return linear;
  const at = cpu.mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), size, true);
  return at === 0 ? cpu.mmu.lastFault() : undefined;
}

/** Writes bytes to memory operand `i`. */
export function writeVector(cpu: Cpu, instruction: DecodedInstruction, i: number, bytes: Bytes): Fault | undefined {
  const linear = operandAddress(cpu, instruction, i, bytes.length, true);
  return typeof linear === 'object' ? linear : writeBytes(cpu, linear, bytes);
}

function writeBytes({ state, mmu }: Cpu, linear: bigint, bytes: Bytes): Fault | undefined {
  const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), bytes.length, true);
  if (at === 0) return mmu.lastFault();
  state.bytes.set(bytes, at);
  if (at === OFFSET.bounce) mmu.commit();
  return undefined;
}

/**
 * Writes the low bytes of the register in operand 0. A VEX encoding clears what is above them, a legacy one leaves it.
 */
export function writeResult(state: State, instruction: DecodedInstruction, bytes: Bytes): Next {
  const target = registerBytes(state, instruction, 0);
  if (isVex(instruction)) state.bytes.fill(0, target.byteOffset, target.byteOffset + 32);
  target.set(bytes);
  return NEXT.sequential;
}

/** Numbers of the source operands: a legacy encoding's destination is its first source. */
export const sourcesOf = (instruction: DecodedInstruction): readonly [first: number, second: number] =>
  isVex(instruction) ? [1, 2] : [0, 1];

/** The 8-bit immediate in operand `i`. */
export function immediateOf(instruction: DecodedInstruction, i: number): number {
  const operand = instruction.operands[i];
  if (operand?.kind !== 'immediate') throw new RangeError(`operand ${i} is no immediate`);
  return Number(operand.value & 0xffn);
}
