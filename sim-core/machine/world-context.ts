/** By what the addresses of a world are translated that does not run: its VMCS tells. */

import type { TranslationContext } from '../mmu/translation.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PRIMARY, SECONDARY } from '../vmx/controls.ts';
import { ENCODING, type FieldName } from '../vmx/fields.ts';
import type { VmcsAccess } from '../vmx/known-vmcses.ts';
import type { World } from './api.ts';

const EFER_LME_LMA = 0x500n;

/** Fields of a VMCS. */
export type VmcsFields = Pick<VmcsAccess, 'read'>;

export const hasBit = (vmcs: VmcsFields, name: FieldName, mask: number): boolean =>
  ((vmcs.read(ENCODING[name]) ?? 0n) & BigInt(mask)) !== 0n;

export const hasSecondary = (vmcs: VmcsFields, mask: number): boolean =>
  hasBit(vmcs, 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', PRIMARY.ACTIVATE_SECONDARY_CONTROLS) &&
  hasBit(vmcs, 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', mask);

/** EPTP of a VMCS's guest; 0 when its controls do not enable EPT. */
export const eptpOf = (vmcs: VmcsFields): bigint =>
  hasSecondary(vmcs, SECONDARY.ENABLE_EPT) ? (vmcs.read(ENCODING.EPT_POINTER) ?? 0n) : 0n;

/** Whether the guest is in IA-32e mode. */
export const isLongGuest = (vmcs: VmcsFields): boolean =>
  hasBit(vmcs, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.IA_32E_MODE_GUEST);

/** @param running IA32_EFER of the world that runs: what a VMCS without one in it leaves */
export function suspendedContext(vmcs: VmcsFields, world: World, running: bigint): TranslationContext {
  const field = (name: FieldName): bigint => vmcs.read(ENCODING[name]) ?? 0n;
  const kept = (long: boolean): bigint => (long ? running | EFER_LME_LMA : running & ~EFER_LME_LMA);
  if (world === 'vmm') {
    const efer = hasBit(vmcs, 'PRIMARY_VM_EXIT_CONTROLS', EXIT_CONTROL.LOAD_IA32_EFER)
      ? field('HOST_IA32_EFER')
      : kept(hasBit(vmcs, 'PRIMARY_VM_EXIT_CONTROLS', EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE));
    const [cr0, cr3, cr4] = [field('HOST_CR0'), field('HOST_CR3'), field('HOST_CR4')];
    return { cr0, cr3, cr4, efer, pdpte: [], eptp: 0n, cpl: 0 };
  }
  const efer = hasBit(vmcs, 'VM_ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_IA32_EFER)
    ? field('GUEST_IA32_EFER')
    : kept(isLongGuest(vmcs));
  const pdpte = [field('GUEST_PDPTE0'), field('GUEST_PDPTE1'), field('GUEST_PDPTE2'), field('GUEST_PDPTE3')];
  const cpl = Number((field('GUEST_SS_ACCESS_RIGHTS') >> 5n) & 3n);
  const [cr0, cr3, cr4] = [field('GUEST_CR0'), field('GUEST_CR3'), field('GUEST_CR4')];
  return { cr0, cr3, cr4, efer, pdpte, eptp: eptpOf(vmcs), cpl };
}
