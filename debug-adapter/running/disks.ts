/** The disk images of a session: where they are, what is done with them, and what a recording says of them. */

import { hashOfParts } from '../../sim-core/machine/history/hash.ts';
import { checkHash, type RecordedFile, RecordingError } from '../../sim-core/machine/history/recording.ts';
import { diskFileOf, writesImage } from '../../sim-core/platform/device-text.ts';
import { type DiskImage, tellingImage } from '../../sim-core/platform/virtio/disk.ts';
import { errors, type RequestError } from '../errors.ts';
import type { FileReader } from '../protocol.ts';
import { type FileImage, memoryFile, type WritableFile } from '../symbols/file-image.ts';
import { baseName, directoryOf } from '../symbols/paths.ts';

/** A recording or snapshot that the session begins with. */
export interface DiskSource {
  readonly path: string;
  /** As they were then. Those of older files are not named. */
  readonly disks: readonly RecordedFile[];
  /** What is wrong with it, as half a sentence. */
  problem(text: string): RequestError;
}

interface Options {
  /** Told when an image fails that is read while the machine runs. */
  readonly complain: (text: string) => void;
  /** The session goes back in time: an image that the guest writes cannot. */
  readonly goesBack: boolean;
  readonly source?: DiskSource | undefined;
}

interface Disk {
  readonly path: string;
  readonly image: DiskImage;
  /** Known when it was asked for. */
  hash?: string;
}

type Opened = FileImage & Partial<Pick<WritableFile, 'write'>>;

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export class Disks {
  private readonly files: FileReader;
  private readonly options: Options;
  private readonly opened: Disk[] = [];
  /** A device whose image the guest writes. */
  written: string | undefined;

  constructor(files: FileReader, options: Options) {
    this.files = files;
    this.options = options;
  }

  /**
   * The image of a device that has one. A large one is read where the guest asks for it, a small one now.
   * @throws RangeError for a wrong text. @throws unreadableFile, badLaunchValue, and what `source.problem` makes
   */
  async open(device: string): Promise<DiskImage | undefined> {
    const path = diskFileOf(device);
    if (path === undefined) return undefined;
    if (writesImage(device)) this.written = device;
    const file: Opened = writesImage(device) ? await this.openWritten(path) : await this.openRead(path);
    const { complain, source } = this.options;
    const read: DiskImage['read'] = (offset, length) => file.read(offset, length).slice();
    const { size, write } = file;
    const image: DiskImage = write ? { size, read, write } : { size, read };
    const disk: Disk = { path, image };
    this.opened.push(disk);
    const recorded = source?.disks.find((each) => each.path === path);
    if (source && recorded) this.check(source, recorded, disk);
    return tellingImage(image, (problem) => complain(`The disk image ${path}: ${problem}.\n`));
  }

  private async openRead(path: string): Promise<FileImage> {
    const { source } = this.options;
    const places = source ? [path, `${directoryOf(source.path)}/${baseName(path)}`] : [path];
    let problem: unknown;
    for (const place of places) {
      try {
        return (await this.files.openFile?.(place)) ?? memoryFile(await this.files.readFile(place));
      } catch (error) {
        problem ??= error;
      }
    }
    if (source) throw source.problem(`the disk image is neither ${places.join(' nor ')}: ${textOf(problem)}`);
    throw errors.unreadableFile('The disk image', path, textOf(problem));
  }

  private async openWritten(path: string): Promise<WritableFile> {
    if (this.options.goesBack) {
      const problem = `time travel cannot take back what the guest writes to ${path}; leave out write=on, or turn history off`;
      throw errors.badLaunchValue('machine.devices', problem);
    }
    try {
      const file = await this.files.openWritable?.(path);
      if (file) return file;
    } catch (error) {
      throw errors.badLaunchValue('machine.devices', `The disk image '${path}' cannot be written: ${textOf(error)}`);
    }
    throw errors.badLaunchValue('machine.devices', `${path} cannot be written here; leave out write=on`);
  }

  /** @throws what `source.problem` makes when an image is not the one that was recorded, and unreadableFile */
  checkAll(source: DiskSource): void {
    for (const [at, recorded] of source.disks.entries()) {
      const disk = this.opened[at];
      if (disk) this.check(source, recorded, disk);
    }
  }

  private check(source: DiskSource, recorded: RecordedFile, disk: Disk): void {
    try {
      checkHash(recorded, hashNow(disk), 'disk image');
    } catch (error) {
      throw error instanceof RecordingError ? source.problem(error.message) : error;
    }
  }

  /** As they are now: large ones are read for it. @throws unreadableFile */
  get recorded(): RecordedFile[] {
    return this.opened.map((disk) => ({ path: disk.path, hash: hashNow(disk) }));
  }
}

/** @throws unreadableFile */
function hashNow(disk: Disk): string {
  try {
    disk.hash ??= hashOfParts(disk.image);
    return disk.hash;
  } catch (error) {
    throw errors.unreadableFile('The disk image', disk.path, textOf(error));
  }
}
