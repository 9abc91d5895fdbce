/** The x87 and SSE state as kernels initialise, save and restore it. x87 arithmetic is not simulated. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { in64BitMode } from './modes.ts';
import { operandAddress, readMemoryOperand, writeMemoryOperand, writeOperand } from './operands.ts';
import type { NamedInstructions } from './table.ts';

/** #NM when CR0.EM or CR0.TS asks for it. */
const requireX87 = (state: State): Fault | undefined =>
  (state.low('cr0') & (CR0.em | CR0.ts)) !== 0 ? exception(VECTOR.nm) : undefined;

/** #UD or #NM unless SSE instructions may execute. */
export function requireSse(state: State): Fault | undefined {
  const cr0 = state.low('cr0');
  if ((cr0 & CR0.em) !== 0 || (state.low('cr4') & CR4.osfxsr) === 0) return undefinedOpcode();
  return (cr0 & CR0.ts) !== 0 ? exception(VECTOR.nm) : undefined;
}

const x87 =
  (execute: SlowInstruction): SlowInstruction =>
  (cpu, instruction) =>
    requireX87(cpu.state) ?? execute(cpu, instruction);

const DEFAULT_CONTROL = 0x37f;
const ALL_EMPTY = 0xffff;

function fninit({ state }: Cpu): Next {
  state.set32('x87Control', DEFAULT_CONTROL);
  state.set32('x87Status', 0);
  state.set32('x87Tag', ALL_EMPTY);
  state.set32('x87Opcode', 0);
  state.set64('x87Ip', 0n);
  state.set64('x87Dp', 0n);
  return NEXT.sequential;
}

/** FNCLEX clears the exception flags, ES and B of the status word. */
function fnclex({ state }: Cpu): Next {
  state.set32('x87Status', state.get32('x87Status') & 0x7f00);
  return NEXT.sequential;
}

const storeWord =
  (field: 'x87Control' | 'x87Status'): SlowInstruction =>
  (cpu, instruction) => {
    const value = BigInt(cpu.state.get32(field));
    const toRegister = instruction.operands[0]?.kind === 'register';
    const fault = toRegister
      ? writeOperand(cpu, instruction, 0, value)
      : writeMemoryOperand(cpu, instruction, 0, 2, value);
    return fault ?? NEXT.sequential;
  };

/** Bit 6 of the control word reads as 1. */
function fldcw(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const value = readMemoryOperand(cpu, instruction, 0, 2);
  if (typeof value === 'object') return value;
  cpu.state.set32('x87Control', (Number(value) & 0x1f3f) | 0x40);
  return NEXT.sequential;
}

function emms({ state }: Cpu): Next {
  state.set32('x87Tag', ALL_EMPTY);
  return NEXT.sequential;
}

/** MXCSR bits that may be 1, as FXSAVE reports them. */
const MXCSR_MASK = 0xffff;

function ldmxcsr(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const problem = requireSse(cpu.state);
  if (problem) return problem;
  const value = readMemoryOperand(cpu, instruction, 0, 4);
  if (typeof value === 'object') return value;
  if ((value & ~BigInt(MXCSR_MASK)) !== 0n) return generalProtection();
  cpu.state.set32('mxcsr', Number(value));
  return NEXT.sequential;
}

const stmxcsr: SlowInstruction = (cpu, instruction) =>
  requireSse(cpu.state) ??
  writeMemoryOperand(cpu, instruction, 0, 4, BigInt(cpu.state.get32('mxcsr'))) ??
  NEXT.sequential;

/** The area of FXSAVE and FXRSTOR (SDM Vol. 1, "FXSAVE Area"): offsets in bytes. */
const AREA = { size: 512, written: 416, unit: 16, mxcsr: 24, mxcsrMask: 28, registers: 32, xmm: 160 } as const;
const REGISTERS = 8;

/** The abridged tag word: one bit a register, 1 unless it is empty. */
function abridgedTag(tag: number): number {
  let bits = 0;
  for (let i = 0; i < REGISTERS; i++) if (((tag >>> (2 * i)) & 3) !== 3) bits |= 1 << i;
  return bits;
}

/** The full tag word from the abridged one and the registers' contents: valid, zero, special or empty. */
function fullTag(state: State, abridged: number): number {
  let tag = 0;
  for (let i = 0; i < REGISTERS; i++) {
    const kind = ((abridged >>> i) & 1) === 0 ? 3 : tagOf(state, i);
    tag |= kind << (2 * i);
  }
  return tag;
}

function tagOf(state: State, physical: number): number {
  const at = OFFSET.x87 + 16 * physical;
  const exponent = state.view.getUint16(at + 8, true) & 0x7fff;
  const significand = state.view.getBigUint64(at, true);
  if (exponent === 0 && significand === 0n) return 1;
  return exponent === 0x7fff || significand >> 63n === 0n ? 2 : 0;
}

/** How many XMM registers the mode shows. */
const xmmCount = (state: State): number => (in64BitMode(state) ? 16 : 8);

/** The area's first 416 bytes. The bytes of registers that the mode does not show are left out by the caller. */
function packArea(state: State): Uint8Array {
  const area = new Uint8Array(AREA.written);
  const view = new DataView(area.buffer);
  view.setUint16(0, state.get32('x87Control'), true);
  view.setUint16(2, state.get32('x87Status'), true);
  view.setUint8(4, abridgedTag(state.get32('x87Tag')));
  view.setUint16(6, state.get32('x87Opcode'), true);
  view.setBigUint64(8, state.get64('x87Ip'), true);
  view.setBigUint64(16, state.get64('x87Dp'), true);
  view.setUint32(AREA.mxcsr, state.get32('mxcsr'), true);
  view.setUint32(AREA.mxcsrMask, MXCSR_MASK, true);
  const top = (state.get32('x87Status') >>> 11) & 7;
  for (let i = 0; i < REGISTERS; i++) {
    const from = OFFSET.x87 + 16 * ((top + i) & 7);
    area.set(state.bytes.subarray(from, from + 10), AREA.registers + 16 * i);
  }
  for (let i = 0; i < xmmCount(state); i++) {
    const from = OFFSET.ymm + 32 * i;
    area.set(state.bytes.subarray(from, from + 16), AREA.xmm + 16 * i);
  }
  return area;
}

function unpackArea(state: State, area: Uint8Array): void {
  const view = new DataView(area.buffer);
  const status = view.getUint16(2, true);
  state.set32('x87Control', view.getUint16(0, true));
  state.set32('x87Status', status);
  state.set32('x87Opcode', view.getUint16(6, true) & 0x7ff);
  state.set64('x87Ip', view.getBigUint64(8, true));
  state.set64('x87Dp', view.getBigUint64(16, true));
  state.set32('mxcsr', view.getUint32(AREA.mxcsr, true));
  const top = (status >>> 11) & 7;
  for (let i = 0; i < REGISTERS; i++) {
    const from = AREA.registers + 16 * i;
    state.bytes.set(area.subarray(from, from + 10), OFFSET.x87 + 16 * ((top + i) & 7));
  }
  state.set32('x87Tag', fullTag(state, view.getUint8(4)));
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

/** Linear-memory address of 16 bytes of the area; 0 when the access faults. */
const locateUnit = (cpu: Cpu, linear: bigint, write: boolean): number =>
  cpu.mmu.locate(Number(linear & 0xffff_ffffn), Number((linear >> 32n) & 0xffff_ffffn), AREA.unit, write);

function fxsave(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, mmu } = cpu;
  const linear = areaAddress(cpu, instruction, true);
  if (typeof linear === 'object') return linear;
  const used = AREA.xmm + 16 * xmmCount(state);
  // Both ends first: nothing is written when one of the area's pages faults.
  if (locateUnit(cpu, linear, true) === 0) return mmu.lastFault();
  if (locateUnit(cpu, linear + BigInt(used - AREA.unit), true) === 0) return mmu.lastFault();
  const area = packArea(state);
  for (let offset = 0; offset < used; offset += AREA.unit) {
    const at = locateUnit(cpu, linear + BigInt(offset), true);
    if (at === 0) return mmu.lastFault();
    state.bytes.set(area.subarray(offset, offset + AREA.unit), at);
    if (at === OFFSET.bounce) mmu.commit();
  }
  return NEXT.sequential;
}

function fxrstor(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, mmu } = cpu;
  const linear = areaAddress(cpu, instruction, false);
  if (typeof linear === 'object') return linear;
  const used = AREA.xmm + 16 * xmmCount(state);
  const area = new Uint8Array(AREA.written);
  for (let offset = 0; offset < used; offset += AREA.unit) {
    const at = locateUnit(cpu, linear + BigInt(offset), false);
    if (at === 0) return mmu.lastFault();
    area.set(state.bytes.subarray(at, at + AREA.unit), offset);
  }
  const mxcsr = new DataView(area.buffer).getUint32(AREA.mxcsr, true);
  if ((mxcsr & ~MXCSR_MASK) !== 0) return generalProtection();
  unpackArea(state, area);
  return NEXT.sequential;
}

export const FPU_INSTRUCTIONS: NamedInstructions = {
  Fninit: x87(fninit),
  Fnclex: x87(fnclex),
  Fnstcw: x87(storeWord('x87Control')),
  Fnstsw: x87(storeWord('x87Status')),
  Fldcw: x87(fldcw),
  Emms: x87(emms),
  Ldmxcsr: ldmxcsr,
  Stmxcsr: stmxcsr,
  Fxsave: fxsave,
  Fxsave64: fxsave,
  Fxrstor: fxrstor,
  Fxrstor64: fxrstor,
};
