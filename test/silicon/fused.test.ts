import assert from 'node:assert/strict';
import { Mnemonic } from 'iced-x86';
import type { SlowInstruction } from '../../sim-core/cpu/cpu.ts';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { DOUBLE, type FloatFormat, SINGLE, SoftFloat } from '../../sim-core/cpu/vector/soft-float.ts';
import { assemble } from '../support/nasm.ts';
import { casesOfForms } from './check.ts';
import { formsOf } from './forms.ts';
import { Random } from './random.ts';
import { Simulated } from './simulated.ts';

/**
 * Fused multiplication and addition of ordinary numbers, which is staged, against exact integer arithmetic, which the
 * silicon tests hold against processors. Their operands are mostly extraordinary.
 */

/** All exceptions masked; the precision flag is set, so that inexact results stay in staged code. */
const MXCSR = 0x1fa0;
const CASES = 1500;

/** Numbers near 1, many with few significant bits at either end, so that sums cancel or lie close to midpoints. */
function ordinary(random: Random, { width, fractionBits }: FloatFormat): bigint {
  const bits = BigInt.asUintN(Number(fractionBits), (BigInt(random.next()) << 32n) | BigInt(random.next()));
  const few = BigInt(random.below(8));
  const fraction = random.pick([bits, few, (1n << fractionBits) - 1n - few, few << (fractionBits - 3n), 0n]);
  const bias = width === 64 ? 1023 : 127;
  const exponent = BigInt(bias + random.below(9) - 4 - (random.chance(20) ? Number(fractionBits) : 0));
  return (BigInt(random.below(2)) << BigInt(width - 1)) | (exponent << fractionBits) | fraction;
}

describe('fused multiplication and addition of ordinary numbers', () => {
  const table = new Map<number, SlowInstruction>();
  let slow = 0;
  for (const [mnemonic, execute] of CPU_INSTRUCTIONS) {
    table.set(mnemonic, (cpu, instruction) => {
      slow++;
      return execute(cpu, instruction);
    });
  }
  const [sample] = casesOfForms(formsOf(new Set([Mnemonic.Vfmadd231sd]), 'code64'), 1, 1);

  for (const [suffix, format] of Object.entries({ ss: SINGLE, sd: DOUBLE, ps: SINGLE, pd: DOUBLE })) {
    it(`VFMADD231${suffix.toUpperCase()} rounds once`, () => {
      assert(sample);
      const random = new Random(20_261_122);
      const simulated = new Simulated(table);
      const code = assemble(`bits 64\nvfmadd231${suffix} xmm0, xmm1, xmm2`);
      slow = 0;
      for (let i = 0; i < CASES; i++) {
        const [c, a, b] = [0, 1, 2].map(() => ordinary(random, format)) as [bigint, bigint, bigint];
        const ymm = new Uint8Array(sample.before.ymm.length);
        const view = new DataView(ymm.buffer);
        [c, a, b].forEach((value, register) => {
          for (let at = 0; at < 16; at += format.width / 8) {
            if (format.width === 64) view.setBigUint64(32 * register + at, value, true);
            else view.setUint32(32 * register + at, Number(value), true);
          }
        });
        const outcome = simulated.run({ ...sample, code, before: { ...sample.before, mxcsr: MXCSR, ymm } });
        assert('after' in outcome);
        const result = new DataView(outcome.after.ymm.buffer, outcome.after.ymm.byteOffset);
        const found = format.width === 64 ? result.getBigUint64(0, true) : BigInt(result.getUint32(0, true));
        const expected = new SoftFloat(MXCSR).fma(format, a, b, c);
        assert.equal(found, expected, `0x${a.toString(16)} * 0x${b.toString(16)} + 0x${c.toString(16)}`);
      }
      assert.ok(slow < CASES / 20, `${slow} of ${CASES} left staged code`);
    });
  }
});
