/** The information structure of multiboot 1 (Multiboot Specification 0.6.96, "Boot information format"). */

import { type AddressRange, memoryMap, PHYSICAL } from '../platform/memory-map.ts';
import type { BootRequest } from './boot-request.ts';
import { ImageError } from './image-error.ts';
import type { RamWriter } from './ram-writer.ts';

const BOOT_LOADER_NAME = 'VMXray';
const MIB = 0x10_0000;
const PAGE = 4096;
/** The pieces of the information go here, above what boot code likes to use in low memory. */
const INFORMATION_START = 0x9000;

const FLAG = { memory: 1 << 0, commandLine: 1 << 2, modules: 1 << 3, memoryMap: 1 << 6, loaderName: 1 << 9 } as const;
const INFORMATION_SIZE = 120;
const MODULE_SIZE = 16;
const OFFSET = {
  flags: 0, memoryLower: 4, memoryUpper: 8, commandLine: 16, moduleCount: 20, modules: 24, mapLength: 44, map: 48,
  loaderName: 64,
} as const; // biome-ignore format: a table reads better in rows

/** Entries as the specification lays them out: the size field counts what follows it. */
function encodeMemoryMap(entries: readonly AddressRange[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(24 * entries.length));
  entries.forEach(({ start, end, type }, i) => {
    view.setUint32(24 * i, 20, true);
    view.setBigUint64(24 * i + 4, BigInt(start), true);
    view.setBigUint64(24 * i + 12, BigInt(end - start), true);
    view.setUint32(24 * i + 20, type, true);
  });
  return new Uint8Array(view.buffer);
}

const zeroTerminated = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** Modules go above the image, each at the start of a page. @returns the list that the information points to. */
function placeModules(request: BootRequest, ram: RamWriter, put: (bytes: Uint8Array) => number): Uint8Array {
  const list = new DataView(new ArrayBuffer(MODULE_SIZE * request.modules.length));
  request.modules.forEach((module, i) => {
    const start = ram.place(module.bytes, PAGE, Math.max(MIB, ram.top), ram.ramSize);
    if (start === undefined) {
      const end = `0x${ram.ramSize.toString(16)}`;
      const what = `${module.bytes.length} bytes do not fit between the image and the end of RAM at ${end}`;
      throw new ImageError('modules-too-large', request.name, `module ${module.name}`, what);
    }
    list.setUint32(MODULE_SIZE * i, start, true);
    list.setUint32(MODULE_SIZE * i + 4, start + module.bytes.length, true);
    list.setUint32(MODULE_SIZE * i + 8, put(zeroTerminated(module.commandLine)), true);
  });
  return new Uint8Array(list.buffer);
}

/**
 * Puts modules, command line, memory map and the structure itself into RAM.
 * @returns the structure's physical address. @throws ImageError when there is no room.
 */
export function placeBootInformation(request: BootRequest, ram: RamWriter): number {
  /** In low memory; above everything when the image fills that. */
  const put = (bytes: Uint8Array): number => {
    const at =
      ram.place(bytes, 16, INFORMATION_START, PHYSICAL.conventionalEnd) ?? ram.place(bytes, PAGE, ram.top, ram.ramSize);
    if (at !== undefined) return at;
    throw new ImageError('modules-too-large', request.name, '', 'no RAM is left for the boot information');
  };
  const information = new DataView(new ArrayBuffer(INFORMATION_SIZE));
  const set = (field: keyof typeof OFFSET, value: number): void => information.setUint32(OFFSET[field], value, true);
  const modules = placeModules(request, ram, put);
  const map = encodeMemoryMap(memoryMap(ram.ramSize));
  set(
    'flags',
    Object.values(FLAG).reduce((all, flag) => all | flag),
  );
  set('memoryLower', PHYSICAL.conventionalEnd >> 10);
  set('memoryUpper', (ram.ramSize - MIB) / 1024);
  set('commandLine', put(zeroTerminated(`${request.name} ${request.commandLine}`.trimEnd())));
  set('moduleCount', request.modules.length);
  set('modules', modules.length > 0 ? put(modules) : 0);
  set('mapLength', map.length);
  set('map', put(map));
  set('loaderName', put(zeroTerminated(BOOT_LOADER_NAME)));
  return put(new Uint8Array(information.buffer));
}
