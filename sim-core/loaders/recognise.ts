/** What a file is, by its own marks. */

import type { BootRequest, ImageFormat } from './boot-request.ts';
import { isBzImage } from './bzimage.ts';
import { isElf } from './elf.ts';
import { ImageError, type ImageErrorId } from './image-error.ts';
import { findMultibootHeader } from './multiboot1.ts';
import { findMultiboot2Header } from './multiboot2.ts';
import { pvhEntry } from './pvh.ts';

interface Mark {
  readonly offset: number;
  readonly bytes: readonly number[];
  readonly id: ImageErrorId;
  readonly what: string;
}

const text = (characters: string): number[] => [...characters].map((character) => character.charCodeAt(0));

/** Files that people try to boot and that are known by their marks; the first match counts. */
const MARKS: readonly Mark[] = [
  { offset: 0x8001, bytes: text('CD001'), id: 'firmware-boot', what: 'this is an ISO 9660 image' },
  { offset: 0, bytes: [0x1f, 0x8b], id: 'compressed-image', what: 'the file is compressed with gzip' },
  { offset: 0, bytes: [0xfd, ...text('7zXZ')], id: 'compressed-image', what: 'the file is compressed with xz' },
  { offset: 0, bytes: [0x28, 0xb5, 0x2f, 0xfd], id: 'compressed-image', what: 'the file is compressed with zstd' },
  { offset: 0, bytes: text('BZh'), id: 'compressed-image', what: 'the file is compressed with bzip2' },
  { offset: 0, bytes: text('PK'), id: 'compressed-image', what: 'this is a zip archive' },
  { offset: 0, bytes: [...text('QFI'), 0xfb], id: 'boot-protocol', what: 'this is a qcow2 disk image' },
  { offset: 0, bytes: text('MZ'), id: 'boot-protocol', what: 'this is a DOS, Windows or EFI program' },
  { offset: 0x1fe, bytes: [0x55, 0xaa], id: 'firmware-boot', what: 'this is a boot sector or disk image' },
];

const has = (image: Uint8Array, offset: number, bytes: readonly number[]): boolean =>
  bytes.every((byte, i) => image[offset + i] === byte);

/** The formats that are recognised, in this order: a kernel can bear the marks of several boot protocols. */
const RECOGNISED: readonly (readonly [ImageFormat, (image: Uint8Array) => boolean, string])[] = [
  ['bzimage', isBzImage, 'this is a Linux kernel (bzImage)'],
  ['multiboot1', (image) => findMultibootHeader(image) !== undefined, 'this is a multiboot 1 kernel'],
  ['multiboot2', (image) => findMultiboot2Header(image) !== undefined, 'this is a multiboot 2 kernel'],
  ['pvh', hasPvhEntry, 'this is an ELF file with a PVH entry point'],
  ['elf64', (image) => isElf(image) && image[4] === 2, 'this is a 64-bit ELF file'],
  ['elf32', isElf, 'this is a 32-bit ELF file'],
];

/** A damaged ELF file is for the ELF loader to complain about. */
function hasPvhEntry(image: Uint8Array): boolean {
  try {
    return pvhEntry('', image) !== undefined;
  } catch {
    return false;
  }
}

const markOf = (image: Uint8Array): Mark | undefined => MARKS.find(({ offset, bytes }) => has(image, offset, bytes));

/** What a file is, in words; undefined when nothing tells. */
export function describeImage(image: Uint8Array): string | undefined {
  return RECOGNISED.find(([, test]) => test(image))?.[2] ?? markOf(image)?.what;
}

/** @throws ImageError that names what the file is, when it is nothing that can be loaded. */
export function recognise({ name, image }: BootRequest): ImageFormat {
  if (image.length === 0) throw new ImageError('empty-file', name, '', 'the file is empty');
  const found = RECOGNISED.find(([, test]) => test(image));
  if (found) return found[0];
  const mark = markOf(image);
  if (mark) throw new ImageError(mark.id, name, '', mark.what);
  throw new ImageError('not-an-elf', name, '', 'the file is neither a kernel of a known boot protocol nor an ELF file');
}
