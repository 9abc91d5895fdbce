/** The VMX capability MSRs 480H–491H (SDM Vol. 3D, "VMX Capability Reporting Facility"), derived from the tables. */

import type { CpuModel } from '../cpu/cpu.ts';
import { CONTROL_FIELDS, type ControlField, controlField, fieldExists } from './controls.ts';
import { type FieldName, VMCS_FIELDS, VMCS_REGION } from './fields.ts';

/** VMCS revision identifier: changes whenever the format of the VMCS region (fields.ts) does. */
export const VMCS_REVISION = 0x5649_4d31;

const MEMORY_TYPE_WRITE_BACK = 6n;
const BASIC =
  BigInt(VMCS_REVISION) |
  (BigInt(VMCS_REGION.size) << 32n) |
  (MEMORY_TYPE_WRITE_BACK << 50n) |
  // Instruction information is reported for INS and OUTS; the true-control MSRs exist.
  (1n << 54n) |
  (1n << 55n);

/** What IA32_VMX_MISC reports. */
export const MISC = {
  /** The preemption timer counts down whenever this bit of the TSC changes. */
  preemptionTimerShift: 0,
  /** VM exits store IA32_EFER.LMA into the “IA-32e mode guest” control. */
  storesLma: true,
  /** Activity states that VM entries may load besides active: HLT, shutdown, wait-for-SIPI. */
  activityStates: [1, 2, 3],
  cr3Targets: 4,
  /** VMWRITE may write VM-exit information fields. */
  vmwriteAnyField: true,
  /** VM entry may inject software events with instruction length 0. */
  injectLengthZero: false,
  /** MSR lists may be this long. */
  recommendedMsrCount: 512,
} as const;

const bit = (position: number, on = true): bigint => (on ? 1n << BigInt(position) : 0n);
const MISC_MSR =
  BigInt(MISC.preemptionTimerShift) |
  bit(5, MISC.storesLma) |
  MISC.activityStates.reduce((msr, state) => msr | bit(5 + state), 0n) |
  (BigInt(MISC.cr3Targets) << 16n) |
  (BigInt(MISC.recommendedMsrCount / 512 - 1) << 25n) |
  bit(29, MISC.vmwriteAnyField) |
  bit(30, MISC.injectLengthZero);

/** Bits of IA32_VMX_EPT_VPID_CAP that are 1: what EPT, INVEPT and INVVPID can do here. */
const EPT_VPID = {
  executeOnly: 0, walkLength4: 6, walkLength5: 7, uncacheable: 8, writeBack: 14, page2M: 16, page1G: 17, invept: 20,
  accessedDirty: 21, inveptSingle: 25, inveptAll: 26, invvpid: 32, invvpidAddress: 40, invvpidSingle: 41,
  invvpidAll: 42, invvpidSingleKeepGlobal: 43,
} as const; // biome-ignore format: a table reads better in rows
const eptVpidMsr = (model: CpuModel): bigint =>
  Object.values(EPT_VPID).reduce(
    (msr, position) => msr | bit(position, position !== EPT_VPID.walkLength5 || eptLevels(model).includes(5)),
    0n,
  );

/** Page-walk lengths of EPT: processors with 5-level paging have 5-level EPT, too. */
export const eptLevels = ({ features }: CpuModel): readonly number[] => (features.has('la57') ? [4, 5] : [4]);

/** VM functions by number. */
export const VM_FUNCTION = { eptpSwitching: 0 } as const;

/** Bits that must be 1 and bits that may be 1. */
export interface AllowedSettings {
  readonly mustBeOne: number;
  readonly mayBeOne: number;
}

const simulatedMask = (control: ControlField): number =>
  control.bits.reduce((mask, row) => (row.simulated ? mask | (1 << row.bit) : mask), 0) >>> 0;

/** @param useTrue whether default1 controls that are simulated may be 0 (always so for VM entry's checks). */
export function allowedSettings(field: FieldName, useTrue = true): AllowedSettings {
  const control = controlField(field);
  if (!control) throw new RangeError(`${field} holds no controls`);
  const simulated = simulatedMask(control);
  const mustBeOne = useTrue ? control.default1 & ~simulated : control.default1;
  return { mustBeOne: mustBeOne >>> 0, mayBeOne: (simulated | control.default1) >>> 0 };
}

const settingsMsr = ({ mustBeOne, mayBeOne }: AllowedSettings): bigint => BigInt(mustBeOne) | (BigInt(mayBeOne) << 32n);

/** CR0 in VMX operation: PE, NE and PG must be 1 (unrestricted guests may clear PE and PG). */
export const CR0_FIXED = { mustBeOne: 0x8000_0021n, mayBeOne: 0xffff_ffffn } as const;
/** CR4 in VMX operation: VMXE must be 1. */
export const cr4Fixed = (model: CpuModel) => ({ mustBeOne: 0x2000n, mayBeOne: BigInt(model.cr4Bits) });

const highestIndex = Math.max(...VMCS_FIELDS.filter((field) => fieldExists(field.name)).map((field) => field.index));

function controlMsrs(): [number, bigint][] {
  return CONTROL_FIELDS.filter((control) => simulatedMask(control) !== 0).flatMap((control) => {
    const rows: [number, bigint][] = [[control.capabilityMsr, settingsMsr(allowedSettings(control.field, false))]];
    if (control.trueMsr !== undefined) rows.push([control.trueMsr, settingsMsr(allowedSettings(control.field))]);
    return rows;
  });
}

/** All VMX capability MSRs by index; reading any other index of 480H–493H is #GP. */
export function capabilityMsrs(model: CpuModel): ReadonlyMap<number, bigint> {
  const cr4 = cr4Fixed(model);
  return new Map<number, bigint>([
    [0x480, BASIC],
    ...controlMsrs(),
    [0x485, MISC_MSR],
    [0x486, CR0_FIXED.mustBeOne],
    [0x487, CR0_FIXED.mayBeOne],
    [0x488, cr4.mustBeOne],
    [0x489, cr4.mayBeOne],
    [0x48a, BigInt(highestIndex << 1)],
    [0x48c, eptVpidMsr(model)],
    [0x491, bit(VM_FUNCTION.eptpSwitching)],
  ]);
}
