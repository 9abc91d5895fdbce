import { randomCase } from './cases.ts';
import { describeCase, differences } from './differences.ts';
import type { TestForm } from './forms.ts';
import { type Case, NO_EXCEPTION, type Outcome } from './layout.ts';
import type { Native } from './native.ts';
import { Random } from './random.ts';
import { randomSequence } from './sequences.ts';
import type { Simulated } from './simulated.ts';
import { withoutLastBits } from './x87.ts';

export interface Report {
  readonly cases: number;
  /** One text a form that differed: the first case that did. */
  readonly mismatches: readonly string[];
  /** What the simulator does not simulate, by its own words. */
  readonly unimplemented: readonly string[];
  /** By transcendental instruction: cases, and how many differed in the last bit, which the manual allows. */
  readonly lastBits: ReadonlyMap<string, { readonly cases: number; readonly differed: number }>;
}

/** `casesPerForm` random cases of each form. */
export const casesOfForms = (forms: readonly TestForm[], casesPerForm: number, seed: number): Case[] =>
  forms.flatMap((form) => {
    const random = new Random(seed + Math.imul(form.id, 0x9e37_79b1));
    return Array.from({ length: casesPerForm }, () => randomCase(form, random));
  });

/** Sequences that a run tests for each case of a form. */
export const SEQUENCES_PER_CASE = 200;

export function sequences(count: number, seed: number): Case[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => randomSequence(random));
}

/** Runs cases on silicon and in the simulator, and compares. */
export function check(cases: readonly Case[], native: Native, simulated: Simulated): Report {
  const expected = native.run(cases);
  const mismatches = new Map<string, string>();
  const unimplemented = new Set<string>();
  const lastBits = new Map<string, { cases: number; differed: number }>();
  cases.forEach((test, i) => {
    const outcome = simulated.run(test);
    if ('unimplemented' in outcome) {
      unimplemented.add(`${outcome.unimplemented}: ${test.text}`);
      return;
    }
    const silicon = expected[i] as Outcome;
    const found = compare(test, silicon, test.approximate ? tolerant(test.approximate, silicon, outcome) : outcome);
    if (found.length > 0 && !mismatches.has(test.text)) mismatches.set(test.text, describeCase(test, found));
  });
  return { cases: cases.length, mismatches: [...mismatches.values()], unimplemented: [...unimplemented], lastBits };

  /** The outcome but for last bits of results, which are counted. */
  function tolerant(mnemonic: string, silicon: Outcome, outcome: Outcome): Outcome {
    const { x87, differed } = withoutLastBits(silicon.after.x87, outcome.after.x87);
    const count = lastBits.get(mnemonic) ?? { cases: 0, differed: 0 };
    lastBits.set(mnemonic, { cases: count.cases + 1, differed: count.differed + (differed ? 1 : 0) });
    return { ...outcome, after: { ...outcome.after, x87 } };
  }
}

/** Differences between silicon and the simulator where the manual defines a result. */
function compare(test: Case, silicon: Outcome, simulator: Outcome): string[] {
  if (silicon.vector !== simulator.vector) {
    return [`exception vector: silicon ${silicon.vector}, simulator ${simulator.vector} (3 is none)`];
  }
  // After a fault nothing has changed, so nothing is undefined.
  const completed = silicon.vector === NO_EXCEPTION;
  return differences(test.mode, ['silicon', silicon.after], ['simulator', simulator.after], {
    flags: completed ? test.undefinedFlags : 0,
    results: completed && test.undefinedResult,
    status: completed ? test.undefinedStatus : 0,
  });
}
