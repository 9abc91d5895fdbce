import type { ByteReader } from '../byte-reader.ts';
import { FormatError } from '../byte-reader.ts';

/** Sizes that the values of a unit depend on. */
export interface UnitSizes {
  readonly offsetSize: 4 | 8;
  readonly addressSize: number;
}

/** What a value is, as far as reading it does not tell (DWARF 5, 7.5.5): numbers into tables are not followed here. */
export type FormClass =
  | 'address'
  | 'addressIndex'
  | 'block'
  | 'constant'
  | 'flag'
  | 'listIndex'
  | 'offset'
  | 'reference'
  | 'unitReference'
  | 'string'
  | 'stringOffset'
  | 'lineStringOffset'
  | 'stringIndex'
  /** Of a type unit. */
  | 'signature'
  /** In the file that several programs share. */
  | 'sharedReference'
  | 'sharedStringOffset';

export type RawValue = bigint | string | Uint8Array;

export interface FormValue {
  readonly class: FormClass;
  readonly raw: RawValue;
  /** Bytes of a constant of fixed size, whose sign the attribute tells; undefined for others. */
  readonly size?: number;
}

/** How a value lies in memory: so many bytes, or one of the forms of variable length. */
type Encoding =
  | number
  | 'address'
  | 'offset'
  | 'uleb'
  | 'sleb'
  | 'text'
  | 'nothing'
  | 'block'
  | 'block1'
  | 'block2'
  | 'block4';

/** DW_FORM codes (DWARF 5, 7.5.6, with the GNU extensions that gcc may use). */
const FORMS: Readonly<Record<number, readonly [Encoding, FormClass]>> = {
  1: ['address', 'address'],
  3: ['block2', 'block'],
  4: ['block4', 'block'],
  5: [2, 'constant'],
  6: [4, 'constant'],
  7: [8, 'constant'],
  8: ['text', 'string'],
  9: ['block', 'block'],
  10: ['block1', 'block'],
  11: [1, 'constant'],
  12: [1, 'flag'],
  13: ['sleb', 'constant'],
  14: ['offset', 'stringOffset'],
  15: ['uleb', 'constant'],
  16: ['offset', 'reference'],
  17: [1, 'unitReference'],
  18: [2, 'unitReference'],
  19: [4, 'unitReference'],
  20: [8, 'unitReference'],
  21: ['uleb', 'unitReference'],
  23: ['offset', 'offset'],
  24: ['block', 'block'],
  25: ['nothing', 'flag'],
  26: ['uleb', 'stringIndex'],
  27: ['uleb', 'addressIndex'],
  28: [4, 'sharedReference'],
  29: ['offset', 'sharedStringOffset'],
  30: [16, 'block'],
  31: ['offset', 'lineStringOffset'],
  32: [8, 'signature'],
  34: ['uleb', 'listIndex'],
  35: ['uleb', 'listIndex'],
  36: [8, 'sharedReference'],
  37: [1, 'stringIndex'],
  38: [2, 'stringIndex'],
  39: [3, 'stringIndex'],
  40: [4, 'stringIndex'],
  41: [1, 'addressIndex'],
  42: [2, 'addressIndex'],
  43: [3, 'addressIndex'],
  44: [4, 'addressIndex'],
  7937: ['uleb', 'addressIndex'],
  7938: ['uleb', 'stringIndex'],
  7968: ['offset', 'sharedReference'],
  7969: ['offset', 'sharedStringOffset'],
};

const DW_FORM_INDIRECT = 0x16;
export const DW_FORM_IMPLICIT_CONST = 0x21;

function formOf(form: number): readonly [Encoding, FormClass] {
  const known = FORMS[form];
  if (!known) throw new FormatError(`DWARF form 0x${form.toString(16)} is unknown`);
  return known;
}

const BLOCK_LENGTHS = {
  block: (reader: ByteReader) => reader.count(),
  block1: (reader: ByteReader) => reader.u8(),
  block2: (reader: ByteReader) => reader.u16(),
  block4: (reader: ByteReader) => reader.u32(),
} as const;

function takeBytes(reader: ByteReader, length: number): Uint8Array {
  const start = reader.at;
  reader.skip(length);
  return reader.bytes.subarray(start, start + length);
}

function readEncoded(reader: ByteReader, encoding: Encoding, sizes: UnitSizes): RawValue {
  if (encoding === 16) return takeBytes(reader, 16);
  if (encoding === 3) return BigInt(reader.u16()) | (BigInt(reader.u8()) << 16n);
  if (typeof encoding === 'number') return reader.unsigned(encoding);
  if (encoding === 'address') return reader.unsigned(sizes.addressSize);
  if (encoding === 'offset') return BigInt(reader.offset(sizes.offsetSize));
  if (encoding === 'uleb') return reader.uleb();
  if (encoding === 'sleb') return reader.sleb();
  if (encoding === 'text') return reader.string();
  if (encoding === 'nothing') return 1n;
  return takeBytes(reader, BLOCK_LENGTHS[encoding](reader));
}

/** Bytes that every value of the form takes; undefined when they differ. @throws FormatError for unknown forms. */
export function fixedSize(form: number, sizes: UnitSizes): number | undefined {
  if (form === DW_FORM_IMPLICIT_CONST) return 0;
  if (form === DW_FORM_INDIRECT) return undefined;
  const [encoding] = formOf(form);
  if (typeof encoding === 'number') return encoding;
  if (encoding === 'address') return sizes.addressSize;
  if (encoding === 'offset') return sizes.offsetSize;
  return encoding === 'nothing' ? 0 : undefined;
}

/** Passes over a value. */
export function skipForm(reader: ByteReader, form: number, sizes: UnitSizes): void {
  const size = fixedSize(form, sizes);
  if (size !== undefined) reader.skip(size);
  else if (form === DW_FORM_INDIRECT) skipForm(reader, reader.count(), sizes);
  else {
    const [encoding] = formOf(form);
    if (encoding === 'uleb' || encoding === 'sleb') reader.skipLeb();
    else if (encoding === 'text') reader.skipString();
    else reader.skip(BLOCK_LENGTHS[encoding as keyof typeof BLOCK_LENGTHS](reader));
  }
}

/** @param implicit the constant that the abbreviation holds for DW_FORM_implicit_const. */
export function readForm(reader: ByteReader, form: number, sizes: UnitSizes, implicit?: bigint): FormValue {
  if (form === DW_FORM_IMPLICIT_CONST) return { class: 'constant', raw: implicit ?? 0n };
  if (form === DW_FORM_INDIRECT) return readForm(reader, reader.count(), sizes);
  const [encoding, formClass] = formOf(form);
  const raw = readEncoded(reader, encoding, sizes);
  return typeof encoding === 'number' ? { class: formClass, raw, size: encoding } : { class: formClass, raw };
}
