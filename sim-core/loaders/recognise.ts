/** What a file is, by its own marks. */

import type { BootRequest, ImageFormat } from './boot-request.ts';
import { isElf } from './elf.ts';
import { ImageError, type ImageErrorId } from './image-error.ts';
import { findMultibootHeader } from './multiboot1.ts';

interface Mark {
  readonly offset: number;
  readonly bytes: readonly number[];
  readonly id: ImageErrorId;
  readonly what: string;
}

const text = (characters: string): number[] => [...characters].map((character) => character.charCodeAt(0));

/** Files that people try to boot and that are known by their marks; the first match counts. */
const MARKS: readonly Mark[] = [
  { offset: 0x202, bytes: text('HdrS'), id: 'boot-protocol', what: 'this is a Linux kernel (bzImage)' },
  { offset: 0x8001, bytes: text('CD001'), id: 'boot-protocol', what: 'this is an ISO 9660 image' },
  { offset: 0, bytes: [0x1f, 0x8b], id: 'compressed-image', what: 'the file is compressed with gzip' },
  { offset: 0, bytes: [0xfd, ...text('7zXZ')], id: 'compressed-image', what: 'the file is compressed with xz' },
  { offset: 0, bytes: [0x28, 0xb5, 0x2f, 0xfd], id: 'compressed-image', what: 'the file is compressed with zstd' },
  { offset: 0, bytes: text('BZh'), id: 'compressed-image', what: 'the file is compressed with bzip2' },
  { offset: 0, bytes: text('PK'), id: 'compressed-image', what: 'this is a zip archive' },
  { offset: 0, bytes: [...text('QFI'), 0xfb], id: 'boot-protocol', what: 'this is a qcow2 disk image' },
  { offset: 0, bytes: text('MZ'), id: 'boot-protocol', what: 'this is a DOS, Windows or EFI program' },
  { offset: 0x1fe, bytes: [0x55, 0xaa], id: 'boot-protocol', what: 'this is a boot sector or disk image' },
];

const MULTIBOOT2_MAGIC = [0xd6, 0x50, 0x52, 0xe8];
const MULTIBOOT2_LIMIT = 32_768;

const has = (image: Uint8Array, offset: number, bytes: readonly number[]): boolean =>
  bytes.every((byte, i) => image[offset + i] === byte);

function hasMultiboot2Header(image: Uint8Array): boolean {
  for (let at = 0; at < Math.min(image.length, MULTIBOOT2_LIMIT); at += 8) {
    if (has(image, at, MULTIBOOT2_MAGIC)) return true;
  }
  return false;
}

/** @throws ImageError that names what the file is, when it is nothing that can be loaded. */
export function recognise({ name, image }: BootRequest): ImageFormat {
  if (image.length === 0) throw new ImageError('empty-file', name, '', 'the file is empty');
  if (findMultibootHeader(image)) return 'multiboot1';
  if (isElf(image)) {
    if (hasMultiboot2Header(image)) throw new ImageError('boot-protocol', name, '', 'this is a multiboot 2 kernel');
    return image[4] === 2 ? 'elf64' : 'elf32';
  }
  const mark = MARKS.find(({ offset, bytes }) => has(image, offset, bytes));
  if (mark) throw new ImageError(mark.id, name, '', mark.what);
  throw new ImageError('not-an-elf', name, '', 'the file is neither a multiboot kernel nor an ELF file');
}
