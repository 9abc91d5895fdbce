/** The SSE control and status register, and the x87 and SSE state as kernels save and restore it. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { in64BitMode } from './modes.ts';
import { operandAddress, readMemoryOperand, writeMemoryOperand } from './operands.ts';
import type { NamedInstructions } from './table.ts';
import { readArea, writeArea } from './x87/area.ts';
import { setControl, stackBytes } from './x87/control-instructions.ts';
import { requireX87 } from './x87/instruction.ts';

/** #UD or #NM unless SSE instructions may execute. */
export function requireSse(state: State): Fault | undefined {
  const cr0 = state.low('cr0');
  if ((cr0 & CR0.em) !== 0 || (state.low('cr4') & CR4.osfxsr) === 0) return undefinedOpcode();
  return (cr0 & CR0.ts) !== 0 ? exception(VECTOR.nm) : undefined;
}

/** MXCSR bits that may be 1, as FXSAVE reports them. */
export const MXCSR_MASK = 0xffff;

export function ldmxcsr(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const problem = requireSse(cpu.state);
  if (problem) return problem;
  const value = readMemoryOperand(cpu, instruction, 0, 4);
  if (typeof value === 'object') return value;
  if ((value & ~BigInt(MXCSR_MASK)) !== 0n) return generalProtection();
  cpu.state.set32('mxcsr', Number(value));
  return NEXT.sequential;
}

export const stmxcsr: SlowInstruction = (cpu, instruction) =>
  requireSse(cpu.state) ??
  writeMemoryOperand(cpu, instruction, 0, 4, BigInt(cpu.state.get32('mxcsr'))) ??
  NEXT.sequential;

/** The area of FXSAVE and FXRSTOR (SDM Vol. 1, "FXSAVE Area"): offsets in bytes. */
const AREA = { size: 512, mxcsr: 24, mxcsrMask: 28, registers: 32, xmm: 160 } as const;
const REGISTERS = 8;
const REGISTER_SIZE = 10;
const EMPTY = 3;

/** The abridged tag word: one bit a register, 1 unless it is empty. */
function abridgedTag(tag: number): number {
  let bits = 0;
  for (let i = 0; i < REGISTERS; i++) if (((tag >>> (2 * i)) & EMPTY) !== EMPTY) bits |= 1 << i;
  return bits;
}

function setAbridgedTag(state: State, abridged: number): void {
  let tag = 0;
  for (let i = 0; i < REGISTERS; i++) if (((abridged >>> i) & 1) === 0) tag |= EMPTY << (2 * i);
  state.set32('x87Tag', tag);
}

/** How many XMM registers the mode shows. */
const xmmCount = (state: State): number => (in64BitMode(state) ? 16 : 8);

/** The bytes of the area that FXSAVE writes. @param wide 64-bit pointers instead of selectors and 32-bit offsets */
export function packArea(state: State, wide: boolean): Uint8Array {
  const area = new Uint8Array(AREA.xmm + 16 * xmmCount(state));
  const view = new DataView(area.buffer);
  view.setUint16(0, state.get32('x87Control'), true);
  view.setUint16(2, state.get32('x87Status'), true);
  view.setUint8(4, abridgedTag(state.get32('x87Tag')));
  view.setUint16(6, state.get32('x87Opcode'), true);
  packPointer(view, 8, state.get64('x87Ip'), wide ? undefined : state.get32('x87Cs'));
  packPointer(view, 16, state.get64('x87Dp'), wide ? undefined : state.get32('x87Ds'));
  view.setUint32(AREA.mxcsr, state.get32('mxcsr'), true);
  view.setUint32(AREA.mxcsrMask, MXCSR_MASK, true);
  for (let i = 0; i < REGISTERS; i++) area.set(stackBytes(state, i), AREA.registers + 16 * i);
  for (let i = 0; i < xmmCount(state); i++) {
    const from = OFFSET.ymm + 32 * i;
    area.set(state.bytes.subarray(from, from + 16), AREA.xmm + 16 * i);
  }
  return area;
}

/** An offset of 64 bits, or one of 32 with its selector. */
function packPointer(view: DataView, at: number, offset: bigint, selector: number | undefined): void {
  const whole = selector === undefined ? offset : BigInt.asUintN(32, offset) | (BigInt(selector) << 32n);
  view.setBigUint64(at, whole, true);
}

const unpackOffset = (view: DataView, at: number, wide: boolean): bigint =>
  BigInt.asUintN(wide ? 64 : 32, view.getBigUint64(at, true));

export function unpackArea(state: State, area: Uint8Array, wide: boolean): void {
  const view = new DataView(area.buffer);
  state.set32('x87Status', view.getUint16(2, true));
  state.set32('x87Opcode', view.getUint16(6, true) & 0x7ff);
  state.set64('x87Ip', unpackOffset(view, 8, wide));
  state.set64('x87Dp', unpackOffset(view, 16, wide));
  state.set32('x87Cs', wide ? 0 : view.getUint16(12, true));
  state.set32('x87Ds', wide ? 0 : view.getUint16(20, true));
  state.set32('mxcsr', view.getUint32(AREA.mxcsr, true));
  for (let i = 0; i < REGISTERS; i++) {
    const from = AREA.registers + 16 * i;
    stackBytes(state, i).set(area.subarray(from, from + REGISTER_SIZE));
  }
  setAbridgedTag(state, view.getUint8(4));
  setControl(state, view.getUint16(0, true));
  for (let i = 0; i < xmmCount(state); i++) {
    const from = AREA.xmm + 16 * i;
    state.bytes.set(area.subarray(from, from + 16), OFFSET.ymm + 32 * i);
  }
}

/** Linear address of the 512-byte area: #GP unless aligned to 16 bytes. */
function areaAddress(cpu: Cpu, instruction: DecodedInstruction, write: boolean): bigint | Fault {
  const problem = requireX87(cpu.state);
  if (problem) return problem;
  const linear = operandAddress(cpu, instruction, 0, AREA.size, write);
  if (typeof linear === 'object') return linear;
  return (linear & 0xfn) === 0n ? linear : generalProtection();
}

const fxsave =
  (wide: boolean): SlowInstruction =>
  (cpu, instruction) => {
    const linear = areaAddress(cpu, instruction, true);
    if (typeof linear === 'object') return linear;
    return writeArea(cpu, linear, packArea(cpu.state, wide)) ?? NEXT.sequential;
  };

const fxrstor =
  (wide: boolean): SlowInstruction =>
  (cpu, instruction) => {
    const linear = areaAddress(cpu, instruction, false);
    if (typeof linear === 'object') return linear;
    const area = readArea(cpu, linear, AREA.xmm + 16 * xmmCount(cpu.state));
    if (!(area instanceof Uint8Array)) return area;
    const mxcsr = new DataView(area.buffer).getUint32(AREA.mxcsr, true);
    if ((mxcsr & ~MXCSR_MASK) !== 0) return generalProtection();
    unpackArea(cpu.state, area, wide);
    return NEXT.sequential;
  };

export const FPU_INSTRUCTIONS: NamedInstructions = {
  Ldmxcsr: ldmxcsr,
  Stmxcsr: stmxcsr,
  Fxsave: fxsave(false),
  Fxsave64: fxsave(true),
  Fxrstor: fxrstor(false),
  Fxrstor64: fxrstor(true),
};
