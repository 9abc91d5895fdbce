import type { State } from '../state/state.ts';

/** What a TLB entry translates (SDM Vol. 3C, "Information That May Be Cached"). */
export const MAPPING = { linear: 0, guestPhysical: 1, combined: 2 } as const;
export type MappingKind = (typeof MAPPING)[keyof typeof MAPPING];

/** One entry as people see it. Addresses are Numbers below 2^52 except linear pages. */
export interface TlbEntry {
  readonly kind: MappingKind;
  readonly vpid: number;
  readonly pcid: number;
  /** Bits 51:12 of the EPTP (EP4TA), as an address; 0 for linear mappings. */
  readonly eptRoot: number;
  readonly global: boolean;
  /** Linear page address (linear, combined) or guest-physical page address. */
  readonly page: bigint;
  /** 4096, 2 MiB (4 MiB for 32-bit paging) or 1 GiB. */
  readonly pageSize: number;
  /** Physical (linear, guest-physical, combined: host-physical) page address that the entry gives. */
  readonly target: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly user: boolean;
  readonly dirty: boolean;
}

/** Which entries an invalidation removes; undefined means "any". */
export interface Invalidation {
  readonly kinds: readonly MappingKind[];
  readonly vpid?: number;
  readonly pcid?: number;
  readonly eptRoot?: number;
  /** Only entries whose page holds this linear address. */
  readonly linear?: bigint;
  /** Leave global entries alone (INVVPID type 3, MOV to CR3, INVPCID). */
  readonly keepGlobal?: boolean;
}

/** The architectural TLB: finite, tagged; an entry stays until an invalidation or its replacement removes it. */
export class Tlb {
  readonly state: State;
  constructor(state: State) {
    this.state = state;
  }
  /** Removes the entries, and the engine's fast copies of them. */
  invalidate(_what: Invalidation): void {
    throw new Error('not built yet');
  }
  invalidateAll(): void {
    throw new Error('not built yet');
  }
  /** Every valid entry, oldest first. */
  entries(): TlbEntry[] {
    throw new Error('not built yet');
  }
}
