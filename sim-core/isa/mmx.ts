import { hasMmxOperand } from '../engine/quadword.ts';
import type { Semantics, Stage } from '../engine/stage.ts';
import { type I64, i32, i64, load32 } from '../engine/value.ts';
import {
  integerLane, lanes64, replaceLane, shuffle, simd, splat, type V128, type VectorOperation, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { CR0 } from '../state/control-bits.ts';
import { OFFSET } from '../state/layout.ts';
import { VECTOR } from '../state/vectors.ts';
import { SSE_INTEGER } from './sse-integer.ts';
import { SSE_MOVES } from './sse-moves.ts';
import { immediate, requireSse } from './sse-operands.ts';
import { toWord } from './word.ts';

/**
 * MMX instructions (SDM Vol. 2): those of SSE2 and SSSE3 on registers of 8 bytes, which are the significands of the x87
 * registers. Most lanes do not care how many there are beside them, so most rows are SSE's.
 */

const ZERO = i32(0);
/** Summary and TOP of the x87 status word. */
const PENDING = 0x80;
const TOP = 0x3800;

/** #UD, #NM or #MF as CR0 and the x87 status word ask for (SDM Vol. 3A, "MMX/SSE/SSE2 … Exception Conditions"). */
function requireMmx(s: Stage): void {
  const { code } = s;
  const cr0 = code.let(load32(ZERO, OFFSET.cr0));
  const pending = code.let(load32(ZERO, OFFSET.x87Status).and(PENDING));
  code.if(cr0.and(CR0.em | CR0.ts).or(pending), () => {
    s.faultIf(cr0.and(CR0.em), VECTOR.ud);
    s.faultIf(cr0.and(CR0.ts), VECTOR.nm);
    // Without CR0.NE errors are reported by FERR#, which only slow instructions know of.
    s.faultIf(cr0.and(CR0.ne), VECTOR.mf);
    s.slowIf(i32(1));
  });
}

/** All registers become valid, and TOP 0 (SDM Vol. 3A, "Effects of MMX Instructions on x87 FPU Tag Word"). */
function enterMmx({ code }: Stage): void {
  code.store(4, ZERO, ZERO, OFFSET.x87Tag);
  code.store(4, ZERO, load32(ZERO, OFFSET.x87Status).and(~TOP), OFFSET.x87Status);
}

/** dst = f(dst, src). */
const packed =
  (compute: (a: V128, b: V128) => V128): Semantics =>
  (s) => {
    const b = s.vector(1, 'read').read();
    const target = s.vector(0, 'modify');
    target.write(compute(target.read(), b));
  };

const pack = (operation: VectorOperation): Semantics =>
  packed((a, b) => {
    const both = shuffle(8, a, b, [0, 2]);
    return simd(operation, both, both);
  });

/** Alternating lanes of the high halves. */
function unpackHigh(width: 1 | 2 | 4): Semantics {
  const all = 16 / width;
  const lanes = Array.from({ length: all }, (_, i) => all / 4 + ((i % (all / 2)) >> 1) + (i % 2 === 0 ? 0 : all));
  return packed((a, b) => shuffle(width, a, b, lanes));
}

/** Bits to shift by for the word that the immediate in operand `i` chooses. */
const wordShift = (s: Stage, i: number): I64 => immediate(s, i).and(3).shl(4).extendU();

const extractWord: Semantics = (s) => {
  const word = integerLane('i64x2', s.vector(1, 'read').read(), 0).shrU(wordShift(s, 2)).wrap().and(0xffff);
  const target = s.operand(0, 'write');
  target.write(toWord(word, target.size === 8 ? 'i64' : 'i32'));
};

const insertWord: Semantics = (s) => {
  const word = s.operand(1, 'read').read().extendU().and(0xffffn);
  const by = s.code.let(wordShift(s, 2));
  const target = s.vector(0, 'modify');
  const rest = integerLane('i64x2', target.read(), 0).and(i64(0xffffn).shl(by).xor(-1n));
  target.write(replaceLane('i64x2', ZERO_VECTOR, 0, rest.or(word.shl(by))));
};

/** Sums or differences of neighbours: of the first operand below, of the second above. */
const horizontal = (width: 2 | 4, operation: VectorOperation): Semantics => {
  const lanes = (odd: 0 | 1) => Array.from({ length: 16 / width }, (_, i) => (2 * i + odd) % (16 / width));
  return packed((a, b) => {
    const both = shuffle(8, a, b, [0, 2]);
    return simd(operation, shuffle(width, both, both, lanes(0)), shuffle(width, both, both, lanes(1)));
  });
};

/** Swizzles give 0 for the numbers that the top bit makes too large. */
const NUMBERS_AND_TOP = lanes64(0x8787_8787_8787_8787n);
const shuffleBytes = packed((a, b) => simd('i8x16.swizzle', a, simd('v128.and', b, NUMBERS_AND_TOP)));

const BYTE_NUMBERS = lanes64(0x0706_0504_0302_0100n);
const alignRight: Semantics = (s) => {
  const from = splat('i8x16', immediate(s, 2));
  const numbers = s.code.keep(simd('i8x16.add_sat_u', BYTE_NUMBERS, from));
  const b = s.vector(1, 'read').read();
  const target = s.vector(0, 'modify');
  target.write(simd('i8x16.swizzle', shuffle(8, b, target.read(), [0, 2]), numbers));
};

/** Rows of SSE that do the same on 8 bytes, for instructions of their own name. */
const SHARED = [
  'Pand', 'Pandn', 'Por', 'Pxor', 'Paddb', 'Paddw', 'Paddd', 'Paddq', 'Psubb', 'Psubw', 'Psubd', 'Psubq', 'Paddsb',
  'Paddsw', 'Paddusb', 'Paddusw', 'Psubsb', 'Psubsw', 'Psubusb', 'Psubusw', 'Pmullw', 'Pmulhw', 'Pmulhuw', 'Pmuludq',
  'Pmaddwd', 'Psadbw', 'Pavgb', 'Pavgw', 'Pminub', 'Pmaxub', 'Pminsw', 'Pmaxsw', 'Pcmpeqb', 'Pcmpeqw', 'Pcmpeqd',
  'Pcmpgtb', 'Pcmpgtw', 'Pcmpgtd', 'Psllw', 'Pslld', 'Psllq', 'Psrlw', 'Psrld', 'Psrlq', 'Psraw', 'Psrad', 'Movd',
  'Movq', 'Pmovmskb', 'Punpcklbw', 'Punpcklwd', 'Punpckldq', 'Pabsb', 'Pabsw', 'Pabsd', 'Psignb', 'Psignw', 'Psignd',
  'Pmaddubsw', 'Pmulhrsw',
] as const; // biome-ignore format: a list reads better in rows

/** And for instructions of another name. */
const RENAMED = { Movntq: 'Movq', Movq2dq: 'Movq', Movdq2q: 'Movq', Pshufw: 'Pshuflw' } as const;

function rowOf(name: string): Semantics {
  const row = SSE_INTEGER[name] ?? SSE_MOVES[name];
  if (!row) throw new RangeError(`SSE has no row ${name}`);
  return row;
}

const MMX: Readonly<Record<string, Semantics>> = {
  ...Object.fromEntries(SHARED.map((name) => [name, rowOf(name)])),
  ...Object.fromEntries(Object.entries(RENAMED).map(([name, other]) => [name, rowOf(other)])),
  Punpckhbw: unpackHigh(1), Punpckhwd: unpackHigh(2), Punpckhdq: unpackHigh(4),
  Packsswb: pack('i8x16.narrow_i16x8_s'), Packuswb: pack('i8x16.narrow_i16x8_u'),
  Packssdw: pack('i16x8.narrow_i32x4_s'),
  Pextrw: extractWord, Pinsrw: insertWord, Pshufb: shuffleBytes, Palignr: alignRight,
  Phaddw: horizontal(2, 'i16x8.add'), Phaddd: horizontal(4, 'i32x4.add'), Phaddsw: horizontal(2, 'i16x8.add_sat_s'),
  Phsubw: horizontal(2, 'i16x8.sub'), Phsubd: horizontal(4, 'i32x4.sub'), Phsubsw: horizontal(2, 'i16x8.sub_sat_s'),
}; // biome-ignore format: a table reads better in rows

const onMmx =
  (semantics: Semantics): Semantics =>
  (s) => {
    if (s.form.operands.some(({ kind }) => kind === 'xmm')) requireSse(s);
    requireMmx(s);
    semantics(s);
    enterMmx(s);
  };

/** Forms with MMX registers that are not staged: slow instructions. */
const slow: Semantics = (s) => s.slowIf(i32(1));

/** Rows of SSE by name, with those on MMX registers added to them. */
export function withMmx(sse: Readonly<Record<string, Semantics>>): Readonly<Record<string, Semantics>> {
  const names = [...new Set([...Object.keys(sse), ...Object.keys(MMX)])];
  return Object.fromEntries(
    names.map((name) => {
      const mmx = MMX[name];
      const [onRegisters, otherwise] = [mmx ? onMmx(mmx) : slow, sse[name] ?? slow];
      return [name, (s: Stage) => (hasMmxOperand(s.form) ? onRegisters(s) : otherwise(s))];
    }),
  );
}
