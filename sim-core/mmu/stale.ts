/**
 * TLB entries against the tables in memory: which no longer agree, in what, and what would remove them. Computed when
 * somebody asks, from what each entry was filled from; nothing is changed.
 */

import type { Mmu, TranslationStep } from './mmu.ts';
import { MAPPING, RIGHT, type TlbEntry } from './tlb.ts';
import { Walker } from './walk.ts';
import { ACCESS, PAGING, World } from './world.ts';

export interface Staleness {
  readonly entry: TlbEntry;
  /** What differs, in words. */
  readonly difference: string;
  /** Linear (guest-physical) address of the first 4-KiB page that differs. */
  readonly address: bigint;
  /** The walk of that address by the tables as they are now. */
  readonly steps: readonly TranslationStep[];
  /** What removes the entry, the narrowest first (SDM Vol. 3A, "Invalidation"; Vol. 3C, "Invalidating Cached…"). */
  readonly invalidations: readonly string[];
}

/** Pieces of a large entry that are compared, at most: a 1-GiB page in 2-MiB pieces, and one of these in pages. */
const MOST_PIECES = 1024;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** All entries that the tables no longer bear out, oldest first. */
export const staleEntries = (mmu: Mmu): Staleness[] =>
  mmu.tlb.entries().flatMap((entry) => stalenessOf(mmu, entry) ?? []);

/** How an entry differs from the tables; undefined when it does not. */
export function stalenessOf(mmu: Mmu, entry: TlbEntry): Staleness | undefined {
  const world = worldOf(mmu, entry);
  let address = entry.page;
  const end = entry.page + BigInt(entry.pageSize);
  for (let piece = 0; address < end && piece < MOST_PIECES; piece++) {
    const now = walkNow(mmu, world, entry, address);
    const offset = Number(address - entry.page);
    const difference = differenceOf(entry, entry.target + offset, now);
    if (difference !== undefined) {
      return { entry, difference, address, steps: now.steps, invalidations: invalidationsOf(entry) };
    }
    address += BigInt(Math.min(now.pageSize, entry.pageSize));
  }
  return undefined;
}

function worldOf(mmu: Mmu, entry: TlbEntry): World {
  const world = new World();
  const pae = (entry.modeBits & 3) === PAGING.pae;
  const pdpte = pae ? [0, 8, 16, 24].map((offset) => mmu.physical.read64(entry.root + offset)) : [];
  world.loadFill(entry.root, entry.modeBits, pdpte, entry.kind === MAPPING.linear ? 0 : entry.eptRoot);
  return world;
}

interface Walk {
  readonly steps: readonly TranslationStep[];
  /** -1 when the tables give no translation. */
  readonly physical: number;
  readonly pageSize: number;
  readonly rights: number;
}

function walkNow(mmu: Mmu, world: World, entry: TlbEntry, address: bigint): Walk {
  const walker = new Walker(mmu.physical, mmu.tlb, mmu.features);
  const steps: TranslationStep[] = [];
  walker.steps = steps;
  // An execute-only page can be walked for a fetch only.
  const access = (entry.rights & RIGHT.eptRead) !== 0 ? ACCESS.read : ACCESS.execute;
  if (entry.kind === MAPPING.guestPhysical) {
    const physical = walker.guestPhysicalAccess(world, Number(address), access, false);
    return { steps, physical, pageSize: 2 ** walker.lastEptOrder, rights: eptRights(steps) };
  }
  const [low, high] = [Number(address & 0xffff_ffffn), Number(address >> 32n)];
  const physical = walker.walk(world, low, high, access, false, false);
  return { steps, physical, pageSize: 2 ** walker.order, rights: walker.rights };
}

/** The permissions that all entries of an EPT walk give. */
function eptRights(steps: readonly TranslationStep[]): number {
  const all = steps.reduce((rights, { value }) => rights & Number(value & 7n), 7);
  return (
    ((all & 1) !== 0 ? RIGHT.eptRead : 0) |
    ((all & 2) !== 0 ? RIGHT.eptWrite : 0) |
    ((all & 4) !== 0 ? RIGHT.eptExecute : 0)
  );
}

/** Rights that an entry may have only while the tables give them, with the mapping kinds that have them. */
const LOSABLE: readonly (readonly [right: number, words: string, kinds: readonly number[]])[] = [
  [RIGHT.writable, 'write permission', [MAPPING.linear, MAPPING.combined]],
  [RIGHT.user, 'user access', [MAPPING.linear, MAPPING.combined]],
  [RIGHT.eptRead, 'EPT’s read permission', [MAPPING.guestPhysical, MAPPING.combined]],
  [RIGHT.eptWrite, 'EPT’s write permission', [MAPPING.guestPhysical, MAPPING.combined]],
  [RIGHT.dirty, 'the dirty flag', [MAPPING.linear]],
];

function differenceOf(entry: TlbEntry, target: number, now: Walk): string | undefined {
  const last = now.steps.at(-1);
  const where = last ? `the ${last.table} at ${hex(last.entryAddress)} = ${hex(last.value)}` : 'the tables';
  if (now.physical < 0) return `the entry gives ${hex(target)}; ${where} gives none: ${last?.problem ?? 'it faults'}`;
  if (now.physical !== target) return `the entry gives ${hex(target)}; ${where} gives ${hex(now.physical)}`;
  const lost = LOSABLE.filter(
    ([right, , kinds]) => kinds.includes(entry.kind) && (entry.rights & right) !== 0 && (now.rights & right) === 0,
  ).map(([, words]) => words);
  const disabled = (now.rights & ~entry.rights & RIGHT.noExecute) !== 0 && entry.kind !== MAPPING.guestPhysical;
  const all = disabled ? [...lost, 'execute permission (XD is set now)'] : lost;
  return all.length > 0
    ? `the entry still has ${all.join(', ')}, which the tables no longer give (${where})`
    : undefined;
}

/** What removes an entry: narrow invalidations first. */
function invalidationsOf({ kind, vpid, page, eptRoot, global }: TlbEntry): string[] {
  const invept = [`INVEPT type 1 (single context) with the EPTP of ${hex(eptRoot)}`, 'INVEPT type 2 (all contexts)'];
  if (kind === MAPPING.guestPhysical) return invept;
  const own = [
    `INVLPG ${hex(page)} executed ${vpid === 0 ? 'in root operation' : `in the guest with VPID ${vpid}`}`,
    global ? 'a change of CR4.PGE there (a load of CR3 keeps global entries)' : 'a load of CR3 there',
  ];
  const byVpid = [
    `INVVPID type 0 (individual address) with VPID ${vpid} and ${hex(page)}`,
    `INVVPID type 1 (single context) with VPID ${vpid}`,
  ];
  return [...(vpid === 0 ? own : [...byVpid, ...own]), ...(kind === MAPPING.combined ? invept : [])];
}
