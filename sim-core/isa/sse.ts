import { Mnemonic } from 'iced-x86';
import type { Semantics } from '../engine/stage.ts';
import { AVX_ONLY } from './avx.ts';
import { FMA } from './fma.ts';
import { SSE_FLOAT } from './sse-float.ts';
import { SSE_INTEGER } from './sse-integer.ts';
import { SSE_MOVES } from './sse-moves.ts';
import { requireAvx, requireSse } from './sse-operands.ts';

type Rows = Readonly<Record<string, Semantics>>;

const LEGACY: Rows = { ...SSE_MOVES, ...SSE_INTEGER, ...SSE_FLOAT };

const behind =
  (check: Semantics) =>
  (semantics: Semantics): Semantics =>
  (stage) => {
    check(stage);
    semantics(stage);
  };

const mapped = (rows: Rows, change: (semantics: Semantics) => Semantics): Rows =>
  Object.fromEntries(Object.entries(rows).map(([name, semantics]) => [name, change(semantics)]));

/** The same instructions with a VEX prefix, where there are such. */
function vexForms(rows: Rows): Rows {
  const entries = Object.entries(rows).map(([name, semantics]) => [`V${name.toLowerCase()}`, semantics] as const);
  return Object.fromEntries(entries.filter(([name]) => name in Mnemonic));
}

/** SSE to SSE4.2 instructions on XMM registers; each checks first whether SSE may execute at all. */
export const SSE: Rows = mapped(LEGACY, behind(requireSse));

/** AVX and AVX2: the VEX forms of the former, and what has no other form. */
export const AVX: Rows = mapped({ ...vexForms(LEGACY), ...AVX_ONLY, ...FMA }, behind(requireAvx));
