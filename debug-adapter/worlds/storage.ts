import { errors } from '../errors.ts';
import { type Location, OPTIMISED_OUT, type Piece, Unavailable } from '../symbols/dwarf/location-expressions.ts';

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

/** A value whose parts lie in different places. */
class PiecesStorage implements Storage {
  readonly address = undefined;
  readonly memory: MemoryAccess;
  private readonly parts: readonly { readonly start: number; readonly end: number; readonly storage: Storage }[];

  constructor(memory: MemoryAccess, pieces: readonly Piece[], make: (location: Location | undefined) => Storage) {
    this.memory = memory;
    let at = 0;
    this.parts = pieces.map(({ location, bytes }) => {
      const start = at;
      at += bytes;
      return { start, end: at, storage: make(location) };
    });
  }

  private each(offset: number, length: number, visit: (storage: Storage, from: number, at: number, n: number) => void) {
    let done = 0;
    for (const { start, end, storage } of this.parts) {
      const from = Math.max(start, offset);
      const to = Math.min(end, offset + length);
      if (from >= to) continue;
      visit(storage, from - start, from - offset, to - from);
      done += to - from;
    }
    if (done < length) throw new Unavailable(OPTIMISED_OUT);
  }
  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.each(offset, length, (storage, from, at, count) => bytes.set(storage.read(from, count), at));
    return bytes;
  }
  write(offset: number, bytes: Uint8Array): void {
    this.each(offset, bytes.length, (storage, from, at, n) => storage.write(from, bytes.subarray(at, at + n)));
  }
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
