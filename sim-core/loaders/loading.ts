/** What every loader works with. */

import { type AddressRange, PHYSICAL } from '../platform/memory-map.ts';
import type { BootRequest } from './boot-request.ts';
import type { CpuState } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import type { RamWriter } from './ram-writer.ts';

export interface Loading {
  readonly cpu: CpuState;
  readonly request: BootRequest;
  readonly ram: RamWriter;
  readonly map: readonly AddressRange[];
  /** Physical address of ACPI's root system description pointer; undefined when the machine has no tables. */
  readonly rsdp: number | undefined;
}

const LOW_START = 0x1000;
const LOW_END = 0x7_0000;
const PAGE = 4096;
const LARGE_PAGE = 0x20_0000n;
const PRESENT_WRITABLE = 3n;
const LARGE_PRESENT_WRITABLE = 0x83n;
const GIB_MAPPED = 4;

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

/**
 * Puts page tables that map the first 4 GiB to themselves, and a GDT, into free memory, preferably low.
 * @returns their addresses @throws ImageError
 */
export function placeLongModeTables({ cpu, request, ram }: Loading, gdt: readonly bigint[]): [number, number] {
  const put = (bytes: Uint8Array): number => {
    const at = ram.place(bytes, PAGE, LOW_START, LOW_END) ?? ram.place(bytes, PAGE, ram.top, ram.ramSize);
    if (at !== undefined) return at;
    throw new ImageError('segment-outside-ram', request.name, '', 'no RAM is left for the page tables at entry');
  };
  const tables = put(new Uint8Array((2 + GIB_MAPPED) * PAGE));
  cpu.mmu.physical.poke(tables, identityTables(tables));
  return [tables, put(new Uint8Array(new BigUint64Array(gdt).buffer))];
}

/** Modules go above the image, each at the start of a page. @returns their addresses @throws ImageError */
export function placeModules({ request, ram }: Loading): number[] {
  return request.modules.map((module) => {
    const start = ram.place(module.bytes, PAGE, Math.max(0x10_0000, ram.top), ram.ramSize);
    if (start !== undefined) return start;
    const end = `0x${ram.ramSize.toString(16)}`;
    const what = `${module.bytes.length} bytes do not fit between the image and the end of RAM at ${end}`;
    throw new ImageError('modules-too-large', request.name, `module ${module.name}`, what);
  });
}

/** The pieces of a boot information go here, above what boot code likes to use in low memory. */
const INFORMATION_START = 0x9000;
const INFORMATION_END = PHYSICAL.conventionalEnd;

/** In low memory; above everything when the image fills that. @returns the address @throws ImageError */
export function placeInformation({ request, ram }: Loading, bytes: Uint8Array): number {
  const at = ram.place(bytes, 16, INFORMATION_START, INFORMATION_END) ?? ram.place(bytes, PAGE, ram.top, ram.ramSize);
  if (at !== undefined) return at;
  throw new ImageError('modules-too-large', request.name, '', 'no RAM is left for the boot information');
}

export const zeroTerminated = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** The image's name in front, as QEMU passes it. */
export const namedCommandLine = ({ name, commandLine }: BootRequest): string => `${name} ${commandLine}`.trimEnd();

export const BOOT_LOADER_NAME = 'VMXray';
