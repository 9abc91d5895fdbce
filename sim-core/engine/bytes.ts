/** Buffers of writers that are done, as large as they have grown: getting memory anew takes time. */
const spare: Uint8Array<ArrayBuffer>[] = [];
const FIRST_SIZE = 8192;
const NO_BYTES = new Uint8Array(0);
/** A length's five bytes, all but the last of which say that more follow. */
const UNKNOWN_LENGTH = [0x80, 0x80, 0x80, 0x80, 0];

/** A growing byte buffer with WebAssembly's variable-length integers (WebAssembly Core Specification, "Values"). */
export class ByteWriter {
  private bytes = spare.pop() ?? new Uint8Array(FIRST_SIZE);
  length = 0;

  byte(value: number): void {
    if (this.length === this.bytes.length) this.grow(this.length + 1);
    this.bytes[this.length++] = value;
  }

  append(other: ArrayLike<number>): void {
    if (this.length + other.length > this.bytes.length) this.grow(this.length + other.length);
    this.bytes.set(other, this.length);
    this.length += other.length;
  }

  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  signed32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  signed64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    if (rest >= -0x8000_0000n && rest <= 0x7fff_ffffn) return this.signed32(Number(rest));
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  name(text: string): void {
    this.unsigned(text.length);
    for (let i = 0; i < text.length; i++) this.byte(text.charCodeAt(i));
  }

  /**
   * Writes what `write` appends after its length. The length takes five bytes, whatever it is, so that nothing moves.
   */
  sized(write: () => void): void {
    const start = this.length;
    this.append(UNKNOWN_LENGTH);
    write();
    let rest = this.length - start - UNKNOWN_LENGTH.length;
    for (let i = 0; i < UNKNOWN_LENGTH.length; i++, rest >>>= 7) {
      this.bytes[start + i] = (UNKNOWN_LENGTH[i] as number) | (rest & 0x7f);
    }
  }

  /** Gives the buffer back: nothing may be written or viewed any more. */
  release(): void {
    spare.push(this.bytes);
    this.bytes = NO_BYTES;
    this.length = 0;
  }

  /** The bytes written so far; valid until the next write. */
  view(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }

  private grow(least: number): void {
    const bigger = new Uint8Array(Math.max(least, this.bytes.length * 2));
    bigger.set(this.view());
    this.bytes = bigger;
  }
}
