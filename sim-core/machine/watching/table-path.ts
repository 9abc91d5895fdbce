/** Which table entries map an address, from the root to the one that ends the walk: for watching the last one. */

import { CR4 } from '../../state/control-bits.ts';
import { eptpOf, suspendedContext } from '../world-context.ts';
import type { Watch } from './watch.ts';
import type { ValueSource } from './watched-values.ts';

export type TableEntryWatch = Extract<Watch, { kind: 'tableEntry' }>;

/** An entry, by host-physical address. */
interface TableEntry {
  readonly address: number;
  /** Bytes. */
  readonly length: 4 | 8;
}

export interface TablePath {
  /** Undefined where no tables translate the address, or nothing is known of that world. */
  readonly last: TableEntry | undefined;
  /** All before it; of a guest's tables also the EPT entries that lead to them. */
  readonly upper: readonly TableEntry[];
}

const NOWHERE: TablePath = { last: undefined, upper: [] };

/** As the tables in memory are now, whatever the TLB holds. */
export function tablePath(watch: TableEntryWatch, source: ValueSource): TablePath {
  return watch.of === 'gpa' ? eptPath(watch, source) : linearPath(watch, source);
}

function linearPath({ address, world }: TableEntryWatch, source: ValueSource): TablePath {
  const { cpu, vmx } = source;
  const runs = world === source.world;
  if (!runs && vmx.currentVmcs === undefined) return NOWHERE;
  const own = runs ? cpu.mmu.context() : suspendedContext(vmx, world, cpu.state.get64('efer'));
  // A debugger's look: no privilege checks stand in the way.
  const context = { ...own, cpl: 0, cr4: own.cr4 & ~BigInt(CR4.smap) };
  const length = (own.cr4 & BigInt(CR4.pae)) === 0n ? 4 : 8;
  const walked = cpu.mmu.explain(address, 'read', context).steps.filter(({ table }) => table !== 'TLB');
  const end = walked.findLastIndex(({ level }) => level === 'linear');
  const entries = walked.slice(0, end + 1).map(({ level, entryAddress }): TableEntry => {
    return { address: entryAddress, length: level === 'ept' ? 8 : length };
  });
  return { last: entries.at(-1), upper: entries.slice(0, -1) };
}

function eptPath({ address }: TableEntryWatch, { cpu, vmx, world }: ValueSource): TablePath {
  const eptp = world === 'guest' ? cpu.state.get64('eptp') : eptpOf(vmx);
  if (eptp === 0n) return NOWHERE;
  const { steps } = cpu.mmu.explainEpt(Number(address), 'read', eptp);
  const entries = steps.map(({ entryAddress }): TableEntry => ({ address: entryAddress, length: 8 }));
  return { last: entries.at(-1), upper: entries.slice(0, -1) };
}
