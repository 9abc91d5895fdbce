/** Decompresses zlib data (RFC 1950, RFC 1951), as compressed debug sections hold them: at once, in any host. */

import { FormatError } from './byte-reader.ts';

/** A canonical Huffman code (RFC 1951, 3.2.2) by the next `bits` bits of the data: symbol << 4 | length; 0: no code. */
interface Huffman {
  readonly table: Uint32Array;
  readonly bits: number;
}

const LONGEST_CODE = 15;

function huffman(lengths: Uint8Array): Huffman {
  const bits = Math.max(1, ...lengths);
  const counts = new Uint16Array(LONGEST_CODE + 1);
  for (const length of lengths) if (length > 0) counts[length] = (counts[length] as number) + 1;
  const next = new Uint16Array(LONGEST_CODE + 2);
  for (let length = 1; length <= LONGEST_CODE; length++) {
    next[length + 1] = ((next[length] as number) + (counts[length] as number)) << 1;
  }
  const table = new Uint32Array(1 << bits);
  for (const [symbol, length] of lengths.entries()) {
    if (length === 0) continue;
    const code = next[length] as number;
    next[length] = code + 1;
    if (code >= 1 << length) throw new FormatError('compressed data hold more codes than there are');
    for (let at = reversed(code, length); at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
  }
  return { table, bits };
}

/** Codes come with their most significant bit first. */
function reversed(code: number, length: number): number {
  let result = 0;
  for (let bit = 0; bit < length; bit++) result |= ((code >> bit) & 1) << (length - 1 - bit);
  return result;
}

/** The shortest length or distance of each code, and how many more bits say which (RFC 1951, 3.2.5). */
function bases(
  extra: readonly number[],
  first: number,
): { readonly extra: readonly number[]; readonly base: number[] } {
  let next = first;
  const base = extra.map((bits) => {
    const own = next;
    next += 1 << bits;
    return own;
  });
  return { extra, base };
}
const pairs = (from: number, to: number): number[] =>
  Array.from({ length: 2 * (to - from + 1) }, (_, index) => from + (index >> 1));
const LENGTHS = bases([0, 0, 0, 0, ...[0, 1, 2, 3, 4, 5].flatMap((bits) => [bits, bits, bits, bits])], 3);
/** Code 285 alone is 258, without more bits. */
const LONGEST_MATCH = { code: 28, length: 258 };
const DISTANCES = bases([0, 0, ...pairs(0, 13)], 1);

const END_OF_BLOCK = 256;
const FIXED_LENGTHS = Uint8Array.from({ length: 288 }, (_, code) =>
  code < 144 ? 8 : code < 256 ? 9 : code < 280 ? 7 : 8,
);
const FIXED = { literals: huffman(FIXED_LENGTHS), distances: huffman(new Uint8Array(30).fill(5)) };
/** In which order the lengths of the code for lengths come (RFC 1951, 3.2.7). */
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

class Inflater {
  private readonly bytes: Uint8Array;
  private readonly out: Uint8Array;
  private at: number;
  private written = 0;
  private bitBuffer = 0;
  private bitCount = 0;

  constructor(bytes: Uint8Array, at: number, size: number) {
    this.bytes = bytes;
    this.at = at;
    this.out = new Uint8Array(size);
  }

  run(): Uint8Array {
    for (let isLast = false; !isLast; ) {
      isLast = this.bits(1) === 1;
      const type = this.bits(2);
      if (type === 0) this.stored();
      else if (type === 1) this.block(FIXED.literals, FIXED.distances);
      else if (type === 2) this.dynamic();
      else throw new FormatError('compressed data have a block of an unknown type');
    }
    if (this.written !== this.out.length) throw new FormatError('compressed data are shorter than they say');
    return this.out;
  }

  /** So that `bitCount` is at least `count`; bytes behind the end are zeros. */
  private need(count: number): void {
    while (this.bitCount < count) {
      if (this.at > this.bytes.length + 2) throw new FormatError('compressed data end early');
      this.bitBuffer |= (this.bytes[this.at++] ?? 0) << this.bitCount;
      this.bitCount += 8;
    }
  }

  private drop(count: number): void {
    this.bitBuffer >>>= count;
    this.bitCount -= count;
  }

  private bits(count: number): number {
    this.need(count);
    const value = this.bitBuffer & ((1 << count) - 1);
    this.drop(count);
    return value;
  }

  private symbol({ table, bits }: Huffman): number {
    this.need(bits);
    const found = table[this.bitBuffer & ((1 << bits) - 1)] as number;
    if (found === 0) throw new FormatError('compressed data hold a code that means nothing');
    this.drop(found & 15);
    return found >> 4;
  }

  private stored(): void {
    // What has been looked at beyond this byte comes again.
    this.at -= this.bitCount >> 3;
    this.bitBuffer = 0;
    this.bitCount = 0;
    const [low = 0, high = 0, notLow = 0, notHigh = 0] = this.bytes.subarray(this.at, this.at + 4);
    const length = low | (high << 8);
    if (length !== (~(notLow | (notHigh << 8)) & 0xffff)) throw new FormatError('compressed data are damaged');
    const piece = this.bytes.subarray(this.at + 4, this.at + 4 + length);
    if (piece.length < length || this.written + length > this.out.length)
      throw new FormatError('compressed data end early');
    this.out.set(piece, this.written);
    this.at += 4 + length;
    this.written += length;
  }

  private dynamic(): void {
    const literals = this.bits(5) + 257;
    const distances = this.bits(5) + 1;
    const codes = this.bits(4) + 4;
    const ofLengths = new Uint8Array(LENGTH_ORDER.length);
    for (const place of LENGTH_ORDER.slice(0, codes)) ofLengths[place] = this.bits(3);
    const lengths = this.codeLengths(huffman(ofLengths), literals + distances);
    this.block(huffman(lengths.subarray(0, literals)), huffman(lengths.subarray(literals)));
  }

  /** Lengths of codes are run-length coded themselves: 16 repeats the last one, 17 and 18 are runs of zeros. */
  private codeLengths(code: Huffman, count: number): Uint8Array {
    const lengths = new Uint8Array(count);
    for (let at = 0; at < count; ) {
      const symbol = this.symbol(code);
      if (symbol < 16) {
        lengths[at++] = symbol;
        continue;
      }
      const value = symbol === 16 ? lengths[at - 1] : 0;
      const run = symbol === 16 ? 3 + this.bits(2) : symbol === 17 ? 3 + this.bits(3) : 11 + this.bits(7);
      if (value === undefined || at + run > count) throw new FormatError('compressed data have a run without an end');
      lengths.fill(value, at, at + run);
      at += run;
    }
    return lengths;
  }

  private block(literals: Huffman, distances: Huffman): void {
    const { out } = this;
    for (;;) {
      const symbol = this.symbol(literals);
      if (symbol === END_OF_BLOCK) return;
      if (symbol < END_OF_BLOCK) {
        if (this.written >= out.length) throw new FormatError('compressed data are longer than they say');
        out[this.written++] = symbol;
      } else this.copy(this.matchLength(symbol - END_OF_BLOCK - 1), this.distance(distances));
    }
  }

  private matchLength(code: number): number {
    const base = LENGTHS.base[code];
    if (code === LONGEST_MATCH.code) return LONGEST_MATCH.length;
    if (base === undefined || code > LONGEST_MATCH.code)
      throw new FormatError('compressed data have an unknown length');
    return base + this.bits(LENGTHS.extra[code] as number);
  }

  private distance(distances: Huffman): number {
    const code = this.symbol(distances);
    const base = DISTANCES.base[code];
    if (base === undefined) throw new FormatError('compressed data refer to an unknown distance');
    return base + this.bits(DISTANCES.extra[code] as number);
  }

  /** Byte by byte: a match may reach into what it writes. */
  private copy(length: number, distance: number): void {
    const { out } = this;
    const from = this.written - distance;
    if (from < 0 || this.written + length > out.length)
      throw new FormatError('compressed data reach outside of themselves');
    for (let index = 0; index < length; index++) out[this.written++] = out[from + index] as number;
  }
}

/** RFC 1950: method 8, a window of at most 32 KiB, no dictionary; the checksum behind the data is not looked at. */
const ZLIB_HEADER = 2;

/** @param size of the decompressed data. @throws FormatError when they are damaged, or of another size */
export function inflateZlib(bytes: Uint8Array, size: number): Uint8Array {
  const [method = 0, flags = 0] = bytes;
  const isZlib = (method & 15) === 8 && (method * 256 + flags) % 31 === 0 && (flags & 0x20) === 0;
  if (!isZlib) throw new FormatError('compressed data are not in the format of zlib');
  return new Inflater(bytes, ZLIB_HEADER, size).run();
}
