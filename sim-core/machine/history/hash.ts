/**
 * A hash of 64 bits over bytes and plain values, to tell quickly whether two machines or files are the same. It is no
 * protection against forgery. Both halves mix as MurmurHash3's 32-bit variant does, with constants of their own.
 */

const HALVES = [
  { first: 0xcc9e2d51, second: 0x1b873593, turn: 15, seed: 0x9747b28c },
  { first: 0x85ebca6b, second: 0xc2b2ae35, turn: 13, seed: 0x3c6ef372 },
] as const;
const ADDEND = 0xe6546b64;
const PLACES = 0x9e3779b1;

const rotate = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

export class Hash {
  private readonly halves = new Int32Array(HALVES.map(({ seed }) => seed));
  private length = 0;

  /** Mixes a 32-bit word in. */
  private word(word: number): void {
    for (let i = 0; i < HALVES.length; i++) {
      const { first, second, turn } = HALVES[i] as (typeof HALVES)[number];
      const mixed = Math.imul(rotate(Math.imul(word, first), turn), second);
      this.halves[i] = Math.imul(rotate((this.halves[i] as number) ^ mixed, 13), 5) + ADDEND;
    }
    this.length++;
  }

  /** Words of memory. Zeros cost little, as most of RAM is empty: the others are mixed in with their places. */
  words(words: Int32Array): void {
    let { 0: a = 0, 1: b = 0 } = this.halves;
    const [x, y] = HALVES;
    for (let i = 0; i < words.length; i++) {
      const word = words[i] as number;
      if (word === 0) continue;
      const placed = word ^ Math.imul(i, PLACES);
      a = (Math.imul(rotate(a ^ Math.imul(rotate(Math.imul(placed, x.first), x.turn), x.second), 13), 5) + ADDEND) | 0;
      const other = word + i;
      b = (Math.imul(rotate(b ^ Math.imul(rotate(Math.imul(other, y.first), y.turn), y.second), 13), 5) + ADDEND) | 0;
    }
    this.halves[0] = a;
    this.halves[1] = b;
    this.word(words.length);
  }

  bytes(bytes: Uint8Array): void {
    const whole = bytes.length & ~3;
    // A copy where the bytes do not begin at a multiple of 4; `slice` of Node's buffers makes none.
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : Uint8Array.from(bytes);
    this.words(new Int32Array(aligned.buffer, aligned.byteOffset, whole / 4));
    for (let i = whole; i < bytes.length; i++) this.word(bytes[i] as number);
    this.word(bytes.length);
  }

  /** Plain objects, arrays, maps, sets, typed arrays, numbers, bigints, strings: what snapshots are made of. */
  value(value: unknown): void {
    this.text(typeof value);
    if (value instanceof Uint8Array) this.bytes(value);
    else if (ArrayBuffer.isView(value)) this.bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    else if (value instanceof Map || value instanceof Set) for (const entry of value) this.value(entry);
    else if (Array.isArray(value)) for (const entry of value) this.value(entry);
    else if (typeof value === 'object' && value !== null) {
      for (const [key, entry] of Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) {
        this.text(key);
        this.value(entry);
      }
    } else this.text(String(value));
  }

  private text(text: string): void {
    for (let i = 0; i < text.length; i++) this.word(text.charCodeAt(i));
    this.word(text.length);
  }

  /** 16 hexadecimal digits. */
  digest(): string {
    return Array.from(this.halves, (half) => {
      let value = half ^ this.length;
      value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
      value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
      return ((value ^ (value >>> 16)) >>> 0).toString(16).padStart(8, '0');
    }).join('');
  }
}

/** A part of a file that is hashed at once: one that is no larger has the hash of its bytes. */
const PART = 16 << 20;

/** The hash of a file that need not be in memory whole. @param file `read` gives exactly the bytes that are asked for */
export function hashOfParts(file: { readonly size: number; read(offset: number, length: number): Uint8Array }): string {
  const hash = new Hash();
  let at = 0;
  do {
    hash.bytes(file.read(at, Math.min(PART, file.size - at)));
    at += PART;
  } while (at < file.size);
  return hash.digest();
}

export function hashOf(bytes: Uint8Array): string {
  const hash = new Hash();
  hash.bytes(bytes);
  return hash.digest();
}
