/**
 * The past of linear memory: for each mark, the pages that have changed since as they were at the mark. RAM pages are
 * saved just before they are first written; the processors' state and TLBs are compared from mark to mark.
 */

import type { PhysicalMemory, WriteWatch } from '../../mmu/physical-memory.ts';
import { REGION, STATE_START } from '../../state/layout.ts';
import type { State } from '../../state/state.ts';

const PAGE = 4096;
const WORD = 4;
/** Stands for every page of zeros, of which a machine that starts is full. Nobody writes it. */
const ZEROS = new Uint8Array(PAGE);
/** Bytes that a map's entry takes up, about. */
const ENTRY_SIZE = 48;
/** And with it a page's own copy. */
export const COPY_SIZE = PAGE + 256;

/** Linear memory's pages by number, as they were at a mark. */
type Pages = Map<number, Uint8Array>;

/** A range of pages of linear memory that is compared as a whole; `copy` is how it was at the last mark. */
interface Compared {
  readonly first: number;
  readonly copy: Uint8Array;
}

export class MemoryHistory implements WriteWatch {
  private readonly state: State;
  private readonly physical: PhysicalMemory;
  /** 1: the RAM page has not been written since the last mark. */
  private readonly clean: Uint8Array;
  private readonly marks: Pages[] = [];
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
      .map(([start, end]) => ({ first: start / PAGE, copy: state.bytes.slice(start, end) }));
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

  written(physical: number, length: number): void {
    const last = Math.floor((physical + length - 1) / PAGE);
    for (let page = Math.floor(physical / PAGE); page <= last; page++) {
      if (this.clean[page] !== 1) continue;
      this.clean[page] = 0;
      this.keep(REGION.ram.start / PAGE + page, this.page(REGION.ram.start / PAGE + page));
    }
  }

  // ---- marks

  /** Marks the present. @returns the mark's number */
  mark(): number {
    if (this.marks.length > 0) this.compare();
    else for (const { first, copy } of this.compared) copy.set(this.range(first, copy.length));
    this.clean.fill(1);
    return this.marks.push(new Map()) - 1;
  }

  /** Puts memory back to how it was at a mark, which becomes the last one. Tells the listener of RAM writes. */
  rewind(mark: number): void {
    this.compare();
    for (let i = this.marks.length - 1; i >= mark; i--) {
      const pages = this.marks[i] as Pages;
      for (const [page, bytes] of pages) {
        this.putBack(page, bytes);
        this.held -= sizeOf(bytes);
      }
    }
    this.marks.length = mark + 1;
    this.marks[mark] = new Map();
    for (const { first, copy } of this.compared) copy.set(this.range(first, copy.length));
    this.clean.fill(1);
  }

  /** Gives up a mark that is not the first: the one before it takes over what it holds. */
  merge(mark: number): void {
    const into = this.marks[mark - 1];
    const [pages] = this.marks.splice(mark, 1);
    if (!into || !pages) throw new RangeError(`no mark ${mark} to merge into the one before`);
    for (const [page, bytes] of pages) {
      if (into.has(page)) this.held -= sizeOf(bytes);
      else into.set(page, bytes);
    }
  }

  /** Pages that have been copied since the last mark. */
  get copied(): number {
    return this.marks.at(-1)?.size ?? 0;
  }

  /** Bytes that the first mark takes up, which cannot be given up. */
  get sizeOfFirst(): number {
    let size = 0;
    for (const bytes of this.marks[0]?.values() ?? []) size += sizeOf(bytes);
    return size;
  }

  /** Saves what has changed in the compared ranges since the last mark for it. */
  private compare(): void {
    for (const { first, copy } of this.compared) {
      const now = words(this.range(first, copy.length));
      const before = words(copy);
      for (let word = 0; word < before.length; word++) {
        if (now[word] === before[word]) continue;
        const at = Math.floor((word * WORD) / PAGE) * PAGE;
        this.keep(first + at / PAGE, copy.subarray(at, at + PAGE));
        copy.set(this.page(first + at / PAGE), at);
      }
    }
  }

  /** Keeps a copy for the last mark, unless it has one. */
  private keep(page: number, bytes: Uint8Array): void {
    const pages = this.marks.at(-1);
    if (!pages || pages.has(page)) return;
    const kept = isZero(words(bytes)) ? ZEROS : bytes.slice();
    pages.set(page, kept);
    this.held += sizeOf(kept);
  }

  private putBack(page: number, bytes: Uint8Array): void {
    const physical = page * PAGE - REGION.ram.start;
    if (physical >= 0 && physical < this.state.ramSize) this.physical.onWrite?.(physical, PAGE);
    this.state.bytes.set(bytes, page * PAGE);
  }

  private range(first: number, length: number): Uint8Array {
    return this.state.bytes.subarray(first * PAGE, first * PAGE + length);
  }

  private page(page: number): Uint8Array {
    return this.range(page, PAGE);
  }
}

const sizeOf = (kept: Uint8Array): number => (kept === ZEROS ? ENTRY_SIZE : COPY_SIZE);

/** Bytes of whole pages as numbers of 4 bytes. */
const words = (bytes: Uint8Array): Uint32Array => new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / WORD);

function isZero(numbers: Uint32Array): boolean {
  for (let i = 0; i < numbers.length; i++) if (numbers[i] !== 0) return false;
  return true;
}
