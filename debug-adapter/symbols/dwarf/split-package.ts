/** Package files (DWARF 5, 7.3.5; GNU's forerunner for DWARF 4): the files of all split units of a program in one. */

import { ByteReader, FormatError } from '../byte-reader.ts';
import { partOf } from '../file-image.ts';
import type { SectionFinder } from './debug-information.ts';

/** DW_SECT: which section a column is about, in version 5 and in GNU's version 2. */
const SECTIONS: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  2: {
    1: '.debug_info.dwo',
    2: '.debug_types.dwo',
    3: '.debug_abbrev.dwo',
    4: '.debug_line.dwo',
    5: '.debug_loc.dwo',
    6: '.debug_str_offsets.dwo',
  },
  5: {
    1: '.debug_info.dwo',
    3: '.debug_abbrev.dwo',
    4: '.debug_line.dwo',
    5: '.debug_loclists.dwo',
    6: '.debug_str_offsets.dwo',
    8: '.debug_rnglists.dwo',
  },
};

interface Part {
  readonly offset: number;
  readonly size: number;
}
/** By the identifier of a unit: its part of each section. */
type Index = ReadonlyMap<bigint, ReadonlyMap<string, Part>>;

/** What finds the sections of a unit; undefined for units that are not in the package. */
type UnitFinder = (identifier: bigint) => SectionFinder | undefined;

export interface SplitPackage {
  /** By the identifier that a skeleton unit has, too. */
  readonly unit: UnitFinder;
  /** Of a type unit, by its signature. */
  readonly type: UnitFinder;
}

export const splitPackage = (find: SectionFinder): SplitPackage => ({
  unit: unitFinder(find, '.debug_cu_index'),
  type: unitFinder(find, '.debug_tu_index'),
});

function unitFinder(find: SectionFinder, name: string): UnitFinder {
  const section = find(name);
  const index: Index = section ? readIndex(new ByteReader(section.read(0, section.size))) : new Map();
  return (identifier) => {
    const parts = index.get(identifier);
    if (!parts) return undefined;
    return (name) => {
      const whole = find(name);
      const part = parts.get(name);
      // Strings are common to all units; other sections that have no part are not this unit's.
      if (!part) return name === '.debug_str.dwo' ? whole : undefined;
      return whole && partOf(whole, part.offset, part.size);
    };
  };
}

/** A hash table of identifiers, the rows that they have, and offsets and sizes by row and column. */
function readIndex(reader: ByteReader): Index {
  const version = reader.u16();
  reader.skip(2);
  const names = SECTIONS[version];
  if (!names) throw new FormatError(`version ${version} of an index of split units`);
  const [columns, rows, slots] = [reader.u32(), reader.u32(), reader.u32()];
  const identifiers = numbers(slots, () => reader.u64());
  const rowOf = numbers(slots, () => reader.u32());
  const columnNames = numbers(columns, () => names[reader.u32()] ?? '');
  const offsets = numbers(rows * columns, () => reader.u32());
  const sizes = numbers(rows * columns, () => reader.u32());
  const index = new Map<bigint, ReadonlyMap<string, Part>>();
  for (const [slot, row] of rowOf.entries()) {
    if (row === 0) continue;
    const first = (row - 1) * columns;
    const part = (column: number): Part => ({ offset: offsets[first + column] ?? 0, size: sizes[first + column] ?? 0 });
    index.set(identifiers[slot] ?? 0n, new Map(columnNames.map((name, column) => [name, part(column)])));
  }
  return index;
}

/** A damaged count ends at the end of the data. */
function numbers<T>(count: number, read: () => T): T[] {
  const list: T[] = [];
  for (let index = 0; index < count; index++) list.push(read());
  return list;
}
