import { Mnemonic } from 'iced-x86';
import type { SlowInstruction } from './cpu.ts';

/** Rows by iced-x86 mnemonic name, as they are written in the instruction files. */
export type NamedInstructions = Readonly<Record<string, SlowInstruction>>;

/** Turns rows by name into rows by number. @throws RangeError for a name that iced-x86 does not know. */
export function byMnemonic(rows: NamedInstructions): [number, SlowInstruction][] {
  const numbers = Mnemonic as unknown as Readonly<Record<string, number>>;
  return Object.entries(rows).map(([name, execute]) => {
    const number = numbers[name];
    if (number === undefined) throw new RangeError(`iced-x86 has no mnemonic ${name}`);
    return [number, execute];
  });
}
