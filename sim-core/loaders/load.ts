/**
 * Loads an image and puts the processor at its first instruction.
 *
 * - multiboot 1: as its specification says (EAX = 2BADB002h, EBX = the information structure).
 * - ELF64 without multiboot header: 64-bit mode, CPL 0, flat segments (code 18h, data 10h), the first 4 GiB
 *   identity-mapped with writable 2-MiB pages, SSE on, interrupts off, no IDT, RSP = 7_F000h.
 * - ELF32 without multiboot header, and flat images (loaded and started at 1 MiB): as multiboot.
 *
 * All of them find multiboot's number in EAX and the information's address in EBX and EDI, so that even an image without
 * header can have a command line and modules.
 */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { placeBootInformation } from './boot-information.ts';
import type { BootRequest, ImageFormat, ImageSegment, LoadedImage } from './boot-request.ts';
import { isElf, readElf } from './elf.ts';
import { type CpuState, ENTRY_GDT, enterLongMode, enterProtectedMode } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import { findMultibootHeader, readMultiboot } from './multiboot1.ts';
import { RamWriter } from './ram-writer.ts';
import { recognise } from './recognise.ts';

const BOOTED_MAGIC = 0x2bad_b002;
const FLAT_ADDRESS = 0x10_0000;
/** Where ESP and RSP point at entry: the top of low memory that nothing else uses. */
const STACK = 0x7_f000;
const LOW_START = 0x1000;
const LOW_END = 0x7_0000;
const PAGE = 4096;
const LARGE_PAGE = 0x20_0000n;
const PRESENT_WRITABLE = 3n;
const LARGE_PRESENT_WRITABLE = 0x83n;
const GIB_MAPPED = 4;

interface Program {
  readonly segments: readonly ImageSegment[];
  readonly entry: number;
}

function readElfOf(bits: 32 | 64, { name, image }: BootRequest): Program {
  if (!isElf(image)) throw new ImageError('wrong-format', name, '', 'the file is not an ELF file');
  const program = readElf(name, image);
  if (program.bits === bits) return program;
  throw new ImageError('wrong-format', name, 'ELF header', `this is a ${program.bits}-bit program, not ${bits}-bit`);
}

/** How each format says what to load. */
const READERS: Readonly<Record<ImageFormat, (request: BootRequest) => Program>> = {
  multiboot1: ({ name, image }) => {
    const header = findMultibootHeader(image);
    if (header) return readMultiboot(name, image, header);
    throw new ImageError('wrong-format', name, '', 'no multiboot header in the first 8192 bytes');
  },
  elf64: (request) => readElfOf(64, request),
  elf32: (request) => readElfOf(32, request),
  flat: ({ image }) => ({
    segments: [{ physical: FLAT_ADDRESS, fileOffset: 0, fileSize: image.length, memorySize: image.length }],
    entry: FLAT_ADDRESS,
  }),
};

/** One page-map level-4 table, one pointer table and a directory per GiB. @returns the pages, for a place at `base`. */
function identityTables(base: number): Uint8Array {
  const tables = new BigUint64Array(((2 + GIB_MAPPED) * PAGE) / 8);
  const entries = PAGE / 8;
  tables[0] = BigInt(base + PAGE) | PRESENT_WRITABLE;
  for (let i = 0; i < GIB_MAPPED; i++) tables[entries + i] = BigInt(base + (2 + i) * PAGE) | PRESENT_WRITABLE;
  for (let i = 0; i < GIB_MAPPED * entries; i++) {
    tables[2 * entries + i] = (BigInt(i) * LARGE_PAGE) | LARGE_PRESENT_WRITABLE;
  }
  return new Uint8Array(tables.buffer);
}

/** Puts page tables and GDT into free memory, preferably low. @returns their addresses */
function placeLongModeTables(request: BootRequest, ram: RamWriter, physical: PhysicalMemory): [number, number] {
  const put = (bytes: Uint8Array): number => {
    const at = ram.place(bytes, PAGE, LOW_START, LOW_END) ?? ram.place(bytes, PAGE, ram.top, ram.ramSize);
    if (at !== undefined) return at;
    throw new ImageError('segment-outside-ram', request.name, '', 'no RAM is left for the page tables at entry');
  };
  const tables = put(new Uint8Array((2 + GIB_MAPPED) * PAGE));
  physical.poke(tables, identityTables(tables));
  return [tables, put(new Uint8Array(new BigUint64Array(ENTRY_GDT).buffer))];
}

/**
 * The caller has reset the processor: what an image does not find defined here has its power-up value.
 * @throws ImageError that says what is wrong with the image
 */
export function loadImage(cpu: CpuState, request: BootRequest): LoadedImage {
  const { name, image, format: wanted = 'auto' } = request;
  if (image.length === 0) throw new ImageError('empty-file', name, '', 'the file is empty');
  const format = wanted === 'auto' ? recognise(request) : wanted;
  const { segments, entry } = READERS[format](request);
  const { physical } = cpu.mmu;
  const ram = new RamWriter(physical, name);
  segments.forEach((segment, i) => {
    ram.segment(image, segment, segments.length > 1 ? `segment ${i}` : '');
  });
  const longModeTables = format === 'elf64' ? placeLongModeTables(request, ram, physical) : undefined;
  const information = placeBootInformation(request, ram);
  const start = { entry, magic: BOOTED_MAGIC, information, stack: STACK };
  if (longModeTables) enterLongMode(cpu, start, ...longModeTables);
  else enterProtectedMode(cpu, start);
  return { format, entry, segments };
}
