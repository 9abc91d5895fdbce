/**
 * TLB entries against the tables in memory: which no longer agree, in what, and what would remove them. Computed when
 * somebody asks, from what each entry was filled from; nothing is changed.
 */

import type { PhysicalMemory } from './physical-memory.ts';
import { MAPPING, RIGHT, type Tlb, type TlbEntry } from './tlb.ts';
import type { TranslationStep } from './translation.ts';
import { type PagingFeatures, Walker } from './walk.ts';
import { ACCESS, PAGING, World } from './world.ts';

/** What translations come from; an Mmu has it. */
export interface Translating {
  readonly physical: PhysicalMemory;
  readonly tlb: Tlb;
  readonly features: PagingFeatures;
}

export interface Staleness {
  readonly entry: TlbEntry;
  /** What differs, in words. */
  readonly difference: string;
  /** The kinds of access that come out otherwise than by the tables: bits numbered as ACCESS. */
  readonly accesses: number;
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
export const staleEntries = (mmu: Translating): Staleness[] =>
  mmu.tlb.entries().flatMap((entry) => stalenessOf(mmu, entry) ?? []);

/** How an entry differs from the tables; undefined when it does not. */
export function stalenessOf(mmu: Translating, entry: TlbEntry): Staleness | undefined {
  const world = worldOf(mmu, entry, entry.root);
  let address = entry.page;
  const end = entry.page + BigInt(entry.pageSize);
  for (let piece = 0; address < end && piece < MOST_PIECES; piece++) {
    const now = walkNow(mmu, world, entry, address);
    const stale = comparison(entry, address, now);
    if (stale) return stale;
    address += BigInt(Math.min(now.pageSize, entry.pageSize));
  }
  return undefined;
}

/**
 * The same for the 4-KiB page at `address` alone, against the tables that CR3 leads to now.
 * @param root the current world's top paging structure
 */
export function stalenessAt(mmu: Translating, entry: TlbEntry, address: bigint, root: number): Staleness | undefined {
  const moved = entry.root !== 0 && entry.root !== root && !entry.global && entry.kind !== MAPPING.guestPhysical;
  const world = worldOf(mmu, entry, moved ? root : entry.root);
  const stale = comparison(entry, address, walkNow(mmu, world, entry, address));
  if (!stale || !moved) return stale;
  const cause = `filled under the tables at ${hex(entry.root)}, while CR3 leads to those at ${hex(root)}: `;
  return { ...stale, difference: cause + stale.difference };
}

/** Physical addresses of the table entries that an entry's translation takes now. */
export function walkOfEntry(mmu: Translating, entry: TlbEntry): number[] {
  const { steps } = walkNow(mmu, worldOf(mmu, entry, entry.root), entry, entry.page);
  // The pointers of PAE paging are registers: writes to where they were loaded from change no translation.
  const pae = (entry.modeBits & 3) === PAGING.pae;
  const walked = steps.filter(({ table, level }) => !(pae && level === 'linear' && table === 'PDPTE'));
  return walked.map(({ entryAddress }) => entryAddress);
}

function comparison(entry: TlbEntry, address: bigint, now: Walk): Staleness | undefined {
  const offset = Number(address - entry.page);
  const difference = differenceOf(entry, entry.target + offset, now);
  return difference && { entry, ...difference, address, steps: now.steps, invalidations: invalidationsOf(entry) };
}

function worldOf(mmu: Translating, entry: TlbEntry, root: number): World {
  const world = new World();
  const pae = (entry.modeBits & 3) === PAGING.pae;
  const pdpte = pae ? [0, 8, 16, 24].map((offset) => mmu.physical.read64(root + offset)) : [];
  world.loadFill(root, entry.modeBits, pdpte, entry.kind === MAPPING.linear ? 0 : entry.eptRoot);
  return world;
}

interface Walk {
  readonly steps: readonly TranslationStep[];
  /** -1 when the tables give no translation. */
  readonly physical: number;
  readonly pageSize: number;
  readonly rights: number;
}

function walkNow(mmu: Translating, world: World, entry: TlbEntry, address: bigint): Walk {
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

const READS = 1 << ACCESS.read;
const WRITES = 1 << ACCESS.write;
const FETCHES = 1 << ACCESS.execute;
const ALL_ACCESSES = READS | WRITES | FETCHES;
const PAGED = [MAPPING.linear, MAPPING.combined];
const BY_EPT = [MAPPING.guestPhysical, MAPPING.combined];

/** Rights that an entry may have only while the tables give them: the mapping kinds that have them, what they allow. */
const LOSABLE: readonly (readonly [right: number, words: string, kinds: readonly number[], accesses: number])[] = [
  [RIGHT.writable, 'write permission', PAGED, WRITES],
  [RIGHT.user, 'user access', PAGED, ALL_ACCESSES],
  [RIGHT.eptRead, 'EPT’s read permission', BY_EPT, READS],
  [RIGHT.eptWrite, 'EPT’s write permission', BY_EPT, WRITES],
  [RIGHT.dirty, 'the dirty flag', [MAPPING.linear], WRITES],
];

type Difference = Pick<Staleness, 'difference' | 'accesses'>;

function differenceOf(entry: TlbEntry, target: number, now: Walk): Difference | undefined {
  const last = now.steps.at(-1);
  const where = last ? `the ${last.table} at ${hex(last.entryAddress)} = ${hex(last.value)}` : 'the tables';
  const all = (words: string): Difference => ({ difference: words, accesses: ALL_ACCESSES });
  const given = `the entry gives ${hex(target)}; ${where} gives`;
  if (now.physical < 0) return all(`${given} none: ${last?.problem ?? 'it faults'}`);
  if (now.physical !== target) return all(`${given} ${hex(now.physical)}`);
  const lost: (readonly [words: string, accesses: number])[] = LOSABLE.filter(
    ([right, , kinds]) => kinds.includes(entry.kind) && (entry.rights & right) !== 0 && (now.rights & right) === 0,
  ).map(([, words, , accesses]) => [words, accesses]);
  const disabled = (now.rights & ~entry.rights & RIGHT.noExecute) !== 0 && entry.kind !== MAPPING.guestPhysical;
  if (disabled) lost.push(['execute permission (XD is set now)', FETCHES]);
  if (lost.length === 0) return undefined;
  const words = lost.map(([what]) => what).join(', ');
  return {
    difference: `the entry still has ${words}, which the tables no longer give (${where})`,
    accesses: lost.reduce((bits, [, accesses]) => bits | accesses, 0),
  };
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
