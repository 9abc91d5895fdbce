/** Copies of pages of 4 KiB, in large blocks: to allocate memory for each page takes longer than to copy it. */

const WORDS_IN_PAGE = 1024;
const PAGES_IN_BLOCK = 1024;

export class PagePool {
  private readonly blocks: Uint32Array[] = [];
  /** Numbers of copies that have been given up. */
  private readonly free: number[] = [];
  /** Numbers that have been given out at some time. */
  private used = 0;

  /** Keeps a copy. @param page 1024 words @returns its number, for the other methods */
  add(page: Uint32Array): number {
    const number = this.free.pop() ?? this.used++;
    const block = Math.floor(number / PAGES_IN_BLOCK);
    this.blocks[block] ??= new Uint32Array(PAGES_IN_BLOCK * WORDS_IN_PAGE);
    this.blocks[block]?.set(page, (number % PAGES_IN_BLOCK) * WORDS_IN_PAGE);
    return number;
  }

  /** The copy itself, until it is given up. */
  at(number: number): Uint32Array {
    const offset = (number % PAGES_IN_BLOCK) * WORDS_IN_PAGE;
    return (this.blocks[Math.floor(number / PAGES_IN_BLOCK)] as Uint32Array).subarray(offset, offset + WORDS_IN_PAGE);
  }

  /** Its place is for another one. */
  giveUp(number: number): void {
    this.free.push(number);
  }

  giveUpAll(): void {
    this.blocks.length = 0;
    this.free.length = 0;
    this.used = 0;
  }
}
