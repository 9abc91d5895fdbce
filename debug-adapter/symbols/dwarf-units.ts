import { ByteReader, FormatError } from './byte-reader.ts';
import { type FormValue, readForm, type StringSections, type UnitSizes } from './dwarf-forms.ts';

/** What a compilation unit says of itself: all that line tables need of .debug_info. */
export interface CompilationUnit {
  readonly name: string;
  readonly directory: string;
  /** DW_LANG code. */
  readonly language: number;
  /** Offset of its line program in .debug_line; undefined when it has none. */
  readonly lineOffset: number | undefined;
}

/** The DW_LANG code of assembly language: its labels have no prologue. */
export const LANGUAGE_ASSEMBLER = 0x8001;

const ATTRIBUTE = { name: 0x03, lineOffset: 0x10, language: 0x13, directory: 0x1b } as const;
const TAG_COMPILE_UNIT = 0x11;
const UNIT_TYPE_COMPILE = 1;
const UNIT_TYPE_PARTIAL = 3;

/** Reads the first entry of every unit of .debug_info (DWARF 2 to 5). */
export function readCompilationUnits(
  info: Uint8Array,
  abbreviations: Uint8Array,
  strings: StringSections,
): CompilationUnit[] {
  const units: CompilationUnit[] = [];
  const reader = new ByteReader(info);
  while (!reader.done) {
    const { length, offsetSize } = reader.unitLength();
    const end = reader.at + length;
    const unit = readUnit(new ByteReader(info, reader.at, end), offsetSize, abbreviations, strings);
    if (unit) units.push(unit);
    reader.at = end;
  }
  return units;
}

function readUnit(
  reader: ByteReader,
  offsetSize: 4 | 8,
  abbreviations: Uint8Array,
  strings: StringSections,
): CompilationUnit | undefined {
  const version = reader.u16();
  if (version < 2 || version > 5) throw new FormatError(`DWARF version ${version} in .debug_info`);
  let addressSize = 0;
  let abbreviationOffset = 0;
  if (version === 5) {
    const type = reader.u8();
    addressSize = reader.u8();
    abbreviationOffset = reader.offset(offsetSize);
    if (type !== UNIT_TYPE_COMPILE && type !== UNIT_TYPE_PARTIAL) return undefined;
  } else {
    abbreviationOffset = reader.offset(offsetSize);
    addressSize = reader.u8();
  }
  const code = reader.count();
  const abbreviation = findAbbreviation(new ByteReader(abbreviations, abbreviationOffset), code);
  if (abbreviation?.tag !== TAG_COMPILE_UNIT) return undefined;
  const values = readAttributes(reader, abbreviation, { offsetSize, addressSize }, strings);
  const textOf = (attribute: number): string => {
    const value = values.get(attribute);
    return typeof value === 'string' ? value : '';
  };
  const line = values.get(ATTRIBUTE.lineOffset);
  const language = values.get(ATTRIBUTE.language);
  return {
    name: textOf(ATTRIBUTE.name),
    directory: textOf(ATTRIBUTE.directory),
    language: typeof language === 'bigint' ? Number(language) : 0,
    lineOffset: typeof line === 'bigint' ? Number(line) : undefined,
  };
}

interface Abbreviation {
  readonly tag: number;
  readonly attributes: readonly { readonly name: number; readonly form: number; readonly implicit?: bigint }[];
}

function findAbbreviation(reader: ByteReader, wanted: number): Abbreviation | undefined {
  for (;;) {
    const code = reader.count();
    if (code === 0) return undefined;
    const tag = reader.count();
    reader.skip(1);
    const attributes: { name: number; form: number; implicit?: bigint }[] = [];
    for (;;) {
      const name = reader.count();
      const form = reader.count();
      const implicit = form === 0x21 ? { implicit: reader.sleb() } : {};
      if (name === 0 && form === 0) break;
      attributes.push({ name, form, ...implicit });
    }
    if (code === wanted) return { tag, attributes };
  }
}

function readAttributes(
  reader: ByteReader,
  abbreviation: Abbreviation,
  sizes: UnitSizes,
  strings: StringSections,
): Map<number, FormValue> {
  const values = new Map<number, FormValue>();
  for (const { name, form, implicit } of abbreviation.attributes) {
    values.set(name, readForm(reader, form, sizes, strings, implicit));
  }
  return values;
}
