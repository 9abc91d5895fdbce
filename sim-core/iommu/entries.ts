/** Formats of the tables in memory (VT-d specification, chapter "Translation Structure Formats"). */

import { type BitField, bits, extract, flag } from '../vmx/bits.ts';

/** Host address width: physical addresses of tables and pages are below 2^HAW. */
export const HOST_ADDRESS_WIDTH = 46;

const mask = (high: number, low: number): bigint => ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
const BEYOND_MEMORY = mask(63, HOST_ADDRESS_WIDTH);
const ALL = mask(63, 0);

export interface EntryFormat {
  /** As the specification calls it. */
  readonly name: string;
  /** Of each quadword: its named parts, and the bits that must be 0. */
  readonly quadwords: readonly { readonly fields: readonly BitField[]; readonly reserved: bigint }[];
}

const TRANSLATION_TYPES = { 0: 'second stage', 1: 'with device TLB', 2: 'pass-through' };
const ADDRESS_WIDTHS: Readonly<Record<number, string>> = { 1: '39-bit (3 levels)', 2: '48-bit (4 levels)' };
const PASID_TRANSLATION: Readonly<Record<number, string>> = {
  1: 'first stage',
  2: 'second stage',
  3: 'nested',
  4: 'pass-through',
};

const pointer = (name: string): BitField => bits(name, HOST_ADDRESS_WIDTH - 1, 12);
const PRESENT = flag('P', 0);
const FAULT_PROCESSING_DISABLE = flag('FPD', 1);
const NOTHING = { fields: [], reserved: ALL } as const;

export const FORMAT = {
  root: {
    name: 'root entry',
    quadwords: [{ fields: [PRESENT, pointer('CTP')], reserved: mask(11, 1) | BEYOND_MEMORY }, NOTHING],
  },
  context: {
    name: 'context entry',
    quadwords: [
      {
        fields: [PRESENT, FAULT_PROCESSING_DISABLE, bits('TT', 3, 2, TRANSLATION_TYPES), pointer('SSPTPTR')],
        reserved: mask(11, 4) | BEYOND_MEMORY,
      },
      { fields: [bits('AW', 2, 0, ADDRESS_WIDTHS), bits('DID', 23, 8)], reserved: mask(7, 7) | mask(63, 24) },
    ],
  },
  /** One half of a scalable-mode root entry: the lower for devices 0…15, the upper for 16…31. */
  scalableRoot: {
    name: 'scalable-mode root entry',
    quadwords: [{ fields: [PRESENT, pointer('CTP')], reserved: mask(11, 1) | BEYOND_MEMORY }],
  },
  scalableContext: {
    name: 'scalable-mode context entry',
    quadwords: [
      {
        fields: [PRESENT, FAULT_PROCESSING_DISABLE, bits('PDTS', 11, 9), pointer('PASIDDIRPTR')],
        // DTE, PASIDE and PRE belong to features that are not there.
        reserved: mask(8, 2) | BEYOND_MEMORY,
      },
      { fields: [bits('RID_PASID', 19, 0), flag('RID_PRIV', 20)], reserved: mask(63, 21) },
      NOTHING,
      NOTHING,
    ],
  },
  pasidDirectory: {
    name: 'PASID directory entry',
    quadwords: [
      { fields: [PRESENT, FAULT_PROCESSING_DISABLE, pointer('SMPTBLPTR')], reserved: mask(11, 2) | BEYOND_MEMORY },
    ],
  },
  pasid: {
    name: 'PASID table entry',
    quadwords: [
      {
        fields: [
          PRESENT,
          FAULT_PROCESSING_DISABLE,
          bits('AW', 4, 2, ADDRESS_WIDTHS),
          bits('PGTT', 8, 6, PASID_TRANSLATION),
          flag('SSADE', 9),
          pointer('SSPTPTR'),
        ],
        reserved: mask(5, 5) | mask(11, 10) | BEYOND_MEMORY,
      },
      { fields: [bits('DID', 15, 0), flag('PWSNP', 23), flag('PGSNP', 24)], reserved: mask(22, 16) },
    ],
  },
  /** An interrupt remapping table entry of the remapped format. */
  irte: {
    name: 'interrupt remapping table entry',
    quadwords: [
      {
        fields: [
          PRESENT,
          FAULT_PROCESSING_DISABLE,
          flag('DM', 2),
          flag('RH', 3),
          flag('TM', 4),
          bits('DLM', 7, 5),
          flag('IM', 15),
          bits('V', 23, 16),
          bits('DST', 63, 32),
        ],
        reserved: mask(14, 12) | mask(31, 24),
      },
      { fields: [bits('SID', 15, 0), bits('SQ', 17, 16), bits('SVT', 19, 18)], reserved: mask(63, 20) },
    ],
  },
  /** The same, of the posted format. */
  postedIrte: {
    name: 'interrupt remapping table entry (posted)',
    quadwords: [
      {
        fields: [
          PRESENT,
          FAULT_PROCESSING_DISABLE,
          flag('URG', 14),
          flag('IM', 15),
          bits('V', 23, 16),
          bits('PDAL', 63, 38),
        ],
        reserved: mask(7, 2) | mask(13, 12) | mask(37, 24),
      },
      {
        fields: [bits('SID', 15, 0), bits('SQ', 17, 16), bits('SVT', 19, 18), bits('PDAH', 63, 32)],
        reserved: mask(31, 20),
      },
    ],
  },
} as const satisfies Record<string, EntryFormat>;

/** A part of an entry by its name; 0 when the format has none of that name. */
export function fieldOf(format: EntryFormat, name: string, values: readonly bigint[]): number {
  for (const [at, { fields }] of format.quadwords.entries()) {
    const field = fields.find((candidate) => candidate.name === name);
    if (field) return Number(extract(field, values[at] ?? 0n));
  }
  return 0;
}

/** The address in an entry's pointer. */
export const pointerOf = (value: bigint): bigint => value & mask(HOST_ADDRESS_WIDTH - 1, 12);

export const hasReserved = (format: EntryFormat, values: readonly bigint[]): boolean =>
  format.quadwords.some(({ reserved }, at) => ((values[at] ?? 0n) & reserved) !== 0n);

/** Second-stage paging entries, of levels 4 (PML4E) to 1 (PTE). */
export const SECOND_STAGE = {
  read: 1n,
  write: 2n,
  page: 1n << 7n,
  accessed: 1n << 8n,
  dirty: 1n << 9n,
  fields: [flag('R', 0), flag('W', 1), flag('PS', 7), flag('A', 8), flag('D', 9), flag('SNP', 11)],
} as const;
export const SECOND_STAGE_NAMES: Readonly<Record<number, string>> = {
  4: 'SS-PML4E',
  3: 'SS-PDPTE',
  2: 'SS-PDE',
  1: 'SS-PTE',
};

/** TM (bit 62) belongs to device TLBs; SNP is for entries that map pages. */
export function secondStageReserved(level: number, leaf: boolean): bigint {
  const common = mask(51, HOST_ADDRESS_WIDTH) | mask(62, 62);
  if (!leaf) return common | mask(11, 11) | (level === 4 ? SECOND_STAGE.page : 0n);
  return level === 1 ? common : common | mask(11 + 9 * (level - 1), 12);
}
