import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { SSE } from '../../sim-core/isa/sse.ts';
import { check } from './check.ts';
import { formsOf, type TestForm } from './forms.ts';
import type { TestMode } from './layout.ts';
import { TESTED_MNEMONICS } from './mnemonics.ts';
import { Native, whyNotNative } from './native.ts';
import { Simulated } from './simulated.ts';

const CASES_PER_FORM = 40;

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

  const agree = (mode: TestMode, wanted: (form: TestForm) => boolean, fewest: number) =>
    function (this: Mocha.Context) {
      this.timeout(120_000);
      assert(native);
      const seed = randomInt(2 ** 32);
      const forms = formsOf(TESTED_MNEMONICS, mode).filter(wanted);
      assert(forms.length >= fewest, `only ${forms.length} forms were found`);
      const report = check(forms, CASES_PER_FORM, seed, native, new Simulated(CPU_INSTRUCTIONS));
      console.log(`      seed ${seed}: ${report.forms} forms, ${report.cases} cases`);
      const again = `node test/silicon/run.ts --cases ${CASES_PER_FORM} --seed ${seed}`;
      assert.equal(report.mismatches.length, 0, `${report.mismatches.join('\n\n')}\n\n${again}`);
      assert.deepEqual(report.unimplemented, []);
    };

  it(
    'agree on integer instructions',
    agree('code64', ({ mnemonic }) => !(mnemonic in SSE), 1000),
  );
  it(
    'agree on SSE and SSE2',
    agree('code64', ({ mnemonic }) => mnemonic in SSE, 250),
  );
  it(
    'agree on 32-bit code',
    agree('code32', () => true, 1000),
  );
});
