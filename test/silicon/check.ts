import { randomCase } from './cases.ts';
import { areEqual, comparable, undefinedParts, withoutLatitude } from './comparable.ts';
import { describeCase, differences } from './differences.ts';
import type { TestForm } from './forms.ts';
import type { Case, Outcome } from './layout.ts';
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

/** The first cases of a form; which ones depends on nothing but the form and the seed. */
export function casesOfForm(form: TestForm, count: number, seed: number): Case[] {
  const random = new Random(seed + Math.imul(form.id, 0x9e37_79b1));
  return Array.from({ length: count }, () => randomCase(form, random));
}

/** `casesPerForm` random cases of each form. */
export const casesOfForms = (forms: readonly TestForm[], casesPerForm: number, seed: number): Case[] =>
  forms.flatMap((form) => casesOfForm(form, casesPerForm, seed));

export function sequences(count: number, seed: number): Case[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => randomSequence(random));
}

/** How many cases are on their way at a time, at 3 KB each. */
const BATCH = 5000;

/** Runs cases on silicon and in the simulator, and compares. */
export function check(cases: Iterable<Case>, native: Native, simulated: Simulated): Report {
  const comparison = new Comparison();
  for (const batch of batches(cases, BATCH)) {
    const expected = native.run(batch);
    batch.forEach((test, i) => {
      comparison.add(test, expected[i] as Outcome, simulated.run(test));
    });
  }
  return comparison;
}

function* batches<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let batch: T[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** What is found while cases come in. */
class Comparison implements Report {
  cases = 0;
  readonly lastBits = new Map<string, { cases: number; differed: number }>();
  private readonly different = new Map<string, string>();
  private readonly missing = new Set<string>();

  get mismatches(): readonly string[] {
    return [...this.different.values()];
  }
  get unimplemented(): readonly string[] {
    return [...this.missing];
  }

  add(test: Case, silicon: Outcome, outcome: ReturnType<Simulated['run']>): void {
    this.cases++;
    if ('unimplemented' in outcome) {
      this.missing.add(`${outcome.unimplemented}: ${test.text}`);
      return;
    }
    const simulator = test.approximate ? this.tolerant(test.approximate, silicon, outcome) : outcome;
    if (areEqual(comparable(test, silicon), comparable(test, simulator)) || this.different.has(test.text)) return;
    this.different.set(test.text, describeCase(test, differencesOf(test, silicon, simulator)));
  }

  /** The outcome but for last bits of results, which are counted. */
  private tolerant(mnemonic: string, silicon: Outcome, outcome: Outcome): Outcome {
    const { x87, differed } = withoutLastBits(silicon.after.x87, outcome.after.x87);
    const count = this.lastBits.get(mnemonic) ?? { cases: 0, differed: 0 };
    this.lastBits.set(mnemonic, { cases: count.cases + 1, differed: count.differed + (differed ? 1 : 0) });
    return { ...outcome, after: { ...outcome.after, x87 } };
  }
}

/** Differences between silicon and the simulator where the manual defines a result. */
function differencesOf(test: Case, silicon: Outcome, simulator: Outcome): string[] {
  if (silicon.vector !== simulator.vector) {
    return [`exception vector: silicon ${silicon.vector}, simulator ${simulator.vector} (3 is none)`];
  }
  const [one, other] = [silicon, simulator].map((outcome) => withoutLatitude(test, outcome).after);
  if (!one || !other) return [];
  return differences(test.mode, ['silicon', one], ['simulator', other], undefinedParts(test, silicon));
}
