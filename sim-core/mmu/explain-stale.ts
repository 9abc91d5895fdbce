/** Stale translations in words: who wrote the table, what uses the old entry, and what would have removed it. */

import type { Moment, StaleStory, StaleUse, TableWrite } from './table-watch.ts';
import { KIND_NAMES } from './tlb.ts';

/** ' <main+0x12>' for an address of a world, or nothing; the debugger knows symbols. */
export type NameCode = (world: Moment['world'], address: bigint) => string;

const NO_NAMES: NameCode = () => '';
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const WORLDS = { vmm: 'root operation (or without VMX)', guest: 'the guest' } as const;

function place({ address, world, processor, instructions, cycles }: Moment, nameOf: NameCode): string {
  const by = processor === undefined ? '' : ` on processor ${processor}`;
  const code = `${hex(address)}${nameOf(world, address)} in ${WORLDS[world]}${by}`;
  return `${code}, instruction ${instructions}, cycle ${cycles}`;
}

/** Which write made an entry stale, in a sentence. */
export function describeWrite(write: TableWrite | undefined, nameOf = NO_NAMES): string {
  if (!write) return 'Made stale by no write that was seen: CR3 was changed, or the write came before the session';
  const what = `of the table entry at physical ${hex(write.physical)}, which held ${hex(write.before)}`;
  const at = place(write.at, nameOf);
  switch (write.by) {
    case 'instruction':
      return `Made stale by the write ${what}, by the instruction at ${at}`;
    case 'processor':
      return `Made stale by a write of the processor itself (or a device) ${what}, at ${at}`;
    case 'device':
      return `Made stale by a device’s write (DMA) ${what}, when the processor was at ${at}`;
    case 'debugger':
      return `Made stale by the debugger’s write ${what}, when the processor was at ${at}`;
  }
}

/** The first access that a stale entry has served, in a sentence. */
function describeUse({ access, accessed, at }: StaleUse, nameOf = NO_NAMES): string {
  const kind = access === 'execute' ? 'fetch' : access;
  return `First used since by the ${kind} of ${hex(accessed)} by the instruction at ${place(at, nameOf)}`;
}

/** What is known of a stale entry's past; undefined: nothing. */
export const storyLines = (story: StaleStory | undefined, nameOf = NO_NAMES): string[] =>
  story ? [describeWrite(story.write, nameOf), ...(story.used ? [describeUse(story.used, nameOf)] : [])] : [];

/** A stop because of a use: a line of what has happened, then the rest. */
export function explainStaleUse(use: StaleUse, nameOf = NO_NAMES): { text: string; details: string[] } {
  const { entry, difference, invalidations } = use;
  const tags = `VPID ${entry.vpid}${entry.global ? ', global' : `, PCID ${entry.pcid}`}`;
  return {
    text: `the ${use.access === 'execute' ? 'fetch' : use.access} of ${hex(use.accessed)}: ${difference}`,
    details: [
      `TLB entry: ${KIND_NAMES[entry.kind]} mapping of ${hex(entry.page)} to ${hex(entry.target)} (${tags})`,
      describeWrite(use.write, nameOf),
      describeUse(use, nameOf),
      ...invalidations.map((invalidation) => `    would have removed it: ${invalidation}`),
    ],
  };
}
