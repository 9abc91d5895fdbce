/**
 * The bounce buffer (OFFSET.bounce): where the engine reads and writes the data of an access that is not in one piece
 * of RAM, because it crosses a page or goes to a device.
 */

import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { DEVICE_CYCLES, spend } from '../state/time.ts';
import type { PhysicalMemory } from './physical-memory.ts';

/** A stretch of the buffer and where its bytes belong. */
interface Piece {
  physical: number;
  length: number;
}

export class BounceBuffer {
  private readonly state: State;
  private readonly physical: PhysicalMemory;
  private readonly beforeWrite: (physical: number, length: number) => void;
  /** Of the last access that went through the buffer; the second piece has bytes when it crosses a page. */
  private readonly pieces: readonly [Piece, Piece] = [
    { physical: 0, length: 0 },
    { physical: 0, length: 0 },
  ];

  /** @param beforeWrite told when `commit` is about to write RAM at [physical, physical + length) */
  constructor(state: State, physical: PhysicalMemory, beforeWrite: (physical: number, length: number) => void) {
    this.state = state;
    this.physical = physical;
    this.beforeWrite = beforeWrite;
  }

  /** Begins an access that may not need the buffer: a `commit` without a `fill` writes nothing. */
  clear(): void {
    this.setPieces(0, 0, 0, 0);
  }

  /** Takes the current data at a physical address into the buffer. @returns OFFSET.bounce */
  fill(physical: number, length: number): number {
    return this.fillAcross(physical, length, 0, 0);
  }

  /** The same for two pages' pieces. @returns OFFSET.bounce */
  fillAcross(first: number, firstLength: number, second: number, secondLength: number): number {
    this.read(OFFSET.bounce, first, firstLength);
    this.read(OFFSET.bounce + firstLength, second, secondLength);
    this.setPieces(first, firstLength, second, secondLength);
    return OFFSET.bounce;
  }

  private setPieces(first: number, firstLength: number, second: number, secondLength: number): void {
    const [one, two] = this.pieces;
    one.physical = first;
    one.length = firstLength;
    two.physical = second;
    two.length = secondLength;
  }

  /** Writes the buffer of the last `fill` to where it belongs. */
  commit(): void {
    let from = OFFSET.bounce;
    for (const { physical, length } of this.pieces) {
      if (length > 0) this.write(from, physical, length);
      from += length;
    }
    this.clear();
  }

  private read(to: number, physical: number, length: number): void {
    if (this.physical.isRam(physical, length)) {
      const from = this.physical.host(physical);
      this.copy(to, from, length);
      return;
    }
    spend(this.state, DEVICE_CYCLES);
    const { bytes, view } = this.state;
    for (let i = 0; i < length; ) {
      const size = unitAt(physical + i, length - i);
      const value = this.physical.read(physical + i, size);
      if (size === 4) view.setUint32(to + i, value, true);
      else if (size === 2) view.setUint16(to + i, value, true);
      else bytes[to + i] = value;
      i += size;
    }
  }

  /** A loop is several times quicker for some bytes than TypedArray's own `copyWithin`. */
  private copy(to: number, from: number, length: number): void {
    const { bytes } = this.state;
    for (let i = 0; i < length; i++) bytes[to + i] = bytes[from + i] as number;
  }

  private write(from: number, physical: number, length: number): void {
    if (this.physical.isRam(physical, length)) {
      this.beforeWrite(physical, length);
      this.copy(this.physical.host(physical), from, length);
      return;
    }
    const { view } = this.state;
    for (let i = 0; i < length; ) {
      const size = unitAt(physical + i, length - i);
      const at = from + i;
      const value = size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at);
      this.physical.write(physical + i, size, value);
      i += size;
    }
  }
}

/** Largest naturally aligned unit of at most 4 bytes at an address: what a device access is made of. */
const unitAt = (physical: number, left: number): 1 | 2 | 4 =>
  physical % 4 === 0 && left >= 4 ? 4 : physical % 2 === 0 && left >= 2 ? 2 : 1;
