/** Sets of interrupt vectors, as IRR, ISR and TMR of a local APIC: 8 words, vector 0 in bit 0 of the first. */

export const noVectors = (): number[] => new Array<number>(8).fill(0);

/** The highest vector of a set, or -1. */
export function highestVector(vectors: readonly number[]): number {
  for (let i = 7; i >= 0; i--) {
    const word = vectors[i] ?? 0;
    if (word !== 0) return 32 * i + 31 - Math.clz32(word);
  }
  return -1;
}

export function setVector(vectors: number[], vector: number, value: boolean): void {
  const mask = 1 << (vector & 31);
  const word = vectors[vector >> 5] ?? 0;
  vectors[vector >> 5] = (value ? word | mask : word & ~mask) >>> 0;
}

export const hasVector = (vectors: readonly number[], vector: number): boolean =>
  (((vectors[vector >> 5] ?? 0) >>> (vector & 31)) & 1) === 1;
