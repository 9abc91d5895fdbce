/** Why the machine stopped: a discriminated union that the adapter, the CLI and tests switch over exhaustively. */

import type { Fault } from '../mmu/fault.ts';

export type StopReason =
  /** The instruction limit given to `run` is used up. */
  | { readonly kind: 'limit' }
  /** `stopRequested` was called (pause). */
  | { readonly kind: 'paused' }
  /** An instruction breakpoint, before the instruction executes. */
  | { readonly kind: 'breakpoint'; readonly address: bigint }
  /** After a VM exit whose filter asked for a stop: the state is the host's, at HOST_RIP. */
  | { readonly kind: 'vmExit'; readonly exit: VmExitRecord }
  /** After a VM entry that the debugger waits for: the state is the guest's. */
  | { readonly kind: 'vmEntry' }
  /** A VM entry failed; the VMM is at the instruction after VMLAUNCH/VMRESUME, or at its HOST_RIP (exits 33, 34). */
  | { readonly kind: 'vmEntryFailure'; readonly failure: VmEntryFailure }
  /** Triple fault in VMX root operation or without VMX: the machine is left as the third fault found it. */
  | { readonly kind: 'tripleFault'; readonly story: readonly FaultStep[] }
  /** An instruction or feature that is not simulated (docs/limits.md). */
  | {
      readonly kind: 'unimplemented';
      readonly address: bigint;
      readonly bytes: Uint8Array;
      readonly mnemonic: string;
      readonly what: string;
    }
  /** The guest wrote `value` to the isa-debug-exit port 0xF4; exit status (value << 1) | 1. */
  | { readonly kind: 'debugExit'; readonly value: number }
  /** A clean power-off. */
  | { readonly kind: 'powerOff' }
  /** HLT (or MWAIT) that nothing can ever wake. */
  | { readonly kind: 'halted' }
  /** The guest asked for a reset (keyboard controller, port 0x92, triple fault is separate). */
  | { readonly kind: 'reset' }
  /** Reserved for data breakpoints (a later issue). */
  | { readonly kind: 'watchpoint'; readonly address: bigint };

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
}

export interface VmEntryFailure {
  /** VM-instruction error 7 or 8 (VMfailValid), or basic exit reason 33 or 34. */
  readonly outcome: { readonly vmInstructionError: 7 | 8 } | { readonly exitReason: 33 | 34 };
  /** The first check that failed, and every other one that would; see vmx/entry-checks.ts. */
  readonly checks: readonly FailedCheck[];
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

/** One step on the way to a triple fault. */
export interface FaultStep {
  readonly fault: Fault;
  readonly rip: bigint;
  readonly description: string;
}
