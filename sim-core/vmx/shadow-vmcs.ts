/** VMCS shadowing: VMREAD and VMWRITE of a guest (SDM Vol. 3C, "VMREAD" and "VMWRITE"). */

import { SECONDARY } from './controls.ts';
import { secondaryControls } from './exit.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import type { VmxUnit } from './unit.ts';
import { NO_VMCS } from './vmcs.ts';

/** Fields by their offset, wherever they are. */
export interface FieldStore {
  get64(offset: number): bigint;
  setHalves(offset: number, low: number, high: number): void;
}

const BITMAPPED = 0x7fffn;

/**
 * Why VMREAD or VMWRITE in the guest causes a VM exit, in words; undefined when it uses the shadow VMCS.
 * @param encoding the whole operand
 */
export function shadowExitCause(
  { vmcs, cpu }: VmxUnit,
  encoding: bigint,
  bitmap: 'VMREAD_BITMAP_ADDRESS' | 'VMWRITE_BITMAP_ADDRESS',
): string | undefined {
  if ((secondaryControls(vmcs) & SECONDARY.VMCS_SHADOWING) === 0) return '“VMCS shadowing” is 0';
  if ((encoding & ~BITMAPPED) !== 0n) return `the operand 0x${encoding.toString(16)} sets bits above 14`;
  const address = vmcs.get64(F[bitmap]);
  const bit = Number(encoding);
  const byte = cpu.mmu.physical.read(Number(address) + (bit >>> 3), 1);
  if (((byte >>> (bit & 7)) & 1) === 0) return undefined;
  return `bit ${bit} of the bitmap at ${bitmap} (0x${address.toString(16)}) is 1`;
}

/** What VMREAD and VMWRITE work on in the world that runs; undefined when there is no VMCS. */
export function fieldStore({ vmcs, cpu, state }: VmxUnit): FieldStore | undefined {
  if (state.get32('nonRoot') === 0) return vmcs.exists ? vmcs : undefined;
  const pointer = vmcs.get64(F.VMCS_LINK_POINTER);
  if (pointer === NO_VMCS) return undefined;
  const { physical } = cpu.mmu;
  const region = Number(pointer);
  return {
    get64: (offset) => physical.read64(region + offset),
    setHalves: (offset, low, high) => {
      physical.write(region + offset, 4, low);
      physical.write(region + offset + 4, 4, high);
    },
  };
}
