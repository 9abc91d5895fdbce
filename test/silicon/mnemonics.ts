import { Mnemonic } from 'iced-x86';
import { SEMANTICS } from '../../sim-core/isa/semantics.ts';

/** Slow instructions (sim-core/cpu) that user mode may execute and that depend on nothing but the compared state. */
const SLOW: readonly number[] = [];

/** Hints of one vendor that the other answers with #UD. */
const VENDOR_SPECIFIC: ReadonlySet<number> = new Set([Mnemonic.Reservednop]);

/** What the oracle tests: every staged instruction, and the slow ones above. */
export const TESTED_MNEMONICS: ReadonlySet<number> = new Set(
  [...SEMANTICS.keys(), ...SLOW].filter((mnemonic) => !VENDOR_SPECIFIC.has(mnemonic)),
);
