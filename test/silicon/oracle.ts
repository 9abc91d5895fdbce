/**
 * `npm run oracle -- [--cases N] [--seed S] [--only mnemonic,…] [--per-form N]`: fresh random cases on this machine's own
 * processor and in the simulator. `--cases` is the number of all cases (100,000 unless given): one in twenty is a
 * sequence of integer instructions that pass flags to each other, the others are spread evenly over all forms of all
 * modes. `--per-form` says it for each form instead. A case depends on its form, the seed and its place among
 * its form's cases alone, so that `--only` finds it again.
 *
 * `npm run oracle -- --record` makes the committed vectors anew (vectors.ts).
 */

import { parseArgs } from 'node:util';
import { Mnemonic } from 'iced-x86';
import { CPU_INSTRUCTIONS } from '../../sim-core/cpu/instructions.ts';
import { casesOfForm, check, type Report, sequences } from './check.ts';
import { formsOf, type TestForm } from './forms.ts';
import { type Case, MODES, type TestMode } from './layout.ts';
import { TESTED_MNEMONICS } from './mnemonics.ts';
import { Native, processorName, whyNotNative } from './native.ts';
import { Random } from './random.ts';
import { Simulated } from './simulated.ts';
import { record } from './vectors.ts';

const DEFAULT_CASES = 100_000;
/** One case in so many is a sequence. */
const SEQUENCE_SHARE = 20;

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: `${DEFAULT_CASES}` },
    'per-form': { type: 'string' },
    seed: { type: 'string' },
    only: { type: 'string' },
    record: { type: 'boolean', default: false },
  },
});

/** @throws RangeError for what is no whole number. */
function count(option: string, text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`--${option} ${text}: not a whole number`);
  return number;
}

/** Forms in an order of their own for each seed, so that fewer cases than forms test others each time. */
function shuffled(forms: readonly TestForm[], seed: number): TestForm[] {
  const random = new Random(seed);
  const keys = new Map(forms.map((form) => [form, random.next()]));
  return [...forms].sort((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0));
}

/** `total` cases spread over the forms as evenly as possible. */
function* spread(forms: readonly TestForm[], total: number, seed: number): Generator<Case> {
  const each = Math.floor(total / forms.length);
  const rest = total - each * forms.length;
  for (const [i, form] of forms.entries()) yield* casesOfForm(form, each + (i < rest ? 1 : 0), seed);
}

function testedForms(native: Native): TestForm[] {
  const only = values.only?.toLowerCase().split(',');
  const isWanted = (number: number) => !only || only.includes((Mnemonic[number] ?? '').toLowerCase());
  const mnemonics = new Set([...TESTED_MNEMONICS].filter(isWanted));
  const modes = (Object.keys(MODES) as TestMode[]).filter((mode) => native.runs(mode));
  return modes.flatMap((mode) => formsOf(mnemonics, mode));
}

function print(report: Report, forms: number, casesOfForms: number, seed: number): void {
  for (const mismatch of report.mismatches) console.log(`${mismatch}\n`);
  for (const what of report.unimplemented) console.log(`not simulated: ${what}`);
  for (const [name, { cases, differed }] of report.lastBits) {
    console.log(`${name.toLowerCase()}: ${differed} of ${cases} results differ in the last bit, as the manual allows`);
  }
  console.log(`processor:  ${processorName()}`);
  console.log(`seed:       ${seed}`);
  console.log(`forms:      ${Math.min(casesOfForms, forms)} of ${forms}`);
  console.log(`cases:      ${report.cases}`);
  console.log(`mismatches: ${report.mismatches.length} forms; not simulated: ${report.unimplemented.length}`);
  if (report.mismatches.length === 0) return;
  const perForm = Math.ceil(casesOfForms / forms);
  console.log(`again:      npm run oracle -- --seed ${seed} --per-form ${perForm} --only MNEMONIC,…`);
}

function compare(native: Native): void {
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : count('seed', values.seed);
  const forms = shuffled(testedForms(native), seed);
  if (forms.length === 0) throw new RangeError(`--only ${values.only}: no such instruction is tested`);
  const perForm = values['per-form'];
  const total = perForm === undefined ? count('cases', values.cases) : count('per-form', perForm) * forms.length;
  const ofSequences = values.only || perForm !== undefined ? 0 : Math.floor(total / SEQUENCE_SHARE);
  const ofForms = total - ofSequences;
  const cases = function* () {
    yield* spread(forms, ofForms, seed);
    yield* sequences(ofSequences, seed);
  };
  const report = check(cases(), native, new Simulated(CPU_INSTRUCTIONS));
  print(report, forms.length, ofForms, seed);
  process.exitCode = report.mismatches.length + report.unimplemented.length > 0 ? 1 : 0;
}

const reason = whyNotNative();
if (reason) throw new Error(`the oracle cannot run on this machine: ${reason}`);
const native = new Native();
try {
  if (values.record) record(native, processorName());
  else compare(native);
} finally {
  native.dispose();
}
