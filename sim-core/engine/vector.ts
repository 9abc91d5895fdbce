import type { Code } from './code.ts';
import { type I32, Int, type IntType, Value } from './value.ts';

/** Staged 128-bit vectors: WebAssembly's `v128` instructions by their names in its specification. */

export type V128 = Value<'v128'>;

/** Opcodes after the prefix 0xfd (WebAssembly Core Specification, "Vector Instructions"): v128 in, v128 out. */
const VECTOR = {
  'i8x16.swizzle': 14,
  'i8x16.eq': 35, 'i8x16.gt_s': 39, 'i16x8.eq': 45, 'i16x8.gt_s': 49, 'i32x4.eq': 55, 'i32x4.ne': 56, 'i32x4.gt_s': 59,
  'f32x4.eq': 65, 'f32x4.ne': 66, 'f32x4.lt': 67, 'f32x4.gt': 68, 'f32x4.le': 69, 'f32x4.ge': 70,
  'f64x2.eq': 71, 'f64x2.ne': 72, 'f64x2.lt': 73, 'f64x2.gt': 74, 'f64x2.le': 75, 'f64x2.ge': 76,
  'v128.not': 77, 'v128.and': 78, 'v128.andnot': 79, 'v128.or': 80, 'v128.xor': 81, 'v128.bitselect': 82,
  'f32x4.demote_f64x2_zero': 94, 'f64x2.promote_low_f32x4': 95,
  'i8x16.abs': 96, 'i16x8.abs': 128, 'i32x4.abs': 160, 'i8x16.neg': 97, 'i16x8.neg': 129, 'i32x4.neg': 161,
  'i8x16.narrow_i16x8_s': 101, 'i8x16.narrow_i16x8_u': 102, 'i16x8.narrow_i32x4_s': 133, 'i16x8.narrow_i32x4_u': 134,
  'f32x4.ceil': 103, 'f32x4.floor': 104, 'f32x4.trunc': 105, 'f32x4.nearest': 106,
  'f64x2.ceil': 116, 'f64x2.floor': 117, 'f64x2.trunc': 122, 'f64x2.nearest': 148,
  'i8x16.add': 110, 'i8x16.add_sat_s': 111, 'i8x16.add_sat_u': 112,
  'i8x16.sub': 113, 'i8x16.sub_sat_s': 114, 'i8x16.sub_sat_u': 115,
  'i8x16.min_s': 118, 'i8x16.min_u': 119, 'i8x16.max_s': 120, 'i8x16.max_u': 121, 'i8x16.avgr_u': 123,
  'i16x8.extadd_pairwise_i8x16_u': 125, 'i32x4.extadd_pairwise_i16x8_u': 127, 'i16x8.q15mulr_sat_s': 130,
  'i16x8.extend_low_i8x16_s': 135, 'i16x8.extend_low_i8x16_u': 137,
  'i16x8.extend_high_i8x16_s': 136, 'i16x8.extend_high_i8x16_u': 138,
  'i16x8.add': 142, 'i16x8.add_sat_s': 143, 'i16x8.add_sat_u': 144,
  'i16x8.sub': 145, 'i16x8.sub_sat_s': 146, 'i16x8.sub_sat_u': 147,
  'i16x8.mul': 149, 'i16x8.min_s': 150, 'i16x8.min_u': 151, 'i16x8.max_s': 152, 'i16x8.max_u': 153,
  'i16x8.avgr_u': 155,
  'i32x4.extend_low_i16x8_s': 167, 'i32x4.extend_low_i16x8_u': 169,
  'i32x4.add': 174, 'i32x4.sub': 177, 'i32x4.mul': 181, 'i32x4.min_s': 182, 'i32x4.min_u': 183, 'i32x4.max_s': 184,
  'i32x4.max_u': 185, 'i32x4.dot_i16x8_s': 186,
  'i32x4.extmul_low_i16x8_s': 188, 'i32x4.extmul_high_i16x8_s': 189,
  'i32x4.extmul_low_i16x8_u': 190, 'i32x4.extmul_high_i16x8_u': 191,
  'i64x2.extend_low_i32x4_s': 199, 'i64x2.extend_low_i32x4_u': 201,
  'i64x2.add': 206, 'i64x2.sub': 209, 'i64x2.mul': 213, 'i64x2.eq': 214, 'i64x2.gt_s': 217,
  'i64x2.extmul_low_i32x4_s': 220,
  'f32x4.abs': 224, 'f32x4.neg': 225, 'f64x2.abs': 236, 'f64x2.neg': 237,
  'f32x4.sqrt': 227, 'f32x4.add': 228, 'f32x4.sub': 229, 'f32x4.mul': 230, 'f32x4.div': 231,
  'f32x4.pmin': 234, 'f32x4.pmax': 235,
  'f64x2.sqrt': 239, 'f64x2.add': 240, 'f64x2.sub': 241, 'f64x2.mul': 242, 'f64x2.div': 243,
  'f64x2.pmin': 246, 'f64x2.pmax': 247,
  'i32x4.trunc_sat_f32x4_s': 248, 'f32x4.convert_i32x4_s': 250,
  'i32x4.trunc_sat_f64x2_s_zero': 252, 'f64x2.convert_low_i32x4_s': 254,
} as const; // biome-ignore format: a table reads better in rows
export type VectorOperation = keyof typeof VECTOR;

/** A vector shifted by an i32 taken modulo the lane's width. */
const SHIFT = {
  'i16x8.shl': 139, 'i16x8.shr_s': 140, 'i16x8.shr_u': 141,
  'i32x4.shl': 171, 'i32x4.shr_s': 172, 'i32x4.shr_u': 173,
  'i64x2.shl': 203, 'i64x2.shr_u': 205,
} as const; // biome-ignore format: a table reads better in rows
export type VectorShift = keyof typeof SHIFT;

/** Summaries of a vector as an i32. */
const SUMMARY = { 'v128.any_true': 83, 'i8x16.bitmask': 100, 'i32x4.bitmask': 164, 'i64x2.bitmask': 196 } as const;

/** Lane shapes: type of a lane as a scalar, and the opcodes of splat, extract_lane (unsigned) and replace_lane. */
const LANES = {
  i8x16: { type: 'i32', splat: 15, extract: 22, replace: 23 },
  i16x8: { type: 'i32', splat: 16, extract: 25, replace: 26 },
  i32x4: { type: 'i32', splat: 17, extract: 27, replace: 28 },
  i64x2: { type: 'i64', splat: 18, extract: 29, replace: 30 },
  f32x4: { type: 'f32', splat: 19, extract: 31, replace: 32 },
  f64x2: { type: 'f64', splat: 20, extract: 33, replace: 34 },
} as const;
type Lanes = typeof LANES;
export type Shape = keyof Lanes;

/** Scalar conversions by target and source type: opcode bytes. */
const CONVERT = {
  'f32.convert_i32_s': [0xb2], 'f32.convert_i64_s': [0xb4], 'f64.convert_i32_s': [0xb7], 'f64.convert_i64_s': [0xb9],
  'i32.trunc_sat_f32_s': [0xfc, 0], 'i32.trunc_sat_f64_s': [0xfc, 2],
  'i64.trunc_sat_f32_s': [0xfc, 4], 'i64.trunc_sat_f64_s': [0xfc, 6],
} as const; // biome-ignore format: a table reads better in rows

/** `args`, then the vector instruction `opcode` with its immediate bytes. */
const vectorEmit =
  (opcode: number, args: readonly Value[], immediates: readonly number[] = []): V128['emit'] =>
  (out) => {
    for (const arg of args) arg.emit(out);
    out.byte(0xfd);
    out.unsigned(opcode);
    out.append(immediates);
  };

/** Applies a vector instruction; the engine's validation checks the number of arguments. */
export const simd = (operation: VectorOperation, ...args: readonly V128[]): V128 =>
  new Value('v128', vectorEmit(VECTOR[operation], args));

export const shiftLanes = (operation: VectorShift, vector: V128, count: I32): V128 =>
  new Value('v128', vectorEmit(SHIFT[operation], [vector, count]));

export const summary = (operation: keyof typeof SUMMARY, vector: V128): I32 =>
  new Int('i32', vectorEmit(SUMMARY[operation], [vector]));

/** All lanes equal to `value` (its low bits for lanes of 8 and 16). */
export const splat = <S extends Shape>(shape: S, value: Value<Lanes[S]['type']>): V128 =>
  new Value('v128', vectorEmit(LANES[shape].splat, [value]));

/** Integer lane as a number, zero-extended. */
export const integerLane = <S extends 'i8x16' | 'i16x8' | 'i32x4' | 'i64x2'>(
  shape: S,
  vector: V128,
  lane: number,
): Int<Lanes[S]['type']> => new Int(LANES[shape].type, vectorEmit(LANES[shape].extract, [vector], [lane]));

export const floatLane = (shape: 'f32x4' | 'f64x2', vector: V128, lane: number): Value<'f32' | 'f64'> =>
  new Value(LANES[shape].type, vectorEmit(LANES[shape].extract, [vector], [lane]));

export const replaceLane = <S extends Shape>(
  shape: S,
  vector: V128,
  lane: number,
  value: Value<Lanes[S]['type']>,
): V128 => new Value('v128', vectorEmit(LANES[shape].replace, [vector, value], [lane]));

/** A constant of 16 bytes from its 64-bit halves. */
export function vectorConstant(low: bigint, high: bigint): V128 {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, low), true);
  view.setBigUint64(8, BigInt.asUintN(64, high), true);
  return new Value('v128', vectorEmit(12, [], Array.from(bytes)));
}

/** A constant of two or four equal lanes. */
export const lanes64 = (value: bigint): V128 => vectorConstant(value, value);
export const lanes32 = (value: bigint): V128 => lanes64((value << 32n) | value);

export const ZERO_VECTOR: V128 = vectorConstant(0n, 0n);

/** Lanes of `width` bytes chosen from `a` (numbers from 0) and `b` (numbers from 16 / width). */
export function shuffle(width: 1 | 2 | 4 | 8, a: V128, b: V128, lanes: readonly number[]): V128 {
  const bytes = lanes.flatMap((lane) => Array.from({ length: width }, (_, i) => lane * width + i));
  return new Value('v128', vectorEmit(13, [a, b], bytes));
}

/** `condition` ? `a` : `b`, both vectors evaluated. */
export const selectVector = (condition: I32, a: V128, b: V128): V128 =>
  new Value('v128', (out) => {
    for (const value of [a, b, condition]) value.emit(out);
    out.append([0x1c, 1, 0x7b]);
  });

const convertEmit =
  (operation: keyof typeof CONVERT, value: Value): Value['emit'] =>
  (out) => {
    value.emit(out);
    out.append(CONVERT[operation]);
  };

/** A signed integer as a floating-point number, rounded to nearest even. */
export const toFloat = <F extends 'f32' | 'f64'>(type: F, value: Int): Value<F> =>
  new Value(type, convertEmit(`${type}.convert_${value.type}_s`, value));

/** A floating-point number truncated to a signed integer; NaN gives 0 and numbers out of range the nearest one. */
export const toInteger = <I extends IntType>(type: I, value: Value<'f32' | 'f64'>): Int<I> =>
  new Int(type, convertEmit(`${type}.trunc_sat_${value.type}_s`, value));

/** Loads and stores: opcode by number of bytes; 4 and 8 are zero-extended. Smaller ones are a lane of a zero vector. */
const LOAD: Readonly<Record<VectorSize, number>> = { 1: 84, 2: 85, 4: 92, 8: 93, 16: 0 };
const STORE_LANE: Readonly<Record<1 | 2 | 4 | 8, number>> = { 1: 88, 2: 89, 4: 90, 8: 91 };
type VectorSize = 1 | 2 | 4 | 8 | 16;

export const loadVector = (bytes: VectorSize, address: I32, offset = 0): V128 =>
  bytes < 4
    ? new Value('v128', vectorEmit(LOAD[bytes], [address, ZERO_VECTOR], [0, offset, 0]))
    : new Value('v128', vectorEmit(LOAD[bytes], [address], [0, offset]));

/** Stores the low `bytes` bytes of `vector`. */
export function storeVector(code: Code, bytes: VectorSize, address: I32, vector: V128, offset = 0): void {
  if (bytes === 16) code.store(16, address, vector, offset);
  else code.emit(vectorEmit(STORE_LANE[bytes], [address, vector], [0, offset, 0]));
}
