import { errors } from './errors.ts';

/**
 * Address spaces as users name them: `linear` is the linear addresses of whichever world runs; `vmm` and `guest` those
 * of one world, running or not; `gpa` guest-physical addresses of the current VMCS's guest; `hpa` physical ones.
 */
export const SPACES = ['linear', 'vmm', 'guest', 'gpa', 'hpa'] as const;
export type Space = (typeof SPACES)[number];

export interface Place {
  readonly space: Space;
  readonly address: bigint;
}

export const SPACE_NAMES: Readonly<Record<Space, string>> = {
  linear: 'linear',
  vmm: "the VMM's linear",
  guest: "the guest's linear",
  gpa: 'guest-physical',
  hpa: 'host-physical',
};

export const wrap64 = (value: bigint): bigint => BigInt.asUintN(64, value);
export const hex = (value: bigint | number): string =>
  `0x${(typeof value === 'bigint' ? wrap64(value) : value).toString(16)}`;

export const formatPlace = ({ space, address }: Place): string => `${space}:${hex(address)}`;

/** @throws badReference. Plain numbers are linear addresses of the running world. */
export function parsePlace(reference: string): Place {
  const match = /^\s*(?:([a-z]+):)?\s*(0x[0-9a-f]+|\d+)\s*$/i.exec(reference);
  const space = SPACES.find((candidate) => candidate === (match?.[1] ?? 'linear').toLowerCase());
  if (!match || !space) throw errors.badReference(reference);
  return { space, address: wrap64(BigInt(match[2] ?? '0')) };
}
