/** ELF executables for x86 (System V ABI, "Object Files"): what a boot loader needs of them. */

import type { ImageSegment } from './boot-request.ts';
import { ImageError, type ImageErrorId } from './image-error.ts';

export interface ElfSegment extends ImageSegment {
  readonly virtual: bigint;
}

export interface ElfProgram {
  readonly bits: 32 | 64;
  readonly segments: readonly ElfSegment[];
  /** Physical address: the entry point moved as its segment is from virtual to physical addresses. */
  readonly entry: number;
}

const MAGIC = 0x464c457f;
const MACHINE_386 = 3;
const MACHINE_X86_64 = 62;
/** Names for the message; any other number is told as it is. */
const OTHER_MACHINES: Readonly<Record<number, string>> = {
  2: 'SPARC', 8: 'MIPS', 20: 'PowerPC', 21: '64-bit PowerPC', 22: 'S/390', 40: 'ARM', 43: '64-bit SPARC',
  50: 'IA-64 (Itanium)', 183: 'AArch64 (64-bit ARM)', 243: 'RISC-V', 258: 'LoongArch',
}; // biome-ignore format: a table reads better in rows

/** e_type that is not ET_EXEC. */
const WRONG_TYPES: Readonly<Record<number, { id: ImageErrorId; what: string }>> = {
  1: { id: 'relocatable-object', what: 'this is an object file that has not been linked' },
  3: { id: 'shared-object', what: 'this is a shared object or position-independent executable' },
  4: { id: 'core-dump', what: 'this is a core dump' },
};

const TYPE_EXEC = 2;
const SEGMENT_LOAD = 1;
const SEGMENT_INTERPRETER = 3;
const SEGMENT_NOTE = 4;

/** Offsets of the fields of the two classes. Addresses, offsets and sizes are words of 4 or 8 bytes. */
const LAYOUT = {
  32: { header: 52, entry: 24, programOffset: 28, entrySize: 42, entryCount: 44, programHeader: 32 },
  64: { header: 64, entry: 24, programOffset: 32, entrySize: 54, entryCount: 56, programHeader: 56 },
} as const;
const PROGRAM_HEADER = {
  32: { offset: 4, virtual: 8, physical: 12, fileSize: 16, memorySize: 20 },
  64: { offset: 8, virtual: 16, physical: 24, fileSize: 32, memorySize: 40 },
} as const;

export const isElf = (image: Uint8Array): boolean =>
  image.length >= 4 && new DataView(image.buffer, image.byteOffset).getUint32(0, true) === MAGIC;

/** Reads one image; every problem is an ImageError that names the place. */
class ElfReader {
  private readonly name: string;
  private readonly image: Uint8Array;
  private readonly view: DataView;
  private bits: 32 | 64 = 32;

  constructor(name: string, image: Uint8Array) {
    this.name = name;
    this.image = image;
    this.view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  }

  read(): ElfProgram {
    const headers = this.headers();
    const segments = headers.flatMap((at, i) => this.segment(at, `program header ${i}`) ?? []);
    if (segments.length === 0) this.fail('no-segments', '', 'no segment is to be loaded into memory');
    return { bits: this.bits, segments, entry: this.physicalEntry(segments) };
  }

  /** Offsets of the program headers. */
  private headers(): number[] {
    this.readIdentification();
    const layout = LAYOUT[this.bits];
    this.checkType();
    const programOffset = this.word(layout.programOffset);
    const size = this.view.getUint16(layout.entrySize, true);
    const count = this.view.getUint16(layout.entryCount, true);
    if (count === 0) this.fail('no-segments', 'ELF header', 'the file has no program headers, so nothing to load');
    if (size < layout.programHeader) {
      this.fail('malformed-header', 'ELF header', `program headers of ${size} bytes, not ${layout.programHeader}`);
    }
    if (programOffset + BigInt(size) * BigInt(count) > BigInt(this.image.length)) {
      this.fail('truncated-header', 'ELF header', `the ${count} program headers are not all in the file`);
    }
    return Array.from({ length: count }, (_, i) => Number(programOffset) + i * size);
  }

  /** The description of a note in a PT_NOTE segment; undefined when there is none. */
  note(owner: string, type: number): Uint8Array | undefined {
    for (const at of this.headers()) {
      if (this.view.getUint32(at, true) !== SEGMENT_NOTE) continue;
      const layout = PROGRAM_HEADER[this.bits];
      const offset = Number(this.word(at + layout.offset));
      const end = Math.min(offset + Number(this.word(at + layout.fileSize)), this.image.length);
      const found = this.noteIn(offset, end, owner, type);
      if (found) return found;
    }
    return undefined;
  }

  /** Notes are three words (lengths of name and description, type), the name, the description, each 4-aligned. */
  private noteIn(start: number, end: number, owner: string, type: number): Uint8Array | undefined {
    for (let at = start; at + 12 <= end; ) {
      const [nameSize, size, noteType] = [0, 4, 8].map((field) => this.view.getUint32(at + field, true)) as [
        number, number, number,
      ]; // biome-ignore format: three words
      const description = at + 12 + 4 * Math.ceil(nameSize / 4);
      if (description + size > end) return undefined;
      const name = String.fromCharCode(...this.image.subarray(at + 12, at + 12 + Math.min(nameSize, 64)));
      if (noteType === type && name === `${owner}\0`) return this.image.slice(description, description + size);
      at = description + 4 * Math.ceil(size / 4);
    }
    return undefined;
  }

  private fail(id: ImageErrorId, where: string, what: string): never {
    throw new ImageError(id, this.name, where, what);
  }

  private readIdentification(): void {
    const { image } = this;
    if (image.length < 16) this.fail('truncated-header', 'ELF header', `the file ends after ${image.length} bytes`);
    const [fileClass, data] = [image[4], image[5]];
    if (fileClass !== 1 && fileClass !== 2) this.fail('malformed-header', 'offset 0x4', `ELF class ${fileClass}`);
    this.bits = fileClass === 2 ? 64 : 32;
    if (data === 2) this.fail('wrong-byte-order', 'offset 0x5', 'the file is big-endian');
    if (data !== 1) this.fail('malformed-header', 'offset 0x5', `ELF data encoding ${data}`);
    const size = LAYOUT[this.bits].header;
    if (image.length < size) {
      this.fail('truncated-header', 'ELF header', `the file ends after ${image.length} of the header's ${size} bytes`);
    }
  }

  private checkType(): void {
    const type = this.view.getUint16(16, true);
    const machine = this.view.getUint16(18, true);
    if (machine !== MACHINE_386 && machine !== MACHINE_X86_64) {
      const other = OTHER_MACHINES[machine] ?? `machine number ${machine}`;
      this.fail('wrong-machine', 'ELF header', `the program is for ${other}, not for x86`);
    }
    if (this.bits === 64 && machine !== MACHINE_X86_64) {
      this.fail('malformed-header', 'ELF header', 'a 64-bit file for the 32-bit i386');
    }
    if (type === TYPE_EXEC) return;
    const { id, what } = WRONG_TYPES[type] ?? { id: 'malformed-header', what: `ELF type ${type}` };
    this.fail(id, 'ELF header', what);
  }

  /** An address, offset or size. */
  private word(at: number): bigint {
    return this.bits === 64 ? this.view.getBigUint64(at, true) : BigInt(this.view.getUint32(at, true));
  }

  private segment(at: number, where: string): ElfSegment | undefined {
    const type = this.view.getUint32(at, true);
    if (type === SEGMENT_INTERPRETER) {
      this.fail('dynamic-program', where, 'the program asks for a dynamic loader of an operating system');
    }
    if (type !== SEGMENT_LOAD) return undefined;
    const layout = PROGRAM_HEADER[this.bits];
    const [offset, fileSize, memorySize, physical] = (['offset', 'fileSize', 'memorySize', 'physical'] as const).map(
      (field) => this.word(at + layout[field]),
    ) as [bigint, bigint, bigint, bigint];
    if (memorySize === 0n && fileSize === 0n) return undefined;
    if (offset + fileSize > BigInt(this.image.length)) {
      this.fail(
        'truncated-segment',
        where,
        `bytes 0x${offset.toString(16)} to 0x${(offset + fileSize).toString(16)} are not all in the file`,
      );
    }
    if (fileSize > memorySize) this.fail('malformed-header', where, 'the segment is larger in the file than in memory');
    if (physical + memorySize > BigInt(Number.MAX_SAFE_INTEGER)) {
      this.fail('segment-outside-ram', where, `the segment ends at 0x${(physical + memorySize).toString(16)}`);
    }
    return {
      physical: Number(physical),
      virtual: this.word(at + layout.virtual),
      fileOffset: Number(offset),
      fileSize: Number(fileSize),
      memorySize: Number(memorySize),
    };
  }

  /** Linkers give the entry point as a virtual address; nothing translates yet when the program starts. */
  private physicalEntry(segments: readonly ElfSegment[]): number {
    const entry = this.word(LAYOUT[this.bits].entry);
    const home = segments.find((each) => entry >= each.virtual && entry < each.virtual + BigInt(each.memorySize));
    if (home) return home.physical + Number(entry - home.virtual);
    const direct = segments.find(
      (each) => entry >= BigInt(each.physical) && entry < BigInt(each.physical + each.memorySize),
    );
    if (direct) return Number(entry);
    return this.fail('entry-outside', 'ELF header', `the entry point 0x${entry.toString(16)} is in no loaded segment`);
  }
}

/** @throws ImageError */
export function readElf(name: string, image: Uint8Array): ElfProgram {
  return new ElfReader(name, image).read();
}

/** The description of the note of this owner and type. @throws ImageError for a damaged file */
export function readElfNote(name: string, image: Uint8Array, owner: string, type: number): Uint8Array | undefined {
  return new ElfReader(name, image).note(owner, type);
}
