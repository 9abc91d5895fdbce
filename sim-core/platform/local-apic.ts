/** The local APIC in xAPIC and x2APIC mode (SDM Vol. 3A, chapter "Advanced Programmable Interrupt Controller"). */

import type { Clock } from '../cpu/cpu.ts';
import type { MmioDevice } from '../mmu/physical-memory.ts';
import type { StateFields } from '../state/processor-state.ts';
import { ApicTimer, type ApicTimerState, LVT_MASKED, TIMER_ENTRY } from './apic-timer.ts';
import type { Snapshotted, TimedDevice } from './device.ts';
import { DELIVERY_MODE as DELIVERY, type DeliveryMode, type InterruptMessage } from './interrupt-message.ts';
import { hasVector, highestVector, noVectors, setVector } from './vector-set.ts';

/** Register offsets in the xAPIC page; the x2APIC MSR is 800h + offset / 10h. */
const REGISTER = {
  id: 0x20, version: 0x30, taskPriority: 0x80, arbitrationPriority: 0x90, processorPriority: 0xa0, endOfInterrupt: 0xb0,
  remoteRead: 0xc0, logicalDestination: 0xd0, destinationFormat: 0xe0, spuriousVector: 0xf0, inService: 0x100,
  triggerMode: 0x180, requests: 0x200, errorStatus: 0x280, command: 0x300, commandHigh: 0x310, timer: 0x320,
  thermal: 0x330, performance: 0x340, lint0: 0x350, lint1: 0x360, error: 0x370, initialCount: 0x380,
  currentCount: 0x390, divide: 0x3e0, selfIpi: 0x3f0,
} as const; // biome-ignore format: a table reads better in rows

/** Local vector table: index of each entry in `LocalApicState.lvt`, and the bits that software can write. */
const LVT_REGISTERS = [
  { offset: REGISTER.timer, writable: 0x7_00ff },
  { offset: REGISTER.thermal, writable: 0x1_07ff },
  { offset: REGISTER.performance, writable: 0x1_07ff },
  { offset: REGISTER.lint0, writable: 0x1_a7ff },
  { offset: REGISTER.lint1, writable: 0x1_a7ff },
  { offset: REGISTER.error, writable: 0x1_00ff },
] as const;
const LVT = { timer: TIMER_ENTRY, performance: 2, lint0: 3, lint1: 4, error: 5 } as const;

const LVT_LEVEL = 0x8000;
/** Version 14h of an integrated APIC; bits 23:16 are the number of the last LVT entry. */
const VERSION = ((LVT_REGISTERS.length - 1) << 16) | 0x14;
const SVR_ENABLED = 0x100;
const ERROR = { sendIllegalVector: 0x20, receiveIllegalVector: 0x40, illegalRegister: 0x80 } as const;

const APIC_BASE = { bootstrap: 0x100n, x2apic: 0x400n, enable: 0x800n, reserved: 0x2ffn } as const;
const APIC_BASE_DEFAULT = 0xfee0_0000n;
const MSR_APIC_BASE = 0x1b;
const MSR_TSC_DEADLINE = 0x6e0;
const MSR_X2APIC_FIRST = 0x800;
const MSR_X2APIC_LAST = 0x8ff;
export const APIC_PAGE_SIZE = 4096;

export interface LocalApicState extends ApicTimerState {
  id: number;
  taskPriority: number;
  logicalDestination: number;
  destinationFormat: number;
  spuriousVector: number;
  /** 256 bits each, vector 0 in bit 0 of element 0. */
  inService: number[];
  triggerMode: number[];
  requests: number[];
  errorStatus: number;
  /** Errors since the last write to ESR. */
  errors: number;
  command: number;
  commandHigh: number;
  /** Levels of LINT0 and LINT1. */
  pins: [boolean, boolean];
}

/** SDM, "Local APIC State After Power-Up or Reset". */
const powerOn = (): LocalApicState => ({
  id: 0,
  taskPriority: 0,
  logicalDestination: 0,
  destinationFormat: 0xffff_ffff,
  spuriousVector: 0xff,
  inService: noVectors(),
  triggerMode: noVectors(),
  requests: noVectors(),
  errorStatus: 0,
  errors: 0,
  command: 0,
  commandHigh: 0,
  lvt: LVT_REGISTERS.map(() => LVT_MASKED),
  divide: 0,
  initialCount: 0,
  timerStart: 0,
  timerEnded: false,
  serviced: 0,
  pins: [false, false],
});

/** Destination shorthands of the ICR (bits 19:18). */
export const SHORTHAND = { none: 0, self: 1, all: 2, others: 3 } as const;
export type Shorthand = (typeof SHORTHAND)[keyof typeof SHORTHAND];

/** Destinations that mean every local APIC, in xAPIC and in x2APIC mode. */
const BROADCAST: ReadonlySet<number> = new Set([0xff, 0xffff_ffff]);

/** Bits of the ICR's low half. */
const COMMAND = { logical: 0x800, assert: 0x4000, level: 0x8000 } as const;

/** What the local APIC does to the rest of the machine. */
export interface LocalApicConnections {
  /** Of the processor that it belongs to. */
  readonly state: StateFields;
  readonly clock: Clock;
  readonly physicalAddressBits: number;
  /** The APIC ID after power-up; processor 0 is the bootstrap processor. */
  readonly number: number;
  /** Something that decides about INTR or the next deadline may have changed. */
  changed(): void;
  /** IA32_APIC_BASE was written: where the registers are now, undefined when nowhere (disabled, x2APIC mode). */
  moved(base: number | undefined): void;
  nonMaskableInterrupt(): void;
  /** An INIT signal from a local interrupt pin. */
  init(): void;
  /** An interprocessor interrupt, to what its shorthand or else its destination names. */
  send(message: InterruptMessage, shorthand: Shorthand): void;
  /** A level-triggered interrupt has ended: the I/O APIC may send it again. */
  levelEnded(vector: number): void;
}

interface Register {
  readonly read?: () => number;
  readonly write?: (value: number) => void;
  /** Bits that WRMSR must leave zero in x2APIC mode (#GP otherwise). */
  readonly reserved?: number;
  /** Not there as an MSR. */
  readonly xapicOnly?: boolean;
  /** Not there as a memory-mapped register. */
  readonly x2apicOnly?: boolean;
}

export class LocalApic implements MmioDevice, TimedDevice, Snapshotted<LocalApicState> {
  readonly name = 'local APIC';
  private readonly connections: LocalApicConnections;
  private state = powerOn();
  private readonly timer: ApicTimer;
  private readonly registers: ReadonlyMap<number, Register>;

  constructor(connections: LocalApicConnections) {
    this.connections = connections;
    this.timer = new ApicTimer(() => this.state, connections.state, connections.clock);
    this.registers = this.makeRegisters();
  }

  /**
   * Power-up state, and on the bootstrap processor the "virtual wire" setting that PC firmware leaves: the 8259A through
   * LINT0, NMI on LINT1.
   */
  reset(): void {
    const { state, number } = this.connections;
    const { pins } = this.state;
    this.state = { ...powerOn(), id: number, pins };
    const bootstrap = number === 0;
    state.set64('msrApicBase', APIC_BASE_DEFAULT | APIC_BASE.enable | (bootstrap ? APIC_BASE.bootstrap : 0n));
    this.timer.deadline = 0n;
    if (bootstrap) {
      this.state.spuriousVector = SVR_ENABLED | 0xff;
      this.state.lvt[LVT.lint0] = DELIVERY.external << 8;
      this.state.lvt[LVT.lint1] = DELIVERY.nmi << 8;
    }
    this.connections.moved(Number(APIC_BASE_DEFAULT));
    this.connections.changed();
  }

  /** An INIT signal: power-up state but for the ID and IA32_APIC_BASE (SDM, "Local APIC State After … INIT"). */
  initialize(): void {
    const { id, pins } = this.state;
    this.state = { ...powerOn(), id, pins };
    this.timer.deadline = 0n;
    this.connections.changed();
  }

  snapshot(): LocalApicState {
    return structuredClone(this.state);
  }

  /** The caller has restored the processor state, where IA32_APIC_BASE lives, before. */
  restore(saved: LocalApicState): void {
    this.state = structuredClone(saved);
    this.connections.moved(this.page());
    this.connections.changed();
  }

  // Interrupts

  /** Whether it takes fixed interrupts: INIT, NMI and start-up IPIs need only `enabled`. */
  get accepts(): boolean {
    return this.enabled && this.softwareEnabled;
  }

  get enabled(): boolean {
    return (this.apicBase & APIC_BASE.enable) !== 0n;
  }

  private get softwareEnabled(): boolean {
    return (this.state.spuriousVector & SVR_ENABLED) !== 0;
  }

  /** Whether the 8259A's INTR reaches the processor: by LINT0 as ExtINT, or directly when the APIC is disabled. */
  get passesExternal(): boolean {
    const lint0 = this.state.lvt[LVT.lint0] ?? 0;
    return !this.enabled || ((lint0 & LVT_MASKED) === 0 && ((lint0 >> 8) & 7) === DELIVERY.external);
  }

  /** Whether the 8259A's INTR goes nowhere at all. */
  get blocksExternal(): boolean {
    return this.enabled && ((this.state.lvt[LVT.lint0] ?? 0) & LVT_MASKED) !== 0;
  }

  get processorPriority(): number {
    const { taskPriority, inService } = this.state;
    const servicing = Math.max(0, highestVector(inService));
    return taskPriority >> 4 >= servicing >> 4 ? taskPriority : servicing & 0xf0;
  }

  /** Whether a request is waiting that the priorities let through. */
  get asserted(): boolean {
    if (!this.enabled || !this.softwareEnabled) return false;
    return highestVector(this.state.requests) >> 4 > this.processorPriority >> 4;
  }

  /** The vector to deliver, which goes into service; the spurious one when the request has gone. */
  acknowledge(): number {
    if (!this.asserted) return this.state.spuriousVector & 0xff;
    const vector = highestVector(this.state.requests);
    setVector(this.state.requests, vector, false);
    setVector(this.state.inService, vector, true);
    this.connections.changed();
    return vector;
  }

  /** A fixed interrupt arrives. */
  request(vector: number, level = false): void {
    if (!this.accepts) return;
    if (vector < 16) {
      this.reportError(ERROR.receiveIllegalVector);
      return;
    }
    setVector(this.state.requests, vector, true);
    setVector(this.state.triggerMode, vector, level);
    this.connections.changed();
  }

  /** Drives a local interrupt pin. ExtINT on LINT0 is not latched here: see `passesExternal`. */
  setPin(pin: 0 | 1, asserted: boolean): void {
    const rises = asserted && !this.state.pins[pin];
    this.state.pins[pin] = asserted;
    if (!this.enabled) {
      if (rises && pin === 1) this.connections.nonMaskableInterrupt();
      return;
    }
    if (rises) this.deliverLocal(pin === 0 ? LVT.lint0 : LVT.lint1);
  }

  private deliverLocal(entry: number): void {
    const lvt = this.state.lvt[entry] ?? LVT_MASKED;
    if (lvt & LVT_MASKED) return;
    const mode = (lvt >> 8) & 7;
    if (mode === DELIVERY.fixed) this.request(lvt & 0xff, (lvt & LVT_LEVEL) !== 0 && entry !== LVT.timer);
    else if (mode === DELIVERY.nmi) this.connections.nonMaskableInterrupt();
    else if (mode === DELIVERY.init) this.connections.init();
  }

  /** A performance counter has overflowed. The entry masks itself (SDM Vol. 3A, "Local Vector Table"). */
  performanceMonitoringInterrupt(): void {
    if (!this.enabled) return;
    this.deliverLocal(LVT.performance);
    this.state.lvt[LVT.performance] = (this.state.lvt[LVT.performance] ?? 0) | LVT_MASKED;
  }

  private reportError(error: number): void {
    const isNew = (this.state.errors & error) === 0;
    this.state.errors |= error;
    const lvt = this.state.lvt[LVT.error] ?? LVT_MASKED;
    // An illegal vector in the error entry itself must not report itself for ever.
    if (isNew && (lvt & LVT_MASKED) === 0 && (lvt & 0xff) >= 16) this.request(lvt & 0xff);
  }

  endOfInterrupt(): void {
    const vector = highestVector(this.state.inService);
    if (vector < 0) return;
    setVector(this.state.inService, vector, false);
    if (hasVector(this.state.triggerMode, vector)) this.connections.levelEnded(vector);
  }

  // Interprocessor interrupts

  private sendCommand(): void {
    const { command, commandHigh } = this.state;
    const deliveryMode = ((command >> 8) & 7) as DeliveryMode;
    const vector = command & 0xff;
    if ((deliveryMode === DELIVERY.fixed || deliveryMode === DELIVERY.lowestPriority) && vector < 16) {
      this.reportError(ERROR.sendIllegalVector);
      return;
    }
    // INIT with level de-assert only synchronises arbitration IDs.
    if (deliveryMode === DELIVERY.init && (command & (COMMAND.level | COMMAND.assert)) === COMMAND.level) return;
    const destination = this.x2apic ? commandHigh : commandHigh >>> 24;
    const logical = (command & COMMAND.logical) !== 0;
    const message = { destination, logical, deliveryMode, vector, level: false };
    this.connections.send(message, ((command >> 18) & 3) as Shorthand);
  }

  /** Whether a message's destination includes this local APIC (SDM, "Determining IPI Destination"). */
  isDestination(destination: number, logical: boolean): boolean {
    if (!this.enabled) return false;
    const { id, logicalDestination, destinationFormat } = this.state;
    if (!logical) return destination === id || BROADCAST.has(destination);
    if (this.x2apic) {
      const own = this.x2apicLogicalId;
      const inCluster = destination >>> 16 === own >>> 16 && (destination & own & 0xffff) !== 0;
      return inCluster || destination === 0xffff_ffff;
    }
    if (BROADCAST.has(destination)) return true;
    const own = logicalDestination >>> 24;
    if (destinationFormat >>> 28 === 0xf) return (destination & own) !== 0;
    return destination >> 4 === own >> 4 && (destination & own & 0xf) !== 0;
  }

  private get x2apicLogicalId(): number {
    const { id } = this.state;
    return (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0;
  }

  // Timer

  nextDeadline(): number {
    return this.timer.nextDeadline();
  }

  service(now: number): void {
    if (this.timer.expires(now)) this.deliverLocal(LVT.timer);
  }

  // Registers

  private makeRegisters(): Map<number, Register> {
    const map = new Map<number, Register>([
      [REGISTER.id, this.idRegister()],
      [REGISTER.version, { read: () => VERSION }],
      [REGISTER.taskPriority, this.plain('taskPriority', 0xff)],
      [REGISTER.arbitrationPriority, { read: () => this.processorPriority, xapicOnly: true }],
      [REGISTER.processorPriority, { read: () => this.processorPriority }],
      [REGISTER.endOfInterrupt, { write: () => this.endOfInterrupt(), reserved: 0xffff_ffff }],
      [REGISTER.remoteRead, { read: () => 0, xapicOnly: true }],
      [REGISTER.logicalDestination, this.logicalDestinationRegister()],
      [REGISTER.destinationFormat, this.destinationFormatRegister()],
      [
        REGISTER.spuriousVector,
        { ...this.plain('spuriousVector', 0x3ff), write: (value) => this.writeSpurious(value) },
      ],
      [REGISTER.errorStatus, this.errorStatusRegister()],
      [REGISTER.command, this.commandRegister()],
      [REGISTER.commandHigh, { ...this.plain('commandHigh', 0xff00_0000), xapicOnly: true }],
      [REGISTER.initialCount, { read: () => this.state.initialCount, write: (value) => this.timer.setCount(value) }],
      [REGISTER.currentCount, { read: () => this.timer.count }],
      [
        REGISTER.divide,
        { read: () => this.state.divide, write: (value) => this.timer.setDivide(value), reserved: ~0xb },
      ],
      [REGISTER.selfIpi, { write: (value) => this.request(value & 0xff), reserved: ~0xff, x2apicOnly: true }],
    ]);
    for (let i = 0; i < 8; i++) {
      map.set(REGISTER.inService + 16 * i, { read: () => this.state.inService[i] ?? 0 });
      map.set(REGISTER.triggerMode + 16 * i, { read: () => this.state.triggerMode[i] ?? 0 });
      map.set(REGISTER.requests + 16 * i, { read: () => this.state.requests[i] ?? 0 });
    }
    LVT_REGISTERS.forEach(({ offset, writable }, i) => {
      map.set(offset, {
        read: () => this.state.lvt[i] ?? 0,
        write: (value) => this.writeLvt(i, value & writable),
        reserved: ~writable,
      });
    });
    return map;
  }

  /** A register that is only storage, with its writable bits. */
  private plain(name: 'taskPriority' | 'spuriousVector' | 'commandHigh', writable: number): Register {
    return {
      read: () => this.state[name],
      write: (value) => {
        this.state[name] = (value & writable) >>> 0;
      },
      reserved: ~writable,
    };
  }

  private idRegister(): Register {
    return {
      read: () => (this.x2apic ? this.state.id : (this.state.id << 24) >>> 0),
      write: (value) => {
        this.state.id = value >>> 24;
      },
    };
  }

  private logicalDestinationRegister(): Register {
    return {
      read: () => (this.x2apic ? this.x2apicLogicalId : this.state.logicalDestination),
      write: (value) => {
        this.state.logicalDestination = (value & 0xff00_0000) >>> 0;
      },
    };
  }

  private destinationFormatRegister(): Register {
    return {
      read: () => this.state.destinationFormat,
      write: (value) => {
        this.state.destinationFormat = (value | 0x0fff_ffff) >>> 0;
      },
      xapicOnly: true,
    };
  }

  private errorStatusRegister(): Register {
    return {
      read: () => this.state.errorStatus,
      write: () => {
        // A write makes the errors since the last write readable and starts a new collection.
        this.state.errorStatus = this.state.errors;
        this.state.errors = 0;
      },
      reserved: 0xffff_ffff,
    };
  }

  private commandRegister(): Register {
    return {
      read: () => this.state.command,
      write: (value) => {
        this.state.command = value & 0xc_cfff;
        this.sendCommand();
      },
      reserved: ~0xc_cfff,
    };
  }

  private writeSpurious(value: number): void {
    this.state.spuriousVector = value & 0x3ff;
    // Disabling by software sets all mask bits.
    if (!this.softwareEnabled) this.state.lvt = this.state.lvt.map((entry) => entry | LVT_MASKED);
  }

  private writeLvt(index: number, value: number): void {
    const entry = this.softwareEnabled ? value : value | LVT_MASKED;
    if (index === LVT.timer) this.timer.setEntry(entry);
    else this.state.lvt[index] = entry;
  }

  // Memory-mapped access

  read(offset: number, size: number): number {
    const register = this.registers.get(offset & ~15);
    if (!register?.read || register.x2apicOnly) {
      if (!register) this.reportError(ERROR.illegalRegister);
      return 0;
    }
    // Registers are 32 bits at the start of each 16-byte slot; the rest of a slot reads as zero.
    const within = offset & 15;
    if (within >= 4) return 0;
    const value = register.read() >>> (8 * within);
    return size === 4 ? value : value & (2 ** (8 * size) - 1);
  }

  write(offset: number, size: number, value: number): void {
    // Software must write all 32 bits at once; other writes are undefined and ignored here.
    if (size !== 4 || offset & 15) return;
    const register = this.registers.get(offset);
    if (!register || register.x2apicOnly) this.reportError(ERROR.illegalRegister);
    else register.write?.(value >>> 0);
    this.connections.changed();
  }

  // MSRs

  private get apicBase(): bigint {
    return this.connections.state.get64('msrApicBase');
  }

  private get x2apic(): boolean {
    return (this.apicBase & APIC_BASE.x2apic) !== 0n;
  }

  private page(): number | undefined {
    return this.enabled && !this.x2apic ? Number(this.apicBase & ~0xfffn) : undefined;
  }

  /** IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC MSRs. @returns undefined for #GP. */
  readMsr(index: number): bigint | undefined {
    if (index === MSR_APIC_BASE) return this.apicBase;
    if (index === MSR_TSC_DEADLINE) return this.timer.isOfDeadline ? this.timer.deadline : 0n;
    const register = this.msrRegister(index);
    if (!register?.read) return undefined;
    const low = BigInt(register.read() >>> 0);
    return this.isCommand(index) ? (BigInt(this.state.commandHigh) << 32n) | low : low;
  }

  /** @returns false for #GP. */
  writeMsr(index: number, value: bigint): boolean {
    if (index === MSR_APIC_BASE) return this.writeApicBase(value);
    if (index === MSR_TSC_DEADLINE) {
      if (this.timer.isOfDeadline) this.timer.deadline = value;
      this.connections.changed();
      return true;
    }
    const register = this.msrRegister(index);
    const low = Number(value & 0xffff_ffffn);
    const high = Number(value >> 32n);
    // ID and LDR are read-only as MSRs.
    if (!register?.write || index === this.msrOf(REGISTER.id) || index === this.msrOf(REGISTER.logicalDestination)) {
      return false;
    }
    if ((low & (register.reserved ?? 0)) !== 0) return false;
    if (this.isCommand(index)) this.state.commandHigh = high;
    else if (high !== 0) return false;
    register.write(low);
    this.connections.changed();
    return true;
  }

  private msrOf(offset: number): number {
    return MSR_X2APIC_FIRST + offset / 16;
  }

  private isCommand(index: number): boolean {
    return index === this.msrOf(REGISTER.command);
  }

  private msrRegister(index: number): Register | undefined {
    if (!this.x2apic || index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST) return undefined;
    const register = this.registers.get((index - MSR_X2APIC_FIRST) * 16);
    return register?.xapicOnly ? undefined : register;
  }

  /** SDM, "Extended XAPIC (x2APIC)": the transitions between disabled, xAPIC and x2APIC mode. */
  private writeApicBase(value: bigint): boolean {
    const { state, physicalAddressBits } = this.connections;
    const enable = (value & APIC_BASE.enable) !== 0n;
    const extended = (value & APIC_BASE.x2apic) !== 0n;
    if ((value & APIC_BASE.reserved) !== 0n || value >> BigInt(physicalAddressBits) !== 0n) return false;
    // x2APIC needs the APIC on, is entered only from xAPIC mode, and left only by turning the APIC off.
    if (extended && (!enable || !this.enabled)) return false;
    if (this.x2apic && enable && !extended) return false;
    if (this.enabled && !enable) this.state = { ...powerOn(), id: this.state.id, pins: this.state.pins };
    // The ID of x2APIC mode is the processor's own, whatever software has written to the xAPIC's.
    if (extended) this.state.id = this.connections.number;
    state.set64('msrApicBase', value);
    this.connections.moved(this.page());
    this.connections.changed();
    return true;
  }

  getTaskPriority(): number {
    return this.state.taskPriority >> 4;
  }

  setTaskPriority(priority: number): void {
    this.state.taskPriority = (priority & 15) << 4;
    this.connections.changed();
  }
}
