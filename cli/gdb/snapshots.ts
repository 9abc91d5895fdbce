/** gdb's `monitor snapshot` and `monitor restore`: files on the computer that `vmxray gdb` runs on. */

import { writeFileSync } from 'node:fs';
import type { RecordedBoot } from '../../sim-core/machine/history/recording.ts';
import { checkBoot, takeSnapshot } from '../../sim-core/machine/history/snapshot.ts';
import { formatSnapshot } from '../../sim-core/machine/history/snapshot-file.ts';
import { readSnapshot } from '../recorded.ts';
import type { Debuggee } from './debuggee.ts';

/** @returns lines for the user. @throws Error that says why it cannot be saved */
export async function save({ machine, recorded }: Debuggee, file: string): Promise<readonly string[]> {
  const { snapshot: _first, ...boot } = known(recorded);
  const snapshot = takeSnapshot(machine, boot);
  writeFileSync(file, await formatSnapshot(snapshot));
  return [`saved the machine at instruction ${snapshot.instructions} in ${file}, state ${snapshot.hash}`];
}

/** @throws Error that says why it cannot be restored; the machine is as it was where the file was refused */
export async function restore(debuggee: Debuggee, file: string): Promise<readonly string[]> {
  const { snapshot, source } = await readSnapshot(file);
  checkBoot(snapshot.boot, known(debuggee.recorded));
  source.restore(debuggee.machine, snapshot);
  debuggee.beginAnew();
  return [
    `restored ${file}, instruction ${snapshot.instructions}: time travel begins here`,
    'gdb still shows what it knew: maintenance flush register-cache, or the hook of docs/clients.md',
  ];
}

function known(recorded: Debuggee['recorded']): ReturnType<NonNullable<Debuggee['recorded']>> {
  if (recorded) return recorded();
  throw new Error('nothing is known of how the machine began');
}

/** What a machine began with, as snapshots and recordings tell it. */
export type Recorded = () => RecordedBoot & { readonly snapshot?: unknown };
