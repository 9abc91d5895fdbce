/** What the debug adapter and the CLI see of the machine. `machine.ts` implements it. */

import type { Cpu } from '../cpu/cpu.ts';
import type { RegionCompiler } from '../engine/region-job.ts';
import type { Iommu } from '../iommu/iommu.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import type { BootRequest } from '../loaders/boot-request.ts';
import type { Mmu } from '../mmu/mmu.ts';
import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import type { TableReference } from '../mmu/table-reference.ts';
import type { StaleUse } from '../mmu/table-watch.ts';
import type { DeviceConfig } from '../platform/devices.ts';
import type { DmaFault } from '../platform/dma.ts';
import type { PciFunction } from '../platform/pci/function.ts';
import type { State } from '../state/state.ts';
import type { VmEntryFailure, VmExitRecord, VmxView } from '../vmx/records.ts';
import type { Rewindable } from './history/rewindable.ts';
import type { StopReason } from './stop-reason.ts';
import type { InstructionStop, Watch, WatchHit } from './watching/watch.ts';

export interface MachineConfig {
  /** Guest RAM in bytes (multiple of 64 KiB, 1 MiB … 3 GiB). */
  readonly memory: number;
  /** Name of a processor model in cpu/models.ts; default 'westmere'. */
  readonly cpuModel?: string;
  /** False hides VMX from CPUID and makes its instructions #UD. Default true. */
  readonly vmx?: boolean;
  /** Number of processors, 1…16. Default 1. */
  readonly cpus?: number;
  /** Cycles that a processor runs before it is the next one's turn. Default 20,000. */
  readonly quantum?: number;
  /** PCI devices, in the order of their numbers on bus 0 (from 1). */
  readonly devices?: readonly DeviceConfig[];
  /** What the real-time clock shows at power-up: seconds since 1 January 1970, UTC. Default: 1 January 2026. */
  readonly startTime?: number;
  /** Devices' accesses and interrupts go through an IOMMU (VT-d). Default false. */
  readonly iommu?: boolean;
  /** With QEMU's pc-testdev, for test programs that drive interrupt lines. Default false. */
  readonly testDevice?: boolean;
  /** False keeps hot code in the interpreter, too: for measuring and comparing. Default true. */
  readonly compile?: boolean;
  /**
   * Page offsets at which compiled code begins a new block, so that a run can end there without the interpreter: for
   * locating where compiled code goes wrong. Default: none.
   */
  readonly blockStarts?: readonly number[];
  /** Compiles hot code elsewhere, while the machine goes on. Default: here. */
  readonly compiler?: RegionCompiler | undefined;
}

export type { BootModule, BootRequest } from '../loaders/boot-request.ts';

export type World = 'vmm' | 'guest';

/** An instruction breakpoint on a linear address. */
export interface BreakpointLocation {
  readonly address: bigint;
  /** Undefined: in any world. */
  readonly world?: World;
  /** Undefined: on any processor. */
  readonly processor?: number;
}

/** A processor as a list of them shows it; for more, `Machine.select` it. */
export interface ProcessorView {
  readonly number: number;
  readonly activity: 'active' | 'HLT' | 'shutdown' | 'wait-for-SIPI';
  readonly world: World;
  /** In HLT with interrupts that would end it. */
  readonly wakesUp: boolean;
  /** Linear address of the next instruction. */
  readonly rip: bigint;
  readonly vmx: VmxView;
}

/**
 * The whole simulated computer, synchronous: `run` returns after at most the given number of instructions. A caller
 * that must stay responsive runs short slices. Nothing here reads a clock or a file.
 */
export interface Machine {
  readonly config: MachineConfig;
  readonly physical: PhysicalMemory;
  /** All processors. One of them is selected: `state`, `mmu`, `cpu`, `vmx`, `world` are that one's. */
  readonly processors: readonly ProcessorView[];
  /** Number of the selected processor: after `run` and `step` the one that stopped. */
  readonly selected: number;
  /** Has no effect on what `run` does. `step` steps the selected processor. @throws RangeError if there is none */
  select(processor: number): void;
  readonly state: State;
  readonly mmu: Mmu;
  readonly cpu: Cpu;

  /** Loads an image and puts the processor at its entry. @throws ImageError that says what is wrong with the image. */
  boot(request: BootRequest): void;

  /**
   * Runs at most `instructions` instructions. A breakpoint at the current RIP does not stop the first instruction.
   * @returns the reason; `limit` when the number is used up.
   */
  run(instructions: number): StopReason;
  /**
   * Executes exactly one instruction (or delivers one event) of the selected processor without looking at breakpoints
   * at the current RIP. Others run as long as it is their turn. @returns `limit`, also when its turn did not come
   */
  step(): StopReason;
  /** Makes the running `run` return `paused` at the next event boundary (from device callbacks and hooks). */
  requestStop(): void;
  /** Called at least every 50,000 instructions while the machine runs: who measures time may ask for a stop then. */
  onSample: (() => void) | undefined;

  /** Instructions retired since boot. */
  readonly instructions: number;
  /** Cycles since boot. */
  readonly cycles: number;

  /** Replaces all instruction breakpoints. */
  setBreakpoints(locations: readonly BreakpointLocation[]): void;
  /** Replaces the kinds of instructions that stop the machine in front of them, as a breakpoint does. */
  setInstructionStops(stops: readonly InstructionStop[]): void;
  /** Those that the instruction in front of the processor is one of. */
  instructionStopsHere(): readonly InstructionStop[];
  /** Replaces all data watchpoints. Code that accesses nothing watched runs as fast as without. */
  setWatches(watches: readonly Watch[]): void;
  /** Told, behind an instruction, of what it has done to something watched; true stops the machine. */
  onWatch: ((hits: readonly WatchHit[]) => boolean) | undefined;
  /** Asked after every VM exit; true stops the machine. Undefined: never stop. */
  onVmExit: ((exit: VmExitRecord) => boolean) | undefined;
  /** Asked after every VM entry that succeeded; true stops the machine. */
  onVmEntry: (() => boolean) | undefined;
  /** Asked after a failed VM entry; true stops the machine. */
  onVmEntryFailure: ((failure: VmEntryFailure) => boolean) | undefined;
  /** Asked at the first access that a stale TLB entry serves, while tables are watched; true stops the machine. */
  onStaleUse: ((use: StaleUse) => boolean) | undefined;
  /**
   * Begins or ends to follow which writes make TLB entries stale. What the machine does stays the same; writes to
   * tables take longer. Off at first.
   */
  watchTables(on: boolean): void;

  /** Begins, or with undefined ends, to tell every access of page walks to table entries, of all processors. */
  watchWalks(onReference: ((reference: TableReference) => void) | undefined): void;

  /** Asked after an access of a device was refused; true stops the machine. */
  onDmaFault: ((fault: DmaFault) => boolean) | undefined;

  /** Told how many cycles all processors wait in HLT, MWAIT or for a start-up, before what wakes one of them. */
  onSleep: ((cycles: number) => void) | undefined;

  /** Told in words when the guest has done something to a device that it cannot work with. */
  onDeviceComplaint: ((text: string) => void) | undefined;

  /** What time travel (history/history.ts) works on. */
  readonly rewindable: Rewindable;

  readonly world: World;
  /** COM1. */
  readonly serial: SerialPort;
  readonly com2: SerialPort;
  /** Called with each byte that the guest writes to a debug console (ports E9h and 402h). */
  onDebugConsole: ((byte: number) => void) | undefined;
  readonly vmx: VmxView;
  /** Undefined in a machine without one. */
  readonly iommu: Iommu | undefined;
  /** The functions on PCI bus 0, in the order of their numbers. */
  readonly pci: readonly PciFunction[];

  /**
   * Decodes the instruction at a linear address of the current world; undefined when it cannot be read or is invalid.
   */
  decodeAt(linear: bigint): DecodedInstruction | undefined;
}

export interface SerialPort {
  /** Called with each byte that the guest sends. */
  onOutput: ((byte: number) => void) | undefined;
  /** Number of bytes sent since boot: in replays of the past it counts again from where it was. */
  readonly sent: number;
  /** Queues bytes for the guest to receive. */
  input(bytes: Uint8Array): void;
}
