import type { State } from '../state/state.ts';
import type { MemoryFault } from './fault.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import type { Tlb } from './tlb.ts';

export type Access = 'read' | 'write' | 'execute';

/** One table entry read on the way of a translation, for people: `explain` never changes anything. */
export interface TranslationStep {
  /** 'PML4E', 'PDPTE', 'PDE', 'PTE', 'EPT PML4E', … ; 'TLB' for an entry that was served without a walk. */
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

/** Who keeps decoded code per physical page (engine/code-cache.ts): writes to such pages take the slow path. */
export interface CodeWatch {
  /** @param page physical page number. */
  holdsCode(page: number): boolean;
  /** About to write RAM at [physical, physical + length). */
  written(physical: number, length: number): void;
}

/** Paging, EPT and the TLB in front of physical memory. */
export class Mmu {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly tlb: Tlb;
  /** The fault of the last `access` or `fetch` that returned 0 or -1. */
  fault: MemoryFault | undefined;

  constructor(state: State, physical: PhysicalMemory, tlb: Tlb) {
    this.state = state;
    this.physical = physical;
    this.tlb = tlb;
  }

  codeWatch: CodeWatch | undefined;

  /** Forgets the engine's fast write translations that lead to this physical page (it now holds decoded code). */
  dropWriteTranslations(_physicalPage: number): void {
    throw new Error('not built yet');
  }

  /**
   * The engine's slow path. Translates [linear, linear + size), fills TLBs, and returns the linear-memory address where
   * the data can be accessed: RAM, or the bounce buffer (OFFSET.bounce) already filled with the current data, in which
   * case a write is finished by `commit`. Returns 0 with `fault` set when the access faults; nothing has changed then.
   * @param low @param high the linear address's halves, unsigned
   */
  access(_low: number, _high: number, _size: number, _write: boolean): number {
    throw new Error('not built yet');
  }

  /** Writes the bounce buffer of the last `access` for writing to where it belongs. */
  commit(): void {
    throw new Error('not built yet');
  }

  /** Physical address of the code byte at `linear`, or -1 with `fault` set. */
  fetch(_linear: bigint): number {
    throw new Error('not built yet');
  }

  /** Reads `size` (1, 2, 4, 8) bytes at a linear address; implicit supervisor access when `system`. */
  read(_linear: bigint, _size: number, _system = false): bigint | MemoryFault {
    throw new Error('not built yet');
  }

  write(_linear: bigint, _size: number, _value: bigint, _system = false): MemoryFault | undefined {
    throw new Error('not built yet');
  }

  /** Must be called after any change of what translations depend on: CR0, CR3, CR4, EFER, CPL, RFLAGS.AC, VPID, EPTP. */
  updateContext(): void {
    throw new Error('not built yet');
  }

  /** A walk without side effects (no A/D bits, no TLB fill), with every entry read. */
  explain(_linear: bigint, _access: Access, _context?: TranslationContext): Translation {
    throw new Error('not built yet');
  }

  /** The EPT part alone, for a guest-physical address. */
  explainEpt(_guestPhysical: number, _access: Access, _eptp: bigint): Translation {
    throw new Error('not built yet');
  }

  /** The current world's context. */
  context(): TranslationContext {
    throw new Error('not built yet');
  }
}
