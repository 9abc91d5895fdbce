/** Checks on the guest-state area (SDM Vol. 3C, "Checks on the Guest State Area"): a failure is VM exit 33. */

import { DEBUGCTL_WRITABLE } from '../cpu/msrs.ts';
import { MISC, VMCS_REVISION } from './capabilities.ts';
import { ENTRY_CONTROL, PIN, SECONDARY } from './controls.ts';
import {
  CR0_BITS,
  CR4_BITS,
  checksOf,
  EFER_BITS,
  type EntryCheck,
  fitsPhysical,
  has,
  hex,
  isAligned,
  isCanonical,
  loadedMsrChecks,
  SECONDARY_FIELDS,
  secondaryOf,
} from './entry-check.ts';
import { isLongGuest } from './entry-checks-controls.ts';
import { wrongFixedBits } from './entry-checks-host.ts';
import { ENTRY_CHECKS_SEGMENTS } from './entry-checks-segments.ts';

const check = checksOf('guest');
const ENTRY_FIELD = 'VM_ENTRY_CONTROLS';
const MSRS = loadedMsrChecks('guest', 'guestRegisterChecks', ENTRY_FIELD, ENTRY_CONTROL);
const EVENT_FIELD = 'VM_ENTRY_INTERRUPTION_INFORMATION';
/** RFLAGS bits 63:22, 15, 5 and 3. */
const RFLAGS_RESERVED = 0xffff_ffff_ffc0_8028n;
const RFLAGS = { tf: 0x100n, if: 0x200n, vm: 0x2_0000n } as const;
const QUALIFICATION = { pdpte: 2, linkPointer: 4 } as const;

const isUnrestricted = (secondary: number): boolean => has(secondary, SECONDARY.UNRESTRICTED_GUEST);

const canonical = (id: string, field: 'GUEST_IA32_SYSENTER_ESP' | 'GUEST_IA32_SYSENTER_EIP'): EntryCheck =>
  check({
    id,
    sdm: 'guestRegisterChecks',
    fields: [field],
    holds: (v, facts) => isCanonical(v[field], facts.linearAddressBits),
    must: `${field} must be a canonical address`,
  });

const CONTROL_REGISTERS: readonly EntryCheck[] = [
  check({
    id: 'guest.cr0',
    sdm: 'guestRegisterChecks',
    fields: [...SECONDARY_FIELDS, 'GUEST_CR0'],
    holds: (v, { cr0 }) => {
      const optional = isUnrestricted(secondaryOf(v)) ? CR0_BITS.pe | CR0_BITS.pg : 0n;
      return (~v.GUEST_CR0 & cr0.mustBeOne & ~optional) === 0n && (v.GUEST_CR0 & ~cr0.mayBeOne) === 0n;
    },
    must: (v, { cr0 }) =>
      wrongFixedBits('GUEST_CR0', v.GUEST_CR0, cr0) + (isUnrestricted(secondaryOf(v)) ? ' (PE and PG are free)' : ''),
  }),
  check({
    id: 'guest.cr0.pagingNeedsProtection',
    sdm: 'guestRegisterChecks',
    fields: ['GUEST_CR0'],
    holds: (v) => (v.GUEST_CR0 & CR0_BITS.pg) === 0n || (v.GUEST_CR0 & CR0_BITS.pe) !== 0n,
    must: 'GUEST_CR0.PE must be 1 when GUEST_CR0.PG is 1',
  }),
  check({
    id: 'guest.cr4',
    sdm: 'guestRegisterChecks',
    fields: ['GUEST_CR4'],
    holds: (v, { cr4 }) => (~v.GUEST_CR4 & cr4.mustBeOne) === 0n && (v.GUEST_CR4 & ~cr4.mayBeOne) === 0n,
    must: (v, { cr4 }) => wrongFixedBits('GUEST_CR4', v.GUEST_CR4, cr4),
  }),
  check({
    id: 'guest.debugctl',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_IA32_DEBUGCTL'],
    holds: (v) =>
      !has(v[ENTRY_FIELD], ENTRY_CONTROL.LOAD_DEBUG_CONTROLS) || (v.GUEST_IA32_DEBUGCTL & ~DEBUGCTL_WRITABLE) === 0n,
    must: `With “load debug controls”, GUEST_IA32_DEBUGCTL must set only bits of ${hex(DEBUGCTL_WRITABLE)}`,
  }),
  check({
    id: 'guest.longMode.paging',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_CR0'],
    holds: (v) => !isLongGuest(v[ENTRY_FIELD]) || (v.GUEST_CR0 & CR0_BITS.pg) !== 0n,
    must: 'With “IA-32e mode guest”, GUEST_CR0.PG must be 1',
  }),
  check({
    id: 'guest.longMode.pae',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_CR4'],
    holds: (v) => !isLongGuest(v[ENTRY_FIELD]) || (v.GUEST_CR4 & CR4_BITS.pae) !== 0n,
    must: 'With “IA-32e mode guest”, GUEST_CR4.PAE must be 1',
  }),
  check({
    id: 'guest.cr4.pcide',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_CR4'],
    holds: (v) => isLongGuest(v[ENTRY_FIELD]) || (v.GUEST_CR4 & CR4_BITS.pcide) === 0n,
    must: 'GUEST_CR4.PCIDE must be 0 when “IA-32e mode guest” is 0',
  }),
  check({
    id: 'guest.cr3',
    sdm: 'guestRegisterChecks',
    fields: ['GUEST_CR3'],
    holds: (v, facts) => fitsPhysical(v.GUEST_CR3, facts),
    must: (_, facts) => `GUEST_CR3 must not set bits at or above ${facts.physicalAddressBits}`,
  }),
  check({
    id: 'guest.dr7',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_DR7'],
    holds: (v) => !has(v[ENTRY_FIELD], ENTRY_CONTROL.LOAD_DEBUG_CONTROLS) || v.GUEST_DR7 >> 32n === 0n,
    must: 'With “load debug controls”, GUEST_DR7 bits 63:32 must be 0',
  }),
  MSRS.perfGlobalCtrl,
  canonical('guest.sysenterEsp', 'GUEST_IA32_SYSENTER_ESP'),
  canonical('guest.sysenterEip', 'GUEST_IA32_SYSENTER_EIP'),
  MSRS.pat,
  MSRS.eferReserved,
  check({
    id: 'guest.efer.lma',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_IA32_EFER'],
    holds: (v) =>
      !has(v[ENTRY_FIELD], ENTRY_CONTROL.LOAD_IA32_EFER) ||
      ((v.GUEST_IA32_EFER & EFER_BITS.lma) !== 0n) === isLongGuest(v[ENTRY_FIELD]),
    must: 'With “load IA32_EFER”, GUEST_IA32_EFER.LMA must equal “IA-32e mode guest”',
  }),
  check({
    id: 'guest.efer.lme',
    sdm: 'guestRegisterChecks',
    fields: [ENTRY_FIELD, 'GUEST_IA32_EFER', 'GUEST_CR0'],
    holds: (v) =>
      !has(v[ENTRY_FIELD], ENTRY_CONTROL.LOAD_IA32_EFER) ||
      (v.GUEST_CR0 & CR0_BITS.pg) === 0n ||
      ((v.GUEST_IA32_EFER & EFER_BITS.lma) !== 0n) === ((v.GUEST_IA32_EFER & EFER_BITS.lme) !== 0n),
    must: 'With “load IA32_EFER” and GUEST_CR0.PG, LMA and LME of GUEST_IA32_EFER must be equal',
  }),
];

const TABLES: readonly EntryCheck[] = (['GDTR', 'IDTR'] as const).flatMap((table) => {
  const base = `GUEST_${table}_BASE` as const;
  const limit = `GUEST_${table}_LIMIT` as const;
  return [
    check({
      id: `guest.${table.toLowerCase()}.base`,
      sdm: 'guestTableChecks',
      fields: [base],
      holds: (v, facts) => isCanonical(v[base], facts.linearAddressBits),
      must: `${base} must be a canonical address`,
    }),
    check({
      id: `guest.${table.toLowerCase()}.limit`,
      sdm: 'guestTableChecks',
      fields: [limit],
      holds: (v) => v[limit] <= 0xffff,
      must: `Bits 31:16 of ${limit} must be 0`,
    }),
  ];
});

const isExternalInterrupt = (event: number): boolean => event >>> 31 === 1 && ((event >>> 8) & 7) === 0;
const isNmi = (event: number): boolean => event >>> 31 === 1 && ((event >>> 8) & 7) === 2;
const is64Bit = (v: { readonly VM_ENTRY_CONTROLS: number; readonly GUEST_CS_ACCESS_RIGHTS: number }): boolean =>
  isLongGuest(v.VM_ENTRY_CONTROLS) && has(v.GUEST_CS_ACCESS_RIGHTS, 0x2000);

const RIP_AND_RFLAGS: readonly EntryCheck[] = [
  check({
    id: 'guest.rip.high',
    sdm: 'guestRipChecks',
    fields: [ENTRY_FIELD, 'GUEST_CS_ACCESS_RIGHTS', 'GUEST_RIP'],
    holds: (v) => is64Bit(v) || v.GUEST_RIP >> 32n === 0n,
    must: 'GUEST_RIP bits 63:32 must be 0 unless “IA-32e mode guest” and CS.L are 1',
  }),
  check({
    id: 'guest.rip.width',
    sdm: 'guestRipChecks',
    fields: [ENTRY_FIELD, 'GUEST_CS_ACCESS_RIGHTS', 'GUEST_RIP'],
    // Bits 63:N equal each other; bit N − 1 may differ, so that RIP need not be canonical.
    holds: (v, facts) => !is64Bit(v) || isCanonical(v.GUEST_RIP, facts.linearAddressBits + 1),
    must: (_, facts) => `GUEST_RIP bits 63:${facts.linearAddressBits} must be equal in 64-bit mode`,
  }),
  check({
    id: 'guest.rflags.reserved',
    sdm: 'guestRipChecks',
    fields: ['GUEST_RFLAGS'],
    holds: (v) => (v.GUEST_RFLAGS & RFLAGS_RESERVED) === 0n && (v.GUEST_RFLAGS & 2n) !== 0n,
    must: 'GUEST_RFLAGS bit 1 must be 1 and bits 63:22, 15, 5 and 3 must be 0',
  }),
  check({
    id: 'guest.rflags.vm',
    sdm: 'guestRipChecks',
    fields: [ENTRY_FIELD, 'GUEST_CR0', 'GUEST_RFLAGS'],
    holds: (v) =>
      (v.GUEST_RFLAGS & RFLAGS.vm) === 0n || (!isLongGuest(v[ENTRY_FIELD]) && (v.GUEST_CR0 & CR0_BITS.pe) !== 0n),
    must: 'GUEST_RFLAGS.VM must be 0 when “IA-32e mode guest” is 1 or GUEST_CR0.PE is 0',
  }),
  check({
    id: 'guest.rflags.if',
    sdm: 'guestRipChecks',
    fields: [EVENT_FIELD, 'GUEST_RFLAGS'],
    holds: (v) => !isExternalInterrupt(v[EVENT_FIELD]) || (v.GUEST_RFLAGS & RFLAGS.if) !== 0n,
    must: 'GUEST_RFLAGS.IF must be 1 when VM entry injects an external interrupt',
  }),
];

/** Events that VM entry may inject into a guest in HLT or shutdown (SDM Vol. 3C 27.3.1.5, "Activity state"). */
function injectsWakingEvent(activity: number, event: number): boolean {
  if (event >>> 31 === 0 || activity === 0) return true;
  const type = (event >>> 8) & 7;
  const vector = event & 0xff;
  if (activity === 1) return type === 0 || type === 2 || type === 7 || (type === 3 && (vector === 1 || vector === 18));
  return activity === 2 && (type === 2 || (type === 3 && vector === 18));
}

const ACTIVITY: readonly EntryCheck[] = [
  check({
    id: 'guest.activity.value',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_ACTIVITY_STATE'],
    holds: (v) => v.GUEST_ACTIVITY_STATE === 0 || MISC.activityStates.some((state) => state === v.GUEST_ACTIVITY_STATE),
    must: `GUEST_ACTIVITY_STATE must be 0 (active) or one that IA32_VMX_MISC reports: ${MISC.activityStates.join(', ')}`,
  }),
  check({
    id: 'guest.activity.hltCpl',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_ACTIVITY_STATE', 'GUEST_SS_ACCESS_RIGHTS'],
    holds: (v) => v.GUEST_ACTIVITY_STATE !== 1 || !has(v.GUEST_SS_ACCESS_RIGHTS, 0x60),
    must: 'GUEST_ACTIVITY_STATE must not be HLT when the DPL of SS is not 0',
  }),
  check({
    id: 'guest.activity.blocking',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_ACTIVITY_STATE', 'GUEST_INTERRUPTIBILITY_STATE'],
    holds: (v) => v.GUEST_ACTIVITY_STATE === 0 || !has(v.GUEST_INTERRUPTIBILITY_STATE, 3),
    must: 'GUEST_ACTIVITY_STATE must be active while STI or MOV SS blocks events',
  }),
  check({
    id: 'guest.activity.event',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_ACTIVITY_STATE', EVENT_FIELD],
    holds: (v) => injectsWakingEvent(v.GUEST_ACTIVITY_STATE, v[EVENT_FIELD]),
    must:
      'The injected event must fit GUEST_ACTIVITY_STATE: in HLT only external interrupts, NMIs, #DB, #MC and MTF, ' +
      'in shutdown only NMIs and #MC',
  }),
];

const INTERRUPTIBILITY: readonly EntryCheck[] = [
  check({
    id: 'guest.interruptibility.reserved',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE'],
    holds: (v) => v.GUEST_INTERRUPTIBILITY_STATE >>> 5 === 0,
    must: 'GUEST_INTERRUPTIBILITY_STATE bits 31:5 must be 0',
  }),
  check({
    id: 'guest.interruptibility.both',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE'],
    holds: (v) => (v.GUEST_INTERRUPTIBILITY_STATE & 3) !== 3,
    must: 'GUEST_INTERRUPTIBILITY_STATE must not have both blocking by STI and blocking by MOV SS',
  }),
  check({
    id: 'guest.interruptibility.sti',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE', 'GUEST_RFLAGS'],
    holds: (v) => !has(v.GUEST_INTERRUPTIBILITY_STATE, 1) || (v.GUEST_RFLAGS & RFLAGS.if) !== 0n,
    must: 'Blocking by STI must be 0 when GUEST_RFLAGS.IF is 0',
  }),
  check({
    id: 'guest.interruptibility.externalInterrupt',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE', EVENT_FIELD],
    holds: (v) => !isExternalInterrupt(v[EVENT_FIELD]) || !has(v.GUEST_INTERRUPTIBILITY_STATE, 3),
    must: 'Blocking by STI and by MOV SS must be 0 when VM entry injects an external interrupt',
  }),
  check({
    id: 'guest.interruptibility.nmiMovSs',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE', EVENT_FIELD],
    holds: (v) => !isNmi(v[EVENT_FIELD]) || !has(v.GUEST_INTERRUPTIBILITY_STATE, 2),
    must: 'Blocking by MOV SS must be 0 when VM entry injects an NMI',
  }),
  check({
    id: 'guest.interruptibility.smi',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE'],
    holds: (v) => !has(v.GUEST_INTERRUPTIBILITY_STATE, 4),
    must: 'Blocking by SMI must be 0 outside system-management mode',
  }),
  check({
    id: 'guest.interruptibility.virtualNmi',
    sdm: 'guestNonRegisterChecks',
    fields: ['PIN_BASED_VM_EXECUTION_CONTROLS', 'GUEST_INTERRUPTIBILITY_STATE', EVENT_FIELD],
    holds: (v) =>
      !has(v.PIN_BASED_VM_EXECUTION_CONTROLS, PIN.VIRTUAL_NMIS) ||
      !isNmi(v[EVENT_FIELD]) ||
      !has(v.GUEST_INTERRUPTIBILITY_STATE, 8),
    must: 'With “virtual NMIs”, blocking by NMI must be 0 when VM entry injects an NMI',
  }),
  check({
    id: 'guest.interruptibility.enclave',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_INTERRUPTIBILITY_STATE'],
    holds: (v) => !has(v.GUEST_INTERRUPTIBILITY_STATE, 16),
    must: 'Enclave interruption must be 0 on a processor without SGX',
  }),
];

/** A single-step trap must be pending exactly when TF asks for one, while events are held back. */
const STEP_FIELDS = [
  'GUEST_PENDING_DEBUG_EXCEPTIONS',
  'GUEST_INTERRUPTIBILITY_STATE',
  'GUEST_ACTIVITY_STATE',
  'GUEST_RFLAGS',
  'GUEST_IA32_DEBUGCTL',
] as const;
const PENDING_STEP = 0x4000n;
/** Bits 11:4, 13, 15 and 63:16. */
const PENDING_RESERVED = 0xffff_ffff_ffff_aff0n;
const BRANCH_STEP = 2n;

const NON_REGISTER: readonly EntryCheck[] = [
  ...ACTIVITY,
  ...INTERRUPTIBILITY,
  check({
    id: 'guest.pendingDebug.reserved',
    sdm: 'guestNonRegisterChecks',
    fields: ['GUEST_PENDING_DEBUG_EXCEPTIONS'],
    holds: (v) => (v.GUEST_PENDING_DEBUG_EXCEPTIONS & PENDING_RESERVED) === 0n,
    must: 'GUEST_PENDING_DEBUG_EXCEPTIONS bits 63:15, 13 and 11:4 must be 0',
  }),
  check({
    id: 'guest.pendingDebug.step',
    sdm: 'guestNonRegisterChecks',
    fields: STEP_FIELDS,
    holds: (v) => {
      const heldBack = has(v.GUEST_INTERRUPTIBILITY_STATE, 3) || v.GUEST_ACTIVITY_STATE === 1;
      if (!heldBack) return true;
      const asked = (v.GUEST_RFLAGS & RFLAGS.tf) !== 0n && (v.GUEST_IA32_DEBUGCTL & BRANCH_STEP) === 0n;
      return ((v.GUEST_PENDING_DEBUG_EXCEPTIONS & PENDING_STEP) !== 0n) === asked;
    },
    must:
      'While STI, MOV SS or HLT holds events back, GUEST_PENDING_DEBUG_EXCEPTIONS.BS must be 1 exactly when ' +
      'RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0',
  }),
];

const NO_LINK = 0xffff_ffff_ffff_ffffn;
const linkCheck = (
  id: string,
  readsOutside: boolean,
  must: string,
  holds: (pointer: bigint, facts: Parameters<EntryCheck['holds']>[1]) => boolean,
): EntryCheck =>
  check({
    id,
    sdm: 'guestNonRegisterChecks',
    fields: ['VMCS_LINK_POINTER'],
    qualification: QUALIFICATION.linkPointer,
    readsOutside,
    must,
    holds: (v, facts) => v.VMCS_LINK_POINTER === NO_LINK || holds(v.VMCS_LINK_POINTER, facts),
  });
/** What the region at the link pointer starts with. */
const linkedIdentifier = (secondary: number): number =>
  has(secondary, SECONDARY.VMCS_SHADOWING) ? VMCS_REVISION + 2 ** 31 : VMCS_REVISION;
const LINK_POINTER: readonly EntryCheck[] = [
  linkCheck(
    'guest.linkPointer.address',
    false,
    'VMCS_LINK_POINTER must be all ones, or a multiple of 4096 within the physical-address width',
    (pointer, facts) => isAligned(pointer, 12) && fitsPhysical(pointer, facts),
  ),
  check({
    id: 'guest.linkPointer.revision',
    sdm: 'guestNonRegisterChecks',
    fields: [...SECONDARY_FIELDS, 'VMCS_LINK_POINTER'],
    qualification: QUALIFICATION.linkPointer,
    readsOutside: true,
    holds: (v, facts) => {
      const pointer = v.VMCS_LINK_POINTER;
      if (pointer === NO_LINK || !isAligned(pointer, 12) || !fitsPhysical(pointer, facts)) return true;
      return facts.read32(Number(pointer)) === linkedIdentifier(secondaryOf(v));
    },
    must: (v) =>
      `The 32 bits at VMCS_LINK_POINTER must be ${hex(linkedIdentifier(secondaryOf(v)))}: the VMCS revision ` +
      'identifier, and bit 31 (shadow VMCS) as “VMCS shadowing”',
  }),
  linkCheck(
    'guest.linkPointer.current',
    true,
    'VMCS_LINK_POINTER must not be the current VMCS',
    (pointer, facts) => pointer !== facts.currentVmcs(),
  ),
];

const PDPTE_FIELDS = ['GUEST_PDPTE0', 'GUEST_PDPTE1', 'GUEST_PDPTE2', 'GUEST_PDPTE3'] as const;
const MODE_FIELDS = [ENTRY_FIELD, ...SECONDARY_FIELDS, 'GUEST_CR0', 'GUEST_CR4'] as const;
/** A present PDPTE may set bits 2:0 (P, PWT, PCD), 11:9 (ignored) and the address. */
const isPdpte = (entry: bigint, physicalAddressBits: number): boolean =>
  (entry & 1n) === 0n || ((entry & 0x1e6n) === 0n && entry >> BigInt(physicalAddressBits) === 0n);
const usesPdptes = (v: {
  readonly VM_ENTRY_CONTROLS: number;
  readonly GUEST_CR0: bigint;
  readonly GUEST_CR4: bigint;
}): boolean =>
  !isLongGuest(v.VM_ENTRY_CONTROLS) && (v.GUEST_CR0 & CR0_BITS.pg) !== 0n && (v.GUEST_CR4 & CR4_BITS.pae) !== 0n;

const PDPTES: readonly EntryCheck[] = [
  check({
    id: 'guest.pdptes.fields',
    sdm: 'guestPdpteChecks',
    fields: [...MODE_FIELDS, ...PDPTE_FIELDS],
    qualification: QUALIFICATION.pdpte,
    holds: (v, facts) =>
      !usesPdptes(v) ||
      !has(secondaryOf(v), SECONDARY.ENABLE_EPT) ||
      PDPTE_FIELDS.every((field) => isPdpte(v[field], facts.physicalAddressBits)),
    must: 'With EPT and PAE paging, GUEST_PDPTE0–3 must not set reserved bits when they are present',
  }),
  check({
    id: 'guest.pdptes.memory',
    sdm: 'guestPdpteChecks',
    fields: [...MODE_FIELDS, 'GUEST_CR3'],
    qualification: QUALIFICATION.pdpte,
    readsOutside: true,
    holds: (v, facts) => {
      if (!usesPdptes(v) || has(secondaryOf(v), SECONDARY.ENABLE_EPT)) return true;
      const table = Number(v.GUEST_CR3 & 0xffff_ffe0n);
      return [0, 8, 16, 24].every((at) => isPdpte(facts.read64(table + at), facts.physicalAddressBits));
    },
    must: 'With PAE paging without EPT, the 4 entries at GUEST_CR3 must not set reserved bits when they are present',
  }),
];

export const ENTRY_CHECKS_GUEST: readonly EntryCheck[] = [
  ...CONTROL_REGISTERS,
  ...ENTRY_CHECKS_SEGMENTS,
  ...TABLES,
  ...RIP_AND_RFLAGS,
  ...NON_REGISTER,
  ...LINK_POINTER,
  ...PDPTES,
];
