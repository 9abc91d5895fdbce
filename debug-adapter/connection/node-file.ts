import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { FileReader } from '../protocol.ts';
import { FormatError } from '../symbols/byte-reader.ts';
import { cachedFile, type FileImage, type WritableFile } from '../symbols/file-image.ts';

/** Smaller files are read whole: they stay as they were when the session began. */
const SMALL = 16 << 20;

/**
 * A large file of this computer that is read where it is needed; it stays open as long as the thread runs.
 * @returns undefined for small files and for paths that lead to no file here
 */
export function openLargeFile(path: string): FileImage | undefined {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return undefined;
  }
  const { size } = fstatSync(file);
  if (size <= SMALL) {
    closeSync(file);
    return undefined;
  }
  return cachedFile(size, (offset, length) => readAt(file, offset, length));
}

function readAt(file: number, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const count = readSync(file, bytes, done, length - done, offset + done);
    if (count === 0) throw new FormatError(`the file has become shorter than ${offset + length} bytes`);
    done += count;
  }
  return bytes;
}

/** A file of this computer, open as long as the thread runs. @throws when it cannot be opened for writing */
export function openWritableFile(path: string): WritableFile {
  const file = openSync(path, 'r+');
  return {
    size: fstatSync(file).size,
    read: (offset, length) => readAt(file, offset, length),
    write: (offset, bytes) => {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file, bytes, done, bytes.length - done, offset + done);
      }
    },
  };
}

/** Makes or empties a file of this computer, which stays open as long as the thread runs. */
export function createFile(path: string): (bytes: Uint8Array) => void {
  const file = openSync(path, 'w');
  return (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
  };
}

/** Files of this computer. */
export const NODE_FILES: FileReader = {
  readFile: async (path) => inWords(async () => new Uint8Array(await readFile(path))),
  openFile: async (path) => openLargeFile(path),
  openWritable: async (path) => inWords(async () => openWritableFile(path)),
  createFile: async (path) => createFile(path),
};

async function inWords<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Error(FILE_PROBLEMS[(error as NodeJS.ErrnoException).code ?? ''] ?? String(error));
  }
}

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'access is denied',
  EISDIR: 'it is a folder',
};
