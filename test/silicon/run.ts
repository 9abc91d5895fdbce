import { parseArgs } from 'node:util';
import { Mnemonic } from 'iced-x86';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { casesOfForms, check, SEQUENCES_PER_CASE, sequences } from './check.ts';
import { formsOf } from './forms.ts';
import { MODES, type TestMode } from './layout.ts';
import { TESTED_MNEMONICS } from './mnemonics.ts';
import { Native, whyNotNative } from './native.ts';
import { Simulated } from './simulated.ts';

/** Usage: run.ts [--cases N] [--seed S] [--only mnemonic,…] */
const { values } = parseArgs({
  options: { cases: { type: 'string' }, seed: { type: 'string' }, only: { type: 'string' } },
});
const reason = whyNotNative();
if (reason) throw new Error(`cannot run on this machine: ${reason}`);
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
const only = values.only?.toLowerCase().split(',');
const mnemonics = [...TESTED_MNEMONICS].filter(
  (number) => !only || only.includes((Mnemonic[number] ?? '').toLowerCase()),
);
const modes = Object.keys(MODES) as TestMode[];
const count = Number(values.cases ?? 25);
const native = new Native();
try {
  const forms = modes.filter((mode) => native.runs(mode)).flatMap((mode) => formsOf(new Set(mnemonics), mode));
  const cases = casesOfForms(forms, count, seed);
  if (!only) cases.push(...sequences(SEQUENCES_PER_CASE * count, seed));
  const report = check(cases, native, new Simulated(CPU_INSTRUCTIONS));
  for (const mismatch of report.mismatches) console.log(`${mismatch}\n`);
  for (const what of report.unimplemented) console.log(`not simulated: ${what}`);
  for (const [name, { cases: all, differed }] of report.lastBits) {
    console.log(`${name.toLowerCase()}: ${differed} of ${all} results differ in the last bit`);
  }
  console.log(
    `seed ${seed}: ${forms.length} forms, ${report.cases} cases, ${report.mismatches.length} forms with mismatches, ` +
      `${report.unimplemented.length} not simulated`,
  );
  process.exitCode = report.mismatches.length > 0 ? 1 : 0;
} finally {
  native.dispose();
}
