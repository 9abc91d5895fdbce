/**
 * ELF object files (ET_REL), such as a Linux kernel's modules: whoever loads one decides where each section goes, and
 * what its debug information says of addresses is to be relocated.
 */

import { ByteReader, FormatError } from './byte-reader.ts';
import { contentOf, SHF_COMPRESSED } from './compressed-sections.ts';
import type { ElfSection, ElfSegment } from './elf.ts';
import { type FileImage, memoryFile } from './file-image.ts';

/** Where sections are, by name; those that are missing have not been loaded. */
export type SectionPlaces = ReadonlyMap<string, bigint>;

const SHT_RELA = 4;
const SHF_ALLOC = 2n;
const SHF_EXECINSTR = 4n;
const RELA_SIZE = 24;
const SYMBOL_SIZE = 24;
/** Of a symbol: st_shndx, st_value. */
const SYMBOL_SECTION = 6;
const SYMBOL_VALUE = 8;
/** What tools read of an object file beside its symbols. */
const RELOCATED = /^\.(debug_|eh_frame$|orc_unwind_ip$)/;

/** Relocation types of debug information (x86-64 psABI, table 4.10): bytes, and whether the place is subtracted. */
const TYPES: Readonly<Record<number, { readonly bytes: 0 | 4 | 8; readonly relative: boolean }>> = {
  0: { bytes: 0, relative: false },
  1: { bytes: 8, relative: false },
  2: { bytes: 4, relative: true },
  10: { bytes: 4, relative: false },
  11: { bytes: 4, relative: false },
  24: { bytes: 8, relative: true },
};

/** @returns the sections at their places, with relocated debug information; sections without a place are not loaded */
export function placeSections(sections: readonly ElfSection[], places: SectionPlaces): ElfSection[] {
  const placed = sections.map((section): ElfSection => {
    if ((section.flags & SHF_ALLOC) === 0n) return section;
    const address = places.get(section.name);
    return address === undefined ? { ...section, flags: section.flags & ~SHF_ALLOC } : { ...section, address };
  });
  return placed.map((section, index) => {
    const relocations = sections.find(({ type, info }) => type === SHT_RELA && info === index);
    if (!relocations || !RELOCATED.test(section.name)) return section;
    const flags = section.flags & ~SHF_COMPRESSED;
    return { ...section, flags, content: relocated(section, relocations.content, placed, relocations.link) };
  });
}

/** Sections in memory, as segments of a linked program would be. */
export const segmentsOf = (placed: readonly ElfSection[]): ElfSegment[] =>
  placed
    .filter(({ flags, size }) => (flags & SHF_ALLOC) !== 0n && size > 0)
    .map(({ address, size, flags }) => ({
      address,
      memorySize: BigInt(size),
      executable: (flags & SHF_EXECINSTR) !== 0n,
    }));

/** Whether what a symbol's section holds is somewhere in memory. */
export const isLoaded = (section: ElfSection | undefined): boolean =>
  section !== undefined && (section.flags & SHF_ALLOC) !== 0n;

/** The content with relocations applied, when it is first read. @param table number of the symbol table */
function relocated(
  section: ElfSection,
  relocations: FileImage,
  sections: readonly ElfSection[],
  table: number,
): FileImage {
  let known: FileImage | undefined;
  const content = (): FileImage => {
    known ??= memoryFile(relocate(section, relocations, symbolValues(sections, table)));
    return known;
  };
  const isCompressed = (section.flags & SHF_COMPRESSED) !== 0n;
  return {
    get size() {
      return isCompressed ? content().size : section.content.size;
    },
    read: (offset, length) => content().read(offset, length),
  };
}

/** Of every symbol of a table, by number. */
function symbolValues(sections: readonly ElfSection[], table: number): bigint[] {
  const content = sections[table]?.content;
  if (!content) throw new FormatError(`section ${table} is no symbol table`);
  const bytes = content.read(0, content.size);
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: Math.floor(bytes.length / SYMBOL_SIZE) }, (_, number) => {
    const at = number * SYMBOL_SIZE;
    const section = sections[data.getUint16(at + SYMBOL_SECTION, true)];
    return data.getBigUint64(at + SYMBOL_VALUE, true) + (section?.address ?? 0n);
  });
}

/** @throws FormatError for relocations that debug information does not have. */
function relocate(section: ElfSection, relocations: FileImage, symbols: readonly bigint[]): Uint8Array {
  const content = contentOf(section, 64);
  const bytes = new Uint8Array(content.read(0, content.size));
  const data = new DataView(bytes.buffer);
  const reader = new ByteReader(relocations.read(0, relocations.size));
  for (let left = Math.floor(relocations.size / RELA_SIZE); left > 0; left--) {
    const at = reader.size64();
    const type = TYPES[reader.u32()];
    const symbol = symbols[reader.u32()];
    const addend = reader.u64();
    if (!type || symbol === undefined || at + type.bytes > bytes.length) {
      throw new FormatError(`a relocation of ${section.name} at 0x${at.toString(16)} makes no sense`);
    }
    const value = symbol + addend - (type.relative ? section.address + BigInt(at) : 0n);
    if (type.bytes === 8) data.setBigUint64(at, BigInt.asUintN(64, value), true);
    else if (type.bytes === 4) data.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  }
  return bytes;
}
