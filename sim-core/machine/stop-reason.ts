/** Why the machine stopped: a discriminated union that the adapter, the CLI and tests switch over exhaustively. */

import type { FaultStep } from '../cpu/fault-step.ts';
import type { StaleUse } from '../mmu/table-watch.ts';
import type { DmaFault } from '../platform/dma.ts';
import type { VmEntryFailure, VmExitRecord, VmxAbort } from '../vmx/records.ts';
import type { WatchHit } from './watching/watch.ts';

export type StopReason =
  /** The instruction limit given to `run` is used up. */
  | { readonly kind: 'limit' }
  /** `stopRequested` was called (pause). */
  | { readonly kind: 'paused' }
  /** An instruction breakpoint, or a kind of instruction to stop at, before the instruction executes. */
  | { readonly kind: 'breakpoint'; readonly address: bigint }
  /** After a VM exit whose filter asked for a stop: the state is the host's, at HOST_RIP. */
  | { readonly kind: 'vmExit'; readonly exit: VmExitRecord }
  /** After a VM entry that the debugger waits for: the state is the guest's. */
  | { readonly kind: 'vmEntry' }
  /** A VM entry failed; the VMM is at the instruction after VMLAUNCH/VMRESUME, or at its HOST_RIP (exits 33, 34). */
  | { readonly kind: 'vmEntryFailure'; readonly failure: VmEntryFailure }
  /** Behind the instruction (in front of it for a fetch) that used a stale translation. */
  | { readonly kind: 'staleUse'; readonly use: StaleUse }
  /** Triple fault in VMX root operation or without VMX: the machine is left as the third fault found it. */
  | { readonly kind: 'tripleFault'; readonly story: readonly FaultStep[] }
  /** A VM exit that could not be completed: only a reset gets the processor going again. */
  | { readonly kind: 'vmxAbort'; readonly abort: VmxAbort }
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
  /** A device's access was refused, and the debugger waits for that: at the next instruction boundary. */
  | { readonly kind: 'dmaFault'; readonly fault: DmaFault }
  /** Something watched was accessed, and `onWatch` asked for a stop: the machine is behind the instruction. */
  | { readonly kind: 'watchpoint'; readonly hits: readonly WatchHit[] };
