import { Mnemonic } from 'iced-x86';
import { MMX_INSTRUCTIONS } from '../../sim-core/cpu/mmx-instructions.ts';
import { byMnemonic } from '../../sim-core/cpu/table.ts';
import { VECTOR_INSTRUCTIONS } from '../../sim-core/cpu/vector-instructions.ts';
import { X87_INSTRUCTIONS } from '../../sim-core/cpu/x87/instructions.ts';
import { SEMANTICS } from '../../sim-core/isa/semantics.ts';

/** Slow instructions (sim-core/cpu) that user mode may execute and that depend on nothing but the compared state. */
const SLOW: readonly number[] = [
  Mnemonic.Movsb, Mnemonic.Movsw, Mnemonic.Movsd, Mnemonic.Movsq, Mnemonic.Stosb, Mnemonic.Stosw, Mnemonic.Stosd,
  Mnemonic.Stosq, Mnemonic.Lodsb, Mnemonic.Lodsw, Mnemonic.Lodsd, Mnemonic.Lodsq, Mnemonic.Cmpsb, Mnemonic.Cmpsw,
  Mnemonic.Cmpsd, Mnemonic.Cmpsq, Mnemonic.Scasb, Mnemonic.Scasw, Mnemonic.Scasd, Mnemonic.Scasq,
  Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b, Mnemonic.Enter, Mnemonic.Xlatb, Mnemonic.Pushfq, Mnemonic.Pushf,
  Mnemonic.Pushfd, Mnemonic.Ldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Pdep, Mnemonic.Pext, Mnemonic.Crc32,
  Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Aam, Mnemonic.Aad, Mnemonic.Daa, Mnemonic.Das, Mnemonic.Salc, Mnemonic.Bound,
]; // biome-ignore format: a list reads better in rows

/** Each processor family approximates these in its own way; see docs/limits.md. */
const APPROXIMATIONS: ReadonlySet<number> = new Set([
  Mnemonic.Rcpps, Mnemonic.Rcpss, Mnemonic.Rsqrtps, Mnemonic.Rsqrtss,
  Mnemonic.Vrcpps, Mnemonic.Vrcpss, Mnemonic.Vrsqrtps, Mnemonic.Vrsqrtss,
]); // biome-ignore format: a list reads better in rows

const VECTORS: readonly number[] = byMnemonic(VECTOR_INSTRUCTIONS)
  .map(([mnemonic]) => mnemonic)
  .filter((mnemonic) => !APPROXIMATIONS.has(mnemonic));

const X87_AND_MMX: readonly number[] = byMnemonic({ ...X87_INSTRUCTIONS, ...MMX_INSTRUCTIONS }).map(
  ([mnemonic]) => mnemonic,
);

/** Hints of one vendor that the other answers with #UD. */
const VENDOR_SPECIFIC: ReadonlySet<number> = new Set([Mnemonic.Reservednop]);

/** What the oracle tests: every staged instruction, and the slow ones above. */
export const TESTED_MNEMONICS: ReadonlySet<number> = new Set(
  [...SEMANTICS.keys(), ...SLOW, ...VECTORS, ...X87_AND_MMX].filter((mnemonic) => !VENDOR_SPECIFIC.has(mnemonic)),
);
