/**
 * Writes to CR0, CR3, CR4 and CR8 with their checks and effects (SDM Vol. 2B, "MOV—Move to/from Control Registers").
 */

import { type Fault, generalProtection } from '../mmu/fault.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { CR0, CR4, EFER, RIGHTS } from '../state/control-bits.ts';
import { SEGMENT } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import { in64BitMode, inLongMode, updateCodeMode } from './modes.ts';

const KEEP_TLB = 1n << 63n;
const PAGING_BITS_OF_CR0 = CR0.cd | CR0.nw | CR0.pg;
const PAGING_BITS_OF_CR4 = CR4.pae | CR4.pge | CR4.pse | CR4.smep;
/** CR4 bits whose change invalidates all linear and combined mappings, global ones included. */
const FLUSHING_BITS_OF_CR4 = CR4.pae | CR4.pge | CR4.pse;
const KNOWN_CR0 = CR0.pe | CR0.mp | CR0.em | CR0.ts | CR0.et | CR0.ne | CR0.wp | CR0.am | CR0.nw | CR0.cd | CR0.pg;

/** Invalidates the mappings of the current VPID, global ones included. */
function invalidateAllMappings(cpu: Cpu): void {
  cpu.mmu.tlb.invalidate({ kinds: [MAPPING.linear, MAPPING.combined], vpid: cpu.state.get32('vpid') });
}

/** Whether VMX operation forbids this value. */
function violatesFixedBits(cpu: Cpu, cr: 0 | 4, value: bigint): boolean {
  if (cpu.state.get32('vmxOn') === 0) return false;
  const fixed = cpu.intercepts.fixedBits(cr);
  return (value & fixed) !== fixed;
}

/** Loads the PDPTE registers when PAE paging is (or is being) used. */
function loadPdptes(cpu: Cpu, cr3: bigint): Fault | undefined {
  const entries = cpu.mmu.readPdptes(cr3);
  if (!Array.isArray(entries)) return entries;
  entries.forEach((entry, i) => {
    cpu.state.set64('pdpte', entry, i);
  });
  return undefined;
}

/** @param value what the real register is to hold, VMX masks applied */
export function writeCr0(cpu: Cpu, value: bigint): Fault | undefined {
  const { state } = cpu;
  const low = Number(value & 0xffff_ffffn);
  const old = state.low('cr0');
  const paging = (low & CR0.pg) !== 0;
  if (value >> 32n !== 0n || (paging && (low & CR0.pe) === 0)) return generalProtection();
  if ((low & CR0.nw) !== 0 && (low & CR0.cd) === 0) return generalProtection();
  if (violatesFixedBits(cpu, 0, value)) return generalProtection();
  const starts = paging && (old & CR0.pg) === 0;
  const stops = !paging && (old & CR0.pg) !== 0;
  const problem = starts ? startProblem(cpu) : stops ? stopProblem(cpu) : undefined;
  if (problem) return problem;
  const longMode = (state.low('efer') & EFER.lme) !== 0;
  const usesPdptes = paging && !longMode && (state.low('cr4') & CR4.pae) !== 0;
  if (usesPdptes && ((old ^ low) & PAGING_BITS_OF_CR0) !== 0) {
    const fault = loadPdptes(cpu, state.get64('cr3'));
    if (fault) return fault;
  }
  state.set64('cr0', BigInt(((low & KNOWN_CR0) | CR0.et) >>> 0));
  if (starts && longMode) state.set64('efer', state.get64('efer') | BigInt(EFER.lma));
  if (stops) state.set64('efer', state.get64('efer') & ~BigInt(EFER.lma));
  if (starts || stops) invalidateAllMappings(cpu);
  updateCodeMode(state);
  cpu.mmu.updateContext();
  return undefined;
}

/** Turning paging on with EFER.LME activates IA-32e mode (SDM Vol. 3A, "Initializing IA-32e Mode"). */
function startProblem(cpu: Cpu): Fault | undefined {
  const { state } = cpu;
  if ((state.low('efer') & EFER.lme) === 0) return undefined;
  const longCode = (state.get32('segmentRights', SEGMENT.cs) & RIGHTS.long) !== 0;
  return (state.low('cr4') & CR4.pae) === 0 || longCode ? generalProtection() : undefined;
}

function stopProblem(cpu: Cpu): Fault | undefined {
  const pcids = (cpu.state.low('cr4') & CR4.pcide) !== 0;
  return pcids || in64BitMode(cpu.state) ? generalProtection() : undefined;
}

export function writeCr3(cpu: Cpu, value: bigint): Fault | undefined {
  const { state, mmu } = cpu;
  const pcids = (state.low('cr4') & CR4.pcide) !== 0;
  const keeps = pcids && (value & KEEP_TLB) !== 0n;
  const cr3 = keeps ? value & ~KEEP_TLB : value;
  if (inLongMode(state) && cr3 >> BigInt(cpu.model.physicalAddressBits) !== 0n) return generalProtection();
  const paePaging = (state.low('cr0') & CR0.pg) !== 0 && (state.low('cr4') & CR4.pae) !== 0 && !inLongMode(state);
  if (paePaging) {
    const fault = loadPdptes(cpu, cr3);
    if (fault) return fault;
  }
  state.set64('cr3', cr3);
  if (!keeps) {
    const kinds = [MAPPING.linear, MAPPING.combined];
    const pcid = pcids ? Number(cr3 & 0xfffn) : 0;
    mmu.tlb.invalidate({ kinds, vpid: state.get32('vpid'), pcid, keepGlobal: true });
  }
  mmu.updateContext();
  return undefined;
}

/** @param value what the real register is to hold, VMX masks applied */
export function writeCr4(cpu: Cpu, value: bigint): Fault | undefined {
  const { state } = cpu;
  const low = Number(value & 0xffff_ffffn);
  const old = state.low('cr4');
  if (value >> 32n !== 0n || (low & ~cpu.model.cr4Bits) !== 0) return generalProtection();
  // Neither PAE nor the number of levels changes under IA-32e paging.
  if (inLongMode(state) && ((low & CR4.pae) === 0 || ((low ^ old) & CR4.la57) !== 0)) return generalProtection();
  const startsPcids = (low & ~old & CR4.pcide) !== 0;
  if (startsPcids && (!inLongMode(state) || (state.low('cr3') & 0xfff) !== 0)) return generalProtection();
  if (violatesFixedBits(cpu, 4, value)) return generalProtection();
  const usesPdptes = (state.low('cr0') & CR0.pg) !== 0 && (low & CR4.pae) !== 0 && !inLongMode(state);
  if (usesPdptes && ((old ^ low) & PAGING_BITS_OF_CR4) !== 0) {
    const fault = loadPdptes(cpu, state.get64('cr3'));
    if (fault) return fault;
  }
  state.set64('cr4', value);
  const stopsPcids = (old & ~low & CR4.pcide) !== 0;
  const startsSmep = (low & ~old & CR4.smep) !== 0;
  if (((old ^ low) & FLUSHING_BITS_OF_CR4) !== 0 || stopsPcids || startsSmep) invalidateAllMappings(cpu);
  cpu.mmu.updateContext();
  return undefined;
}

/** The task-priority class, 0…15. */
export function writeCr8(cpu: Cpu, value: bigint): Fault | undefined {
  if (value > 15n) return generalProtection();
  if (cpu.state.get32('nonRoot') !== 0 && cpu.intercepts.setTaskPriority(Number(value))) return undefined;
  cpu.interrupts.setTaskPriority(Number(value));
  cpu.state.set32('attention', 1);
  return undefined;
}
