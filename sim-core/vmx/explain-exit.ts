/** EPT violations and misconfigurations from the tables: the nested walk, the entry, the bit, the access. */

import type { Mmu } from '../mmu/mmu.ts';
import type { Access, Translation, TranslationContext, TranslationStep } from '../mmu/translation.ts';
import { EXIT } from './exit-reasons.ts';
import type { VmExitRecord } from './records.ts';

/** Exit qualification of EPT violations (SDM Vol. 3C, "Exit Qualification for EPT Violations"). */
const QUALIFICATION = { write: 1n << 1n, fetch: 1n << 2n, linearValid: 1n << 7n, translated: 1n << 8n } as const;
/** The permission bit of an EPT entry that each access needs. */
const PERMISSION: Readonly<Record<Access, { readonly bit: number; readonly name: string }>> = {
  read: { bit: 0, name: 'R, read access' },
  write: { bit: 1, name: 'W, write access' },
  execute: { bit: 2, name: 'X, execute access' },
};
const ACCESS_WORDS: Readonly<Record<Access, string>> = {
  read: 'data read',
  write: 'data write',
  execute: 'instruction fetch',
};

/** What an EPT-induced VM exit came from. */
export interface EptStory {
  /** Who asked: 'a data write', 'the page walk for linear address 0x… (its PDE)'. */
  readonly access: string;
  /** Every entry read on the way, guest tables and EPT; the last one has the problem. */
  readonly steps: readonly TranslationStep[];
  /** The entry that ended the walk; undefined when the tables in memory no longer refuse the access. */
  readonly entry: TranslationStep | undefined;
  /** What in the entry did it: 'bit 1 (W, write access) is 0'. */
  readonly reason: string;
}

/**
 * Walks again for the access that exited, changing nothing. Exact as long as the tables are as the VM exit found them.
 * @param guest the guest's translation context, as the VM exit left it
 * @returns undefined for VM exits that EPT did not cause
 */
export function explainEptExit(exit: VmExitRecord, mmu: Mmu, guest: TranslationContext): EptStory | undefined {
  if (exit.reason !== EXIT.EPT_VIOLATION && exit.reason !== EXIT.EPT_MISCONFIGURATION) return undefined;
  const access = accessOf(exit);
  const walk = walkOf(exit, mmu, guest, access);
  const last = walk.steps.at(-1);
  const entry = last?.problem === undefined ? undefined : last;
  return {
    access: describeAccess(exit, walk, access, guest),
    steps: walk.steps,
    entry,
    reason: entry ? reasonOf(walk.steps, access) : 'the tables in memory have changed since: they allow the access now',
  };
}

function accessOf({ reason, qualification }: VmExitRecord): Access {
  if (reason === EXIT.EPT_MISCONFIGURATION) return 'read';
  if ((qualification & QUALIFICATION.write) !== 0n) return 'write';
  return (qualification & QUALIFICATION.fetch) !== 0n ? 'execute' : 'read';
}

/** The walk of the linear address where it leads to the same guest-physical address, else that of EPT alone. */
function walkOf(exit: VmExitRecord, mmu: Mmu, guest: TranslationContext, access: Access): Translation {
  const linear = linearAddressOf(exit);
  const guestPhysical = Number(exit.guestPhysicalAddress);
  if (linear !== undefined) {
    // A walk of the page tables is interrupted in front of the access itself: what that is does not matter.
    const walk = mmu.explain(linear, isStructure(exit) ? 'read' : access, guest);
    if (walk.guestPhysical === guestPhysical) return walk;
  }
  return mmu.explainEpt(guestPhysical, access, guest.eptp);
}

/** Misconfigurations report no linear address. */
const linearAddressOf = (exit: VmExitRecord): bigint | undefined =>
  (exit.qualification & QUALIFICATION.linearValid) !== 0n ? exit.guestLinearAddress : undefined;

const isStructure = (exit: VmExitRecord): boolean =>
  linearAddressOf(exit) !== undefined && (exit.qualification & QUALIFICATION.translated) === 0n;

function describeAccess(exit: VmExitRecord, walk: Translation, access: Access, guest: TranslationContext): string {
  const linear = linearAddressOf(exit);
  if (linear === undefined) {
    return exit.reason === EXIT.EPT_MISCONFIGURATION
      ? 'an access to this guest-physical address (misconfigurations report neither its kind nor a linear address)'
      : `a ${ACCESS_WORDS[access]} that comes from no linear address (a load of PDPTEs)`;
  }
  const at = `0x${linear.toString(16)}`;
  if (!isStructure(exit)) return `${access === 'execute' ? 'an' : 'a'} ${ACCESS_WORDS[access]} at linear address ${at}`;
  const done = walk.steps.filter((step) => step.level === 'linear').length;
  const tables = (guest.cr4 & CR4_LA57) === 0n ? TABLES.slice(1) : TABLES;
  const table = (guest.efer & EFER_LMA) === 0n ? undefined : tables[done];
  return `the processor’s own walk of the guest’s page tables for linear address ${at}${table ? `, to its ${table}` : ''}`;
}

const EFER_LMA = 0x400n;
const CR4_LA57 = 0x1000n;
/** Which guest entry comes after that many have been read, in 5-level paging; 4-level paging begins with the second. */
const TABLES = ['PML5E', 'PML4E', 'PDPTE', 'PDE', 'PTE'] as const;

/** The permission bit that is 0 in the last walk of EPT, or the walker's own words. */
function reasonOf(steps: readonly TranslationStep[], access: Access): string {
  const entry = steps.at(-1);
  const problem = entry?.problem ?? '';
  if (!problem.endsWith('permission')) return problem;
  const { bit, name } = PERMISSION[access];
  const lacking = lastEptWalk(steps).find(({ value }) => ((value >> BigInt(bit)) & 1n) === 0n);
  if (!lacking) return problem;
  const at = `0x${lacking.entryAddress.toString(16)}`;
  return `bit ${bit} (${name}) of the ${lacking.table} at ${at} is 0`;
}

function lastEptWalk(steps: readonly TranslationStep[]): readonly TranslationStep[] {
  const top = steps.some(({ table }) => table === 'EPT PML5E') ? 'EPT PML5E' : 'EPT PML4E';
  const root = steps.findLastIndex(({ table }) => table === top);
  return root < 0 ? [] : steps.slice(root);
}
