/**
 * The committed vectors: what a real processor did, so that a machine without that processor compares with it, too.
 *
 * Inputs come from the seed again; of each outcome 16 bits of a hash are kept (comparable.ts), which is enough to say
 * which case differs. A file is a line of JSON, then the forms: number of the form (4 bytes), mode (1), cases (1), hash
 * of the inputs (2), and 2 bytes a case, all little-endian.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { casesOfForm } from './check.ts';
import { digest, hash } from './comparable.ts';
import { describeCase } from './differences.ts';
import { formsOf, type TestForm } from './forms.ts';
import { type Case, encodeCases, MODES, type Outcome, type TestMode } from './layout.ts';
import { TESTED_MNEMONICS } from './mnemonics.ts';
import type { Native } from './native.ts';
import type { Simulated } from './simulated.ts';
import { neighbours } from './x87.ts';

const FILE = new URL('vectors.bin', import.meta.url);
const SEED = 20_261_122;
/** Cases of a form in all modes together, at least. */
export const CASES_PER_FORM = 100;
/** How they are shared out among the modes that have the form. */
const SHARES: Readonly<Record<TestMode, number>> = { code64: 5, code32: 3, code16: 2 };
const MODE_NAMES = Object.keys(MODES) as TestMode[];

interface Origin {
  /** Name of the processor that the outcomes come from. */
  readonly processor: string;
  readonly seed: number;
}

export interface Vector {
  readonly inputs: number;
  readonly outcomes: readonly number[];
}

export interface Vectors extends Origin {
  /** By `keyOf` of the form. */
  readonly forms: ReadonlyMap<string, Vector>;
}

export const keyOf = ({ mode, id }: Pick<TestForm, 'mode' | 'id'>): string => `${mode} ${id}`;

/** Every form under test with the number of its cases. */
export function allForms(): ReadonlyMap<TestForm, number> {
  const forms = MODE_NAMES.flatMap((mode) => formsOf(TESTED_MNEMONICS, mode));
  const shares = new Map<number, number>();
  for (const { id, mode } of forms) shares.set(id, (shares.get(id) ?? 0) + SHARES[mode]);
  const countOf = ({ id, mode }: TestForm) => Math.ceil((CASES_PER_FORM * SHARES[mode]) / (shares.get(id) ?? 1));
  return new Map(forms.map((form) => [form, countOf(form)]));
}

/** 16 bits of what the cases begin with and of what is not compared of them. */
function hashOfInputs(cases: readonly Case[]): number {
  const masks = cases.flatMap((test) => [test.undefinedFlags, test.undefinedResult ? 1 : 0, test.undefinedStatus]);
  return hash(encodeCases(cases), hash(new Uint8Array(Uint32Array.from(masks).buffer))) & 0xffff;
}

// ---- the file

const HEAD = 8;

/** Runs every case on this machine's processor and writes the file. @throws when the kernel does not run all modes */
export function record(native: Native, processor: string): void {
  const refused = MODE_NAMES.filter((mode) => !native.runs(mode));
  if (refused.length > 0) throw new Error(`this kernel does not run ${refused.join(', ')}`);
  const origin: Origin = { processor, seed: SEED };
  const parts: Uint8Array[] = [new TextEncoder().encode(`${JSON.stringify(origin)}\n`)];
  for (const [form, count] of allForms()) parts.push(recorded(form, casesOfForm(form, count, SEED), native));
  writeFileSync(FILE, Buffer.concat(parts));
  console.log(`${parts.length - 1} forms of ${processor} in ${FILE.pathname}`);
}

function recorded(form: TestForm, cases: readonly Case[], native: Native): Uint8Array {
  const part = new DataView(new ArrayBuffer(HEAD + 2 * cases.length));
  part.setUint32(0, form.id, true);
  part.setUint8(4, MODE_NAMES.indexOf(form.mode));
  part.setUint8(5, cases.length);
  part.setUint16(6, hashOfInputs(cases), true);
  native.run(cases).forEach((outcome, i) => {
    part.setUint16(HEAD + 2 * i, digest(cases[i] as Case, outcome), true);
  });
  return new Uint8Array(part.buffer);
}

/** The committed file. */
export function readVectors(): Vectors {
  const file = readFileSync(FILE);
  const start = file.indexOf('\n') + 1;
  const origin = JSON.parse(file.subarray(0, start).toString()) as Origin;
  const view = new DataView(file.buffer, file.byteOffset + start, file.length - start);
  const forms = new Map<string, Vector>();
  for (let at = 0; at < view.byteLength; ) {
    const mode = MODE_NAMES[view.getUint8(at + 4)];
    const count = view.getUint8(at + 5);
    if (mode === undefined) throw new RangeError(`mode ${view.getUint8(at + 4)} in the vectors`);
    const outcomes = Array.from({ length: count }, (_, i) => view.getUint16(at + HEAD + 2 * i, true));
    forms.set(keyOf({ mode, id: view.getUint32(at, true) }), { inputs: view.getUint16(at + 6, true), outcomes });
    at += HEAD + 2 * count;
  }
  return { ...origin, forms };
}

// ---- comparing

/** What differs from the vector, in words; undefined when nothing does. */
export function compareForm(
  form: TestForm,
  vector: Vector | undefined,
  seed: number,
  simulated: Simulated,
): string | undefined {
  if (!vector) return `${form.text} in ${form.mode} has no vector; npm run oracle -- --record`;
  const cases = casesOfForm(form, vector.outcomes.length, seed);
  if (hashOfInputs(cases) !== vector.inputs) {
    return `${form.text} in ${form.mode} is tested with other inputs than recorded; npm run oracle -- --record`;
  }
  for (const [i, test] of cases.entries()) {
    const outcome = simulated.run(test);
    if ('unimplemented' in outcome) return `${test.text} is not simulated: ${outcome.unimplemented}`;
    if (!possible(test, outcome).includes(vector.outcomes[i] as number)) {
      return describeCase(test, [`case ${i}: the simulator does otherwise than the recorded processor`]);
    }
  }
  return undefined;
}

/** Digests of the outcomes that the manual takes for this one. */
function possible(test: Case, outcome: Outcome): number[] {
  const plain = digest(test, outcome);
  if (!test.approximate) return [plain];
  const { after } = outcome;
  return neighbours(after.x87).map((x87) => digest(test, { ...outcome, after: { ...after, x87 } }));
}
