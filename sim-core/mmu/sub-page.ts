/** Sub-page write permissions for EPT (SDM Vol. 3C, "Sub-Page Write Permissions"). */

import type { VmExitFault } from './fault.ts';

/** Basic exit reason of SPP-related events, and bit 11 of their qualification: a miss, not a misconfiguration. */
const SPP_RELATED_EVENT = 66;
const MISS = 0x800n;
/** Bits of the entries of the upper three tables: bit 0 valid, the table's address from bit 12 on. */
const VALID = 1n;
const ADDRESS = 0xf_ffff_ffff_f000n;
/** Bit 2n of the last entry lets the n-th 128 bytes be written; odd bits are reserved. */
const VECTOR_RESERVED = 0xaaaa_aaaa_aaaa_aaaan;
const SUB_PAGE = 128;

/** A write to a page whose EPT entry forbids writing and has bit 61 (“sub-page write permissions”) set. */
export interface SubPageWrite {
  readonly guestPhysical: number;
  readonly linear: bigint;
  /** In bytes. */
  readonly size: number;
}

/** The sub-page-permission table (SPPT) in force. */
export interface SubPageTable {
  /** SPPTP: physical address of the top table. */
  readonly root: number;
  readonly physicalAddressBits: number;
  /** Reads an 8-byte entry; the walk counts its references. */
  readonly read: (at: number) => bigint;
}

/**
 * Whether the table lets the write be done. A write that crosses sub-pages needs the permission of each.
 * @returns the VM exit for a table that is missing or wrong instead
 */
export function mayWriteSubPages(table: SubPageTable, write: SubPageWrite): boolean | VmExitFault {
  const reserved = ~(ADDRESS & ((1n << BigInt(table.physicalAddressBits)) - 1n)) & ~VALID;
  let at = table.root;
  for (let level = 3; level > 0; level--) {
    const entry = table.read(at + 8 * indexAt(write.guestPhysical, level));
    if ((entry & VALID) === 0n) return related(write, level, MISS);
    if ((entry & reserved) !== 0n) return related(write, level, 0n);
    at = Number(entry & ADDRESS);
  }
  const permissions = table.read(at + 8 * indexAt(write.guestPhysical, 0));
  if ((permissions & VECTOR_RESERVED) !== 0n) return related(write, 0, 0n);
  const offset = write.guestPhysical % 4096;
  const last = Math.floor((offset + write.size - 1) / SUB_PAGE);
  for (let piece = Math.floor(offset / SUB_PAGE); piece <= last; piece++) {
    if (((permissions >> BigInt(2 * piece)) & 1n) === 0n) return false;
  }
  return true;
}

const indexAt = (guestPhysical: number, level: number): number =>
  Math.floor(guestPhysical / 2 ** (12 + 9 * level)) % 512;

const related = ({ guestPhysical, linear }: SubPageWrite, level: number, qualification: bigint): VmExitFault => ({
  kind: 'vmExit',
  reason: SPP_RELATED_EVENT,
  qualification,
  guestPhysicalAddress: BigInt(guestPhysical),
  guestLinearAddress: linear,
  cause:
    `the sub-page-permission table’s level-${level + 1} entry for guest-physical address ` +
    `0x${guestPhysical.toString(16)} ${qualification === MISS ? 'is not valid' : 'has reserved bits set'}`,
});
