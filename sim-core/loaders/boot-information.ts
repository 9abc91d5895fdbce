/** The information structure of multiboot 1 (Multiboot Specification 0.6.96, "Boot information format"). */

import { type AddressRange, encodeMemoryMap, PHYSICAL } from '../platform/memory-map.ts';
import {
  BOOT_LOADER_NAME,
  type Loading,
  namedCommandLine,
  placeInformation,
  placeModules,
  zeroTerminated,
} from './loading.ts';

const MIB = 0x10_0000;

const FLAG = { memory: 1 << 0, commandLine: 1 << 2, modules: 1 << 3, memoryMap: 1 << 6, loaderName: 1 << 9 } as const;
const INFORMATION_SIZE = 120;
const MAP_ENTRY_SIZE = 24;
const MODULE_SIZE = 16;
const OFFSET = {
  flags: 0, memoryLower: 4, memoryUpper: 8, commandLine: 16, moduleCount: 20, modules: 24, mapLength: 44, map: 48,
  loaderName: 64,
} as const; // biome-ignore format: a table reads better in rows

/** In front of each entry is its size, without this field. */
function encodeMap(map: readonly AddressRange[]): Uint8Array {
  const bytes = encodeMemoryMap(map, MAP_ENTRY_SIZE, 4);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += MAP_ENTRY_SIZE) view.setUint32(at, MAP_ENTRY_SIZE - 4, true);
  return bytes;
}

/** @returns the list of modules that the information points to */
function encodeModules(loading: Loading, put: (bytes: Uint8Array) => number): Uint8Array {
  const { modules } = loading.request;
  const list = new DataView(new ArrayBuffer(MODULE_SIZE * modules.length));
  placeModules(loading).forEach((start, i) => {
    list.setUint32(MODULE_SIZE * i, start, true);
    list.setUint32(MODULE_SIZE * i + 4, start + (modules[i]?.bytes.length ?? 0), true);
    list.setUint32(MODULE_SIZE * i + 8, put(zeroTerminated(modules[i]?.commandLine ?? '')), true);
  });
  return new Uint8Array(list.buffer);
}

/**
 * Puts modules, command line, memory map and the structure itself into RAM.
 * @returns the structure's physical address. @throws ImageError when there is no room.
 */
export function placeBootInformation(loading: Loading): number {
  const { request, ram } = loading;
  const put = (bytes: Uint8Array): number => placeInformation(loading, bytes);
  const information = new DataView(new ArrayBuffer(INFORMATION_SIZE));
  const set = (field: keyof typeof OFFSET, value: number): void => information.setUint32(OFFSET[field], value, true);
  const modules = encodeModules(loading, put);
  const map = encodeMap(loading.map);
  set(
    'flags',
    Object.values(FLAG).reduce((all, flag) => all | flag),
  );
  set('memoryLower', PHYSICAL.conventionalEnd >> 10);
  set('memoryUpper', (ram.ramSize - MIB) / 1024);
  set('commandLine', put(zeroTerminated(namedCommandLine(request))));
  set('moduleCount', request.modules.length);
  set('modules', modules.length > 0 ? put(modules) : 0);
  set('mapLength', map.length);
  set('map', put(map));
  set('loaderName', put(zeroTerminated(BOOT_LOADER_NAME)));
  return put(new Uint8Array(information.buffer));
}
