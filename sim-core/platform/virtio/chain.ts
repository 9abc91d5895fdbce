/** Chains of buffers, as both formats of virtqueues have them (virtio 1.2, section 2.6). */

/** Reserved feature bits (virtio 1.2, section 6) that are about queues; every device offers them. */
export const QUEUE_FEATURE = { indirect: 1n << 28n, eventIndex: 1n << 29n, packed: 1n << 34n } as const;
/** Flags of a descriptor in either format. */
export const DESCRIPTOR = { size: 16, next: 1, write: 2, indirect: 4 } as const;
/** Bytes that a chain may have altogether: more is nonsense that would only take memory here. */
const LARGEST_CHAIN = 1 << 24;

/** A buffer in the driver's memory. */
export interface Segment {
  readonly address: bigint;
  readonly length: number;
}

/** What the driver has put into the queue as one: bytes for the device, then room for its answer. */
export interface Chain {
  /** By which the driver knows it. */
  readonly id: number;
  /** Descriptors that it takes in the ring. */
  readonly count: number;
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
  /** Where the next chain is looked for, and the next one given back: 16-bit counts, or places in a packed ring. */
  available: number;
  used: number;
  /** Of a packed ring: the wrap counters that belong to those places. */
  availableWrap: boolean;
  usedWrap: boolean;
}

/** What a ring's format needs of its queue. */
export interface RingQueue {
  readonly state: QueueState;
  readonly problem: string | undefined;
  /** Whether the driver has accepted a feature. */
  has(feature: bigint): boolean;
  /** By DMA. Undefined or false when memory cannot be reached, which is a problem already. */
  read(address: bigint, length: number): DataView | undefined;
  write(address: bigint, bytes: Uint8Array): boolean;
  write16(address: bigint, value: number): boolean;
  /** The queue is not as the specification wants it. */
  fail(problem: string): undefined;
  /** The table that an indirect descriptor leads to; undefined when it may not, or memory cannot be reached. */
  table(descriptor: Descriptor): DataView | undefined;
}

/** What a ring's format is about. */
export interface Ring {
  /** The next chain; undefined when the driver has given no more, or the queue is broken. */
  take(): Chain | undefined;
  /** Gives a chain back, so many bytes written. @returns whether the driver wants an interrupt */
  complete(chain: Chain, written: number): boolean;
}

export const total = (segments: readonly Segment[]): number => segments.reduce((sum, { length }) => sum + length, 0);

/** What descriptors of both formats have. */
export interface Descriptor extends Segment {
  readonly flags: number;
}

/** Collects a chain's segments in the order in which the specification wants them. */
export class ChainBuilder {
  readonly readable: Segment[] = [];
  readonly writable: Segment[] = [];

  /** @returns what is wrong */
  add({ address, length, flags }: Descriptor): string | undefined {
    const write = (flags & DESCRIPTOR.write) !== 0;
    if (!write && this.writable.length > 0) return 'a buffer to be read is behind one to be written';
    (write ? this.writable : this.readable).push({ address, length });
    const bytes = total(this.readable) + total(this.writable);
    return bytes > LARGEST_CHAIN ? `a chain has ${bytes} bytes, more than ${LARGEST_CHAIN}` : undefined;
  }
}
