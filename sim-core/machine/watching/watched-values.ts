/** The values of watched registers, MSRs and VMCS fields. Reading them changes nothing. */

import type { Cpu } from '../../cpu/cpu.ts';
import { isApicMsr, readMsr } from '../../cpu/msrs.ts';
import { RFLAGS } from '../../state/control-bits.ts';
import { ENCODING } from '../../vmx/fields.ts';
import type { VmxView } from '../../vmx/records.ts';
import type { World } from '../api.ts';
import { fieldOfRegister } from '../register-fields.ts';
import { type MachineRegister, registerByName } from '../registers.ts';
import type { Watch } from './watch.ts';

/** Whose values are read. */
export interface ValueSource {
  readonly cpu: Cpu;
  readonly vmx: VmxView;
  readonly world: World;
}

/** What is one value of the processor, and not memory. */
export type ValueWatch = Extract<Watch, { kind: 'register' | 'msr' | 'field' }>;

export const isValueWatch = (watch: Watch): watch is ValueWatch =>
  watch.kind === 'register' || watch.kind === 'msr' || watch.kind === 'field';

/** Little-endian. */
export const bytesOf = (value: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));

/** Nearly every instruction clears RF behind one that has set it: it does not count. */
const isFlags = (register: MachineRegister | undefined): boolean => (register?.partOf ?? register?.name) === 'rflags';

/** @returns undefined where it has no value, or where that is not known: what no field holds of a world that waits */
export function readWatched(watch: ValueWatch, { cpu, vmx, world }: ValueSource): Uint8Array | undefined {
  const runs = watch.world === undefined || watch.world === world;
  if (watch.kind === 'register') {
    const register = registerByName(watch.name);
    const whole = register && (runs ? register.read(cpu.state) : heldInVmcs(register, vmx, watch.world));
    const value = isFlags(register) && whole !== undefined ? whole & ~BigInt(RFLAGS.rf) : whole;
    return value === undefined ? undefined : bytesOf(value, Math.ceil((register?.bits ?? 64) / 8));
  }
  if (watch.kind === 'msr' && !runs) return undefined;
  const value = watch.kind === 'msr' ? readMsr(cpu, watch.index) : vmx.read(watch.encoding);
  return value === undefined ? undefined : bytesOf(value, 8);
}

/** A register, or a part of one, of a world that does not run. */
function heldInVmcs(register: MachineRegister, vmx: VmxView, world: World | undefined): bigint | undefined {
  const field = world && fieldOfRegister(world, register.partOf ?? register.name);
  const whole = field && vmx.read(ENCODING[field]);
  if (whole === undefined) return undefined;
  return BigInt.asUintN(register.bits, /^[abcd]h$/.test(register.name) ? whole >> 8n : whole);
}

/** MSRs that count time or events, from the first to the last number. */
const COUNTERS = [
  [0x10, 0x10],
  [0xc1, 0xc8],
  [0x309, 0x30b],
  [0x38e, 0x390],
] as const;

/** Whether it changes only where somebody changes it: counters and the APIC's registers go on by themselves. */
export const keepsItsValue = (watch: ValueWatch): boolean =>
  watch.kind !== 'msr' ||
  !(isApicMsr(watch.index) || COUNTERS.some(([first, last]) => watch.index >= first && watch.index <= last));
