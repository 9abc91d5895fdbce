import { ByteReader, FormatError } from '../byte-reader.ts';
import { stringAt } from '../file-image.ts';
import type { Abbreviation, AbbreviationTable } from './abbreviations.ts';
import { AT, UNIT_TYPE } from './constants.ts';
import type { DebugInformation, UnitHeader } from './debug-information.ts';
import { type FormValue, readForm, skipForm } from './forms.ts';

/** Entries of a unit as parallel lists: an entry's descendants follow it, up to `ends`. */
interface Tree {
  /** Offset in the unit of an entry's values. */
  readonly values: readonly number[];
  readonly offsets: readonly number[];
  readonly abbreviations: readonly Abbreviation[];
  readonly parents: readonly number[];
  readonly ends: readonly number[];
  readonly byOffset: ReadonlyMap<number, number>;
}

/** Offsets of the unit's parts of other sections: attributes of its first entry. */
interface Bases {
  readonly strings: number;
  readonly addresses: number;
  readonly ranges: number;
  readonly locations: number;
}

const SPLIT_TYPES: readonly number[] = [UNIT_TYPE.splitCompile, UNIT_TYPE.splitType];
const NO_BASES: Bases = { strings: 0, addresses: 0, ranges: 0, locations: 0 };

/** One unit of .debug_info. Its entries are listed when anything but the first one is asked for. */
export class Unit {
  readonly info: DebugInformation;
  readonly header: UnitHeader;
  readonly bytes: Uint8Array;
  /** Of a split unit: what the program itself has of it. */
  readonly skeleton: Unit | undefined;
  private readonly table: AbbreviationTable;
  private knownTree: Tree | undefined;
  private knownBases: Bases | undefined;

  /** @param bytes from the unit's length field to its end. */
  constructor(
    info: DebugInformation,
    header: UnitHeader,
    bytes: Uint8Array,
    table: AbbreviationTable,
    skeleton?: Unit,
  ) {
    this.info = info;
    this.skeleton = skeleton;
    this.header = header;
    this.bytes = bytes;
    this.table = table;
  }

  get root(): Entry {
    return new Entry(this, 0);
  }

  /** How many entries there are. */
  get length(): number {
    return this.tree.offsets.length;
  }

  /** The entry at an offset as entries have it. @throws FormatError when none begins there. */
  entryAt(offset: number): Entry {
    const index = this.tree.byOffset.get(offset - this.header.offset);
    if (index === undefined) throw new FormatError(`no entry at 0x${offset.toString(16)} of .debug_info`);
    return new Entry(this, index);
  }

  entry(index: number): Entry {
    return new Entry(this, index);
  }

  abbreviation(index: number): Abbreviation {
    return (index === 0 ? this.first.abbreviation : this.tree.abbreviations[index]) as Abbreviation;
  }

  /** Where the values of an entry begin, from the unit's beginning. */
  valuesAt(index: number): number {
    return (index === 0 ? this.first.values : this.tree.values[index]) as number;
  }
  offsetOf(index: number): number {
    return this.header.offset + (index === 0 ? this.header.headerLength : (this.tree.offsets[index] as number));
  }
  parentOf(index: number): number {
    return this.tree.parents[index] as number;
  }
  endOf(index: number): number {
    return this.tree.ends[index] as number;
  }

  private get first(): { abbreviation: Abbreviation; values: number } {
    const reader = new ByteReader(this.bytes, this.header.headerLength);
    return { abbreviation: this.abbreviationOf(reader.count()), values: reader.at };
  }

  private abbreviationOf(code: number): Abbreviation {
    const abbreviation = this.table.get(code);
    if (!abbreviation)
      throw new FormatError(`abbreviation ${code} of unit 0x${this.header.offset.toString(16)} is missing`);
    return abbreviation;
  }

  private get tree(): Tree {
    this.knownTree ??= this.readTree();
    return this.knownTree;
  }

  private readTree(): Tree {
    const tree = { values: [], offsets: [], parents: [], ends: [] } as Record<
      'values' | 'offsets' | 'parents' | 'ends',
      number[]
    >;
    const abbreviations: Abbreviation[] = [];
    const byOffset = new Map<number, number>();
    const reader = new ByteReader(this.bytes, this.header.headerLength);
    const open: number[] = [];
    while (!reader.done) {
      const offset = reader.at;
      const code = reader.count();
      if (code === 0) {
        const closed = open.pop();
        if (closed !== undefined) tree.ends[closed] = tree.offsets.length;
        if (open.length === 0) break;
        continue;
      }
      const abbreviation = this.abbreviationOf(code);
      const index = tree.offsets.length;
      byOffset.set(offset, index);
      tree.offsets.push(offset);
      tree.values.push(reader.at);
      tree.parents.push(open.at(-1) ?? -1);
      tree.ends.push(index + 1);
      abbreviations.push(abbreviation);
      this.skipValues(reader, abbreviation);
      if (abbreviation.hasChildren) open.push(index);
      else if (open.length === 0) break;
    }
    for (const index of open) tree.ends[index] = tree.offsets.length;
    return { ...tree, abbreviations, byOffset };
  }

  private skipValues(reader: ByteReader, { attributes, size }: Abbreviation): void {
    if (size !== undefined) reader.skip(size);
    else for (const { form } of attributes) skipForm(reader, form, this.header.sizes);
  }

  /** An entry's own attribute. */
  value(index: number, name: number): FormValue | undefined {
    const { attributes } = this.abbreviation(index);
    if (!attributes.some((attribute) => attribute.name === name)) return undefined;
    const reader = new ByteReader(this.bytes, this.valuesAt(index));
    for (const { name: found, form, implicit } of attributes) {
      if (found === name) return readForm(reader, form, this.header.sizes, implicit);
      skipForm(reader, form, this.header.sizes);
    }
    return undefined;
  }

  get bases(): Bases {
    if (this.knownBases) return this.knownBases;
    // The first entry's own strings and addresses may need the bases that stand behind them.
    this.knownBases = { ...NO_BASES, strings: this.isSplit ? this.behindHeader(8) : 0 };
    const { skeleton } = this;
    const base = (unit: Unit, name: number, otherwise: number): number => {
      const value = unit.value(0, name);
      return typeof value?.raw === 'bigint' ? Number(value.raw) : otherwise;
    };
    // A split unit has its lists from the first one of its file's sections on.
    const lists = this.isSplit ? this.behindHeader(12) : 0;
    const home = skeleton ?? this;
    const oldRanges = skeleton ? base(skeleton, AT.gnuRangesBase, 0) : 0;
    this.knownBases = {
      strings: base(this, AT.stringOffsetsBase, this.knownBases.strings),
      addresses: base(home, AT.addressBase, base(home, AT.gnuAddressBase, 0)),
      ranges: base(this, AT.rangeListsBase, this.header.version < 5 ? oldRanges : lists),
      locations: base(this, AT.locationListsBase, lists),
    };
    return this.knownBases;
  }

  private get isSplit(): boolean {
    return SPLIT_TYPES.includes(this.header.type);
  }

  /** Behind the header of a section of a split unit's file. @param size with 32-bit offsets */
  private behindHeader(size: number): number {
    return this.header.sizes.offsetSize === 8 ? size + 8 : size;
  }

  /** Entry `index` of a table of numbers of `size` bytes. */
  private tableEntry(section: string, base: number, index: bigint, size: number): bigint {
    const bytes = this.info.required(section).read(base + Number(index) * size, size);
    return new ByteReader(bytes).unsigned(size);
  }

  indexedAddress(index: bigint): bigint {
    return this.tableEntry('.debug_addr', this.bases.addresses, index, this.header.sizes.addressSize);
  }

  text({ class: formClass, raw }: FormValue): string | undefined {
    const { info } = this;
    if (typeof raw === 'string') return raw;
    if (typeof raw !== 'bigint') return undefined;
    if (formClass === 'stringOffset') return stringAt(info.required('.debug_str'), Number(raw));
    if (formClass === 'lineStringOffset') return stringAt(info.required('.debug_line_str'), Number(raw));
    if (formClass === 'sharedStringOffset') return stringAt(info.shared.required('.debug_str'), Number(raw));
    if (formClass !== 'stringIndex') return undefined;
    const offset = this.tableEntry('.debug_str_offsets', this.bases.strings, raw, this.header.sizes.offsetSize);
    return stringAt(info.required('.debug_str'), Number(offset));
  }

  address({ class: formClass, raw }: FormValue): bigint | undefined {
    if (typeof raw !== 'bigint') return undefined;
    if (formClass === 'address') return raw;
    return formClass === 'addressIndex' ? this.indexedAddress(raw) : undefined;
  }

  /** The entry that an attribute refers to, in this unit or another. */
  referred({ class: formClass, raw }: FormValue): Entry | undefined {
    if (typeof raw !== 'bigint') return undefined;
    if (formClass === 'unitReference') return this.entryAt(this.header.offset + Number(raw));
    const { info } = this;
    if (formClass === 'reference') return info.entryAt(info.base + Number(raw));
    if (formClass === 'signature') return info.typeOf(raw);
    return formClass === 'sharedReference' ? info.shared.entryAt(info.shared.base + Number(raw)) : undefined;
  }
}

/** Chains of abstract origins and specifications are no longer than this. */
const LONGEST_CHAIN = 8;

/** A debugging information entry. */
export class Entry {
  readonly unit: Unit;
  readonly index: number;

  constructor(unit: Unit, index: number) {
    this.unit = unit;
    this.index = index;
  }

  get tag(): number {
    return this.unit.abbreviation(this.index).tag;
  }
  /** What identifies an entry: its offset, which no other section of the program's files has. */
  get offset(): number {
    return this.unit.offsetOf(this.index);
  }
  get parent(): Entry | undefined {
    const parent = this.unit.parentOf(this.index);
    return parent < 0 ? undefined : new Entry(this.unit, parent);
  }
  get children(): Entry[] {
    const found: Entry[] = [];
    const end = this.unit.endOf(this.index);
    for (let index = this.index + 1; index < end; index = this.unit.endOf(index))
      found.push(new Entry(this.unit, index));
    return found;
  }

  /** An attribute of the entry itself. */
  own(name: number): FormValue | undefined {
    return this.unit.value(this.index, name);
  }

  /** The entries that this one takes attributes from: itself, its abstract origin, what it specifies. */
  private get chain(): Entry[] {
    const chain: Entry[] = [this];
    for (const entry of chain) {
      if (chain.length > LONGEST_CHAIN) break;
      const origin = entry.ownReference(AT.abstractOrigin) ?? entry.ownReference(AT.specification);
      if (origin) chain.push(origin);
    }
    return chain;
  }

  private ownReference(name: number): Entry | undefined {
    const value = this.own(name);
    return value && this.unit.referred(value);
  }

  /** The first entry of the chain that has an attribute, and the attribute. */
  find(name: number): { readonly entry: Entry; readonly value: FormValue } | undefined {
    const own = this.own(name);
    if (own) return { entry: this, value: own };
    for (const entry of this.chain.slice(1)) {
      const value = entry.own(name);
      if (value) return { entry, value };
    }
    return undefined;
  }

  text(name: number): string | undefined {
    const found = this.find(name);
    return found?.entry.unit.text(found.value);
  }
  get name(): string | undefined {
    return this.text(AT.name);
  }
  /** A constant as its form tells it: those of fixed size have no sign. */
  constant(name: number): bigint | undefined {
    const value = this.find(name)?.value;
    return value?.class === 'constant' && typeof value.raw === 'bigint' ? value.raw : undefined;
  }
  /** A constant whose fixed size may hold a sign. */
  signedConstant(name: number): bigint | undefined {
    const value = this.find(name)?.value;
    if (value?.class !== 'constant' || typeof value.raw !== 'bigint') return undefined;
    return value.size === undefined ? value.raw : BigInt.asIntN(8 * value.size, value.raw);
  }
  number(name: number): number | undefined {
    const value = this.constant(name);
    return value === undefined ? undefined : Number(value);
  }
  flag(name: number): boolean {
    const raw = this.find(name)?.value.raw;
    return typeof raw === 'bigint' && raw !== 0n;
  }
  /** @throws FormatError when it leads nowhere. */
  reference(name: number): Entry | undefined {
    const found = this.find(name);
    return found?.entry.unit.referred(found.value);
  }
  /** The entry of which this is an instance or a definition; itself when there is none. */
  get origin(): Entry {
    return this.chain.at(-1) ?? this;
  }
}
