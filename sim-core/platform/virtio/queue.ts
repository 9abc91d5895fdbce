/** The split virtqueue (virtio 1.2, section 2.7). Every access to memory goes through the function's DMA. */

import type { PciFunction } from '../pci/function.ts';

const DESCRIPTOR = { size: 16, next: 1, write: 2, indirect: 4 } as const;
const NO_INTERRUPT = 1;
/** Bytes that a chain may have altogether: more is nonsense that would only take memory here. */
const LARGEST_CHAIN = 1 << 24;

/** A buffer in the driver's memory. */
interface Segment {
  readonly address: bigint;
  readonly length: number;
}

/** What the driver has put into the queue as one: bytes for the device, then room for its answer. */
export interface Chain {
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
}

export interface QueueState {
  size: number;
  vector: number;
  enabled: boolean;
  descriptors: bigint;
  driver: bigint;
  device: bigint;
  /** Index of the next entry of the available ring to be looked at, and of the used ring to be filled; 16 bits. */
  available: number;
  used: number;
}

const total = (segments: readonly Segment[]): number => segments.reduce((sum, { length }) => sum + length, 0);

export class Virtqueue {
  private readonly memory: PciFunction;
  readonly largest: number;
  /** The queue is not as the specification wants it, or its memory cannot be reached: the transport looks at it. */
  isBroken = false;
  state: QueueState;

  constructor(memory: PciFunction, largest: number) {
    this.memory = memory;
    this.largest = largest;
    this.state = this.initial();
  }

  private initial(): QueueState {
    return {
      size: this.largest,
      vector: 0xffff,
      enabled: false,
      descriptors: 0n,
      driver: 0n,
      device: 0n,
      available: 0,
      used: 0,
    };
  }

  reset(): void {
    this.isBroken = false;
    this.state = this.initial();
  }

  private read(address: bigint, length: number): DataView | undefined {
    const bytes = this.memory.dmaRead(address, length);
    return bytes ? new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) : this.fail();
  }

  private write(address: bigint, bytes: Uint8Array): boolean {
    if (this.memory.dmaWrite(address, bytes)) return true;
    this.fail();
    return false;
  }

  private fail(): undefined {
    this.isBroken = true;
    return undefined;
  }

  /** The next chain; undefined when the driver has given no more, or the queue is broken. */
  take(): Chain | undefined {
    const { state } = this;
    if (!state.enabled || this.isBroken) return undefined;
    const index = this.read(state.driver + 2n, 2)?.getUint16(0, true);
    if (index === undefined || index === state.available) return undefined;
    const slot = BigInt(state.available % state.size);
    const head = this.read(state.driver + 4n + 2n * slot, 2)?.getUint16(0, true);
    if (head === undefined) return undefined;
    state.available = (state.available + 1) & 0xffff;
    return this.follow(head);
  }

  private follow(head: number): Chain | undefined {
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    for (let index = head, count = 0; ; count++) {
      // A chain longer than the queue is a loop; indirect descriptors were not offered.
      if (index >= this.state.size || count >= this.state.size) return this.fail();
      const descriptor = this.read(this.state.descriptors + BigInt(DESCRIPTOR.size * index), DESCRIPTOR.size);
      if (!descriptor) return undefined;
      const flags = descriptor.getUint16(12, true);
      const outOfOrder = (flags & DESCRIPTOR.write) === 0 && writable.length > 0;
      if (flags & DESCRIPTOR.indirect || outOfOrder) return this.fail();
      const segment = { address: descriptor.getBigUint64(0, true), length: descriptor.getUint32(8, true) };
      (flags & DESCRIPTOR.write ? writable : readable).push(segment);
      if ((flags & DESCRIPTOR.next) === 0) break;
      index = descriptor.getUint16(14, true);
    }
    if (total(readable) + total(writable) > LARGEST_CHAIN) return this.fail();
    return { head, readable, writable };
  }

  /** All bytes that the driver gives; undefined when the queue is broken. */
  gather(chain: Chain): Uint8Array | undefined {
    const out = new Uint8Array(total(chain.readable));
    let at = 0;
    for (const { address, length } of chain.readable) {
      const bytes = this.read(address, length);
      if (!bytes) return undefined;
      out.set(new Uint8Array(bytes.buffer, bytes.byteOffset, length), at);
      at += length;
    }
    return out;
  }

  /** Bytes of room for the answer. */
  room(chain: Chain): number {
    return total(chain.writable);
  }

  /** Puts bytes into the room for the answer, from `offset` on; what does not fit is dropped. */
  scatter(chain: Chain, bytes: Uint8Array, offset = 0): void {
    let start = 0;
    for (const { address, length } of chain.writable) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + bytes.length, start + length);
      if (from < to) this.write(address + BigInt(from - start), bytes.subarray(from - offset, to - offset));
      start += length;
    }
  }

  /** Gives a chain back, so many bytes written. @returns whether the driver wants an interrupt */
  complete(chain: Chain, written: number): boolean {
    const { state } = this;
    const entry = new DataView(new ArrayBuffer(8));
    entry.setUint32(0, chain.head, true);
    entry.setUint32(4, written, true);
    if (this.isBroken) return false;
    this.write(state.device + 4n + 8n * BigInt(state.used % state.size), new Uint8Array(entry.buffer));
    state.used = (state.used + 1) & 0xffff;
    const index = new DataView(new ArrayBuffer(2));
    index.setUint16(0, state.used, true);
    this.write(state.device + 2n, new Uint8Array(index.buffer));
    const flags = this.read(state.driver, 2)?.getUint16(0, true) ?? NO_INTERRUPT;
    return (flags & NO_INTERRUPT) === 0;
  }
}
