import { ByteReader, FormatError } from '../byte-reader.ts';
import type { FileImage } from '../file-image.ts';
import { DW_FORM_IMPLICIT_CONST, fixedSize, type UnitSizes } from './forms.ts';

export interface AttributeSpecification {
  readonly name: number;
  readonly form: number;
  /** The value, for DW_FORM_implicit_const. */
  readonly implicit: bigint | undefined;
}

/** What entries of one abbreviation code look like (DWARF 5, 7.5.3). */
export interface Abbreviation {
  readonly tag: number;
  readonly hasChildren: boolean;
  readonly attributes: readonly AttributeSpecification[];
  /** Bytes of all values together; undefined when they differ from entry to entry. */
  readonly size: number | undefined;
}

export type AbbreviationTable = ReadonlyMap<number, Abbreviation>;

/** A table that ends in this many bytes is complete; larger ones are read again with more. */
const FIRST_PIECE = 0x4000;

/** Reads the table at an offset of .debug_abbrev. */
export function readAbbreviations(section: FileImage, offset: number, sizes: UnitSizes): AbbreviationTable {
  for (let length = FIRST_PIECE; ; length *= 8) {
    const available = Math.max(section.size - offset, 0);
    try {
      return parseTable(new ByteReader(section.read(offset, Math.min(length, available))), sizes);
    } catch (error) {
      if (!(error instanceof FormatError) || length >= available) throw error;
    }
  }
}

function parseTable(reader: ByteReader, sizes: UnitSizes): AbbreviationTable {
  const table = new Map<number, Abbreviation>();
  for (let code = reader.count(); code !== 0; code = reader.count()) {
    const tag = reader.count();
    const hasChildren = reader.u8() !== 0;
    const attributes: AttributeSpecification[] = [];
    for (;;) {
      const name = reader.count();
      const form = reader.count();
      const implicit = form === DW_FORM_IMPLICIT_CONST ? reader.sleb() : undefined;
      if (name === 0 && form === 0) break;
      attributes.push({ name, form, implicit });
    }
    table.set(code, { tag, hasChildren, attributes, size: sizeOfAll(attributes, sizes) });
  }
  return table;
}

function sizeOfAll(attributes: readonly AttributeSpecification[], sizes: UnitSizes): number | undefined {
  let sum = 0;
  for (const { form } of attributes) {
    const size = fixedSize(form, sizes);
    if (size === undefined) return undefined;
    sum += size;
  }
  return sum;
}
