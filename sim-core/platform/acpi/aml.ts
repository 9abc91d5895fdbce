/** Encodes ACPI machine language (ACPI specification, "ACPI Machine Language (AML) Specification"): what the DSDT needs. */

/** An encoded term. */
export type Aml = readonly number[];

const OP = {
  zero: 0x00, one: 0x01, name: 0x08, byte: 0x0a, word: 0x0b, dword: 0x0c, string: 0x0d, qword: 0x0e, scope: 0x10,
  buffer: 0x11, package: 0x12, dualName: 0x2e, multiName: 0x2f, extended: 0x5b, device: 0x82,
} as const; // biome-ignore format: a table reads better in rows

const bytesOf = (value: number, size: number): number[] =>
  Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) & 0xff);

/** The smallest form of an integer. */
export function integer(value: number): Aml {
  if (value === 0) return [OP.zero];
  if (value === 1) return [OP.one];
  if (value < 0x100) return [OP.byte, value];
  if (value < 0x1_0000) return [OP.word, ...bytesOf(value, 2)];
  return value < 2 ** 32 ? [OP.dword, ...bytesOf(value, 4)] : [OP.qword, ...bytesOf(value, 8)];
}

const ascii = (value: string): number[] => [...value].map((character) => character.charCodeAt(0));

/** 'PNP0A08' as the compressed number that _HID holds: 5 bits per letter, 4 per digit, bytes swapped. */
export function eisaId(id: string): Aml {
  const letters = ascii(id.slice(0, 3)).reduce((sum, letter) => sum * 32 + (letter - 0x40), 0);
  const product = Number.parseInt(id.slice(3), 16);
  return [OP.dword, letters >> 8, letters & 0xff, product >> 8, product & 0xff];
}

/** '\\_SB.PCI0': segments of up to four characters, filled up with underscores. */
function nameString(path: string): number[] {
  const root = path.startsWith('\\') ? [0x5c] : [];
  const segments = path.replace('\\', '').split('.');
  const encoded = segments.flatMap((segment) => ascii(segment.padEnd(4, '_')));
  if (segments.length === 1) return [...root, ...encoded];
  const prefix = segments.length === 2 ? [OP.dualName] : [OP.multiName, segments.length];
  return [...root, ...prefix, ...encoded];
}

/** The length in front of a term counts itself, and is 1 to 4 bytes long. */
function withLength(contents: readonly number[]): number[] {
  const short = contents.length + 1;
  if (short < 0x40) return [short, ...contents];
  const follow = contents.length + 2 < 0x1000 ? 1 : contents.length + 3 < 0x10_0000 ? 2 : 3;
  const length = contents.length + 1 + follow;
  return [(follow << 6) | (length & 0xf), ...bytesOf(length >> 4, follow), ...contents];
}

export const named = (path: string, value: Aml): Aml => [OP.name, ...nameString(path), ...value];

export const scope = (path: string, ...terms: readonly Aml[]): Aml => [
  OP.scope,
  ...withLength([...nameString(path), ...terms.flat()]),
];

export const device = (path: string, ...terms: readonly Aml[]): Aml => [
  OP.extended,
  OP.device,
  ...withLength([...nameString(path), ...terms.flat()]),
];

/** At most 255 elements. */
export const packageOf = (...elements: readonly Aml[]): Aml => [
  OP.package,
  ...withLength([elements.length, ...elements.flat()]),
];

const buffer = (bytes: readonly number[]): Aml => [OP.buffer, ...withLength([...integer(bytes.length), ...bytes])];

// Resource descriptors (ACPI specification, "Resource Data Types for ACPI")

/** A template ends with the end tag, whose checksum byte may be zero. */
export const resources = (...descriptors: readonly (readonly number[])[]): Aml =>
  buffer([...descriptors.flat(), 0x79, 0]);

/** Edge-triggered, active-high ISA interrupts. */
export const irq = (...numbers: readonly number[]): number[] => [
  0x22,
  ...bytesOf(
    numbers.reduce((mask, number) => mask | (1 << number), 0),
    2,
  ),
];

/** Fixed ports, 16-bit decoded. */
export const ports = (start: number, count: number): number[] => [
  0x47,
  1,
  ...bytesOf(start, 2),
  ...bytesOf(start, 2),
  1,
  count,
];

/** Fixed memory below 4 GiB, writable. */
export const memory = (start: number, size: number): number[] => [
  0x86,
  9,
  0,
  1,
  ...bytesOf(start, 4),
  ...bytesOf(size, 4),
];

const SPACE = { memory: 0, io: 1, bus: 2 } as const;
const TAG = { 2: 0x88, 4: 0x87, 8: 0x8a } as const;
/** Memory: writable, not cached. I/O: the whole range is decoded. */
const TYPE_FLAGS = { memory: 1, io: 3, bus: 0 } as const;
/** A producer's range with fixed ends. */
const FIXED_PRODUCER = 0x0c;

/** What a bridge passes on: granularity 0, first, last, translation 0, length. @param width bytes of each number */
export function bridged(space: keyof typeof SPACE, width: 2 | 4 | 8, start: number, size: number): number[] {
  const numbers = [0, start, start + size - 1, 0, size].flatMap((value) => bytesOf(value, width));
  const contents = [SPACE[space], FIXED_PRODUCER, TYPE_FLAGS[space], ...numbers];
  return [TAG[width], ...bytesOf(contents.length, 2), ...contents];
}
