/** The devices of `vmxray run`: disks are files. */

import { fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { parseDevice } from '../sim-core/platform/device-text.ts';
import type { DeviceConfig } from '../sim-core/platform/devices.ts';
import { ConsolePort } from '../sim-core/platform/virtio/console.ts';
import type { DiskImage } from '../sim-core/platform/virtio/disk.ts';
import { UsageError } from './options.ts';

/** A disk image of which parts are read when the guest asks for them. @throws when it cannot be opened */
function fileImage(file: string, writable: boolean): DiskImage {
  const descriptor = openSync(file, writable ? 'r+' : 'r');
  const { size } = fstatSync(descriptor);
  return {
    size,
    read: (offset, length) => {
      const bytes = new Uint8Array(length);
      if (readSync(descriptor, bytes, 0, length, offset) < Math.min(length, size - offset)) {
        throw new RangeError(`${file} has become shorter`);
      }
      return bytes;
    },
    ...(writable
      ? { write: (offset: number, bytes: Uint8Array) => void writeSync(descriptor, bytes, 0, bytes.length, offset) }
      : {}),
  };
}

function consolePort(): ConsolePort {
  const port = new ConsolePort();
  port.onOutput = (bytes) => void process.stdout.write(bytes);
  return port;
}

/** @throws UsageError that says which device and why */
export function makeDeviceConfigs(texts: readonly string[]): DeviceConfig[] {
  return texts.map((text) => {
    try {
      const disk = (file: string): DiskImage => fileImage(file, /(^|,)write=on(,|$)/.test(text));
      return parseDevice(text, { disk, console: consolePort });
    } catch (error) {
      throw new UsageError(`--device ${text}: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
}
