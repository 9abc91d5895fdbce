/** The VMCSs that a processor has worked with, for people: which virtual processors there are, and their registers. */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { countOf, OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { fieldByEncoding, LAUNCH_STATE, VMCS_REGION } from './fields.ts';

/** A VMCS that VMPTRLD has made current at some time. */
export interface KnownVmcs {
  /** Physical address of its region. */
  readonly pointer: number;
  /** The guest's general registers in encoding order as its last VM exit left them, which no field holds. */
  readonly registers: readonly bigint[] | undefined;
  /** Instructions that the machine had retired at that VM exit: on another processor there may be a later one. */
  readonly exitedAt: number;
}

/** The fields of one VMCS, current or not. */
export interface VmcsAccess {
  readonly launchState: 'clear' | 'launched' | undefined;
  /** By encoding; undefined for unknown encodings. */
  read(encoding: number): bigint | undefined;
}

interface Entry {
  readonly pointer: number;
  /** Low and high halves. */
  readonly halves: Uint32Array;
  exitedAt: number;
}

/** A hypervisor with more virtual processors than this has the oldest ones forgotten. */
const MOST = 256;
const NEVER = -1;
const HALVES = 2 * countOf('gpr');
const FIRST_HALF = OFFSET.gpr >>> 2;

/** Plain state, in the order in which the VMCSs were first loaded. */
export class KnownVmcses {
  private readonly entries = new Map<number, Entry>();
  private current: Entry | undefined;

  /** VMPTRLD. */
  loaded(pointer: number): void {
    this.current = this.entries.get(pointer) ?? this.add({ pointer, halves: new Uint32Array(HALVES), exitedAt: NEVER });
  }

  private add(entry: Entry): Entry {
    this.entries.set(entry.pointer, entry);
    const [oldest] = this.entries.keys();
    if (this.entries.size > MOST && oldest !== undefined) this.entries.delete(oldest);
    return entry;
  }

  /** A VM exit; the general registers are still the guest's. Happens often: allocates nothing. */
  exited(state: State, pointer: number, instructions: number): void {
    if (this.current?.pointer !== pointer) this.loaded(pointer);
    const entry = this.current;
    if (!entry) return;
    const { u32 } = state;
    for (let half = 0; half < HALVES; half++) entry.halves[half] = u32[FIRST_HALF + half] as number;
    entry.exitedAt = instructions;
  }

  /** One of the guest's general registers, by its encoding, as the last VM exit of a VMCS here left it. */
  register(pointer: number, encoding: number): bigint | undefined {
    const entry = this.entries.get(pointer);
    return entry && entry.exitedAt !== NEVER ? new BigUint64Array(entry.halves.buffer)[encoding] : undefined;
  }

  get list(): KnownVmcs[] {
    return [...this.entries.values()].map(({ pointer, halves, exitedAt }) => ({
      pointer,
      exitedAt,
      registers: exitedAt !== NEVER ? [...new BigUint64Array(halves.buffer)] : undefined,
    }));
  }

  /** Puts back an earlier `list`. */
  replace(list: readonly KnownVmcs[]): void {
    this.entries.clear();
    this.current = undefined;
    for (const { pointer, registers, exitedAt } of list) {
      const halves = new Uint32Array(HALVES);
      new BigUint64Array(halves.buffer).set(registers ?? []);
      this.add({ pointer, halves, exitedAt });
    }
  }
}

/**
 * The VMCS in a region of memory, which must not be current on any processor. Undefined where there is none for a
 * guest: the revision identifier is gone, as when the memory has got another use, or it is a shadow VMCS.
 */
export function vmcsInMemory(physical: PhysicalMemory, pointer: number): VmcsAccess | undefined {
  const isThere = physical.isRam(pointer, VMCS_REGION.size);
  if (!isThere || physical.read(pointer + VMCS_REGION.revision, 4) !== VMCS_REVISION) return undefined;
  return {
    launchState: physical.read(pointer + VMCS_REGION.launchState, 4) === LAUNCH_STATE.launched ? 'launched' : 'clear',
    read(encoding) {
      const found = fieldByEncoding(encoding);
      if (!found) return undefined;
      const value = physical.read64(pointer + found.field.offset);
      return found.high ? value >> 32n : value;
    },
  };
}
