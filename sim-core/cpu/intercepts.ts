import type { ExceptionFault, Fault, VmExitFault } from '../mmu/fault.ts';
import type { FaultStep } from './fault-step.ts';

/**
 * What the processor asks VMX before it does something that a VM-execution control may turn into a VM exit. Asked only
 * in VMX non-root operation unless said otherwise. Implemented by `vmx/`; `cpu/` knows no VMCS.
 */
export type InterceptQuery =
  | {
      readonly kind: 'cpuid' | 'hlt' | 'invd' | 'wbinvd' | 'rdtsc' | 'rdtscp' | 'rdpmc' | 'pause' | 'monitor';
    }
  /** `armed`: a MONITOR has set up the address range. */
  | { readonly kind: 'mwait'; readonly armed?: boolean }
  /** `waitpkg`: whether TPAUSE, UMONITOR and UMWAIT exist. */
  | { readonly kind: 'xsetbv' | 'getsec' | 'rsm' | 'clts' | 'iret' | 'rdpid' | 'xsaves' | 'waitpkg' }
  /** `information` as VMX reports the register operand and its size. */
  | { readonly kind: 'rdrand' | 'rdseed' | 'umwait' | 'tpause'; readonly information: number }
  | { readonly kind: 'invlpg'; readonly linearAddress: bigint }
  /** `displacement` and `information` as for `descriptorTable`. */
  | { readonly kind: 'invpcid'; readonly displacement: bigint; readonly information: number }
  | { readonly kind: 'readCr' | 'writeCr'; readonly cr: 0 | 3 | 4 | 8; readonly gpr: number; readonly value: bigint }
  | { readonly kind: 'lmsw'; readonly source: number; readonly linearAddress?: bigint }
  | { readonly kind: 'movDr'; readonly dr: number; readonly gpr: number; readonly read: boolean }
  | { readonly kind: 'rdmsr' | 'wrmsr'; readonly msr: number }
  | {
      readonly kind: 'io';
      readonly port: number;
      readonly size: 1 | 2 | 4;
      readonly input: boolean;
      readonly string: boolean;
      readonly rep: boolean;
      readonly immediate: boolean;
      /** String instructions only. */
      readonly addressSize?: 2 | 4 | 8;
      readonly segment?: number;
      readonly linearAddress?: bigint;
    }
  | {
      readonly kind: 'descriptorTable';
      readonly instruction: 'sgdt' | 'sidt' | 'lgdt' | 'lidt' | 'sldt' | 'str' | 'lldt' | 'ltr';
      /** For the instruction information: the memory or register operand as VMX encodes it; see vmx/. */
      readonly displacement: bigint;
      readonly information: number;
    };

/** An event on its way through the IDT (SDM Vol. 3C, IDT-vectoring information types). */
export interface VectoredEvent {
  readonly vector: number;
  /** 0 external interrupt, 2 NMI, 3 hardware exception, 4 software interrupt, 5 privileged, 6 software exception. */
  readonly type: 0 | 2 | 3 | 4 | 5 | 6;
  readonly errorCode?: number;
  /** Software interrupts and exceptions (INT n, INT3, INTO, INT1): the instruction's length. */
  readonly instructionLength?: number;
  /** #PF: for CR2. */
  readonly linearAddress?: bigint;
  /** #DB: bits for DR6. */
  readonly debugStatus?: bigint;
  /** A fault of an IRET that has removed blocking by NMI. */
  readonly unblocksNmi?: true;
}

export interface Intercepts {
  /**
   * The VM exit that the instruction causes, #UD where a VM-execution control must enable the instruction (RDTSCP,
   * INVPCID), or undefined to let it execute.
   */
  instruction(query: InterceptQuery): VmExitFault | ExceptionFault | undefined;
  /** Whether delivering this exception (type 3 or 6) or NMI, external interrupt causes a VM exit; performs none. */
  event(event: VectoredEvent): boolean;
  /**
   * Performs a VM exit caused by `event` itself (exception bitmap, external interrupt, NMI, triple fault).
   * `vectoring` is the event during whose delivery it arose, if any. Afterwards the state is the host's.
   * @param story how a triple fault came about
   */
  exitForEvent(
    event: VectoredEvent | 'tripleFault',
    vectoring: VectoredEvent | undefined,
    story?: readonly FaultStep[],
  ): void;
  /** Performs a VM exit for a fault value (instruction exits, EPT violations, misconfigurations). */
  exitForFault(
    fault: Exclude<Fault, { kind: 'exception' | 'softwareInterrupt' | 'unimplemented' }>,
    vectoring: VectoredEvent | undefined,
  ): void;
  /** Whether IRET in the guest removes blocking by NMI. */
  iretUnblocksNmi(): boolean;
  /** The exception that an instruction's fault becomes in the guest instead of a VM exit (#VE). */
  exceptionFor(fault: Fault): ExceptionFault | undefined;
  /**
   * At an instruction boundary in non-root operation, before debug traps are looked at: performs the trap-like VM exit
   * that the last instruction has brought about (APIC-write emulation, monitor trap flag), or that of an INIT signal or
   * start-up IPI.
   * @returns whether there was one
   */
  trap(): boolean;
  /**
   * At an instruction boundary in non-root operation, before interrupts are looked at: performs the VM exit that is due
   * there by itself (preemption timer, interrupt window, NMI window).
   * @returns whether there was one, or the virtual interrupt to deliver
   */
  boundary(): boolean | VectoredEvent;
  /** The guest's CR8, 0…15; undefined when it has the processor's. */
  taskPriority(): number | undefined;
  /** @returns false when the guest has the processor's CR8 */
  setTaskPriority(priority: number): boolean;
  /** What RDMSR in the guest gets instead of the processor's MSR. */
  readMsr(msr: number): bigint | undefined;
  /** WRMSR in the guest. @returns undefined when it is to write the processor's MSR; 'fault' for #GP(0) */
  writeMsr(msr: number, value: bigint): 'written' | 'fault' | undefined;
  /** CR0/CR4 as the guest reads them: read shadow where the guest/host mask is 1. */
  guestView(cr: 0 | 4, real: bigint): bigint;
  /** The value that a guest write of `value` leaves in the real register: masked bits keep `real`. */
  mergeGuestWrite(cr: 0 | 4, value: bigint, real: bigint): bigint;
  /** Bits of CR0 or CR4 that VMX operation holds at 1 now. Asked in root operation, too, while VMX is on. */
  fixedBits(cr: 0 | 4): bigint;
}
