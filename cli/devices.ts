/** The devices of `vmxray run`: disks are files. */

import { fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { parseDevice, writesImage } from '../sim-core/platform/device-text.ts';
import type { DeviceConfig } from '../sim-core/platform/devices.ts';
import { ConsolePort } from '../sim-core/platform/virtio/console.ts';
import { type DiskImage, tellingImage } from '../sim-core/platform/virtio/disk.ts';
import { UsageError } from './options.ts';

/**
 * A disk image of which parts are read when the guest asks for them.
 * @throws when it cannot be opened
 */
export function openImage(file: string, writable = false): DiskImage {
  const descriptor = openSync(file, writable ? 'r+' : 'r');
  const stat = fstatSync(descriptor);
  if (stat.isDirectory()) throw new Error('that is a folder');
  const { size } = stat;
  const read = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    if (readSync(descriptor, bytes, 0, length, offset) < Math.min(length, size - offset)) {
      throw new RangeError(`${file} has become shorter`);
    }
    return bytes;
  };
  const write = (offset: number, bytes: Uint8Array): void => {
    writeSync(descriptor, bytes, 0, bytes.length, offset);
  };
  return writable ? { size, read, write } : { size, read };
}

const warn = (text: string): void => {
  process.stderr.write(`vmxray: ${text}\n`);
};

function consolePort(): ConsolePort {
  const port = new ConsolePort();
  port.onOutput = (bytes) => void process.stdout.write(bytes);
  return port;
}

/**
 * @param complain told when something outside fails while the machine runs; default: says it on standard error
 * @throws UsageError that says which device and why
 */
export function makeDeviceConfigs(texts: readonly string[], complain = warn): DeviceConfig[] {
  return texts.map((text) => {
    try {
      const disk = (file: string): DiskImage => tellingImage(openImage(file, writesImage(text)), complain);
      return parseDevice(text, { disk, console: consolePort });
    } catch (error) {
      throw new UsageError(`--device ${text}: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
}
