import { errors } from '../errors.ts';
import {
  bytesOf,
  type Location,
  numberOf,
  OPTIMISED_OUT,
  type Piece,
  Unavailable,
} from '../symbols/dwarf/location-expressions.ts';

/** Memory of one address space as a debugger reads and writes it. */
export interface MemoryAccess {
  /** The space's name in memory references: 'vmm', 'gpa', … */
  readonly space: string;
  /** Fewer bytes where memory ends. */
  read(address: bigint, length: number): Uint8Array;
  /** @throws RequestError when they cannot be written. */
  write(address: bigint, bytes: Uint8Array): void;
}

/** A register as a frame has it. */
export interface RegisterAccess {
  readonly name: string;
  /** @throws Unavailable when it is not known. */
  read(): bigint;
  /** @throws RequestError when it cannot be changed. */
  write(value: bigint): void;
}

/** Where the bytes of a value are. */
export interface Storage {
  /** Of its first byte, when it is in memory as a whole. */
  readonly address: bigint | undefined;
  readonly memory: MemoryAccess;
  /** @throws Unavailable, whose message stands in the value's place. */
  read(offset: number, length: number): Uint8Array;
  /** @throws RequestError when they cannot be changed. */
  write(offset: number, bytes: Uint8Array): void;
}

export class MemoryStorage implements Storage {
  readonly memory: MemoryAccess;
  readonly address: bigint;

  constructor(memory: MemoryAccess, address: bigint) {
    this.memory = memory;
    this.address = BigInt.asUintN(64, address);
  }
  read(offset: number, length: number): Uint8Array {
    const at = BigInt.asUintN(64, this.address + BigInt(offset));
    const bytes = this.memory.read(at, length);
    if (bytes.length < length) throw new Unavailable(`no memory at 0x${at.toString(16)}`);
    return bytes;
  }
  write(offset: number, bytes: Uint8Array): void {
    this.memory.write(BigInt.asUintN(64, this.address + BigInt(offset)), bytes);
  }
}

const BITS_OF_BYTE = 8n;

class RegisterStorage implements Storage {
  readonly address = undefined;
  readonly memory: MemoryAccess;
  private readonly register: RegisterAccess;

  constructor(memory: MemoryAccess, register: RegisterAccess) {
    this.memory = memory;
    this.register = register;
  }
  read(offset: number, length: number): Uint8Array {
    const value = this.register.read();
    return Uint8Array.from({ length }, (_, index) =>
      Number((value >> (BITS_OF_BYTE * BigInt(offset + index))) & 0xffn),
    );
  }
  write(offset: number, bytes: Uint8Array): void {
    let value = this.register.read();
    for (const [index, byte] of bytes.entries()) {
      const shift = BITS_OF_BYTE * BigInt(offset + index);
      value = (value & ~(0xffn << shift)) | (BigInt(byte) << shift);
    }
    this.register.write(value);
  }
}

/** A value that is nowhere in the machine: a constant, or computed from others. */
export class ValueStorage implements Storage {
  readonly address = undefined;
  readonly memory: MemoryAccess;
  private readonly bytes: Uint8Array;

  constructor(memory: MemoryAccess, bytes: Uint8Array) {
    this.memory = memory;
    this.bytes = bytes;
  }
  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.bytes.length) throw new Unavailable(OPTIMISED_OUT);
    return this.bytes.subarray(offset, offset + length);
  }
  write(): void {
    throw errors.notWritable('The value', 'the compiler keeps it nowhere');
  }
}

/** A value of which nothing is known. @property pointee of a pointer that the compiler has taken apart: its target. */
export class NoStorage implements Storage {
  readonly address = undefined;
  readonly memory: MemoryAccess;
  readonly why: string;
  readonly pointee: { readonly entry: number; readonly offset: number } | undefined;

  constructor(memory: MemoryAccess, why: string, pointee?: NoStorage['pointee']) {
    this.memory = memory;
    this.why = why;
    this.pointee = pointee;
  }
  read(): Uint8Array {
    throw new Unavailable(this.why);
  }
  write(): void {
    throw errors.notWritable('The value', `it is ${this.why}`);
  }
}

/** Bits [start, end) of a value: those of a place from `skipped` on. */
interface Part {
  readonly start: number;
  readonly end: number;
  readonly skipped: number;
  readonly storage: Storage;
}

/** A value whose parts lie in different places. */
class PiecesStorage implements Storage {
  readonly address = undefined;
  readonly memory: MemoryAccess;
  private readonly parts: readonly Part[];

  constructor(memory: MemoryAccess, pieces: readonly Piece[], make: (location: Location | undefined) => Storage) {
    this.memory = memory;
    let at = 0;
    this.parts = pieces.map(({ location, bits, skipped }) => {
      const start = at;
      at += bits;
      return { start, end: at, skipped, storage: make(location) };
    });
  }

  /** @param visit gets a place, which of its bits are meant, and which of the bits asked for they are. */
  private each(offset: number, length: number, visit: (storage: Storage, from: number, at: number, n: number) => void) {
    const [first, last] = [8 * offset, 8 * (offset + length)];
    let done = 0;
    for (const { start, end, skipped, storage } of this.parts) {
      const from = Math.max(start, first);
      const to = Math.min(end, last);
      if (from >= to) continue;
      visit(storage, skipped + from - start, from - first, to - from);
      done += to - from;
    }
    if (done < last - first) throw new Unavailable(OPTIMISED_OUT);
  }
  read(offset: number, length: number): Uint8Array {
    let value = 0n;
    this.each(offset, length, (storage, from, at, count) => {
      value |= readBits(storage, from, count) << BigInt(at);
    });
    return bytesOf(value, length);
  }
  write(offset: number, bytes: Uint8Array): void {
    const value = numberOf(bytes);
    this.each(offset, bytes.length, (storage, from, at, count) => {
      writeBits(storage, from, count, value >> BigInt(at));
    });
  }
}

/** Bits of a place, counted from its lowest one. */
export function readBits(storage: Storage, from: number, count: number): bigint {
  const first = Math.floor(from / 8);
  const bytes = storage.read(first, Math.ceil((from + count) / 8) - first);
  return BigInt.asUintN(count, numberOf(bytes) >> BigInt(from % 8));
}

/** Changes bits of a place, and no others. @throws RequestError, Unavailable */
export function writeBits(storage: Storage, from: number, count: number, value: bigint): void {
  const first = Math.floor(from / 8);
  const length = Math.ceil((from + count) / 8) - first;
  const shift = BigInt(from % 8);
  const mask = ((1n << BigInt(count)) - 1n) << shift;
  const kept = count === 8 * length ? 0n : numberOf(storage.read(first, length)) & ~mask;
  storage.write(first, bytesOf(kept | ((value << shift) & mask), length));
}

/** @param register gives a register by DWARF's number. */
export function storageOf(
  location: Location | undefined,
  memory: MemoryAccess,
  register: (number: number) => RegisterAccess,
): Storage {
  if (!location) return new NoStorage(memory, OPTIMISED_OUT);
  switch (location.kind) {
    case 'memory':
      return new MemoryStorage(memory, location.address);
    case 'register':
      return new RegisterStorage(memory, register(location.register));
    case 'value':
      return new ValueStorage(memory, location.bytes);
    case 'implicitPointer':
      return new NoStorage(memory, 'a pointer that was optimised out', location);
    case 'pieces':
      return new PiecesStorage(memory, location.pieces, (piece) => storageOf(piece, memory, register));
  }
}
