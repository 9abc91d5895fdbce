/** The split virtqueue (virtio 1.2, section 2.7): a table of descriptors, a ring of heads each way. */

import {
  type Chain,
  ChainBuilder,
  DESCRIPTOR,
  type Descriptor,
  QUEUE_FEATURE,
  type Ring,
  type RingQueue,
} from './chain.ts';

const NO_INTERRUPT = 1;
/** Of both rings: flags, index, entries; behind them an index at which the other side wants to hear. */
const RING = { flags: 0n, index: 2n, entries: 4n } as const;
const AVAILABLE_SIZE = 2;
const USED_SIZE = 8;

/** Where a chain's descriptors are, and how many. */
interface Table {
  readonly length: number;
  /** @returns undefined when memory cannot be reached */
  at(index: number): DataView | undefined;
}

interface Linked extends Descriptor {
  readonly next: number;
}

function decode(view: DataView): Linked {
  return {
    address: view.getBigUint64(0, true),
    length: view.getUint32(8, true),
    flags: view.getUint16(12, true),
    next: view.getUint16(14, true),
  };
}

export class SplitRing implements Ring {
  private readonly queue: RingQueue;

  constructor(queue: RingQueue) {
    this.queue = queue;
  }

  take(): Chain | undefined {
    const { queue } = this;
    const { state } = queue;
    const index = queue.read(state.driver + RING.index, 2)?.getUint16(0, true);
    if (index === undefined) return undefined;
    if (index === state.available) return this.wait();
    // There are more heads than descriptors: the driver has run over itself.
    const waiting = (index - state.available) & 0xffff;
    if (waiting > state.size) return queue.fail(`${waiting} chains are available in a queue of ${state.size}`);
    const slot = BigInt(AVAILABLE_SIZE * (state.available % state.size));
    const head = queue.read(state.driver + RING.entries + slot, 2)?.getUint16(0, true);
    if (head === undefined) return undefined;
    state.available = (state.available + 1) & 0xffff;
    return this.follow(head);
  }

  /** Nothing is left: the driver shall tell of the next chain. */
  private wait(): undefined {
    const { queue } = this;
    const { device, size, available } = queue.state;
    if (queue.has(QUEUE_FEATURE.eventIndex)) {
      queue.write16(device + RING.entries + BigInt(USED_SIZE * size), available);
    }
    return undefined;
  }

  private follow(head: number): Chain | undefined {
    const { queue } = this;
    const { descriptors, size } = queue.state;
    const chain = new ChainBuilder();
    const ring: Table = {
      length: size,
      at: (index) => queue.read(descriptors + BigInt(DESCRIPTOR.size * index), DESCRIPTOR.size),
    };
    const count = this.walk(ring, head, chain, true);
    return count === undefined ? undefined : { id: head, count, readable: chain.readable, writable: chain.writable };
  }

  /** @param outer in the queue's own table, where a last descriptor can lead to another one. @returns descriptors */
  private walk(table: Table, first: number, chain: ChainBuilder, outer: boolean): number | undefined {
    const { queue } = this;
    for (let index = first, count = 1; ; count++) {
      if (index >= table.length) return queue.fail(`there is no descriptor ${index}`);
      if (count > table.length) return queue.fail('a chain is longer than its table: it is a loop');
      const view = table.at(index);
      if (!view) return undefined;
      const descriptor = decode(view);
      if (descriptor.flags & DESCRIPTOR.indirect) return this.indirect(descriptor, chain, outer) ? count : undefined;
      const problem = chain.add(descriptor);
      if (problem !== undefined) return queue.fail(problem);
      if ((descriptor.flags & DESCRIPTOR.next) === 0) return count;
      index = descriptor.next;
    }
  }

  private indirect(descriptor: Linked, chain: ChainBuilder, outer: boolean): boolean {
    const { queue } = this;
    const bytes = outer ? queue.table(descriptor) : queue.fail('an indirect descriptor inside an indirect table');
    if (!bytes) return false;
    const inner: Table = {
      length: bytes.byteLength / DESCRIPTOR.size,
      at: (index) => new DataView(bytes.buffer, bytes.byteOffset + DESCRIPTOR.size * index, DESCRIPTOR.size),
    };
    return this.walk(inner, 0, chain, false) !== undefined;
  }

  complete(chain: Chain, written: number): boolean {
    const { queue } = this;
    const { state } = queue;
    const entry = new DataView(new ArrayBuffer(USED_SIZE));
    entry.setUint32(0, chain.id, true);
    entry.setUint32(4, written, true);
    const before = state.used;
    const slot = BigInt(USED_SIZE * (before % state.size));
    queue.write(state.device + RING.entries + slot, new Uint8Array(entry.buffer));
    state.used = (before + 1) & 0xffff;
    queue.write16(state.device + RING.index, state.used);
    return this.wantsInterrupt(before);
  }

  /** @param used index of the entry that was filled: with event indices the driver names the one it waits for */
  private wantsInterrupt(used: number): boolean {
    const { queue } = this;
    const { driver, size } = queue.state;
    if (queue.has(QUEUE_FEATURE.eventIndex)) {
      const event = queue.read(driver + RING.entries + BigInt(AVAILABLE_SIZE * size), 2)?.getUint16(0, true);
      return event === used;
    }
    const flags = queue.read(driver + RING.flags, 2)?.getUint16(0, true) ?? NO_INTERRUPT;
    return (flags & NO_INTERRUPT) === 0;
  }
}
