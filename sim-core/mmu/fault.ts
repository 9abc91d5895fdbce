/** Guest faults are values: what stops an instruction (or the delivery of an event) before it changes state. */

import { VECTOR } from '../state/vectors.ts';

export { VECTOR };

/** What faults of IRET say that VM exits report. */
interface DuringIret {
  /** IRET has removed blocking by NMI (or virtual NMI) before it faulted. */
  readonly unblocksNmi?: true;
}

export interface ExceptionFault extends DuringIret {
  readonly kind: 'exception';
  /** 0…31. */
  readonly vector: number;
  /** Undefined when the exception pushes none. */
  readonly errorCode?: number;
  /** #PF only: the linear address that CR2 receives when the exception is delivered. */
  readonly linearAddress?: bigint;
  /** #DB only: bits to set in DR6 (and exit qualification). */
  readonly debugStatus?: bigint;
}

export interface EptViolation extends DuringIret {
  readonly kind: 'eptViolation';
  /** Exit qualification as the SDM's table "Exit Qualification for EPT Violations" defines it. */
  readonly qualification: bigint;
  readonly guestPhysicalAddress: bigint;
  /** Set when the EPT entry keeps the violation from becoming a #VE (its bit 63, “suppress #VE”). */
  readonly suppressesException?: true;
  /** Undefined when there is no linear address (PDPTE load by MOV to CR3). */
  readonly guestLinearAddress?: bigint;
}

export interface EptMisconfiguration extends DuringIret {
  readonly kind: 'eptMisconfiguration';
  readonly guestPhysicalAddress: bigint;
}

/** An instruction that causes a VM exit (fault-like: RIP stays at the instruction). */
export interface VmExitFault extends DuringIret {
  readonly kind: 'vmExit';
  /** Basic exit reason (vmx/exit-reasons.ts). */
  readonly reason: number;
  readonly qualification: bigint;
  /** VM-exit instruction information, where the reason defines it. */
  readonly instructionInformation?: number;
  readonly guestLinearAddress?: bigint;
  readonly guestPhysicalAddress?: bigint;
  /** Why, in words, for the debugger: the control or bitmap bit that asked for it. */
  readonly cause: string;
}

/** INT n (type 4), INT1 (5), INT3 and INTO (6), to be delivered through the IDT; RIP is still at the instruction. */
export interface SoftwareInterrupt {
  readonly kind: 'softwareInterrupt';
  readonly vector: number;
  readonly type: 4 | 5 | 6;
  readonly instructionLength: number;
}

/** The machine cannot go on faithfully: an instruction or feature that is not simulated. Never a guest-visible #UD. */
export interface Unimplemented {
  readonly kind: 'unimplemented';
  readonly what: string;
}

/** An access may also touch the APIC-access page, or a full page-modification log. */
export type MemoryFault = ExceptionFault | EptViolation | EptMisconfiguration | VmExitFault;
export type Fault = MemoryFault | SoftwareInterrupt | Unimplemented;

export const exception = (vector: number, errorCode?: number): ExceptionFault =>
  errorCode === undefined ? { kind: 'exception', vector } : { kind: 'exception', vector, errorCode };
/** #GP(error code), 0 unless a selector is at fault. */
export const generalProtection = (errorCode = 0): ExceptionFault => exception(VECTOR.gp, errorCode);
export const undefinedOpcode = (): ExceptionFault => exception(VECTOR.ud);
