/** Images of the floating-point state in memory, larger than any single access. */

import type { Fault } from '../../mmu/fault.ts';
import { OFFSET } from '../../state/layout.ts';
import type { Cpu } from '../cpu.ts';

/** Bytes accessed at a time: no more than an access may have. */
const UNIT = 16;

const locate = (cpu: Cpu, linear: bigint, size: number, write: boolean): number =>
  cpu.mmu.locate(Number(linear & 0xffff_ffffn), Number((linear >> 32n) & 0xffff_ffffn), size, write);

/** Reads `length` bytes from a linear address. */
export function readArea(cpu: Cpu, linear: bigint, length: number): Uint8Array | Fault {
  const area = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += UNIT) {
    const size = Math.min(UNIT, length - offset);
    const at = locate(cpu, linear + BigInt(offset), size, false);
    if (at === 0) return cpu.mmu.lastFault();
    area.set(cpu.state.bytes.subarray(at, at + size), offset);
  }
  return area;
}

/** Writes all of `area` to a linear address, or nothing when one of its pages faults. */
export function writeArea(cpu: Cpu, linear: bigint, area: Uint8Array): Fault | undefined {
  const last = linear + BigInt(area.length - 1);
  if (locate(cpu, linear, 1, true) === 0 || locate(cpu, last, 1, true) === 0) return cpu.mmu.lastFault();
  for (let offset = 0; offset < area.length; offset += UNIT) {
    const size = Math.min(UNIT, area.length - offset);
    const at = locate(cpu, linear + BigInt(offset), size, true);
    if (at === 0) return cpu.mmu.lastFault();
    cpu.state.bytes.set(area.subarray(offset, offset + size), at);
    if (at === OFFSET.bounce) cpu.mmu.commit();
  }
  return undefined;
}
