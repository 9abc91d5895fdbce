import type { Semantics } from '../engine/stage.ts';
import { SSE_FLOAT } from './sse-float.ts';
import { SSE_INTEGER } from './sse-integer.ts';
import { SSE_MOVES } from './sse-moves.ts';
import { requireSse } from './sse-operands.ts';

/** SSE and SSE2 instructions on XMM registers; each checks first whether SSE may execute at all. */
export const SSE: Readonly<Record<string, Semantics>> = Object.fromEntries(
  Object.entries({ ...SSE_MOVES, ...SSE_INTEGER, ...SSE_FLOAT }).map(([name, semantics]) => [
    name,
    (stage) => {
      requireSse(stage);
      semantics(stage);
    },
  ]),
);
