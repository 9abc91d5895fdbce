/** How much memory plain values take up that share bytes with each other, as snapshots of devices do. */

/** Bytes of V8's objects, about. */
const SIZE = { word: 8, bigint: 24, string: 16, object: 32, property: 16, entry: 40, bytes: 200 } as const;

/** What one value takes up. */
export interface Held {
  /** Bytes beside `buffers`. */
  readonly own: number;
  readonly buffers: ReadonlySet<ArrayBufferLike>;
}

/** Adds up the sizes of values; bytes that several of them hold count once. */
export class SharedSize {
  private readonly users = new Map<ArrayBufferLike, number>();
  private total = 0;

  /** Bytes of all that is held. */
  get bytes(): number {
    return this.total;
  }

  /** @param value of plain objects, arrays, maps, sets and bytes, which do not change while they are held */
  hold(value: unknown): Held {
    const buffers = new Set<ArrayBufferLike>();
    const own = measure(value, buffers);
    this.total += own;
    for (const buffer of buffers) {
      const users = this.users.get(buffer) ?? 0;
      if (users === 0) this.total += buffer.byteLength;
      this.users.set(buffer, users + 1);
    }
    return { own, buffers };
  }

  release({ own, buffers }: Held): void {
    this.total -= own;
    for (const buffer of buffers) {
      const users = (this.users.get(buffer) ?? 0) - 1;
      if (users > 0) this.users.set(buffer, users);
      else {
        this.users.delete(buffer);
        this.total -= buffer.byteLength;
      }
    }
  }
}

/** Bytes of a value without those of its buffers, which are collected. */
function measure(value: unknown, buffers: Set<ArrayBufferLike>): number {
  if (typeof value === 'string') return SIZE.string + 2 * value.length;
  if (typeof value === 'bigint') return SIZE.bigint;
  if (typeof value !== 'object' || value === null) return SIZE.word;
  if (ArrayBuffer.isView(value)) {
    buffers.add(value.buffer);
    return SIZE.bytes;
  }
  const parts = (values: Iterable<unknown>, each: number): number => {
    let sum = SIZE.object;
    for (const part of values) sum += each + measure(part, buffers);
    return sum;
  };
  if (value instanceof Map) return parts(value.keys(), SIZE.entry) + parts(value.values(), 0);
  if (value instanceof Set) return parts(value, SIZE.entry);
  return parts(Object.values(value), Array.isArray(value) ? 0 : SIZE.property);
}
