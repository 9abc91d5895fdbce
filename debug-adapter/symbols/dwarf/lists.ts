/** Range lists and location lists (DWARF 5, 2.17.3, 2.6.2; DWARF 4 as well). */

import { ByteReader, FormatError } from '../byte-reader.ts';
import type { AddressRange } from './address-index.ts';
import { AT } from './constants.ts';
import type { FormValue } from './forms.ts';
import type { Entry, Unit } from './unit.ts';

/** The code addresses that an entry covers; none when it tells none. */
export function rangesOf(entry: Entry): readonly AddressRange[] {
  const list = entry.own(AT.ranges);
  if (list) return readRanges(entry.unit, list);
  const low = entry.own(AT.lowPc);
  const start = low && entry.unit.address(low);
  if (start === undefined) return [];
  const high = entry.own(AT.highPc);
  if (!high) return [{ start, end: start + 1n }];
  const end = entry.unit.address(high) ?? (typeof high.raw === 'bigint' ? start + high.raw : start);
  return [{ start, end }];
}

export const covers = (entry: Entry, address: bigint): boolean =>
  rangesOf(entry).some(({ start, end }) => address >= start && address < end);

/** Address of the first instruction. */
export function entryPoint(entry: Entry): bigint | undefined {
  const low = entry.own(AT.lowPc);
  return (low && entry.unit.address(low)) ?? rangesOf(entry)[0]?.start;
}

function readRanges(unit: Unit, value: FormValue): readonly AddressRange[] {
  const ranges: AddressRange[] = [];
  const add = (start: bigint, end: bigint): void => {
    if (end > start) ranges.push({ start, end });
  };
  if (unit.header.version < 5) readOldList(unit, '.debug_ranges', unit.bases.ranges + offsetOf(value), false, add);
  else
    readList(
      unit,
      '.debug_rnglists',
      listOffset(unit, value, '.debug_rnglists', unit.bases.ranges),
      RANGE_ENTRIES,
      add,
    );
  return ranges;
}

/** The expression that holds at a code address: the attribute itself, or one of its list. Undefined: none does. */
export function expressionAt(unit: Unit, value: FormValue, address: bigint): Uint8Array | undefined {
  if (typeof value.raw !== 'bigint') return typeof value.raw === 'string' ? undefined : value.raw;
  let found: Uint8Array | undefined;
  const add = (start: bigint, end: bigint, expression?: Uint8Array): void => {
    if (address >= start && address < end) found ??= expression;
  };
  if (unit.header.version < 5 && unit.skeleton) {
    readList(unit, '.debug_loc', Number(value.raw), SPLIT_LOCATION_ENTRIES, add);
  } else if (unit.header.version < 5) readOldList(unit, '.debug_loc', Number(value.raw), true, add);
  else {
    const offset = listOffset(unit, value, '.debug_loclists', unit.bases.locations);
    readList(unit, '.debug_loclists', offset, LOCATION_ENTRIES, add);
  }
  return found;
}

type Add = (start: bigint, end: bigint, expression?: Uint8Array) => void;

const offsetOf = ({ raw }: FormValue): number => Number(typeof raw === 'bigint' ? raw : 0n);

/** DW_FORM_rnglistx and loclistx count in the table of offsets at the unit's base. */
function listOffset(unit: Unit, value: FormValue, section: string, base: number): number {
  if (value.class !== 'listIndex') return offsetOf(value);
  const { offsetSize } = unit.header.sizes;
  const bytes = unit.info.required(section).read(base + offsetOf(value) * offsetSize, offsetSize);
  return base + Number(new ByteReader(bytes).unsigned(offsetSize));
}

function unitBase(unit: Unit): bigint {
  const home = unit.skeleton ?? unit;
  const low = home.value(0, AT.lowPc);
  return (low && home.address(low)) ?? 0n;
}

/** Lists are read in pieces of this size first: most are short. */
const FIRST_PIECE = 512;

/** Calls `parse` with more and more of a section until it does not meet the end of the piece. */
function withPiece(unit: Unit, name: string, offset: number, parse: (reader: ByteReader) => void): void {
  const section = unit.info.required(name);
  const available = Math.max(section.size - offset, 0);
  for (let length = FIRST_PIECE; ; length *= 16) {
    try {
      parse(new ByteReader(section.read(offset, Math.min(length, available))));
      return;
    } catch (error) {
      if (!(error instanceof FormatError) || length >= available) throw error;
    }
  }
}

/** Pairs of addresses up to a pair of zeros; the largest address selects a base (DWARF 4, 2.6.2 and 2.17.3). */
function readOldList(unit: Unit, section: string, offset: number, withExpressions: boolean, add: Add): void {
  const { addressSize } = unit.header.sizes;
  const select = BigInt.asUintN(8 * addressSize, -1n);
  withPiece(unit, section, offset, (reader) => {
    let base = unitBase(unit);
    for (;;) {
      const start = reader.unsigned(addressSize);
      const end = reader.unsigned(addressSize);
      if (start === select) base = end;
      else if (start === 0n && end === 0n) return;
      else add(base + start, base + end, withExpressions ? expression(reader, reader.u16()) : undefined);
    }
  });
}

function expression(reader: ByteReader, length: number): Uint8Array {
  const start = reader.at;
  reader.skip(length);
  return reader.bytes.subarray(start, start + length);
}

interface ListState {
  readonly unit: Unit;
  readonly reader: ByteReader;
  base: bigint;
}
type Bounds = readonly [bigint, bigint];
/** @returns the addresses that the entry is about; 'end'; or undefined when it only sets something. */
type ListEntry = (state: ListState) => Bounds | 'end' | undefined;

const address = ({ unit, reader }: ListState): bigint => reader.unsigned(unit.header.sizes.addressSize);
const indexed = ({ unit, reader }: ListState): bigint => unit.indexedAddress(reader.uleb());
const EVERYWHERE: Bounds = [0n, 1n << 64n];

const ends: ListEntry = () => 'end';
const setIndexedBase: ListEntry = (state) => {
  state.base = indexed(state);
  return undefined;
};
const setBase: ListEntry = (state) => {
  state.base = address(state);
  return undefined;
};
const twoIndexed: ListEntry = (state) => [indexed(state), indexed(state)];
const indexedAndLength: ListEntry = (state) => {
  const start = indexed(state);
  return [start, start + state.reader.uleb()];
};
const twoOffsets: ListEntry = (state) => [state.base + state.reader.uleb(), state.base + state.reader.uleb()];
const twoAddresses: ListEntry = (state) => [address(state), address(state)];
const addressAndLength: ListEntry = (state) => {
  const start = address(state);
  return [start, start + state.reader.uleb()];
};

/** By code: DW_RLE_end_of_list … DW_RLE_start_length. */
const RANGE_ENTRIES: readonly ListEntry[] = [
  ends,
  setIndexedBase,
  twoIndexed,
  indexedAndLength,
  twoOffsets,
  setBase,
  twoAddresses,
  addressAndLength,
];
/** By code: DW_LLE_end_of_list … DW_LLE_start_length, and GNU's view pair, which says nothing of places. */
const LOCATION_ENTRIES: readonly ListEntry[] = [
  ends,
  setIndexedBase,
  twoIndexed,
  indexedAndLength,
  twoOffsets,
  () => EVERYWHERE,
  setBase,
  twoAddresses,
  addressAndLength,
  ({ reader }) => {
    reader.skipLeb();
    reader.skipLeb();
    return undefined;
  },
];

/** By code: GNU's entries of DWARF 4 in files of split units. */
const SPLIT_LOCATION_ENTRIES: readonly ListEntry[] = [
  ends,
  setIndexedBase,
  twoIndexed,
  (state) => {
    const start = indexed(state);
    return [start, start + BigInt(state.reader.u32())];
  },
];

function readList(unit: Unit, section: string, offset: number, entries: readonly ListEntry[], add: Add): void {
  withPiece(unit, section, offset, (reader) => {
    const state: ListState = { unit, reader, base: unitBase(unit) };
    for (;;) {
      const code = reader.u8();
      const entry = entries[code];
      if (!entry) throw new FormatError(`list entry ${code} in ${section}`);
      const bounds = entry(state);
      if (bounds === 'end') return;
      if (!bounds) continue;
      add(bounds[0], bounds[1], locatedBy(reader, entries));
    }
  });
}

function locatedBy(reader: ByteReader, entries: readonly ListEntry[]): Uint8Array | undefined {
  if (entries === RANGE_ENTRIES) return undefined;
  return expression(reader, entries === LOCATION_ENTRIES ? reader.count() : reader.u16());
}
