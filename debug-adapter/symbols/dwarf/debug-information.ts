import { ByteReader, FormatError } from '../byte-reader.ts';
import type { FileImage } from '../file-image.ts';
import { type AbbreviationTable, readAbbreviations } from './abbreviations.ts';
import { AddressIndex } from './address-index.ts';
import type { UnitSizes } from './forms.ts';
import { type Entry, Unit } from './unit.ts';

/** Where a unit lies in .debug_info, and how it is to be read (DWARF 5, 7.5.1). */
export interface UnitHeader {
  /** Of its length field. */
  readonly offset: number;
  readonly size: number;
  /** From `offset` to the first entry. */
  readonly headerLength: number;
  readonly version: number;
  readonly sizes: UnitSizes;
  readonly abbreviations: number;
}

/** Names of sections to their contents; undefined when the file has none. @throws FormatError for unusable ones. */
export type SectionFinder = (name: string) => FileImage | undefined;

const UNIT_TYPES_WITH_CODE: readonly number[] = [1, 3];
const LARGEST_HEADER = 64;
/** Bytes of units that are kept with their lists of entries: some 20 times that in memory. */
const KEPT_BYTES = 8 << 20;

/** The debug information of a program, of which a unit is read when it is needed. */
export class DebugInformation {
  readonly find: SectionFinder;
  private knownHeaders: readonly UnitHeader[] | undefined;
  private knownIndex: AddressIndex | undefined;
  private readonly units = new Map<number, Unit>();
  private keptBytes = 0;
  private readonly tables = new Map<number, AbbreviationTable>();

  constructor(find: SectionFinder) {
    this.find = find;
  }

  /** @throws FormatError when there is no such section. */
  required(name: string): FileImage {
    const section = this.find(name);
    if (!section) throw new FormatError(`there is no ${name}`);
    return section;
  }

  /** All units with code, from a scan of the headers only. */
  get headers(): readonly UnitHeader[] {
    this.knownHeaders ??= this.readHeaders();
    return this.knownHeaders;
  }

  private readHeaders(): UnitHeader[] {
    const section = this.find('.debug_info');
    const headers: UnitHeader[] = [];
    if (!section || !this.find('.debug_abbrev')) return headers;
    for (let offset = 0; offset < section.size; ) {
      const piece = section.read(offset, Math.min(LARGEST_HEADER, section.size - offset));
      const reader = new ByteReader(piece);
      const { length, offsetSize } = reader.unitLength();
      const size = reader.at + length;
      if (offset + size > section.size) throw new FormatError(`a unit reaches beyond .debug_info`);
      const header = readHeader(reader, offset, size, offsetSize);
      if (header) headers.push(header);
      offset += size;
    }
    return headers;
  }

  unit(header: UnitHeader): Unit {
    const known = this.units.get(header.offset);
    if (known) {
      this.units.delete(header.offset);
      this.units.set(header.offset, known);
      return known;
    }
    const bytes = this.required('.debug_info').read(header.offset, header.size);
    const unit = new Unit(this, header, bytes, this.table(header));
    this.units.set(header.offset, unit);
    this.keptBytes += header.size;
    for (const [offset, { header: oldest }] of this.units) {
      if (this.keptBytes <= KEPT_BYTES || offset === header.offset) break;
      this.units.delete(offset);
      this.keptBytes -= oldest.size;
    }
    return unit;
  }

  /** Only the first entry of a unit, without keeping anything. */
  rootOf(header: UnitHeader): Entry {
    const known = this.units.get(header.offset);
    if (known) return known.root;
    const section = this.required('.debug_info');
    const table = this.table(header);
    for (let length = 1024; ; length *= 16) {
      const bytes = section.read(header.offset, Math.min(length, header.size));
      try {
        const { root } = new Unit(this, header, bytes, table);
        root.own(LAST_ATTRIBUTE);
        return root;
      } catch (error) {
        if (!(error instanceof FormatError) || length >= header.size) throw error;
      }
    }
  }

  private table({ abbreviations, sizes }: UnitHeader): AbbreviationTable {
    const known = this.tables.get(abbreviations);
    if (known) return known;
    const table = readAbbreviations(this.required('.debug_abbrev'), abbreviations, sizes);
    const [oldest] = this.tables.keys();
    if (this.tables.size >= KEPT_TABLES && oldest !== undefined) this.tables.delete(oldest);
    this.tables.set(abbreviations, table);
    return table;
  }

  /** The unit that an offset of .debug_info lies in. */
  private headerAt(offset: number): UnitHeader {
    const { headers } = this;
    let [low, high] = [0, headers.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((headers[middle] as UnitHeader).offset <= offset) low = middle + 1;
      else high = middle;
    }
    const header = headers[low - 1];
    if (!header || offset >= header.offset + header.size) {
      throw new FormatError(`no unit at 0x${offset.toString(16)} of .debug_info`);
    }
    return header;
  }

  entryAt(offset: number): Entry {
    return this.unit(this.headerAt(offset)).entryAt(offset);
  }

  /** What units cover. */
  get index(): AddressIndex {
    this.knownIndex ??= new AddressIndex(this);
    return this.knownIndex;
  }

  unitAt(address: bigint): Unit | undefined {
    const header = this.index.headerAt(address);
    return header && this.unit(header);
  }
}

/** No attribute has this number: to look for it means to read all of them. */
const LAST_ATTRIBUTE = -1;
const KEPT_TABLES = 64;

function readHeader(reader: ByteReader, offset: number, size: number, offsetSize: 4 | 8): UnitHeader | undefined {
  const version = reader.u16();
  if (version < 2 || version > 5) throw new FormatError(`DWARF version ${version} in .debug_info`);
  const type = version === 5 ? reader.u8() : 1;
  let addressSize = version === 5 ? reader.u8() : 0;
  const abbreviations = reader.offset(offsetSize);
  if (version < 5) addressSize = reader.u8();
  if (addressSize !== 4 && addressSize !== 8) throw new FormatError(`address size ${addressSize} in .debug_info`);
  if (!UNIT_TYPES_WITH_CODE.includes(type)) return undefined;
  return { offset, size, headerLength: reader.at, version, sizes: { offsetSize, addressSize }, abbreviations };
}
