import { ByteReader, FormatError } from '../byte-reader.ts';
import type { FileImage } from '../file-image.ts';
import { type AbbreviationTable, readAbbreviations } from './abbreviations.ts';
import { AddressIndex } from './address-index.ts';
import { AT, UNIT_TYPE } from './constants.ts';
import type { UnitSizes } from './forms.ts';
import { type Entry, Unit } from './unit.ts';

/** Where a unit lies, and how it is to be read (DWARF 5, 7.5.1). */
export interface UnitHeader {
  /** .debug_info, or .debug_types. */
  readonly section: string;
  /** Of its length field in the section. */
  readonly place: number;
  /** The same among all sections of all files that belong to a program: what entries are told apart by. */
  readonly offset: number;
  readonly size: number;
  /** From `offset` to the first entry. */
  readonly headerLength: number;
  readonly version: number;
  readonly sizes: UnitSizes;
  readonly abbreviations: number;
  /** DW_UT. */
  readonly type: number;
  /** Of a type unit; of a unit that is split, the identifier that both parts have. */
  readonly signature: bigint | undefined;
  /** Of a type unit: where its type is, from the unit's beginning. */
  readonly typeOffset: number | undefined;
}

/** Names of sections to their contents; undefined when the file has none. @throws FormatError for unusable ones. */
export type SectionFinder = (name: string) => FileImage | undefined;

const TYPE_UNITS: readonly number[] = [UNIT_TYPE.type, UNIT_TYPE.splitType];
const SPLIT_UNITS: readonly number[] = [UNIT_TYPE.skeleton, UNIT_TYPE.splitCompile];
const LARGEST_HEADER = 64;
/** Bytes of units that are kept with their lists of entries: some 20 times that in memory. */
const KEPT_BYTES = 8 << 20;

/** What a program's debug information lies in beside its own sections. */
export interface OtherFiles {
  /** The sections of a split unit's file; undefined when the file is missing. */
  split(name: string, identifier: bigint): SectionFinder | undefined;
  /** The sections of a type unit that is in a package of split units; undefined when it is in none. */
  packedType(signature: bigint): SectionFinder | undefined;
  /** The sections of the file that several programs share (dwz). */
  readonly shared: SectionFinder | undefined;
}
const NO_OTHER_FILES: OtherFiles = { split: () => undefined, packedType: () => undefined, shared: undefined };

/**
 * Offsets of .debug_types begin here, those of split units' files at multiples of this, then those of a package's type
 * units, and the shared file's last.
 */
const TYPES_BASE = 2 ** 35;
const FILE_BASE = 2 ** 36;
const PACKED_TYPES_BASE = 2 ** 51;
const SHARED_BASE = 2 ** 52;

/** The debug information of a program, of which a unit is read when it is needed. */
export class DebugInformation {
  readonly find: SectionFinder;
  /** What is added to offsets of .debug_info, so that they differ from those of other files. */
  readonly base: number;
  /** Of a split unit's file: what stays in the program, which has the addresses. */
  readonly skeleton: Unit | undefined;
  private readonly others: OtherFiles;
  private knownHeaders: Headers | undefined;
  private knownTypes: ReadonlyMap<bigint, UnitHeader> | undefined;
  private knownIndex: AddressIndex | undefined;
  private knownShared: DebugInformation | undefined;
  private knownPackedTypes: PackedTypes | undefined;
  /** Of a split unit's file: type units that are in no file but the package of all of them. */
  packedTypes: PackedTypes | undefined;
  private readonly splits = new Map<number, SplitUnit | undefined>();
  private readonly units = new Map<number, Unit>();
  private keptBytes = 0;
  private readonly tables = new Map<number, AbbreviationTable>();
  /** Names of files of split units that are missing. */
  readonly missing = new Set<string>();

  constructor(find: SectionFinder, others: OtherFiles = NO_OTHER_FILES, base = 0, skeleton?: Unit) {
    this.find = find;
    this.skeleton = skeleton;
    this.others = others;
    this.base = base;
  }

  /** @throws FormatError when there is no such section. */
  required(name: string): FileImage {
    const section = this.find(name);
    if (!section) throw new FormatError(`there is no ${name}`);
    return section;
  }

  /** All units that may have code, from a scan of the headers only. */
  get headers(): readonly UnitHeader[] {
    return this.allHeaders.code;
  }

  private get allHeaders(): Headers {
    this.knownHeaders ??= this.readHeaders('.debug_info', this.base);
    return this.knownHeaders;
  }

  private readHeaders(name: string, base: number): Headers {
    const section = this.find(name);
    const headers = { code: [] as UnitHeader[], types: [] as UnitHeader[] };
    if (!section || !this.find('.debug_abbrev')) return headers;
    for (let place = 0; place < section.size; ) {
      const reader = new ByteReader(section.read(place, Math.min(LARGEST_HEADER, section.size - place)));
      const { length, offsetSize } = reader.unitLength();
      const size = reader.at + length;
      if (place + size > section.size) throw new FormatError(`a unit reaches beyond ${name}`);
      const header = readHeader(reader, { section: name, place, offset: base + place, size }, offsetSize);
      (TYPE_UNITS.includes(header.type) ? headers.types : headers.code).push(header);
      place += size;
    }
    return headers;
  }

  /** The entry of a type that a type unit describes. @throws FormatError when there is none */
  typeOf(signature: bigint): Entry {
    this.knownTypes ??= new Map(
      [...this.allHeaders.types, ...this.readHeaders('.debug_types', this.base + TYPES_BASE).types].map((header) => [
        header.signature ?? 0n,
        header,
      ]),
    );
    const header = this.knownTypes.get(signature);
    const packed = header ? undefined : this.packedTypes?.find(signature);
    // A damaged index leads to other units.
    if (packed && packed !== this) return packed.typeOf(signature);
    if (header?.typeOffset === undefined) {
      throw new FormatError(`there is no type unit 0x${signature.toString(16)}`);
    }
    return this.unit(header).entryAt(header.offset + header.typeOffset);
  }

  /** The file that this one shares with others. @throws FormatError when it is missing */
  get shared(): DebugInformation {
    const { shared } = this.others;
    if (!shared) throw new FormatError('the file that it shares with other programs is missing');
    this.knownShared ??= new DebugInformation(shared, NO_OTHER_FILES, SHARED_BASE);
    return this.knownShared;
  }

  /** A unit with its entries: of a skeleton unit, the split unit that it stands for, if that is there. */
  unit(header: UnitHeader): Unit {
    const split = this.splitOf(header);
    return split ? split.info.readUnit(split.header) : this.readUnit(header);
  }

  private splitOf(header: UnitHeader): SplitUnit | undefined {
    if (this.skeleton || (header.type !== UNIT_TYPE.skeleton && header.version >= 5)) return undefined;
    const { offset } = header;
    if (this.splits.has(offset)) return this.splits.get(offset);
    this.splits.set(offset, undefined);
    const split = this.readSplit(header);
    if (split) this.splits.set(offset, split);
    return split;
  }

  private readSplit(header: UnitHeader): SplitUnit | undefined {
    const skeleton = this.rootOf(header);
    const identity = splitIdentity(skeleton);
    if (!identity) return undefined;
    const find = this.others.split(identity.name, identity.identifier);
    if (!find) {
      this.missing.add(identity.name);
      return undefined;
    }
    const own = sectionsOfSplit(this.find, find);
    const info = new DebugInformation(own, NO_OTHER_FILES, FILE_BASE * (this.splits.size + 1), skeleton.unit);
    this.knownPackedTypes ??= new PackedTypes(this.find, this.others.packedType, skeleton.unit);
    info.packedTypes = this.knownPackedTypes;
    const whole = info.headers.find(
      ({ type, signature }) => type !== UNIT_TYPE.splitCompile || signature === identity.identifier,
    );
    const identifier = whole && (whole.signature ?? constantOf(info.readUnit(whole).root, AT.gnuSplitIdentifier));
    if (!whole || identifier !== identity.identifier) {
      throw new FormatError(`${identity.name} is of another build of the program`);
    }
    return { info, header: whole };
  }

  /** All split units that are there, with what else is in their files. */
  get splitUnits(): readonly SplitUnit[] {
    return this.headers.flatMap((header) => this.splitOf(header) ?? []);
  }

  private readUnit(header: UnitHeader): Unit {
    const known = this.units.get(header.offset);
    if (known) {
      this.units.delete(header.offset);
      this.units.set(header.offset, known);
      return known;
    }
    const bytes = this.required(header.section).read(header.place, header.size);
    const unit = new Unit(this, header, bytes, this.table(header), this.skeleton);
    this.units.set(header.offset, unit);
    this.keptBytes += header.size;
    for (const [offset, { header: oldest }] of this.units) {
      if (this.keptBytes <= KEPT_BYTES || offset === header.offset) break;
      this.units.delete(offset);
      this.keptBytes -= oldest.size;
    }
    return unit;
  }

  /** Only the first entry of a unit, of a skeleton its own one, without keeping anything. */
  rootOf(header: UnitHeader): Entry {
    const known = this.units.get(header.offset);
    if (known) return known.root;
    const section = this.required(header.section);
    const table = this.table(header);
    for (let length = 1024; ; length *= 16) {
      const bytes = section.read(header.place, Math.min(length, header.size));
      try {
        const { root } = new Unit(this, header, bytes, table, this.skeleton);
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

  /** @param offset with the base of this file */
  entryAt(offset: number): Entry {
    const split = offset >= FILE_BASE && this.base === 0 ? this.splitAt(offset) : this;
    return split.readUnit(split.headerAt(offset)).entryAt(offset);
  }

  private splitAt(offset: number): DebugInformation {
    if (offset >= SHARED_BASE) return this.shared;
    const base = FILE_BASE * Math.floor(offset / FILE_BASE);
    const found = [...this.splits.values()].find((split) => split?.info.base === base);
    if (!found) throw new FormatError(`no file has the entry 0x${offset.toString(16)}`);
    return found.info;
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

function readHeader(
  reader: ByteReader,
  where: Pick<UnitHeader, 'section' | 'place' | 'offset' | 'size'>,
  offsetSize: 4 | 8,
): UnitHeader {
  const { section } = where;
  const version = reader.u16();
  if (version < 2 || version > 5) throw new FormatError(`DWARF version ${version} in ${section}`);
  let type: number = section === '.debug_types' ? UNIT_TYPE.type : UNIT_TYPE.compile;
  if (version === 5) type = reader.u8();
  let addressSize = version === 5 ? reader.u8() : 0;
  const abbreviations = reader.offset(offsetSize);
  if (version < 5) addressSize = reader.u8();
  if (addressSize !== 4 && addressSize !== 8) throw new FormatError(`address size ${addressSize} in ${section}`);
  const isType = TYPE_UNITS.includes(type);
  const signature = isType || SPLIT_UNITS.includes(type) ? reader.u64() : undefined;
  const typeOffset = isType ? reader.offset(offsetSize) : undefined;
  const sizes = { offsetSize, addressSize };
  return { ...where, headerLength: reader.at, version, sizes, abbreviations, type, signature, typeOffset };
}

interface Headers {
  readonly code: readonly UnitHeader[];
  readonly types: readonly UnitHeader[];
}

/** A unit whose entries are in a file of their own (DWARF 5, 7.3.2; GNU's forerunner for DWARF 4). */
export interface SplitUnit {
  readonly info: DebugInformation;
  readonly header: UnitHeader;
}

/** Sections that the file of a split unit does not have of its own. */
const OF_THE_PROGRAM: readonly string[] = ['.debug_addr', '.debug_ranges'];

const sectionsOfSplit =
  (program: SectionFinder, split: SectionFinder): SectionFinder =>
  (name) =>
    OF_THE_PROGRAM.includes(name) ? program(name) : split(`${name}.dwo`);

/** The type units of a package, each of which has parts of sections of its own. */
class PackedTypes {
  private readonly program: SectionFinder;
  private readonly packed: OtherFiles['packedType'];
  private readonly skeleton: Unit;
  private readonly known = new Map<bigint, DebugInformation>();
  private nextBase = PACKED_TYPES_BASE;

  /** @param skeleton of any unit: all have the program's addresses */
  constructor(program: SectionFinder, packed: OtherFiles['packedType'], skeleton: Unit) {
    this.program = program;
    this.packed = packed;
    this.skeleton = skeleton;
  }

  find(signature: bigint): DebugInformation | undefined {
    const known = this.known.get(signature);
    if (known) return known;
    const find = this.packed(signature);
    if (!find) return undefined;
    const info = new DebugInformation(
      sectionsOfSplit(this.program, find),
      NO_OTHER_FILES,
      this.nextBase,
      this.skeleton,
    );
    info.packedTypes = this;
    // Of DWARF 4 in a section of its own, which begins TYPES_BASE further on.
    this.nextBase += (info.find('.debug_info') ?? info.find('.debug_types'))?.size ?? 0;
    this.known.set(signature, info);
    return info;
  }
}

const constantOf = (entry: Entry, name: number): bigint | undefined => {
  const raw = entry.own(name)?.raw;
  return typeof raw === 'bigint' ? raw : undefined;
};

/** Which file has a unit's entries, and its identifier; undefined when the unit has them itself. */
export function splitIdentity(root: Entry): { readonly name: string; readonly identifier: bigint } | undefined {
  const name = root.text(AT.splitName) ?? root.text(AT.gnuSplitName);
  if (name === undefined) return undefined;
  return { name, identifier: root.unit.header.signature ?? constantOf(root, AT.gnuSplitIdentifier) ?? 0n };
}
