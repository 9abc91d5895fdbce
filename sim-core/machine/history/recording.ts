/** A run as a file (`*.vmxtrace`): what it began with, what came from outside, and the hash of where it ended. JSON. */

import type { BootRequest } from '../../loaders/boot-request.ts';
import { hashOf } from './hash.ts';
import type { LoggedEvent } from './history.ts';
import type { Position } from './position.ts';

/** A file that the run began with. */
export interface RecordedFile {
  /** Where it was. */
  readonly path: string;
  readonly hash: string;
}

export interface RecordedModule extends RecordedFile {
  readonly name: string;
  readonly commandLine: string;
}

/** What a machine is made of and booted with. */
export interface RecordedBoot {
  readonly image: RecordedFile & { readonly name: string };
  readonly commandLine: string;
  readonly format: NonNullable<BootRequest['format']>;
  readonly modules: readonly RecordedModule[];
  /** Disk images. */
  readonly disks: readonly RecordedFile[];
  readonly machine: {
    /** Bytes. */
    readonly memory: number;
    readonly cpuModel: string;
    readonly cpus: number;
    /** Absent: the machine's default. */
    readonly quantum?: number;
    readonly vmx: boolean;
    readonly iommu: boolean;
    /** As text (platform/device-text.ts). */
    readonly devices: readonly string[];
    /** Seconds since 1970; absent: the machine's default. */
    readonly startTime?: number;
  };
}

export interface Recording extends RecordedBoot {
  /** The snapshot that the run began with, after the boot. */
  readonly snapshot?: RecordedFile;
  readonly events: readonly LoggedEvent[];
  readonly end: Position;
  /** state-hash.ts, at the end. */
  readonly hash: string;
}

/** What is wrong with a file that should be a recording, as half a sentence. */
export class RecordingError extends Error {
  override readonly name = 'RecordingError';
}

const FORMAT = 'vmxtrace';
const VERSION = 1;

const toHex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const fromHex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));

export function formatRecording(recording: Recording): string {
  const plain = (_key: string, value: unknown): unknown =>
    value instanceof Uint8Array
      ? { hex: toHex(value) }
      : typeof value === 'bigint'
        ? { integer: value.toString() }
        : value;
  return `${JSON.stringify({ format: FORMAT, version: VERSION, recording }, plain, 1)}\n`;
}

/** @throws RecordingError */
export function parseRecording(text: string): Recording {
  let file: { format?: unknown; version?: unknown; recording?: unknown };
  try {
    file = JSON.parse(text, revive) ?? {};
  } catch {
    throw new RecordingError('it is no JSON');
  }
  if (file.format !== FORMAT) throw new RecordingError('it is no recording of VMXray');
  if (file.version !== VERSION)
    throw new RecordingError(`its version is ${file.version}, and this one reads ${VERSION}`);
  if (!isRecording(file.recording)) throw new RecordingError('parts of it are missing');
  return file.recording;
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if ('hex' in value && typeof value.hex === 'string') return fromHex(value.hex);
  return 'integer' in value && typeof value.integer === 'string' ? BigInt(value.integer) : value;
}

export function isRecordedBoot(value: unknown): value is RecordedBoot {
  if (typeof value !== 'object' || value === null) return false;
  const { image, modules, disks, machine } = value as Partial<RecordedBoot>;
  const hasImage = typeof image?.hash === 'string' && typeof image.path === 'string';
  const hasMachine = typeof machine?.memory === 'number' && Array.isArray(machine.devices);
  return hasImage && hasMachine && [modules, disks].every(Array.isArray);
}

function isRecording(value: unknown): value is Recording {
  if (!isRecordedBoot(value)) return false;
  const { events, end, hash } = value as Partial<Recording>;
  return (
    Array.isArray(events) &&
    [end, ...events.map(({ at }) => at)].every((at) => typeof at?.instructions === 'number') &&
    typeof hash === 'string'
  );
}

/** @throws RecordingError when a file is not the one that was recorded */
export function checkFile(file: RecordedFile, bytes: Uint8Array, what: string): void {
  checkHash(file, hashOf(bytes), what);
}

/** As `checkFile`. */
export function checkHash({ path, hash }: RecordedFile, found: string, what: string): void {
  if (found === hash) return;
  throw new RecordingError(`the ${what} is not the recorded one: ${path} had the hash ${hash}, this one has ${found}`);
}
