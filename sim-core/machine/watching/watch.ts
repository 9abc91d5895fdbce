/** What the debugger can watch, and what it is told: plain values. `watcher.ts` does the watching. */

import type { Mnemonic } from 'iced-x86';
import type { World } from '../api.ts';

/** `change`: a write that leaves another value. */
export type WatchAccess = 'read' | 'write' | 'readWrite' | 'change';

interface Watched {
  readonly access: WatchAccess;
  /** Undefined: whoever runs. */
  readonly world?: World | undefined;
}

export type Watch =
  /** Accesses by linear, guest-physical or host-physical address. Reads by page walks and fetches do not count. */
  | (Watched & {
      readonly kind: 'memory';
      readonly space: 'linear' | 'gpa' | 'hpa';
      readonly address: bigint;
      readonly length: number;
    })
  /** Accesses of a device by its own addresses. */
  | (Watched & {
      readonly kind: 'dma';
      readonly requester: number;
      readonly address: bigint;
      readonly length: number;
    })
  /**
   * Instructions that name a register (machine/registers.ts), also implicitly, and changes by events, VM entries and VM
   * exits. A world's own register is what its VMCS holds while it does not run.
   */
  | (Watched & { readonly kind: 'register'; readonly name: string })
  /** RDMSR, WRMSR, and what else writes the MSR, VM entries and VM exits too. */
  | (Watched & { readonly kind: 'msr'; readonly index: number })
  /** VMREAD and VMWRITE of a field of the current VMCS, and the processor's writes at VM entries and VM exits. */
  | (Watched & { readonly kind: 'field'; readonly encoding: number })
  /**
   * The table entry that ends the translation of an address now: followed when tables or roots change. `world` is whose
   * tables they are; who accesses them does not matter. EPT's are those of the current VMCS.
   */
  | (Omit<Watched, 'world'> & {
      readonly kind: 'tableEntry';
      readonly of: 'linear' | 'gpa';
      readonly world: World;
      readonly address: bigint;
    })
  /** Accesses to I/O ports that reach the platform. */
  | (Watched & { readonly kind: 'port'; readonly port: number; readonly ports: number })
  /** CPL has become 3, or CR3 has changed, since this world ran last: before the next instruction. */
  | (Watched & { readonly kind: 'event'; readonly event: WatchedEvent });

export type WatchedEvent = 'ring3' | 'addressSpace';

/** Something watched has happened: the machine is behind the instruction. */
export interface WatchHit {
  readonly watch: Watch;
  readonly access: 'read' | 'write';
  readonly by: 'instruction' | 'processor' | 'device';
  /** Linear address of the instruction during which it happened, in its world. */
  readonly at: bigint;
  readonly world: World;
  readonly processor: number;
  /** Memory and ports: what was accessed, in the watch's address space. */
  readonly address?: bigint;
  readonly length?: number;
  /** Little-endian value of the watched bytes (of those accessed, where more than 16 are watched) before and now. */
  readonly before?: bigint | undefined;
  readonly after?: bigint | undefined;
}

/** Instructions to stop in front of. */
export type InstructionStop =
  | {
      readonly kind: 'mnemonic';
      readonly mnemonics: ReadonlySet<Mnemonic>;
      /** What ARGUMENTS (instruction-stops.ts) must give; undefined: anything. */
      readonly argument?: bigint | undefined;
    }
  /** Any instruction that reads or writes a register. */
  | { readonly kind: 'register'; readonly name: string; readonly write: boolean };
