/** What readers of mangled names share. */

/** A name is not mangled in a way that is known. */
export class NotMangled extends Error {}

/** Reads a mangled name from its beginning to its end. */
export class MangledReader {
  readonly text: string;
  at: number;

  constructor(text: string, at = 0) {
    this.text = text;
    this.at = at;
  }

  get next(): string {
    return this.text[this.at] ?? '';
  }
  get done(): boolean {
    return this.at >= this.text.length;
  }
  /** @throws NotMangled at the end. */
  take(): string {
    const character = this.next;
    if (character === '') throw new NotMangled();
    this.at++;
    return character;
  }
  /** Whether a text comes next, which is then passed. */
  accept(text: string): boolean {
    if (!this.text.startsWith(text, this.at)) return false;
    this.at += text.length;
    return true;
  }
  /** @throws NotMangled where something else comes. */
  expect(text: string): void {
    if (!this.accept(text)) throw new NotMangled();
  }
  /** What a pattern matches here, which is then passed. @param pattern sticky */
  match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }
  /** A number in decimal; 0 is one digit, whatever follows. @throws NotMangled when there is none. */
  decimal(): number {
    const digits = this.match(/0|[1-9][0-9]*/y);
    if (digits === undefined) throw new NotMangled();
    return Number(digits);
  }
  /** So many characters. @throws NotMangled where there are fewer. */
  characters(count: number): string {
    if (this.at + count > this.text.length) throw new NotMangled();
    this.at += count;
    return this.text.slice(this.at - count, this.at);
  }
}
