import { formatRequester, requesterId } from '../../sim-core/platform/pci/layout.ts';
import { errors } from '../errors.ts';

/**
 * Address spaces as users name them: `linear` is the linear addresses of whichever world runs; `vmm` and `guest` those
 * of one world, running or not; `gpa` guest-physical addresses of the current VMCS's guest; `hpa` physical ones; `iova`
 * those that a PCI function uses, as in iova:00:01.0:0x1000; `vcpu2` linear addresses of a virtual processor that does not
 * run, by its number among the threads.
 */
export const SPACES = ['linear', 'vmm', 'guest', 'gpa', 'hpa'] as const;
export type Space = (typeof SPACES)[number] | 'iova' | 'vcpu';

export interface Place {
  readonly space: Space;
  readonly address: bigint;
  /** For `iova`: bus 15:8, device 7:3, function 2:0. */
  readonly requester?: number;
  /** For `vcpu`: its number. */
  readonly vcpu?: number;
}

export const SPACE_NAMES: Readonly<Record<Space, string>> = {
  linear: 'linear',
  vmm: "the VMM's linear",
  guest: "the guest's linear",
  gpa: 'guest-physical',
  hpa: 'host-physical',
  iova: "a device's",
  vcpu: "the virtual processor's linear",
};

export const wrap64 = (value: bigint): bigint => BigInt.asUintN(64, value);
export const hex = (value: bigint | number): string =>
  `0x${(typeof value === 'bigint' ? wrap64(value) : value).toString(16)}`;

/** What stands before the last colon: 'gpa', 'iova:00:01.0', 'vcpu2'. */
export const formatSpace = ({ space, requester, vcpu }: Omit<Place, 'address'>): string =>
  `${space}${vcpu ?? ''}${requester === undefined ? '' : `:${formatRequester(requester)}`}`;
export const formatPlace = (place: Place): string => `${formatSpace(place)}:${hex(place.address)}`;

const VCPU = /^\s*vcpu(\d+):\s*(0x[0-9a-f]+|\d+)\s*$/i;
const IOVA = /^\s*iova:([0-9a-f]{2}):([01][0-9a-f])\.([0-7]):\s*(0x[0-9a-f]+|\d+)\s*$/i;

/** @throws badReference. Plain numbers are linear addresses of the running world. */
export function parsePlace(reference: string): Place {
  const [, bus, device, part, offset] = IOVA.exec(reference) ?? [];
  if (bus !== undefined && device !== undefined && part !== undefined && offset !== undefined) {
    const requester = requesterId(Number.parseInt(bus, 16), Number.parseInt(device, 16), Number(part));
    return { space: 'iova', address: wrap64(BigInt(offset)), requester };
  }
  const [, vcpu, linear] = VCPU.exec(reference) ?? [];
  if (vcpu !== undefined && linear !== undefined) {
    return { space: 'vcpu', address: wrap64(BigInt(linear)), vcpu: Number(vcpu) };
  }
  const match = /^\s*(?:([a-z]+):)?\s*(0x[0-9a-f]+|\d+)\s*$/i.exec(reference);
  const space = SPACES.find((candidate) => candidate === (match?.[1] ?? 'linear').toLowerCase());
  if (!match || !space) throw errors.badReference(reference);
  return { space, address: wrap64(BigInt(match[2] ?? '0')) };
}
