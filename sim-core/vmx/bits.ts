/** Named bits of a register or field, and their decoding into words. */

export interface BitField {
  readonly name: string;
  /** Lowest bit. */
  readonly low: number;
  /** Number of bits; 1 when absent. */
  readonly width?: number;
  /** Meanings of its values, where they are named. */
  readonly values?: Readonly<Record<number, string>>;
}

export interface DecodedBits {
  readonly name: string;
  /** '7' or '11:8', as the manual writes it. */
  readonly bits: string;
  readonly value: bigint;
  /** The value in words, or its number. */
  readonly meaning: string;
}

export const flag = (name: string, low: number): BitField => ({ name, low });
export const bits = (name: string, high: number, low: number, values?: Readonly<Record<number, string>>): BitField =>
  values ? { name, low, width: high - low + 1, values } : { name, low, width: high - low + 1 };

export const widthOf = (field: BitField): number => field.width ?? 1;

export const extract = (field: BitField, value: bigint): bigint =>
  BigInt.asUintN(widthOf(field), value >> BigInt(field.low));

/** A value with other bits in a field. */
export function insert(field: BitField, value: bigint, part: bigint): bigint {
  const mask = ((1n << BigInt(widthOf(field))) - 1n) << BigInt(field.low);
  return (value & ~mask) | ((part << BigInt(field.low)) & mask);
}

export function decodeBits(layout: readonly BitField[], value: bigint): DecodedBits[] {
  return layout.map((field) => {
    const part = extract(field, value);
    const high = field.low + widthOf(field) - 1;
    const number = part < 10n ? part.toString() : `0x${part.toString(16)}`;
    return {
      name: field.name,
      bits: high === field.low ? `${high}` : `${high}:${field.low}`,
      value: part,
      meaning: field.values?.[Number(part)] ?? number,
    };
  });
}

/** One line: flags that are set by name, other parts as `name value`; layout order. Empty when nothing is set. */
export function describeBits(layout: readonly BitField[], value: bigint): string {
  const words: string[] = [];
  for (const field of layout) {
    const part = extract(field, value);
    const meaning = field.values?.[Number(part)];
    if (meaning) words.push(meaning);
    else if (part === 0n) continue;
    else words.push(widthOf(field) === 1 ? field.name : `${field.name} 0x${part.toString(16)}`);
  }
  return words.join(', ');
}

/**
 * The name in capitals that a title of the manual has here: 'EPT violation' → 'EPT_VIOLATION', 'I/O instruction' →
 * 'IO_INSTRUCTION'. Rows carry the title only.
 */
export type NameOf<Title extends string> = Title extends `${infer A} ${infer B}`
  ? `${NameOf<A>}_${NameOf<B>}`
  : Title extends `${infer A}-${infer B}`
    ? `${NameOf<A>}_${NameOf<B>}`
    : Title extends `${infer A}/${infer B}`
      ? `${NameOf<A>}${NameOf<B>}`
      : Uppercase<Title>;

export const nameOf = <Title extends string>(title: Title): NameOf<Title> =>
  title.replaceAll('/', '').replaceAll(/[ -]/g, '_').toUpperCase() as NameOf<Title>;
