/** Recorded runs in the debugger: launches that repeat one, and recordings of the session. */

import type { BootRequest } from '../../sim-core/loaders/boot-request.ts';
import { hashOf } from '../../sim-core/machine/history/hash.ts';
import {
  checkFile,
  formatRecording,
  parseRecording,
  type RecordedBoot,
  type RecordedFile,
  type Recording,
  RecordingError,
} from '../../sim-core/machine/history/recording.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { errors } from '../errors.ts';
import type { FileReader, LaunchArguments } from '../protocol.ts';
import type { DiskSource, Disks } from '../running/disks.ts';
import type { Target } from '../running/target.ts';

/** What a machine was booted with, for recordings and snapshots. Disk images are looked at when one is made. */
export type Booted = Omit<RecordedBoot, 'disks'> & Pick<Recording, 'snapshot'> & { readonly disks: Disks };

/** @throws diskWritten, unreadableFile */
export function recordedBoot(
  command: string,
  { disks, ...booted }: Booted,
): RecordedBoot & Pick<Recording, 'snapshot'> {
  if (disks.written !== undefined) throw errors.diskWritten(command, disks.written);
  return { ...booted, disks: disks.recorded };
}

/** The recording that a launch repeats. @throws badTrace */
export async function readRecording(files: FileReader, path: string): Promise<Recording> {
  try {
    return parseRecording(new TextDecoder().decode(await files.readFile(path)));
  } catch (error) {
    throw errors.badTrace(path, error instanceof Error ? error.message : String(error));
  }
}

/** The launch configuration with the recorded machine. */
export function asRecorded(launch: LaunchArguments, { machine, commandLine }: RecordedBoot): LaunchArguments {
  const { memory, devices, startTime, ...same } = machine;
  const recorded = {
    ...same,
    memory: String(memory),
    devices: [...devices],
    ...(startTime === undefined ? {} : { startTime: new Date(startTime * 1000).toISOString() }),
  };
  return { ...launch, args: commandLine, machine: recorded };
}

export const traceSource = (path: string, { disks }: RecordedBoot): DiskSource => ({
  ...{ path, disks },
  problem: (text) => errors.badTrace(path, text),
});

/** What boots the machine as it was booted then. @throws badTrace where the files are others */
export function bootAsRecorded(path: string, recording: Recording, request: BootRequest): BootRequest {
  const { image, modules, format } = recording;
  const check = (file: RecordedFile, bytes: Uint8Array | undefined, what: string): Uint8Array => {
    if (!bytes) throw errors.badTrace(path, `the ${what} is missing in the launch configuration: it was ${file.path}`);
    try {
      checkFile(file, bytes, what);
    } catch (error) {
      if (error instanceof RecordingError) throw errors.badTrace(path, error.message);
      throw error;
    }
    return bytes;
  };
  return {
    name: image.name,
    image: check(image, request.image, 'program'),
    commandLine: recording.commandLine,
    modules: modules.map((module, i) => ({
      name: module.name,
      commandLine: module.commandLine,
      bytes: check(module, request.modules[i]?.bytes, `module ${module.name}`),
    })),
    format,
  };
}

/** What the real-time clock shows at power-up, in seconds since 1970. @throws badLaunchValue */
export function startSeconds({ machine }: LaunchArguments): number | undefined {
  if (machine?.startTime === undefined || machine.startTime === null) return undefined;
  const milliseconds = Date.parse(machine.startTime);
  if (milliseconds >= 0) return Math.floor(milliseconds / 1000);
  const problem = `'${machine.startTime}' is no date from 1970 on, as 2026-01-01T00:00:00Z`;
  throw errors.badLaunchValue('machine.startTime', problem);
}

/** What is to be written down of a boot. @param paths of the modules */
export function bootedWith(launch: LaunchArguments, request: BootRequest, memory: number, disks: Disks): Booted {
  const { cpus = 1, cpuModel = 'westmere', vmx = true, iommu = false, devices = [], quantum } = launch.machine ?? {};
  const startTime = startSeconds(launch);
  return {
    image: { name: request.name, path: launch.program, hash: hashOf(request.image) },
    commandLine: request.commandLine,
    format: request.format ?? 'auto',
    modules: request.modules.map(({ name, commandLine, bytes }, i) => ({
      name,
      commandLine,
      path: (launch.modules?.[i] ?? '').trim().split(/\s+/)[0] ?? '',
      hash: hashOf(bytes),
    })),
    disks,
    machine: {
      ...{ memory, cpus, cpuModel, vmx, iommu, devices },
      ...(quantum === undefined ? {} : { quantum }),
      ...(startTime === undefined ? {} : { startTime }),
    },
  };
}

/** The run up to this place as a recording. @throws noHistory, unreadableFile */
export function recordingOf({ booted, history, machine }: Target, command: string): string {
  if (!history || !booted) throw errors.noHistory(command);
  const end = history.position;
  const events = history.events.slice(0, history.eventsHappened);
  return formatRecording({ ...recordedBoot(command, booted), events, end, hash: stateHash(machine) });
}
