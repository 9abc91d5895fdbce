/** Numbers as assembly and C write them. */

/** @returns undefined for what is no whole number. */
export function numberOf(word: string): number | undefined {
  const plain = word.replace(/[_']/g, '').replace(/^[$#]/, '');
  const hexadecimal =
    /^0[xh]([0-9a-f]+?)(?:u?l{0,2})$/i.exec(plain) ??
    /^([0-9][0-9a-f]*)h$/i.exec(plain) ??
    (word.startsWith('$') ? /^([0-9][0-9a-f]*)$/i.exec(plain) : null);
  const value = hexadecimal ? Number.parseInt(hexadecimal[1] ?? '', 16) : decimalOf(plain);
  return value !== undefined && Number.isSafeInteger(value) ? value : undefined;
}

const decimalOf = (plain: string): number | undefined =>
  /^[0-9]+(?:u?l{0,2})$/i.test(plain) ? Number.parseInt(plain, 10) : undefined;

/** Written in hexadecimal with three digits or more: people write encodings so, and seldom counts. */
export const looksLikeEncoding = (word: string): boolean =>
  /^(\$?0[xh][0-9a-f]{3,}(?:u?l{0,2})|[0-9][0-9a-f]{3,}h)$/i.test(word.replace(/_/g, ''));

export const hex4 = (value: number): string => `0x${value.toString(16).toUpperCase().padStart(4, '0')}`;
