/** Sections that a compiler or linker has compressed (gABI, "Section Compression"). */

import { ByteReader, FormatError } from './byte-reader.ts';
import type { ElfSection } from './elf.ts';
import { type FileImage, memoryFile } from './file-image.ts';
import { inflateZlib } from './inflate.ts';

export const SHF_COMPRESSED = 0x800n;

/** The bytes that a section stands for. @throws FormatError when its compression is not known, or it is damaged */
export function contentOf(section: ElfSection, bits: 32 | 64): FileImage {
  const isOlder = section.name.startsWith('.zdebug_');
  if ((section.flags & SHF_COMPRESSED) === 0n && !isOlder) return section.content;
  return isOlder ? decompressOlder(section) : decompress(section, bits);
}

const ELFCOMPRESS_ZLIB = 1;
const ELFCOMPRESS_ZSTD = 2;

/** Elf32_Chdr or Elf64_Chdr, and the compressed bytes. */
function decompress({ name, content }: ElfSection, bits: 32 | 64): FileImage {
  const reader = new ByteReader(content.read(0, content.size));
  const type = reader.u32();
  if (bits === 64) reader.skip(4);
  const size = bits === 64 ? reader.size64() : reader.u32();
  reader.skip(bits === 64 ? 8 : 4);
  const bytes = reader.bytes.subarray(reader.at);
  if (type === ELFCOMPRESS_ZSTD) return fromZstd(name, bytes, size);
  if (type !== ELFCOMPRESS_ZLIB) throw new FormatError(`${name} is compressed in an unknown way (${type}): ${REMEDY}`);
  return inflated(name, bytes, size);
}

const REMEDY = `objcopy --decompress-debug-sections makes a file that can be read`;

/** Only some hosts can decompress it: Node 22.15 and later. */
function fromZstd(name: string, bytes: Uint8Array, size: number): FileImage {
  const { zstdDecompressSync } = globalThis.process?.getBuiltinModule?.('node:zlib') ?? {};
  if (!zstdDecompressSync) {
    throw new FormatError(`${name} is compressed with zstd, which nothing here can decompress: ${REMEDY}`);
  }
  let content: Uint8Array;
  try {
    content = zstdDecompressSync(bytes, { maxOutputLength: Math.max(size, 1) });
  } catch (error) {
    throw new FormatError(`${name} cannot be decompressed: ${error instanceof Error ? error.message : error}`);
  }
  if (content.length !== size) throw new FormatError(`${name} claims to be ${size} bytes large`);
  return memoryFile(content);
}

/** What GNU tools wrote before ELF knew of compression: "ZLIB", and the size with its highest byte first. */
function decompressOlder({ name, content }: ElfSection): FileImage {
  const bytes = content.read(0, content.size);
  const text = String.fromCharCode(...bytes.subarray(0, 4));
  if (text !== 'ZLIB' || bytes.length < 12) throw new FormatError(`${name} is compressed in an unknown way`);
  const size = bytes.subarray(4, 12).reduce((value, byte) => 256 * value + byte, 0);
  return inflated(name, bytes.subarray(12), size);
}

/** A byte of zlib data stands for at most so many: a damaged size must not take all memory. */
const MOST_FOR_A_BYTE = 1032;

function inflated(name: string, bytes: Uint8Array, size: number): FileImage {
  if (size > MOST_FOR_A_BYTE * bytes.length) throw new FormatError(`${name} claims to be ${size} bytes large`);
  return memoryFile(inflateZlib(bytes, size));
}
