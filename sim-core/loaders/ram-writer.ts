import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import type { ImageSegment } from './boot-request.ts';
import { ImageError } from './image-error.ts';

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Puts pieces of an image into RAM and remembers where, so that what the loader adds finds a free place. */
export class RamWriter {
  private readonly physical: PhysicalMemory;
  private readonly imageName: string;
  private readonly taken: { start: number; end: number }[] = [];

  constructor(physical: PhysicalMemory, imageName: string) {
    this.physical = physical;
    this.imageName = imageName;
  }

  get ramSize(): number {
    return this.physical.state.ramSize;
  }

  /** The end of the highest piece so far. */
  get top(): number {
    return Math.max(0, ...this.taken.map((piece) => piece.end));
  }

  /** @throws ImageError when the segment does not fit into RAM. */
  segment(image: Uint8Array, segment: ImageSegment, where: string): void {
    const { physical, fileOffset, fileSize, memorySize } = segment;
    const end = physical + memorySize;
    if (end > this.ramSize) {
      const what = `the segment is for ${hex(physical)} to ${hex(end)}, but RAM ends at ${hex(this.ramSize)}`;
      throw new ImageError('segment-outside-ram', this.imageName, where, what);
    }
    this.physical.poke(physical, image.subarray(fileOffset, fileOffset + fileSize));
    this.clear(physical + fileSize, memorySize - fileSize);
    this.taken.push({ start: physical, end });
  }

  private clear(physical: number, length: number): void {
    if (length === 0) return;
    this.physical.onWrite?.(physical, length);
    const start = this.physical.host(physical);
    this.physical.state.bytes.fill(0, start, start + length);
  }

  /** Writes bytes at the first aligned free place in [from, to). @returns its address, undefined when there is none. */
  place(bytes: Uint8Array, alignment: number, from: number, to: number): number | undefined {
    const start = this.findFree(bytes.length, alignment, from, Math.min(to, this.ramSize));
    if (start === undefined) return undefined;
    this.physical.poke(start, bytes);
    this.taken.push({ start, end: start + bytes.length });
    return start;
  }

  private findFree(length: number, alignment: number, from: number, to: number): number | undefined {
    let start = Math.ceil(from / alignment) * alignment;
    while (start + length <= to) {
      const other = this.taken.find((piece) => start < piece.end && piece.start < start + length);
      if (!other) return start;
      start = Math.ceil(other.end / alignment) * alignment;
    }
    return undefined;
  }
}
