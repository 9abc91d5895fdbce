/** What a file is, as far as it matters to someone who wants to boot it. Pure: works on bytes. */

export type ImageKind =
  | {
      readonly kind: 'elf';
      readonly bits: 32 | 64;
      /** The version of the multiboot header, if there is one where a loader looks for it. */
      readonly multiboot: 1 | 2 | undefined;
      /** A program for an operating system (it names a dynamic loader), or not a program at all. */
      readonly role: 'bare' | 'hosted' | 'object';
    }
  | { readonly kind: 'foreignElf'; readonly machine: string }
  | { readonly kind: 'truncatedElf' }
  | { readonly kind: 'empty' }
  | { readonly kind: 'text' }
  | { readonly kind: 'flat'; readonly multiboot: 1 | 2 | undefined };

const ELF_MAGIC = 0x464c457f;
/** e_machine values of the System V ABI that people meet when they take the wrong toolchain. */
const MACHINES: Readonly<Record<number, string>> = {
  8: 'MIPS',
  20: 'PowerPC',
  21: '64-bit PowerPC',
  22: 'IBM S/390',
  40: 'Arm',
  183: 'AArch64',
  243: 'RISC-V',
  247: 'eBPF',
  258: 'LoongArch',
};
const EM_386 = 3;
const EM_X86_64 = 62;
const ET_EXEC = 2;
const ET_DYN = 3;
const PT_INTERP = 3;
const ELF32 = { headerSize: 52, headersAt: 28, entrySizeAt: 42, countAt: 44 } as const;
const ELF64 = { headerSize: 64, headersAt: 32, entrySizeAt: 54, countAt: 56 } as const;

const MULTIBOOT1 = { magic: 0x1badb002, within: 8192, step: 4 } as const;
const MULTIBOOT2 = { magic: 0xe85250d6, within: 32768, step: 8 } as const;

export function classifyImage(bytes: Uint8Array): ImageKind {
  if (bytes.length === 0) return { kind: 'empty' };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 4 && view.getUint32(0, true) === ELF_MAGIC) return classifyElf(view);
  return looksLikeText(bytes) ? { kind: 'text' } : { kind: 'flat', multiboot: multibootVersion(view) };
}

function classifyElf(view: DataView): ImageKind {
  if (view.byteLength < ELF32.headerSize) return { kind: 'truncatedElf' };
  const bits = view.getUint8(4) === 2 ? 64 : 32;
  const littleEndian = view.getUint8(5) === 1;
  const machine = view.getUint16(18, littleEndian);
  if (machine !== EM_386 && machine !== EM_X86_64) {
    return { kind: 'foreignElf', machine: MACHINES[machine] ?? `machine number ${machine}` };
  }
  const layout = bits === 64 ? ELF64 : ELF32;
  const headers = programHeaderTypes(view, layout, bits);
  if (headers === undefined) return { kind: 'truncatedElf' };
  const type = view.getUint16(16, true);
  const program = type === ET_EXEC || type === ET_DYN;
  const role = !program ? 'object' : headers.includes(PT_INTERP) ? 'hosted' : 'bare';
  return { kind: 'elf', bits, multiboot: multibootVersion(view), role };
}

/** @returns p_type of every program header, or undefined when the file ends before them. */
function programHeaderTypes(view: DataView, layout: typeof ELF32 | typeof ELF64, bits: 32 | 64): number[] | undefined {
  if (view.byteLength < layout.headerSize) return undefined;
  const start =
    bits === 64 ? Number(view.getBigUint64(layout.headersAt, true)) : view.getUint32(layout.headersAt, true);
  const size = view.getUint16(layout.entrySizeAt, true);
  const count = view.getUint16(layout.countAt, true);
  if (start + size * count > view.byteLength) return undefined;
  return Array.from({ length: count }, (_, index) => view.getUint32(start + index * size, true));
}

function multibootVersion(view: DataView): 1 | 2 | undefined {
  if (hasMagic(view, MULTIBOOT1)) return 1;
  return hasMagic(view, MULTIBOOT2) ? 2 : undefined;
}

/** A multiboot header counts only when its magic and the words after it add up to zero (both versions' rule). */
function hasMagic(view: DataView, header: typeof MULTIBOOT1 | typeof MULTIBOOT2): boolean {
  const words = header === MULTIBOOT1 ? 3 : 4;
  const end = Math.min(view.byteLength, header.within) - words * 4;
  for (let at = 0; at <= end; at += header.step) {
    if (view.getUint32(at, true) !== header.magic) continue;
    let sum = 0;
    for (let word = 0; word < words; word += 1) sum += view.getUint32(at + word * 4, true);
    if (sum >>> 0 === 0) return true;
  }
  return false;
}

function looksLikeText(bytes: Uint8Array): boolean {
  const head = bytes.subarray(0, 512);
  if (!head.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte !== 127))) return false;
  try {
    // `stream` forgives a character that the 512 bytes cut in two.
    new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true });
    return true;
  } catch {
    return false;
  }
}
