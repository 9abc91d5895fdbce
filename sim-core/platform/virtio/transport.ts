/** Virtio over PCI, modern devices only (virtio 1.2, section 4.1). */

import type { DeviceEnvironment, PciDevice } from '../pci/device.ts';
import { type BarDevice, PciFunction } from '../pci/function.ts';
import { type Chain, QUEUE_FEATURE, type QueueState } from './chain.ts';
import { Virtqueue } from './queue.ts';

const VENDOR = 0x1af4;
const FIRST_DEVICE_ID = 0x1040;
const CAPABILITY_VENDOR_SPECIFIC = 0x09;

/** Where the structures are in the region of BAR 4, and the types that their capabilities have. */
const BAR = 4;
const MSIX_BAR = 1;
const REGION_SIZE = 0x4000;
const STRUCTURE = {
  common: { type: 1, offset: 0x0000, length: 0x38 },
  notify: { type: 2, offset: 0x3000, length: 0x1000 },
  interrupt: { type: 3, offset: 0x1000, length: 1 },
  device: { type: 4, offset: 0x2000, length: 0x1000 },
} as const;
const CONFIGURATION_ACCESS = 5;
const NOTIFY_MULTIPLIER = 4;

const STATUS = { driverOk: 4, featuresOk: 8, needsReset: 0x40 } as const;
const FEATURE = { version1: 1n << 32n, accessPlatform: 1n << 33n } as const;
const INTERRUPT = { queue: 1, configuration: 2 } as const;
const NO_VECTOR = 0xffff;
/** Cycles (nanoseconds) between a notification and what the device does about it. */
const LATENCY = 1000;

/** What is special about a kind of device. Its queues are served in `serve`, which may be called without need. */
export interface VirtioModel {
  readonly name: string;
  /** Virtio device number: 1 is a network card, 2 a block device, … */
  readonly id: number;
  readonly classCode: number;
  readonly features: bigint;
  /** The largest size of each queue. */
  readonly queueSizes: readonly number[];
  /** Device-specific configuration, as the driver reads it. */
  readonly configuration: Uint8Array;
  /** Does what there is to do in a queue, as long as that is not broken. */
  serve(queue: number, device: VirtioDevice): void;
  /** What arrives from outside the machine. */
  input?(bytes: Uint8Array): void;
  reset(): void;
  snapshot(): unknown;
  restore(saved: unknown): void;
}

interface TransportState {
  status: number;
  featureSelect: number;
  driverFeatureSelect: number;
  driverFeatures: bigint;
  configurationVector: number;
  queueSelect: number;
  interrupt: number;
  /** Queues that wait to be served, and the cycle at which they will be. */
  pending: boolean[];
  serveAt: number;
}

const initial = (queues: number): TransportState => ({
  status: 0,
  featureSelect: 0,
  driverFeatureSelect: 0,
  driverFeatures: 0n,
  configurationVector: NO_VECTOR,
  queueSelect: 0,
  interrupt: 0,
  pending: new Array<boolean>(queues).fill(false),
  serveAt: Number.POSITIVE_INFINITY,
});

export interface VirtioState {
  readonly transport: TransportState;
  readonly queues: readonly QueueState[];
  readonly model: unknown;
}

interface Register {
  readonly size: number;
  readonly read: () => number;
  readonly write?: (value: number) => void;
}

/** The function's configuration space has a window to the structures (VIRTIO_PCI_CAP_PCI_CFG). */
class VirtioFunction extends PciFunction {
  private window: { readonly at: number; readonly region: BarDevice } | undefined;

  openWindow(region: BarDevice): void {
    const at = addStructure(this, CONFIGURATION_ACCESS, 0, 0, 20);
    this.config.define(at + 4, 1, 0, 0xff);
    this.config.define(at + 8, 4, 0, 0xffff_ffff);
    this.config.define(at + 12, 4, 0, 0xffff_ffff);
    this.window = { at, region };
  }

  /** Offset and length that the window is set to, when an access is to its data and it leads to BAR 4. */
  private through(offset: number): { readonly offset: number; readonly length: number } | undefined {
    const { window, config } = this;
    if (!window || offset !== window.at + 16 || config.get(window.at + 4, 1) !== BAR) return undefined;
    const length = config.get(window.at + 12, 4);
    return [1, 2, 4].includes(length) ? { offset: config.get(window.at + 8, 4), length } : undefined;
  }

  override read(offset: number, size: number): number {
    const access = this.through(offset);
    return access && this.window ? this.window.region.read(access.offset, access.length) : super.read(offset, size);
  }

  override write(offset: number, size: number, value: number): void {
    const access = this.through(offset);
    if (access && this.window) this.window.region.write(access.offset, access.length, value);
    else super.write(offset, size, value);
  }
}

function addStructure(to: PciFunction, type: number, offset: number, length: number, size: number): number {
  const at = to.config.addCapability(CAPABILITY_VENDOR_SPECIFIC, size);
  to.config.define(at + 2, 1, size);
  to.config.define(at + 3, 1, type);
  to.config.define(at + 4, 1, BAR);
  to.config.define(at + 8, 4, offset);
  to.config.define(at + 12, 4, length);
  return at;
}

export interface VirtioOptions {
  /** Offer packed rings. Default true. */
  readonly packed?: boolean;
}

export class VirtioDevice implements PciDevice, BarDevice {
  readonly function: PciFunction;
  readonly queues: readonly Virtqueue[];
  private readonly model: VirtioModel;
  private readonly environment: DeviceEnvironment;
  private readonly features: bigint;
  private readonly common: ReadonlyMap<number, Register>;
  private state: TransportState;

  /** @param device number on bus 0 */
  constructor(model: VirtioModel, device: number, environment: DeviceEnvironment, options: VirtioOptions = {}) {
    this.model = model;
    this.environment = environment;
    // DMA goes by the IOMMU like every device's, which drivers must be told.
    const common = FEATURE.version1 | FEATURE.accessPlatform | QUEUE_FEATURE.indirect | QUEUE_FEATURE.eventIndex;
    this.features = model.features | common | (options.packed === false ? 0n : QUEUE_FEATURE.packed);
    const identity = {
      vendor: VENDOR,
      device: FIRST_DEVICE_ID + model.id,
      revision: 1,
      classCode: model.classCode,
      subsystemVendor: VENDOR,
      subsystem: 0x1100,
    };
    const itself = new VirtioFunction({ identity, device, pin: 1 });
    this.function = itself;
    this.queues = model.queueSizes.map((size) => new Virtqueue(itself, size));
    this.state = initial(this.queues.length);
    this.common = this.makeCommon();
    itself.addMsix(this.queues.length + 1, MSIX_BAR);
    itself.addBar({ index: BAR, kind: 'memory32', size: REGION_SIZE, device: this });
    for (const { type, offset, length } of Object.values(STRUCTURE)) {
      const notify = type === STRUCTURE.notify.type;
      const at = addStructure(itself, type, offset, length, notify ? 20 : 16);
      if (notify) itself.config.define(at + 16, 4, NOTIFY_MULTIPLIER);
    }
    itself.openWindow(this);
  }

  get name(): string {
    return this.model.name;
  }

  input(bytes: Uint8Array): void {
    this.model.input?.(bytes);
  }

  reset(): void {
    this.state = initial(this.queues.length);
    for (const queue of this.queues) queue.reset();
    this.model.reset();
    this.function.setInterrupt(false);
  }

  /** Whether the driver is at work. */
  get isRunning(): boolean {
    return (this.state.status & (STATUS.driverOk | STATUS.needsReset)) === STATUS.driverOk;
  }

  // Registers

  private get queue(): Virtqueue | undefined {
    return this.queues[this.state.queueSelect];
  }

  /** Section 4.1.4.3, "Common configuration structure layout". */
  private makeCommon(): Map<number, Register> {
    const state = (name: 'featureSelect' | 'driverFeatureSelect' | 'queueSelect', size: number): Register => ({
      size,
      read: () => this.state[name],
      write: (value) => {
        this.state[name] = value;
      },
    });
    return new Map<number, Register>([
      [0x00, state('featureSelect', 4)],
      [0x04, { size: 4, read: () => half(this.features, this.state.featureSelect) }],
      [0x08, state('driverFeatureSelect', 4)],
      [0x0c, { size: 4, read: () => this.readDriverFeatures(), write: (value) => this.setDriverFeatures(value) }],
      [0x10, { size: 2, read: () => this.state.configurationVector, write: (value) => this.setVector(value) }],
      [0x12, { size: 2, read: () => this.queues.length }],
      [0x14, { size: 1, read: () => this.state.status, write: (value) => this.setStatus(value) }],
      [0x15, { size: 1, read: () => 0 }],
      [0x16, state('queueSelect', 2)],
      [0x18, { size: 2, read: () => this.queue?.state.size ?? 0, write: (value) => this.setSize(value) }],
      [0x1a, { size: 2, read: () => this.queue?.state.vector ?? 0, write: (value) => this.setQueueVector(value) }],
      [0x1c, { size: 2, read: () => Number(this.queue?.state.enabled ?? false), write: (value) => this.enable(value) }],
      [0x1e, { size: 2, read: () => this.state.queueSelect }],
      ...this.addressRegisters(0x20, 'descriptors'),
      ...this.addressRegisters(0x28, 'driver'),
      ...this.addressRegisters(0x30, 'device'),
    ]);
  }

  private addressRegisters(offset: number, name: 'descriptors' | 'driver' | 'device'): [number, Register][] {
    return [0, 1].map((part) => [
      offset + 4 * part,
      {
        size: 4,
        read: () => half(this.queue?.state[name] ?? 0n, part),
        write: (value) => {
          const { queue } = this;
          if (queue && !queue.state.enabled) queue.state[name] = withHalf(queue.state[name], part, value);
        },
      },
    ]);
  }

  private readDriverFeatures(): number {
    return half(this.state.driverFeatures, this.state.driverFeatureSelect);
  }
  private setDriverFeatures(value: number): void {
    const { driverFeatures, driverFeatureSelect, status } = this.state;
    if (status & STATUS.featuresOk || driverFeatureSelect > 1) return;
    this.state.driverFeatures = withHalf(driverFeatures, driverFeatureSelect, value);
  }

  /** A vector that MSI-X does not have is answered by NO_VECTOR. */
  private checkedVector(value: number): number {
    return value <= this.queues.length ? value : NO_VECTOR;
  }
  private setVector(value: number): void {
    this.state.configurationVector = this.checkedVector(value);
  }
  private setQueueVector(value: number): void {
    if (this.queue) this.queue.state.vector = this.checkedVector(value);
  }

  /** A size is at most the largest, and that of a split ring a power of two; others are not taken. */
  private setSize(value: number): void {
    const { queue } = this;
    const isPacked = (this.state.driverFeatures & QUEUE_FEATURE.packed) !== 0n;
    const fits = isPacked ? value > 0 : Number.isInteger(Math.log2(value));
    if (queue && !queue.state.enabled && value <= queue.largest && fits) queue.state.size = value;
  }
  private enable(value: number): void {
    if (this.queue && value === 1) this.queue.state.enabled = true;
  }

  /** Writing 0 resets. FEATURES_OK stays off when the driver wants what was not offered, or is a legacy one. */
  private setStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const { driverFeatures, status } = this.state;
    const good = (driverFeatures & ~this.features) === 0n && (driverFeatures & FEATURE.version1) !== 0n;
    const kept = value | (status & STATUS.needsReset);
    this.state.status = good ? kept : kept & ~STATUS.featuresOk;
    for (const queue of this.queues) queue.features = driverFeatures;
    // What the world outside has sent so far can be received from now on.
    if (this.isRunning) for (const index of this.queues.keys()) this.wake(index);
  }

  read(offset: number, size: number): number {
    if (offset >= STRUCTURE.device.offset && offset < STRUCTURE.notify.offset) return this.readDevice(offset, size);
    if (offset === STRUCTURE.interrupt.offset) return this.takeInterrupt();
    const register = this.common.get(offset);
    return register && register.size === size ? register.read() >>> 0 : 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= STRUCTURE.notify.offset) {
      this.wake((offset - STRUCTURE.notify.offset) / NOTIFY_MULTIPLIER);
      return;
    }
    const register = this.common.get(offset);
    if (register && register.size === size) register.write?.(value);
  }

  private readDevice(offset: number, size: number): number {
    const { configuration } = this.model;
    const at = offset - STRUCTURE.device.offset;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (configuration[at + i] ?? 0);
    return value;
  }

  // Interrupts

  /** The ISR status: reading it ends the interrupt. */
  private takeInterrupt(): number {
    const { interrupt } = this.state;
    this.state.interrupt = 0;
    this.function.setInterrupt(false);
    return interrupt;
  }

  private signal(vector: number, bit: number): void {
    if (this.function.usesMsix) {
      if (vector !== NO_VECTOR) this.function.signal(vector);
      return;
    }
    this.state.interrupt |= bit;
    this.function.setInterrupt(true);
  }

  // Queues

  /** There may be something to do in a queue. */
  wake(queue: number): void {
    if (!this.isRunning || this.state.pending[queue] === undefined) return;
    this.state.pending[queue] = true;
    this.state.serveAt = Math.min(this.state.serveAt, this.environment.clock.cycles() + LATENCY);
    this.environment.deadlineChanged();
  }

  nextDeadline(): number {
    return this.state.serveAt;
  }

  service(now: number): void {
    if (this.state.serveAt > now) return;
    this.state.serveAt = Number.POSITIVE_INFINITY;
    for (const [index, pending] of this.state.pending.entries()) if (pending) this.serveQueue(index);
  }

  private serveQueue(index: number): void {
    this.state.pending[index] = false;
    if (!this.isRunning) return;
    this.model.serve(index, this);
    const queue = this.queues[index];
    if (queue?.problem === undefined) return;
    this.environment.complain?.(`${this.name}: queue ${index}: ${queue.problem}; the driver must reset the device`);
    queue.problem = undefined;
    this.state.status |= STATUS.needsReset;
    this.signal(this.state.configurationVector, INTERRUPT.configuration);
  }

  /** Gives a chain back, and interrupts unless the driver does not want that. */
  complete(index: number, chain: Chain, written: number): void {
    const queue = this.queues[index];
    if (queue?.complete(chain, written)) this.signal(queue.state.vector, INTERRUPT.queue);
  }

  snapshot(): VirtioState {
    return structuredClone({
      transport: this.state,
      queues: this.queues.map((queue) => queue.state),
      model: this.model.snapshot(),
    });
  }

  restore(saved: VirtioState): void {
    const copy = structuredClone(saved);
    this.state = copy.transport;
    for (const [at, queue] of this.queues.entries()) {
      queue.state = copy.queues[at] ?? queue.state;
      queue.features = copy.transport.driverFeatures;
    }
    this.model.restore(copy.model);
  }
}

const half = (value: bigint, part: number): number =>
  part > 1 ? 0 : Number((value >> BigInt(32 * part)) & 0xffff_ffffn);

function withHalf(value: bigint, part: number, bits: number): bigint {
  const shift = BigInt(32 * part);
  return (value & ~(0xffff_ffffn << shift)) | (BigInt(bits) << shift);
}
