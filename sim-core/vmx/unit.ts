/** What the parts of the VMX unit share. */

import type { Cpu } from '../cpu/cpu.ts';
import type { State } from '../state/state.ts';
import type { EntryFacts } from './entry-check.ts';
import type { KnownVmcses } from './known-vmcses.ts';
import type { PageModificationLog } from './page-log.ts';
import type { VmEntryFailure, VmExitRecord, VmxAbort } from './records.ts';
import type { VirtualApic } from './virtual-apic.ts';
import type { CurrentVmcs } from './vmcs.ts';

/** Told of transitions; all but `onExiting` after the state is the new world's. */
export interface VmxCallbacks {
  /** A VM exit begins: the state is the guest's still. Not for those of failed VM entries. */
  readonly onExiting?: () => void;
  readonly onExit: (record: VmExitRecord) => void;
  readonly onEntry: () => void;
  readonly onEntryFailure: (failure: VmEntryFailure) => void;
  /** Nothing runs any more. */
  readonly onAbort: (abort: VmxAbort) => void;
}

/** The VMX unit of one processor, attached to it. */
export interface VmxUnit {
  readonly cpu: Cpu;
  readonly state: State;
  readonly vmcs: CurrentVmcs;
  readonly facts: EntryFacts;
  readonly virtualApic: VirtualApic;
  readonly pageLog: PageModificationLog;
  readonly callbacks: VmxCallbacks;
  readonly known: KnownVmcses;
  readonly exitCounts: Map<number, number>;
  lastExit: VmExitRecord | undefined;
  lastEntryFailure: VmEntryFailure | undefined;
  entries: number;
  /** Cycles between VM exits and the VM entries after them, by basic exit reason. */
  readonly exitCycles: Map<number, number>;
  /** The VM exit that no VM entry has followed yet: its reason and the cycle; undefined in the guest. */
  exited: { readonly reason: number; readonly cycle: number } | undefined;
}

/** What VM entries and VM exits cost in the machine's cycles, beside the instruction. */
export const TRANSITION_CYCLES = 500;
