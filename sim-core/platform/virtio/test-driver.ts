/** A minimal virtio driver, as the specification's section 3.1 describes one, for tests of the devices. */

import { TestBus } from '../pci/test-bus.ts';
import type { VirtioDevice, VirtioModel } from './transport.ts';
import { VirtioDevice as Device } from './transport.ts';

/** Memory of each driver, by its slot: rings of each queue, a page for each part. */
const RINGS = 0x1_0000;
const RING_PAGES = 3;
const PAGE = 0x1000;
const QUEUE_SIZE = 8;
const NOTIFY = 0x3000;
const COMMON = {
  featureSelect: [0x00, 4], feature: [0x04, 4], driverFeatureSelect: [0x08, 4], driverFeature: [0x0c, 4],
  status: [0x14, 1], queueSelect: [0x16, 2], queueSize: [0x18, 2], vector: [0x1a, 2], enable: [0x1c, 2],
} as const; // biome-ignore format: a table reads better in rows
type Field = keyof typeof COMMON;

export interface Buffer {
  readonly address: number;
  readonly length: number;
  /** The device writes it. */
  readonly write?: boolean;
}

/** How the driver uses its queues. */
export interface QueueUse {
  readonly packed?: boolean;
  /** Chains are in tables of their own. */
  readonly indirect?: boolean;
  readonly eventIndex?: boolean;
}

/** What a driver keeps of a queue. */
interface Progress {
  /** Place of the next free descriptor, and of the next one that comes back. */
  free: number;
  back: number;
  freeWrap: boolean;
  backWrap: boolean;
  /** Chains that have come back, and bytes written of the last. */
  count: number;
  written: number;
  /** Descriptors of the chains that are with the device, by their identification. */
  lengths: Map<number, number>;
}

export class TestDriver {
  readonly test: TestBus;
  readonly device: VirtioDevice;
  private readonly base: number;
  private readonly use: QueueUse;
  private readonly progress: Progress[] = [];

  constructor(model: VirtioModel, test = new TestBus(), slot = 4, use: QueueUse = {}) {
    this.test = test;
    this.use = use;
    this.device = new Device(model, slot, test.environment);
    test.plug(this.device);
    const bar = this.device.function.bars.find(({ index }) => index === 4);
    this.base = bar ? (this.device.function.decoded(bar) ?? 0) : 0;
  }

  get(field: Field): number {
    const [offset, size] = COMMON[field];
    return this.test.physical.read(this.base + offset, size);
  }
  set(field: Field, value: number): void {
    const [offset, size] = COMMON[field];
    this.test.physical.write(this.base + offset, size, value);
  }
  /** A byte of the region of the structures. */
  read(offset: number, size = 1): number {
    return this.test.physical.read(this.base + offset, size);
  }

  /** Features, queues, DRIVER_OK. */
  start(): this {
    this.set('status', 0);
    this.set('status', 3);
    const { packed = false, indirect = false, eventIndex = false } = this.use;
    this.set('driverFeatureSelect', 0);
    this.set('driverFeature', (indirect ? 1 << 28 : 0) | (eventIndex ? 1 << 29 : 0));
    this.set('driverFeatureSelect', 1);
    this.set('driverFeature', packed ? 7 : 3);
    this.set('status', 11);
    this.progress.length = 0;
    for (let queue = 0; queue < this.device.queues.length; queue++) {
      this.set('queueSelect', queue);
      this.set('queueSize', QUEUE_SIZE);
      for (let part = 0; part < RING_PAGES; part++) {
        this.test.physical.write(this.base + 0x20 + 8 * part, 4, this.ring(queue, part));
      }
      this.set('enable', 1);
    }
    this.set('status', 15);
    return this;
  }

  /** Descriptors, available ring or used ring of a queue. */
  ring(queue: number, part: number): number {
    return RINGS * this.device.function.device + PAGE * (RING_PAGES * queue + part);
  }

  private progressOf(queue: number): Progress {
    const known = this.progress[queue];
    if (known) return known;
    const fresh = { free: 0, back: 0, freeWrap: true, backWrap: true, count: 0, written: 0, lengths: new Map() };
    this.progress[queue] = fresh;
    return fresh;
  }

  /** Makes a chain of buffers available, notifies, and lets the device work. */
  send(queue: number, ...buffers: readonly Buffer[]): void {
    const chain = this.use.indirect ? [this.table(queue, buffers)] : buffers;
    if (this.use.packed) this.sendPacked(queue, chain);
    else this.sendSplit(queue, chain);
    this.notify(queue);
  }

  /** A table of descriptors behind the queue's rings. @returns the buffer that it is itself */
  private table(queue: number, buffers: readonly Buffer[]): Buffer {
    const { physical } = this.test;
    const address = this.ring(queue, 1) + PAGE / 2;
    buffers.forEach(({ address: to, length, write }, at) => {
      const place = address + 16 * at;
      const flags = (write ? 2 : 0) | (at < buffers.length - 1 && !this.use.packed ? 1 : 0);
      physical.write64(place, BigInt(to));
      physical.write(place + 8, 4, length);
      physical.write(place + 12, 2, this.use.packed ? 0 : flags);
      physical.write(place + 14, 2, this.use.packed ? flags : at + 1);
    });
    return { address, length: 16 * buffers.length };
  }

  private sendSplit(queue: number, buffers: readonly Buffer[]): void {
    const { physical } = this.test;
    const progress = this.progressOf(queue);
    const head = progress.free;
    buffers.forEach(({ address, length, write }, at) => {
      const descriptor = this.ring(queue, 0) + 16 * ((head + at) % QUEUE_SIZE);
      const last = at === buffers.length - 1;
      physical.write64(descriptor, BigInt(address));
      physical.write(descriptor + 8, 4, length);
      physical.write(descriptor + 12, 2, (last ? 0 : 1) | (write ? 2 : 0) | (this.use.indirect ? 4 : 0));
      physical.write(descriptor + 14, 2, (head + at + 1) % QUEUE_SIZE);
    });
    progress.free = (head + buffers.length) % QUEUE_SIZE;
    const available = this.ring(queue, 1);
    const index = physical.read(available + 2, 2);
    physical.write(available + 4 + 2 * (index % QUEUE_SIZE), 2, head);
    physical.write(available + 2, 2, (index + 1) & 0xffff);
  }

  private sendPacked(queue: number, buffers: readonly Buffer[]): void {
    const { physical } = this.test;
    const progress = this.progressOf(queue);
    const id = 100 + progress.free;
    progress.lengths.set(id, buffers.length);
    buffers.forEach(({ address, length, write }, at) => {
      const descriptor = this.ring(queue, 0) + 16 * progress.free;
      const next = at === buffers.length - 1 ? 0 : 1;
      const wrap = progress.freeWrap ? 0x80 : 0x8000;
      physical.write64(descriptor, BigInt(address));
      physical.write(descriptor + 8, 4, length);
      physical.write(descriptor + 12, 2, id);
      physical.write(descriptor + 14, 2, next | (write ? 2 : 0) | (this.use.indirect ? 4 : 0) | wrap);
      progress.free = (progress.free + 1) % QUEUE_SIZE;
      if (progress.free === 0) progress.freeWrap = !progress.freeWrap;
    });
  }

  notify(queue: number): void {
    this.test.physical.write(this.base + NOTIFY + 4 * queue, 2, queue);
    this.work();
  }

  work(): void {
    this.test.run(this.device, 10_000);
  }

  /** How many chains have come back, and the bytes written of the last. */
  used(queue: number): readonly [number, number] {
    const { physical } = this.test;
    if (this.use.packed) return this.usedPacked(queue);
    const at = this.ring(queue, 2);
    const count = physical.read(at + 2, 2);
    return [count, physical.read(at + 4 + 8 * ((count - 1 + QUEUE_SIZE) % QUEUE_SIZE) + 4, 4)];
  }

  private usedPacked(queue: number): readonly [number, number] {
    const { physical } = this.test;
    const progress = this.progressOf(queue);
    for (;;) {
      const at = this.ring(queue, 0) + 16 * progress.back;
      const wanted = progress.backWrap ? 0x8080 : 0;
      const length = progress.lengths.get(physical.read(at + 12, 2));
      if ((physical.read(at + 14, 2) & 0x8080) !== wanted || length === undefined) break;
      progress.lengths.delete(physical.read(at + 12, 2));
      progress.written = physical.read(at + 8, 4);
      progress.count++;
      if (progress.back + length >= QUEUE_SIZE) progress.backWrap = !progress.backWrap;
      progress.back = (progress.back + length) % QUEUE_SIZE;
    }
    return [progress.count, progress.written];
  }
}
