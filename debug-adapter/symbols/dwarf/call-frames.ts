import { ByteReader, FormatError } from '../byte-reader.ts';
import { lastAtOrBelow } from '../line-index.ts';

/**
 * Where a caller's register is: at CFA + offset in memory, CFA + offset itself, where a DWARF expression says, what one
 * gives, in another register, or lost.
 */
export type RegisterRule =
  | { readonly kind: 'offset' | 'value'; readonly offset: bigint }
  | { readonly kind: 'expression' | 'valueExpression'; readonly expression: Uint8Array }
  | { readonly kind: 'register'; readonly register: number }
  | { readonly kind: 'lost' };

export type CfaRule = { readonly register: number; readonly offset: bigint } | { readonly expression: Uint8Array };

/** How to leave the frame of one instruction (DWARF 5, 6.4). Register numbers are DWARF's. */
export interface FrameRules {
  /** Canonical frame address: register + offset, or what an expression gives. */
  readonly cfa: CfaRule | undefined;
  /** Registers not listed keep their values. */
  readonly registers: ReadonlyMap<number, RegisterRule>;
  /** The column that holds the return address: 16 in 64-bit code, 8 in 32-bit code. */
  readonly returnRegister: number;
  /** The caller was interrupted: the address is that of its next instruction, not behind a call. */
  readonly ofSignal: boolean;
}

interface CommonEntry {
  readonly codeAlignment: bigint;
  readonly dataAlignment: bigint;
  readonly returnRegister: number;
  readonly addressSize: number;
  /** DW_EH_PE encoding of addresses in .eh_frame. */
  readonly encoding: number;
  readonly augmentation: string;
  readonly instructions: Uint8Array;
}

interface FrameEntry {
  readonly start: bigint;
  readonly end: bigint;
  readonly common: CommonEntry;
  readonly instructions: Uint8Array;
}

/** A .debug_frame or .eh_frame section. */
export interface FrameSection {
  readonly bytes: Uint8Array;
  readonly address: bigint;
  readonly kind: 'debug' | 'eh';
}

/** Call-frame information of a program. */
export class CallFrames {
  private readonly entries: readonly FrameEntry[];

  constructor(sections: readonly FrameSection[]) {
    this.entries = sections.flatMap(readSection).sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  }

  /** The rules at `address`; undefined where the program has none. */
  rules(address: bigint): FrameRules | undefined {
    const index = lastAtOrBelow(this.entries, address, ({ start }) => start);
    const entry = this.entries[index];
    return entry && address < entry.end ? runInstructions(entry, address) : undefined;
  }
}

function readSection(section: FrameSection): FrameEntry[] {
  const reader = new ByteReader(section.bytes);
  const commons = new Map<number, CommonEntry>();
  const entries: FrameEntry[] = [];
  while (!reader.done) {
    const start = reader.at;
    const { length, offsetSize } = reader.unitLength();
    if (length === 0) {
      if (section.kind === 'eh') break;
      continue;
    }
    const idAt = reader.at;
    const end = idAt + length;
    const body = new ByteReader(section.bytes, idAt, end);
    const idSize = section.kind === 'eh' ? 4 : offsetSize;
    const id = body.unsigned(idSize);
    const isCommon = id === (section.kind === 'eh' ? 0n : BigInt.asUintN(8 * idSize, -1n));
    if (isCommon) commons.set(start, readCommon(body, end, section));
    else {
      const common = commons.get(section.kind === 'eh' ? idAt - Number(id) : Number(id));
      const entry = common && readEntry(body, end, common, section);
      if (entry) entries.push(entry);
    }
    reader.at = end;
  }
  return entries;
}

/** The return-address column of the x86-64 psABI. */
export const RETURN_ADDRESS_64 = 16;

function readCommon(reader: ByteReader, end: number, section: FrameSection): CommonEntry {
  const version = reader.u8();
  const augmentation = reader.string();
  const ownAddressSize = version >= 4 ? reader.u8() : undefined;
  if (version >= 4) reader.skip(1);
  const codeAlignment = reader.uleb();
  const dataAlignment = reader.sleb();
  const returnRegister = version === 1 ? reader.u8() : reader.count();
  // Older entries have the program's address size. It is not the ELF class: objcopy makes ELF32 files of 64-bit code.
  const addressSize = ownAddressSize ?? (returnRegister === RETURN_ADDRESS_64 ? 8 : 4);
  let encoding = 0;
  if (augmentation.startsWith('z')) {
    const length = reader.count();
    const data = new ByteReader(reader.bytes, reader.at, reader.at + length);
    for (const letter of augmentation.slice(1)) {
      if (letter === 'R') encoding = data.u8();
      else if (letter === 'L') data.skip(1);
      else if (letter === 'P') readPointer(data, data.u8(), section, addressSize);
    }
    reader.skip(length);
  }
  const instructions = reader.bytes.subarray(reader.at, end);
  return { codeAlignment, dataAlignment, returnRegister, addressSize, encoding, augmentation, instructions };
}

function readEntry(
  reader: ByteReader,
  end: number,
  common: CommonEntry,
  section: FrameSection,
): FrameEntry | undefined {
  const { encoding, addressSize, augmentation } = common;
  const start = readPointer(reader, encoding, section, addressSize);
  if (start === undefined) return undefined;
  const length = readPointer(reader, encoding & 0x0f, section, addressSize);
  if (length === undefined) return undefined;
  if (augmentation.startsWith('z')) reader.skip(reader.count());
  return { start, end: start + length, common, instructions: reader.bytes.subarray(reader.at, end) };
}

type PointerReader = (reader: ByteReader, addressSize: number) => bigint;
/** DW_EH_PE value formats (low nibble). */
const POINTER_FORMATS: Readonly<Record<number, PointerReader>> = {
  0: (reader, size) => reader.unsigned(size),
  1: (reader) => reader.uleb(),
  2: (reader) => reader.unsigned(2),
  3: (reader) => reader.unsigned(4),
  4: (reader) => reader.u64(),
  9: (reader) => reader.sleb(),
  10: (reader) => BigInt.asIntN(16, reader.unsigned(2)),
  11: (reader) => BigInt.asIntN(32, reader.unsigned(4)),
  12: (reader) => reader.i64(),
};

/** @returns undefined for encodings relative to things that only a running process knows. */
function readPointer(
  reader: ByteReader,
  encoding: number,
  section: FrameSection,
  addressSize: number,
): bigint | undefined {
  const place = section.address + BigInt(reader.at);
  const value = POINTER_FORMATS[encoding & 0x0f]?.(reader, addressSize);
  const relation = encoding & 0x70;
  if (value === undefined || (relation !== 0 && relation !== 0x10)) return undefined;
  return BigInt.asUintN(8 * addressSize, relation === 0x10 ? place + value : value);
}

/** The row of the unwind table that is being built. */
class Row {
  cfa: FrameRules['cfa'];
  registers = new Map<number, RegisterRule>();
  address: bigint;

  constructor(address: bigint) {
    this.address = address;
  }
}

function runInstructions(entry: FrameEntry, address: bigint): FrameRules {
  const row = new Row(entry.start);
  execute(entry.common.instructions, entry.common, row, undefined, undefined);
  const initial = new Map(row.registers);
  execute(entry.instructions, entry.common, row, initial, address);
  const { returnRegister, augmentation } = entry.common;
  return { cfa: row.cfa, registers: row.registers, returnRegister, ofSignal: augmentation.includes('S') };
}

interface SavedRow {
  readonly cfa: FrameRules['cfa'];
  readonly registers: Map<number, RegisterRule>;
}

interface Execution {
  readonly reader: ByteReader;
  readonly common: CommonEntry;
  readonly row: Row;
  readonly initial: ReadonlyMap<number, RegisterRule> | undefined;
  readonly stack: SavedRow[];
}

/** Executes until the row of `limit` is complete (all instructions when undefined). */
function execute(
  instructions: Uint8Array,
  common: CommonEntry,
  row: Row,
  initial: ReadonlyMap<number, RegisterRule> | undefined,
  limit: bigint | undefined,
): void {
  const state: Execution = { reader: new ByteReader(instructions), common, row, initial, stack: [] };
  while (!state.reader.done) {
    const opcode = state.reader.u8();
    const operand = opcode & 0x3f;
    if (opcode >> 6 === 1) advance(state, BigInt(operand));
    else if (opcode >> 6 === 2) savedAt(state, operand, BigInt(state.reader.uleb()) * common.dataAlignment);
    else if (opcode >> 6 === 3) restore(state, operand);
    else {
      const action = CFA_OPCODES[opcode];
      if (!action) throw new FormatError(`call-frame instruction 0x${opcode.toString(16)} is unknown`);
      action(state);
    }
    if (limit !== undefined && row.address > limit) return;
  }
}

function advance(state: Execution, delta: bigint): void {
  state.row.address += delta * state.common.codeAlignment;
}
const savedAt = (state: Execution, register: number, offset: bigint, kind: 'offset' | 'value' = 'offset'): void => {
  state.row.registers.set(register, { kind, offset });
};
function restore(state: Execution, register: number): void {
  const rule = state.initial?.get(register);
  if (rule) state.row.registers.set(register, rule);
  else state.row.registers.delete(register);
}
function defineCfa(state: Execution, register: number, offset: bigint): void {
  state.row.cfa = { register, offset };
}
function lose(state: Execution): void {
  state.row.registers.set(state.reader.count(), { kind: 'lost' });
}
function readExpression({ reader }: Execution): Uint8Array {
  const length = reader.count();
  const start = reader.at;
  reader.skip(length);
  return reader.bytes.subarray(start, start + length);
}
function byExpression(state: Execution, kind: 'expression' | 'valueExpression'): void {
  const register = state.reader.count();
  state.row.registers.set(register, { kind, expression: readExpression(state) });
}
/** The rule that is changed in part: one by an expression has neither register nor offset. */
function simpleCfa({ row }: Execution): { readonly register: number; readonly offset: bigint } {
  return row.cfa && 'register' in row.cfa ? row.cfa : { register: 0, offset: 0n };
}
const factored = (state: Execution, signed: boolean): bigint =>
  (signed ? state.reader.sleb() : state.reader.uleb()) * state.common.dataAlignment;

/** DW_CFA opcodes with the high two bits zero (DWARF 5, 7.24, and GNU's argument-size hint). */
const CFA_OPCODES: Readonly<Record<number, (state: Execution) => void>> = {
  0: () => {},
  1: (state) => {
    state.row.address = state.reader.unsigned(state.common.addressSize);
  },
  2: (state) => advance(state, BigInt(state.reader.u8())),
  3: (state) => advance(state, BigInt(state.reader.u16())),
  4: (state) => advance(state, BigInt(state.reader.u32())),
  5: (state) => savedAt(state, state.reader.count(), factored(state, false)),
  6: (state) => restore(state, state.reader.count()),
  7: lose,
  8: (state) => {
    state.row.registers.delete(state.reader.count());
  },
  9: (state) => {
    state.row.registers.set(state.reader.count(), { kind: 'register', register: state.reader.count() });
  },
  10: (state) => {
    state.stack.push({ cfa: state.row.cfa, registers: new Map(state.row.registers) });
  },
  11: (state) => {
    const saved = state.stack.pop();
    if (!saved) throw new FormatError('DW_CFA_restore_state without a state');
    state.row.cfa = saved.cfa;
    state.row.registers = saved.registers;
  },
  12: (state) => defineCfa(state, state.reader.count(), state.reader.uleb()),
  13: (state) => defineCfa(state, state.reader.count(), simpleCfa(state).offset),
  14: (state) => defineCfa(state, simpleCfa(state).register, state.reader.uleb()),
  15: (state) => {
    state.row.cfa = { expression: readExpression(state) };
  },
  16: (state) => byExpression(state, 'expression'),
  17: (state) => savedAt(state, state.reader.count(), factored(state, true)),
  18: (state) => defineCfa(state, state.reader.count(), factored(state, true)),
  19: (state) => defineCfa(state, simpleCfa(state).register, factored(state, true)),
  20: (state) => savedAt(state, state.reader.count(), factored(state, false), 'value'),
  21: (state) => savedAt(state, state.reader.count(), factored(state, true), 'value'),
  22: (state) => byExpression(state, 'valueExpression'),
  46: (state) => {
    state.reader.uleb();
  },
};
