/**
 * What a person has made of a value that was shown: editors offer its whole text to be changed, as
 * `0x0000000000200123 <main+5>`, of which the words say only what the number means.
 */
export function withoutWords(shown: string, edited: string): string {
  const [, words] = /^\S+( .+)$/s.exec(shown) ?? [];
  return words !== undefined && edited.endsWith(words) ? edited.slice(0, -words.length) : edited;
}
