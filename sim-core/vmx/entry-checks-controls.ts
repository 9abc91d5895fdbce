/** Checks on the VMX controls (SDM Vol. 3C, "Checks on VMX Controls"): a failure is VMfailValid(7). */

import type { SdmKey } from '../sdm.ts';
import { allowedSettings, MISC } from './capabilities.ts';
import { controlField, ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import {
  checksOf,
  type EntryCheck,
  type EntryFacts,
  fitsPhysical,
  has,
  hex,
  isAligned,
  SECONDARY_FIELDS,
  secondaryOf,
} from './entry-check.ts';
import type { FieldName } from './fields.ts';
import type { FieldValues } from './values.ts';

const check = checksOf('controls');
const PIN_FIELD = 'PIN_BASED_VM_EXECUTION_CONTROLS';
const PRIMARY_FIELD = 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const SECONDARY_FIELD = 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS';
const EXIT_FIELD = 'PRIMARY_VM_EXIT_CONTROLS';
const ENTRY_FIELD = 'VM_ENTRY_CONTROLS';
const EVENT_FIELD = 'VM_ENTRY_INTERRUPTION_INFORMATION';

const isAllowed = (field: FieldName, value: number): boolean => {
  const { mustBeOne, mayBeOne } = allowedSettings(field);
  return (~value & mustBeOne) === 0 && (value & ~mayBeOne) === 0;
};

/** Names the bits that the capability MSR does not allow. */
function wrongSettings(field: FieldName, value: number): string {
  const { mustBeOne, mayBeOne } = allowedSettings(field);
  const control = controlField(field);
  const msr = control?.trueMsr ?? control?.capabilityMsr ?? 0;
  const name = (bit: number) => {
    const title = control?.bits.find((row) => row.bit === bit)?.title;
    return title ? `bit ${bit} (${title})` : `bit ${bit}`;
  };
  const wrong: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0;
    if (has(~value & mustBeOne, mask)) wrong.push(`${name(bit)} must be 1`);
    if (has(value & ~mayBeOne, mask)) wrong.push(`${name(bit)} must be 0`);
  }
  return `${field} must have the settings that MSR ${hex(msr)} allows: ${wrong.join(', ') || 'as they are'}`;
}

const reserved = (id: string, field: typeof PIN_FIELD | typeof EXIT_FIELD | typeof ENTRY_FIELD, sdm: SdmKey) =>
  check({
    id,
    sdm,
    fields: [field],
    holds: (v) => isAllowed(field, v[field]),
    must: (v) => wrongSettings(field, v[field]),
  });

/** An address field that a control brings into force must be aligned and inside the physical-address space. */
const isBitmapAddress = (address: bigint, facts: EntryFacts): boolean =>
  isAligned(address, 12) && fitsPhysical(address, facts);
const bitmapMust = (name: string, control: string) => (_: unknown, facts: EntryFacts) =>
  `With “${control}”, ${name} must be a multiple of 4096 below 2^${facts.physicalAddressBits}`;

/** An MSR list's start must be a multiple of 16, and the list must lie inside the physical-address space. */
type MsrList = 'VM_EXIT_MSR_STORE' | 'VM_EXIT_MSR_LOAD' | 'VM_ENTRY_MSR_LOAD';
const msrList = (id: string, list: MsrList, sdm: SdmKey): EntryCheck => {
  const address = `${list}_ADDRESS` as const;
  const count = `${list}_COUNT` as const;
  return check({
    id,
    sdm,
    fields: [count, address],
    holds: (v, facts) =>
      v[count] === 0 || (isAligned(v[address], 4) && fitsPhysical(v[address] + BigInt(v[count]) * 16n - 1n, facts)),
    must: (_, facts) =>
      `With ${count} not 0, ${address} must be a multiple of 16 and the list must end below ` +
      `2^${facts.physicalAddressBits}`,
  });
};

const EXECUTION: readonly EntryCheck[] = [
  reserved('controls.pin.reserved', PIN_FIELD, 'executionControlChecks'),
  check({
    id: 'controls.primary.reserved',
    sdm: 'executionControlChecks',
    fields: [PRIMARY_FIELD],
    holds: (v) => isAllowed(PRIMARY_FIELD, v[PRIMARY_FIELD]),
    must: (v) => wrongSettings(PRIMARY_FIELD, v[PRIMARY_FIELD]),
  }),
  check({
    id: 'controls.secondary.reserved',
    sdm: 'executionControlChecks',
    fields: SECONDARY_FIELDS,
    holds: (v) => isAllowed(SECONDARY_FIELD, secondaryOf(v)),
    must: (v) => wrongSettings(SECONDARY_FIELD, secondaryOf(v)),
  }),
  check({
    id: 'controls.cr3Targets',
    sdm: 'executionControlChecks',
    fields: ['CR3_TARGET_COUNT'],
    holds: (v) => v.CR3_TARGET_COUNT <= MISC.cr3Targets,
    must: `CR3_TARGET_COUNT must not exceed ${MISC.cr3Targets}`,
  }),
  check({
    id: 'controls.ioBitmapA',
    sdm: 'executionControlChecks',
    fields: [PRIMARY_FIELD, 'IO_BITMAP_A_ADDRESS'],
    holds: (v, facts) =>
      !has(v[PRIMARY_FIELD], PRIMARY.USE_IO_BITMAPS) || isBitmapAddress(v.IO_BITMAP_A_ADDRESS, facts),
    must: bitmapMust('IO_BITMAP_A_ADDRESS', 'use I/O bitmaps'),
  }),
  check({
    id: 'controls.ioBitmapB',
    sdm: 'executionControlChecks',
    fields: [PRIMARY_FIELD, 'IO_BITMAP_B_ADDRESS'],
    holds: (v, facts) =>
      !has(v[PRIMARY_FIELD], PRIMARY.USE_IO_BITMAPS) || isBitmapAddress(v.IO_BITMAP_B_ADDRESS, facts),
    must: bitmapMust('IO_BITMAP_B_ADDRESS', 'use I/O bitmaps'),
  }),
  check({
    id: 'controls.msrBitmap',
    sdm: 'executionControlChecks',
    fields: [PRIMARY_FIELD, 'MSR_BITMAP_ADDRESS'],
    holds: (v, facts) =>
      !has(v[PRIMARY_FIELD], PRIMARY.USE_MSR_BITMAPS) || isBitmapAddress(v.MSR_BITMAP_ADDRESS, facts),
    must: bitmapMust('MSR_BITMAP_ADDRESS', 'use MSR bitmaps'),
  }),
  check({
    id: 'controls.virtualNmis',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD],
    holds: (v) => has(v[PIN_FIELD], PIN.NMI_EXITING) || !has(v[PIN_FIELD], PIN.VIRTUAL_NMIS),
    must: '“Virtual NMIs” must be 0 when “NMI exiting” is 0',
  }),
  check({
    id: 'controls.nmiWindow',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD, PRIMARY_FIELD],
    holds: (v) => has(v[PIN_FIELD], PIN.VIRTUAL_NMIS) || !has(v[PRIMARY_FIELD], PRIMARY.NMI_WINDOW_EXITING),
    must: '“NMI-window exiting” must be 0 when “virtual NMIs” is 0',
  }),
  check({
    id: 'controls.vpid',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'VIRTUAL_PROCESSOR_ID'],
    holds: (v) => !has(secondaryOf(v), SECONDARY.ENABLE_VPID) || v.VIRTUAL_PROCESSOR_ID !== 0,
    must: 'With “enable VPID”, VIRTUAL_PROCESSOR_ID must not be 0, the host’s tag',
  }),
];

const TPR_FIELDS = [...SECONDARY_FIELDS, 'VIRTUAL_APIC_ADDRESS', 'TPR_THRESHOLD'] as const;
const hasShadow = (v: Pick<FieldValues, typeof PRIMARY_FIELD>): boolean =>
  has(v[PRIMARY_FIELD], PRIMARY.USE_TPR_SHADOW);
const VIRTUAL_TPR = 0x80;

/** A page that one secondary control brings into force. */
type PageField =
  | 'APIC_ACCESS_ADDRESS'
  | 'VMREAD_BITMAP_ADDRESS'
  | 'VMWRITE_BITMAP_ADDRESS'
  | 'PML_ADDRESS'
  | 'SUB_PAGE_PERMISSION_TABLE_POINTER'
  | 'VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS';
const page = (id: string, control: keyof typeof SECONDARY, title: string, field: PageField): EntryCheck =>
  check({
    id,
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, field],
    holds: (v, facts) => !has(secondaryOf(v), SECONDARY[control]) || isBitmapAddress(v[field], facts),
    must: bitmapMust(field, title),
  });

/** One secondary control that needs another one. */
const needs = (id: string, control: keyof typeof SECONDARY, other: keyof typeof SECONDARY, must: string): EntryCheck =>
  check({
    id,
    sdm: 'executionControlChecks',
    fields: SECONDARY_FIELDS,
    holds: (v) => !has(secondaryOf(v), SECONDARY[control]) || has(secondaryOf(v), SECONDARY[other]),
    must,
  });

/** “APIC Virtualization and Virtual Interrupts”. */
const APIC: readonly EntryCheck[] = [
  check({
    id: 'controls.virtualApic.address',
    sdm: 'executionControlChecks',
    fields: [PRIMARY_FIELD, 'VIRTUAL_APIC_ADDRESS'],
    holds: (v, facts) => !hasShadow(v) || isBitmapAddress(v.VIRTUAL_APIC_ADDRESS, facts),
    must: bitmapMust('VIRTUAL_APIC_ADDRESS', 'use TPR shadow'),
  }),
  check({
    id: 'controls.tprThreshold.reserved',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'TPR_THRESHOLD'],
    holds: (v) =>
      !hasShadow(v) || has(secondaryOf(v), SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) || v.TPR_THRESHOLD >>> 4 === 0,
    must: 'Bits 31:4 of TPR_THRESHOLD must be 0 with “use TPR shadow” and without “virtual-interrupt delivery”',
  }),
  check({
    id: 'controls.tprThreshold.priority',
    sdm: 'executionControlChecks',
    fields: TPR_FIELDS,
    readsOutside: true,
    holds: (v, facts) => {
      const other = SECONDARY.VIRTUALIZE_APIC_ACCESSES | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
      if (!hasShadow(v) || has(secondaryOf(v), other) || !isBitmapAddress(v.VIRTUAL_APIC_ADDRESS, facts)) return true;
      const priority = (facts.read32(Number(v.VIRTUAL_APIC_ADDRESS) + VIRTUAL_TPR) >>> 4) & 15;
      return (v.TPR_THRESHOLD & 15) <= priority;
    },
    must:
      'With “use TPR shadow” and neither “virtualize APIC accesses” nor “virtual-interrupt delivery”, TPR_THRESHOLD ' +
      'must not exceed bits 7:4 of the virtual task priority, at offset 80H of VIRTUAL_APIC_ADDRESS',
  }),
  check({
    id: 'controls.tprShadow',
    sdm: 'executionControlChecks',
    fields: SECONDARY_FIELDS,
    holds: (v) =>
      hasShadow(v) ||
      !has(
        secondaryOf(v),
        SECONDARY.VIRTUALIZE_X2APIC_MODE |
          SECONDARY.APIC_REGISTER_VIRTUALIZATION |
          SECONDARY.VIRTUAL_INTERRUPT_DELIVERY,
      ),
    must:
      '“Virtualize x2APIC mode”, “APIC-register virtualization” and “virtual-interrupt delivery” must be 0 when ' +
      '“use TPR shadow” is 0',
  }),
  page('controls.apicAccess', 'VIRTUALIZE_APIC_ACCESSES', 'virtualize APIC accesses', 'APIC_ACCESS_ADDRESS'),
  check({
    id: 'controls.x2apic',
    sdm: 'executionControlChecks',
    fields: SECONDARY_FIELDS,
    holds: (v) =>
      !has(secondaryOf(v), SECONDARY.VIRTUALIZE_X2APIC_MODE) ||
      !has(secondaryOf(v), SECONDARY.VIRTUALIZE_APIC_ACCESSES),
    must: '“Virtualize APIC accesses” must be 0 when “virtualize x2APIC mode” is 1',
  }),
  check({
    id: 'controls.virtualInterrupts',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD, ...SECONDARY_FIELDS],
    holds: (v) =>
      !has(secondaryOf(v), SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) || has(v[PIN_FIELD], PIN.EXTERNAL_INTERRUPT_EXITING),
    must: '“External-interrupt exiting” must be 1 when “virtual-interrupt delivery” is 1',
  }),
  check({
    id: 'controls.postedInterrupts.controls',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD, ...SECONDARY_FIELDS, EXIT_FIELD],
    holds: (v) =>
      !has(v[PIN_FIELD], PIN.PROCESS_POSTED_INTERRUPTS) ||
      (has(secondaryOf(v), SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) &&
        has(v[EXIT_FIELD], EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT)),
    must: '“Virtual-interrupt delivery” and “acknowledge interrupt on exit” must be 1 when “process posted interrupts” is 1',
  }),
  check({
    id: 'controls.postedInterrupts.vector',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD, 'POSTED_INTERRUPT_NOTIFICATION_VECTOR'],
    holds: (v) => !has(v[PIN_FIELD], PIN.PROCESS_POSTED_INTERRUPTS) || v.POSTED_INTERRUPT_NOTIFICATION_VECTOR <= 255,
    must: 'With “process posted interrupts”, bits 15:8 of POSTED_INTERRUPT_NOTIFICATION_VECTOR must be 0',
  }),
  check({
    id: 'controls.postedInterrupts.descriptor',
    sdm: 'executionControlChecks',
    fields: [PIN_FIELD, 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS'],
    holds: (v, facts) =>
      !has(v[PIN_FIELD], PIN.PROCESS_POSTED_INTERRUPTS) ||
      (isAligned(v.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 6) &&
        fitsPhysical(v.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, facts)),
    must: (_, facts) =>
      'With “process posted interrupts”, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS must be a multiple of 64 below ' +
      `2^${facts.physicalAddressBits}`,
  }),
];

const eptp = (id: string, holds: (eptp: bigint, facts: EntryFacts) => boolean, must: EntryCheck['must']): EntryCheck =>
  check({
    id,
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'EPT_POINTER'],
    holds: (v, facts) => !has(secondaryOf(v), SECONDARY.ENABLE_EPT) || holds(v.EPT_POINTER, facts),
    must: must as string,
  });

const switchesEptp = (
  v: Pick<FieldValues, typeof PRIMARY_FIELD | typeof SECONDARY_FIELD | 'VM_FUNCTION_CONTROLS'>,
): boolean => has(secondaryOf(v), SECONDARY.ENABLE_VM_FUNCTIONS) && (v.VM_FUNCTION_CONTROLS & 1n) !== 0n;

const EPT: readonly EntryCheck[] = [
  eptp(
    'controls.eptp.memoryType',
    (pointer) => [0n, 6n].includes(pointer & 7n),
    'EPT_POINTER bits 2:0, the memory type of the tables, must be 0 (UC) or 6 (WB)',
  ),
  eptp(
    'controls.eptp.walkLength',
    (pointer, facts) => facts.eptLevels.includes(Number((pointer >> 3n) & 7n) + 1),
    'EPT_POINTER bits 5:3 must be 3 for 4 levels of tables or, where the processor supports it, 4 for 5 levels',
  ),
  eptp('controls.eptp.reserved', (pointer) => ((pointer >> 7n) & 0x1fn) === 0n, 'EPT_POINTER bits 11:7 must be 0'),
  eptp(
    'controls.eptp.address',
    (pointer, facts) => fitsPhysical(pointer, facts),
    'EPT_POINTER must not set bits beyond the physical-address width',
  ),
  check({
    id: 'controls.unrestrictedGuest',
    sdm: 'executionControlChecks',
    fields: SECONDARY_FIELDS,
    holds: (v) => !has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST) || has(secondaryOf(v), SECONDARY.ENABLE_EPT),
    must: '“Unrestricted guest” must be 0 when “enable EPT” is 0',
  }),
  needs('controls.pml', 'ENABLE_PML', 'ENABLE_EPT', '“Enable PML” must be 0 when “enable EPT” is 0'),
  page('controls.pml.address', 'ENABLE_PML', 'enable PML', 'PML_ADDRESS'),
  needs(
    'controls.subPageWrite',
    'SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT',
    'ENABLE_EPT',
    '“Sub-page write permissions for EPT” must be 0 when “enable EPT” is 0',
  ),
  page(
    'controls.subPageWrite.pointer',
    'SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT',
    'sub-page write permissions for EPT',
    'SUB_PAGE_PERMISSION_TABLE_POINTER',
  ),
  page(
    'controls.virtualizationException',
    'EPT_VIOLATION_#VE',
    'EPT-violation #VE',
    'VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS',
  ),
  page('controls.vmreadBitmap', 'VMCS_SHADOWING', 'VMCS shadowing', 'VMREAD_BITMAP_ADDRESS'),
  page('controls.vmwriteBitmap', 'VMCS_SHADOWING', 'VMCS shadowing', 'VMWRITE_BITMAP_ADDRESS'),
  check({
    id: 'controls.vmFunctions.reserved',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'VM_FUNCTION_CONTROLS'],
    holds: (v) => !has(secondaryOf(v), SECONDARY.ENABLE_VM_FUNCTIONS) || v.VM_FUNCTION_CONTROLS <= 1n,
    must: 'VM_FUNCTION_CONTROLS must set no bit but 0 (EPTP switching)',
  }),
  check({
    id: 'controls.vmFunctions.ept',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'VM_FUNCTION_CONTROLS'],
    holds: (v) => !switchesEptp(v) || has(secondaryOf(v), SECONDARY.ENABLE_EPT),
    must: '“EPTP switching” in VM_FUNCTION_CONTROLS must be 0 when “enable EPT” is 0',
  }),
  check({
    id: 'controls.vmFunctions.list',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'VM_FUNCTION_CONTROLS', 'EPTP_LIST_ADDRESS'],
    holds: (v, facts) => !switchesEptp(v) || isBitmapAddress(v.EPTP_LIST_ADDRESS, facts),
    must: bitmapMust('EPTP_LIST_ADDRESS', 'EPTP switching'),
  }),
  needs(
    'controls.modeBasedExecute',
    'MODE_BASED_EXECUTE_CONTROL_FOR_EPT',
    'ENABLE_EPT',
    '“Mode-based execute control for EPT” must be 0 when “enable EPT” is 0',
  ),
  check({
    id: 'controls.tscMultiplier',
    sdm: 'executionControlChecks',
    fields: [...SECONDARY_FIELDS, 'TSC_MULTIPLIER'],
    holds: (v) => !has(secondaryOf(v), SECONDARY.USE_TSC_SCALING) || v.TSC_MULTIPLIER !== 0n,
    must: 'TSC_MULTIPLIER must not be 0 with “use TSC scaling”',
  }),
];

const EXIT: readonly EntryCheck[] = [
  reserved('controls.exit.reserved', EXIT_FIELD, 'exitControlChecks'),
  check({
    id: 'controls.exit.preemptionTimer',
    sdm: 'exitControlChecks',
    fields: [PIN_FIELD, EXIT_FIELD],
    holds: (v) =>
      has(v[PIN_FIELD], PIN.ACTIVATE_VMX_PREEMPTION_TIMER) ||
      !has(v[EXIT_FIELD], EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE),
    must: '“Save VMX-preemption timer value” must be 0 when “activate VMX-preemption timer” is 0',
  }),
  msrList('controls.exit.msrStore', 'VM_EXIT_MSR_STORE', 'exitControlChecks'),
  msrList('controls.exit.msrLoad', 'VM_EXIT_MSR_LOAD', 'exitControlChecks'),
];

/** Parts of the VM-entry interruption information. */
const isValid = (event: number): boolean => event >>> 31 === 1;
const typeOf = (event: number): number => (event >>> 8) & 7;
const vectorOf = (event: number): number => event & 0xff;
const TYPE = { nmi: 2, hardwareException: 3, firstSoftware: 4, lastSoftware: 6, other: 7 } as const;
/** Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC. */
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17]);

const GUEST_MODE_FIELDS = [...SECONDARY_FIELDS, 'GUEST_CR0'] as const;
const EVENT_CHECKS: readonly EntryCheck[] = [
  check({
    id: 'controls.entry.event.type',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD],
    holds: (v) => !isValid(v[EVENT_FIELD]) || typeOf(v[EVENT_FIELD]) !== 1,
    must: 'The injected event’s type must not be 1 (reserved)',
  }),
  check({
    id: 'controls.entry.event.vector',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD],
    holds: (v) => {
      const event = v[EVENT_FIELD];
      if (!isValid(event)) return true;
      if (typeOf(event) === TYPE.nmi) return vectorOf(event) === 2;
      if (typeOf(event) === TYPE.other) return vectorOf(event) === 0;
      return typeOf(event) !== TYPE.hardwareException || vectorOf(event) <= 31;
    },
    must: 'The injected event’s vector must be 2 for an NMI, at most 31 for a hardware exception and 0 for type 7 (MTF)',
  }),
  check({
    id: 'controls.entry.event.deliverErrorCode',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD, ...GUEST_MODE_FIELDS],
    holds: (v) => {
      const event = v[EVENT_FIELD];
      if (!isValid(event)) return true;
      const realMode = has(secondaryOf(v), SECONDARY.UNRESTRICTED_GUEST) && (v.GUEST_CR0 & 1n) === 0n;
      const pushes = typeOf(event) === TYPE.hardwareException && WITH_ERROR_CODE.has(vectorOf(event)) && !realMode;
      return has(event, 0x800) === pushes;
    },
    must:
      'Bit 11 of the injected event (deliver error code) must be 1 for hardware exceptions 8, 10–14 and 17 ' +
      'in protected mode and 0 for all other events',
  }),
  check({
    id: 'controls.entry.event.reserved',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD],
    holds: (v) => !isValid(v[EVENT_FIELD]) || (v[EVENT_FIELD] & 0x7fff_f000) === 0,
    must: 'Bits 30:12 of VM_ENTRY_INTERRUPTION_INFORMATION must be 0',
  }),
  check({
    id: 'controls.entry.event.errorCode',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD, 'VM_ENTRY_EXCEPTION_ERROR_CODE'],
    holds: (v) => !isValid(v[EVENT_FIELD]) || !has(v[EVENT_FIELD], 0x800) || v.VM_ENTRY_EXCEPTION_ERROR_CODE <= 0xffff,
    must: 'Bits 31:16 of VM_ENTRY_EXCEPTION_ERROR_CODE must be 0 when an error code is delivered',
  }),
  check({
    id: 'controls.entry.event.instructionLength',
    sdm: 'entryControlChecks',
    fields: [EVENT_FIELD, 'VM_ENTRY_INSTRUCTION_LENGTH'],
    holds: (v) => {
      const type = typeOf(v[EVENT_FIELD]);
      if (!isValid(v[EVENT_FIELD]) || type < TYPE.firstSoftware || type > TYPE.lastSoftware) return true;
      const length = v.VM_ENTRY_INSTRUCTION_LENGTH;
      return length <= 15 && length >= (MISC.injectLengthZero ? 0 : 1);
    },
    must: 'VM_ENTRY_INSTRUCTION_LENGTH must be 1 to 15 for a software interrupt or software exception',
  }),
];

const ENTRY: readonly EntryCheck[] = [
  reserved('controls.entry.reserved', ENTRY_FIELD, 'entryControlChecks'),
  ...EVENT_CHECKS,
  msrList('controls.entry.msrLoad', 'VM_ENTRY_MSR_LOAD', 'entryControlChecks'),
];

/** Whether the VM-entry controls ask for a guest in IA-32e mode. */
export const isLongGuest = (entryControls: number): boolean => has(entryControls, ENTRY_CONTROL.IA_32E_MODE_GUEST);

export const ENTRY_CHECKS_CONTROLS: readonly EntryCheck[] = [...EXECUTION, ...APIC, ...EPT, ...EXIT, ...ENTRY];
