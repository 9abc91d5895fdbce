/** `vmxray run --record`: what came from outside while a machine ran, as a file. */

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { BootRequest } from '../sim-core/loaders/boot-request.ts';
import type { Machine } from '../sim-core/machine/api.ts';
import { hashOf, hashOfParts } from '../sim-core/machine/history/hash.ts';
import type { LoggedEvent } from '../sim-core/machine/history/history.ts';
import {
  formatRecording,
  type RecordedBoot,
  type RecordedFile,
  type Recording,
} from '../sim-core/machine/history/recording.ts';
import { stateHash } from '../sim-core/machine/history/state-hash.ts';
import { diskFileOf, withDiskFile, writesImage } from '../sim-core/platform/device-text.ts';
import type { ConsolePort } from './console.ts';
import { openImage } from './devices.ts';
import { type RunOptions, UsageError } from './options.ts';

/** The serial port of a machine, of which the input is written down. */
export class RecordedPort implements ConsolePort {
  readonly events: LoggedEvent[] = [];
  private readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  set onOutput(take: ConsolePort['onOutput']) {
    this.machine.serial.onOutput = take;
  }
  get onOutput(): ConsolePort['onOutput'] {
    return this.machine.serial.onOutput;
  }
  input(bytes: Uint8Array): void {
    const event = { kind: 'input', bytes: Uint8Array.from(bytes) } as const;
    this.events.push({ at: this.machine.rewindable.position, event });
    this.machine.serial.input(bytes);
  }
}

/** @param what asks for it. @throws UsageError for a run that could not be repeated, or gone on with */
export function checkRecordable({ devices }: RunOptions, what: string): void {
  const written = devices.find(writesImage);
  if (written === undefined) return;
  throw new UsageError(`${what}: the disk of --device ${written} would be another one then; leave out write=on`);
}

/** What a run begins with. */
export function recordBoot(options: RunOptions, boot: BootRequest): RecordedBoot {
  const devices = options.devices.map(withWholePath);
  const files = devices.flatMap((text) => diskFileOf(text) ?? []);
  const { memory, cpu: cpuModel, cpus, quantum, iommu, startTime } = options;
  return {
    image: { name: boot.name, path: path.resolve(options.image), hash: hashOf(boot.image) },
    commandLine: boot.commandLine,
    format: boot.format ?? 'auto',
    modules: boot.modules.map(({ name, commandLine, bytes }, i) => ({
      name,
      commandLine,
      path: path.resolve(moduleFile(options.modules[i] ?? '', name)),
      hash: hashOf(bytes),
    })),
    disks: files.map((file): RecordedFile => ({ path: file, hash: hashOfParts(openImage(file)) })),
    machine: {
      memory,
      cpuModel,
      cpus,
      quantum,
      vmx: true,
      iommu,
      devices,
      ...(startTime === undefined ? {} : { startTime }),
    },
  };
}

function withWholePath(device: string): string {
  const file = diskFileOf(device);
  return file === undefined ? device : withDiskFile(device, path.resolve(file));
}

/** 'FILE args', where only the file's own name is known for certain. */
const moduleFile = (text: string, name: string): string => text.slice(0, text.indexOf(name) + name.length);

export function endRecording(
  file: string,
  begun: Omit<Recording, 'events' | 'end' | 'hash'>,
  machine: Machine,
  events: readonly LoggedEvent[],
): void {
  const recording = { ...begun, events, end: machine.rewindable.position, hash: stateHash(machine) };
  writeFileSync(file, formatRecording(recording));
  process.stderr.write(
    `vmxray: recorded ${recording.end.instructions} instructions in ${file}, state ${recording.hash}\n`,
  );
}
