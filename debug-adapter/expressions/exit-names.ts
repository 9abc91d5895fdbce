/** Names that expressions have for the parts of the last VM exit: qualification.data_write, qualification.port. */

import { type BitField, extract } from '../../sim-core/vmx/bits.ts';
import { EXIT_REASONS, qualificationLayout } from '../../sim-core/vmx/exit-reasons.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';

/** 'Read/write page' → 'read_write_page'. */
const identifier = ({ name }: BitField): string =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .replace(/_$/, '');

/** All parts that the qualification of some VM exit has. */
export const QUALIFICATION_PARTS: readonly string[] = [
  ...new Set(EXIT_REASONS.flatMap(({ number }) => qualificationLayout(number).map(identifier))),
].sort();
const KNOWN = new Set(QUALIFICATION_PARTS);

/**
 * A part of the last exit's qualification by its name; 0 where this exit's qualification has no such part, so that one
 * condition can do for several reasons; undefined when none has.
 */
export function qualificationPart(exit: VmExitRecord | undefined, name: string): bigint | undefined {
  const wanted = name.toLowerCase();
  if (!KNOWN.has(wanted)) return undefined;
  if (!exit) return 0n;
  const layout = qualificationLayout(exit.reason, exit.interruptionInformation);
  const field = layout.find((part) => identifier(part) === wanted);
  return field ? extract(field, exit.qualification) : 0n;
}
