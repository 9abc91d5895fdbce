/**
 * VMX aborts: VM exits that cannot be completed (SDM Vol. 3C, "VMX Aborts"). Of the manual's reasons two do not arise
 * here: a corrupted VMCS (3), as its data are in the processor, and a machine check (5).
 */

import { ACTIVITY } from '../state/layout.ts';
import { VMCS_REGION } from './fields.ts';
import type { VmxAbort } from './records.ts';
import type { VmxUnit } from './unit.ts';
import { wordOf } from './vmcs.ts';

/** VMX-abort indicators, with what went wrong. */
export const VMX_ABORT = {
  savingGuestMsrs: [1, 'a guest MSR could not be saved'],
  hostPdptes: [2, 'the host’s PDPTEs at HOST_CR3 are not valid'],
  loadingHostMsrs: [4, 'a host MSR could not be loaded'],
  hostNot64Bit: [6, 'the processor was in IA-32e mode, and “host address-space size” is 0'],
} as const;

/**
 * Writes the indicator into the VMCS region and puts the processor into a shutdown that nothing but a reset ends.
 * @param details what exactly failed, as a sentence
 */
export function abortVmx(unit: VmxUnit, reason: keyof typeof VMX_ABORT, details?: string): void {
  const { state, vmcs, cpu } = unit;
  const [indicator, what] = VMX_ABORT[reason];
  cpu.mmu.physical.write(Number(vmcs.pointer) + VMCS_REGION.abort, 4, indicator);
  state.u32[wordOf(VMCS_REGION.abort)] = indicator;
  state.set32('nonRoot', 0);
  state.set32('activity', ACTIVITY.vmxAbort);
  state.set32('attention', 1);
  const abort: VmxAbort = { indicator, vmcs: vmcs.pointer, explanation: details ? `${what}: ${details}` : what };
  unit.callbacks.onAbort(abort);
}
