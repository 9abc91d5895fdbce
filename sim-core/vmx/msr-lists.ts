/** The VM-entry and VM-exit MSR lists (SDM Vol. 3C, "VM-Exit Controls for MSRs", "Loading MSRs", "Saving MSRs"). */

import type { Cpu } from '../cpu/cpu.ts';
import { hostTimeStampCounter, readMsr, writeMsr } from '../cpu/msrs.ts';

/** An entry that could not be used. */
export interface MsrListFailure {
  /** From 1, as the exit qualification counts. */
  readonly entry: number;
  readonly msr: number;
  readonly problem: string;
}

const ENTRY_SIZE = 16;
const FS_BASE = 0xc000_0100;
const GS_BASE = 0xc000_0101;
const SMBASE = 0x9e;
const TIME_STAMP_COUNTER = 0x10;
const SMM_MONITOR_CTL = 0x9b;

/** MSRs that no list may load: the segment bases have fields, the others belong to SMM. */
const NOT_LOADED = new Map([
  [FS_BASE, 'IA32_FS_BASE has a field of its own'],
  [GS_BASE, 'IA32_GS_BASE has a field of its own'],
  [SMM_MONITOR_CTL, 'IA32_SMM_MONITOR_CTL cannot be written outside SMM'],
  [SMBASE, 'IA32_SMBASE cannot be accessed outside SMM'],
]);
const isX2apic = (msr: number): boolean => msr >>> 8 === 8;
const X2APIC_PROBLEM = 'x2APIC MSRs cannot be in a list';

/** Loads the list's MSRs in order, until one fails. */
export function loadMsrList(cpu: Cpu, address: number, count: number): MsrListFailure | undefined {
  const { physical } = cpu.mmu;
  for (let i = 0; i < count; i++) {
    const at = address + i * ENTRY_SIZE;
    const msr = physical.read(at, 4);
    const value = physical.read64(at + 8);
    const problem =
      reservedProblem(cpu, at) ??
      NOT_LOADED.get(msr) ??
      (isX2apic(msr) ? X2APIC_PROBLEM : undefined) ??
      (writeMsr(cpu, msr, value) ? undefined : `WRMSR of 0x${value.toString(16)} would cause #GP`);
    if (problem) return { entry: i + 1, msr, problem };
  }
  return undefined;
}

/** Stores the list's MSRs in order, until one fails. */
export function storeMsrList(cpu: Cpu, address: number, count: number): MsrListFailure | undefined {
  const { physical } = cpu.mmu;
  for (let i = 0; i < count; i++) {
    const at = address + i * ENTRY_SIZE;
    const msr = physical.read(at, 4);
    const value = msr === SMBASE || isX2apic(msr) ? undefined : storedValue(cpu, msr);
    const problem = reservedProblem(cpu, at) ?? (value === undefined ? 'RDMSR would cause #GP' : undefined);
    if (problem || value === undefined) return { entry: i + 1, msr, problem: problem ?? '' };
    physical.write64(at + 8, value);
  }
  return undefined;
}

/** The time-stamp counter is stored as the host reads it: offset and multiplier are for the guest's own reads. */
const storedValue = (cpu: Cpu, msr: number): bigint | undefined =>
  msr === TIME_STAMP_COUNTER ? hostTimeStampCounter(cpu) : readMsr(cpu, msr);

const reservedProblem = (cpu: Cpu, at: number): string | undefined =>
  cpu.mmu.physical.read(at + 4, 4) === 0 ? undefined : 'bits 63:32 of the entry are not 0';

export const describeMsrFailure = ({ entry, msr, problem }: MsrListFailure): string =>
  `Entry ${entry} of the list (MSR 0x${msr.toString(16)}) cannot be used: ${problem}`;
