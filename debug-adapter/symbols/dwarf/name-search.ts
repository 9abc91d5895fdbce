/**
 * Which units mention a name, without reading their entries: by its places in .debug_str, which their bytes hold.
 * Linkers let a string be the end of another one, so that a name has as many places as strings end in it.
 */

import type { FileImage } from '../file-image.ts';
import type { DebugInformation, UnitHeader } from './debug-information.ts';
import type { Unit } from './unit.ts';

const PIECE = 1 << 20;
const encoder = new TextEncoder();

/** Calls `visit` with pieces of a file that overlap by `overlap` bytes. @param visit gets a piece and its offset. */
function eachPiece(file: FileImage, overlap: number, visit: (bytes: Uint8Array, at: number) => void): void {
  for (let at = 0; at < file.size; at += PIECE) {
    visit(file.read(at, Math.min(PIECE + overlap, file.size - at)), at);
  }
}

/** Where a file holds a sequence of bytes. */
function occurrences(file: FileImage | undefined, wanted: Uint8Array): Set<number> {
  const found = new Set<number>();
  const [first] = wanted;
  if (!file || first === undefined) return found;
  eachPiece(file, wanted.length - 1, (bytes, at) => {
    for (let index = bytes.indexOf(first); index >= 0; index = bytes.indexOf(first, index + 1)) {
      if (wanted.every((byte, offset) => bytes[index + offset] === byte)) found.add(at + index);
    }
  });
  return found;
}

/** Where a file holds one of the given 32-bit numbers. 64-bit ones (DWARF64) are found by their lower half. */
function numberPlaces(file: FileImage | undefined, wanted: ReadonlySet<number>): number[] {
  const found: number[] = [];
  if (!file || wanted.size === 0) return found;
  const maybe = new Uint8Array(0x1_0000);
  for (const number of wanted) maybe[number & 0xffff] = 1;
  eachPiece(file, 3, (bytes, at) => {
    for (let index = 0; index + 4 <= bytes.length; index++) {
      const low = (bytes[index] as number) | ((bytes[index + 1] as number) << 8);
      if (maybe[low] === 0) continue;
      const high = (bytes[index + 2] as number) | ((bytes[index + 3] as number) << 8);
      if (wanted.has(low + high * 0x1_0000)) found.push(at + index);
    }
  });
  return found;
}

/** Names shorter than an offset stand in the entry itself. */
const LONGEST_INLINE = 7;

/** Units that may have an entry of this name, in their order; then those whose entries are in files of their own. */
export function* unitsNaming(info: DebugInformation, name: string): Generator<Unit> {
  for (const header of headersNaming(info, name)) yield info.unit(header);
  for (const { info: split } of info.splitUnits) yield* unitsNaming(split, name);
}

function headersNaming(info: DebugInformation, name: string): UnitHeader[] {
  const text = Uint8Array.of(...encoder.encode(name), 0);
  const strings = occurrences(info.find('.debug_str'), text);
  const section = info.find('.debug_info');
  const places = numberPlaces(section, strings);
  if (name.length <= LONGEST_INLINE) places.push(...occurrences(section, text));
  const offsets = numberPlaces(info.find('.debug_str_offsets'), strings);
  const found = new Set([...unitsHolding(info.headers, places), ...unitsOfStrings(info, offsets)]);
  return [...found].sort((a, b) => a.offset - b.offset);
}

function unitsHolding(headers: readonly UnitHeader[], places: readonly number[]): Set<UnitHeader> {
  const found = new Set<UnitHeader>();
  let index = 0;
  for (const place of places.toSorted((a, b) => a - b)) {
    let header = headers[index];
    while (header && place >= header.place + header.size) header = headers[++index];
    if (header && place >= header.place) found.add(header);
  }
  return found;
}

/** Units whose part of .debug_str_offsets holds one of the places; several units may share a part. */
function unitsOfStrings(info: DebugInformation, places: readonly number[]): UnitHeader[] {
  if (places.length === 0) return [];
  const parts = info.headers
    .map((header) => ({ header, base: info.rootOf(header).unit.bases.strings }))
    .filter(({ base }) => base > 0 || info.skeleton !== undefined)
    .sort((a, b) => a.base - b.base);
  const bases = [...new Set(parts.map(({ base }) => base))];
  const wanted = new Set(places.map((place) => bases.findLast((base) => base <= place)));
  return parts.filter(({ base }) => wanted.has(base)).map(({ header }) => header);
}
