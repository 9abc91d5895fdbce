/** A virtqueue, whichever format its ring has. Every access to memory goes through the function's DMA. */

import type { PciFunction } from '../pci/function.ts';
import {
  type Chain,
  DESCRIPTOR,
  type Descriptor,
  QUEUE_FEATURE,
  type QueueState,
  type Ring,
  type RingQueue,
  total,
} from './chain.ts';
import { PackedRing } from './packed-ring.ts';
import { SplitRing } from './split-ring.ts';

/** Descriptors of an indirect table at most: as many as the largest queue of the specification has. */
const LARGEST_TABLE = 1 << 15;

export class Virtqueue implements RingQueue {
  private readonly memory: PciFunction;
  private readonly split = new SplitRing(this);
  private readonly packed = new PackedRing(this);
  readonly largest: number;
  /** Why the queue is not as the specification wants it, or its memory cannot be reached: the transport looks at it. */
  problem: string | undefined;
  /** Features that the driver has accepted. */
  features = 0n;
  state: QueueState;

  constructor(memory: PciFunction, largest: number) {
    this.memory = memory;
    this.largest = largest;
    this.state = this.initial();
  }

  private initial(): QueueState {
    return {
      ...{ size: this.largest, vector: 0xffff, enabled: false, descriptors: 0n, driver: 0n, device: 0n },
      ...{ available: 0, used: 0, availableWrap: true, usedWrap: true },
    };
  }

  reset(): void {
    this.problem = undefined;
    this.features = 0n;
    this.state = this.initial();
  }

  has(feature: bigint): boolean {
    return (this.features & feature) !== 0n;
  }

  private get ring(): Ring {
    return this.has(QUEUE_FEATURE.packed) ? this.packed : this.split;
  }

  // For the rings

  read(address: bigint, length: number): DataView | undefined {
    const bytes = this.memory.dmaRead(address, length);
    if (bytes) return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.fail(`0x${address.toString(16)} cannot be read`);
  }

  write(address: bigint, bytes: Uint8Array): boolean {
    if (this.memory.dmaWrite(address, bytes)) return true;
    this.fail(`0x${address.toString(16)} cannot be written`);
    return false;
  }

  write16(address: bigint, value: number): boolean {
    return this.write(address, Uint8Array.of(value & 0xff, (value >> 8) & 0xff));
  }

  fail(problem: string): undefined {
    this.problem ??= problem;
    return undefined;
  }

  /** The table that an indirect descriptor leads to. */
  table({ address, length, flags }: Descriptor): DataView | undefined {
    if (flags & DESCRIPTOR.next) return this.fail('an indirect descriptor that has a next one');
    if (!this.has(QUEUE_FEATURE.indirect)) return this.fail('an indirect descriptor, which was not negotiated');
    const count = length / DESCRIPTOR.size;
    if (count < 1 || count > LARGEST_TABLE || !Number.isInteger(count)) {
      return this.fail(`an indirect table of ${length} bytes`);
    }
    return this.read(address, length);
  }

  // For the device

  /** The next chain; undefined when the driver has given no more, or the queue is broken. */
  take(): Chain | undefined {
    return this.state.enabled && this.problem === undefined ? this.ring.take() : undefined;
  }

  /** Gives a chain back, so many bytes written. @returns whether the driver wants an interrupt */
  complete(chain: Chain, written: number): boolean {
    return this.problem === undefined && this.ring.complete(chain, written);
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
}
