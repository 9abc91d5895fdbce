/** EPT violations that become virtualization exceptions (SDM Vol. 3C, "Virtualization Exceptions"). */

import { type EptViolation, type ExceptionFault, exception, VECTOR } from '../mmu/fault.ts';
import { CR0 } from '../state/control-bits.ts';
import { SECONDARY } from './controls.ts';
import { secondaryControls } from './exit.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import type { VmxUnit } from './unit.ts';

/** The virtualization-exception information area: offsets of its parts. */
const AREA = { reason: 0, busy: 4, qualification: 8, linear: 16, guestPhysical: 24, eptpIndex: 32 } as const;
const BUSY = 0xffff_ffff;

/**
 * The #VE that the violation becomes, with its information area filled; undefined when it causes a VM exit. Not asked
 * for violations during event delivery, which always exit.
 */
export function convertViolation({ vmcs, state, cpu }: VmxUnit, fault: EptViolation): ExceptionFault | undefined {
  if ((secondaryControls(vmcs) & SECONDARY['EPT_VIOLATION_#VE']) === 0 || fault.suppressesException) return undefined;
  const { physical } = cpu.mmu;
  const area = Number(vmcs.get64(F.VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS));
  if ((state.low('cr0') & CR0.pe) === 0 || physical.read(area + AREA.busy, 4) !== 0) return undefined;
  physical.write(area + AREA.reason, 4, EXIT.EPT_VIOLATION);
  physical.write(area + AREA.busy, 4, BUSY);
  physical.write64(area + AREA.qualification, fault.qualification);
  physical.write64(area + AREA.linear, fault.guestLinearAddress ?? 0n);
  physical.write64(area + AREA.guestPhysical, fault.guestPhysicalAddress);
  physical.write(area + AREA.eptpIndex, 2, vmcs.get32(F.EPTP_INDEX));
  return exception(VECTOR.ve);
}
