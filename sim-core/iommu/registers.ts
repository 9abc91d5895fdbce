/** The register set (VT-d specification, chapter "Register Descriptions"), as words of 32 bits. */

import { type BitField, bits, flag } from '../vmx/bits.ts';
import { HOST_ADDRESS_WIDTH } from './entries.ts';

/** Number of fault recording registers, and where they are. */
export const FAULT_RECORDS = { count: 8, offset: 0x220 } as const;
const IOTLB_OFFSET = 0xf0;

/** Capabilities that are there: bit of the register → value. */
const CAPABILITY: readonly (readonly [string, number, number])[] = [
  // 2^(4 + 2 × 6): 64 Ki domains.
  ['ND', 0, 6],
  // 39-bit and 48-bit adjusted guest address widths: three and four levels.
  ['SAGAW', 8, 0b00110],
  ['MGAW', 16, 47],
  ['ZLR', 22, 1],
  ['FRO', 24, FAULT_RECORDS.offset / 16],
  // 2-MiB and 1-GiB second-stage pages.
  ['SSLPS', 34, 0b0011],
  ['PSI', 39, 1],
  ['NFR', 40, FAULT_RECORDS.count - 1],
  ['MAMV', 48, 18],
  ['DWD', 54, 1],
  ['DRD', 55, 1],
  ['PI', 59, 1],
];
const EXTENDED_CAPABILITY: readonly (readonly [string, number, number])[] = [
  // Page walks see memory as processors do.
  ['C', 0, 1],
  ['QI', 1, 1],
  ['IR', 3, 1],
  ['EIM', 4, 1],
  ['PT', 6, 1],
  ['SC', 7, 1],
  ['IRO', 8, IOTLB_OFFSET / 16],
  ['MHMV', 20, 15],
  ['SMTS', 43, 1],
  ['SSADS', 45, 1],
  ['SSTS', 46, 1],
  ['RPS', 49, 1],
];

const registerValue = (rows: readonly (readonly [string, number, number])[]): bigint =>
  rows.reduce((sum, [, bit, value]) => sum | (BigInt(value) << BigInt(bit)), 0n);

/** The largest MAMV: page-selective invalidations of up to 2^18 pages. */
export const LARGEST_MASK = 18;

export const GLOBAL = {
  translation: 0x8000_0000,
  setRootTable: 0x4000_0000,
  queuedInvalidation: 0x0400_0000,
  interruptRemapping: 0x0200_0000,
  setInterruptTable: 0x0100_0000,
  compatibilityInterrupts: 0x0080_0000,
} as const;
const GLOBAL_FIELDS: readonly BitField[] = [
  flag('TE', 31),
  flag('RTP', 30),
  flag('QIE', 26),
  flag('IRE', 25),
  flag('IRTP', 24),
  flag('CFI', 23),
];

/** Why the invalidation queue has stopped: IQERCD_REG.IQEI. */
export const QUEUE_ERROR = {
  tail: 1, fetch: 2, type: 3, reserved: 4, width: 5, unaligned: 6,
} as const; // biome-ignore format: a table reads better in rows
const QUEUE_ERROR_WORDS: Readonly<Record<number, string>> = {
  [QUEUE_ERROR.tail]: 'the tail is beyond the queue',
  [QUEUE_ERROR.fetch]: 'the queue is at an address without memory',
  [QUEUE_ERROR.type]: 'a descriptor of a type that does not exist',
  [QUEUE_ERROR.reserved]: 'reserved bits are set in a descriptor',
  [QUEUE_ERROR.width]: 'a descriptor of 256 bits in a queue of 128-bit ones',
  [QUEUE_ERROR.unaligned]: 'the tail is not at the start of a descriptor',
};
export const FAULT_STATUS = { overflow: 0x1, pending: 0x2, queueError: 0x10 } as const;
/** Of FECTL_REG and IECTL_REG. */
export const EVENT_CONTROL = { mask: 0x8000_0000, pending: 0x4000_0000 } as const;
export const QUEUE = { wide: 0x800n, size: 0x7n } as const;
export const INTERRUPT_TABLE = { size: 0xfn, extended: 0x800n } as const;
export const INVALIDATION_COMPLETE = 1;

const ADDRESS_BITS = ((1n << BigInt(HOST_ADDRESS_WIDTH)) - 1n) & ~0xfffn;

export interface Register {
  readonly offset: number;
  /** Bytes: 4 or 8. */
  readonly size: 4 | 8;
  readonly reset: bigint;
  /** Bits that software sets. */
  readonly writable: bigint;
  /** Bits that writing 1 clears. */
  readonly clearable: bigint;
  readonly fields: readonly BitField[];
}

const row = (
  offset: number,
  size: 4 | 8,
  reset: bigint,
  writable = 0n,
  fields: readonly BitField[] = [],
  clearable = 0n,
): Register => ({ offset, size, reset, writable, clearable, fields });

const capabilityFields = (rows: readonly (readonly [string, number, number])[]): BitField[] =>
  rows.map(([name, bit, value]) => bits(name, bit + value.toString(2).length - 1, bit));

const EVENT_CONTROL_FIELDS = [flag('IM', 31), flag('IP', 30)];

export const REGISTERS = {
  VER: row(0x00, 4, 0x10n, 0n, [bits('major', 7, 4), bits('minor', 3, 0)]),
  CAP: row(0x08, 8, registerValue(CAPABILITY), 0n, capabilityFields(CAPABILITY)),
  ECAP: row(0x10, 8, registerValue(EXTENDED_CAPABILITY), 0n, capabilityFields(EXTENDED_CAPABILITY)),
  /** Write-only: what it asks for shows in GSTS. */
  GCMD: row(0x18, 4, 0n),
  GSTS: row(0x1c, 4, 0n, 0n, GLOBAL_FIELDS),
  RTADDR: row(0x20, 8, 0n, ADDRESS_BITS | 0xc00n, [bits('RTA', 63, 12), bits('TTM', 11, 10)]),
  CCMD: row(0x28, 8, 0n, 0xe000_0003_ffff_ffffn, [flag('ICC', 63), bits('CIRG', 62, 61), bits('CAIG', 60, 59)]),
  FSTS: row(
    0x34,
    4,
    0n,
    0n,
    [flag('PFO', 0), flag('PPF', 1), flag('IQE', 4), bits('FRI', 15, 8)],
    BigInt(FAULT_STATUS.overflow | FAULT_STATUS.queueError),
  ),
  FECTL: row(0x38, 4, BigInt(EVENT_CONTROL.mask), BigInt(EVENT_CONTROL.mask), EVENT_CONTROL_FIELDS),
  FEDATA: row(0x3c, 4, 0n, 0xffffn),
  FEADDR: row(0x40, 4, 0n, 0xffff_fffcn),
  FEUADDR: row(0x44, 4, 0n, 0xffff_ffffn),
  IQH: row(0x80, 8, 0n),
  IQT: row(0x88, 8, 0n, 0x7_fff0n),
  IQA: row(0x90, 8, 0n, ADDRESS_BITS | QUEUE.wide | QUEUE.size, [flag('DW', 11), bits('QS', 2, 0)]),
  ICS: row(0x9c, 4, 0n, 0n, [flag('IWC', 0)], BigInt(INVALIDATION_COMPLETE)),
  IECTL: row(0xa0, 4, BigInt(EVENT_CONTROL.mask), BigInt(EVENT_CONTROL.mask), EVENT_CONTROL_FIELDS),
  IEDATA: row(0xa4, 4, 0n, 0xffffn),
  IEADDR: row(0xa8, 4, 0n, 0xffff_fffcn),
  IEUADDR: row(0xac, 4, 0n, 0xffff_ffffn),
  IQERCD: row(0xb0, 8, 0n, 0n, [bits('IQEI', 3, 0, QUEUE_ERROR_WORDS)]),
  IRTA: row(0xb8, 8, 0n, ADDRESS_BITS | INTERRUPT_TABLE.extended | INTERRUPT_TABLE.size, [
    flag('EIME', 11),
    bits('S', 3, 0),
  ]),
  IVA: row(IOTLB_OFFSET, 8, 0n, 0xffff_ffff_ffff_f07fn, [bits('ADDR', 63, 12), flag('IH', 6), bits('AM', 5, 0)]),
  IOTLB: row(IOTLB_OFFSET + 8, 8, 0n, 0xb003_ffff_0000_0000n, [
    flag('IVT', 63),
    bits('IIRG', 61, 60),
    bits('IAIG', 58, 57),
    bits('DID', 47, 32),
  ]),
} as const satisfies Record<string, Register>;
export type RegisterName = keyof typeof REGISTERS;

/** A fault recording register: two quadwords. */
export const FAULT_RECORD = {
  /** Bits of its last word. */
  fault: 0x8000_0000,
  read: 0x4000_0000,
} as const;

const WORDS = 0x400;

/** The registers' contents. Accesses are words of 32 bits; software's 64-bit accesses arrive as two. */
export class RegisterFile {
  private readonly words = new Uint32Array(WORDS);
  private readonly writable = new Uint32Array(WORDS);
  private readonly clearable = new Uint32Array(WORDS);

  constructor() {
    for (const { offset, size, writable, clearable } of Object.values(REGISTERS)) {
      for (let i = 0; i < size; i += 4) {
        this.writable[(offset + i) / 4] = Number(BigInt.asUintN(32, writable >> BigInt(8 * i)));
        this.clearable[(offset + i) / 4] = Number(BigInt.asUintN(32, clearable >> BigInt(8 * i)));
      }
    }
    for (const [name, { reset }] of Object.entries(REGISTERS)) this.set(name as RegisterName, reset);
  }

  word(offset: number): number {
    return this.words[offset >>> 2] ?? 0;
  }
  setWord(offset: number, value: number): void {
    this.words[offset >>> 2] = value;
  }

  /** A write by software. */
  write(offset: number, value: number): void {
    const at = offset >>> 2;
    const old = this.words[at] ?? 0;
    const writable = this.writable[at] ?? 0;
    this.words[at] = (old & ~writable & ~(value & (this.clearable[at] ?? 0))) | (value & writable);
  }

  get(name: RegisterName): bigint {
    const { offset, size } = REGISTERS[name];
    const low = BigInt(this.word(offset));
    return size === 4 ? low : (BigInt(this.word(offset + 4)) << 32n) | low;
  }
  set(name: RegisterName, value: bigint): void {
    const { offset, size } = REGISTERS[name];
    this.setWord(offset, Number(BigInt.asUintN(32, value)));
    if (size === 8) this.setWord(offset + 4, Number(BigInt.asUintN(32, value >> 32n)));
  }

  /** Bits of a register of 32 bits. */
  has(name: RegisterName, mask: number): boolean {
    return (this.word(REGISTERS[name].offset) & mask) !== 0;
  }
  change(name: RegisterName, mask: number, on: boolean): void {
    const { offset } = REGISTERS[name];
    const old = this.word(offset);
    this.setWord(offset, on ? old | mask : old & ~mask);
  }

  snapshot(): readonly number[] {
    return [...this.words];
  }
  restore(saved: readonly number[]): void {
    this.words.set(saved);
  }
}
