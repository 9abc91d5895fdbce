import type { Semantics } from '../engine/stage.ts';
import { i32, select } from '../engine/value.ts';
import {
  integerLane, lanes64, selectVector, shiftLanes, shuffle, simd, type V128, type VectorOperation, type VectorShift,
  ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { immediate, wide } from './sse-operands.ts';

/** SSE2 packed integers, and the bitwise operations of all three element kinds (SDM Vol. 2). */

/** dst = f(dst, src). */
const packed =
  (compute: (a: V128, b: V128) => V128): Semantics =>
  (s) => {
    const b = wide(s, 1).read();
    const target = s.vector(0, 'modify');
    target.write(compute(target.read(), b));
  };

const op = (operation: VectorOperation): Semantics => packed((a, b) => simd(operation, a, b));

/** The upper words of the products of words. */
const multiplyHigh = (sign: 's' | 'u'): Semantics =>
  packed((a, b) =>
    shuffle(
      2,
      simd(`i32x4.extmul_low_i16x8_${sign}`, a, b),
      simd(`i32x4.extmul_high_i16x8_${sign}`, a, b),
      [1, 3, 5, 7, 9, 11, 13, 15],
    ),
  );

const LOW_DOUBLEWORDS = lanes64(0xffff_ffffn);
const multiplyEven = packed((a, b) =>
  simd('i64x2.mul', simd('v128.and', a, LOW_DOUBLEWORDS), simd('v128.and', b, LOW_DOUBLEWORDS)),
);

/** PSADBW: sums of eight absolute differences of bytes; of two saturated differences one is zero. */
const sumOfDifferences = packed((a, b) => {
  const difference = simd('v128.or', simd('i8x16.sub_sat_u', a, b), simd('i8x16.sub_sat_u', b, a));
  const sums = simd('i32x4.extadd_pairwise_i16x8_u', simd('i16x8.extadd_pairwise_i8x16_u', difference));
  return simd('i64x2.add', simd('v128.and', sums, LOW_DOUBLEWORDS), shiftLanes('i64x2.shr_u', sums, i32(32)));
});

/** Counts of the lane's width or more clear the lanes, or fill them with the sign. */
const shift =
  (operation: VectorShift, bits: number): Semantics =>
  (s) => {
    const byImmediate = s.form.operands[1]?.kind === 'immediate';
    const amount = byImmediate ? immediate(s, 1).extendU() : integerLane('i64x2', wide(s, 1).read(), 0);
    const count = s.code.let(amount);
    const tooMuch = s.code.let(count.gtU(bits - 1));
    const target = s.vector(0, 'modify');
    const value = target.read();
    if (operation.endsWith('shr_s')) {
      target.write(shiftLanes(operation, value, select(tooMuch, i32(bits - 1), count.wrap())));
    } else {
      target.write(selectVector(tooMuch, ZERO_VECTOR, shiftLanes(operation, value, count.wrap())));
    }
  };

const and = op('v128.and');
/** Not the first operand, and the second. */
const andNot = packed((a, b) => simd('v128.andnot', b, a));
const or = op('v128.or');
const xor = op('v128.xor');

export const SSE_INTEGER = {
  Pand: and, Andps: and, Andpd: and, Pandn: andNot, Andnps: andNot, Andnpd: andNot,
  Por: or, Orps: or, Orpd: or, Pxor: xor, Xorps: xor, Xorpd: xor,
  Paddb: op('i8x16.add'), Paddw: op('i16x8.add'), Paddd: op('i32x4.add'), Paddq: op('i64x2.add'),
  Psubb: op('i8x16.sub'), Psubw: op('i16x8.sub'), Psubd: op('i32x4.sub'), Psubq: op('i64x2.sub'),
  Paddsb: op('i8x16.add_sat_s'), Paddsw: op('i16x8.add_sat_s'),
  Paddusb: op('i8x16.add_sat_u'), Paddusw: op('i16x8.add_sat_u'),
  Psubsb: op('i8x16.sub_sat_s'), Psubsw: op('i16x8.sub_sat_s'),
  Psubusb: op('i8x16.sub_sat_u'), Psubusw: op('i16x8.sub_sat_u'),
  Pmullw: op('i16x8.mul'), Pmulhw: multiplyHigh('s'), Pmulhuw: multiplyHigh('u'), Pmuludq: multiplyEven,
  Pmaddwd: op('i32x4.dot_i16x8_s'), Psadbw: sumOfDifferences,
  Pavgb: op('i8x16.avgr_u'), Pavgw: op('i16x8.avgr_u'),
  Pminub: op('i8x16.min_u'), Pmaxub: op('i8x16.max_u'), Pminsw: op('i16x8.min_s'), Pmaxsw: op('i16x8.max_s'),
  Pcmpeqb: op('i8x16.eq'), Pcmpeqw: op('i16x8.eq'), Pcmpeqd: op('i32x4.eq'),
  Pcmpgtb: op('i8x16.gt_s'), Pcmpgtw: op('i16x8.gt_s'), Pcmpgtd: op('i32x4.gt_s'),
  Packsswb: op('i8x16.narrow_i16x8_s'), Packuswb: op('i8x16.narrow_i16x8_u'), Packssdw: op('i16x8.narrow_i32x4_s'),
  Psllw: shift('i16x8.shl', 16), Pslld: shift('i32x4.shl', 32), Psllq: shift('i64x2.shl', 64),
  Psrlw: shift('i16x8.shr_u', 16), Psrld: shift('i32x4.shr_u', 32), Psrlq: shift('i64x2.shr_u', 64),
  Psraw: shift('i16x8.shr_s', 16), Psrad: shift('i32x4.shr_s', 32),
} satisfies Record<string, Semantics>; // biome-ignore format: a table reads better in rows
