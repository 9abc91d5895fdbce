import assert from 'node:assert/strict';
import { Mnemonic } from 'iced-x86';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { SEMANTICS } from '../../sim-core/isa/semantics.ts';
import { isWithinBound } from './approximations.ts';
import { NOT_COMPARED, TESTED_MNEMONICS } from './mnemonics.ts';
import { Simulated } from './simulated.ts';
import { allForms, CASES_PER_FORM, compareForm, keyOf, readVectors } from './vectors.ts';

const excluded = Object.values(NOT_COMPARED).flatMap((names) => names.split(' '));

describe('the silicon oracle', () => {
  it('compares every implemented instruction, or says why it does not', () => {
    const implemented = [...new Set([...SEMANTICS.keys(), ...CPU_INSTRUCTIONS.keys()])];
    const forgotten = implemented
      .filter((number) => !TESTED_MNEMONICS.has(number))
      .map((number) => Mnemonic[number] ?? '')
      .filter((name) => !excluded.includes(name));
    assert.deepEqual(forgotten, []);
  });

  it('has at least a hundred cases of every form', () => {
    const cases = new Map<number, number>();
    for (const [{ id }, count] of allForms()) cases.set(id, (cases.get(id) ?? 0) + count);
    const fewest = Math.min(...cases.values());
    assert(fewest >= CASES_PER_FORM, `a form has ${fewest} cases`);
    const mnemonics = new Set([...allForms().keys()].map(({ mnemonic }) => mnemonic));
    const without = [...TESTED_MNEMONICS]
      .map((number) => Mnemonic[number] ?? '')
      .filter((name) => !mnemonics.has(name));
    assert.deepEqual(without, [], 'instructions without a form');
  });

  it('tells which case of a form differs from its vector, and when the cases are others', () => {
    const { forms, seed } = readVectors();
    const form = [...allForms().keys()].find(({ text, mode }) => text === 'ADC r/m8, r8' && mode === 'code64');
    const vector = form && forms.get(keyOf(form));
    assert(form && vector);
    const simulated = new Simulated(CPU_INSTRUCTIONS);
    assert.equal(compareForm(form, vector, seed, simulated), undefined);
    const outcomes = vector.outcomes.map((digest, i) => (i === 7 ? digest ^ 1 : digest));
    assert.match(compareForm(form, { ...vector, outcomes }, seed, simulated) ?? '', /^ADC r\/m8.* as .*\n {2}case 7:/);
    assert.match(compareForm(form, vector, seed + 1, simulated) ?? '', /other inputs than recorded/);
    assert.match(compareForm(form, undefined, seed, simulated) ?? '', /has no vector/);
  });

  it('takes approximations within 1.5 × 2^-12 for the same, and nothing else', () => {
    // 1/1 is 0x3f800000; 2^-12 above and below 1 are 0x3f800800 and 0x3f7ff000.
    assert(isWithinBound('reciprocal', 0x3f80_0000, 0x3f80_0000));
    assert(isWithinBound('reciprocal', 0x3f80_0000, 0x3f80_0c00));
    assert(!isWithinBound('reciprocal', 0x3f80_0000, 0x3f80_0c01));
    assert(isWithinBound('reciprocal', 0xbf80_0000, 0xbf7f_e800));
    assert(!isWithinBound('reciprocal', 0xbf80_0000, 0xbf7f_e7ff));
    assert(isWithinBound('reciprocal root', 0x4080_0000, 0x3f00_0000));
    assert(!isWithinBound('reciprocal root', 0xc080_0000, 0x3f00_0000));
    assert(!isWithinBound('reciprocal', 0, 0x7f80_0000));
  });
});
