import { ByteReader, FormatError } from './byte-reader.ts';

/** Sizes that the values of a unit depend on. */
export interface UnitSizes {
  readonly offsetSize: 4 | 8;
  readonly addressSize: number;
}

/** The sections that forms point into. */
export interface StringSections {
  readonly str: Uint8Array | undefined;
  readonly lineStr: Uint8Array | undefined;
}

/** A value as far as line tables need it: text, a number, or bytes that were skipped. */
export type FormValue = string | bigint | undefined;

type FormReader = (reader: ByteReader, sizes: UnitSizes, strings: StringSections) => FormValue;

const skipped =
  (length: (reader: ByteReader, sizes: UnitSizes) => number): FormReader =>
  (reader, sizes) => {
    reader.skip(length(reader, sizes));
    return undefined;
  };
const fixed =
  (size: number): FormReader =>
  (reader) =>
    reader.unsigned(size);
const text = (table: Uint8Array | undefined, at: number): string =>
  table === undefined ? '' : new ByteReader(table, at).string();

/** DW_FORM codes (DWARF 5, 7.5.6, with the GNU extensions that gcc may use). */
const FORMS: Readonly<Record<number, FormReader>> = {
  1: (reader, sizes) => reader.unsigned(sizes.addressSize),
  3: skipped((reader) => reader.u16()),
  4: skipped((reader) => reader.u32()),
  5: fixed(2),
  6: fixed(4),
  7: fixed(8),
  8: (reader) => reader.string(),
  9: skipped((reader) => reader.count()),
  10: skipped((reader) => reader.u8()),
  11: fixed(1),
  12: fixed(1),
  13: (reader) => reader.sleb(),
  14: (reader, sizes, strings) => text(strings.str, reader.offset(sizes.offsetSize)),
  15: (reader) => reader.uleb(),
  16: (reader, sizes) => BigInt(reader.offset(sizes.offsetSize)),
  17: fixed(1),
  18: fixed(2),
  19: fixed(4),
  20: fixed(8),
  21: (reader) => reader.uleb(),
  23: (reader, sizes) => BigInt(reader.offset(sizes.offsetSize)),
  24: skipped((reader) => reader.count()),
  25: () => 1n,
  26: skippedIndex((reader) => reader.uleb()),
  27: skippedIndex((reader) => reader.uleb()),
  28: skipped(() => 4),
  29: skipped((_reader, sizes) => sizes.offsetSize),
  30: skipped(() => 16),
  31: (reader, sizes, strings) => text(strings.lineStr, reader.offset(sizes.offsetSize)),
  32: skipped(() => 8),
  34: skippedIndex((reader) => reader.uleb()),
  35: skippedIndex((reader) => reader.uleb()),
  36: skipped(() => 8),
  37: skipped(() => 1),
  38: skipped(() => 2),
  39: skipped(() => 3),
  40: skipped(() => 4),
  41: skipped(() => 1),
  42: skipped(() => 2),
  43: skipped(() => 3),
  44: skipped(() => 4),
  7968: skipped((_reader, sizes) => sizes.offsetSize),
  7969: skipped((_reader, sizes) => sizes.offsetSize),
};

/** Indices into split-DWARF tables: read and not followed, since a linked program has its line tables without them. */
function skippedIndex(read: (reader: ByteReader) => unknown): FormReader {
  return (reader) => {
    read(reader);
    return undefined;
  };
}

const DW_FORM_INDIRECT = 0x16;
const DW_FORM_IMPLICIT_CONST = 0x21;

/** @param implicit the constant that the abbreviation holds for DW_FORM_implicit_const. */
export function readForm(
  reader: ByteReader,
  form: number,
  sizes: UnitSizes,
  strings: StringSections,
  implicit?: bigint,
): FormValue {
  if (form === DW_FORM_IMPLICIT_CONST) return implicit;
  if (form === DW_FORM_INDIRECT) return readForm(reader, reader.count(), sizes, strings);
  const read = FORMS[form];
  if (!read) throw new FormatError(`DWARF form 0x${form.toString(16)} is unknown`);
  return read(reader, sizes, strings);
}
