/** What would satisfy a failed VM-entry check: found by trying changes of one field, never stored beside the check. */

import { describeField, layoutOf } from './describe.ts';
import type { EntryCheck, EntryFacts } from './entry-check.ts';
import { ENTRY_CHECKS } from './entry-checks.ts';
import { type FieldName, fieldOf } from './fields.ts';
import type { EntryRemedy, FailedCheck } from './records.ts';
import type { FieldValues } from './values.ts';

const CHECK_BY_ID: ReadonlyMap<string, EntryCheck> = new Map(ENTRY_CHECKS.map((check) => [check.id, check]));
const PAGE_MASK = 0xfffn;
/** IA32_PAT after power-up (SDM Vol. 3A, "Programming the PAT"). */
const POWER_ON_PAT = 0x0007_0406_0007_0406n;

/** A change to try, in words. */
interface Candidate {
  readonly value: bigint;
  readonly action: string;
}

/**
 * Changes of single fields any of which makes the check hold, the other fields being as they were found. Empty when no
 * simple change does, or when the check is not about fields (an MSR list).
 */
export function entryRemedies(failed: FailedCheck, facts: EntryFacts): EntryRemedy[] {
  const check = CHECK_BY_ID.get(failed.id);
  if (!check) return [];
  const found = new Map(failed.fields.map(({ name, value }) => [name as FieldName, value]));
  // A change had better not break another check that reads nothing but these fields.
  const alike = ENTRY_CHECKS.filter(({ fields }) => fields.every((name) => found.has(name)));
  return check.fields.flatMap((name) => {
    const value = found.get(name) ?? 0n;
    const tried = candidates(name, value, facts).filter((candidate) =>
      check.holds(valuesWith(found, name, candidate.value), facts),
    );
    const clean = ({ value: changed }: Candidate): boolean => {
      const values = valuesWith(found, name, changed);
      return alike.every(({ holds }) => holds(values, facts));
    };
    const fitting = tried.find(clean) ?? tried[0];
    return fitting ? [{ field: name, value: fitting.value, text: fitting.action }] : [];
  });
}

/** The values of the check's fields with one changed, typed as the table has them. */
function valuesWith(found: ReadonlyMap<FieldName, bigint>, changed: FieldName, value: bigint): FieldValues {
  const entries = [...found].map(([name, old]) => {
    const now = name === changed ? value : old;
    return [name, fieldOf(name).bytes === 8 ? now : Number(now)];
  });
  return Object.fromEntries(entries) as FieldValues;
}

/** What is tried, the smallest changes first. */
function candidates(name: FieldName, value: bigint, facts: EntryFacts): Candidate[] {
  const width = 8 * fieldOf(name).bytes;
  const flips = Array.from({ length: width }, (_, bit) => flip(name, value, bit));
  const whole = wholeValues(name, value, width, facts).map((candidate) => ({
    value: candidate,
    action: `set ${name} to ${inBits(name, candidate)}`,
  }));
  return [...flips, ...whole].filter((candidate) => candidate.value !== value);
}

function flip(name: FieldName, value: bigint, bit: number): Candidate {
  const isSet = ((value >> BigInt(bit)) & 1n) === 1n;
  const named = layoutOf(name).find((part) => part.low <= bit && bit < part.low + (part.width ?? 1));
  return {
    value: value ^ (1n << BigInt(bit)),
    action: `${isSet ? 'clear' : 'set'} bit ${bit}${named ? ` (${named.name})` : ''} of ${name}`,
  };
}

type Repair = (value: bigint, facts: EntryFacts) => bigint;

/** Values that repair more than one bit of the fields whose names match. */
const REPAIRS: readonly (readonly [fields: RegExp, repairs: readonly Repair[]])[] = [
  [/_SELECTOR$/, [(value) => value & ~7n]],
  [/_CR0$/, [(value, { cr0 }) => (value | cr0.mustBeOne) & cr0.mayBeOne]],
  [/_CR4$/, [(value, { cr4 }) => (value | cr4.mustBeOne) & cr4.mayBeOne]],
  [/_IA32_EFER$/, [(value, { eferBits }) => value & eferBits]],
  [/_IA32_PAT$/, [() => POWER_ON_PAT]],
  [
    /./,
    [
      (value) => value & ~PAGE_MASK,
      (value, facts) => BigInt.asUintN(facts.physicalAddressBits, value),
      (value, facts) => BigInt.asUintN(facts.physicalAddressBits, value) & ~PAGE_MASK,
      (value, facts) => BigInt.asIntN(facts.linearAddressBits, value),
      (value) => BigInt.asUintN(32, value),
      () => 0n,
      () => -1n,
    ],
  ],
];

const wholeValues = (name: FieldName, value: bigint, width: number, facts: EntryFacts): bigint[] =>
  REPAIRS.flatMap(([fields, repairs]) => (fields.test(name) ? repairs : [])).map((repair) =>
    BigInt.asUintN(width, repair(value, facts)),
  );

/** A value with its named bits: '0x2 (VMXE)'. */
export function inBits(name: FieldName, value: bigint): string {
  const words = describeField(name, value);
  return `0x${value.toString(16)}${words ? ` (${words})` : ''}`;
}
