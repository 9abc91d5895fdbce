/**
 * What went to and from device registers in memory during the instruction in hand. Nobody can look at a register
 * without disturbing the device: watches know its value by the access itself.
 */
export class DeviceBytes {
  private readonly known = new Map<number, number>();

  /** @param value little-endian, of `size` bytes, as the device gave or got it */
  take(physical: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.known.set(physical + i, (value >>> (8 * i)) & 0xff);
  }

  /** Undefined where not all of it was accessed. */
  read(physical: number, length: number): Uint8Array | undefined {
    const bytes = Array.from({ length }, (_, i) => this.known.get(physical + i));
    return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : undefined;
  }

  clear(): void {
    this.known.clear();
  }
}
