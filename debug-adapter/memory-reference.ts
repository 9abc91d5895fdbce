import { formatRequester, requesterId } from '../sim-core/platform/pci/layout.ts';
import { errors } from './errors.ts';

/**
 * Address spaces as users name them: `linear` is the linear addresses of whichever world runs; `vmm` and `guest` those
 * of one world, running or not; `gpa` guest-physical addresses of the current VMCS's guest; `hpa` physical ones; `iova`
 * those that a PCI function uses, as in iova:00:01.0:0x1000.
 */
export const SPACES = ['linear', 'vmm', 'guest', 'gpa', 'hpa'] as const;
export type Space = (typeof SPACES)[number] | 'iova';

export interface Place {
  readonly space: Space;
  readonly address: bigint;
  /** For `iova`: bus 15:8, device 7:3, function 2:0. */
  readonly requester?: number;
}

export const SPACE_NAMES: Readonly<Record<Space, string>> = {
  linear: 'linear',
  vmm: "the VMM's linear",
  guest: "the guest's linear",
  gpa: 'guest-physical',
  hpa: 'host-physical',
  iova: "a device's",
};

export const wrap64 = (value: bigint): bigint => BigInt.asUintN(64, value);
export const hex = (value: bigint | number): string =>
  `0x${(typeof value === 'bigint' ? wrap64(value) : value).toString(16)}`;

export const formatPlace = ({ space, address, requester }: Place): string =>
  `${space}:${requester === undefined ? '' : `${formatRequester(requester)}:`}${hex(address)}`;

const IOVA = /^\s*iova:([0-9a-f]{2}):([01][0-9a-f])\.([0-7]):\s*(0x[0-9a-f]+|\d+)\s*$/i;

/** @throws badReference. Plain numbers are linear addresses of the running world. */
export function parsePlace(reference: string): Place {
  const [, bus, device, part, offset] = IOVA.exec(reference) ?? [];
  if (bus !== undefined && device !== undefined && part !== undefined && offset !== undefined) {
    const requester = requesterId(Number.parseInt(bus, 16), Number.parseInt(device, 16), Number(part));
    return { space: 'iova', address: wrap64(BigInt(offset)), requester };
  }
  const match = /^\s*(?:([a-z]+):)?\s*(0x[0-9a-f]+|\d+)\s*$/i.exec(reference);
  const space = SPACES.find((candidate) => candidate === (match?.[1] ?? 'linear').toLowerCase());
  if (!match || !space) throw errors.badReference(reference);
  return { space, address: wrap64(BigInt(match[2] ?? '0')) };
}
