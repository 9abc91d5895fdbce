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
import { type FieldName, VMCS_FIELDS } from './fields.ts';
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
/** Words of a set of checks, a bit each. */
const SET_WORDS = Math.ceil(ENTRY_CHECKS.length / 32);
/** Checks that read more than fields. */
const VOLATILE = new Uint32Array(SET_WORDS);
ENTRY_CHECKS.forEach((check, index) => {
  if (check.readsOutside) VOLATILE[index >>> 5] = (VOLATILE[index >>> 5] as number) | (1 << (index & 31));
});

/**
 * Remembers which checks have passed since the fields that they read were last written, so that a VM entry after a few
 * VMWRITEs evaluates a few checks.
 */
export class EntryCheckCache {
  /** Checks to evaluate at the next VM entry, as they are not known to pass; bits beyond the last check are none. */
  private readonly pending = new Uint32Array(SET_WORDS).fill(0xffff_ffff);

  /** A field was written; @param position its index in VMCS_FIELDS. */
  fieldWritten(position: number): void {
    const readers = READERS[position];
    if (!readers) return;
    const { pending } = this;
    for (let i = 0; i < readers.length; i++) {
      const check = readers[i] as number;
      pending[check >>> 5] = (pending[check >>> 5] as number) | (1 << (check & 31));
    }
  }

  /** Another VMCS became current, or a fact of the machine changed. */
  everythingChanged(): void {
    this.pending.fill(0xffff_ffff);
  }

  /** The first check that fails, in order. */
  firstFailure(values: FieldValues, facts: EntryFacts): EntryCheck | undefined {
    const { pending } = this;
    for (let word = 0; word < SET_WORDS; word++) {
      for (let bits = (pending[word] as number) | (VOLATILE[word] as number); bits !== 0; bits &= bits - 1) {
        const check = ENTRY_CHECKS[32 * word + 31 - Math.clz32(bits & -bits)];
        if (!check || check.holds(values, facts)) continue;
        pending[word] = bits;
        return check;
      }
      pending[word] = 0;
    }
    return undefined;
  }
}
