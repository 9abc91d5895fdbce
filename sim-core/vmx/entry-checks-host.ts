/** Checks on the host-state area and on address-space size (SDM Vol. 3C): a failure is VMfailValid(8). */

import type { SdmKey } from '../sdm.ts';
import { ENTRY_CONTROL, EXIT_CONTROL } from './controls.ts';
import {
  CR4_BITS,
  checksOf,
  EFER_BITS,
  type EntryCheck,
  fitsPhysical,
  has,
  hex,
  isCanonical,
  loadedMsrChecks,
} from './entry-check.ts';

const check = checksOf('host');
const EXIT_FIELD = 'PRIMARY_VM_EXIT_CONTROLS';
const ENTRY_FIELD = 'VM_ENTRY_CONTROLS';
const MSRS = loadedMsrChecks('host', 'hostRegisterChecks', EXIT_FIELD, EXIT_CONTROL);
const isHost64 = (exitControls: number): boolean => has(exitControls, EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE);

/** Which bits of a control register break the fixed settings, in words. */
export function wrongFixedBits(
  name: string,
  value: bigint,
  fixed: { readonly mustBeOne: bigint; readonly mayBeOne: bigint },
): string {
  const missing = fixed.mustBeOne & ~value;
  const forbidden = value & ~fixed.mayBeOne;
  const parts = [missing && `must set ${hex(missing)}`, forbidden && `must not set ${hex(forbidden)}`].filter(Boolean);
  return `${name} ${parts.join(' and ') || 'must respect the bits that are fixed in VMX operation'}`;
}

type CanonicalField = `HOST_IA32_SYSENTER_${'ESP' | 'EIP'}` | `HOST_${'FS' | 'GS' | 'TR' | 'GDTR' | 'IDTR'}_BASE`;
const canonical = (id: string, field: CanonicalField, sdm: SdmKey): EntryCheck =>
  check({
    id,
    sdm,
    fields: [field],
    holds: (v, facts) => isCanonical(v[field], facts.linearAddressBits),
    must: `${field} must be a canonical address`,
  });

const REGISTERS: readonly EntryCheck[] = [
  check({
    id: 'host.cr0',
    sdm: 'hostRegisterChecks',
    fields: ['HOST_CR0'],
    holds: (v, { cr0 }) => (~v.HOST_CR0 & cr0.mustBeOne) === 0n && (v.HOST_CR0 & ~cr0.mayBeOne) === 0n,
    must: (v, { cr0 }) => wrongFixedBits('HOST_CR0', v.HOST_CR0, cr0),
  }),
  check({
    id: 'host.cr4',
    sdm: 'hostRegisterChecks',
    fields: ['HOST_CR4'],
    holds: (v, { cr4 }) => (~v.HOST_CR4 & cr4.mustBeOne) === 0n && (v.HOST_CR4 & ~cr4.mayBeOne) === 0n,
    must: (v, { cr4 }) => wrongFixedBits('HOST_CR4', v.HOST_CR4, cr4),
  }),
  check({
    id: 'host.cr3',
    sdm: 'hostRegisterChecks',
    fields: ['HOST_CR3'],
    holds: (v, facts) => fitsPhysical(v.HOST_CR3, facts),
    must: (_, facts) => `HOST_CR3 must not set bits at or above ${facts.physicalAddressBits}`,
  }),
  canonical('host.sysenterEsp', 'HOST_IA32_SYSENTER_ESP', 'hostRegisterChecks'),
  canonical('host.sysenterEip', 'HOST_IA32_SYSENTER_EIP', 'hostRegisterChecks'),
  MSRS.perfGlobalCtrl,
  MSRS.pat,
  MSRS.eferReserved,
  check({
    id: 'host.efer.mode',
    sdm: 'hostRegisterChecks',
    fields: [EXIT_FIELD, 'HOST_IA32_EFER'],
    holds: (v) => {
      if (!has(v[EXIT_FIELD], EXIT_CONTROL.LOAD_IA32_EFER)) return true;
      const both = EFER_BITS.lma | EFER_BITS.lme;
      return (v.HOST_IA32_EFER & both) === (isHost64(v[EXIT_FIELD]) ? both : 0n);
    },
    must: 'With “load IA32_EFER”, LMA and LME of HOST_IA32_EFER must equal “host address-space size”',
  }),
];

const HOST_SEGMENTS = ['CS', 'SS', 'DS', 'ES', 'FS', 'GS', 'TR'] as const;
const SEGMENTS: readonly EntryCheck[] = [
  ...HOST_SEGMENTS.map((segment) => {
    const field = `HOST_${segment}_SELECTOR` as const;
    return check({
      id: `host.${segment.toLowerCase()}.selector`,
      sdm: 'hostSegmentChecks',
      fields: [field],
      holds: (v) => !has(v[field], 7),
      must: `RPL and TI (bits 2:0) of ${field} must be 0`,
    });
  }),
  ...(['CS', 'TR'] as const).map((segment) => {
    const field = `HOST_${segment}_SELECTOR` as const;
    return check({
      id: `host.${segment.toLowerCase()}.null`,
      sdm: 'hostSegmentChecks',
      fields: [field],
      holds: (v) => v[field] !== 0,
      must: `${field} must not be 0`,
    });
  }),
  check({
    id: 'host.ss.null',
    sdm: 'hostSegmentChecks',
    fields: [EXIT_FIELD, 'HOST_SS_SELECTOR'],
    holds: (v) => isHost64(v[EXIT_FIELD]) || v.HOST_SS_SELECTOR !== 0,
    must: 'HOST_SS_SELECTOR must not be 0 when “host address-space size” is 0',
  }),
  ...(['FS', 'GS', 'GDTR', 'IDTR', 'TR'] as const).map((segment) =>
    canonical(`host.${segment.toLowerCase()}.base`, `HOST_${segment}_BASE`, 'hostSegmentChecks'),
  ),
];

const ADDRESS_SPACE: readonly EntryCheck[] = [
  check({
    id: 'host.addressSpace.current',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD],
    readsOutside: true,
    holds: (v, facts) => isHost64(v[EXIT_FIELD]) === facts.longModeActive(),
    must: (_, facts) => `“Host address-space size” must be ${facts.longModeActive() ? 1 : 0}, as IA32_EFER.LMA is now`,
  }),
  check({
    id: 'host.addressSpace.guest',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD, ENTRY_FIELD],
    holds: (v) => isHost64(v[EXIT_FIELD]) || !has(v[ENTRY_FIELD], ENTRY_CONTROL.IA_32E_MODE_GUEST),
    must: '“IA-32e mode guest” must be 0 when “host address-space size” is 0',
  }),
  check({
    id: 'host.addressSpace.pcide',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD, 'HOST_CR4'],
    holds: (v) => isHost64(v[EXIT_FIELD]) || (v.HOST_CR4 & CR4_BITS.pcide) === 0n,
    must: 'HOST_CR4.PCIDE must be 0 when “host address-space size” is 0',
  }),
  check({
    id: 'host.addressSpace.rip32',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD, 'HOST_RIP'],
    holds: (v) => isHost64(v[EXIT_FIELD]) || v.HOST_RIP >> 32n === 0n,
    must: 'HOST_RIP bits 63:32 must be 0 when “host address-space size” is 0',
  }),
  check({
    id: 'host.addressSpace.pae',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD, 'HOST_CR4'],
    holds: (v) => !isHost64(v[EXIT_FIELD]) || (v.HOST_CR4 & CR4_BITS.pae) !== 0n,
    must: 'HOST_CR4.PAE must be 1 when “host address-space size” is 1',
  }),
  check({
    id: 'host.addressSpace.rip64',
    sdm: 'addressSpaceChecks',
    fields: [EXIT_FIELD, 'HOST_RIP', 'HOST_CR4'],
    holds: (v) => {
      const width = (v.HOST_CR4 & CR4_BITS.la57) !== 0n ? 57 : 48;
      return !isHost64(v[EXIT_FIELD]) || isCanonical(v.HOST_RIP, width);
    },
    must: 'HOST_RIP must be a canonical address when “host address-space size” is 1',
  }),
];

export const ENTRY_CHECKS_HOST: readonly EntryCheck[] = [...REGISTERS, ...SEGMENTS, ...ADDRESS_SPACE];
