/** Symbol lists as nm prints them: a Linux kernel's System.map, or its /proc/kallsyms. */

import { FormatError } from './byte-reader.ts';
import type { ElfFile, ElfSegment, ElfSymbol } from './elf.ts';
import type { FileImage } from './file-image.ts';

/** Address, size (nm -S), kind, name; /proc/kallsyms adds a module's name in brackets. */
const LINE = /^([0-9a-f]{8,16}) (?:([0-9a-f]{8,16}) )?([A-Za-z?]) (\S+)(?:\s+\[(\S+)\])?$/;
/** A symbol of another file: nm prints it without an address. */
const UNDEFINED = /^\s+[UwvN] \S+$/;
/** Absolute symbols are numbers, not places. */
const ABSOLUTE = 'aA';
const CODE = 'tTwW';
/** Each processor's own data: its symbols are offsets, from 0 up to the address of this one. */
const PER_PROCESSOR_END = '__per_cpu_end';
/** In a list without it addresses below are no places. */
const LOWEST = 0x1_0000n;
/** The kernel's own names for its beginning and end. */
const IMAGE = { start: '_text', end: '_end' } as const;
const PAGE = 4096n;

/** Enough of a file to know what it is: nm prints undefined symbols first when it sorts. */
const BEGINNING = 4096;

const decoder = new TextDecoder();

/** Whether the first line with an address is one of such a list. */
export function isSystemMap(file: FileImage): boolean {
  const lines = decoder.decode(file.read(0, Math.min(file.size, BEGINNING))).split('\n');
  const first = lines.find((line) => line.trim() !== '' && !UNDEFINED.test(line.trimEnd()));
  return first !== undefined && LINE.test(first.trimEnd());
}

/** A symbol, and the module that /proc/kallsyms gives it to: '' for the kernel itself. */
interface Listed {
  readonly symbol: ElfSymbol;
  readonly module: string;
}

/** @throws FormatError that names the line that is not of this form */
export function parseSystemMap(file: FileImage): ElfFile {
  const lines = decoder.decode(file.read(0, file.size)).split('\n');
  const all = lines.flatMap((line, index) => {
    if (line.trim() === '' || UNDEFINED.test(line.trimEnd())) return [];
    return readLine(line.trimEnd(), index + 1) ?? [];
  });
  const end = all.find(({ symbol }) => symbol.name === PER_PROCESSOR_END)?.symbol.address;
  const perProcessor = end === undefined ? undefined : { start: 0n, end };
  const listed = perProcessor ? all : all.filter(({ symbol }) => symbol.address >= LOWEST);
  const placed = listed.filter(({ symbol }) => !perProcessor || symbol.address > perProcessor.end);
  const modules = [...new Set(placed.map(({ module }) => module))].sort();
  const segments = modules.map((module) => segmentOf(placed.filter((entry) => entry.module === module)));
  const [first] = segments;
  if (!first) throw new FormatError('no symbol has an address (is it the stand-in of a package without symbols?)');
  const symbols = listed.map(({ symbol }) => symbol);
  const threadLocal = undefined;
  return {
    bits: 64,
    isObject: false,
    entry: first.address,
    sections: [],
    segments,
    symbols,
    perProcessor,
    threadLocal,
  };
}

/** Undefined for numbers. @throws FormatError */
function readLine(line: string, number: number): Listed | undefined {
  const [, place = '', size = '0', kind = '', name = '', module = ''] = LINE.exec(line) ?? [];
  if (name === '') throw new FormatError(`line ${number} is not "address kind name"`);
  if (ABSOLUTE.includes(kind)) return undefined;
  const code = CODE.includes(kind);
  const global = kind === kind.toUpperCase();
  const [address, bytes] = [BigInt(`0x${place}`), BigInt(`0x${size}`)];
  const symbol = { name, address, size: bytes, kind: code ? 'function' : 'object', global, code } as const;
  return { symbol, module };
}

/** From the first symbol to the last one, or as far as the kernel's own names say. */
function segmentOf(listed: readonly Listed[]): ElfSegment {
  const named = (name: string): bigint | undefined =>
    listed.find(({ symbol, module }) => module === '' && symbol.name === name)?.symbol.address;
  const addresses = listed.map(({ symbol }) => symbol.address).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const address = named(IMAGE.start) ?? addresses[0] ?? 0n;
  const end = named(IMAGE.end) ?? (addresses.at(-1) ?? 0n) + PAGE;
  return { address, memorySize: end - address, executable: true };
}
