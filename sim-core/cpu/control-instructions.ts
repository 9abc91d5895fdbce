/** MOV to and from control, debug and segment registers, CLTS, LMSW, SMSW, segment PUSH and POP, LDS and its kin. */

import { Register } from 'iced-x86';
import type { DecodedInstruction, Operand } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { BLOCKING, CR0, CR4, DR6, DR7_GD } from '../state/control-bits.ts';
import { SEGMENT, type SegmentIndex } from '../state/layout.ts';
import { writeCr0, writeCr3, writeCr4, writeCr8 } from './control-registers.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { in64BitMode, isCanonicalForModel } from './modes.ts';
import {
  effectiveAddress,
  memoryOperand,
  readMemoryOperand,
  readOperand,
  readRegister,
  writeOperand,
  writeRegister,
} from './operands.ts';
import { loadSegment, segmentAddress } from './segments.ts';
import { peekFrame, pushFrame, setStackPointer, stackPointer } from './stack.ts';
import type { NamedInstructions } from './table.ts';

type ControlRegister = 0 | 2 | 3 | 4 | 8;

const CONTROL = new Map<number, ControlRegister>([
  [Register.CR0, 0],
  [Register.CR2, 2],
  [Register.CR3, 3],
  [Register.CR4, 4],
  [Register.CR8, 8],
]);
const DEBUG = new Map<number, number>(
  [Register.DR0, Register.DR1, Register.DR2, Register.DR3, Register.DR4, Register.DR5, Register.DR6, Register.DR7].map(
    (register, number) => [register, number],
  ),
);

const registerOf = (operand: Operand | undefined): number => (operand?.kind === 'register' ? operand.register : 0);
const gprNumber = (operand: Operand | undefined): number => REGISTERS.get(registerOf(operand))?.number ?? 0;
const segmentOf = (operand: Operand | undefined): SegmentIndex | undefined => {
  const location = REGISTERS.get(registerOf(operand));
  return location?.kind === 'segment' ? (location.number as SegmentIndex) : undefined;
};
const isControlRegister = (register: number): boolean => register >= Register.CR0 && register <= Register.CR15;

/** MOV with a control, debug or segment register. */
function mov(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const [to, from] = instruction.operands;
  if (isControlRegister(registerOf(to))) return movToControl(cpu, CONTROL.get(registerOf(to)), from);
  if (isControlRegister(registerOf(from))) return movFromControl(cpu, CONTROL.get(registerOf(from)), to);
  const debugTo = DEBUG.get(registerOf(to));
  if (debugTo !== undefined) return movDebug(cpu, debugTo, from, false);
  const debugFrom = DEBUG.get(registerOf(from));
  if (debugFrom !== undefined) return movDebug(cpu, debugFrom, to, true);
  const target = segmentOf(to);
  if (target !== undefined) return movToSegment(cpu, instruction, target);
  if (segmentOf(from) === undefined) return { kind: 'unimplemented', what: 'this form of MOV' };
  return movFromSegment(cpu, instruction);
}

function movToControl(cpu: Cpu, cr: ControlRegister | undefined, from: Operand | undefined): Next | Fault {
  const { state, intercepts } = cpu;
  if (cr === undefined) return undefinedOpcode();
  if (state.get32('cpl') !== 0) return generalProtection();
  const value = readRegister(state, registerOf(from));
  if (cr === 2) {
    state.set64('cr2', value);
    return NEXT.sequential;
  }
  if (state.get32('nonRoot') !== 0) {
    const exit = intercepts.instruction({ kind: 'writeCr', cr, gpr: gprNumber(from), value });
    if (exit) return exit;
  }
  return writeControl(cpu, cr, value) ?? NEXT.sequential;
}

/** A MOV to CR that has caused no VM exit; in VMX non-root operation bits owned by the host keep their values. */
function writeControl(cpu: Cpu, cr: 0 | 3 | 4 | 8, value: bigint): Fault | undefined {
  const guest = cpu.state.get32('nonRoot') !== 0;
  switch (cr) {
    case 0:
      return writeCr0(cpu, guest ? cpu.intercepts.mergeGuestWrite(0, value, cpu.state.get64('cr0')) : value);
    case 3:
      return writeCr3(cpu, value);
    case 4:
      return writeCr4(cpu, guest ? cpu.intercepts.mergeGuestWrite(4, value, cpu.state.get64('cr4')) : value);
    case 8:
      return writeCr8(cpu, value);
  }
}

function movFromControl(cpu: Cpu, cr: ControlRegister | undefined, to: Operand | undefined): Next | Fault {
  const { state, intercepts } = cpu;
  if (cr === undefined) return undefinedOpcode();
  if (state.get32('cpl') !== 0) return generalProtection();
  const value = readControl(cpu, cr);
  if (state.get32('nonRoot') !== 0 && cr !== 2) {
    const exit = intercepts.instruction({ kind: 'readCr', cr, gpr: gprNumber(to), value });
    if (exit) return exit;
  }
  writeRegister(state, registerOf(to), value);
  return NEXT.sequential;
}

/** A control register as the current world reads it. */
function readControl(cpu: Cpu, cr: ControlRegister): bigint {
  const { state, intercepts } = cpu;
  const guest = state.get32('nonRoot') !== 0;
  switch (cr) {
    case 0:
      return guest ? intercepts.guestView(0, state.get64('cr0')) : state.get64('cr0');
    case 2:
      return state.get64('cr2');
    case 3:
      return state.get64('cr3');
    case 4:
      return guest ? intercepts.guestView(4, state.get64('cr4')) : state.get64('cr4');
    case 8:
      return BigInt((guest ? intercepts.taskPriority() : undefined) ?? cpu.interrupts.getTaskPriority());
  }
}

/** DR6 and DR7 bits that are fixed: 1 in DR6 31:16 and 11:4, 0 in 12; 1 in DR7 10, 0 in 15:14 and 12. */
const DR6_ONES = 0xffff_0ff0n;
const DR6_WRITABLE = 0xe00fn;
const DR7_ONES = 0x400n;
const DR7_WRITABLE = 0xffff_2bffn;

function movDebug(cpu: Cpu, encoded: number, gpr: Operand | undefined, read: boolean): Next | Fault {
  const { state, intercepts } = cpu;
  const alias = encoded === 4 || encoded === 5;
  if (alias && (state.low('cr4') & CR4.de) !== 0) return undefinedOpcode();
  const dr = alias ? encoded + 2 : encoded;
  if (state.get32('cpl') !== 0) return generalProtection();
  if (state.get32('nonRoot') !== 0) {
    const exit = intercepts.instruction({ kind: 'movDr', dr: encoded, gpr: gprNumber(gpr), read });
    if (exit) return exit;
  }
  if ((state.low('dr', 7) & DR7_GD) !== 0) return { ...exception(VECTOR.db), debugStatus: BigInt(DR6.bd) };
  if (read) {
    writeRegister(state, registerOf(gpr), state.get64('dr', dr));
    return NEXT.sequential;
  }
  return writeDebug(cpu, dr, readRegister(state, registerOf(gpr))) ?? NEXT.sequential;
}

function writeDebug({ state, mmu }: Cpu, dr: number, value: bigint): Fault | undefined {
  if (dr < 4) {
    state.set64('dr', value, dr);
    mmu.updateBreakpoints();
    return undefined;
  }
  if (value >> 32n !== 0n) return generalProtection();
  const [ones, writable] = dr === 6 ? [DR6_ONES, DR6_WRITABLE] : [DR7_ONES, DR7_WRITABLE];
  state.set64('dr', ones | (value & writable), dr);
  if (dr === 7) mmu.updateBreakpoints();
  return undefined;
}

function movToSegment(cpu: Cpu, instruction: DecodedInstruction, index: SegmentIndex): Next | Fault {
  if (index === SEGMENT.cs) return undefinedOpcode();
  const isRegister = instruction.operands[1]?.kind === 'register';
  const value = isRegister ? readOperand(cpu, instruction, 1) : readMemoryOperand(cpu, instruction, 1, 2);
  if (typeof value === 'object') return value;
  const fault = loadSegment(cpu, index, Number(value & 0xffffn));
  if (fault) return fault;
  if (index === SEGMENT.ss) shadowOfMovSs(cpu);
  return NEXT.sequential;
}

/** Loading SS holds off interrupts and debug traps until after the next instruction. */
function shadowOfMovSs({ state }: Cpu): void {
  state.set32('interruptibility', state.get32('interruptibility') | BLOCKING.byMovSs);
  state.set32('attention', 1);
}

function movFromSegment(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const selector = readOperand(cpu, instruction, 1);
  if (typeof selector === 'object') return selector;
  return writeSelector(cpu, instruction, selector) ?? NEXT.sequential;
}

/** Stores a selector in operand 0: 16 bits in memory, zero-extended in registers. */
export function writeSelector(cpu: Cpu, instruction: DecodedInstruction, selector: bigint): Fault | undefined {
  if (instruction.operands[0]?.kind === 'register') return writeOperand(cpu, instruction, 0, selector);
  const memory = memoryOperand(instruction, 0);
  const offset = effectiveAddress(cpu.state, memory, instruction.length);
  const address = segmentAddress(cpu.state, memory.segment, offset, 2, true);
  return typeof address === 'object' ? address : cpu.mmu.write(address, 2, selector);
}

function pushSegment(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const index = segmentOf(instruction.operands[0]);
  if (index === undefined) return { kind: 'unimplemented', what: 'this form of PUSH' };
  const selector = BigInt(cpu.state.get32('segmentSelector', index));
  return pushFrame(cpu, [selector], instruction.operandSize) ?? NEXT.sequential;
}

function popSegment(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const index = segmentOf(instruction.operands[0]);
  if (index === undefined) return { kind: 'unimplemented', what: 'this form of POP' };
  const frame = peekFrame(cpu, 1, instruction.operandSize);
  if (!Array.isArray(frame)) return frame;
  const pointer = stackPointer(state) + BigInt(instruction.operandSize);
  const fault = loadSegment(cpu, index, Number((frame[0] ?? 0n) & 0xffffn));
  if (fault) return fault;
  setStackPointer(state, pointer);
  if (index === SEGMENT.ss) shadowOfMovSs(cpu);
  return NEXT.sequential;
}

/** LES, LDS, LSS, LFS, LGS: offset and selector from memory. */
const loadFarPointer =
  (index: SegmentIndex) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const size = instruction.operandSize;
    const offset = readMemoryOperand(cpu, instruction, 1, size);
    if (typeof offset === 'object') return offset;
    const selector = readMemoryOperand(cpu, instruction, 1, 2, BigInt(size));
    if (typeof selector === 'object') return selector;
    return loadSegment(cpu, index, Number(selector)) ?? writeOperand(cpu, instruction, 0, offset) ?? NEXT.sequential;
  };

function clts(cpu: Cpu): Next | Fault {
  const { state, intercepts } = cpu;
  if (state.get32('cpl') !== 0) return generalProtection();
  if (state.get32('nonRoot') !== 0) {
    const exit = intercepts.instruction({ kind: 'clts' });
    if (exit) return exit;
  }
  return writeControl(cpu, 0, readControl(cpu, 0) & ~BigInt(CR0.ts)) ?? NEXT.sequential;
}

/** LMSW loads PE, MP, EM and TS; it can set PE but not clear it. */
function lmsw(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, intercepts } = cpu;
  if (state.get32('cpl') !== 0) return generalProtection();
  const inMemory = instruction.operands[0]?.kind === 'memory';
  const value = inMemory ? readMemoryOperand(cpu, instruction, 0, 2) : readOperand(cpu, instruction, 0);
  if (typeof value === 'object') return value;
  if (state.get32('nonRoot') !== 0) {
    const source = Number(value & 0xffffn);
    const query = inMemory ? { linearAddress: addressOf(cpu, instruction) } : {};
    const exit = intercepts.instruction({ kind: 'lmsw', source, ...query });
    if (exit) return exit;
  }
  const old = readControl(cpu, 0);
  return writeControl(cpu, 0, (old & ~0xen) | (value & 0xfn)) ?? NEXT.sequential;
}

/** Linear address of operand 0, which has been accessed without a fault. */
function addressOf({ state }: Cpu, instruction: DecodedInstruction): bigint {
  const memory = memoryOperand(instruction, 0);
  const address = segmentAddress(state, memory.segment, effectiveAddress(state, memory, instruction.length), 1, false);
  return typeof address === 'object' ? 0n : address;
}

/** CR4.UMIP keeps SGDT, SIDT, SLDT, SMSW and STR for CPL 0. */
export const userModePrevention = ({ state }: Cpu): Fault | undefined =>
  (state.low('cr4') & CR4.umip) !== 0 && state.get32('cpl') !== 0 ? generalProtection() : undefined;

function smsw(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const problem = userModePrevention(cpu);
  if (problem) return problem;
  return writeSelector(cpu, instruction, readControl(cpu, 0)) ?? NEXT.sequential;
}

function requires64BitMode(cpu: Cpu): Fault | undefined {
  return in64BitMode(cpu.state) && (cpu.state.low('cr4') & CR4.fsgsbase) !== 0 ? undefined : undefinedOpcode();
}

const readBase =
  (index: SegmentIndex) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault =>
    requires64BitMode(cpu) ??
    writeOperand(cpu, instruction, 0, cpu.state.get64('segmentBase', index)) ??
    NEXT.sequential;

const writeBase =
  (index: SegmentIndex) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const problem = requires64BitMode(cpu);
    if (problem) return problem;
    const value = readOperand(cpu, instruction, 0);
    if (typeof value === 'object') return value;
    if (!isCanonicalForModel(cpu, value)) return generalProtection();
    cpu.state.set64('segmentBase', value, index);
    return NEXT.sequential;
  };

export const CONTROL_INSTRUCTIONS: NamedInstructions = {
  Mov: mov,
  Push: pushSegment,
  Pop: popSegment,
  Les: loadFarPointer(SEGMENT.es),
  Lds: loadFarPointer(SEGMENT.ds),
  Lss: loadFarPointer(SEGMENT.ss),
  Lfs: loadFarPointer(SEGMENT.fs),
  Lgs: loadFarPointer(SEGMENT.gs),
  Clts: clts,
  Lmsw: lmsw,
  Smsw: smsw,
  Rdfsbase: readBase(SEGMENT.fs),
  Rdgsbase: readBase(SEGMENT.gs),
  Wrfsbase: writeBase(SEGMENT.fs),
  Wrgsbase: writeBase(SEGMENT.gs),
};
