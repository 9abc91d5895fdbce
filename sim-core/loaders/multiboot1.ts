/** Multiboot 1 kernels (Multiboot Specification 0.6.96, "OS image format"). */

import type { ImageSegment } from './boot-request.ts';
import { isElf, readElf } from './elf.ts';
import { ImageError } from './image-error.ts';

const MAGIC = 0x1bad_b002;
const SEARCH_LIMIT = 8192;
const ALIGNMENT = 4;
const FLAG_ADDRESSES = 0x1_0000;
/** Bits 15:0 that a loader must understand: page-aligned modules, memory information, video mode. */
const REQUIRED_UNDERSTOOD = 0x0007;

export interface MultibootHeader {
  /** Offset in the file. */
  readonly offset: number;
  readonly flags: number;
}

/** The header is 4-aligned and wholly inside the first 8192 bytes; magic, flags and checksum add up to zero. */
export function findMultibootHeader(image: Uint8Array): MultibootHeader | undefined {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const end = Math.min(image.length, SEARCH_LIMIT) - 12;
  for (let offset = 0; offset <= end; offset += ALIGNMENT) {
    if (view.getUint32(offset, true) !== MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    if ((MAGIC + flags + view.getUint32(offset + 8, true)) % 2 ** 32 === 0) return { offset, flags };
  }
  return undefined;
}

/** The addresses in the header (flag bit 16) say what to load where. */
function readAddresses(
  name: string,
  image: Uint8Array,
  { offset }: MultibootHeader,
): { segments: ImageSegment[]; entry: number } {
  const where = 'multiboot header';
  if (offset + 32 > Math.min(image.length, SEARCH_LIMIT)) {
    throw new ImageError('truncated-header', name, where, 'its address fields are not in the first 8192 bytes');
  }
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const field = (index: number): number => view.getUint32(offset + 12 + 4 * index, true);
  const [headerAddress, load, loadEnd, bssEnd, entry] = [field(0), field(1), field(2), field(3), field(4)];
  const fileOffset = offset - (headerAddress - load);
  if (headerAddress < load || fileOffset < 0) {
    throw new ImageError('malformed-header', name, where, 'load_addr does not fit to header_addr');
  }
  const fileSize = loadEnd === 0 ? image.length - fileOffset : loadEnd - load;
  if (fileSize <= 0) throw new ImageError('malformed-header', name, where, 'load_end_addr is not above load_addr');
  if (fileOffset + fileSize > image.length) {
    throw new ImageError('truncated-segment', name, where, 'load_end_addr is beyond the end of the file');
  }
  const memorySize = bssEnd === 0 ? fileSize : bssEnd - load;
  if (memorySize < fileSize) throw new ImageError('malformed-header', name, where, 'bss_end_addr is inside the data');
  if (entry < load || entry >= load + memorySize) {
    throw new ImageError('entry-outside', name, where, `entry_addr 0x${entry.toString(16)} is outside the image`);
  }
  return { segments: [{ physical: load, fileOffset, fileSize, memorySize }], entry };
}

/** What to load, and the entry's physical address. @throws ImageError */
export function readMultiboot(
  name: string,
  image: Uint8Array,
  header: MultibootHeader,
): { segments: readonly ImageSegment[]; entry: number } {
  const unknown = header.flags & 0xffff & ~REQUIRED_UNDERSTOOD;
  if (unknown !== 0) {
    const what = `flag bits 0x${unknown.toString(16)} ask for features that the specification does not define`;
    throw new ImageError('unsupported-request', name, 'multiboot header', what);
  }
  if (header.flags & FLAG_ADDRESSES) return readAddresses(name, image, header);
  if (isElf(image)) return readElf(name, image);
  const what = 'the file is no ELF file and the header has no addresses (flag bit 16)';
  throw new ImageError('malformed-header', name, 'multiboot header', what);
}
