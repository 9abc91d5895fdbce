/** What VMX tells the layers above: exits, failed entries, and the view a debugger has of the current VMCS. */

import type { FaultStep } from '../cpu/fault-step.ts';
import type { InterceptQuery, VectoredEvent } from '../cpu/intercepts.ts';
import type { ExceptionFault, VmExitFault } from '../mmu/fault.ts';
import type { KnownVmcs } from './known-vmcses.ts';

/** One VM exit, as the VMM can read it from the VMCS, plus what it cannot. Field values are the VMCS's. */
export interface VmExitRecord {
  /** Basic exit reason. */
  readonly reason: number;
  /** The whole 32-bit exit-reason field (bit 31 = VM-entry failure). */
  readonly exitReasonField: number;
  readonly qualification: bigint;
  readonly guestLinearAddress: bigint;
  readonly guestPhysicalAddress: bigint;
  readonly interruptionInformation: number;
  readonly interruptionErrorCode: number;
  readonly idtVectoringInformation: number;
  readonly instructionLength: number;
  readonly instructionInformation: number;
  readonly guestRip: bigint;
  /** The physical address of the VMCS. */
  readonly vmcs: bigint;
  /** Instructions retired when it happened. */
  readonly instructions: number;
  /** In words: the control, bitmap bit or entry that caused it. */
  readonly cause: string;
  /** Triple faults: how it came about. */
  readonly story?: readonly FaultStep[] | undefined;
}

export interface VmEntryFailure {
  /** VM-instruction error 7 or 8 (VMfailValid), or basic exit reason 33 or 34. */
  readonly outcome: { readonly vmInstructionError: 7 | 8 } | { readonly exitReason: 33 | 34 };
  /** The first check that failed, and every other one that would; see vmx/entry-checks.ts. */
  readonly checks: readonly FailedCheck[];
}

/** A VM exit that could not be completed. */
export interface VmxAbort {
  /** What the VMCS region holds at offset 4. */
  readonly indicator: number;
  /** The physical address of the VMCS. */
  readonly vmcs: bigint;
  /** What went wrong, as half a sentence. */
  readonly explanation: string;
}

export interface FailedCheck {
  readonly id: string;
  /** A sentence: what must hold, with the values found. */
  readonly explanation: string;
  /** Manual section, e.g. 'SDM Vol. 3C 27.3.1.1'. */
  readonly section: string;
  /** The VMCS fields it reads and their values. */
  readonly fields: readonly { readonly name: string; readonly value: bigint }[];
}

/** A change of one field that would make a failed check hold. */
export interface EntryRemedy {
  readonly field: string;
  readonly value: bigint;
  /** In words: 'clear bit 17 (VM) of GUEST_RFLAGS'. */
  readonly text: string;
}

/** VMX as a debugger looks at it. Reading never changes anything. */
export interface VmxView {
  /** Physical address of the current VMCS, or undefined. */
  readonly currentVmcs: bigint | undefined;
  /** Launch state of the current VMCS. */
  readonly launchState: 'clear' | 'launched' | undefined;
  /** A field of the current VMCS by encoding (undefined without current VMCS or for unknown encodings). */
  read(encoding: number): bigint | undefined;
  /** What `read` would say now, to be asked later; undefined without current VMCS. */
  remember(): ((encoding: number) => bigint | undefined) | undefined;
  /** Writes a field without VMWRITE's rules (the debugger may write read-only fields). False when there is none. */
  write(encoding: number, value: bigint): boolean;
  /** The VMCSs that VMPTRLD has made current here since boot, in the order in which it first did. */
  readonly knownVmcses: readonly KnownVmcs[];
  /**
   * One of the general registers of the current VMCS's guest, by its encoding, as the last VM exit left it: the VMM
   * overwrites the real ones. Undefined before that.
   */
  guestRegister(encoding: number): bigint | undefined;
  readonly lastExit: VmExitRecord | undefined;
  readonly lastEntryFailure: VmEntryFailure | undefined;
  /** VM exits by basic exit reason. */
  readonly exitCounts: ReadonlyMap<number, number>;
  /** Cycles from VM exits to the VM entries that followed, by basic exit reason: what each reason has cost. */
  readonly exitCycles: ReadonlyMap<number, number>;
  /** VM entries that succeeded. */
  readonly entries: number;
  /** Evaluates all entry checks on the current VMCS as VMLAUNCH would now; empty when it would enter. */
  checkEntry(): VmEntryFailure | undefined;
  /** What would satisfy a failed check, one field changed at a time. */
  remedies(failed: FailedCheck): readonly EntryRemedy[];
  /** What the guest's instruction would be answered: a VM exit, #UD, or undefined: it executes. */
  whyInstruction(query: InterceptQuery): VmExitFault | ExceptionFault | undefined;
  /** Why an event in the guest would cause a VM exit; undefined when the guest gets it. */
  whyEvent(event: VectoredEvent): string | undefined;
  /** Why VMREAD or VMWRITE in the guest would cause a VM exit; undefined when the shadow VMCS serves it. */
  whyShadow(encoding: bigint, write: boolean): string | undefined;
  /**
   * The VM exit of an access to the APIC-access page of the guest that runs; undefined where the access is none to that
   * page, or is virtualized.
   */
  apicExit(physical: number, size: number, access: 'read' | 'write' | 'execute'): VmExitFault | undefined;
}
