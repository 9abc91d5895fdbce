/** Translations for people: every table entry that is read on the way. Nothing here changes anything. */

import type { State } from '../state/state.ts';
import { generalProtection, type MemoryFault } from './fault.ts';
import { highHalf, lowHalf } from './halves.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { MAPPING, type Tlb } from './tlb.ts';
import { type PagingFeatures, Walker } from './walk.ts';
import { ACCESS, PAGING, World } from './world.ts';

export type Access = 'read' | 'write' | 'execute';

/** One table entry read on the way of a translation, for people: `explain` never changes anything. */
export interface TranslationStep {
  /**
   * 'PML5E', 'PML4E', 'PDPTE', 'PDE', 'PTE', 'EPT PML4E', …; 'TLB' for the entry that is used instead of a walk:
   * its value is the physical page address that it gives, which is stale when the walk that follows ends elsewhere.
   */
  readonly table: string;
  /** Whose table: the guest's (or root's) paging, or EPT. */
  readonly level: 'linear' | 'ept';
  /** Host-physical address of the entry and its value; for guest tables also the guest-physical address. */
  readonly entryAddress: number;
  readonly entryGuestPhysical?: number;
  readonly value: bigint;
  /** Set when this entry ends the walk with a fault: the reason in words. */
  readonly problem?: string;
}

export interface Translation {
  readonly steps: readonly TranslationStep[];
  /** Undefined when the walk fails before it is known. */
  readonly guestPhysical?: number;
  readonly physical?: number;
  readonly fault?: MemoryFault;
  readonly pageSize?: number;
}

/** Which world translates: the current one, or another one given by its roots (a guest seen from root operation). */
export interface TranslationContext {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly pdpte: readonly bigint[];
  /** 0n when EPT is off. */
  readonly eptp: bigint;
  readonly cpl: number;
}

/** What a translation is looked up in. */
interface Tables {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly tlb: Tlb;
  readonly features: PagingFeatures;
}

/** The context of the world that the processor is in. */
export const currentContext = (state: State): TranslationContext => ({
  cr0: state.get64('cr0'),
  cr3: state.get64('cr3'),
  cr4: state.get64('cr4'),
  efer: state.get64('efer'),
  pdpte: state.elements('pdpte'),
  eptp: state.get64('eptp'),
  cpl: state.get32('cpl'),
});

/**
 * A walk without side effects (no A/D bits, no TLB fill), with every entry read. In the current world the first step
 * is the TLB's entry, if there is one; the result is always what the tables say.
 */
export function explainTranslation(
  tables: Tables,
  linear: bigint,
  access: Access,
  context?: TranslationContext,
): Translation {
  const world = new World();
  if (context === undefined) world.loadCurrent(tables.state);
  else world.loadContext(context);
  const steps: TranslationStep[] = [];
  const low = lowHalf(linear);
  const high = highHalf(linear);
  if (!world.isCanonical(high)) return { steps, fault: generalProtection() };
  if (context === undefined) explainTlb(tables.tlb, world, low, high, steps);
  const walker = new Walker(tables.physical, tables.tlb, tables.features);
  walker.steps = steps;
  const physical = walker.walk(world, low, high, ACCESS[access], world.user, false);
  return toTranslation(walker, steps, physical, walker.guestPhysical, 2 ** walker.order);
}

function explainTlb(tlb: Tlb, world: World, low: number, high: number, steps: TranslationStep[]): void {
  if (world.paging === PAGING.none) return;
  const kind = world.eptOn ? MAPPING.combined : MAPPING.linear;
  const entry = tlb.find(kind, low, high, world.largeOrder, world);
  if (entry < 0) return;
  const value = BigInt(tlb.describe(entry).target);
  steps.push({ table: 'TLB', level: 'linear', entryAddress: 0, value });
}

/** The EPT part alone, for a guest-physical address. */
export function explainEpt(tables: Tables, guestPhysical: number, access: Access, eptp: bigint): Translation {
  const world = new World();
  world.loadContext({ cr0: 0n, cr3: 0n, cr4: 0n, efer: 0n, pdpte: [], eptp, cpl: 0 });
  const walker = new Walker(tables.physical, tables.tlb, tables.features);
  const steps: TranslationStep[] = [];
  walker.steps = steps;
  const physical = walker.guestPhysicalAccess(world, guestPhysical, ACCESS[access], false);
  return toTranslation(walker, steps, physical, guestPhysical, 2 ** walker.lastEptOrder);
}

function toTranslation(
  walker: Walker,
  steps: readonly TranslationStep[],
  physical: number,
  guestPhysical: number,
  pageSize: number,
): Translation {
  const fault = walker.fault;
  if (physical >= 0) return { steps, guestPhysical, physical, pageSize };
  if (fault === undefined) throw new Error('a walk failed without a fault');
  return fault.kind === 'exception' || fault.kind === 'vmExit'
    ? { steps, fault }
    : { steps, fault, guestPhysical: Number(fault.guestPhysicalAddress) };
}
