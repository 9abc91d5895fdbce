/**
 * The checks that VM entry makes on the VMCS, each once, in the manual's order (SDM Vol. 3C, "VM Entries").
 *
 * A row names the fields it reads; its predicate sees just those and the facts of the machine. VM entry takes the first
 * failure; an explanation evaluates all. Rows live in entry-checks-controls.ts, -host.ts and -guest.ts.
 */

import { cite, type SdmKey } from '../sdm.ts';
import { describeField } from './describe.ts';
import type { EntryCheck, EntryFacts } from './entry-check.ts';
import { ENTRY_CHECKS_CONTROLS } from './entry-checks-controls.ts';
import { ENTRY_CHECKS_GUEST } from './entry-checks-guest.ts';
import { ENTRY_CHECKS_HOST } from './entry-checks-host.ts';
import { type FieldName, fieldOf, VMCS_FIELDS } from './fields.ts';
import type { FailedCheck, VmEntryFailure } from './records.ts';
import type { FieldValues } from './values.ts';

/** All checks: controls, host state, guest state. */
export const ENTRY_CHECKS: readonly EntryCheck[] = [
  ...ENTRY_CHECKS_CONTROLS,
  ...ENTRY_CHECKS_HOST,
  ...ENTRY_CHECKS_GUEST,
];

/** What a failure in each group does (SDM Vol. 3C, "VM-Entry Failures"). */
export const GROUP_OUTCOME = {
  controls: { vmInstructionError: 7 },
  host: { vmInstructionError: 8 },
  guest: { exitReason: 33 },
} as const satisfies Record<EntryCheck['group'], VmEntryFailure['outcome']>;

/** A failed check in words: what must hold, and what was found. */
export function explainCheck(check: EntryCheck, values: FieldValues, facts: EntryFacts): FailedCheck {
  const fields = check.fields.map((name) => ({ name, value: BigInt(values[name]) }));
  const must = typeof check.must === 'string' ? check.must : check.must(values, facts);
  const found = fields.map(({ name, value }) => `${name} = ${inWords(name, value)}`).join('; ');
  return { id: check.id, explanation: `${must}. Found ${found}.`, section: cite(check.sdm), fields };
}

export const failedCheck = (id: string, sdm: SdmKey, explanation: string): FailedCheck => ({
  id,
  explanation,
  section: cite(sdm),
  fields: [],
});

function inWords(name: FieldName, value: bigint): string {
  const words = describeField(name, value);
  return `0x${value.toString(16)}${words ? ` (${words})` : ''}`;
}

/** Every check that fails on these values, in order. */
export const failingChecks = (values: FieldValues, facts: EntryFacts): EntryCheck[] =>
  ENTRY_CHECKS.filter((check) => !check.holds(values, facts));

/** For each field (by position in VMCS_FIELDS) the checks that read it. */
const READERS: readonly Uint16Array[] = VMCS_FIELDS.map((field) =>
  Uint16Array.from(ENTRY_CHECKS.flatMap((check, index) => (check.fields.includes(field.name) ? [index] : []))),
);
const POSITION = new Map(VMCS_FIELDS.map((field, position) => [field.name, position]));
const VOLATILE = ENTRY_CHECKS.flatMap((check, index) => (check.readsOutside ? [index] : []));

/**
 * Remembers which checks have passed since the fields that they read were last written, so that a VM entry after a few
 * VMWRITEs evaluates a few checks.
 */
export class EntryCheckCache {
  /** Checks to evaluate at the next VM entry: 1 = not known to pass. */
  private readonly pending = new Uint8Array(ENTRY_CHECKS.length).fill(1);

  /** A field was written; @param position its index in VMCS_FIELDS. */
  fieldWritten(position: number): void {
    for (const check of READERS[position] ?? []) this.pending[check] = 1;
  }

  nameWritten(name: FieldName): void {
    this.fieldWritten(POSITION.get(name) ?? VMCS_FIELDS.indexOf(fieldOf(name)));
  }

  /** Another VMCS became current, or a fact of the machine changed. */
  everythingChanged(): void {
    this.pending.fill(1);
  }

  /** The first check that fails, in order. */
  firstFailure(values: FieldValues, facts: EntryFacts): EntryCheck | undefined {
    const { pending } = this;
    for (const index of VOLATILE) pending[index] = 1;
    for (let index = pending.indexOf(1); index >= 0; index = pending.indexOf(1, index + 1)) {
      const check = ENTRY_CHECKS[index];
      if (check && !check.holds(values, facts)) return check;
      pending[index] = 0;
    }
    return undefined;
  }
}
