/** Numbers as people read them. The protocol's numbers are hexadecimal strings. */

import type { Hex } from '../../debug-adapter/protocol.ts';

const UNITS: readonly [bigint, string][] = [
  [1n << 40n, 'TiB'],
  [1n << 30n, 'GiB'],
  [1n << 20n, 'MiB'],
  [1n << 10n, 'KiB'],
];

/** 0x1000 → '0x0000000000001000' at 64 bits. What is not a number stays as it is. */
export function padded(value: Hex, bits: number): string {
  const digits = /^0x([0-9a-f]+)$/i.exec(value)?.[1];
  return digits === undefined ? value : `0x${digits.padStart(bits / 4, '0')}`;
}

/** 2097152 → '2 MiB'. */
export function byteSize(bytes: bigint): string {
  for (const [unit, name] of UNITS) if (bytes >= unit && bytes % unit === 0n) return `${bytes / unit} ${name}`;
  return `${bytes} bytes`;
}

/** A number as people type it: decimal, 0x…, …h, with _ or ` or ' between digits. @returns undefined for no number. */
export function parseNumber(text: string): bigint | undefined {
  const plain = text.trim().replace(/(?<=[0-9a-f])[_`'](?=[0-9a-f])/gi, '');
  const hexadecimal = /^0x([0-9a-f]+)$/i.exec(plain) ?? /^([0-9][0-9a-f]*)h$/i.exec(plain);
  if (hexadecimal) return BigInt(`0x${hexadecimal[1]}`);
  return /^[0-9]+$/.test(plain) ? BigInt(plain) : undefined;
}

export const toHex = (value: bigint): Hex => `0x${value.toString(16)}`;
