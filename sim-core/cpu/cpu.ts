import type { DecodedInstruction } from '../isa/instruction.ts';
import type { Fault } from '../mmu/fault.ts';
import type { Mmu } from '../mmu/mmu.ts';
import type { State } from '../state/state.ts';
import type { FeatureName } from './features.ts';
import type { Intercepts } from './intercepts.ts';

/** Port I/O as the platform answers it. Values unsigned; size 1, 2 or 4 bytes. */
export interface PortBus {
  read(port: number, size: 1 | 2 | 4): number;
  write(port: number, size: 1 | 2 | 4, value: number): void;
}

/** The interrupt controllers in front of the processor. */
export interface InterruptController {
  /** INTA cycle: the vector to deliver. Called only while `interruptRequest` is set. */
  acknowledge(): number;
  /** MSRs that belong to the local APIC (1Bh, 6E0h, 800h–8FFh): undefined when it is not one of them or would #GP. */
  readMsr(index: number): bigint | undefined;
  writeMsr(index: number, value: bigint): boolean;
  /** CR8: the task-priority class, 0…15. */
  getTaskPriority(): number;
  setTaskPriority(priority: number): void;
  /** A performance counter has overflowed: what the local vector table says. */
  performanceMonitoringInterrupt(): void;
  /** The interrupt of highest priority in service ends. */
  endOfInterrupt(): void;
  /** The local APIC gets an INIT signal. */
  initialize(): void;
}

/** Virtual time: counted, never the host's. */
export interface Clock {
  /** Cycles since reset: retired instructions plus extra cycles; a Number, exact below 2^53. */
  cycles(): number;
}

/** One logical processor: what slow instructions and event delivery work on. */
export interface Cpu {
  readonly state: State;
  readonly mmu: Mmu;
  readonly ports: PortBus;
  readonly interrupts: InterruptController;
  readonly clock: Clock;
  readonly model: CpuModel;
  readonly intercepts: Intercepts;
  /** The VMX capability MSRs (480h–491h). */
  readonly vmxMsrs: VmxMsrs;
  /** Undefined: it is the only one. */
  readonly topology?: Topology;
}

/** Which of the machine's processors it is. */
export interface Topology {
  /** Its number, from 0, which is its initial APIC ID. */
  readonly number: number;
  /** How many there are. */
  readonly processors: number;
}

/** Read-only MSRs that vmx/ owns. */
export interface VmxMsrs {
  /** Undefined when the model has no such MSR. */
  read(index: number): bigint | undefined;
}

/** A processor model: what CPUID and the capability MSRs say (cpu/cpuid.ts, vmx/capabilities.ts). */
export interface CpuModel {
  readonly name: string;
  readonly physicalAddressBits: number;
  readonly linearAddressBits: number;
  /** CR4 and IA32_EFER bits that software may set; others are reserved (#GP, and fixed to 0 in VMX operation). */
  readonly cr4Bits: number;
  readonly eferBits: number;
  /** Hertz of the cycle counter; TSC and APIC timer run at it. */
  readonly frequency: number;
  /** Display family, model and stepping as CPUID.1:EAX gives them; EDX after reset. */
  readonly signature: number;
  readonly brand: string;
  readonly features: ReadonlySet<FeatureName>;
}

/** Where execution goes on after a slow instruction that did not fault. */
export const NEXT = {
  /** At the next instruction: the caller advances RIP by the instruction's length. */
  sequential: 0,
  /** At `state.rip`, which the instruction has set (branches, IRET, VM entry, REP that is not finished). */
  jumped: 1,
} as const;
export type Next = (typeof NEXT)[keyof typeof NEXT];

/**
 * An instruction in plain TypeScript. On entry `state.rip` is the address of the instruction; on a fault the state
 * must be as before the instruction.
 */
export type SlowInstruction = (cpu: Cpu, instruction: DecodedInstruction) => Next | Fault;

/** Rows of slow instructions by iced-x86 mnemonic; `cpu/` and `vmx/` each export one, the machine joins them. */
export type SlowInstructionTable = ReadonlyMap<number, SlowInstruction>;
