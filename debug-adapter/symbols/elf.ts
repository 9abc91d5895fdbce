import { ByteReader, FormatError } from './byte-reader.ts';
import { contentOf } from './compressed-sections.ts';
import { type FileImage, memoryFile, partOf } from './file-image.ts';
import { isLoaded, placeSections, type SectionPlaces, segmentsOf } from './object-file.ts';

/** An ELF section. */
export interface ElfSection {
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  /** Empty for NOBITS. */
  readonly content: FileImage;
}

export interface ElfSegment {
  readonly address: bigint;
  readonly memorySize: bigint;
  readonly executable: boolean;
}

export interface ElfSymbol {
  readonly name: string;
  readonly address: bigint;
  /** Bytes; 0 when the producer gives none (assembly labels). */
  readonly size: bigint;
  readonly kind: 'function' | 'object' | 'label';
  readonly global: boolean;
  /** Whether it lies in an executable section. */
  readonly code: boolean;
}

export interface ElfFile {
  readonly bits: 32 | 64;
  /** Whether it is an object file, whose sections are placed one by one. */
  readonly isObject: boolean;
  readonly entry: bigint;
  readonly sections: readonly ElfSection[];
  /** Loadable segments. */
  readonly segments: readonly ElfSegment[];
  /** Read when they are first asked for. */
  readonly symbols: readonly ElfSymbol[];
  /** Of a Linux kernel: addresses [start, end) are offsets into each processor's own data, wherever the kernel is. */
  readonly perProcessor: { readonly start: bigint; readonly end: bigint } | undefined;
  /** What each thread gets a copy of; undefined when there is no such thing. */
  readonly threadLocal: ThreadLocalSegment | undefined;
}

/** PT_TLS: the linker has placed variables in it by their distance from its end. */
export interface ThreadLocalSegment {
  readonly address: bigint;
  readonly memorySize: bigint;
  readonly alignment: bigint;
  /** Whether a thread's copy lies below what FS or GS leads to; that of a shared object lies where a loader decides. */
  isOfProgram(): boolean;
  /** Of variables. */
  names(): ReadonlySet<string>;
}

/** The section of a Linux kernel with each processor's own data: nothing is there at run time. */
const PER_PROCESSOR = '.data..percpu';
const SHT = { symtab: 2, nobits: 8 } as const;
const SHF_EXECINSTR = 4n;
const ET_REL = 1;
const ET_DYN = 3;
const PT_LOAD = 1;
const PT_TLS = 7;
const STT_TLS = 6;
const SHN_ABS = 0xfff1;
const SHN_LORESERVE = 0xff00;
const EM_386 = 3;
const EM_X86_64 = 62;

/**
 * Reads the parts of an ELF32 or ELF64 file that name and place code. Files made by `objcopy -O elf32-i386` from 64-bit
 * code are ordinary ELF32 here: their DWARF says its own address size.
 * @param places of an object file's sections
 * @throws FormatError when it is not a little-endian x86 ELF file, or is cut.
 */
export function parseElf(file: FileImage, places: SectionPlaces = new Map()): ElfFile {
  if (file.size === 0) throw new FormatError('the file is empty');
  const head = file.read(0, Math.min(HEADER_SIZE, file.size));
  const magic = [0x7f, 0x45, 0x4c, 0x46];
  if (magic.some((byte, index) => head[index] !== byte)) throw new FormatError('it is not an ELF file');
  const is64 = head[4] === 2;
  if (!is64 && head[4] !== 1) throw new FormatError(`ELF class ${head[4]} is neither 32 nor 64 bits`);
  if (head[5] !== 1) throw new FormatError('it is a big-endian ELF file');
  const header = new ByteReader(head, 16);
  const type = header.u16();
  const isObject = type === ET_REL;
  const machine = header.u16();
  if (machine !== EM_386 && machine !== EM_X86_64) throw new FormatError(`it is for ELF machine ${machine}, not x86`);
  header.skip(4);
  const word = is64 ? () => header.size64() : () => header.u32();
  const entry = header.unsigned(is64 ? 8 : 4);
  const programOffset = word();
  const sectionOffset = word();
  header.skip(4 + 2);
  const programSize = header.u16();
  const programCount = header.u16();
  const sectionSize = header.u16();
  const sectionCount = header.u16();
  const namesIndex = header.u16();
  if (isObject && !is64) throw new FormatError('it is an object file of 32 bits: link it first');
  const inFile = readSections(file, is64, sectionOffset, sectionSize, sectionCount, namesIndex);
  const sections = isObject ? placeSections(inFile, places) : inFile;
  const own = isObject ? undefined : sections.find(({ name }) => name === PER_PROCESSOR);
  const inMemory = isObject ? [] : readSegments(file, is64, programOffset, programSize, programCount);
  const segments = isObject
    ? segmentsOf(sections)
    : inMemory.filter((segment) => segment.type === PT_LOAD && segment.address !== own?.address);
  const perProcessor = own && { start: own.address, end: own.address + BigInt(own.size) };
  const threads = inMemory.find((segment) => segment.type === PT_TLS);
  let symbols: readonly ElfSymbol[] | undefined;
  let names: ReadonlySet<string> | undefined;
  return {
    bits: is64 ? 64 : 32,
    isObject,
    entry,
    sections,
    segments,
    get symbols() {
      symbols ??= readSymbols(sections, is64, isObject);
      return symbols;
    },
    perProcessor,
    threadLocal: threads && {
      ...threads,
      isOfProgram: () => type !== ET_DYN || isPositionIndependentProgram(sections, is64),
      names: () => {
        names ??= new Set(
          rawSymbols(sections, is64).flatMap(({ info, name }) => ((info & 15) === STT_TLS ? [name] : [])),
        );
        return names;
      },
    },
  };
}

/** Of ELF64. */
const HEADER_SIZE = 64;

interface AnySegment extends ElfSegment {
  readonly type: number;
  readonly alignment: bigint;
}

function readSegments(file: FileImage, is64: boolean, offset: number, size: number, count: number): AnySegment[] {
  const segments: AnySegment[] = [];
  for (let index = 0; index < count; index++) {
    const reader = new ByteReader(file.read(offset + index * size, size));
    const type = reader.u32();
    let flags = is64 ? reader.u32() : 0;
    const width = is64 ? 8 : 4;
    reader.skip(width);
    const address = reader.unsigned(width);
    reader.skip(2 * width);
    const memorySize = reader.unsigned(width);
    if (!is64) flags = reader.u32();
    const alignment = reader.unsigned(width);
    segments.push({ type, address, memorySize, alignment, executable: (flags & 1) !== 0 });
  }
  return segments;
}

function readSections(
  file: FileImage,
  is64: boolean,
  offset: number,
  size: number,
  count: number,
  namesIndex: number,
): ElfSection[] {
  const raw: { nameAt: number; section: Omit<ElfSection, 'name'> }[] = [];
  for (let index = 0; index < count; index++) {
    const reader = new ByteReader(file.read(offset + index * size, size));
    const nameAt = reader.u32();
    const type = reader.u32();
    const width = is64 ? 8 : 4;
    const flags = reader.unsigned(width);
    const address = reader.unsigned(width);
    const start = is64 ? reader.size64() : reader.u32();
    const length = is64 ? reader.size64() : reader.u32();
    const link = reader.u32();
    const info = reader.u32();
    const stored = type === 0 || type === SHT.nobits ? 0 : length;
    if (stored > 0 && start + stored > file.size)
      throw new FormatError(`section ${index} reaches beyond the end of the file`);
    const content = partOf(file, stored > 0 ? start : 0, stored);
    raw.push({ nameAt, section: { type, flags, address, offset: start, size: length, link, info, content } });
  }
  const names = wholeOf(raw[namesIndex]?.section.content);
  return raw.map(({ nameAt, section }) => ({ ...section, name: stringAt(names, nameAt) }));
}

const wholeOf = (content: FileImage | undefined): Uint8Array => content?.read(0, content.size) ?? new Uint8Array();

/** String table entry; '' where the table does not reach. */
function stringAt(table: Uint8Array, at: number): string {
  return at >= 0 && at < table.length ? new ByteReader(table, at).string() : '';
}

/** DT_FLAGS_1 of the dynamic section, and the flag in it that tells a program from a shared object. */
const DT_FLAGS_1 = 0x6fff_fffbn;
const DF_1_PIE = 0x0800_0000n;

/** Whether an ET_DYN file is a program and no shared object. */
function isPositionIndependentProgram(sections: readonly ElfSection[], is64: boolean): boolean {
  const reader = new ByteReader(wholeOf(sections.find(({ name }) => name === '.dynamic')?.content));
  const width = is64 ? 8 : 4;
  while (!reader.done) {
    const [tag, value] = [reader.unsigned(width), reader.unsigned(width)];
    if (tag === DT_FLAGS_1) return (value & DF_1_PIE) !== 0n;
  }
  return false;
}

/** @param isObject symbols' values are counted from their sections' beginnings */
function readSymbols(sections: readonly ElfSection[], is64: boolean, isObject: boolean): ElfSymbol[] {
  const symbols: ElfSymbol[] = [];
  for (const symbol of rawSymbols(sections, is64)) {
    const { name } = symbol;
    const kind = SYMBOL_KINDS[symbol.info & 15];
    const section = sections[symbol.section];
    const placed = symbol.section !== 0 && (symbol.section < SHN_LORESERVE || symbol.section === SHN_ABS);
    if (kind === undefined || !placed || name === '' || (isObject && !isLoaded(section))) continue;
    const address = symbol.value + (isObject ? (section?.address ?? 0n) : 0n);
    const code = section !== undefined && (section.flags & SHF_EXECINSTR) !== 0n;
    symbols.push({ name, address, size: symbol.size, kind, global: symbol.info >> 4 !== 0, code });
  }
  return symbols;
}

function rawSymbols(sections: readonly ElfSection[], is64: boolean): RawSymbol[] {
  const table = sections.find((section) => section.type === SHT.symtab);
  if (!table) return [];
  const names = wholeOf(sections[table.link]?.content);
  const reader = new ByteReader(wholeOf(table.content));
  const symbols: RawSymbol[] = [];
  while (!reader.done) symbols.push(is64 ? readSymbol64(reader, names) : readSymbol32(reader, names));
  return symbols;
}

/** STT_NOTYPE, STT_OBJECT, STT_FUNC: section and file symbols name nothing that a user looks for. */
const SYMBOL_KINDS: Readonly<Record<number, ElfSymbol['kind']>> = { 0: 'label', 1: 'object', 2: 'function' };

interface RawSymbol {
  readonly name: string;
  readonly info: number;
  readonly section: number;
  readonly value: bigint;
  readonly size: bigint;
}

function readSymbol64(reader: ByteReader, names: Uint8Array): RawSymbol {
  const name = stringAt(names, reader.u32());
  const info = reader.u8();
  reader.skip(1);
  const section = reader.u16();
  return { name, info, section, value: reader.u64(), size: reader.u64() };
}

function readSymbol32(reader: ByteReader, names: Uint8Array): RawSymbol {
  const name = stringAt(names, reader.u32());
  const value = BigInt(reader.u32());
  const size = BigInt(reader.u32());
  const info = reader.u8();
  reader.skip(1);
  return { name, info, section: reader.u16(), value, size };
}

/**
 * Contents of a section by name, decompressed; undefined when the file has none, or its bytes are in another file.
 * @throws FormatError when it is compressed in a way that is not known, or is damaged.
 */
export function sectionNamed(elf: ElfFile, name: string): FileImage | undefined {
  const known = found.get(elf.sections) ?? new Map<string, FileImage | undefined>();
  found.set(elf.sections, known);
  if (!known.has(name)) known.set(name, findSection(elf, name));
  return known.get(name);
}

const found = new WeakMap<readonly ElfSection[], Map<string, FileImage | undefined>>();

function findSection(elf: ElfFile, name: string): FileImage | undefined {
  const older = name.replace(/^\.debug_/, '.zdebug_');
  const sections = elf.sections.filter(
    (section) => (section.name === name || section.name === older) && section.type !== SHT.nobits,
  );
  const [first] = sections;
  return first && (sections.length === 1 ? contentOf(first, elf.bits) : joined(sections, elf.bits));
}

/** Object files, as those of split units are, have one section for each type unit. */
function joined(sections: readonly ElfSection[], bits: 32 | 64): FileImage {
  const parts = sections.map((section) => wholeOf(contentOf(section, bits)));
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return memoryFile(whole);
}
