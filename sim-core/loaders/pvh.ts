/** Kernels with a PVH entry point (Xen, "x86/HVM direct boot ABI"): an ELF note names a 32-bit entry. */

import { encodeMemoryMap } from '../platform/memory-map.ts';
import type { ImageSegment, LoadedImage } from './boot-request.ts';
import { isElf, readElf, readElfNote } from './elf.ts';
import { enterProtectedMode } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import { type Loading, placeInformation, placeModules, zeroTerminated } from './loading.ts';

const NOTE = { name: 'Xen', type: 18 } as const;

const START_INFO = {
  magic: 0, version: 4, moduleCount: 12, modules: 16, commandLine: 24, rsdp: 32, map: 40, mapCount: 48, size: 56,
} as const; // biome-ignore format: a table reads better in rows
const MAGIC = 0x336e_c578;
/** The first version with a memory map. */
const VERSION = 1;
const MODULE_SIZE = 32;
const MAP_ENTRY_SIZE = 24;

/** The physical entry point, or undefined when the file has none. */
export function pvhEntry(name: string, image: Uint8Array): number | undefined {
  if (!isElf(image)) return undefined;
  const note = readElfNote(name, image, NOTE.name, NOTE.type);
  if (!note || note.length < 4) return undefined;
  return new DataView(note.buffer, note.byteOffset).getUint32(0, true);
}

function encodeModules(loading: Loading): Uint8Array {
  const { modules } = loading.request;
  const view = new DataView(new ArrayBuffer(MODULE_SIZE * modules.length));
  placeModules(loading).forEach((start, i) => {
    const module = modules[i];
    view.setBigUint64(MODULE_SIZE * i, BigInt(start), true);
    view.setBigUint64(MODULE_SIZE * i + 8, BigInt(module?.bytes.length ?? 0), true);
    const text = placeInformation(loading, zeroTerminated(module?.commandLine ?? ''));
    view.setBigUint64(MODULE_SIZE * i + 16, BigInt(text), true);
  });
  return new Uint8Array(view.buffer);
}

/** hvm_start_info. @returns its address */
function placeStartInfo(loading: Loading): number {
  const { request, map, rsdp } = loading;
  const put = (bytes: Uint8Array): bigint => (bytes.length === 0 ? 0n : BigInt(placeInformation(loading, bytes)));
  const view = new DataView(new ArrayBuffer(START_INFO.size));
  view.setUint32(START_INFO.magic, MAGIC, true);
  view.setUint32(START_INFO.version, VERSION, true);
  view.setUint32(START_INFO.moduleCount, request.modules.length, true);
  view.setBigUint64(START_INFO.modules, put(encodeModules(loading)), true);
  view.setBigUint64(START_INFO.commandLine, put(zeroTerminated(request.commandLine)), true);
  view.setBigUint64(START_INFO.rsdp, BigInt(rsdp ?? 0), true);
  view.setBigUint64(START_INFO.map, put(encodeMemoryMap(map, MAP_ENTRY_SIZE)), true);
  view.setUint32(START_INFO.mapCount, map.length, true);
  return placeInformation(loading, new Uint8Array(view.buffer));
}

/** @throws ImageError */
export function loadPvh(loading: Loading): LoadedImage {
  const { cpu, ram } = loading;
  const { name, image } = loading.request;
  const entry = pvhEntry(name, image);
  if (entry === undefined) throw new ImageError('wrong-format', name, '', 'the file has no ELF note with a PVH entry');
  const { segments }: { segments: readonly ImageSegment[] } = readElf(name, image);
  segments.forEach((segment, i) => {
    ram.segment(image, segment, `segment ${i}`);
  });
  if (!segments.some(({ physical, memorySize }) => entry >= physical && entry < physical + memorySize)) {
    const what = `the PVH entry point 0x${entry.toString(16)} is in no loaded segment`;
    throw new ImageError('entry-outside', name, 'PVH note', what);
  }
  enterProtectedMode(cpu, { entry, registers: { rbx: placeStartInfo(loading) } });
  return { format: 'pvh', entry, segments };
}
