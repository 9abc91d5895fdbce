/** CPUID, time, MSRs, flags, halting, TLB and cache instructions. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import { type Fault, generalProtection, undefinedOpcode } from '../mmu/fault.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { BLOCKING, CR4, RFLAGS } from '../state/control-bits.ts';
import { ACTIVITY, GPR, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { PAUSE_CYCLES, spend, TIME_STAMP_CYCLES } from '../state/time.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { cpuid as cpuidLeaf } from './cpuid.ts';
import { destinationInformation, operandDisplacement, operandInformation } from './instruction-information.ts';
import type { InterceptQuery } from './intercepts.ts';
import { in64BitMode, inProtectedMode, inVirtual8086, isCanonicalForModel } from './modes.ts';
import { lineChanged, MONITOR, watchLine } from './monitor.ts';
import { readMsr, readTimeStampCounter, writeMsr } from './msrs.ts';
import {
  effectiveAddress,
  memoryOperand,
  readGpr,
  readMemoryOperand,
  readOperand,
  sizeOf,
  writeOperand,
} from './operands.ts';
import { readCounter } from './performance-counters.ts';
import { ioPrivilegeLevel, readRflags, writeRflags, writeStatusFlags, writeSystemFlags } from './rflags.ts';
import { segmentAddress } from './segments.ts';
import { peekFrame, pushFrame, setStackPointer, stackPointer } from './stack.ts';
import type { NamedInstructions } from './table.ts';
import { addressSegment } from './wait-instructions.ts';

/** The VM exit that VMX wants for this instruction; none outside non-root operation. */
const exitOf = (cpu: Cpu, query: InterceptQuery): Fault | undefined =>
  cpu.state.get32('nonRoot') === 0 ? undefined : cpu.intercepts.instruction(query);

const requireCpl0 = (state: State): Fault | undefined => (state.get32('cpl') === 0 ? undefined : generalProtection());

const low32 = (state: State, register: number): number => state.low('gpr', register);
const setLow32 = (state: State, register: number, value: number): void =>
  state.set64('gpr', BigInt(value >>> 0), register);

function cpuid(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  const exit = exitOf(cpu, { kind: 'cpuid' });
  if (exit) return exit;
  const [eax, ebx, ecx, edx] = cpuidLeaf(cpu, low32(state, GPR.rax), low32(state, GPR.rcx));
  setLow32(state, GPR.rax, eax);
  setLow32(state, GPR.rbx, ebx);
  setLow32(state, GPR.rcx, ecx);
  setLow32(state, GPR.rdx, edx);
  return NEXT.sequential;
}

/** EDX:EAX := value. */
function setPair(state: State, value: bigint): void {
  state.set64('gpr', value & 0xffff_ffffn, GPR.rax);
  state.set64('gpr', value >> 32n, GPR.rdx);
}
const pair = (state: State): bigint => (BigInt(low32(state, GPR.rdx)) << 32n) | BigInt(low32(state, GPR.rax));

const rdtsc =
  (kind: 'rdtsc' | 'rdtscp') =>
  (cpu: Cpu): Next | Fault => {
    const { state } = cpu;
    if ((state.low('cr4') & CR4.tsd) !== 0 && state.get32('cpl') !== 0) return generalProtection();
    const exit = exitOf(cpu, { kind });
    if (exit) return exit;
    setPair(state, readTimeStampCounter(cpu));
    spend(cpu.state, TIME_STAMP_CYCLES);
    if (kind === 'rdtscp') state.set64('gpr', state.get64('msrTscAux') & 0xffff_ffffn, GPR.rcx);
    return NEXT.sequential;
  };

function rdpmc(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  if ((state.low('cr4') & CR4.pce) === 0 && state.get32('cpl') !== 0) return generalProtection();
  const exit = exitOf(cpu, { kind: 'rdpmc' });
  if (exit) return exit;
  const value = readCounter(cpu, low32(state, GPR.rcx));
  if (value === undefined) return generalProtection();
  setPair(state, value);
  return NEXT.sequential;
}

function rdmsr(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  const msr = low32(state, GPR.rcx);
  const problem = requireCpl0(state) ?? exitOf(cpu, { kind: 'rdmsr', msr });
  if (problem) return problem;
  const guest = state.get32('nonRoot') !== 0;
  const value = (guest ? cpu.intercepts.readMsr(msr) : undefined) ?? readMsr(cpu, msr);
  if (value === undefined) return generalProtection();
  setPair(state, value);
  return NEXT.sequential;
}

function wrmsr(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  const msr = low32(state, GPR.rcx);
  const problem = requireCpl0(state) ?? exitOf(cpu, { kind: 'wrmsr', msr });
  if (problem) return problem;
  const value = pair(state);
  const taken = state.get32('nonRoot') === 0 ? undefined : cpu.intercepts.writeMsr(msr, value);
  if (taken !== undefined) return taken === 'written' ? NEXT.sequential : generalProtection();
  return writeMsr(cpu, msr, value) ? NEXT.sequential : generalProtection();
}

function halt({ state }: Cpu): void {
  state.set32('activity', ACTIVITY.hlt);
  state.set32('attention', 1);
}

function hlt(cpu: Cpu): Next | Fault {
  const problem = requireCpl0(cpu.state) ?? exitOf(cpu, { kind: 'hlt' });
  if (problem) return problem;
  halt(cpu);
  return NEXT.sequential;
}

function pause(cpu: Cpu): Next | Fault {
  const exit = exitOf(cpu, { kind: 'pause' });
  if (exit) return exit;
  spend(cpu.state, PAUSE_CYCLES);
  return NEXT.sequential;
}

/** MONITOR and MWAIT exist at CPL 0 only; no extensions (ECX) and no hints are supported. */
function monitor(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  if (state.get32('cpl') !== 0) return undefinedOpcode();
  const exit = exitOf(cpu, { kind: 'monitor' });
  if (exit) return exit;
  if (low32(state, GPR.rcx) !== 0) return generalProtection();
  const offset = readGpr(state, GPR.rax, instruction.addressSize);
  const linear = segmentAddress(state, addressSegment(instruction), offset, 1, false);
  if (typeof linear === 'object') return linear;
  const value = cpu.mmu.read(linear, 1);
  if (typeof value === 'object') return value;
  watchLine(cpu, linear);
  return NEXT.sequential;
}

/** Waits for an interrupt, or for another processor to change the monitored line. With IF = 0 it does not wait. */
function mwait(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  if (state.get32('cpl') !== 0) return undefinedOpcode();
  const exit = exitOf(cpu, { kind: 'mwait', armed: state.get32('monitorArmed') === MONITOR.armed });
  if (exit) return exit;
  if (low32(state, GPR.rcx) !== 0) return generalProtection();
  const waits = state.get32('monitorArmed') === MONITOR.armed && !lineChanged(state, cpu.mmu.physical);
  state.set32('monitorArmed', MONITOR.off);
  if (!waits || (state.get32('rflagsSystem') & RFLAGS.if) === 0) return NEXT.sequential;
  state.set32('monitorArmed', MONITOR.waiting);
  halt(cpu);
  return NEXT.sequential;
}

const PAGED_MAPPINGS = [MAPPING.linear, MAPPING.combined] as const;
const currentPcid = (state: State): number => ((state.low('cr4') & CR4.pcide) !== 0 ? state.low('cr3') & 0xfff : 0);

function invlpg(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const problem = requireCpl0(state);
  if (problem) return problem;
  const memory = memoryOperand(instruction, 0);
  const based = !in64BitMode(state) || memory.segment === SEGMENT.fs || memory.segment === SEGMENT.gs;
  const offset = effectiveAddress(state, memory, instruction.length);
  const base = based ? state.get64('segmentBase', memory.segment) : 0n;
  const linear = BigInt.asUintN(in64BitMode(state) ? 64 : 32, base + offset);
  const exit = exitOf(cpu, { kind: 'invlpg', linearAddress: linear });
  if (exit) return exit;
  if (!isCanonicalForModel(cpu, linear)) return NEXT.sequential;
  const vpid = state.get32('vpid');
  cpu.mmu.tlb.invalidate({ kinds: PAGED_MAPPINGS, vpid, pcid: currentPcid(state), linear });
  return NEXT.sequential;
}

/** What the VM exit of INVPCID reports: the memory operand, and the register operand in bits 31:28. */
function invpcidQuery(state: State, instruction: DecodedInstruction): InterceptQuery {
  const type = instruction.operands[0];
  const register = type?.kind === 'register' ? (REGISTERS.get(type.register)?.number ?? 0) : 0;
  return {
    kind: 'invpcid',
    displacement: operandDisplacement(instruction, 1, state.get64('rip')),
    information: (operandInformation(instruction, 1) | (register << 28)) >>> 0,
  };
}

/** INVPCID types (SDM Vol. 2A, "INVPCID"). */
function invpcid(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const problem = requireCpl0(state) ?? exitOf(cpu, invpcidQuery(state, instruction));
  if (problem) return problem;
  const type = readOperand(cpu, instruction, 0);
  if (typeof type === 'object') return type;
  const first = readMemoryOperand(cpu, instruction, 1, 8);
  if (typeof first === 'object') return first;
  const linear = readMemoryOperand(cpu, instruction, 1, 8, 8n);
  if (typeof linear === 'object') return linear;
  const pcid = Number(first & 0xfffn);
  const pcidsOff = (state.low('cr4') & CR4.pcide) === 0;
  if (type > 3n || first >> 12n !== 0n || (type < 2n && pcidsOff && pcid !== 0)) return generalProtection();
  if (type === 0n && !isCanonicalForModel(cpu, linear)) return generalProtection();
  const all = { kinds: PAGED_MAPPINGS, vpid: state.get32('vpid') };
  if (type === 0n) cpu.mmu.tlb.invalidate({ ...all, pcid, linear, keepGlobal: true });
  else if (type === 1n) cpu.mmu.tlb.invalidate({ ...all, pcid, keepGlobal: true });
  else cpu.mmu.tlb.invalidate({ ...all, keepGlobal: type === 3n });
  return NEXT.sequential;
}

/** Caches are not simulated: memory is always up to date. */
const writeBackCaches =
  (kind: 'invd' | 'wbinvd') =>
  (cpu: Cpu): Next | Fault =>
    requireCpl0(cpu.state) ?? exitOf(cpu, { kind }) ?? NEXT.sequential;

/** CLFLUSH and CLFLUSHOPT access their byte as a read does; there is no cache to write back. */
function flushLine(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const value = readMemoryOperand(cpu, instruction, 0, 1);
  return typeof value === 'object' ? value : NEXT.sequential;
}

const pkruEnabled = ({ state }: Cpu): Fault | undefined =>
  (state.low('cr4') & CR4.pke) !== 0 ? undefined : undefinedOpcode();

function rdpkru(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  const problem = pkruEnabled(cpu);
  if (problem) return problem;
  if (low32(state, GPR.rcx) !== 0) return generalProtection();
  setPair(state, BigInt(state.get32('pkru')));
  return NEXT.sequential;
}

function wrpkru(cpu: Cpu): Next | Fault {
  const { state, mmu } = cpu;
  const problem = pkruEnabled(cpu);
  if (problem) return problem;
  if (low32(state, GPR.rcx) !== 0 || low32(state, GPR.rdx) !== 0) return generalProtection();
  state.set32('pkru', low32(state, GPR.rax));
  mmu.updateContext();
  return NEXT.sequential;
}

/** The next number of a splitmix64 generator. */
function nextRandom(state: State): bigint {
  const seed = BigInt.asUintN(64, state.get64('randomState') + 0x9e37_79b9_7f4a_7c15n);
  state.set64('randomState', seed);
  const first = BigInt.asUintN(64, (seed ^ (seed >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
  const second = BigInt.asUintN(64, (first ^ (first >> 27n)) * 0x94d0_49bb_1331_11ebn);
  return second ^ (second >> 31n);
}

/** RDRAND and RDSEED always have a number: CF = 1, the other status flags 0. */
const random =
  (kind: 'rdrand' | 'rdseed') =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const size = sizeOf(instruction, 0);
    const information = destinationInformation(instruction, size);
    const problem = exitOf(cpu, { kind, information });
    if (problem) return problem;
    const fault = writeOperand(cpu, instruction, 0, BigInt.asUintN(8 * size, nextRandom(cpu.state)));
    if (fault) return fault;
    writeStatusFlags(cpu.state, RFLAGS.cf);
    return NEXT.sequential;
  };

/** RDPID: IA32_TSC_AUX into a register of 64 or 32 bits. */
const rdpid = (cpu: Cpu, instruction: DecodedInstruction): Next | Fault =>
  exitOf(cpu, { kind: 'rdpid' }) ??
  writeOperand(cpu, instruction, 0, cpu.state.get64('msrTscAux') & 0xffff_ffffn) ??
  NEXT.sequential;

/** Instructions execute in order, one at a time: there is nothing to wait for. */
const serialize = (): Next => NEXT.sequential;

/** Whether CLI, STI and the string I/O rules let this level change IF (without VME and PVI, which no model has). */
const mayChangeInterruptFlag = (state: State): boolean =>
  !inProtectedMode(state) || state.get32('cpl') <= ioPrivilegeLevel(state);

function cli({ state }: Cpu): Next | Fault {
  if (!mayChangeInterruptFlag(state)) return generalProtection();
  state.set32('rflagsSystem', state.get32('rflagsSystem') & ~RFLAGS.if);
  return NEXT.sequential;
}

function sti({ state }: Cpu): Next | Fault {
  if (!mayChangeInterruptFlag(state)) return generalProtection();
  const flags = state.get32('rflagsSystem');
  if ((flags & RFLAGS.if) !== 0) return NEXT.sequential;
  state.set32('rflagsSystem', flags | RFLAGS.if);
  state.set32('interruptibility', state.get32('interruptibility') | BLOCKING.bySti);
  state.setFloat('stiAt', state.getFloat('retired') + state.getFloat('granted') - state.get32('budget'));
  state.set32('attention', 1);
  return NEXT.sequential;
}

const pushf =
  (width: 2 | 4 | 8) =>
  (cpu: Cpu): Next | Fault => {
    if (inVirtual8086(cpu.state) && ioPrivilegeLevel(cpu.state) < 3) return generalProtection();
    const image = readRflags(cpu.state) & ~(RFLAGS.vm | RFLAGS.rf);
    return pushFrame(cpu, [BigInt(image >>> 0)], width) ?? NEXT.sequential;
  };

const popf =
  (width: 2 | 4 | 8) =>
  (cpu: Cpu): Next | Fault => {
    const { state } = cpu;
    if (inVirtual8086(state) && ioPrivilegeLevel(state) < 3) return generalProtection();
    const frame = peekFrame(cpu, 1, width);
    if (!Array.isArray(frame)) return frame;
    setStackPointer(state, stackPointer(state) + BigInt(width));
    let changed =
      RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.tf | RFLAGS.df | RFLAGS.of | RFLAGS.nt;
    if (width > 2) changed |= RFLAGS.ac | RFLAGS.id;
    if (mayChangeInterruptFlag(state)) changed |= RFLAGS.if;
    if (state.get32('cpl') === 0) changed |= RFLAGS.iopl;
    const flags = Number((frame[0] ?? 0n) & 0xffff_ffffn);
    const old = readRflags(state);
    writeRflags(state, (old & ~changed & ~RFLAGS.rf) | (flags & changed));
    if (((old ^ flags) & changed & RFLAGS.ac) !== 0) cpu.mmu.updateContext();
    if ((flags & (RFLAGS.if | RFLAGS.tf)) !== 0) state.set32('attention', 1);
    return NEXT.sequential;
  };

/** STAC and CLAC. */
const setAlignmentCheck =
  (on: boolean) =>
  (cpu: Cpu): Next | Fault => {
    const { state } = cpu;
    if (state.get32('cpl') !== 0) return undefinedOpcode();
    const flags = state.get32('rflagsSystem');
    writeSystemFlags(state, on ? flags | RFLAGS.ac : flags & ~RFLAGS.ac);
    cpu.mmu.updateContext();
    return NEXT.sequential;
  };

export const SYSTEM_INSTRUCTIONS: NamedInstructions = {
  Cpuid: cpuid,
  Rdtsc: rdtsc('rdtsc'),
  Rdtscp: rdtsc('rdtscp'),
  Rdpmc: rdpmc,
  Rdmsr: rdmsr,
  Wrmsr: wrmsr,
  Hlt: hlt,
  Pause: pause,
  Monitor: monitor,
  Mwait: mwait,
  Invlpg: invlpg,
  Invpcid: invpcid,
  Invd: writeBackCaches('invd'),
  Wbinvd: writeBackCaches('wbinvd'),
  Wbnoinvd: writeBackCaches('wbinvd'),
  Clflush: flushLine,
  Clflushopt: flushLine,
  Clwb: flushLine,
  Rdpid: rdpid,
  Rdpkru: rdpkru,
  Wrpkru: wrpkru,
  Rdrand: random('rdrand'),
  Rdseed: random('rdseed'),
  Serialize: serialize,
  // Outside system-management mode, and without CR4.SMXE, which no model has.
  Rsm: undefinedOpcode,
  Getsec: undefinedOpcode,
  // Of another maker's processors.
  Vmmcall: undefinedOpcode,
  Vmrun: undefinedOpcode,
  Vmload: undefinedOpcode,
  Vmsave: undefinedOpcode,
  Stgi: undefinedOpcode,
  Clgi: undefinedOpcode,
  Skinit: undefinedOpcode,
  Invlpga: undefinedOpcode,
  Rdpru: undefinedOpcode,
  Cli: cli,
  Sti: sti,
  Pushf: pushf(2),
  Pushfd: pushf(4),
  Pushfq: pushf(8),
  Popf: popf(2),
  Popfd: popf(4),
  Popfq: popf(8),
  Stac: setAlignmentCheck(true),
  Clac: setAlignmentCheck(false),
};
