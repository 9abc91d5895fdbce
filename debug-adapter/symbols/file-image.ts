/** Files and their parts as bytes that are read where they are needed. */

import { FormatError } from './byte-reader.ts';

/** A file that can be read at any place, at once. */
export interface FileImage {
  /** Bytes. */
  readonly size: number;
  /** Exactly these bytes, which the caller does not change. @throws FormatError where the file has fewer. */
  read(offset: number, length: number): Uint8Array;
}

export interface WritableFile extends FileImage {
  write(offset: number, bytes: Uint8Array): void;
}

/** A whole file in memory. */
export function memoryFile(bytes: Uint8Array): FileImage {
  return {
    size: bytes.length,
    read: (offset, length) => {
      if (offset < 0 || length < 0 || offset + length > bytes.length) throw beyondEnd(offset, length, bytes.length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

const beyondEnd = (offset: number, length: number, size: number): FormatError =>
  new FormatError(`data ends at ${size}, ${offset}+${length} wanted`);

const BLOCK = 0x1_0000;
/** 32 MiB: what a debugger of a large kernel looks at again and again. */
const BLOCKS = 512;

/** A file that is read in blocks, of which the ones used last are kept. @param readAt as FileImage.read. */
export function cachedFile(size: number, readAt: FileImage['read']): FileImage {
  const blocks = new Map<number, Uint8Array>();
  const block = (number: number): Uint8Array => {
    const known = blocks.get(number);
    const bytes = known ?? readAt(number * BLOCK, Math.min(BLOCK, size - number * BLOCK));
    // A Map lists its keys in the order of their insertion: the first one is the one that was not used for longest.
    blocks.delete(number);
    blocks.set(number, bytes);
    const [oldest] = blocks.keys();
    if (blocks.size > BLOCKS && oldest !== undefined) blocks.delete(oldest);
    return bytes;
  };
  const read = (offset: number, length: number): Uint8Array => {
    if (offset < 0 || length < 0 || offset + length > size) throw beyondEnd(offset, length, size);
    const first = Math.floor(offset / BLOCK);
    const start = offset - first * BLOCK;
    if (start + length <= BLOCK && length > 0) return block(first).subarray(start, start + length);
    return readAt(offset, length);
  };
  return { size, read };
}

/** Bytes [offset, offset + size) of a file as a file. @throws FormatError where the file has fewer. */
export function partOf(file: FileImage, offset: number, size: number): FileImage {
  if (offset < 0 || offset + size > file.size) throw beyondEnd(offset, size, file.size);
  return {
    size,
    read: (at, length) => {
      if (at < 0 || length < 0 || at + length > size) throw beyondEnd(at, length, size);
      return file.read(offset + at, length);
    },
  };
}

const decoder = new TextDecoder();
const STRING_PIECE = 256;

/** Text up to the zero byte. @throws FormatError when it has no end. */
export function stringAt(file: FileImage, at: number): string {
  for (let length = STRING_PIECE; ; length *= 4) {
    const bytes = file.read(at, Math.min(length, Math.max(file.size - at, 0)));
    const end = bytes.indexOf(0);
    if (end >= 0) return decoder.decode(bytes.subarray(0, end));
    if (bytes.length < length) throw new FormatError(`string at ${at} has no end`);
  }
}
