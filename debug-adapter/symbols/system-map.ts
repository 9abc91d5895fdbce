/** Symbol lists as nm prints them: a Linux kernel's System.map, or its /proc/kallsyms. */

import { FormatError } from './byte-reader.ts';
import type { ElfFile, ElfSymbol } from './elf.ts';
import type { FileImage } from './file-image.ts';

/** Address, size (nm -S), kind, name; /proc/kallsyms adds a module's name in brackets. */
const LINE = /^([0-9a-f]{8,16}) (?:([0-9a-f]{8,16}) )?([A-Za-z?]) (\S+)(?:\s+\[\S+\])?$/;
/** A symbol of another file: nm prints it without an address. */
const UNDEFINED = /^\s+[UwvN] \S+$/;
/** Absolute symbols are numbers, not places. */
const ABSOLUTE = 'aA';
const CODE = 'tTwW';
/** Addresses below are offsets into each processor's own data. */
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

/** @throws FormatError that names the line that is not of this form */
export function parseSystemMap(file: FileImage): ElfFile {
  const symbols: ElfSymbol[] = [];
  const lines = decoder.decode(file.read(0, file.size)).split('\n');
  lines.forEach((line, index) => {
    if (line.trim() === '' || UNDEFINED.test(line.trimEnd())) return;
    const [, address = '', size = '0', kind = '', name = ''] = LINE.exec(line.trimEnd()) ?? [];
    if (name === '') throw new FormatError(`line ${index + 1} is not "address kind name"`);
    const place = BigInt(`0x${address}`);
    if (ABSOLUTE.includes(kind) || place < LOWEST) return;
    const code = CODE.includes(kind);
    const global = kind === kind.toUpperCase();
    symbols.push({ name, address: place, size: BigInt(`0x${size}`), kind: code ? 'function' : 'object', global, code });
  });
  const places = symbols.map(({ address }) => address).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const [first, last] = [places[0], places.at(-1)];
  if (first === undefined || last === undefined) {
    throw new FormatError('no symbol has an address (is it the stand-in of a package without symbols?)');
  }
  const start = symbols.find(({ name }) => name === IMAGE.start)?.address ?? first;
  const end = symbols.find(({ name }) => name === IMAGE.end)?.address ?? last + PAGE;
  const segments = [{ address: start, memorySize: end - start, executable: true }];
  return { bits: 64, entry: start, sections: [], segments, symbols };
}
