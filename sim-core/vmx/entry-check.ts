/** The shape of a VM-entry check, and what the predicates have in common. */

import { PERF_GLOBAL_CTRL_BITS } from '../cpu/performance-counters.ts';
import type { SdmKey } from '../sdm.ts';
import type { FieldName } from './fields.ts';
import type { FieldValues } from './values.ts';

/** What checks ask of the machine beside the VMCS. */
export interface EntryFacts {
  readonly physicalAddressBits: number;
  readonly linearAddressBits: number;
  /** Page-walk lengths of EPT that IA32_VMX_EPT_VPID_CAP reports. */
  readonly eptLevels: readonly number[];
  /** CR0 and CR4 bits fixed in VMX operation. */
  readonly cr0: { readonly mustBeOne: bigint; readonly mayBeOne: bigint };
  readonly cr4: { readonly mustBeOne: bigint; readonly mayBeOne: bigint };
  /** IA32_EFER bits that are not reserved. */
  readonly eferBits: bigint;
  /** IA32_EFER.LMA at the time of VM entry. */
  longModeActive(): boolean;
  /** Physical address of the current VMCS. */
  currentVmcs(): bigint;
  /** 32 and 64 bits of physical memory. */
  read32(physical: number): number;
  read64(physical: number): bigint;
}

export interface EntryCheck {
  /** Stable name, e.g. 'guest.cs.type'. */
  readonly id: string;
  readonly group: 'controls' | 'host' | 'guest';
  readonly sdm: SdmKey;
  /** The fields that the predicate reads. */
  readonly fields: readonly FieldName[];
  /** Exit qualification of a failure in the guest group; 0 when absent. */
  readonly qualification?: number;
  /** True when the predicate reads memory or processor state, which changes without a VMWRITE. */
  readonly readsOutside?: boolean;
  holds(values: FieldValues, facts: EntryFacts): boolean;
  /** What must hold, as a sentence without its full stop. */
  readonly must: string | ((values: FieldValues, facts: EntryFacts) => string);
}

/** A row whose functions may use only the fields it names. */
interface Row<Fields extends readonly FieldName[]>
  extends Pick<EntryCheck, 'id' | 'sdm' | 'qualification' | 'readsOutside'> {
  readonly fields: Fields;
  readonly holds: (values: Pick<FieldValues, Fields[number]>, facts: EntryFacts) => boolean;
  readonly must: string | ((values: Pick<FieldValues, Fields[number]>, facts: EntryFacts) => string);
}

/** Gives a function that makes checks of one group. */
export const checksOf =
  (group: EntryCheck['group']) =>
  <const Fields extends readonly FieldName[]>(row: Row<Fields>): EntryCheck => ({ group, ...row });

export const has = (value: number, mask: number): boolean => (value & mask) !== 0;

/** The secondary controls count as 0 unless bit 31 of the primary controls is 1. */
export const secondaryOf = (
  v: Pick<
    FieldValues,
    'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS' | 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS'
  >,
): number =>
  v.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS >>> 31 ? v.SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS : 0;

export const SECONDARY_FIELDS = [
  'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
  'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
] as const;

export const isCanonical = (address: bigint, linearAddressBits: number): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(linearAddressBits, address)) === address;

/** Whether no bit is set beyond the physical-address width. */
export const fitsPhysical = (address: bigint, facts: EntryFacts): boolean =>
  address >> BigInt(facts.physicalAddressBits) === 0n;

export const isAligned = (address: bigint, low: number): boolean => BigInt.asUintN(low, address) === 0n;

/** A valid IA32_PAT: each byte is one of 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB), 7 (UC-). */
function isPat(value: bigint): boolean {
  for (let byte = 0n; byte < 64n; byte += 8n) {
    const type = Number((value >> byte) & 0xffn);
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}

/** The control field that has MSRs of the host or the guest loaded, and its bits. */
type LoadField = 'PRIMARY_VM_EXIT_CONTROLS' | 'VM_ENTRY_CONTROLS';
type LoadBits = Readonly<Record<'LOAD_IA32_PERF_GLOBAL_CTRL' | 'LOAD_IA32_PAT' | 'LOAD_IA32_EFER', number>>;

/** What host and guest state have in common: values of MSRs that are loaded must have no reserved bits. */
export function loadedMsrChecks<Area extends 'host' | 'guest'>(
  area: Area,
  sdm: SdmKey,
  controls: LoadField,
  bits: LoadBits,
): { readonly perfGlobalCtrl: EntryCheck; readonly pat: EntryCheck; readonly eferReserved: EntryCheck } {
  const check = checksOf(area);
  const prefix = area === 'host' ? 'HOST' : 'GUEST';
  const counters = `${prefix}_IA32_PERF_GLOBAL_CTRL` as const;
  const pat = `${prefix}_IA32_PAT` as const;
  const efer = `${prefix}_IA32_EFER` as const;
  return {
    perfGlobalCtrl: check({
      id: `${area}.perfGlobalCtrl`,
      sdm,
      fields: [controls, counters],
      holds: (v) => !has(v[controls], bits.LOAD_IA32_PERF_GLOBAL_CTRL) || (v[counters] & ~PERF_GLOBAL_CTRL_BITS) === 0n,
      must: `With “load IA32_PERF_GLOBAL_CTRL”, its ${prefix} field must set only bits of ${hex(PERF_GLOBAL_CTRL_BITS)}`,
    }),
    pat: check({
      id: `${area}.pat`,
      sdm,
      fields: [controls, pat],
      holds: (v) => !has(v[controls], bits.LOAD_IA32_PAT) || isPat(v[pat]),
      must: `With “load IA32_PAT”, each byte of ${pat} must be 0, 1, 4, 5, 6 or 7`,
    }),
    eferReserved: check({
      id: `${area}.efer.reserved`,
      sdm,
      fields: [controls, efer],
      holds: (v, facts) => !has(v[controls], bits.LOAD_IA32_EFER) || (v[efer] & ~facts.eferBits) === 0n,
      must: (_, facts) => `With “load IA32_EFER”, ${efer} must set only bits of ${hex(facts.eferBits)}`,
    }),
  };
}

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
export const CR0_BITS = { pe: 1n, ne: 0x20n, pg: 0x8000_0000n } as const;
export const CR4_BITS = { pae: 0x20n, la57: 0x1000n, vmxe: 0x2000n, pcide: 0x2_0000n } as const;
export const EFER_BITS = { lme: 0x100n, lma: 0x400n } as const;
