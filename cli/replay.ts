/** `vmxray replay`: a recorded run once more, to the same state. */

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { History } from '../sim-core/machine/history/history.ts';
import {
  checkFile,
  parseRecording,
  type RecordedFile,
  type Recording,
  RecordingError,
} from '../sim-core/machine/history/recording.ts';
import { stateHash } from '../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../sim-core/machine/machine.ts';
import { SerialConsole } from './console.ts';
import { makeDeviceConfigs } from './devices.ts';
import { EXIT_STATUS } from './exit-status.ts';
import { UsageError } from './options.ts';
import { nextTurn, Slices } from './slices.ts';

const SLICE_MILLISECONDS = 40;

/** Where a recorded file is now: where it was, or beside the recording. @throws UsageError */
function locate({ path: recorded }: RecordedFile, recording: string): string {
  const places = [recorded, path.join(path.dirname(recording), path.basename(recorded))];
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw new UsageError(`cannot replay ${recording}: there is no file ${places.join(' or ')}`);
  return found;
}

function read(recording: string): Recording {
  try {
    return parseRecording(readFileSync(recording, 'utf8'));
  } catch (error) {
    throw new UsageError(`cannot replay ${recording}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A machine as the recorded one was at its start. @throws UsageError */
function bootRecorded(recording: Recording, file: string) {
  const load = (one: RecordedFile, what: string): Uint8Array => {
    const bytes = readFileSync(locate(one, file));
    try {
      checkFile(one, bytes, what);
    } catch (error) {
      if (error instanceof RecordingError) throw new UsageError(`cannot replay ${file}: ${error.message}`);
      throw error;
    }
    return bytes;
  };
  for (const disk of recording.disks) load(disk, 'disk image');
  const moved = (text: string): string =>
    recording.disks.reduce((now, disk) => now.replaceAll(disk.path, locate(disk, file)), text);
  const { devices, ...config } = recording.machine;
  const machine = createMachine({ ...config, devices: makeDeviceConfigs(devices.map(moved)) });
  machine.boot({
    name: recording.image.name,
    image: load(recording.image, 'image'),
    commandLine: recording.commandLine,
    modules: recording.modules.map((module) => ({ ...module, bytes: load(module, `module ${module.name}`) })),
    format: recording.format,
  });
  return machine;
}

/** @returns the process's exit status. @throws UsageError */
export async function replay(file: string): Promise<number> {
  const recording = read(file);
  const machine = bootRecorded(recording, file);
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
