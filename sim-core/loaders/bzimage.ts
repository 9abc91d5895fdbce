/** Linux kernels in bzImage form, entered by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst). */

import { encodeMemoryMap, PHYSICAL } from '../platform/memory-map.ts';
import type { LoadedImage } from './boot-request.ts';
import { enterLongMode } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import { type Loading, placeLongModeTables, zeroTerminated } from './loading.ts';

/** Offsets in the file's first sectors and, the same, in the zero page. */
const HEADER = {
  setupSectors: 0x1f1, magic: 0x202, version: 0x206, loaderType: 0x210, loadFlags: 0x211, initrdAddress: 0x218,
  initrdSize: 0x21c, commandLine: 0x228, initrdMaximum: 0x22c, relocatable: 0x234, extendedFlags: 0x236,
  commandLineSize: 0x238, preferredAddress: 0x258, initSize: 0x260,
} as const; // biome-ignore format: a table reads better in rows
/** Fields of the zero page that are not in the setup header (Documentation/arch/x86/zero-page.rst). */
const ZERO_PAGE = { rsdp: 0x70, mapCount: 0x1e8, map: 0x2d0, size: 4096, mapEntrySize: 20, mapLimit: 128 } as const;

/** "HdrS". */
const MAGIC = 0x5372_6448;
/** The version that has the 64-bit entry point's mark (XLF_KERNEL_64). */
const OLDEST_VERSION = 0x20c;
const EXTENDED_KERNEL64 = 1;
const LOADED_HIGH = 1;
/** A boot loader without a number of its own. */
const UNDEFINED_LOADER = 0xff;
/** Setup header: from 1F1h to the jump at 200h plus the length in that jump. */
const HEADER_START = 0x1f1;
const HEADER_LENGTH_AT = 0x201;
/** Where the 64-bit entry point is in the protected-mode kernel. */
const ENTRY_64 = 0x200;
const SECTOR = 512;
const PAGE = 4096;
const LOW_START = 0x1_0000;

/** Descriptors at the selectors that the protocol names: __BOOT_CS (10h) and __BOOT_DS (18h). */
const BOOT_GDT = [0n, 0n, 0x00af_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn] as const;
const BOOT_SELECTORS = { code64: 0x10, data: 0x18 } as const;

export const isBzImage = (image: Uint8Array): boolean =>
  image.length >= HEADER.magic + 4 && viewOf(image).getUint32(HEADER.magic, true) === MAGIC;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

interface Kernel {
  /** Where the protected-mode kernel begins in the file. */
  readonly fileOffset: number;
  /** What the kernel needs from its load address on, in bytes. */
  readonly initSize: number;
  readonly address: number;
  readonly initrdMaximum: number;
  readonly commandLineSize: number;
}

function readKernel({ name, image }: Loading['request']): Kernel {
  const where = 'setup header';
  if (!isBzImage(image)) throw new ImageError('wrong-format', name, '', 'the file is no Linux kernel (bzImage)');
  const fail = (id: 'unsupported-request' | 'truncated-segment' | 'truncated-header', what: string): never => {
    throw new ImageError(id, name, where, what);
  };
  if (image.length < HEADER.initSize + 4) fail('truncated-header', `the file ends after ${image.length} bytes`);
  const view = viewOf(image);
  const version = view.getUint16(HEADER.version, true);
  const versionText = `${version >> 8}.${(version & 0xff).toString().padStart(2, '0')}`;
  if (version < OLDEST_VERSION)
    fail('unsupported-request', `boot protocol ${versionText}, but 2.12 is the oldest here`);
  if ((view.getUint16(HEADER.extendedFlags, true) & EXTENDED_KERNEL64) === 0) {
    fail('unsupported-request', 'the kernel has no 64-bit entry point (a 32-bit kernel)');
  }
  // Zero stands for four sectors.
  const fileOffset = ((view.getUint8(HEADER.setupSectors) || 4) + 1) * SECTOR;
  const size = view.getUint32(0x1f4, true) * 16;
  if (fileOffset + size > image.length) {
    const text = `0x${fileOffset.toString(16)} to 0x${(fileOffset + size).toString(16)}`;
    fail('truncated-segment', `the kernel is bytes ${text} of the file, which has ${image.length}`);
  }
  return {
    fileOffset,
    initSize: view.getUint32(HEADER.initSize, true),
    address: Number(view.getBigUint64(HEADER.preferredAddress, true)),
    initrdMaximum: view.getUint32(HEADER.initrdMaximum, true),
    commandLineSize: view.getUint32(HEADER.commandLineSize, true),
  };
}

/** The initrd goes as high as the kernel lets it, as other loaders put it. @returns its address; 0 without one */
function placeInitrd({ request, ram }: Loading, kernel: Kernel): number {
  const [initrd, ...others] = request.modules;
  if (!initrd) return 0;
  if (others.length > 0) {
    const what = `${request.modules.length} modules, but a Linux kernel takes one, its initrd`;
    throw new ImageError('unsupported-request', request.name, '', what);
  }
  const top = Math.min(ram.ramSize, kernel.initrdMaximum + 1);
  const start = top - initrd.bytes.length - ((top - initrd.bytes.length) & (PAGE - 1));
  const lowest = kernel.address + kernel.initSize;
  if (start < lowest) {
    const [from, to] = [lowest, top].map((address) => `0x${address.toString(16)}`);
    const what = `${initrd.bytes.length} bytes do not fit between the kernel's end at ${from} and ${to}`;
    throw new ImageError('modules-too-large', request.name, `initrd ${initrd.name}`, what);
  }
  return ram.place(initrd.bytes, PAGE, start, top) ?? 0;
}

/** Setup header from the file, and what the loader adds to it. */
function zeroPage({ request, map, rsdp }: Loading, initrd: number, commandLine: number): Uint8Array {
  const page = new Uint8Array(ZERO_PAGE.size);
  const view = viewOf(page);
  const end = HEADER_LENGTH_AT + 1 + (request.image[HEADER_LENGTH_AT] ?? 0);
  page.set(request.image.subarray(HEADER_START, end), HEADER_START);
  view.setUint8(HEADER.loaderType, UNDEFINED_LOADER);
  view.setUint8(HEADER.loadFlags, view.getUint8(HEADER.loadFlags) | LOADED_HIGH);
  view.setUint32(HEADER.initrdAddress, initrd, true);
  view.setUint32(HEADER.initrdSize, request.modules[0]?.bytes.length ?? 0, true);
  view.setUint32(HEADER.commandLine, commandLine, true);
  view.setBigUint64(ZERO_PAGE.rsdp, BigInt(rsdp ?? 0), true);
  view.setUint8(ZERO_PAGE.mapCount, Math.min(map.length, ZERO_PAGE.mapLimit));
  page.set(encodeMemoryMap(map.slice(0, ZERO_PAGE.mapLimit), ZERO_PAGE.mapEntrySize), ZERO_PAGE.map);
  return page;
}

/** @throws ImageError */
export function loadBzImage(loading: Loading): LoadedImage {
  const { cpu, request, ram } = loading;
  const kernel = readKernel(request);
  const fileSize = request.image.length - kernel.fileOffset;
  const segment = {
    physical: kernel.address,
    fileOffset: kernel.fileOffset,
    fileSize,
    memorySize: Math.max(kernel.initSize, fileSize),
  };
  ram.segment(request.image, segment, 'kernel');
  const initrd = placeInitrd(loading, kernel);
  const text = zeroTerminated(request.commandLine);
  if (text.length - 1 > kernel.commandLineSize) {
    const what = `a command line of ${text.length - 1} bytes, but this kernel takes ${kernel.commandLineSize}`;
    throw new ImageError('unsupported-request', request.name, '', what);
  }
  const put = (bytes: Uint8Array, what: string): number => {
    const at = ram.place(bytes, PAGE, LOW_START, PHYSICAL.conventionalEnd);
    if (at !== undefined) return at;
    throw new ImageError('segment-outside-ram', request.name, '', `no low memory is left for the ${what}`);
  };
  const page = put(zeroPage(loading, initrd, put(text, 'command line')), 'zero page');
  const [tables, gdt] = placeLongModeTables(loading, BOOT_GDT);
  const entry = kernel.address + ENTRY_64;
  const start = { entry, registers: { rsi: page }, selectors: BOOT_SELECTORS };
  enterLongMode(cpu, start, tables, { address: gdt, entries: BOOT_GDT.length });
  return { format: 'bzimage', entry, segments: [segment] };
}
