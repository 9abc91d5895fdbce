/**
 * The past of linear memory: for each mark, the pages that have changed since as they were at the mark. RAM pages are
 * saved just before they are first written; the processors' state and TLBs are compared from mark to mark.
 */

import type { PhysicalMemory, WriteWatch } from '../../mmu/physical-memory.ts';
import { REGION, STATE_START } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';
import { PagePool } from './page-pool.ts';

const PAGE = 4096;
const WORD = 4;
const WORDS_IN_PAGE = PAGE / WORD;
/** Stands in place of a copy's number for a page of zeros, of which a machine that starts is full. */
const ZEROS = -1;
const PAGE_OF_ZEROS = new Uint32Array(WORDS_IN_PAGE);
/** Bytes that a map's entry takes up, about. */
const ENTRY_SIZE = 48;
/** And with it a page's own copy. */
export const COPY_SIZE = PAGE + ENTRY_SIZE;

/** Linear memory's pages by number, as they were at a mark: numbers of their copies in the pool, or ZEROS. */
type Pages = Map<number, number>;

/** A range of pages of linear memory that is compared as a whole; `copy` is how it was at the last mark, in words. */
interface Compared {
  readonly first: number;
  readonly copy: Uint32Array;
}

export class MemoryHistory implements WriteWatch {
  private readonly state: State;
  private readonly physical: PhysicalMemory;
  /** 1: the RAM page has not been written since the last mark. */
  private readonly clean: Uint8Array;
  private readonly marks: Pages[] = [];
  private readonly pool = new PagePool();
  private readonly compared: readonly Compared[];
  /** Bytes that the marks take up. */
  private held = 0;

  /** Watches from now on. The caller has the MMUs forget fast translations, here and after each `mark` and `rewind`. */
  constructor(state: State, physical: PhysicalMemory) {
    this.state = state;
    this.physical = physical;
    this.clean = new Uint8Array(state.ramSize / PAGE);
    const parts: [number, number][] = [
      [STATE_START, REGION.vmcsFields.start],
      [REGION.tlb.start, REGION.tlb.start + REGION.tlb.size],
      [REGION.ram.start + state.ramSize, state.bytes.length],
    ];
    this.compared = parts
      .filter(([start, end]) => end > start)
      .map(([start, end]) => ({ first: start / PAGE, copy: state.u32.slice(start / WORD, end / WORD) }));
    physical.writeWatches.push(this);
  }

  /** Forgets everything and stops to watch. */
  end(): void {
    const { writeWatches } = this.physical;
    writeWatches.splice(writeWatches.indexOf(this), 1);
    this.forget();
  }

  /** Forgets all marks. */
  forget(): void {
    this.marks.length = 0;
    this.pool.giveUpAll();
    this.held = 0;
  }

  /** Bytes that the marks take up. */
  get size(): number {
    return this.held;
  }

  // ---- WriteWatch

  holdsTable(page: number): boolean {
    return this.clean[page] === 1;
  }

  prepareWrite(page: number): void {
    if (this.clean[page] !== 1) return;
    this.clean[page] = 0;
    const number = REGION.ram.start / PAGE + page;
    const { u32 } = this.state;
    const at = number * WORDS_IN_PAGE;
    // A write that changes nothing: a fresh page that is read first and written later the host would map twice.
    Atomics.add(u32, at, 0);
    this.keep(number, u32, at);
  }

  written(physical: number, length: number): void {
    const last = Math.floor((physical + length - 1) / PAGE);
    for (let page = Math.floor(physical / PAGE); page <= last; page++) this.prepareWrite(page);
  }

  // ---- marks

  /** Marks the present. @returns the mark's number */
  mark(): number {
    if (this.marks.length > 0) this.compare();
    else this.copyCompared();
    this.clean.fill(1);
    return this.marks.push(new Map()) - 1;
  }

  /** Puts memory back to how it was at a mark, which becomes the last one. Tells the listener of RAM writes. */
  rewind(mark: number): void {
    this.compare();
    for (let i = this.marks.length - 1; i >= mark; i--) {
      const pages = this.marks[i] as Pages;
      for (const [page, copy] of pages) {
        this.putBack(page, copy === ZEROS ? PAGE_OF_ZEROS : this.pool.at(copy));
        this.drop(copy);
      }
    }
    this.marks.length = mark + 1;
    this.marks[mark] = new Map();
    this.copyCompared();
    this.clean.fill(1);
  }

  /** Gives up a mark that is not the first: the one before it takes over what it holds. */
  merge(mark: number): void {
    const into = this.marks[mark - 1];
    const [pages] = this.marks.splice(mark, 1);
    if (!into || !pages) throw new RangeError(`no mark ${mark} to merge into the one before`);
    for (const [page, copy] of pages) {
      if (into.has(page)) this.drop(copy);
      else into.set(page, copy);
    }
  }

  /** Pages that have been copied since the last mark. */
  get copied(): number {
    return this.marks.at(-1)?.size ?? 0;
  }

  /** Bytes that the first mark takes up, which cannot be given up. */
  get sizeOfFirst(): number {
    let size = 0;
    for (const copy of this.marks[0]?.values() ?? []) size += sizeOf(copy);
    return size;
  }

  private copyCompared(): void {
    const { u32 } = this.state;
    for (const { first, copy } of this.compared) {
      const at = first * WORDS_IN_PAGE;
      copy.set(u32.subarray(at, at + copy.length));
    }
  }

  /** Saves what has changed in the compared ranges since the last mark for it. */
  private compare(): void {
    const { u32 } = this.state;
    for (const { first, copy } of this.compared) {
      const start = first * WORDS_IN_PAGE;
      for (let word = 0; word < copy.length; word++) {
        if (u32[start + word] === copy[word]) continue;
        const at = Math.floor(word / WORDS_IN_PAGE) * WORDS_IN_PAGE;
        this.keep(first + at / WORDS_IN_PAGE, copy, at);
        copy.set(u32.subarray(start + at, start + at + WORDS_IN_PAGE), at);
      }
    }
  }

  /** Keeps a copy of the page in `words` from `at` on for the last mark, unless it has one. */
  private keep(page: number, words: Uint32Array, at: number): void {
    const pages = this.marks.at(-1);
    if (!pages || pages.has(page)) return;
    const copy = isZero(words, at) ? ZEROS : this.pool.add(words.subarray(at, at + WORDS_IN_PAGE));
    pages.set(page, copy);
    this.held += sizeOf(copy);
  }

  private drop(copy: number): void {
    this.held -= sizeOf(copy);
    if (copy !== ZEROS) this.pool.giveUp(copy);
  }

  private putBack(page: number, words: Uint32Array): void {
    const physical = page * PAGE - REGION.ram.start;
    if (physical >= 0 && physical < this.state.ramSize) this.physical.onWrite?.(physical, PAGE);
    this.state.u32.set(words, page * WORDS_IN_PAGE);
  }
}

const sizeOf = (copy: number): number => (copy === ZEROS ? ENTRY_SIZE : COPY_SIZE);

/** Whether the page in `words` from `at` on is one of zeros. */
function isZero(words: Uint32Array, at: number): boolean {
  for (let i = at; i < at + WORDS_IN_PAGE; i += 4) {
    const four = (words[i] ?? 0) | (words[i + 1] ?? 0) | (words[i + 2] ?? 0) | (words[i + 3] ?? 0);
    if (four !== 0) return false;
  }
  return true;
}
