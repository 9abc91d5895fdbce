import assert from 'node:assert/strict';
import { OFFSET } from '../state/layout.ts';
import { Code } from './code.ts';
import { LazyFlags, memoryFlagCells } from './flags.ts';
import { ModuleBuilder } from './module.ts';
import type { Flags } from './stage.ts';
import { type I32, i32, type Word } from './value.ts';

/** The lazy flags against the definitions of SDM Vol. 1, "Status Flags", for all pairs of bytes. */

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 1 });
const CF = 0x1;
const PF = 0x4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;

/** f(a, b, result): flags set by `produce`, then what `consume` makes of them. */
function staged(
  produce: (flags: Flags, a: Word, b: Word, result: Word) => void,
  consume: (flags: Flags) => I32 = (flags) => flags.pack(),
): (a: number, b: number, result: number) => number {
  const code = new Code({ parameters: ['i32', 'i32', 'i32'], results: ['i32'] });
  const flags = new LazyFlags(code, memoryFlagCells(code));
  const [a, b, result] = [0, 1, 2].map((i) => code.parameter(i, 'i32')) as [I32, I32, I32];
  produce(flags, a, b, result);
  code.result(code.let(consume(flags)));
  const builder = new ModuleBuilder();
  builder.add(code);
  return builder.instantiate({ memory, table, functions: {} })[0] as (a: number, b: number, result: number) => number;
}

const signed = (byte: number): number => (byte << 24) >> 24;

/** ZF, SF and PF of a byte. */
function resultFlags(result: number): number {
  let ones = 0;
  for (let bit = 0; bit < 8; bit++) ones += (result >> bit) & 1;
  return (result === 0 ? ZF : 0) | (result & 0x80 ? SF : 0) | (ones % 2 === 0 ? PF : 0);
}

/** All flags of a + b + carry or a - b - carry on bytes. */
function definition(a: number, b: number, carry: number, subtract: boolean): number {
  const sign = subtract ? -1 : 1;
  const exact = a + sign * (b + carry);
  const nibble = (a & 0xf) + sign * ((b & 0xf) + carry);
  const signedExact = signed(a) + sign * (signed(b) + carry);
  const overflow = signedExact < -128 || signedExact > 127;
  return (
    resultFlags(exact & 0xff) |
    (exact < 0 || exact > 0xff ? CF : 0) |
    (nibble < 0 || nibble > 0xf ? AF : 0) |
    (overflow ? OF : 0)
  );
}

function forAllBytes(visit: (a: number, b: number) => void): void {
  for (let a = 0; a < 256; a++) for (let b = 0; b < 256; b++) visit(a, b);
}

/** What the sixteen conditions mean (SDM Vol. 1, "EFLAGS Condition Codes"). */
const CONDITIONS: readonly ((flags: number) => boolean)[] = [
  (f) => (f & OF) !== 0,
  (f) => (f & CF) !== 0,
  (f) => (f & ZF) !== 0,
  (f) => (f & (CF | ZF)) !== 0,
  (f) => (f & SF) !== 0,
  (f) => (f & PF) !== 0,
  (f) => ((f & SF) !== 0) !== ((f & OF) !== 0),
  (f) => (f & ZF) !== 0 || ((f & SF) !== 0) !== ((f & OF) !== 0),
];

describe('LazyFlags', () => {
  it('of sums and differences, with and without carry', () => {
    const add = staged((flags, a, b, result) => flags.addCarry(1, a, b, result));
    const sub = staged((flags, a, b, result) => flags.subBorrow(1, a, b, result));
    for (const carry of [0, 1]) {
      forAllBytes((a, b) => {
        assert.equal(add(a, b, (a + b + carry) & 0xff), definition(a, b, carry, false), `${a} + ${b} + ${carry}`);
        assert.equal(sub(a, b, (a - b - carry) & 0xff), definition(a, b, carry, true), `${a} - ${b} - ${carry}`);
      });
    }
  });

  it('of logic', () => {
    const and = staged((flags, _a, _b, result) => flags.logic(1, result));
    forAllBytes((a, b) => assert.equal(and(a, b, a & b), resultFlags(a & b)));
  });

  it('of INC and DEC, which keep CF', () => {
    for (const carry of [0, 1]) {
      const step = (name: 'increment' | 'decrement') =>
        staged((flags, a, _b, result) => {
          flags.setCarry(i32(carry));
          flags[name](1, a, result);
        });
      const [increment, decrement] = [step('increment'), step('decrement')];
      for (let a = 0; a < 256; a++) {
        assert.equal(increment(a, 0, (a + 1) & 0xff), (definition(a, 1, 0, false) & ~CF) | carry, `inc ${a}`);
        assert.equal(decrement(a, 0, (a - 1) & 0xff), (definition(a, 1, 0, true) & ~CF) | carry, `dec ${a}`);
      }
    }
  });

  it('give the sixteen conditions', () => {
    CONDITIONS.forEach((holds, pair) => {
      const sub = (condition: number) =>
        staged(
          (flags, a, b, result) => flags.sub(1, a, b, result),
          (flags) => flags.condition(condition),
        );
      const [plain, negated] = [sub(2 * pair), sub(2 * pair + 1)];
      forAllBytes((a, b) => {
        const expected = holds(definition(a, b, 0, true)) ? 1 : 0;
        assert.equal(plain(a, b, (a - b) & 0xff), expected, `condition ${2 * pair} of ${a} - ${b}`);
        assert.equal(negated(a, b, (a - b) & 0xff), 1 - expected);
      });
    });
  });

  it('hold every combination that is unpacked, and change single flags in it', () => {
    const again = staged((flags, a) => flags.unpack(a as I32));
    const withCarry = staged((flags, a, b) => {
      flags.unpack(a as I32);
      flags.setCarry(b as I32);
    });
    const withZero = staged((flags, a, b) => {
      flags.unpack(a as I32);
      flags.setZero(b as I32);
    });
    const withCarryOverflow = staged((flags, a, b, result) => {
      flags.unpack(a as I32);
      flags.setCarryOverflow(b as I32, result as I32);
    });
    for (let bits = 0; bits < 64; bits++) {
      const all = [CF, PF, AF, ZF, SF, OF].reduce((sum, flag, i) => sum | ((bits >> i) & 1 ? flag : 0), 0);
      assert.equal(again(all, 0, 0), all);
      for (const bit of [0, 1]) {
        assert.equal(withCarry(all, bit, 0), (all & ~CF) | bit);
        assert.equal(withZero(all, bit, 0), (all & ~ZF) | (bit ? ZF : 0));
        assert.equal(withCarryOverflow(all, 1 - bit, bit), (all & ~(CF | OF)) | (1 - bit) | (bit ? OF : 0));
      }
    }
  });

  it('of wider operands look at their own top bit', () => {
    const add = (size: number) => staged((flags, a, b, result) => flags.add(size, a, b, result));
    assert.equal(add(2)(0x7fff, 1, 0x8000), OF | SF | AF | PF);
    assert.equal(add(2)(0xffff, 1, 0), CF | ZF | AF | PF);
    assert.equal(add(4)(0x7fff_ffff, 1, -0x8000_0000), OF | SF | AF | PF);
    assert.equal(add(4)(-1, 1, 0), CF | ZF | AF | PF);
    assert.equal(new DataView(memory.buffer).getBigInt64(OFFSET.flagResult, true), 0n);
  });
});
