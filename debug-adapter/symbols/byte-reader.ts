/** Data ended, or a number makes no sense: the file is cut or damaged. */
export class FormatError extends Error {}

/** A cursor over little-endian bytes. Every read past the end throws FormatError. */
export class ByteReader {
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly end: number;
  at: number;

  /** @param end exclusive bound of all reads. */
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    if (at < 0 || end > bytes.length || at > end) throw new FormatError(`no bytes ${at}…${end} in ${bytes.length}`);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  private take(length: number): number {
    const at = this.at;
    if (length < 0 || at + length > this.end) throw new FormatError(`data ends at ${this.end}, ${at}+${length} wanted`);
    this.at = at + length;
    return at;
  }

  skip(length: number): void {
    this.take(length);
  }
  u8(): number {
    return this.view.getUint8(this.take(1));
  }
  i8(): number {
    return this.view.getInt8(this.take(1));
  }
  u16(): number {
    return this.view.getUint16(this.take(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }
  u64(): bigint {
    return this.view.getBigUint64(this.take(8), true);
  }
  i64(): bigint {
    return this.view.getBigInt64(this.take(8), true);
  }
  /** A 64-bit offset or size as a Number. */
  size64(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError(`size 0x${value.toString(16)} is too large`);
    return Number(value);
  }
  /** An unsigned number of 1, 2, 4 or 8 bytes. */
  unsigned(size: number): bigint {
    if (size === 8) return this.u64();
    if (size === 4) return BigInt(this.u32());
    if (size === 2) return BigInt(this.u16());
    if (size === 1) return BigInt(this.u8());
    throw new FormatError(`number of ${size} bytes`);
  }
  /** LEB128 (DWARF 5, 7.6). @throws FormatError beyond 128 bits, which no producer writes. */
  uleb(): bigint {
    return this.leb()[0];
  }
  sleb(): bigint {
    const [value, bits] = this.leb();
    return BigInt.asIntN(bits, value);
  }
  /** The value without a sign, and the bits that its bytes hold. */
  private leb(): [bigint, number] {
    let value = 0n;
    for (let shift = 0; shift < 128; shift += 7) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << BigInt(shift);
      if (byte < 0x80) return [value, shift + 7];
    }
    throw new FormatError(`LEB128 before ${this.at} is too long`);
  }
  skipLeb(): void {
    while (this.u8() >= 0x80);
  }
  /** ULEB128 that must be a sensible count, index or length. */
  count(): number {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * factor;
      if (value > 0xffff_ffff) throw new FormatError(`count 0x${value.toString(16)} is too large`);
      if (byte < 0x80) return value;
      factor *= 128;
    }
  }
  skipString(): void {
    const zero = this.bytes.indexOf(0, this.at);
    if (zero < 0 || zero >= this.end) throw new FormatError(`string at ${this.at} has no end`);
    this.at = zero + 1;
  }
  string(): string {
    const start = this.at;
    this.skipString();
    return utf8.decode(this.bytes.subarray(start, this.at - 1));
  }
  /** A length field and the offset size it announces (DWARF 5, 7.4): 4 bytes, or 12 with the 64-bit escape. */
  unitLength(): { length: number; offsetSize: 4 | 8 } {
    const length = this.u32();
    if (length === 0xffff_ffff) return { length: this.size64(), offsetSize: 8 };
    if (length >= 0xffff_fff0) throw new FormatError(`reserved unit length 0x${length.toString(16)}`);
    return { length, offsetSize: 4 };
  }
  offset(size: 4 | 8): number {
    return size === 8 ? this.size64() : this.u32();
  }
}

const utf8 = new TextDecoder();
