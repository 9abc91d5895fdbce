import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { X87_INSTRUCTIONS } from '../../sim-core/cpu/x87/instructions.ts';
import { SSE } from '../../sim-core/isa/sse.ts';
import { casesOfForms, check, SEQUENCES_PER_CASE, sequences } from './check.ts';
import { formsOf, type TestForm } from './forms.ts';
import type { Case, TestMode } from './layout.ts';
import { TESTED_MNEMONICS } from './mnemonics.ts';
import { Native, whyNotNative } from './native.ts';
import { Simulated } from './simulated.ts';

const CASES_PER_FORM = 25;

describe('simulated instructions and this machine’s own processor', () => {
  let native: Native | undefined;

  before(function () {
    const reason = whyNotNative();
    if (reason) {
      console.log(`      skipped: ${reason}`);
      this.skip();
    }
    native = new Native();
  });
  after(() => native?.dispose());

  function compare(cases: readonly Case[], seed: number): void {
    assert(native);
    const report = check(cases, native, new Simulated(CPU_INSTRUCTIONS));
    console.log(`      seed ${seed}: ${report.cases} cases`);
    const again = `node test/silicon/run.ts --cases ${CASES_PER_FORM} --seed ${seed}`;
    assert.equal(report.mismatches.length, 0, `${report.mismatches.join('\n\n')}\n\n${again}`);
    assert.deepEqual(report.unimplemented, []);
  }

  const formsAgree = (mode: TestMode, wanted: (form: TestForm) => boolean, fewest: number) =>
    function (this: Mocha.Context): void {
      if (!native?.runs(mode)) {
        console.log(`      skipped: the kernel does not run ${mode}`);
        this.skip();
      }
      const seed = randomInt(2 ** 32);
      const forms = formsOf(TESTED_MNEMONICS, mode).filter(wanted);
      assert(forms.length >= fewest, `only ${forms.length} forms were found`);
      compare(casesOfForms(forms, CASES_PER_FORM, seed), seed);
    };

  it(
    'agree on integer instructions',
    formsAgree('code64', ({ mnemonic }) => !(mnemonic in SSE) && !(mnemonic in X87_INSTRUCTIONS), 1000),
  );
  it(
    'agree on x87 instructions',
    formsAgree('code64', ({ mnemonic }) => mnemonic in X87_INSTRUCTIONS, 140),
  );
  it(
    'agree on SSE and SSE2',
    formsAgree('code64', ({ mnemonic }) => mnemonic in SSE, 300),
  );
  it(
    'agree on 32-bit code',
    formsAgree('code32', () => true, 1000),
  );
  it(
    'agree on 16-bit code',
    formsAgree('code16', () => true, 1000),
  );
  it('agree on flags from one instruction to the next', () => {
    const seed = randomInt(2 ** 32);
    compare(sequences(SEQUENCES_PER_CASE * CASES_PER_FORM, seed), seed);
  });
}).timeout(120_000);
