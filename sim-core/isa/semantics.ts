import { Code, Mnemonic } from 'iced-x86';
import type { Semantics } from '../engine/stage.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { BIT_MANIPULATION } from './bit-manipulation.ts';
import { withMmx } from './mmx.ts';
import { SHIFTS } from './shifts.ts';
import { AVX, SSE } from './sse.ts';
import { STRINGS } from './strings.ts';
import { TRANSFER } from './transfer.ts';

/** All staged instructions by name; the rest are slow instructions of `cpu/` and `vmx/`. */
const ROWS: Readonly<Record<string, Semantics>> = {
  ...ARITHMETIC,
  ...AVX,
  ...BIT_MANIPULATION,
  ...SHIFTS,
  ...TRANSFER,
  ...withMmx(SSE),
  ...STRINGS,
  Movsd: (s) => (s.form.operands.some(({ kind }) => kind === 'string') ? STRINGS : SSE).Movsd?.(s),
};

function byMnemonic(): ReadonlyMap<number, Semantics> {
  const numbers = Mnemonic as unknown as Readonly<Record<string, number>>;
  return new Map(
    Object.entries(ROWS).map(([name, semantics]) => {
      const number = numbers[name];
      if (number === undefined) throw new Error(`iced-x86 has no mnemonic ${name}`);
      return [number, semantics];
    }),
  );
}

/** Staged semantics by iced-x86 mnemonic. */
export const SEMANTICS: ReadonlyMap<number, Semantics> = byMnemonic();

/** Far transfers through memory share their mnemonic with near ones but are slow instructions. */
export const FAR_THROUGH_MEMORY: ReadonlySet<number> = new Set([
  Code.Jmp_m1616, Code.Jmp_m1632, Code.Jmp_m1664, Code.Call_m1616, Code.Call_m1632, Code.Call_m1664,
]); // biome-ignore format: a table reads better in rows

/** Mnemonics after which code does not go on with the next instruction: decoding ahead stops there. */
export const ENDS_BLOCK: ReadonlySet<number> = new Set([
  Mnemonic.Jmp, Mnemonic.Ret, Mnemonic.Retf, Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq, Mnemonic.Hlt, Mnemonic.Ud2,
  Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Sysexit, Mnemonic.Sysexitq, Mnemonic.Vmlaunch, Mnemonic.Vmresume,
  Mnemonic.INVALID,
]); // biome-ignore format: a table reads better in rows
