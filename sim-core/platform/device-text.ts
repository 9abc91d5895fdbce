/** Devices as people write them: `edu`, `edu,dma_mask=0xffffffff`, `virtio-blk,file=disk.img,write=on`. */

import { DEVICE_KINDS, type DeviceConfig, type DeviceKind } from './devices.ts';
import { ConsolePort } from './virtio/console.ts';
import type { DiskImage } from './virtio/disk.ts';

/** Options that each kind of device takes. */
const OPTIONS: Readonly<Record<DeviceKind, readonly string[]>> = {
  edu: ['dma_mask'],
  'ide-cd': ['file'],
  'ide-hd': ['file', 'write'],
  'virtio-blk': ['file', 'write', 'readonly', 'packed'],
  'virtio-console': ['packed'],
  'virtio-net': ['packed'],
  'virtio-rng': ['seed', 'packed'],
};

/** What devices are given from outside. */
export interface DeviceResources {
  /** @throws for an image that cannot be opened */
  disk(file: string): DiskImage;
  /** The far end of a virtio console. */
  console?: (() => ConsolePort) | undefined;
}

interface DeviceText {
  readonly kind: DeviceKind;
  readonly options: ReadonlyMap<string, string>;
}

/** @throws RangeError that says what is wrong and what would be right */
function parse(text: string): DeviceText {
  const [name = '', ...parts] = text.split(',');
  const kind = DEVICE_KINDS.find((known) => known === name.trim());
  if (!kind) throw new RangeError(`there is no device '${name}'; choose from ${DEVICE_KINDS.join(', ')}`);
  const options = new Map<string, string>();
  for (const part of parts) {
    const [option = '', ...value] = part.split('=');
    if (!OPTIONS[kind].includes(option)) {
      const known = OPTIONS[kind].length > 0 ? `it takes ${OPTIONS[kind].join(', ')}` : 'it takes none';
      throw new RangeError(`${kind} has no option '${option}'; ${known}`);
    }
    options.set(option, value.join('='));
  }
  return { kind, options };
}

function numberOf(option: string, text: string): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) throw new RangeError(`'${option}=${text}' is no number`);
  return BigInt(text);
}

function flagOf({ options }: DeviceText, option: string, otherwise: 'on' | 'off' = 'off'): boolean {
  const text = options.get(option) ?? otherwise;
  if (text !== 'on' && text !== 'off') throw new RangeError(`'${option}=${text}': give on or off`);
  return text === 'on';
}

/** The file of a device that needs one. @throws RangeError */
export function diskFileOf(text: string): string | undefined {
  const { kind, options } = parse(text);
  if (!OPTIONS[kind].includes('file')) return undefined;
  const file = options.get('file');
  if (!file) throw new RangeError(`${kind} needs a disk image: ${kind},file=disk.img`);
  return file;
}

/** The text with its disk image at another place. */
export const withDiskFile = (text: string, file: string): string => text.replace(/,file=[^,]*/, () => `,file=${file}`);

/** Whether what the guest writes goes into the device's image. @throws RangeError */
export const writesImage = (text: string): boolean => parse(text).options.get('write') === 'on';

/** @throws RangeError, and what `resources` throw */
export function parseDevice(text: string, resources: DeviceResources): DeviceConfig {
  const device = parse(text);
  const { kind, options } = device;
  const mask = options.get('dma_mask');
  const seed = options.get('seed');
  const packed = flagOf(device, 'packed', 'on');
  switch (kind) {
    case 'edu':
      return mask === undefined ? { kind } : { kind, dmaMask: numberOf('dma_mask', mask) };
    case 'ide-cd':
      return { kind, disk: resources.disk(diskFileOf(text) ?? '') };
    case 'ide-hd':
      return { kind, disk: resources.disk(diskFileOf(text) ?? ''), writeThrough: flagOf(device, 'write') };
    case 'virtio-blk': {
      const disk = resources.disk(diskFileOf(text) ?? '');
      return { kind, packed, disk, writeThrough: flagOf(device, 'write'), readOnly: flagOf(device, 'readonly') };
    }
    case 'virtio-console':
      return { kind, packed, port: resources.console?.() ?? new ConsolePort() };
    case 'virtio-net':
      return { kind, packed };
    case 'virtio-rng':
      return seed === undefined ? { kind, packed } : { kind, packed, seed: numberOf('seed', seed) };
  }
}
