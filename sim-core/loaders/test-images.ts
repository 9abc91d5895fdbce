/** Small images for tests, built field by field from the specifications. */

export interface ElfOptions {
  readonly bits?: 32 | 64;
  readonly type?: number;
  readonly machine?: number;
  readonly entry?: number;
  readonly segments?: readonly {
    readonly type?: number;
    readonly virtual?: number;
    readonly physical: number;
    readonly bytes: Uint8Array;
    readonly memorySize?: number;
  }[];
}

/** An ELF executable with its segments' bytes after the headers (System V ABI, figures 4-3 and 5-1). */
export function makeElf(options: ElfOptions = {}): Uint8Array {
  const { bits = 64, type = 2, machine = bits === 64 ? 62 : 3, entry = 0x10_0000 } = options;
  const segments = options.segments ?? [{ physical: 0x10_0000, bytes: Uint8Array.of(0xf4) }];
  const [header, programHeader] = bits === 64 ? [64, 56] : [52, 32];
  const dataStart = header + programHeader * segments.length;
  const size = segments.reduce((sum, { bytes }) => sum + bytes.length, dataStart);
  const image = new Uint8Array(size);
  const view = new DataView(image.buffer);
  const word = (at: number, value: number): void => {
    if (bits === 64) view.setBigUint64(at, BigInt(value), true);
    else view.setUint32(at, value, true);
  };
  image.set([0x7f, 0x45, 0x4c, 0x46, bits === 64 ? 2 : 1, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  word(24, entry);
  word(bits === 64 ? 32 : 28, header);
  view.setUint16(bits === 64 ? 52 : 40, header, true);
  view.setUint16(bits === 64 ? 54 : 42, programHeader, true);
  view.setUint16(bits === 64 ? 56 : 44, segments.length, true);
  let data = dataStart;
  segments.forEach((segment, i) => {
    const at = header + programHeader * i;
    const { physical, bytes } = segment;
    view.setUint32(at, segment.type ?? 1, true);
    const words = [data, segment.virtual ?? physical, physical, bytes.length, segment.memorySize ?? bytes.length];
    words.forEach((value, field) => {
      word(bits === 64 ? at + 8 + 8 * field : at + 4 + 4 * field, value);
    });
    image.set(bytes, data);
    data += bytes.length;
  });
  return image;
}

/** A multiboot 1 header: magic, flags, checksum, then the address fields when there are any. */
export function makeMultibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  const words = [0x1bad_b002, flags, (-0x1bad_b002 - flags) >>> 0, ...addresses];
  const view = new DataView(new ArrayBuffer(4 * words.length));
  words.forEach((word, i) => {
    view.setUint32(4 * i, word, true);
  });
  return new Uint8Array(view.buffer);
}
