/** LGDT, SGDT and their kin, LLDT, LTR, SLDT, STR, VERR, VERW, LAR, LSL, ARPL. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { RFLAGS, RIGHTS, SYSTEM_TYPE } from '../state/control-bits.ts';
import { OFFSET, SEGMENT } from '../state/layout.ts';
import { userModePrevention, writeSelector } from './control-instructions.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { operandDisplacement, operandInformation } from './instruction-information.ts';
import type { InterceptQuery } from './intercepts.ts';
import { hasRealSegments, in64BitMode, inLongMode, isCanonicalForModel } from './modes.ts';
import { operandAddress, readMemoryOperand, readOperand, writeOperand } from './operands.ts';
import { readStatusFlags, writeStatusFlags } from './rflags.ts';
import {
  type Descriptor,
  descriptorBase,
  descriptorLimit,
  isCode,
  isConforming,
  isFault,
  isNull,
  isPresent,
  privilegeOf,
  readDescriptor,
  setNullSegment,
  setSegment,
  systemType,
} from './segments.ts';
import type { NamedInstructions } from './table.ts';

type TableInstruction = Extract<InterceptQuery, { kind: 'descriptorTable' }>['instruction'];

/** Instruction identity in bits 29:28 of the VM-exit instruction information. */
const IDENTITY: Readonly<Record<TableInstruction, number>> = {
  sgdt: 0, sidt: 1, lgdt: 2, lidt: 3, sldt: 0, str: 1, lldt: 2, ltr: 3,
}; // biome-ignore format: a table reads better in rows
/** Bit 11 of the information of LGDT, LIDT, SGDT and SIDT: 32-bit operand size. */
const OPERAND_32 = 1 << 11;

/** The VM exit of "descriptor-table exiting", if VMX asks for it. */
function tableExit(cpu: Cpu, instruction: DecodedInstruction, name: TableInstruction): Fault | undefined {
  const { state, intercepts } = cpu;
  if (state.get32('nonRoot') === 0) return undefined;
  const wide = name.endsWith('gdt') || name.endsWith('idt') ? (instruction.operandSize === 2 ? 0 : OPERAND_32) : 0;
  return intercepts.instruction({
    kind: 'descriptorTable',
    instruction: name,
    displacement: operandDisplacement(instruction, 0, state.get64('rip')),
    information: operandInformation(instruction, 0) | wide | (IDENTITY[name] << 28),
  });
}

interface TableRegister {
  readonly base: 'gdtrBase' | 'idtrBase';
  readonly limit: 'gdtrLimit' | 'idtrLimit';
}
const GDTR: TableRegister = { base: 'gdtrBase', limit: 'gdtrLimit' };
const IDTR: TableRegister = { base: 'idtrBase', limit: 'idtrLimit' };

const loadTable =
  (name: 'lgdt' | 'lidt', register: TableRegister) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    if (state.get32('cpl') !== 0) return generalProtection();
    const exit = tableExit(cpu, instruction, name);
    if (exit) return exit;
    const long = in64BitMode(state);
    const limit = readMemoryOperand(cpu, instruction, 0, 2);
    if (typeof limit === 'object') return limit;
    const base = readMemoryOperand(cpu, instruction, 0, long ? 8 : 4, 2n);
    if (typeof base === 'object') return base;
    if (long && !isCanonicalForModel(cpu, base)) return generalProtection();
    // A 16-bit operand size takes 24 bits of the base.
    state.set64(register.base, !long && instruction.operandSize === 2 ? base & 0xff_ffffn : base);
    state.set32(register.limit, Number(limit));
    return NEXT.sequential;
  };

const storeTable =
  (name: 'sgdt' | 'sidt', register: TableRegister) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state, mmu } = cpu;
    const problem = userModePrevention(cpu) ?? tableExit(cpu, instruction, name);
    if (problem) return problem;
    const long = in64BitMode(state);
    const size = long ? 10 : 6;
    const linear = operandAddress(cpu, instruction, 0, size, true);
    if (typeof linear === 'object') return linear;
    const at = mmu.locate(Number(linear & 0xffff_ffffn), Number((linear >> 32n) & 0xffff_ffffn), size, true);
    if (at === 0) return mmu.lastFault();
    state.view.setUint16(at, state.get32(register.limit), true);
    state.view.setUint32(at + 2, state.low(register.base), true);
    if (long) state.view.setUint32(at + 6, state.high(register.base), true);
    if (at === OFFSET.bounce) mmu.commit();
    return NEXT.sequential;
  };

const storeSelector =
  (name: 'sldt' | 'str', index: 6 | 7) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    if (hasRealSegments(cpu.state)) return undefinedOpcode();
    const problem = userModePrevention(cpu) ?? tableExit(cpu, instruction, name);
    if (problem) return problem;
    const selector = BigInt(cpu.state.get32('segmentSelector', index));
    return writeSelector(cpu, instruction, selector) ?? NEXT.sequential;
  };

/** Operand as a selector: the low 16 bits of a register, or 2 bytes of memory. */
function selectorOperand(cpu: Cpu, instruction: DecodedInstruction, index: number): number | Fault {
  const inMemory = instruction.operands[index]?.kind === 'memory';
  const value = inMemory ? readMemoryOperand(cpu, instruction, index, 2) : readOperand(cpu, instruction, index);
  return typeof value === 'object' ? value : Number(value & 0xffffn);
}

/** What LLDT and LTR check before they look at the descriptor. */
function systemSelector(cpu: Cpu, instruction: DecodedInstruction, name: 'lldt' | 'ltr'): number | Fault {
  const { state } = cpu;
  if (hasRealSegments(state)) return undefinedOpcode();
  if (state.get32('cpl') !== 0) return generalProtection();
  return tableExit(cpu, instruction, name) ?? selectorOperand(cpu, instruction, 0);
}

/** A system descriptor and its full base: 16 bytes in IA-32e mode. */
function readSystemDescriptor(cpu: Cpu, selector: number): { descriptor: Descriptor; base: bigint } | Fault {
  if ((selector & 4) !== 0) return generalProtection(selector & 0xfffc);
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  const base = BigInt(descriptorBase(descriptor));
  if (!inLongMode(cpu.state)) return { descriptor, base };
  if ((selector | 7) + 8 > cpu.state.get32('gdtrLimit')) return generalProtection(selector & 0xfffc);
  const upper = cpu.mmu.read(descriptor.at + 8n, 8, true);
  if (typeof upper === 'object') return upper;
  const full = base | ((upper & 0xffff_ffffn) << 32n);
  if ((upper & 0x1f00_0000_0000n) !== 0n || !isCanonicalForModel(cpu, full))
    return generalProtection(selector & 0xfffc);
  return { descriptor, base: full };
}

function lldt(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const selector = systemSelector(cpu, instruction, 'lldt');
  if (typeof selector === 'object') return selector;
  if (isNull(selector)) {
    setNullSegment(cpu.state, SEGMENT.ldtr, selector);
    return NEXT.sequential;
  }
  const found = readSystemDescriptor(cpu, selector);
  if (isFault(found)) return found;
  const { descriptor, base } = found;
  if (systemType(descriptor.rights) !== SYSTEM_TYPE.ldt) return generalProtection(selector & 0xfffc);
  if (!isPresent(descriptor.rights)) return exception(VECTOR.np, selector & 0xfffc);
  setSegment(cpu.state, SEGMENT.ldtr, selector, base, descriptorLimit(descriptor), descriptor.rights);
  return NEXT.sequential;
}

const BUSY = 2;

function ltr(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const selector = systemSelector(cpu, instruction, 'ltr');
  if (typeof selector === 'object') return selector;
  if (isNull(selector)) return generalProtection();
  const found = readSystemDescriptor(cpu, selector);
  if (isFault(found)) return found;
  const { descriptor, base } = found;
  const type = systemType(descriptor.rights);
  const available = type === SYSTEM_TYPE.tss32 || (type === SYSTEM_TYPE.tss16 && !inLongMode(cpu.state));
  if (!available) return generalProtection(selector & 0xfffc);
  if (!isPresent(descriptor.rights)) return exception(VECTOR.np, selector & 0xfffc);
  const rights = descriptor.rights | BUSY;
  const fault = cpu.mmu.write(descriptor.at + 5n, 1, BigInt(rights & 0xff), true);
  if (fault) return fault;
  setSegment(cpu.state, SEGMENT.tr, selector, base, descriptorLimit(descriptor), rights);
  return NEXT.sequential;
}

function setZeroFlag(cpu: Cpu, zero: boolean): void {
  const flags = readStatusFlags(cpu.state) & ~RFLAGS.zf;
  writeStatusFlags(cpu.state, zero ? flags | RFLAGS.zf : flags);
}

/** The descriptor that a VERR, VERW, LAR or LSL names; undefined when it cannot be read, which clears ZF. */
function visibleDescriptor(cpu: Cpu, selector: number): Descriptor | undefined | Fault {
  if (isNull(selector)) return undefined;
  const descriptor = readDescriptor(cpu, selector);
  if (!isFault(descriptor)) return descriptor;
  return descriptor.kind === 'exception' && descriptor.vector === VECTOR.gp ? undefined : descriptor;
}

/** Privilege check of these instructions: conforming code is visible to all. */
function isVisible(cpu: Cpu, { selector, rights }: Descriptor): boolean {
  if (isCode(rights) && isConforming(rights)) return true;
  const dpl = privilegeOf(rights);
  return dpl >= cpu.state.get32('cpl') && dpl >= (selector & 3);
}

const verify =
  (write: boolean) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    if (hasRealSegments(cpu.state)) return undefinedOpcode();
    const selector = selectorOperand(cpu, instruction, 0);
    if (typeof selector === 'object') return selector;
    const descriptor = visibleDescriptor(cpu, selector);
    if (isFault(descriptor)) return descriptor;
    setZeroFlag(cpu, descriptor !== undefined && isVisible(cpu, descriptor) && permits(descriptor.rights, write));
    return NEXT.sequential;
  };

function permits(rights: number, write: boolean): boolean {
  if ((rights & RIGHTS.codeOrData) === 0) return false;
  const bit = (rights & RIGHTS.writable) !== 0;
  return (rights & RIGHTS.code) !== 0 ? !write && bit : !write || bit;
}

const { tss16, ldt, busyTss16, callGate16, taskGate, tss32, busyTss32, callGate32 } = SYSTEM_TYPE;
/** System types that LAR and LSL accept (SDM Vol. 2A, "LAR", "LSL"), in IA-32e mode and outside. */
const LAR_TYPES = {
  long: new Set<number>([ldt, tss32, busyTss32, callGate32]),
  legacy: new Set<number>([tss16, ldt, busyTss16, callGate16, taskGate, tss32, busyTss32, callGate32]),
};
const LSL_TYPES = {
  long: new Set<number>([ldt, tss32, busyTss32]),
  legacy: new Set<number>([tss16, ldt, busyTss16, tss32, busyTss32]),
};

const loadProperty =
  (types: typeof LAR_TYPES, property: (descriptor: Descriptor) => number) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    if (hasRealSegments(cpu.state)) return undefinedOpcode();
    const selector = selectorOperand(cpu, instruction, 1);
    if (typeof selector === 'object') return selector;
    const descriptor = visibleDescriptor(cpu, selector);
    if (isFault(descriptor)) return descriptor;
    const allowed = inLongMode(cpu.state) ? types.long : types.legacy;
    const type = descriptor === undefined ? -1 : systemType(descriptor.rights);
    const readable = descriptor !== undefined && isVisible(cpu, descriptor) && (type < 0 || allowed.has(type));
    setZeroFlag(cpu, readable);
    if (!readable) return NEXT.sequential;
    return writeOperand(cpu, instruction, 0, BigInt(property(descriptor))) ?? NEXT.sequential;
  };

/** ARPL: raises the RPL of the first selector to that of the second. */
function arpl(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  if (hasRealSegments(cpu.state)) return undefinedOpcode();
  const target = readOperand(cpu, instruction, 0);
  if (typeof target === 'object') return target;
  const source = readOperand(cpu, instruction, 1);
  if (typeof source === 'object') return source;
  const lower = (target & 3n) < (source & 3n);
  const fault = lower ? writeOperand(cpu, instruction, 0, (target & ~3n) | (source & 3n)) : undefined;
  if (fault) return fault;
  setZeroFlag(cpu, lower);
  return NEXT.sequential;
}

export const DESCRIPTOR_INSTRUCTIONS: NamedInstructions = {
  Lgdt: loadTable('lgdt', GDTR),
  Lidt: loadTable('lidt', IDTR),
  Sgdt: storeTable('sgdt', GDTR),
  Sidt: storeTable('sidt', IDTR),
  Sldt: storeSelector('sldt', SEGMENT.ldtr),
  Str: storeSelector('str', SEGMENT.tr),
  Lldt: lldt,
  Ltr: ltr,
  Verr: verify(false),
  Verw: verify(true),
  Lar: loadProperty(LAR_TYPES, (descriptor) => (descriptor.high & 0x00ff_ff00) >>> 0),
  Lsl: loadProperty(LSL_TYPES, descriptorLimit),
  Arpl: arpl,
};
