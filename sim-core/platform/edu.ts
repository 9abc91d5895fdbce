/**
 * QEMU's `edu` device, by the registers that its documentation gives (docs/specs/edu): identification, liveness check,
 * factorial, interrupts, and a DMA engine with a buffer of 4 KiB. Beside a doubleword's address, the upper half of a
 * quadword register can be written alone here.
 */

import type { Snapshotted } from './device.ts';
import type { DeviceEnvironment, PciDevice } from './pci/device.ts';
import { type BarDevice, PciFunction } from './pci/function.ts';

const REGISTER = {
  identification: 0x00, liveness: 0x04, factorial: 0x08, status: 0x20, interruptStatus: 0x24, raise: 0x60,
  acknowledge: 0x64, source: 0x80, destination: 0x88, count: 0x90, command: 0x98,
} as const; // biome-ignore format: a table reads better in rows
const FIRST_QUADWORD = 0x80;
/** Version 1.0, and the letters that the documentation asks for. */
const IDENTIFICATION = 0x0100_00ed;
const STATUS = { computing: 0x01, interruptWhenDone: 0x80 } as const;
const DMA = { run: 1, toMemory: 2, interruptWhenDone: 4 } as const;
const INTERRUPT = { factorial: 0x001, dma: 0x100 } as const;
const BUFFER = { start: 0x4_0000n, size: 4096 } as const;
const DEFAULT_DMA_MASK = (1n << 28n) - 1n;

/** Cycles (nanoseconds) that its work takes: software must wait for it, as on the original. */
const EDU_CYCLES = { factorial: 1000, dma: 10_000 } as const;

export interface EduState {
  liveness: number;
  factorial: number;
  status: number;
  interruptStatus: number;
  source: bigint;
  destination: bigint;
  count: bigint;
  command: number;
  /** Absolute cycles at which a computation and a transfer end; Infinity: none is under way. */
  factorialDone: number;
  dmaDone: number;
  buffer: Uint8Array;
}

const powerOn = (): EduState => ({
  liveness: 0,
  factorial: 0,
  status: 0,
  interruptStatus: 0,
  source: 0n,
  destination: 0n,
  count: 0n,
  command: 0,
  factorialDone: Number.POSITIVE_INFINITY,
  dmaDone: Number.POSITIVE_INFINITY,
  buffer: new Uint8Array(BUFFER.size),
});

/** n! modulo 2^32, which is 0 from 34! on. */
function factorialOf(n: number): number {
  let product = 1;
  for (let factor = Math.min(n, 34); factor > 1; factor--) product = Math.imul(product, factor);
  return product >>> 0;
}

export interface EduOptions {
  /** PCI device number on bus 0. */
  readonly device: number;
  /** Address bits that the DMA engine has. Default: 28. */
  readonly dmaMask?: bigint;
}

export class Edu implements PciDevice, BarDevice, Snapshotted<EduState> {
  readonly name = 'edu';
  readonly function: PciFunction;
  private readonly environment: DeviceEnvironment;
  private readonly dmaMask: bigint;
  private state = powerOn();

  constructor(options: EduOptions, environment: DeviceEnvironment) {
    this.environment = environment;
    this.dmaMask = options.dmaMask ?? DEFAULT_DMA_MASK;
    this.function = new PciFunction({
      identity: {
        vendor: 0x1234,
        device: 0x11e8,
        revision: 0x10,
        classCode: 0x00_ff00,
        subsystemVendor: 0x1af4,
        subsystem: 0x1100,
      },
      device: options.device,
      pin: 1,
    });
    this.function.addBar({ index: 0, kind: 'memory32', size: 0x10_0000, device: this });
    this.function.addMsi();
  }

  reset(): void {
    this.state = powerOn();
    this.function.setInterrupt(false);
  }

  // Registers

  private readonly readers: ReadonlyMap<number, () => number | bigint> = new Map<number, () => number | bigint>([
    [REGISTER.identification, () => IDENTIFICATION],
    [REGISTER.liveness, () => this.state.liveness],
    [REGISTER.factorial, () => this.state.factorial],
    [REGISTER.status, () => this.state.status],
    [REGISTER.interruptStatus, () => this.state.interruptStatus],
    [REGISTER.source, () => this.state.source],
    [REGISTER.destination, () => this.state.destination],
    [REGISTER.count, () => this.state.count],
    [REGISTER.command, () => this.state.command],
  ]);

  private readonly writers: ReadonlyMap<number, (value: number) => void> = new Map([
    [REGISTER.liveness, (value) => this.set({ liveness: ~value >>> 0 })],
    [REGISTER.factorial, (value) => this.compute(value)],
    [REGISTER.status, (value) => this.setStatus(value)],
    [REGISTER.raise, (value) => this.raise(value)],
    [REGISTER.acknowledge, (value) => this.acknowledge(value)],
    [REGISTER.command, (value) => this.start(value)],
  ]);

  /** Only doublewords; what is not there reads as ones. */
  read(offset: number, size: number): number {
    this.service(this.environment.clock.cycles());
    const upper = offset >= FIRST_QUADWORD && (offset & 4) !== 0;
    const value = size === 4 ? this.readers.get(upper ? offset - 4 : offset)?.() : undefined;
    if (value === undefined) return 0xffff_ffff;
    return Number((BigInt(value) >> (upper ? 32n : 0n)) & 0xffff_ffffn);
  }

  write(offset: number, size: number, value: number): void {
    this.service(this.environment.clock.cycles());
    if (size !== 4) return;
    if (offset >= FIRST_QUADWORD && offset < REGISTER.command) this.setAddress(offset, value);
    else this.writers.get(offset)?.(value);
  }

  private set(changes: Partial<EduState>): void {
    Object.assign(this.state, changes);
  }

  /** Source, destination and count keep still while a transfer is under way. */
  private setAddress(offset: number, value: number): void {
    if (this.state.command & DMA.run) return;
    const name = ({ 128: 'source', 136: 'destination', 144: 'count' } as const)[offset & ~4];
    if (!name) return;
    // The lower half is written first, and a doubleword write clears the upper one.
    const low = this.state[name] & 0xffff_ffffn;
    this.state[name] = offset & 4 ? (BigInt(value) << 32n) | low : BigInt(value);
  }

  private compute(value: number): void {
    if (this.state.status & STATUS.computing) return;
    this.state.factorial = value;
    this.state.status |= STATUS.computing;
    this.state.factorialDone = this.environment.clock.cycles() + EDU_CYCLES.factorial;
    this.environment.deadlineChanged();
  }

  private setStatus(value: number): void {
    this.state.status = (this.state.status & ~STATUS.interruptWhenDone) | (value & STATUS.interruptWhenDone);
  }

  private start(value: number): void {
    if ((value & DMA.run) === 0 || this.state.command & DMA.run) return;
    this.state.command = value & (DMA.run | DMA.toMemory | DMA.interruptWhenDone);
    this.state.dmaDone = this.environment.clock.cycles() + EDU_CYCLES.dma;
    this.environment.deadlineChanged();
  }

  private raise(bits: number): void {
    this.state.interruptStatus = (this.state.interruptStatus | bits) >>> 0;
    if (this.state.interruptStatus === 0) return;
    this.function.setInterrupt(true);
    this.function.signal();
  }

  private acknowledge(bits: number): void {
    this.state.interruptStatus = (this.state.interruptStatus & ~bits) >>> 0;
    this.function.setInterrupt(this.state.interruptStatus !== 0);
  }

  // Time

  nextDeadline(): number {
    return Math.min(this.state.factorialDone, this.state.dmaDone);
  }

  service(now: number): void {
    if (this.state.factorialDone <= now) this.finishFactorial();
    if (this.state.dmaDone <= now) this.finishTransfer();
  }

  private finishFactorial(): void {
    const { state } = this;
    state.factorialDone = Number.POSITIVE_INFINITY;
    state.factorial = factorialOf(state.factorial);
    state.status &= ~STATUS.computing;
    if (state.status & STATUS.interruptWhenDone) this.raise(INTERRUPT.factorial);
  }

  private finishTransfer(): void {
    const { state } = this;
    state.dmaDone = Number.POSITIVE_INFINITY;
    this.transfer();
    state.command &= ~DMA.run;
    if (state.command & DMA.interruptWhenDone) this.raise(INTERRUPT.dma);
  }

  /** Nothing is moved when the device's side is not inside its buffer. A refused access leaves the buffer alone. */
  private transfer(): void {
    const { source, destination, count, command, buffer } = this.state;
    const toMemory = (command & DMA.toMemory) !== 0;
    const own = (toMemory ? source : destination) - BUFFER.start;
    if (own < 0n || own + count > BigInt(BUFFER.size)) return;
    const at = Number(own);
    const length = Number(count);
    if (toMemory) this.function.dmaWrite(destination & this.dmaMask, buffer.subarray(at, at + length));
    else buffer.set(this.function.dmaRead(source & this.dmaMask, length) ?? [], at);
  }

  snapshot(): EduState {
    return structuredClone(this.state);
  }

  restore(saved: EduState): void {
    this.state = structuredClone(saved);
  }
}
