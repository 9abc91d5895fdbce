import { ByteReader, FormatError } from '../byte-reader.ts';
import type { FileImage } from '../file-image.ts';
import { type FormValue, readForm, type UnitSizes } from './forms.ts';

/** One row of the line-number matrix (DWARF 5, 6.2.2) that begins or ends a statement's code. */
export interface LineRow {
  readonly address: bigint;
  /** Index into LineTable.files. */
  readonly file: number;
  readonly line: number;
  readonly column: number;
  readonly isStatement: boolean;
  /** The address is the first after the sequence: nothing of this row's line is there. */
  readonly endSequence: boolean;
}

export interface LineTable {
  /** File names as the table gives them: directory and name joined, possibly relative to the unit's directory. */
  readonly files: readonly string[];
  /** Rows in the program's order: addresses rise within a sequence. */
  readonly rows: readonly LineRow[];
}

interface Header {
  readonly minimumInstructionLength: number;
  readonly defaultIsStatement: boolean;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  readonly opcodeLengths: readonly number[];
  readonly files: string[];
}

/** The text of an attribute or of a file's name; undefined when it is none. */
export type TextOf = (value: FormValue) => string | undefined;

/** Runs the line-number program at `offset` of .debug_line (versions 2 to 5). */
export function readLineTable(section: FileImage, offset: number, textOf: TextOf): LineTable {
  const { reader, offsetSize } = openTable(section, offset);
  const header = readHeader(reader, offsetSize, textOf);
  return { files: header.files, rows: runProgram(reader, header) };
}

/** Only the files of the table at `offset`, as readLineTable gives them. */
export function readLineFiles(section: FileImage, offset: number, textOf: TextOf): readonly string[] {
  const { reader, offsetSize } = openTable(section, offset);
  return readHeader(reader, offsetSize, textOf).files;
}

function openTable(section: FileImage, offset: number): { reader: ByteReader; offsetSize: 4 | 8 } {
  const start = new ByteReader(section.read(offset, Math.min(12, Math.max(section.size - offset, 0))));
  const { length, offsetSize } = start.unitLength();
  return { reader: new ByteReader(section.read(offset + start.at, length)), offsetSize };
}

function readHeader(reader: ByteReader, offsetSize: 4 | 8, textOf: TextOf): Header {
  const version = reader.u16();
  if (version < 2 || version > 5) throw new FormatError(`DWARF version ${version} in .debug_line`);
  const addressSize = version >= 5 ? reader.u8() : 0;
  if (version >= 5) reader.skip(1);
  const headerLength = reader.offset(offsetSize);
  const program = reader.at + headerLength;
  const minimumInstructionLength = reader.u8();
  if (version >= 4) reader.skip(1);
  const defaultIsStatement = reader.u8() !== 0;
  const lineBase = reader.i8();
  const lineRange = reader.u8();
  if (lineRange === 0) throw new FormatError('line range 0 in .debug_line');
  const opcodeBase = reader.u8();
  const opcodeLengths = Array.from({ length: opcodeBase - 1 }, () => reader.u8());
  const sizes = { offsetSize, addressSize };
  const files = version >= 5 ? readEntries5(reader, sizes, textOf) : readEntries4(reader);
  reader.at = program;
  return { minimumInstructionLength, defaultIsStatement, lineBase, lineRange, opcodeBase, opcodeLengths, files };
}

/** Before version 5: directories and files count from 1, directory 0 is the unit's. */
function readEntries4(reader: ByteReader): string[] {
  const directories = [''];
  for (let name = reader.string(); name !== ''; name = reader.string()) directories.push(name);
  const files = [''];
  for (let name = reader.string(); name !== ''; name = reader.string()) {
    const directory = directories[reader.count()] ?? '';
    reader.uleb();
    reader.uleb();
    files.push(join(directory, name));
  }
  return files;
}

const CONTENT = { path: 1, directory: 2 } as const;

/**
 * Version 5: both lists describe their own format and count from 0; directory 0 is the unit's. Where that is relative,
 * names are left relative to the unit's directory, as in version 4.
 */
function readEntries5(reader: ByteReader, sizes: UnitSizes, textOf: TextOf): string[] {
  const list = (): Map<number, FormValue>[] => {
    const format = Array.from({ length: reader.u8() }, () => ({ content: reader.count(), form: reader.count() }));
    return Array.from({ length: reader.count() }, () => {
      const entry = new Map<number, FormValue>();
      for (const { content, form } of format) entry.set(content, readForm(reader, form, sizes));
      return entry;
    });
  };
  const nameOf = (value: FormValue | undefined): string => (value && textOf(value)) ?? '';
  const directories = list().map((entry) => nameOf(entry.get(CONTENT.path)));
  if (!isAbsolute(directories[0] ?? '')) directories[0] = '';
  return list().map((entry) => {
    const index = entry.get(CONTENT.directory)?.raw;
    const directory = directories[typeof index === 'bigint' ? Number(index) : 0] ?? '';
    return join(join(directories[0] ?? '', directory), nameOf(entry.get(CONTENT.path)));
  });
}

const isAbsolute = (path: string): boolean => /^([a-zA-Z]:)?[\\/]/.test(path);
const join = (directory: string, name: string): string =>
  directory === '' || directory === name || isAbsolute(name) ? name : `${directory}/${name}`;

/** The state machine of DWARF 5, 6.2.5. x86 has no VLIW instructions: its operation index stays 0. */
class LineMachine {
  readonly rows: LineRow[] = [];
  readonly header: Header;
  address = 0n;
  file = 1;
  line = 1;
  column = 0;
  isStatement: boolean;

  constructor(header: Header) {
    this.header = header;
    this.isStatement = header.defaultIsStatement;
  }

  append(endSequence: boolean): void {
    const { address, file, line, column, isStatement } = this;
    this.rows.push({ address, file, line, column, isStatement, endSequence });
  }

  advance(operations: number): void {
    this.address += BigInt(operations * this.header.minimumInstructionLength);
  }

  special(opcode: number): void {
    const adjusted = opcode - this.header.opcodeBase;
    this.advance(Math.floor(adjusted / this.header.lineRange));
    this.line += this.header.lineBase + (adjusted % this.header.lineRange);
    this.append(false);
  }

  /** @param length of the whole instruction: an address fills what follows its opcode. */
  extended(opcode: number, length: number, reader: ByteReader): void {
    if (opcode === 1) {
      this.append(true);
      this.address = 0n;
      this.file = 1;
      this.line = 1;
      this.column = 0;
      this.isStatement = this.header.defaultIsStatement;
    } else if (opcode === 2) this.address = reader.unsigned(length - 1);
    else if (opcode === 3) this.header.files.push(reader.string());
  }
}

/** Standard opcodes DW_LNS_copy … DW_LNS_set_isa by number. */
const STANDARD: Readonly<Record<number, (machine: LineMachine, reader: ByteReader) => void>> = {
  1: (machine) => machine.append(false),
  2: (machine, reader) => machine.advance(reader.count()),
  3: (machine, reader) => {
    machine.line += Number(reader.sleb());
  },
  4: (machine, reader) => {
    machine.file = reader.count();
  },
  5: (machine, reader) => {
    machine.column = reader.count();
  },
  6: (machine) => {
    machine.isStatement = !machine.isStatement;
  },
  7: () => {},
  8: (machine) => machine.advance(Math.floor((255 - machine.header.opcodeBase) / machine.header.lineRange)),
  9: (machine, reader) => {
    machine.address += BigInt(reader.u16());
  },
  10: () => {},
  11: () => {},
  12: (_machine, reader) => {
    reader.uleb();
  },
};

function runProgram(reader: ByteReader, header: Header): LineRow[] {
  const machine = new LineMachine(header);
  while (!reader.done) {
    const opcode = reader.u8();
    if (opcode >= header.opcodeBase) machine.special(opcode);
    else if (opcode === 0) {
      const length = reader.count();
      const end = reader.at + length;
      const body = new ByteReader(reader.bytes, reader.at, end);
      if (length > 0) machine.extended(body.u8(), length, body);
      reader.at = end;
    } else if (STANDARD[opcode]) STANDARD[opcode](machine, reader);
    else for (let operand = 0; operand < (header.opcodeLengths[opcode - 1] ?? 0); operand++) reader.uleb();
  }
  return machine.rows;
}
