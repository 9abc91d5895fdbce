/**
 * ORC, the Linux kernel's own tables of stack frames (its Documentation/arch/x86/orc-unwinder.rst, and struct orc_entry
 * of 6.1 and 6.4): they cover assembly language and changes of stacks, which call-frame information does not.
 */

import { type FrameRules, RETURN_ADDRESS_64, type RegisterRule } from './dwarf/call-frames.ts';

/** struct orc_entry: two signed 16-bit offsets, then fields of bits. */
const ENTRY_SIZE = 6;
const IP_SIZE = 4;
/** Registers of ORC by number: DWARF's numbers. */
const REGISTERS: Readonly<Record<number, number>> = { 2: 1, 3: 5, 4: 6, 5: 7, 6: 10, 7: 13 };
const [PREVIOUS_SP, BP, SP, BP_INDIRECT, SP_INDIRECT] = [1, 4, 5, 8, 9] as const;
const [RBP, RSP] = [6, 7] as const;
/** struct pt_regs, a register each 8 bytes by DWARF's number; -1: ORIG_RAX, CS, RFLAGS. */
const PT_REGS = [15, 14, 13, 12, 6, 3, 11, 10, 9, 8, 0, 2, 1, 4, 5, -1, RETURN_ADDRESS_64, -1, -1, RSP] as const;
/** What IRET takes: RIP, CS, RFLAGS, RSP. */
const IRET_FRAME = [RETURN_ADDRESS_64, -1, -1, RSP] as const;
const WORD = 8;

/** DWARF operations. */
const OP = { deref: 0x06, consts: 0x11, plus: 0x22, breg0: 0x70 } as const;

type Kind = 'call' | 'registers' | 'iret' | 'end';
/** By the number of a call's kind: 0 up to Linux 6.3 (bit 2 says that the stack ends), 2 from 6.4 on. */
const KINDS: Readonly<Record<number, readonly Kind[]>> = {
  0: ['call', 'registers', 'iret', 'end', 'end', 'end', 'end', 'end'],
  2: ['end', 'end', 'call', 'registers', 'iret', 'end', 'end', 'end'],
};

/** No caller: the frame's address cannot be computed. */
const OUTERMOST: FrameRules = {
  cfa: undefined,
  registers: new Map(),
  returnRegister: RETURN_ADDRESS_64,
  ofSignal: false,
};

export class OrcTable {
  private readonly at: bigint;
  private readonly places: Int32Array;
  private readonly entries: DataView;
  /** Numbers of entries by rising address. */
  private readonly order: Uint32Array;
  private readonly kinds: readonly Kind[];

  /**
   * @param ips `.orc_unwind_ip`: for each entry the distance from there to the address that it begins to hold at
   * @param at the address of `ips`
   * @param entries `.orc_unwind`
   */
  constructor(ips: Uint8Array, at: bigint, entries: Uint8Array) {
    const count = Math.min(Math.floor(ips.length / IP_SIZE), Math.floor(entries.length / ENTRY_SIZE));
    const data = new DataView(ips.buffer, ips.byteOffset, ips.length);
    this.at = at;
    this.places = Int32Array.from(
      { length: count },
      (_, index) => IP_SIZE * index + data.getInt32(IP_SIZE * index, true),
    );
    this.entries = new DataView(entries.buffer, entries.byteOffset, entries.length);
    // A linked kernel's table is sorted, a module's is when it is loaded.
    const isSorted = this.places.every((place, index) => index === 0 || place >= (this.places[index - 1] ?? 0));
    this.order = Uint32Array.from({ length: count }, (_, index) => index);
    if (!isSorted) this.order.sort((a, b) => this.place(a) - this.place(b) || a - b);
    this.kinds = this.findKinds();
  }

  private place(index: number): number {
    return this.places[index] ?? 0;
  }

  private bits(index: number): number {
    return this.entries.getUint16(ENTRY_SIZE * index + 4, true);
  }

  /** Most frames are those of calls, from RSP on: their kind's number tells the version. */
  private findKinds(): readonly Kind[] {
    const counts = new Array<number>(8).fill(0);
    for (let index = 0; index < this.places.length; index++) {
      const bits = this.bits(index);
      const kind = (bits >> 8) & 7;
      if ((bits & 15) === SP) counts[kind] = (counts[kind] ?? 0) + 1;
    }
    return KINDS[counts.indexOf(Math.max(...counts))] ?? [];
  }

  /** The lowest address that it knows, for telling whether it is one. */
  get start(): bigint | undefined {
    const first = this.order[0];
    return first === undefined || this.kinds.length === 0 ? undefined : this.at + BigInt(this.place(first));
  }

  /** How to leave the frame of the code at an address; undefined where it knows nothing. */
  rules(address: bigint): FrameRules | undefined {
    const wanted = Number(address - this.at);
    let [low, high] = [0, this.order.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.place(this.order[middle] ?? 0) <= wanted) low = middle + 1;
      else high = middle;
    }
    const index = this.order[low - 1];
    return index === undefined ? undefined : this.rulesOf(index);
  }

  private rulesOf(index: number): FrameRules {
    const bits = this.bits(index);
    const kind = this.kinds[(bits >> 8) & 7] ?? 'end';
    const cfa = baseOf(bits & 15, this.entries.getInt16(ENTRY_SIZE * index, true));
    if (kind === 'end' || !cfa) return OUTERMOST;
    if (kind !== 'call') {
      const registers = kind === 'registers' ? PT_REGS : IRET_FRAME;
      return { cfa, registers: savedFrom(registers), returnRegister: RETURN_ADDRESS_64, ofSignal: true };
    }
    const saved = new Map<number, RegisterRule>([[RETURN_ADDRESS_64, { kind: 'offset', offset: BigInt(-WORD) }]]);
    const rbp = rbpRule((bits >> 4) & 15, this.entries.getInt16(ENTRY_SIZE * index + 2, true));
    if (rbp) saved.set(RBP, rbp);
    return { cfa, registers: saved, returnRegister: RETURN_ADDRESS_64, ofSignal: false };
  }
}

/** The stack pointer behind the frame, or where the saved registers begin. */
function baseOf(register: number, offset: number): FrameRules['cfa'] {
  if (register === BP_INDIRECT) return { expression: Uint8Array.of(OP.breg0 + RBP, ...sleb(offset), OP.deref) };
  if (register === SP_INDIRECT) {
    const behind = [OP.consts, ...sleb(offset), OP.plus];
    return { expression: Uint8Array.of(OP.breg0 + RSP, 0, OP.deref, ...behind) };
  }
  const number = REGISTERS[register];
  return number === undefined ? undefined : { register: number, offset: BigInt(offset) };
}

function rbpRule(register: number, offset: number): RegisterRule | undefined {
  if (register === PREVIOUS_SP) return { kind: 'offset', offset: BigInt(offset) };
  return register === BP
    ? { kind: 'expression', expression: Uint8Array.of(OP.breg0 + RBP, ...sleb(offset)) }
    : undefined;
}

const savedFrom = (registers: readonly number[]): Map<number, RegisterRule> =>
  new Map(
    registers.flatMap((number, index) =>
      number < 0 ? [] : [[number, { kind: 'offset', offset: BigInt(WORD * index) }] as const],
    ),
  );

/** A signed number as DWARF writes it, in three bytes. */
const sleb = (value: number): number[] => [(value & 0x7f) | 0x80, ((value >> 7) & 0x7f) | 0x80, (value >> 14) & 0x7f];
