/** Values of C, C++ and Rust programs as text. */

import { ENCODING } from './dwarf/constants.ts';
import { Unavailable } from './dwarf/location-expressions.ts';
import { strip, type Type } from './dwarf/types.ts';
import { missing, type TypedValue } from './typed-value.ts';

/** The name of what is at an address, as in 'main+0x12'. */
export type SymbolName = (address: bigint) => string | undefined;

const LONGEST_TEXT = 200;
/** Parts that the text of a structure or array shows. */
const SHOWN_PARTS = 8;
const DEEPEST = 3;
const CHARACTERS: readonly number[] = [ENCODING.signedChar, ENCODING.unsignedChar, ENCODING.utf];

export const isCharacter = (type: Type): boolean => {
  const plain = strip(type);
  return plain.kind === 'base' && CHARACTERS.includes(plain.encoding) && plain.size === 1 && /char/.test(plain.name);
};

/** Never throws for what the program has: a value that is not there is told in its place. */
export function valueText(value: TypedValue, symbolName: SymbolName, depth = 0): string {
  try {
    return presentText(value, symbolName, depth);
  } catch (error) {
    if (error instanceof Unavailable) return missing(error.message);
    throw error;
  }
}

function presentText(value: TypedValue, symbolName: SymbolName, depth: number): string {
  const { plain } = value;
  switch (plain.kind) {
    case 'base':
      return baseText(value, plain.encoding);
    case 'pointer':
      return pointerText(value, plain.target, symbolName);
    case 'reference': {
      const target = value.target();
      return target && depth < DEEPEST ? valueText(target, symbolName, depth + 1) : `@0x${value.number().toString(16)}`;
    }
    case 'enumeration':
      return enumerationText(value.number(), plain.values);
    case 'array':
      return arrayText(value, symbolName, depth);
    case 'record': {
      if (depth >= DEEPEST) return '{…}';
      const members = value.members(plain);
      const parts = members.slice(0, SHOWN_PARTS).map((member) => {
        const text = valueText(value.member(member), symbolName, depth + 1);
        return member.name === undefined || member.isBase ? text : `${member.name} = ${text}`;
      });
      return `{${parts.join(', ')}${members.length > SHOWN_PARTS ? ', …' : ''}}`;
    }
    case 'function':
      return functionText(value, symbolName);
    case 'void':
      return missing('no value');
  }
}

function functionText(value: TypedValue, symbolName: SymbolName): string {
  const { address } = value;
  if (address === undefined) return '{…}';
  const name = symbolName(address);
  return `0x${address.toString(16)}${name === undefined ? '' : ` <${name}>`}`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '\\0',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
  '"': '\\"',
};
function escaped(code: number): string {
  const character = String.fromCharCode(code);
  if (ESCAPES[character] !== undefined) return ESCAPES[character];
  return code >= 0x20 && code < 0x7f ? character : `\\x${code.toString(16).padStart(2, '0')}`;
}

function baseText(value: TypedValue, encoding: number): string {
  if (value.isFloat) return floatText(value.float(), value.size);
  if (!value.isScalar)
    return `0x${[...value.bytes()]
      .reverse()
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('')}`;
  const number = value.number();
  if (encoding === ENCODING.boolean) return number === 0n ? 'false' : number === 1n ? 'true' : number.toString();
  if (encoding === ENCODING.utf && value.size === 4)
    return `${number} '${String.fromCodePoint(Number(number % 0x11_0000n))}'`;
  if (!isCharacter(value.type)) return number.toString();
  return `${number} '${escaped(Number(BigInt.asUintN(8, number)))}'`;
}

/** As many digits as tell the value from its neighbours. */
function floatText(value: number, size: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value < 0 ? '-inf' : 'inf';
  if (Object.is(value, -0)) return '-0';
  return size === 4 ? String(Number(value.toPrecision(9))) : String(value);
}

function enumerationText(number: bigint, values: readonly { readonly name: string; readonly value: bigint }[]): string {
  const exact = values.find(({ value }) => value === number);
  if (exact) return exact.name;
  const flags = values.filter(({ value }) => value > 0n && (value & (value - 1n)) === 0n && (number & value) === value);
  const rest = flags.reduce((left, { value }) => left & ~value, number);
  if (number > 0n && flags.length > 0 && rest === 0n) return flags.map(({ name }) => name).join(' | ');
  return number.toString();
}

function pointerText(value: TypedValue, target: Type, symbolName: SymbolName): string {
  const address = value.number();
  const shown = `0x${address.toString(16)}`;
  if (address === 0n) return shown;
  const pointee = isCharacter(target) ? value.target() : undefined;
  if (pointee) return `${shown} ${textAt(pointee)}`;
  const name = symbolName(address);
  return name === undefined ? shown : `${shown} <${name}>`;
}

/** The text that begins at a character, up to its zero byte. */
function textAt(first: TypedValue): string {
  const bytes = first.storage.memory.read(first.address ?? 0n, LONGEST_TEXT);
  if (bytes.length === 0) return missing('unreadable');
  return quoted(bytes, bytes.length === LONGEST_TEXT);
}

function quoted(bytes: Uint8Array, isCut: boolean): string {
  const end = bytes.indexOf(0);
  const text = [...(end < 0 ? bytes : bytes.subarray(0, end))].map(escaped).join('');
  return `"${text}"${end < 0 && isCut ? '…' : ''}`;
}

function arrayText(value: TypedValue, symbolName: SymbolName, depth: number): string {
  const { plain } = value;
  if (plain.kind !== 'array') return '';
  const { element, count = 0 } = plain;
  if (isCharacter(element)) {
    return quoted(value.storage.read(value.offset, Math.min(count, LONGEST_TEXT)), count > LONGEST_TEXT);
  }
  if (depth >= DEEPEST) return `[${count}]`;
  const shown = Array.from({ length: Math.min(count, SHOWN_PARTS) }, (_, index) => {
    const part = value.element(plain.lower + index);
    return part ? valueText(part, symbolName, depth + 1) : '';
  });
  return `{${shown.join(', ')}${count > SHOWN_PARTS ? ', …' : ''}}`;
}
