/**
 * Loads an image and puts the processor at its first instruction.
 *
 * - multiboot 1 and 2, PVH, Linux bzImage: as their specifications say.
 * - ELF64 without a boot protocol's mark: 64-bit mode, CPL 0, flat segments (code 18h, data 10h), the first 4 GiB
 *   identity-mapped with writable 2-MiB pages, SSE on, interrupts off, no IDT, RSP = 7_F000h.
 * - ELF32 without such a mark, and flat images (loaded and started at 1 MiB): as multiboot 1.
 *
 * Direct images, too, find multiboot's number in EAX and the information's address in EBX and EDI, so that even an image
 * without header can have a command line and modules.
 */

import { memoryMap } from '../platform/memory-map.ts';
import { placeBootInformation } from './boot-information.ts';
import type { BootRequest, ImageFormat, ImageSegment, LoadedImage } from './boot-request.ts';
import { loadBzImage } from './bzimage.ts';
import { isElf, readElf } from './elf.ts';
import { type CpuState, ENTRY_GDT, enterLongMode, enterProtectedMode } from './entry-state.ts';
import { loadFirmware } from './firmware.ts';
import { ImageError } from './image-error.ts';
import { type Loading, placeLongModeTables } from './loading.ts';
import { findMultibootHeader, readMultiboot } from './multiboot1.ts';
import { loadMultiboot2 } from './multiboot2.ts';
import { loadPvh } from './pvh.ts';
import { RamWriter } from './ram-writer.ts';
import { describeImage, recognise } from './recognise.ts';

const BOOTED_MAGIC = 0x2bad_b002;
const FLAT_ADDRESS = 0x10_0000;
/** Where ESP and RSP point at entry: the top of low memory that nothing else uses. */
const STACK = 0x7_f000;

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

type Reader = (request: BootRequest) => Program;

/** What the formats load that are all entered as multiboot 1 is, or in 64-bit mode. */
const READERS = {
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
} satisfies Partial<Record<ImageFormat, Reader>>;

/** Loads what a reader found; multiboot 1's information is there for all of them. */
const direct =
  (format: keyof typeof READERS): Protocol =>
  (loading) => {
    const { cpu, request, ram } = loading;
    const { segments, entry } = READERS[format](request);
    segments.forEach((segment, i) => {
      ram.segment(request.image, segment, segments.length > 1 ? `segment ${i}` : '');
    });
    const longModeTables = format === 'elf64' ? placeLongModeTables(loading, ENTRY_GDT) : undefined;
    const information = placeBootInformation(loading);
    const registers = { rax: BOOTED_MAGIC, rbx: information, rdi: information, rsp: STACK };
    if (longModeTables) {
      const [tables, address] = longModeTables;
      enterLongMode(cpu, { entry, registers }, tables, { address, entries: ENTRY_GDT.length });
    } else {
      enterProtectedMode(cpu, { entry, registers });
    }
    return { format, entry, segments };
  };

type Protocol = (loading: Loading) => LoadedImage;

const PROTOCOLS: Readonly<Record<ImageFormat, Protocol>> = {
  multiboot1: direct('multiboot1'),
  multiboot2: loadMultiboot2,
  pvh: loadPvh,
  bzimage: loadBzImage,
  elf64: direct('elf64'),
  elf32: direct('elf32'),
  flat: direct('flat'),
  firmware: loadFirmware,
};

/** A format that was asked for and is not the file's: say what the file is. */
function withWhatItIs(error: unknown, { name, image }: BootRequest): unknown {
  if (!(error instanceof ImageError) || error.id !== 'wrong-format') return error;
  const actual = describeImage(image);
  return actual === undefined ? error : new ImageError('wrong-format', name, error.where, `${error.what}; ${actual}`);
}

/**
 * The caller has reset the processor: what an image does not find defined here has its power-up value.
 * @param rsdp physical address of the ACPI tables' root, which the caller has put into RAM
 * @throws ImageError that says what is wrong with the image
 */
export function loadImage(cpu: CpuState, request: BootRequest, rsdp?: number): LoadedImage {
  const { name, image, format: wanted = 'auto' } = request;
  if (image.length === 0) throw new ImageError('empty-file', name, '', 'the file is empty');
  const ram = new RamWriter(cpu.mmu.physical, name);
  const loading = { cpu, request, ram, map: memoryMap(ram.ramSize), rsdp };
  const format = wanted === 'auto' ? recognise(request) : wanted;
  try {
    return PROTOCOLS[format](loading);
  } catch (error) {
    throw withWhatItIs(error, request);
  }
}
