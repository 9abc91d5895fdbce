/** The machine: its parts put together, and what is asked of it from outside. */

import { type Instruction, Mnemonic } from 'iced-x86';
import {
  type Clock,
  type Cpu,
  type CpuModel,
  type InterruptController,
  NEXT,
  type PortBus,
  type SlowInstruction,
} from '../cpu/cpu.ts';
import { CPU_INSTRUCTIONS } from '../cpu/instructions.ts';
import { findModel } from '../cpu/models.ts';
import { noteRing, suspendCounters } from '../cpu/performance-counters.ts';
import { resetCpu } from '../cpu/reset.ts';
import { waitForStartUp } from '../cpu/start-up.ts';
import type { Iommu } from '../iommu/iommu.ts';
import type { DecodedInstruction } from '../isa/instruction.ts';
import { loadImage } from '../loaders/load.ts';
import type { AccessWatch } from '../mmu/access-watch.ts';
import { FastTlb } from '../mmu/fast-tlb.ts';
import type { Fault } from '../mmu/fault.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import type { TableReference } from '../mmu/table-reference.ts';
import type { StaleUse, TableWatchHooks } from '../mmu/table-watch.ts';
import { Tlb } from '../mmu/tlb.ts';
import type { DmaFault } from '../platform/dma.ts';
import type { PciFunction } from '../platform/pci/function.ts';
import { Platform, type PlatformCallbacks, type PlatformState } from '../platform/platform.ts';
import type { Uart } from '../platform/uart.ts';
import { ProcessorState } from '../state/processor-state.ts';
import { State } from '../state/state.ts';
import { vmxInstructions } from '../vmx/instructions.ts';
import type { VmEntryFailure, VmExitRecord, VmxView } from '../vmx/records.ts';
import { Vmx, type VmxHistory } from '../vmx/vmx.ts';
import type {
  BootRequest,
  BreakpointLocation,
  Machine,
  MachineConfig,
  ProcessorView,
  SerialPort,
  World,
} from './api.ts';
import { Execution } from './execution.ts';
import type { OutsideEvent } from './history/outside-event.ts';
import type { Position } from './history/position.ts';
import type { Rewindable } from './history/rewindable.ts';
import { InstructionBreakpoints } from './instruction-breakpoints.ts';
import { peekInstruction } from './peek-instruction.ts';
import { Processor } from './processor.ts';
import { type LogicalProcessor, Processors, viewOf } from './processors.ts';
import { registerByName } from './registers.ts';
import { STAGED_SEMANTICS } from './semantics.ts';
import type { StopReason } from './stop-reason.ts';
import type { InstructionStop, Watch, WatchHit } from './watching/watch.ts';
import { Watcher } from './watching/watcher.ts';

export const DEFAULT_QUANTUM = 20_000;

/** A machine at power-up. @throws RangeError for a configuration that cannot be built. */
export function createMachine(config: MachineConfig): Machine {
  return new SimulatedMachine(config);
}

/** Power-up; all but the bootstrap processor wait to be started. Random numbers differ from one to the next. */
function powerUp(cpu: Cpu, number: number): void {
  const { state } = cpu;
  resetCpu(cpu);
  state.set64('randomState', state.get64('randomState') + BigInt(number));
  if (number !== 0) waitForStartUp(state);
}

/** A serial port as its far end has it. */
const portOf = (uart: () => Uart): SerialPort => ({
  onOutput: undefined,
  get sent() {
    return uart().sent;
  },
  input: (bytes) => uart().receive(bytes),
});

/** What a checkpoint holds beside linear memory. */
interface Outside {
  readonly platform: PlatformState;
  /** Of each processor. */
  readonly vmx: readonly VmxHistory[];
}

class SimulatedMachine implements Machine, Rewindable {
  readonly config: MachineConfig;
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly serial: SerialPort;
  readonly com2: SerialPort;
  onVmExit: ((exit: VmExitRecord) => boolean) | undefined;
  onVmEntry: (() => boolean) | undefined;
  onVmEntryFailure: ((failure: VmEntryFailure) => boolean) | undefined;
  onDebugConsole: ((byte: number) => void) | undefined;
  onSample: (() => void) | undefined;
  onStaleUse: ((use: StaleUse) => boolean) | undefined;
  onDmaFault: ((fault: DmaFault) => boolean) | undefined;
  onSleep: ((cycles: number) => void) | undefined;
  onDeviceComplaint: ((text: string) => void) | undefined;
  onWatch: ((hits: readonly WatchHit[]) => boolean) | undefined;
  private readonly platform: Platform;
  private readonly processor: Processor;
  private readonly mmus: readonly Mmu[];
  private readonly logical: Processors;
  private readonly watcher: Watcher;
  private readonly breakpoints: InstructionBreakpoints;
  private readonly execution: Execution;

  constructor(config: MachineConfig) {
    this.config = config;
    this.state = new State(config.memory, config.cpus ?? 1);
    this.physical = new PhysicalMemory(this.state);
    const model = findModel(config.cpuModel, config.vmx ?? true);
    const clock: Clock = { cycles: () => this.execution.cycles };
    const states = Array.from({ length: this.state.processors }, (_, i) => new ProcessorState(this.state, i));
    const fast = new FastTlb(this.state);
    this.mmus = states.map(({ index }) => new Mmu(this.state, this.physical, new Tlb(this.state, index, fast)));
    this.serial = portOf(() => this.platform.com1);
    this.com2 = portOf(() => this.platform.com2);
    this.platform = new Platform({
      state: this.state,
      physical: this.physical,
      clock,
      frequency: model.frequency,
      physicalAddressBits: model.physicalAddressBits,
      ...(config.devices ? { devices: config.devices } : {}),
      ...(config.startTime === undefined ? {} : { startTime: config.startTime }),
      iommu: config.iommu ?? false,
      testDevice: config.testDevice ?? false,
      processors: states,
      callbacks: this.platformCallbacks(),
    });
    this.platform.com2.onOutput = (byte) => this.com2.onOutput?.(byte);
    const surroundings = this.surroundings();
    this.watcher = new Watcher(surroundings);
    this.breakpoints = new InstructionBreakpoints(surroundings);
    this.platform.dma.onAccess = (requester, address, physical, length, write) =>
      this.watcher.deviceAccessed({ requester, address, physical, length, write });
    this.physical.onDeviceAccess = (physical, size, value) => this.watcher.deviceMemory(physical, size, value);
    const { quantum = DEFAULT_QUANTUM } = config;
    if (!(quantum >= 1)) throw new RangeError(`a quantum of ${quantum} cycles: give 1 or more`);
    const all = states.map((state) => this.makeProcessor(state, model, clock));
    this.logical = new Processors(this.state, all, quantum, (processor) => this.processor.use(processor.cpu));
    const slow = new Map([...CPU_INSTRUCTIONS, ...vmxInstructions(() => this.logical.loaded.vmx)]);
    slow.set(Mnemonic.Pause, this.yieldingPause(slow.get(Mnemonic.Pause)));
    const hooks = {
      mayBreakAt: (offset: number) => this.breakpoints.mayLieAt(offset),
      mayBreakOn: (instruction: Instruction) => this.breakpoints.mayBreakOn(instruction),
      stopsHere: (instruction: () => DecodedInstruction) => this.breakpoints.stopsHere(instruction),
      deliverFault: (fault: Fault) => this.execution.deliverInSlice(fault),
    };
    const { compile = true, blockStarts = [], compiler } = config;
    this.processor = new Processor(this.cpu, slow, hooks, {
      semantics: STAGED_SEMANTICS,
      compile,
      blockStarts,
      compiler,
    });
    for (const { cpu } of all) this.processor.attach(cpu);
    const { state, platform, processor, logical, breakpoints, watcher } = this;
    this.execution = new Execution({ hooks: this, state, platform, processor, logical, breakpoints, watcher });
    this.logical.visit(({ number, cpu }) => powerUp(cpu, number));
  }

  private platformCallbacks(): PlatformCallbacks {
    return {
      onSerialOutput: (byte) => this.serial.onOutput?.(byte),
      onDebugConsole: (byte) => this.onDebugConsole?.(byte),
      onDebugExit: (value) => this.execution.stopWith({ kind: 'debugExit', value }),
      onPowerOff: () => this.execution.stopWith({ kind: 'powerOff' }),
      onReset: () => this.execution.stopWith({ kind: 'reset' }),
      onDmaFault: (fault) => {
        if (this.onDmaFault?.(fault)) this.execution.stopWith({ kind: 'dmaFault', fault });
      },
      onDeviceComplaint: (text) => this.onDeviceComplaint?.(text),
      // Who interrupts another processor mostly waits for what that does.
      onInterprocessorInterrupt: () => this.logical.yieldTurn(),
      onMemoryMapChange: () => this.forgetMappings(),
    };
  }

  /** The parts of whoever's turn it is. */
  private surroundings() {
    const machine = this;
    return {
      state: this.state,
      get processor() {
        return machine.processor;
      },
      get cpu() {
        return machine.cpu;
      },
      get mmu() {
        return machine.mmu;
      },
      get vmx() {
        return machine.vmx;
      },
      get world() {
        return machine.world;
      },
      get selected() {
        return machine.selected;
      },
      get watcher() {
        return machine.watcher;
      },
      watchAccesses: (former: AccessWatch | undefined, watch: AccessWatch | undefined) =>
        this.exchangeAccessWatch(former, watch),
      instructionAddress: () => this.processor.linearOfInstruction(),
      interrupt: () => {
        this.state.set32('attention', 1);
        this.processor.kick();
      },
    };
  }

  /** The platform's ports, with a look at each access. */
  private watchedPorts(): PortBus {
    const { ports } = this.platform;
    return {
      read: (port, size) => {
        const value = ports.read(port, size);
        this.watcher.portAccessed(port, size, value, false);
        return value;
      },
      write: (port, size, value) => {
        this.watcher.portAccessed(port, size, value, true);
        ports.write(port, size, value);
      },
    };
  }

  private makeProcessor(state: ProcessorState, model: CpuModel, clock: Clock): LogicalProcessor {
    const number = state.index;
    const mmu = this.mmus[number] as Mmu;
    mmu.onBreakpointsChanged = () => this.breakpoints.noteGuest();
    mmu.onContextChanged = () => {
      noteRing(this.cpu);
      this.watcher.noteContext();
    };
    const vmx = new Vmx({
      onExiting: () => this.watcher.beforeExit(),
      onExit: (exit) => {
        this.watcher.afterExit();
        if (this.onVmExit?.(exit)) this.execution.stopWith({ kind: 'vmExit', exit });
      },
      onEntry: () => {
        this.watcher.afterEntry();
        if (this.onVmEntry?.()) this.execution.stopWith({ kind: 'vmEntry' });
      },
      onEntryFailure: (failure) => {
        if (this.onVmEntryFailure?.(failure)) this.execution.stopWith({ kind: 'vmEntryFailure', failure });
      },
      onAbort: (abort) => this.execution.stopWith({ kind: 'vmxAbort', abort }),
    });
    const ports = this.watchedPorts();
    const interrupts = this.platform.interrupts[number] as InterruptController;
    const topology = { number, processors: this.state.processors };
    const vmxMsrs = vmx.msrs;
    const cpu = { state: this.state, mmu, ports, interrupts, clock, model, intercepts: vmx, vmxMsrs, topology };
    vmx.attach(cpu);
    return { number, state, mmu, vmx, cpu };
  }

  /** Who executes PAUSE waits for another processor, or, when all others wait, for a device. */
  private yieldingPause(pause: SlowInstruction | undefined): SlowInstruction {
    return (cpu, instruction) => {
      const outcome = pause?.(cpu, instruction) ?? NEXT.sequential;
      if (outcome === NEXT.sequential && this.logical.canPass(this.cycles)) this.logical.yieldTurn();
      return outcome;
    };
  }

  /** Devices moved in physical address space. */
  private forgetMappings(): void {
    for (const mmu of this.mmus) mmu.tlb.invalidateAll();
  }

  // ---- processors

  get processors(): readonly ProcessorView[] {
    return this.logical.all.map(viewOf);
  }
  get selected(): number {
    return this.logical.loaded.number;
  }
  select(processor: number): void {
    this.logical.load(processor);
  }
  get mmu(): Mmu {
    return this.logical.loaded.mmu;
  }
  get cpu(): Cpu {
    return this.logical.loaded.cpu;
  }

  watchTables(on: boolean): void {
    const hooks: TableWatchHooks = {
      now: () => ({
        address: this.processor.linearOfInstruction(),
        world: this.world,
        ...(this.logical.all.length > 1 ? { processor: this.selected } : {}),
        instructions: this.instructions,
        cycles: this.cycles,
      }),
      isRunning: () => this.execution.isRunning,
      onUse: (use) => {
        if (!this.onStaleUse?.(use)) return;
        this.execution.stopWith({ kind: 'staleUse', use });
        this.processor.kick();
      },
      onCodeSuspected: () => {
        this.state.set32('attention', 1);
        this.processor.kick();
      },
    };
    this.logical.visit(({ mmu }) => mmu.watchTables(on ? hooks : undefined));
  }

  watchWalks(onReference: ((reference: TableReference) => void) | undefined): void {
    this.logical.visit(({ mmu }) => mmu.watchWalks(onReference));
  }

  get iommu(): Iommu | undefined {
    return this.platform.iommu;
  }
  get pci(): readonly PciFunction[] {
    return this.platform.pci.all;
  }
  get vmx(): VmxView {
    return this.logical.loaded.vmx;
  }
  get world(): World {
    return this.state.get32('nonRoot') !== 0 ? 'guest' : 'vmm';
  }
  get instructions(): number {
    return this.execution.instructions;
  }
  get cycles(): number {
    return this.execution.cycles;
  }

  boot(request: BootRequest): void {
    loadImage(this.cpu, request, this.platform.firmware.install());
    this.processor.flush();
  }

  // ---- time travel

  get rewindable(): Rewindable {
    return this;
  }
  get position(): Position {
    return { instructions: this.instructions, events: this.state.getFloat('events') };
  }

  withoutStops(work: () => void): void {
    this.breakpoints.areIgnored = true;
    try {
      work();
    } finally {
      this.breakpoints.areIgnored = false;
    }
  }

  saveOutside(): Outside {
    // Devices and counters may lag behind until somebody asks them: up to date they are the same on every way here.
    this.platform.service(this.cycles);
    suspendCounters(this.cpu);
    return { platform: this.platform.snapshot(), vmx: this.logical.all.map(({ vmx }) => vmx.snapshot()) };
  }

  restoreOutside(saved: unknown): void {
    const { platform, vmx } = structuredClone(saved) as Outside;
    this.platform.restore(platform);
    for (const [i, unit] of this.logical.all.entries()) unit.vmx.restore(vmx[i] as VmxHistory);
    this.execution.forgetStop();
  }

  marked(): void {
    this.mmu.tlb.fast.dropWrites();
  }

  memoryReplaced(): void {
    this.logical.stateReplaced();
    this.watcher.forgetState();
    this.logical.visit(({ mmu, vmx }) => {
      mmu.forgetFastTranslations();
      vmx.stateReplaced();
      this.watcher.adoptState();
    });
  }

  applyEvent(event: OutsideEvent): void {
    if (event.kind === 'input') (event.port === 'COM2' ? this.com2 : this.serial).input(event.bytes);
    else if (event.kind === 'device') this.platform.devices[event.device]?.input?.(event.bytes);
    else if (event.kind === 'memory') this.physical.poke(event.physical, event.bytes);
    else {
      const shown = this.selected;
      this.select(event.processor ?? shown);
      if (event.kind === 'register') registerByName(event.name)?.write?.(this.cpu, event.value);
      else this.logical.loaded.vmx.write(event.encoding, event.value);
      this.select(shown);
    }
  }

  // ---- breakpoints

  setBreakpoints(locations: readonly BreakpointLocation[]): void {
    this.breakpoints.set(locations);
  }

  setInstructionStops(stops: readonly InstructionStop[]): void {
    if (this.watcher.setStops(stops)) this.processor.flush();
  }

  instructionStopsHere(): readonly InstructionStop[] {
    const instruction = this.watcher.hasRules ? this.decodeAt(this.processor.linearRip()) : undefined;
    return instruction ? this.watcher.stopsAt(instruction) : [];
  }

  setWatches(watches: readonly Watch[]): void {
    if (this.watcher.setWatches(watches)) this.processor.flush();
    this.logical.visit(() => this.watcher.adoptState());
  }

  /** Has accesses to memory told to another watch than before. */
  private exchangeAccessWatch(former: AccessWatch | undefined, watch: AccessWatch | undefined): void {
    const { writeWatches } = this.physical;
    if (former) writeWatches.splice(writeWatches.indexOf(former), 1);
    if (watch) writeWatches.push(watch);
    if (former || watch) for (const mmu of this.mmus) mmu.watchAccesses(watch);
  }

  requestStop(): void {
    this.execution.stopWith({ kind: 'paused' });
  }

  // ---- running

  step(): StopReason {
    return this.execution.run(1, this.selected);
  }

  run(instructions: number, goesOn = false): StopReason {
    return this.execution.run(Math.max(0, Math.floor(instructions)), undefined, goesOn);
  }

  advance(): StopReason {
    return this.execution.run(1, 'anyone');
  }

  decodeAt(linear: bigint): DecodedInstruction | undefined {
    return peekInstruction(this.mmu, linear);
  }
}
