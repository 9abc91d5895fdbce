/** The packed virtqueue (virtio 1.2, section 2.8): one ring of descriptors, which both sides write. */

import {
  type Chain,
  ChainBuilder,
  DESCRIPTOR,
  type Descriptor,
  QUEUE_FEATURE,
  type Ring,
  type RingQueue,
} from './chain.ts';

/** Beside the common flags: each side's wrap counter when it wrote the descriptor. */
const FLAG = { available: 1 << 7, used: 1 << 15 } as const;
/** What the driver wants to hear of, in its event suppression structure. */
const EVENT = { disabled: 1, atDescriptor: 2 } as const;
const WRAP = 1 << 15;

interface Packed extends Descriptor {
  readonly id: number;
}

function decode(view: DataView): Packed {
  return {
    address: view.getBigUint64(0, true),
    length: view.getUint32(8, true),
    id: view.getUint16(12, true),
    flags: view.getUint16(14, true),
  };
}

export class PackedRing implements Ring {
  private readonly queue: RingQueue;

  constructor(queue: RingQueue) {
    this.queue = queue;
  }

  private place(index: number): bigint {
    return this.queue.state.descriptors + BigInt(DESCRIPTOR.size * index);
  }

  /** A driver makes the first descriptor of a chain available last. */
  take(): Chain | undefined {
    const { queue } = this;
    const { state } = queue;
    const chain = new ChainBuilder();
    let index = state.available;
    let wrap = state.availableWrap;
    for (let count = 1; ; count++) {
      const view = queue.read(this.place(index), DESCRIPTOR.size);
      if (!view) return undefined;
      const descriptor = decode(view);
      const { flags, id } = descriptor;
      const isAvailable = ((flags & FLAG.available) !== 0) === wrap && ((flags & FLAG.used) !== 0) !== wrap;
      if (!isAvailable) return count === 1 ? undefined : queue.fail('a chain goes on where nothing is available');
      if (!this.add(descriptor, chain)) return undefined;
      index = (index + 1) % state.size;
      if (index === 0) wrap = !wrap;
      if ((flags & DESCRIPTOR.next) === 0) {
        state.available = index;
        state.availableWrap = wrap;
        return { id, count, readable: chain.readable, writable: chain.writable };
      }
      if (count === state.size) return queue.fail('a chain is longer than the queue');
    }
  }

  private add(descriptor: Packed, chain: ChainBuilder): boolean {
    const { queue } = this;
    if (descriptor.flags & DESCRIPTOR.indirect) return this.indirect(descriptor, chain);
    const problem = chain.add(descriptor);
    if (problem !== undefined) queue.fail(problem);
    return problem === undefined;
  }

  /** The descriptors of a table follow each other; of their flags only that for writing counts. */
  private indirect(descriptor: Packed, chain: ChainBuilder): boolean {
    const { queue } = this;
    const bytes = queue.table(descriptor);
    if (!bytes) return false;
    for (let at = 0; at < bytes.byteLength; at += DESCRIPTOR.size) {
      const inner = decode(new DataView(bytes.buffer, bytes.byteOffset + at, DESCRIPTOR.size));
      if (inner.flags & DESCRIPTOR.indirect) queue.fail('an indirect descriptor inside an indirect table');
      else if (this.add(inner, chain)) continue;
      return false;
    }
    return true;
  }

  /** The driver must not see the flags before the rest. */
  complete(chain: Chain, written: number): boolean {
    const { queue } = this;
    const { state } = queue;
    const first = state.used;
    const wrap = state.usedWrap;
    const rest = new DataView(new ArrayBuffer(6));
    rest.setUint32(0, written, true);
    rest.setUint16(4, chain.id, true);
    queue.write(this.place(first) + 8n, new Uint8Array(rest.buffer));
    queue.write16(
      this.place(first) + 14n,
      (wrap ? FLAG.available | FLAG.used : 0) | (written > 0 ? DESCRIPTOR.write : 0),
    );
    state.used = (first + chain.count) % state.size;
    if (first + chain.count >= state.size) state.usedWrap = !wrap;
    return this.wantsInterrupt(first, wrap, chain.count);
  }

  /** @param first place of the descriptor that was given back, of `count` */
  private wantsInterrupt(first: number, wrap: boolean, count: number): boolean {
    const { queue } = this;
    const view = queue.read(queue.state.driver, 4);
    if (!view) return false;
    const flags = view.getUint16(2, true);
    if (flags !== EVENT.atDescriptor || !queue.has(QUEUE_FEATURE.eventIndex)) return flags !== EVENT.disabled;
    const event = view.getUint16(0, true);
    const ahead = (event & ~WRAP) + (((event & WRAP) !== 0) === wrap ? 0 : queue.state.size) - first;
    return ahead >= 0 && ahead < count;
  }
}
