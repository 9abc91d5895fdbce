/** The ORC tables of a Linux kernel and its modules: of their files, else as the kernel has them in memory. */

import type { FrameRules } from '../symbols/dwarf/call-frames.ts';
import { OrcTable } from '../symbols/orc.ts';
import type { Program } from '../symbols/program.ts';
import type { WorldView } from './world-view.ts';

/** The kernel's names for the beginnings and ends of its tables. */
const IPS = ['__start_orc_unwind_ip', '__stop_orc_unwind_ip'] as const;
const ENTRIES = ['__start_orc_unwind', '__stop_orc_unwind'] as const;
/** Longer ones are none. */
const LONGEST = 64n << 20n;

const known = new WeakMap<Program, OrcTable>();

/** How to leave the frame of the code at a run-time address; undefined where no table knows. */
export function orcRules(view: WorldView, program: Program, address: bigint): FrameRules | undefined {
  if (view.bitness !== 64) return undefined;
  const table = known.get(program) ?? program.orc ?? orcInMemory(view, program);
  if (table) known.set(program, table);
  return table?.rules(address);
}

function orcInMemory(view: WorldView, program: Program): OrcTable | undefined {
  const ips = range(view, program, IPS);
  const entries = ips && range(view, program, ENTRIES);
  if (!entries) return undefined;
  const table = new OrcTable(ips.bytes, ips.start, entries.bytes);
  // Before the kernel has unpacked itself something else is there.
  const { start } = table;
  return start !== undefined && program.contains(start) && program.functionAt(start) ? table : undefined;
}

/** Memory between two symbols; undefined when they or some of it are not there. */
function range(view: WorldView, program: Program, [from, to]: readonly [string, string]) {
  const [start, end] = [program.symbolNamed(from)?.address, program.symbolNamed(to)?.address];
  if (start === undefined || end === undefined || end <= start || end - start > LONGEST) return undefined;
  const bytes = view.read(start, Number(end - start));
  return bytes.length === Number(end - start) ? { start, bytes } : undefined;
}
