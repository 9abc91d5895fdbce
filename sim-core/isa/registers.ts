import { Register } from 'iced-x86';
import { OFFSET } from '../state/layout.ts';

/** Where an iced-x86 register lives in the state: byte address and size. */
export interface RegisterLocation {
  readonly address: number;
  readonly size: 1 | 2 | 4 | 8 | 16 | 32;
  /** Number as encoded (0…15). */
  readonly number: number;
  readonly kind: 'gpr' | 'mm' | 'xmm' | 'ymm' | 'segment';
}

const LEGACY = ['A', 'C', 'D', 'B', 'SP', 'BP', 'SI', 'DI'] as const;

/** Names of the eight legacy registers by size, e.g. 4 → EAX…EDI. */
function legacyName(number: number, size: 1 | 2 | 4 | 8): string {
  const stem = LEGACY[number] as string;
  const letter = stem.length === 1;
  if (size === 1) return `${stem}L`;
  const word = letter ? `${stem}X` : stem;
  return size === 2 ? word : size === 4 ? `E${word}` : `R${word}`;
}

function build(): ReadonlyMap<number, RegisterLocation> {
  const byName = Register as unknown as Readonly<Record<string, number>>;
  const map = new Map<number, RegisterLocation>();
  const add = (name: string, location: RegisterLocation) => {
    const register = byName[name];
    if (register === undefined) throw new Error(`iced-x86 has no register ${name}`);
    map.set(register, location);
  };
  const suffix = { 1: 'L', 2: 'W', 4: 'D', 8: '' } as const;
  for (const size of [1, 2, 4, 8] as const) {
    for (let number = 0; number < 16; number++) {
      const name = number < 8 ? legacyName(number, size) : `R${number}${suffix[size]}`;
      add(name, { address: OFFSET.gpr + 8 * number, size, number, kind: 'gpr' });
    }
  }
  ['AH', 'CH', 'DH', 'BH'].forEach((name, number) => {
    add(name, { address: OFFSET.gpr + 8 * number + 1, size: 1, number, kind: 'gpr' });
  });
  for (let number = 0; number < 16; number++) {
    add(`XMM${number}`, { address: OFFSET.ymm + 32 * number, size: 16, number, kind: 'xmm' });
    add(`YMM${number}`, { address: OFFSET.ymm + 32 * number, size: 32, number, kind: 'ymm' });
  }
  for (let number = 0; number < 8; number++) {
    add(`MM${number}`, { address: OFFSET.x87 + 16 * number, size: 8, number, kind: 'mm' });
  }
  ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'].forEach((name, number) => {
    add(name, { address: OFFSET.segmentSelector + 4 * number, size: 2, number, kind: 'segment' });
  });
  return map;
}

/** By iced-x86 Register number: every register that operands can name here. */
export const REGISTERS: ReadonlyMap<number, RegisterLocation> = build();
