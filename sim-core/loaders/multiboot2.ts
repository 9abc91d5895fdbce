/** Multiboot 2 kernels (Multiboot2 Specification 2.0, "OS image format" and "Boot information format"). */

import { encodeMemoryMap, PHYSICAL } from '../platform/memory-map.ts';
import type { ImageSegment, LoadedImage } from './boot-request.ts';
import { isElf, readElf } from './elf.ts';
import { enterProtectedMode } from './entry-state.ts';
import { ImageError } from './image-error.ts';
import {
  BOOT_LOADER_NAME,
  type Loading,
  namedCommandLine,
  placeInformation,
  placeModules,
  zeroTerminated,
} from './loading.ts';

const MAGIC = 0xe852_50d6;
const BOOTED_MAGIC = 0x36d7_6289;
const SEARCH_LIMIT = 32_768;
const ALIGNMENT = 8;
const ARCHITECTURE_I386 = 0;
const MIB = 0x10_0000;

/** Header tags ("Header tags"). Those not named here change nothing for a machine without display and EFI. */
const HEADER_TAG = { end: 0, informationRequest: 1, addresses: 2, entry: 3, framebuffer: 5, efiServices: 7 } as const;
const OPTIONAL = 1;

/** Information tags ("Boot information format"), which a kernel can also ask for. */
const TAG = {
  end: 0, commandLine: 1, loaderName: 2, module: 3, basicMemory: 4, memoryMap: 6, oldRsdp: 14, newRsdp: 15,
} as const; // biome-ignore format: a table reads better in rows
const RSDP_SIZE = { old: 20, new: 36 } as const;
const MAP_ENTRY_SIZE = 24;

interface Header {
  readonly offset: number;
  readonly length: number;
  readonly architecture: number;
}

/** 8-aligned and wholly inside the first 32768 bytes; its four words add up to zero. */
export function findMultiboot2Header(image: Uint8Array): Header | undefined {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const end = Math.min(image.length, SEARCH_LIMIT) - 16;
  for (let offset = 0; offset <= end; offset += ALIGNMENT) {
    if (view.getUint32(offset, true) !== MAGIC) continue;
    const [architecture, length] = [view.getUint32(offset + 4, true), view.getUint32(offset + 8, true)];
    if ((MAGIC + architecture + length + view.getUint32(offset + 12, true)) % 2 ** 32 !== 0) continue;
    return { offset, length, architecture };
  }
  return undefined;
}

interface Program {
  readonly segments: readonly ImageSegment[];
  readonly entry: number;
}

/** Reads the header's tags one after the other. */
class HeaderReader {
  private readonly name: string;
  private readonly image: Uint8Array;
  private readonly view: DataView;
  private readonly header: Header;
  private entry: number | undefined;
  private segment: ImageSegment | undefined;

  constructor(name: string, image: Uint8Array, header: Header) {
    this.name = name;
    this.image = image;
    this.view = new DataView(image.buffer, image.byteOffset, image.byteLength);
    this.header = header;
  }

  read(): Program {
    const { offset, length, architecture } = this.header;
    if (architecture !== ARCHITECTURE_I386) this.fail('wrong-machine', `architecture ${architecture}, not 0 (i386)`);
    const end = offset + length;
    if (end > Math.min(this.image.length, SEARCH_LIMIT)) {
      this.fail('truncated-header', 'it is not wholly in the first 32768 bytes');
    }
    for (let at = offset + 16; at + 8 <= end; ) {
      const [type, flags, size] = [this.u16(at), this.u16(at + 2), this.u32(at + 4)];
      if (type === HEADER_TAG.end) break;
      if (size < 8 || at + size > end) this.fail('malformed-header', `tag ${type} has a size of ${size} bytes`);
      this.tag(type, (flags & OPTIONAL) !== 0, at, size);
      at += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    }
    return this.program();
  }

  private fail(id: 'wrong-machine' | 'truncated-header' | 'malformed-header' | 'unsupported-request', what: string) {
    throw new ImageError(id, this.name, 'multiboot 2 header', what);
  }

  private u16(at: number): number {
    return this.view.getUint16(at, true);
  }

  private u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  private tag(type: number, optional: boolean, at: number, size: number): void {
    if (type === HEADER_TAG.informationRequest) this.checkRequests(optional, at, size);
    else if (type === HEADER_TAG.addresses && size >= 24) this.segment = this.addresses(at);
    else if (type === HEADER_TAG.entry && size >= 12) this.entry = this.u32(at + 8);
    else if (!optional && (type === HEADER_TAG.framebuffer || type === HEADER_TAG.efiServices)) {
      const what = type === HEADER_TAG.framebuffer ? 'a graphics framebuffer' : 'EFI boot services';
      this.fail('unsupported-request', `the kernel requires ${what}`);
    }
  }

  private checkRequests(optional: boolean, at: number, size: number): void {
    if (optional) return;
    for (let word = at + 8; word + 4 <= at + size; word += 4) {
      const wanted = this.u32(word);
      if (Object.values<number>(TAG).includes(wanted)) continue;
      this.fail('unsupported-request', `the kernel requires boot information of type ${wanted}`);
    }
  }

  /** The address tag: as multiboot 1's address fields. */
  private addresses(at: number): ImageSegment {
    const [headerAddress, load, loadEnd, bssEnd] = [8, 12, 16, 20].map((field) => this.u32(at + field)) as [
      number, number, number, number,
    ]; // biome-ignore format: four words
    // All ones: the file's beginning is loaded at load_addr.
    const fileOffset = load === 0xffff_ffff ? 0 : this.header.offset - (headerAddress - load);
    if (fileOffset < 0 || headerAddress < load) this.fail('malformed-header', 'load_addr does not fit to header_addr');
    const fileSize = loadEnd === 0 ? this.image.length - fileOffset : loadEnd - load;
    if (fileSize <= 0 || fileOffset + fileSize > this.image.length) {
      throw new ImageError('truncated-segment', this.name, 'multiboot 2 header', 'load_end_addr is not in the file');
    }
    const memorySize = bssEnd === 0 ? fileSize : bssEnd - load;
    if (memorySize < fileSize) this.fail('malformed-header', 'bss_end_addr is inside the data');
    return { physical: load, fileOffset, fileSize, memorySize };
  }

  private program(): Program {
    if (this.segment) {
      if (this.entry === undefined) this.fail('malformed-header', 'an address tag without an entry address tag');
      return { segments: [this.segment], entry: this.entry ?? 0 };
    }
    if (!isElf(this.image)) this.fail('malformed-header', 'the file is no ELF file and the header has no address tag');
    const elf = readElf(this.name, this.image);
    return { segments: elf.segments, entry: this.entry ?? elf.entry };
  }
}

/** A tag: type, size, contents, padded to 8 bytes. */
function encodeTag(type: number, contents: Uint8Array): Uint8Array {
  const size = 8 + contents.length;
  const bytes = new Uint8Array(Math.ceil(size / ALIGNMENT) * ALIGNMENT);
  new DataView(bytes.buffer).setUint32(0, type, true);
  new DataView(bytes.buffer).setUint32(4, size, true);
  bytes.set(contents, 8);
  return bytes;
}

const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

function join(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

const memoryMapTag = ({ map }: Loading): Uint8Array =>
  encodeTag(TAG.memoryMap, join([words(MAP_ENTRY_SIZE, 0), encodeMemoryMap(map, MAP_ENTRY_SIZE)]));

function placeBootInformation(loading: Loading): number {
  const { request, cpu, ram, rsdp } = loading;
  const rsdpTags =
    rsdp === undefined
      ? []
      : [
          encodeTag(TAG.oldRsdp, cpu.mmu.physical.peek(rsdp, RSDP_SIZE.old)),
          encodeTag(TAG.newRsdp, cpu.mmu.physical.peek(rsdp, RSDP_SIZE.new)),
        ];
  const modules = placeModules(loading).map((start, i) => {
    const module = request.modules[i];
    const span = words(start, start + (module?.bytes.length ?? 0));
    return encodeTag(TAG.module, join([span, zeroTerminated(module?.commandLine ?? '')]));
  });
  const tags = join([
    encodeTag(TAG.commandLine, zeroTerminated(namedCommandLine(request))),
    encodeTag(TAG.loaderName, zeroTerminated(BOOT_LOADER_NAME)),
    ...modules,
    encodeTag(TAG.basicMemory, words(PHYSICAL.conventionalEnd >> 10, (ram.ramSize - MIB) / 1024)),
    memoryMapTag(loading),
    ...rsdpTags,
    encodeTag(TAG.end, new Uint8Array()),
  ]);
  return placeInformation(loading, join([words(8 + tags.length, 0), tags]));
}

/** @throws ImageError */
export function loadMultiboot2(loading: Loading): LoadedImage {
  const { name, image } = loading.request;
  const header = findMultiboot2Header(image);
  if (!header) throw new ImageError('wrong-format', name, '', 'no multiboot 2 header in the first 32768 bytes');
  const { segments, entry } = new HeaderReader(name, image, header).read();
  segments.forEach((segment, i) => {
    loading.ram.segment(image, segment, segments.length > 1 ? `segment ${i}` : '');
  });
  const rbx = placeBootInformation(loading);
  enterProtectedMode(loading.cpu, { entry, registers: { rax: BOOTED_MAGIC, rbx } });
  return { format: 'multiboot2', entry, segments };
}
