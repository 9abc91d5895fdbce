import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, i32, i64, load32, type Word } from '../engine/value.ts';
import {
  floatLane, integerLane, lanes32, lanes64, replaceLane, selectVector, shiftLanes, shuffle, simd, splat, summary,
  toFloat, toInteger, type V128, ZERO_VECTOR,
} from '../engine/vector.ts'; // biome-ignore format: a list reads better in rows
import { OFFSET } from '../state/layout.ts';
import {
  FLOAT_VARIANTS, type FloatVariant, halvesOf, lastImmediate, readFloats, readHalves, sources, writeFloats, writeHalves,
  writeScalar,
} from './sse-operands.ts'; // biome-ignore format: a list reads better in rows

/**
 * SSE and AVX floating-point arithmetic, comparison and conversion (SDM Vol. 2) in the usual case: rounding to nearest,
 * all exceptions masked, neither DAZ nor FTZ, and operands and results that raise at most the precision exception. The
 * slow implementation (cpu/vector/) does the rest: NaNs, infinities, denormals, numbers out of range, other MXCSRs.
 *
 * Whether a result is inexact is of interest only as long as MXCSR.PE is clear; then what may be inexact is left to the
 * slow implementation, too, which sets it.
 */

const MXCSR_USUAL = 0x1f80;
const PRECISION = 0x20;
const STATUS = 0x3f;

const ZERO = i32(0);

/** Bit patterns by shape: the least normal number, infinity, and the lower half of a significand. */
const LEAST_NORMAL = { f32x4: lanes32(0x0080_0000n), f64x2: lanes64(0x0010_0000_0000_0000n) } as const;
const INFINITY = { f32x4: lanes32(0x7f80_0000n), f64x2: lanes64(0x7ff0_0000_0000_0000n) } as const;
/** Two significands whose lower halves are zero have an exact product. */
const LOWER_HALF = { f32x4: lanes32(0xfffn), f64x2: lanes64(0x7ff_ffffn) } as const;

export const or = (first: V128, ...rest: readonly V128[]): V128 =>
  rest.reduce((all, mask) => simd('v128.or', all, mask), first);
export const and = (a: V128, b: V128): V128 => simd('v128.and', a, b);

type Shape = FloatVariant['shape'];
const abs = (shape: Shape, v: V128): V128 => simd(`${shape}.abs`, v);
export const isNonzero = (shape: Shape, v: V128): V128 => simd(`${shape}.ne`, v, ZERO_VECTOR);
export const isDenormal = (shape: Shape, v: V128): V128 =>
  and(simd(`${shape}.lt`, abs(shape, v), LEAST_NORMAL[shape]), isNonzero(shape, v));
/** Infinities and NaNs. */
export const isNotFinite = (shape: Shape, v: V128): V128 =>
  simd('v128.not', simd(`${shape}.lt`, abs(shape, v), INFINITY[shape]));
const isNan = (shape: Shape, v: V128): V128 => simd(`${shape}.ne`, v, v);
/** Results that may have been tiny before rounding, zero included. */
const isTiny = (shape: Shape, v: V128): V128 => simd(`${shape}.le`, abs(shape, v), LEAST_NORMAL[shape]);
const hasLowerHalf = (shape: Shape, v: V128): V128 => simd('i32x4.ne', and(v, LOWER_HALF[shape]), ZERO_VECTOR);

// ---- leaving the unusual to the slow implementation

function requireUsualMxcsr(s: Stage): void {
  s.slowIf(
    load32(ZERO, OFFSET.mxcsr)
      .and(0xffff & ~STATUS)
      .ne(MXCSR_USUAL),
  );
}

/** Which lanes of a vector count. */
type CountedLanes = Pick<FloatVariant, 'scalar' | 'bytes'>;

/** 1 if a lane that counts is set in one of the masks. */
export function anyLane({ scalar, bytes }: CountedLanes, masks: readonly V128[]): I32 {
  const all = or(masks[0] as V128, ...masks.slice(1));
  if (!scalar) return summary('v128.any_true', all);
  return bytes === 4 ? integerLane('i32x4', all, 0) : integerLane('i64x2', all, 0).ne(0);
}

export const slowIfAny = (s: Stage, variant: CountedLanes, masks: readonly V128[]): void =>
  s.slowIf(anyLane(variant, masks));

/** Leaves what may be inexact to the slow implementation while MXCSR.PE is clear. */
export function whilePrecise(s: Stage, mayBeInexact: () => I32): void {
  s.code.if(load32(ZERO, OFFSET.mxcsr).and(PRECISION).eqz(), () => s.slowIf(mayBeInexact()));
}

// ---- arithmetic

type Operation = 'add' | 'sub' | 'mul' | 'div';

/** Lanes whose results raise more than the precision exception. */
function unusual(operation: Operation, shape: Shape, a: V128, b: V128, result: V128): V128 {
  const always = or(isDenormal(shape, a), isDenormal(shape, b), isNotFinite(shape, result));
  // Sums that are tiny are exact.
  if (operation === 'add' || operation === 'sub') return always;
  const tiny = and(isTiny(shape, result), isNonzero(shape, a));
  return or(always, operation === 'mul' ? and(tiny, isNonzero(shape, b)) : tiny);
}

/** Lanes that may be inexact; a sum's rounding error is computed exactly (Knuth, "Seminumerical Algorithms", 4.2.2). */
function inexact(s: Stage, operation: Operation, shape: Shape, a: V128, b: V128, result: V128): V128 {
  const op = (name: Operation, x: V128, y: V128): V128 => simd(`${shape}.${name}`, x, y);
  if (operation === 'mul') return hasLowerHalf(shape, or(a, b));
  if (operation === 'div') {
    return or(hasLowerHalf(shape, or(result, b)), simd(`${shape}.ne`, op('mul', result, b), a));
  }
  const added = operation === 'add' ? b : s.code.keep(simd(`${shape}.neg`, b));
  const part = s.code.keep(op('sub', result, a));
  const error = op('add', op('sub', a, op('sub', result, part)), op('sub', added, part));
  return isNonzero(shape, error);
}

/** dst = a ∘ b by halves. */
function compute(s: Stage, variant: FloatVariant, operation: Operation, a: readonly V128[], b: readonly V128[]): void {
  const { shape } = variant;
  const lanes = a.map((x, half) => {
    const y = b[half] as V128;
    return [x, y, s.code.keep(simd(`${shape}.${operation}`, x, y))] as const;
  });
  slowIfAny(
    s,
    variant,
    lanes.map((lane) => unusual(operation, shape, ...lane)),
  );
  whilePrecise(s, () =>
    anyLane(
      variant,
      lanes.map((lane) => inexact(s, operation, shape, ...lane)),
    ),
  );
  writeFloats(
    s,
    variant,
    lanes.map(([, , result]) => result),
  );
}

const arithmetic =
  (operation: Operation) =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readFloats(s, second, variant);
    compute(s, variant, operation, readFloats(s, first, variant), b);
  };

/** Lanes of two vectors' numbers: those of even and of odd places. */
const PAIRS = { f32x4: [[0, 2, 4, 6], [1, 3, 5, 7]], f64x2: [[0, 2], [1, 3]] } as const; // biome-ignore format: pairs

const horizontal =
  (operation: 'add' | 'sub') =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readFloats(s, second, variant);
    const a = readFloats(s, first, variant);
    const [left, right] = PAIRS[variant.shape].map((lanes) =>
      a.map((half, i) => s.code.keep(shuffle(variant.bytes, half, b[i] as V128, lanes))),
    ) as [V128[], V128[]];
    compute(s, variant, operation, left, right);
  };

const EVEN_SIGNS = {
  f32x4: lanes64(0x8000_0000n),
  f64x2: replaceLane('i64x2', ZERO_VECTOR, 0, i64(1n << 63n)),
} as const;

/** Subtraction in even lanes is the addition of the negated number: NaNs, whose signs it would change, are slow. */
const addSubtract =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const [first, second] = sources(s);
    const b = readFloats(s, second, variant);
    const signed = b.map((half) => s.code.keep(simd('v128.xor', half, EVEN_SIGNS[variant.shape])));
    compute(s, variant, 'add', readFloats(s, first, variant), signed);
  };

const squareRoot =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const source = variant.scalar ? sources(s)[1] : 1;
    const lanes = readFloats(s, source, variant).map((a) => [a, s.code.keep(simd(`${shape}.sqrt`, a))] as const);
    slowIfAny(
      s,
      variant,
      lanes.map(([a, root]) => or(isDenormal(shape, a), isNotFinite(shape, root))),
    );
    whilePrecise(s, () =>
      anyLane(
        variant,
        lanes.map(([a, root]) =>
          or(hasLowerHalf(shape, root), simd(`${shape}.ne`, simd(`${shape}.mul`, root, root), a)),
        ),
      ),
    );
    writeFloats(
      s,
      variant,
      lanes.map(([, root]) => root),
    );
  };

// ---- rounding to integers

const ROUNDINGS = ['nearest', 'floor', 'ceil', 'trunc'] as const;

/** A number rounded as bits 2:0 of the immediate say: MXCSR, which is as usual, rounds to nearest. */
function roundedBy(s: Stage, shape: Shape, control: I32, v: V128): V128 {
  const mode = control.and(4).eqz().mul(control.and(3));
  if (control.constant !== undefined) {
    const fixed = (control.constant & 4n) !== 0n ? 0 : Number(control.constant & 3n);
    return s.code.keep(simd(`${shape}.${ROUNDINGS[fixed] ?? 'nearest'}`, v));
  }
  const [nearest, floor, ceil, trunc] = ROUNDINGS.map((name) => simd(`${shape}.${name}`, v)) as [
    V128,
    V128,
    V128,
    V128,
  ];
  const low = selectVector(mode.and(1), floor, nearest);
  return s.code.keep(selectVector(mode.and(2), selectVector(mode.and(1), trunc, ceil), low));
}

/** ROUNDxx: only NaNs are unusual; bit 3 of the immediate suppresses the precision exception. */
const round =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const control = lastImmediate(s);
    const lanes = readFloats(s, variant.scalar ? sources(s)[1] : 1, variant).map(
      (a) => [a, roundedBy(s, shape, control, a)] as const,
    );
    slowIfAny(
      s,
      variant,
      lanes.map(([a]) => isNan(shape, a)),
    );
    s.code.if(control.and(8).eqz(), () =>
      whilePrecise(s, () =>
        anyLane(
          variant,
          lanes.map(([a, result]) => simd(`${shape}.ne`, result, a)),
        ),
      ),
    );
    writeFloats(
      s,
      variant,
      lanes.map(([, result]) => result),
    );
  };

// ---- comparison

/** Operands of a comparison by halves; NaNs and denormals are left to the slow implementation. */
function compared(s: Stage, variant: FloatVariant, first: number, second: number): (readonly [V128, V128])[] {
  const { shape } = variant;
  const b = readFloats(s, second, variant);
  const pairs = readFloats(s, first, variant).map((half, i) => [half, b[i] as V128] as const);
  const rare = pairs.flat().map((v) => or(isNan(shape, v), isDenormal(shape, v)));
  slowIfAny(s, variant, rare);
  return pairs;
}

/** The second operand unless the first is less (greater): so it is with zeros of both signs. */
const extreme =
  (operation: 'pmin' | 'pmax') =>
  (variant: FloatVariant): Semantics =>
  (s) => {
    const pairs = compared(s, variant, ...sources(s));
    writeFloats(
      s,
      variant,
      pairs.map(([a, b]) => simd(`${variant.shape}.${operation}`, b, a)),
    );
  };

/**
 * Predicates 0…15 of CMPccPS and its kin (SDM Vol. 2A, "CMPPD"), four bits each from the lowest: whether equal, less and
 * greater give true. With 16 more only the treatment of NaNs differs.
 */
const PREDICATES = [1, 2, 3, 0, 6, 5, 4, 7, 1, 2, 3, 0, 6, 5, 4, 7].reduce(
  (table, orders, predicate) => table | (BigInt(orders) << BigInt(4 * predicate)),
  0n,
);

const compare =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const pairs = compared(s, variant, ...sources(s));
    const orders = s.code.let(
      i64(PREDICATES)
        .shrU(
          lastImmediate(s)
            .and(s.form.vex ? 15 : 7)
            .shl(2)
            .extendU(),
        )
        .wrap(),
    );
    const wanted = (bit: number): V128 => s.code.keep(splat('i32x4', i32(0).sub(orders.shrU(bit).and(1))));
    const [equal, less, greater] = [wanted(0), wanted(1), wanted(2)];
    writeFloats(
      s,
      variant,
      pairs.map(([a, b]) =>
        or(
          and(simd(`${shape}.eq`, a, b), equal),
          and(simd(`${shape}.lt`, a, b), less),
          and(simd(`${shape}.gt`, a, b), greater),
        ),
      ),
    );
  };

/** COMISx, UCOMISx: ZF, PF, CF = 000 greater, 001 less, 100 equal; OF, SF, AF = 0. */
const compareToFlags =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const [[a, b]] = compared(s, variant, 0, 1) as [readonly [V128, V128]];
    const low = (mask: V128): I32 => integerLane('i32x4', mask, 0).and(1);
    const carry = low(simd(`${shape}.lt`, a, b));
    const zero = low(simd(`${shape}.eq`, a, b));
    s.flags.unpack(s.code.let(carry.or(zero.shl(6))));
  };

// ---- conversion between floating-point formats

const { ps, pd, ss, sd } = FLOAT_VARIANTS;

/** The doubles of the low two singles of each vector. */
function toDoubles(s: Stage, variant: FloatVariant, singles: readonly V128[]): readonly V128[] {
  slowIfAny(
    s,
    { ...ss, scalar: variant.scalar },
    singles.map((v) => or(isNan('f32x4', v), isDenormal('f32x4', v))),
  );
  return singles.map((v) => simd('f64x2.promote_low_f32x4', v));
}

/** Singles of two doubles each, zeros above. */
function toSingles(s: Stage, variant: FloatVariant, doubles: readonly V128[]): readonly V128[] {
  const lanes = doubles.map((v) => [v, s.code.keep(simd('f32x4.demote_f64x2_zero', v))] as const);
  const promoted = (v: V128): V128 => simd('f64x2.promote_low_f32x4', v);
  slowIfAny(
    s,
    variant,
    lanes.map(([v, single]) => {
      const tiny = simd('f64x2.le', abs('f64x2', promoted(single)), LEAST_SINGLE);
      return or(isDenormal('f64x2', v), isNotFinite('f64x2', promoted(single)), and(tiny, isNonzero('f64x2', v)));
    }),
  );
  whilePrecise(s, () =>
    anyLane(
      variant,
      lanes.map(([v, single]) => simd('f64x2.ne', promoted(single), v)),
    ),
  );
  return lanes.map(([, single]) => single);
}

/** 2^-126 as a double. */
export const LEAST_SINGLE = lanes64(0x3810_0000_0000_0000n);

/** The halves of a packed source of 8 bytes for each 16 of the destination, as the low halves of vectors. */
function readNarrow(s: Stage): readonly V128[] {
  const source = s.vector(1, 'read');
  if (halvesOf(s) === 1) return [source.readLow(8)];
  const all = source.read();
  return [all, s.code.keep(shuffle(8, all, all, [1, 1]))];
}

/** Halves of the source operand when the destination has half its size. */
const readBroad = (s: Stage): readonly V128[] => {
  const form = s.form.operands[1];
  return readHalves(s, 1, form?.kind === 'ymm' || (form?.kind === 'memory' && form.size === 32) ? 2 : 1);
};

const joined = ([low, high]: readonly V128[]): V128 => (high ? shuffle(8, low as V128, high, [0, 2]) : (low as V128));

const singlesToDoubles: Semantics = (s) => writeHalves(s, toDoubles(s, pd, readNarrow(s).map(withoutUpper)));
/** The low half, so that what is above it raises nothing. */
const withoutUpper = (v: V128): V128 => shuffle(8, v, ZERO_VECTOR, [0, 2]);

const singleToDouble: Semantics = (s) => {
  const source = s.vector(sources(s)[1], 'read').readLow(4);
  writeScalar(s, 8, toDoubles(s, sd, [source])[0] as V128);
};

const doublesToSingles: Semantics = (s) => writeHalves(s, [joined(toSingles(s, pd, readBroad(s)))]);
const doubleToSingle: Semantics = (s) => {
  const source = s.vector(sources(s)[1], 'read').readLow(8);
  writeScalar(s, 4, toSingles(s, sd, [source])[0] as V128);
};

// ---- conversion from and to integers

/** Integers below 2^24 and 2^53 are exact in a single and a double. */
const EXACT_BITS = { f32x4: 24, f64x2: 53 } as const;

const fromInteger =
  (variant: FloatVariant): Semantics =>
  (s) => {
    const { shape } = variant;
    const value = s.operand(sources(s)[1], 'read').read();
    const bits = EXACT_BITS[shape];
    if (value.type === 'i64' || bits < 32) {
      const wideValue = s.code.let(value.type === 'i64' ? (value as I64) : value.extendS());
      whilePrecise(s, () => wideValue.add(1n << BigInt(bits)).gtU(2n << BigInt(bits)));
    }
    const result =
      shape === 'f64x2'
        ? replaceLane('f64x2', ZERO_VECTOR, 0, toFloat('f64', value))
        : replaceLane('f32x4', ZERO_VECTOR, 0, toFloat('f32', value));
    writeScalar(s, variant.bytes, result);
  };

/** The bit patterns of 2^31 and 2^63: numbers from minus that on and below it fit. */
const TOO_LARGE = {
  f32x4: { 4: lanes32(0x4f00_0000n), 8: lanes32(0x5f00_0000n) },
  f64x2: { 4: lanes64(0x41e0_0000_0000_0000n), 8: lanes64(0x43e0_0000_0000_0000n) },
} as const;

const misfits = (shape: Shape, rounded: V128, size: 4 | 8): V128 => {
  const limit = TOO_LARGE[shape][size];
  const fits = and(simd(`${shape}.lt`, rounded, limit), simd(`${shape}.ge`, rounded, simd(`${shape}.neg`, limit)));
  return simd('v128.not', fits);
};

/** Numbers rounded to integers; those that do not fit are left to the slow implementation. */
function rounded(s: Stage, variant: FloatVariant, size: 4 | 8, truncate: boolean, values: readonly V128[]): V128[] {
  const { shape } = variant;
  const results = values.map((v) => s.code.keep(simd(truncate ? `${shape}.trunc` : `${shape}.nearest`, v)));
  slowIfAny(
    s,
    variant,
    results.map((v) => misfits(shape, v, size)),
  );
  whilePrecise(s, () =>
    anyLane(
      variant,
      results.map((v, i) => simd(`${shape}.ne`, v, values[i] as V128)),
    ),
  );
  return results;
}

const toGpr =
  (variant: FloatVariant, truncate: boolean): Semantics =>
  (s) => {
    const target = s.operand(0, 'write');
    const size = target.size === 8 ? 8 : 4;
    const [value] = rounded(s, variant, size, truncate, readFloats(s, 1, variant)) as [V128];
    target.write(toInteger(size === 8 ? 'i64' : 'i32', floatLane(variant.shape, value, 0)) as Word);
  };

const singlesToIntegers =
  (truncate: boolean): Semantics =>
  (s) => {
    const values = rounded(s, ps, 4, truncate, readHalves(s, 1));
    writeHalves(
      s,
      values.map((v) => simd('i32x4.trunc_sat_f32x4_s', v)),
    );
  };

const doublesToIntegers =
  (truncate: boolean): Semantics =>
  (s) => {
    const values = rounded(s, pd, 4, truncate, readBroad(s));
    writeHalves(s, [joined(values.map((v) => simd('i32x4.trunc_sat_f64x2_s_zero', v)))]);
  };

const integersToSingles: Semantics = (s) => {
  const values = readHalves(s, 1);
  const beyond = (v: V128): V128 => shiftLanes('i32x4.shr_u', simd('i32x4.add', v, lanes32(1n << 24n)), i32(25));
  whilePrecise(s, () => anyLane(ps, values.map(beyond)));
  writeHalves(
    s,
    values.map((v) => simd('f32x4.convert_i32x4_s', v)),
  );
};
const integersToDoubles: Semantics = (s) =>
  writeHalves(
    s,
    readNarrow(s).map((v) => simd('f64x2.convert_low_i32x4_s', v)),
  );

// ---- rows

type Suffix = keyof typeof FLOAT_VARIANTS;

const rows = (
  name: string,
  row: (variant: FloatVariant) => Semantics,
  suffixes: readonly Suffix[] = ['ps', 'pd', 'ss', 'sd'],
) => Object.fromEntries(suffixes.map((suffix) => [`${name}${suffix}`, row(FLOAT_VARIANTS[suffix])]));

/** All of these depend on MXCSR, but for the conversion of 32-bit integers to doubles. */
const ROWS: Readonly<Record<string, Semantics>> = {
  ...rows('Add', arithmetic('add')), ...rows('Sub', arithmetic('sub')),
  ...rows('Mul', arithmetic('mul')), ...rows('Div', arithmetic('div')),
  ...rows('Hadd', horizontal('add'), ['ps', 'pd']), ...rows('Hsub', horizontal('sub'), ['ps', 'pd']),
  ...rows('Addsub', addSubtract, ['ps', 'pd']),
  ...rows('Sqrt', squareRoot), ...rows('Min', extreme('pmin')), ...rows('Max', extreme('pmax')),
  ...rows('Round', round),
  ...rows('Cmp', compare),
  ...rows('Comi', compareToFlags, ['ss', 'sd']), ...rows('Ucomi', compareToFlags, ['ss', 'sd']),
  Cvtps2pd: singlesToDoubles, Cvtss2sd: singleToDouble,
  Cvtpd2ps: doublesToSingles, Cvtsd2ss: doubleToSingle,
  Cvtsi2ss: fromInteger(ss), Cvtsi2sd: fromInteger(sd),
  Cvtss2si: toGpr(ss, false), Cvttss2si: toGpr(ss, true), Cvtsd2si: toGpr(sd, false), Cvttsd2si: toGpr(sd, true),
  Cvtps2dq: singlesToIntegers(false), Cvttps2dq: singlesToIntegers(true),
  Cvtpd2dq: doublesToIntegers(false), Cvttpd2dq: doublesToIntegers(true),
  Cvtdq2ps: integersToSingles, Cvtdq2pd: integersToDoubles,
}; // biome-ignore format: a table reads better in rows

/** Leaves an instruction to the slow implementation unless MXCSR is as usual. */
export const ifUsualMxcsr =
  (semantics: Semantics): Semantics =>
  (s) => {
    requireUsualMxcsr(s);
    semantics(s);
  };

export const SSE_FLOAT: Readonly<Record<string, Semantics>> = Object.fromEntries(
  Object.entries(ROWS).map(([name, semantics]) => [name, ifUsualMxcsr(semantics)]),
);
