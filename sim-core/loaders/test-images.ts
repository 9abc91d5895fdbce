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

/** A multiboot 2 header. @param tags type, flags, size and then the words of each tag; the end tag is added */
export function makeMultiboot2Header(tags: readonly (readonly number[])[]): Uint8Array {
  const encoded = [...tags, [0, 0, 8]].map(([type = 0, flags = 0, size = 0, ...words]) => {
    const view = new DataView(new ArrayBuffer(Math.ceil(size / 8) * 8));
    view.setUint16(0, type, true);
    view.setUint16(2, flags, true);
    view.setUint32(4, size, true);
    words.forEach((word, i) => {
      view.setUint32(8 + 4 * i, word, true);
    });
    return new Uint8Array(view.buffer);
  });
  const length = 16 + encoded.reduce((sum, tag) => sum + tag.length, 0);
  const header = new DataView(new ArrayBuffer(16));
  [0xe852_50d6, 0, length, -(0xe852_50d6 + length) >>> 0].forEach((word, i) => {
    header.setUint32(4 * i, word, true);
  });
  return Uint8Array.from([...new Uint8Array(header.buffer), ...encoded.flatMap((tag) => [...tag])]);
}

export interface BzImageOptions {
  /** What is at the 64-bit entry point. */
  readonly code: Uint8Array;
  readonly address?: number;
  readonly initSize?: number;
  readonly version?: number;
  readonly extendedFlags?: number;
}

/** A Linux kernel of two setup sectors and one KiB of protected-mode code (boot protocol 2.15). */
export function makeBzImage(options: BzImageOptions): Uint8Array {
  const { code, address = 0x100_0000, initSize = 0x10_0000, version = 0x20f, extendedFlags = 1 } = options;
  const image = new Uint8Array(3 * 512 + 1024);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 2);
  view.setUint32(0x1f4, 1024 / 16, true);
  // The jump at 200h is over the header, whose end it tells.
  view.setUint16(0x200, 0x6aeb, true);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, version, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, extendedFlags, true);
  view.setUint32(0x238, 2047, true);
  view.setBigUint64(0x258, BigInt(address), true);
  view.setUint32(0x260, initSize, true);
  image.set(code, 3 * 512 + 0x200);
  return image;
}
