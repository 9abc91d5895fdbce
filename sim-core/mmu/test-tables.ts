/** Page tables for tests: written entry by entry, from the formats in SDM Vol. 3A, chapter "Paging". */

import { State } from '../state/state.ts';
import { Mmu } from './mmu.ts';
import { PhysicalMemory } from './physical-memory.ts';
import { Tlb } from './tlb.ts';

const RAM_SIZE = 16 * 2 ** 20;

export interface World {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly mmu: Mmu;
}

export function newWorld(ramSize = RAM_SIZE): World {
  const state = new State(ramSize);
  const physical = new PhysicalMemory(state);
  return { state, physical, mmu: new Mmu(state, physical, new Tlb(state)) };
}

export const P = 1n;
export const W = 2n;
export const U = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const G = 0x100n;
export const XD = 1n << 63n;

/** Puts the machine into a paging mode. Bits as in the manual. */
export function setMode(
  { state, mmu }: World,
  registers: { cr0?: bigint; cr3?: bigint; cr4?: bigint; efer?: bigint; cpl?: number; eptp?: bigint; vpid?: number },
): void {
  state.set64('cr0', registers.cr0 ?? 0x8000_0001n);
  state.set64('cr3', registers.cr3 ?? 0n);
  state.set64('cr4', registers.cr4 ?? 0n);
  state.set64('efer', registers.efer ?? 0n);
  state.set32('cpl', registers.cpl ?? 0);
  state.set64('eptp', registers.eptp ?? 0n);
  state.set32('vpid', registers.vpid ?? 0);
  mmu.updateContext();
}

/** CR4.PAE, EFER.LME and LMA: what 4-level paging needs. */
export const CR4_PAE = 0x20n;
export const EFER_LONG = 0x500n;
export const EFER_NXE = 0x800n;
export const CR0_WP = 0x1_0000n;

/**
 * Maps one page in 4-level tables (or the same format in EPT), making tables on the way from `allocate`.
 * @param level of the leaf: 0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB
 * @param flags of the leaf; @param tableFlags of the entries above it; @param top level of the root: 4 for 5 levels
 * @returns the physical addresses of the entries used, by level
 */
export function map4(
  { physical }: World,
  root: number,
  linear: bigint,
  target: bigint,
  level: number,
  flags: bigint,
  tableFlags: bigint,
  allocate: () => number,
  top = 3,
): number[] {
  const entries: number[] = [];
  let table = root;
  for (let at = top; at >= level; at--) {
    const index = Number((linear >> BigInt(12 + 9 * at)) & 0x1ffn);
    const entry = table + 8 * index;
    entries[at] = entry;
    if (at === level) {
      physical.write64(entry, target | flags);
      break;
    }
    if (physical.read64(entry) === 0n) physical.write64(entry, BigInt(allocate()) | tableFlags);
    table = Number(physical.read64(entry) & 0xf_ffff_ffff_f000n);
  }
  return entries;
}

/** Hands out zeroed pages from `start` on. */
export function allocator(start: number): () => number {
  let next = start;
  return () => {
    const page = next;
    next += 4096;
    return page;
  };
}

/** Splits a linear address for `Mmu.access`. */
export function access(mmu: Mmu, linear: bigint, size: number, write = false): number {
  return mmu.access(Number(linear & 0xffff_ffffn), Number((linear >> 32n) & 0xffff_ffffn), size, write);
}

/** Physical address behind the linear-memory address that `access` returned. */
export const physicalOf = ({ physical }: World, host: number): number => host - physical.host(0);

/** A pseudo-random generator (xorshift, 32 bits) whose seed a failing test prints. */
export function generator(seed: number): (limit: number) => number {
  let x = seed | 1;
  return (limit) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % limit;
  };
}
