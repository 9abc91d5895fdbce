/** What a block device keeps its data in. */

/** A disk image outside the machine. Reading and writing may fail: they throw, and the guest sees an I/O error. */
export interface DiskImage {
  /** Bytes; what is beyond the last whole sector of 512 is not seen. */
  readonly size: number;
  read(offset: number, length: number): Uint8Array;
  /** Absent: the image cannot be changed. */
  write?(offset: number, bytes: Uint8Array): void;
}

/** An image that is in memory already. */
export const memoryImage = (bytes: Uint8Array): DiskImage => ({
  size: bytes.length,
  read: (offset, length) => bytes.slice(offset, offset + length),
});

/** An image whose failures are told, but only the first one: the guest tries again and again. */
export function tellingImage(image: DiskImage, complain: (text: string) => void): DiskImage {
  let failed = false;
  const attempt = <Result>(act: () => Result): Result => {
    try {
      return act();
    } catch (error) {
      if (!failed) complain(`${error instanceof Error ? error.message : String(error)}; the guest sees I/O errors`);
      failed = true;
      throw error;
    }
  };
  const { size, write } = image;
  return {
    size,
    read: (offset, length) => attempt(() => image.read(offset, length)),
    ...(write ? { write: (offset: number, bytes: Uint8Array) => attempt(() => write(offset, bytes)) } : {}),
  };
}

const BLOCK = 4096;

/** A disk that keeps what is written to it to itself: the image stays as it is. */
export class CopyOnWriteDisk implements DiskImage {
  readonly size: number;
  private readonly image: DiskImage;
  /** Blocks that differ from the image, by number. They are replaced as a whole, never changed in place. */
  private blocks = new Map<number, Uint8Array>();

  constructor(image: DiskImage) {
    this.image = image;
    this.size = image.size;
  }

  private block(number: number): Uint8Array {
    const known = this.blocks.get(number);
    if (known) return known;
    const bytes = new Uint8Array(BLOCK);
    bytes.set(this.image.read(number * BLOCK, Math.min(BLOCK, this.size - number * BLOCK)));
    return bytes;
  }

  read(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.eachBlock(offset, length, (number, within, at, count) => {
      out.set(this.block(number).subarray(within, within + count), at);
    });
    return out;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.eachBlock(offset, bytes.length, (number, within, at, count) => {
      const changed = this.block(number).slice();
      changed.set(bytes.subarray(at, at + count), within);
      this.blocks.set(number, changed);
    });
  }

  private eachBlock(
    offset: number,
    length: number,
    use: (number: number, within: number, at: number, count: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const within = (offset + at) % BLOCK;
      const count = Math.min(BLOCK - within, length - at);
      use(Math.floor((offset + at) / BLOCK), within, at, count);
      at += count;
    }
  }

  snapshot(): ReadonlyMap<number, Uint8Array> {
    return new Map(this.blocks);
  }

  restore(saved: ReadonlyMap<number, Uint8Array>): void {
    this.blocks = new Map(saved);
  }
}
