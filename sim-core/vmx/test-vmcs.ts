/** For tests: a VMCS that passes every VM-entry check, for a 64-bit host and a 64-bit guest with EPT and VPID. */

import { findModel } from '../cpu/models.ts';
import { allowedSettings, CR0_FIXED, cr4Fixed, eptLevels, VMCS_REVISION } from './capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PRIMARY, SECONDARY } from './controls.ts';
import type { EntryFacts } from './entry-check.ts';
import { type FieldName, VMCS_FIELDS } from './fields.ts';
import type { FieldValues } from './values.ts';

export type FieldChanges = { readonly [Name in FieldName]?: FieldValues[Name] };

const model = findModel('westmere');
/** VMCSs begin at 0x5000, which is the current one, and at 0x6000. */
export const FACTS: EntryFacts = {
  physicalAddressBits: model.physicalAddressBits,
  linearAddressBits: model.linearAddressBits,
  eptLevels: eptLevels(model),
  cr0: CR0_FIXED,
  cr4: cr4Fixed(model),
  eferBits: BigInt(model.eferBits),
  longModeActive: () => true,
  currentVmcs: () => 0x5000n,
  read32: (physical) => (physical === 0x6000 || physical === 0x5000 ? VMCS_REVISION : 0),
  read64: () => 0n,
};

const SEGMENTS = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'] as const;
const FLAT_LIMIT = 0xffff_ffff;
const DATA_RIGHTS = 0xc093;
const CODE64_RIGHTS = 0xa09b;
const BUSY_TSS_RIGHTS = 0x8b;
const UNUSABLE = 0x1_0000;
const POWER_ON_PAT = 0x0007_0406_0007_0406n;

const requiredBits = (field: FieldName): number => allowedSettings(field).mustBeOne;
const bits = (field: FieldName, more: number): number => (requiredBits(field) | more) >>> 0;

export const VALID_CHANGES: FieldChanges = {
  PIN_BASED_VM_EXECUTION_CONTROLS: requiredBits('PIN_BASED_VM_EXECUTION_CONTROLS'),
  PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: bits(
    'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
    PRIMARY.ACTIVATE_SECONDARY_CONTROLS | PRIMARY.HLT_EXITING,
  ),
  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: SECONDARY.ENABLE_EPT | SECONDARY.ENABLE_VPID,
  PRIMARY_VM_EXIT_CONTROLS: bits(
    'PRIMARY_VM_EXIT_CONTROLS',
    EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE |
      EXIT_CONTROL.SAVE_IA32_EFER |
      EXIT_CONTROL.LOAD_IA32_EFER |
      EXIT_CONTROL.LOAD_IA32_PAT,
  ),
  VM_ENTRY_CONTROLS: bits(
    'VM_ENTRY_CONTROLS',
    ENTRY_CONTROL.IA_32E_MODE_GUEST |
      ENTRY_CONTROL.LOAD_IA32_EFER |
      ENTRY_CONTROL.LOAD_IA32_PAT |
      ENTRY_CONTROL.LOAD_DEBUG_CONTROLS,
  ),
  EPT_POINTER: 0x2_001en,
  VIRTUAL_PROCESSOR_ID: 1,
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
  HOST_CR0: 0x8005_0033n,
  HOST_CR3: 0x3000n,
  HOST_CR4: 0x2020n,
  HOST_IA32_EFER: 0x500n,
  HOST_IA32_PAT: POWER_ON_PAT,
  HOST_CS_SELECTOR: 0x08,
  HOST_SS_SELECTOR: 0x10,
  HOST_TR_SELECTOR: 0x18,
  HOST_RIP: 0x10_0000n,
  HOST_RSP: 0x8000n,
  GUEST_CR0: 0x8005_0033n,
  GUEST_CR3: 0x3000n,
  GUEST_CR4: 0x2020n,
  GUEST_IA32_EFER: 0x500n,
  GUEST_IA32_PAT: POWER_ON_PAT,
  GUEST_DR7: 0x400n,
  GUEST_RFLAGS: 2n,
  GUEST_RIP: 0x20_0000n,
  GUEST_RSP: 0x7000n,
  ...Object.fromEntries(
    SEGMENTS.flatMap((name) => [
      [`GUEST_${name}_LIMIT`, FLAT_LIMIT],
      [`GUEST_${name}_ACCESS_RIGHTS`, name === 'CS' ? CODE64_RIGHTS : DATA_RIGHTS],
    ]),
  ),
  GUEST_CS_SELECTOR: 0x08,
  GUEST_TR_LIMIT: 0x67,
  GUEST_TR_ACCESS_RIGHTS: BUSY_TSS_RIGHTS,
  GUEST_LDTR_ACCESS_RIGHTS: UNUSABLE,
};

/** All fields: the valid ones, those of `changes`, zeros. */
export function vmcsWith(changes: FieldChanges): FieldValues {
  const zeros = Object.fromEntries(VMCS_FIELDS.map((field) => [field.name, field.bytes === 8 ? 0n : 0]));
  return { ...zeros, ...VALID_CHANGES, ...changes } as FieldValues;
}
