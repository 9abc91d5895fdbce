/** Model-specific registers (SDM Vol. 4): each once. Unknown ones raise #GP. */

import { EFER } from '../state/control-bits.ts';
import { SEGMENT, type SegmentIndex, type StateField } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import type { FeatureName } from './features.ts';
import { isCanonicalForModel } from './modes.ts';
import { CAPABILITY_MSRS, FREEZE_ON_PMI, PERFORMANCE_MSRS } from './performance-counters.ts';

interface MsrRow {
  readonly name: string;
  readonly read: (cpu: Cpu) => bigint | undefined;
  /** @returns false for #GP; absent for read-only MSRs. */
  readonly write?: (cpu: Cpu, value: bigint) => boolean;
  /** Models without it do not have the MSR. */
  readonly feature?: FeatureName;
}

/** An MSR that is a field of the state. @param valid what WRMSR accepts */
const stored = (
  name: string,
  field: StateField,
  valid: (value: bigint, cpu: Cpu) => boolean = () => true,
  index = 0,
): MsrRow => ({
  name,
  read: ({ state }) => state.get64(field, index),
  write: (cpu, value) => {
    if (!valid(value, cpu)) return false;
    cpu.state.set64(field, value, index);
    return true;
  },
});

const canonical = (value: bigint, cpu: Cpu): boolean => isCanonicalForModel(cpu, value);
const within =
  (mask: bigint) =>
  (value: bigint): boolean =>
    (value & ~mask) === 0n;

const maskOf = (...bits: readonly bigint[]): bigint => bits.reduce((mask, bit) => mask | (1n << bit), 0n);

/** Reads as a constant; writes of anything are accepted and forgotten. */
const inert = (name: string, value = 0n): MsrRow => ({ name, read: () => value, write: () => true });
const constant = (name: string, value: bigint): MsrRow => ({ name, read: () => value });

const segmentBase = (name: string, index: SegmentIndex): MsrRow => stored(name, 'segmentBase', canonical, index);

/** IA32_TIME_STAMP_COUNTER without what VMX does to it for a guest. */
export const hostTimeStampCounter = (cpu: Cpu): bigint =>
  BigInt.asUintN(64, BigInt(Math.floor(cpu.clock.cycles())) + cpu.state.get64('tscAdjustment'));

/** Fraction bits of the VMX TSC multiplier. */
const TSC_FRACTION = 48n;

/** IA32_TIME_STAMP_COUNTER as RDTSC and RDMSR give it, the VMX TSC multiplier and offset included. */
export function readTimeStampCounter(cpu: Cpu): bigint {
  const { state } = cpu;
  const multiplier = state.get64('tscMultiplier');
  const host = hostTimeStampCounter(cpu);
  const scaled = multiplier === 0n ? host : (host * multiplier) >> TSC_FRACTION;
  return BigInt.asUintN(64, scaled + state.get64('tscOffset'));
}

/**
 * The TSC is the cycles plus IA32_TSC_ADJUST, so that each write of one changes both alike (SDM Vol. 3B,
 * "IA32_TSC_ADJUST MSR"). The APIC timer's TSC deadline comes sooner or later by it.
 */
function adjustTimeStampCounter({ state }: Cpu, adjustment: bigint): boolean {
  state.set64('tscAdjustment', BigInt.asUintN(64, adjustment));
  state.set32('attention', 1);
  return true;
}

const writeTimeStampCounter = (cpu: Cpu, value: bigint): boolean =>
  adjustTimeStampCounter(cpu, value - BigInt(Math.floor(cpu.clock.cycles())));

/** Bits of IA32_EFER that WRMSR may change; LMA follows CR0.PG. */
function writeEfer(cpu: Cpu, value: bigint): boolean {
  const { state } = cpu;
  if ((value & ~BigInt(cpu.model.eferBits)) !== 0n) return false;
  const old = state.get64('efer');
  const paging = state.high('cr0') === 0 && state.low('cr0') >>> 31 === 1;
  if (paging && ((old ^ value) & BigInt(EFER.lme)) !== 0n) return false;
  state.set64('efer', (value & ~BigInt(EFER.lma)) | (old & BigInt(EFER.lma)));
  cpu.mmu.updateContext();
  return true;
}

const FEATURE_CONTROL_LOCK = 1n;

function writeFeatureControl(cpu: Cpu, value: bigint): boolean {
  const locked = (cpu.state.get64('msrFeatureControl') & FEATURE_CONTROL_LOCK) !== 0n;
  const allowed = cpu.model.features.has('vmx') ? 0x5n : 0x1n;
  if (locked || (value & ~allowed) !== 0n) return false;
  cpu.state.set64('msrFeatureControl', value);
  return true;
}

/** Memory types: UC, WC, WT, WP, WB and, in PAT only, UC-. */
const MTRR_TYPES = new Set([0n, 1n, 4n, 5n, 6n]);
const PAT_TYPES = new Set([...MTRR_TYPES, 7n]);
const bytesAre =
  (types: ReadonlySet<bigint>) =>
  (value: bigint): boolean =>
    Array.from({ length: 8 }, (_, i) => (value >> BigInt(8 * i)) & 0xffn).every((type) => types.has(type));

const MTRR_COUNT = 8;
/** 8 variable ranges, fixed ranges, write combining. */
const MTRR_CAPABILITY = BigInt(MTRR_COUNT) | (1n << 8n) | (1n << 10n);
const physicalMask = (cpu: Cpu): bigint => (1n << BigInt(cpu.model.physicalAddressBits)) - 1n;
const mtrrBaseIsValid = (value: bigint, cpu: Cpu): boolean =>
  MTRR_TYPES.has(value & 0xffn) && (value & 0xf00n) === 0n && (value & ~physicalMask(cpu)) === 0n;
const mtrrMaskIsValid = (value: bigint, cpu: Cpu): boolean =>
  (value & 0x7ffn) === 0n && (value & ~physicalMask(cpu)) === 0n;
const mtrrDefaultIsValid = (value: bigint): boolean => MTRR_TYPES.has(value & 0xffn) && (value & ~0xcffn) === 0n;

const FIXED_MTRRS = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f] as const;

function mtrrRows(): [number, MsrRow][] {
  const rows: [number, MsrRow][] = [];
  for (let i = 0; i < MTRR_COUNT; i++) {
    rows.push([0x200 + 2 * i, stored(`IA32_MTRR_PHYSBASE${i}`, 'msrMtrrPhys', mtrrBaseIsValid, 2 * i)]);
    rows.push([0x201 + 2 * i, stored(`IA32_MTRR_PHYSMASK${i}`, 'msrMtrrPhys', mtrrMaskIsValid, 2 * i + 1)]);
  }
  FIXED_MTRRS.forEach((index, i) => {
    const name = `IA32_MTRR_FIX_${index.toString(16).toUpperCase()}`;
    rows.push([index, stored(name, 'msrMtrrFixed', bytesAre(MTRR_TYPES), i)]);
  });
  return rows;
}

/** Last branch records, of which kernels expect 16 on processors with performance monitoring. None is ever made. */
function branchRecordRows(): [number, MsrRow][] {
  const records = Array.from({ length: 16 }, (_, i): [number, MsrRow][] => [
    [0x680 + i, inert(`MSR_LASTBRANCH_${i}_FROM_IP`)],
    [0x6c0 + i, inert(`MSR_LASTBRANCH_${i}_TO_IP`)],
  ]);
  return [[0x1c8, inert('MSR_LBR_SELECT')], [0x1c9, inert('MSR_LASTBRANCH_TOS')], ...records.flat()];
}

/** Revision in the upper half: what IA32_BIOS_SIGN_ID reads after CPUID. */
const MICROCODE_REVISION = 0x1fn << 32n;
/**
 * IA32_MISC_ENABLE bits that WRMSR accepts: fast strings, thermal control, performance monitoring, BTS and PEBS
 * unavailable, SpeedStep, MONITOR, CPUID limit, xTPR disable, XD disable. None has an effect.
 */
const MISC_ENABLE_WRITABLE = maskOf(0n, 3n, 7n, 11n, 12n, 16n, 18n, 22n, 23n, 34n);
/** LBR, BTF and FREEZE_PERFMON_ON_PMI. */
export const DEBUGCTL_WRITABLE = 0x3n | FREEZE_ON_PMI;

/** C0.2 disabled, and the longest wait in bits 31:2. */
const UMWAIT_CONTROL_BITS = 0xffff_fffdn;

/**
 * What IA32_ARCH_CAPABILITIES can say of a processor that speculates on nothing (SDM Vol. 4, table of architectural
 * MSRs; Intel's guidance on CPUID enumeration): RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO,
 * SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
 */
const ARCH_CAPABILITIES = maskOf(0n, 3n, 4n, 5n, 6n, 8n, 13n, 14n, 15n, 20n, 24n, 26n, 27n, 62n);

export const MSRS: ReadonlyMap<number, MsrRow> = new Map<number, MsrRow>([
  [0x10, { name: 'IA32_TIME_STAMP_COUNTER', read: readTimeStampCounter, write: writeTimeStampCounter }],
  [0x17, constant('IA32_PLATFORM_ID', 0n)],
  [0x3b, { ...stored('IA32_TSC_ADJUST', 'tscAdjustment'), write: adjustTimeStampCounter, feature: 'tscAdjust' }],
  [0x3a, { ...stored('IA32_FEATURE_CONTROL', 'msrFeatureControl'), write: writeFeatureControl }],
  [0x79, { name: 'IA32_BIOS_UPDT_TRIG', read: () => undefined, write: () => true }],
  [0x8b, inert('IA32_BIOS_SIGN_ID', MICROCODE_REVISION)],
  [0xce, constant('MSR_PLATFORM_INFO', 0n)],
  [
    0xe1,
    {
      name: 'IA32_UMWAIT_CONTROL',
      read: ({ state, model }) => (model.features.has('waitpkg') ? state.get64('msrUmwaitControl') : undefined),
      write: ({ state, model }, value) => {
        if (!model.features.has('waitpkg') || (value & ~UMWAIT_CONTROL_BITS) !== 0n) return false;
        state.set64('msrUmwaitControl', value);
        return true;
      },
    },
  ],
  [0xe2, inert('MSR_PKG_CST_CONFIG_CONTROL')],
  [0xfe, constant('IA32_MTRRCAP', MTRR_CAPABILITY)],
  [0x10a, { ...constant('IA32_ARCH_CAPABILITIES', ARCH_CAPABILITIES), feature: 'archCapabilities' }],
  [0x130, inert('MSR_CPUID_OVERRIDE_LEAF1')],
  [0x131, inert('MSR_CPUID_OVERRIDE_LEAF80000001')],
  [0x174, stored('IA32_SYSENTER_CS', 'msrSysenterCs', within(0xffff_ffffn))],
  [0x175, stored('IA32_SYSENTER_ESP', 'msrSysenterEsp', canonical)],
  [0x176, stored('IA32_SYSENTER_EIP', 'msrSysenterEip', canonical)],
  [0x179, constant('IA32_MCG_CAP', 0n)],
  [0x17a, inert('IA32_MCG_STATUS')],
  [0x19a, inert('IA32_CLOCK_MODULATION')],
  [0x19b, inert('IA32_THERM_INTERRUPT')],
  [0x19c, inert('IA32_THERM_STATUS')],
  [0x1a0, stored('IA32_MISC_ENABLE', 'msrMiscEnable', within(MISC_ENABLE_WRITABLE))],
  [0x1d9, stored('IA32_DEBUGCTL', 'msrDebugctl', within(DEBUGCTL_WRITABLE))],
  [0x1fc, inert('MSR_POWER_CTL')],
  ...branchRecordRows(),
  ...mtrrRows(),
  ...PERFORMANCE_MSRS,
  ...CAPABILITY_MSRS.map(([index, row]): [number, MsrRow] => [index, { ...row, feature: 'pdcm' }]),
  [0x277, stored('IA32_PAT', 'msrPat', bytesAre(PAT_TYPES))],
  [0x2ff, stored('IA32_MTRR_DEF_TYPE', 'msrMtrrDefType', mtrrDefaultIsValid)],
  [0xc000_0080, { ...stored('IA32_EFER', 'efer'), write: writeEfer }],
  [0xc000_0081, stored('IA32_STAR', 'msrStar')],
  [0xc000_0082, stored('IA32_LSTAR', 'msrLstar', canonical)],
  [0xc000_0083, stored('IA32_CSTAR', 'msrCstar', canonical)],
  [0xc000_0084, stored('IA32_FMASK', 'msrFmask', within(0xffff_ffffn))],
  [0xc000_0100, segmentBase('IA32_FS_BASE', SEGMENT.fs)],
  [0xc000_0101, segmentBase('IA32_GS_BASE', SEGMENT.gs)],
  [0xc000_0102, stored('IA32_KERNEL_GS_BASE', 'msrKernelGsBase', canonical)],
  [0xc000_0103, stored('IA32_TSC_AUX', 'msrTscAux', within(0xffff_ffffn))],
]);

/** MSRs of the local APIC: IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC. */
export const isApicMsr = (index: number): boolean =>
  index === 0x1b || index === 0x6e0 || (index >= 0x800 && index <= 0x8ff);
const isVmxMsr = (index: number): boolean => index >= 0x480 && index <= 0x493;

/** The row of an MSR that the model has. */
function find({ model }: Cpu, index: number): MsrRow | undefined {
  const row = MSRS.get(index);
  return row?.feature === undefined || model.features.has(row.feature) ? row : undefined;
}

/** The MSR's value, or undefined for #GP. Looks at no privilege and no VMX control. */
export function readMsr(cpu: Cpu, index: number): bigint | undefined {
  if (isApicMsr(index)) return cpu.interrupts.readMsr(index);
  if (isVmxMsr(index)) return cpu.model.features.has('vmx') ? cpu.vmxMsrs.read(index) : undefined;
  return find(cpu, index)?.read(cpu);
}

/** @returns false for #GP. Looks at no privilege and no VMX control. */
export function writeMsr(cpu: Cpu, index: number, value: bigint): boolean {
  if (isApicMsr(index)) {
    cpu.state.set32('attention', 1);
    return cpu.interrupts.writeMsr(index, value);
  }
  return find(cpu, index)?.write?.(cpu, value) ?? false;
}
