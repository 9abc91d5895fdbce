/** Machines as a recording or a snapshot describes them, from files that may have moved. */

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createThreadedMachine } from '../debug-adapter/compiling/thread.ts';
import type { Machine } from '../sim-core/machine/api.ts';
import { hashOfParts } from '../sim-core/machine/history/hash.ts';
import { checkFile, checkHash, type RecordedBoot, type RecordedFile } from '../sim-core/machine/history/recording.ts';
import { restoreSnapshot, type Snapshot } from '../sim-core/machine/history/snapshot.ts';
import { parseSnapshot } from '../sim-core/machine/history/snapshot-file.ts';
import { diskFileOf, withDiskFile } from '../sim-core/platform/device-text.ts';
import { makeDeviceConfigs, openImage } from './devices.ts';
import { UsageError } from './options.ts';

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** A recording or snapshot that is being read, for errors that name it. */
export class RecordedSource {
  private readonly file: string;
  private readonly problem: string;

  /** @param problem what errors begin with, as 'cannot replay a.vmxtrace' */
  constructor(file: string, problem: string) {
    this.file = file;
    this.problem = problem;
  }

  error(text: string): UsageError {
    return new UsageError(`${this.problem}: ${text}`);
  }

  /** Where a recorded file is now: where it was, or beside the recording. @throws UsageError */
  private locate({ path: recorded }: RecordedFile): string {
    const places = [recorded, path.join(path.dirname(this.file), path.basename(recorded))];
    const found = places.find((place) => existsSync(place));
    if (found === undefined) throw this.error(`there is no file ${places.join(' or ')}`);
    return found;
  }

  /** @throws UsageError when the file is not there, or not the one that was recorded */
  load(one: RecordedFile, what: string): Uint8Array {
    try {
      const bytes = readFileSync(this.locate(one));
      checkFile(one, bytes, what);
      return bytes;
    } catch (error) {
      throw error instanceof UsageError ? error : this.error(textOf(error));
    }
  }

  /** @throws UsageError when the image is not there, or not the one that was recorded */
  private locateDisk(disk: RecordedFile): string {
    const file = this.locate(disk);
    try {
      checkHash(disk, hashOfParts(openImage(file)), 'disk image');
    } catch (error) {
      throw this.error(textOf(error));
    }
    return file;
  }

  /** The snapshot that a recorded run began with. @throws UsageError */
  async readSnapshot(one: RecordedFile): Promise<Snapshot> {
    try {
      return await parseSnapshot(this.load(one, 'snapshot'));
    } catch (error) {
      throw error instanceof UsageError ? error : this.error(`the snapshot ${one.path}: ${textOf(error)}`);
    }
  }

  /** At power-up. @throws UsageError */
  makeMachine({ machine, disks }: RecordedBoot, compile = true): Machine {
    const moved = (text: string): string => {
      const disk = disks.find(({ path }) => path === diskFileOf(text));
      return disk ? withDiskFile(text, this.locateDisk(disk)) : text;
    };
    const { devices, ...config } = machine;
    return createThreadedMachine({ ...config, compile, devices: makeDeviceConfigs(devices.map(moved)) });
  }

  /** @throws UsageError */
  boot(machine: Machine, { image, commandLine, modules, format }: RecordedBoot): void {
    machine.boot({
      name: image.name,
      image: this.load(image, 'image'),
      commandLine,
      modules: modules.map((module) => ({ ...module, bytes: this.load(module, `module ${module.name}`) })),
      format,
    });
  }

  /** Firmware is no RAM: it is booted; everything else is in the snapshot. @throws UsageError */
  restore(machine: Machine, snapshot: Snapshot): void {
    if (snapshot.boot.format === 'firmware') this.boot(machine, snapshot.boot);
    try {
      restoreSnapshot(machine, snapshot);
    } catch (error) {
      throw this.error(textOf(error));
    }
  }
}

export interface ReadSnapshot {
  readonly snapshot: Snapshot;
  readonly bytes: Uint8Array;
  readonly source: RecordedSource;
}

/** @throws UsageError */
export async function readSnapshot(file: string): Promise<ReadSnapshot> {
  const source = new RecordedSource(file, `cannot go on from ${file}`);
  try {
    const bytes = readFileSync(file);
    return { snapshot: await parseSnapshot(bytes), bytes, source };
  } catch (error) {
    throw source.error(textOf(error));
  }
}
