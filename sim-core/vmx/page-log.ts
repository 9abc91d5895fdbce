/** Page-modification logging (SDM Vol. 3C, "Page-Modification Logging"). */

import type { VmExitFault } from '../mmu/fault.ts';
import type { PageLog } from '../mmu/walk.ts';
import { SECONDARY } from './controls.ts';
import { secondaryControls } from './exit.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import type { VmxUnit } from './unit.ts';

const ENTRIES = 512;
const FULL: VmExitFault = {
  kind: 'vmExit',
  reason: EXIT.PAGE_MODIFICATION_LOG_FULL,
  qualification: 0n,
  cause: 'PML_INDEX is not 0 to 511: no entry is left in the page-modification log',
};

/** Makes VM entries and VM exits turn the log of the current VMCS on and off. */
export class PageModificationLog implements PageLog {
  private readonly unit: VmxUnit;

  constructor(unit: VmxUnit) {
    this.unit = unit;
  }

  enter(): void {
    const enabled = (secondaryControls(this.unit.vmcs) & SECONDARY.ENABLE_PML) !== 0;
    this.unit.cpu.mmu.pageLog = enabled ? this : undefined;
  }

  leave(): void {
    this.unit.cpu.mmu.pageLog = undefined;
  }

  log(guestPhysical: number): VmExitFault | undefined {
    const { vmcs, cpu } = this.unit;
    const index = vmcs.get32(F.PML_INDEX);
    if (index >= ENTRIES) return FULL;
    const at = Number(vmcs.get64(F.PML_ADDRESS)) + 8 * index;
    cpu.mmu.physical.write64(at, BigInt(guestPhysical - (guestPhysical % 4096)));
    vmcs.set32(F.PML_INDEX, (index - 1) & 0xffff);
    return undefined;
  }
}
