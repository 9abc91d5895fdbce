/** `vmxray replay`: a recorded run once more, to the same state. */

import { readFileSync } from 'node:fs';
import type { Machine } from '../sim-core/machine/api.ts';
import { History } from '../sim-core/machine/history/history.ts';
import { parseRecording, type Recording } from '../sim-core/machine/history/recording.ts';
import { stateHash } from '../sim-core/machine/history/state-hash.ts';
import { SerialConsole } from './console.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { RecordedSource } from './recorded.ts';
import { nextTurn, Slices } from './slices.ts';

const SLICE_MILLISECONDS = 40;

/** The machine at the start of a recorded run. @throws UsageError */
async function startRecorded(file: string): Promise<{ readonly recording: Recording; readonly machine: Machine }> {
  const source = new RecordedSource(file, `cannot replay ${file}`);
  let recording: Recording;
  try {
    recording = parseRecording(readFileSync(file, 'utf8'));
  } catch (error) {
    throw source.error(error instanceof Error ? error.message : String(error));
  }
  const machine = source.makeMachine(recording);
  if (recording.snapshot) source.restore(machine, await source.readSnapshot(recording.snapshot));
  else source.boot(machine, recording);
  return { recording, machine };
}

/** @returns the process's exit status. @throws UsageError */
export async function replay(file: string): Promise<number> {
  const { recording, machine } = await startRecorded(file);
  const serial = new SerialConsole(machine);
  const { events, end, hash } = recording;
  const history = new History(machine.rewindable, { future: { events, end }, interval: Number.POSITIVE_INFINITY });
  const slices = new Slices(SLICE_MILLISECONDS);
  while (machine.instructions < end.instructions) {
    slices.run((instructions) => history.run(instructions), end.instructions - machine.instructions);
    serial.flush();
    await nextTurn();
  }
  history.goTo(end);
  serial.flush();
  const found = stateHash(machine);
  const lineEnd = serial.atLineStart ? '' : '\n';
  const is = found === hash ? 'the recorded state' : `not the recorded state ${hash}`;
  process.stderr.write(`${lineEnd}vmxray: replayed ${end.instructions} instructions to state ${found}: ${is}\n`);
  return found === hash ? 0 : EXIT_STATUS.otherState.status;
}
