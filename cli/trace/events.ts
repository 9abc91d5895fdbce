/** What `vmxray trace` tells of, as plain values; `text.ts` and `perfetto.ts` write them. */

import type { World } from '../../sim-core/machine/api.ts';
import type { TableReference } from '../../sim-core/mmu/table-reference.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';

interface TraceEventBase {
  readonly processor: number;
  readonly world: World;
  /** Since boot. */
  readonly instructions: number;
  readonly cycles: number;
}

export type TraceEvent = TraceEventBase &
  (
    | {
        readonly kind: 'instruction';
        /** Linear. */
        readonly address: bigint;
        readonly bytes: Uint8Array;
        readonly text: string;
        /** False: a fault, a VM exit or an interrupt came instead of its completion. */
        readonly completed: boolean;
      }
    | { readonly kind: 'exit'; readonly exit: VmExitRecord }
    | { readonly kind: 'entry'; readonly vpid: number; readonly guestRip: bigint }
    | { readonly kind: 'entryFailure'; readonly explanation: string }
    | {
        readonly kind: 'memory';
        readonly access: 'read' | 'write';
        /** Linear for the processor's accesses, the device's own address for DMA. */
        readonly address: bigint;
        readonly length: number;
        /** What is there after the access, or what a device gave or got; undefined where neither is known. */
        readonly value: bigint | undefined;
        readonly by: string;
      }
    | ({
        /** A page walk reads an entry of a table, or sets flags in it. */
        readonly kind: 'walk';
      } & TableReference)
    | {
        readonly kind: 'device';
        readonly access: 'read' | 'write';
        readonly space: 'port' | 'memory';
        readonly address: bigint;
        readonly length: number;
        readonly value: bigint | undefined;
        readonly device: string;
      }
  );

export type EventOf<Kind extends TraceEvent['kind']> = Extract<TraceEvent, { kind: Kind }>;

/** Takes events in the order in which they happen. */
export interface TraceFormat {
  add(event: TraceEvent): void;
  /** The run has ended. @param reason why @param cycles since boot */
  end(reason: string, cycles: number): void;
}

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
