import type { Semantics, Stage } from '../engine/stage.ts';
import { type I32, type I64, type IntType, i32, select, type Word } from '../engine/value.ts';
import { CODE_MODE, GPR } from '../state/layout.ts';
import { highUnsigned } from './arithmetic.ts';
import { requireVexMode } from './sse-operands.ts';
import { bitsOf, toWord } from './word.ts';

/** BMI1, BMI2, ADX and CRC32 on general-purpose registers (SDM Vol. 2). */

const read = (s: Stage, i: number): Word => s.operand(i, 'read').read();

const andNot: Semantics = (s) => {
  const result = s.code.let(read(s, 1).not().and(read(s, 2)));
  const target = s.operand(0, 'write');
  target.write(result);
  s.flags.result(target.size, result, i32(0), i32(0));
};

/** The bits below `count`, all of them from the operand's width on. */
function lowBits(s: Stage, size: number, value: Word, count: Word): Word {
  const mask = value.like(-1).shl(count).not();
  return select(s.code.let(count.geU(bitsOf(size))), value, value.and(mask));
}

/** BEXTR: bits 7:0 of the second source are the first bit, bits 15:8 how many. */
const extract: Semantics = (s) => {
  const source = read(s, 1);
  const control = read(s, 2);
  const target = s.operand(0, 'write');
  const start = s.code.let(control.and(0xff));
  const count = s.code.let(control.shrU(8).and(0xff));
  const shifted = select(s.code.let(start.geU(bitsOf(target.size))), source.like(0), source.shrU(start));
  const result = s.code.let(lowBits(s, target.size, s.code.let(shifted), count));
  target.write(result);
  s.flags.result(target.size, result, i32(0), i32(0));
};

/** BLSI, BLSMSK, BLSR: CF says that the source is zero, or for BLSI that it is not. */
const lowestBit =
  (compute: (value: Word) => Word, carry: (value: Word) => I32): Semantics =>
  (s) => {
    const value = read(s, 1);
    const result = s.code.let(compute(value));
    const target = s.operand(0, 'write');
    target.write(result);
    s.flags.result(target.size, result, s.code.let(carry(value)), i32(0));
  };

const zeroHigh: Semantics = (s) => {
  const source = read(s, 1);
  const index = s.code.let(read(s, 2).and(0xff));
  const target = s.operand(0, 'write');
  const result = s.code.let(lowBits(s, target.size, source, index));
  target.write(result);
  s.flags.result(target.size, result, s.code.let(index.geU(bitsOf(target.size))), i32(0));
};

/** MULX: high half to the first operand, which wins, low half to the second. */
const multiply: Semantics = (s) => {
  const high = s.operand(0, 'write');
  const low = s.operand(1, 'write');
  const a = s.gpr(GPR.rdx, high.size === 8 ? 8 : 4).read();
  const b = read(s, 2);
  if (high.size === 8) {
    const upper = highUnsigned(s, a as I64, b as I64);
    low.write(s.code.let(a.mul(b)));
    high.write(upper);
    return;
  }
  const product = s.code.let(a.extendU().mul(b.extendU()));
  low.write(product.wrap());
  high.write(product.shrU(32).wrap());
};

/** RORX, SARX, SHLX, SHRX: WebAssembly takes counts modulo the width, too. */
const shift =
  (compute: (value: Word, count: Word) => Word): Semantics =>
  (s) => {
    const value = read(s, 1);
    const count = toWord(read(s, 2), value.type);
    s.operand(0, 'write').write(s.code.let(compute(value, count)));
  };

/** ADCX and ADOX: sums with a carry in and out that is CF or OF alone. */
const addWith =
  (carryIn: (s: Stage) => I32, setCarry: (s: Stage, carry: I32) => void): Semantics =>
  (s) => {
    const target = s.operand(0, 'modify');
    const a = target.read();
    const b = read(s, 1);
    const carry = s.code.let(carryIn(s));
    const result = s.code.let(a.add(b).add(toWord(carry, a.type)));
    const out = s.code.let(result.ltU(a).or(carry.and(result.eq(a))));
    target.write(result);
    setCarry(s, out);
  };

// ---- bit by bit

/** Repeats `body` for every one in `mask`, from the lowest on; `lowest` is that bit alone. */
function forEachOne({ code }: Stage, mask: Word, body: (lowest: Word) => void): void {
  const rest = code.variable(mask.type, mask);
  code.block((leave) => {
    code.loop((again) => {
      leave(rest.get().eqz());
      const lowest = code.let(rest.get().and(rest.get().negate()));
      body(lowest);
      rest.set(rest.get().xor(lowest));
      again();
    });
  });
}

/** PDEP: the source's low bits go to the places of the mask's ones. */
const depositBits: Semantics = (s) => {
  const source = s.code.variable(...typed(read(s, 1)));
  const mask = read(s, 2);
  const result = s.code.variable(mask.type, mask.like(0));
  forEachOne(s, mask, (lowest) => {
    result.set(result.get().or(lowest.and(source.get().and(1).negate())));
    source.set(source.get().shrU(1));
  });
  s.operand(0, 'write').write(result.get());
};

/** PEXT: the source's bits at the places of the mask's ones, side by side. */
const extractBits: Semantics = (s) => {
  const source = read(s, 1);
  const mask = read(s, 2);
  const result = s.code.variable(mask.type, mask.like(0));
  const place = s.code.variable(mask.type, mask.like(1));
  forEachOne(s, mask, (lowest) => {
    result.set(result.get().or(select(source.and(lowest).eqz(), mask.like(0), place.get())));
    place.set(place.get().shl(1));
  });
  s.operand(0, 'write').write(result.get());
};

const typed = (value: Word): [IntType, Word] => [value.type, value];

/** The polynomial 11EDC6F41h, bits reversed. */
const POLYNOMIAL = 0x82f6_3b78;

/** CRC32: the remainder in the first operand, by the bits of the second. */
const crc32: Semantics = (s) => {
  const { code } = s;
  const source = s.operand(1, 'read');
  const value = source.read();
  const target = s.operand(0, 'modify');
  const remainder = code.variable('i32', target.read().wrap());
  const divide = (word: I32, bits: number): void => {
    remainder.set(remainder.get().xor(word));
    const left = code.variable('i32', i32(bits));
    code.loop((again) => {
      const divisor = remainder.get().and(1).negate().and(POLYNOMIAL);
      remainder.set(remainder.get().shrU(1).xor(divisor));
      left.set(left.get().sub(1));
      again(left.get());
    });
  };
  divide(value.wrap(), 8 * Math.min(source.size, 4));
  if (source.size === 8) divide(code.let(value.shrU(32).wrap()), 32);
  target.write(toWord(remainder.get(), target.size === 8 ? 'i64' : 'i32'));
};

const vex =
  (semantics: Semantics): Semantics =>
  (s) => {
    if (s.form.mode !== CODE_MODE.code64) requireVexMode(s);
    semantics(s);
  };

const VEX: Readonly<Record<string, Semantics>> = {
  Andn: andNot, Bextr: extract, Bzhi: zeroHigh, Mulx: multiply, Pdep: depositBits, Pext: extractBits,
  Blsi: lowestBit((value) => value.negate().and(value), (value) => value.ne(0)),
  Blsmsk: lowestBit((value) => value.sub(1).xor(value), (value) => value.eqz()),
  Blsr: lowestBit((value) => value.sub(1).and(value), (value) => value.eqz()),
  Rorx: shift((value, count) => value.rotr(count)), Sarx: shift((value, count) => value.shrS(count)),
  Shlx: shift((value, count) => value.shl(count)), Shrx: shift((value, count) => value.shrU(count)),
}; // biome-ignore format: a table reads better in rows

export const BIT_MANIPULATION: Readonly<Record<string, Semantics>> = {
  ...Object.fromEntries(Object.entries(VEX).map(([name, semantics]) => [name, vex(semantics)])),
  Crc32: crc32,
  Adcx: addWith(
    (s) => s.flags.carry(),
    (s, carry) => s.flags.setCarry(carry),
  ),
  Adox: addWith(
    (s) => s.flags.condition(0),
    (s, overflow) => s.flags.setCarryOverflow(s.code.let(s.flags.carry()), overflow),
  ),
};
