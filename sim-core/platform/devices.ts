/** The PCI devices that a machine's configuration can name. */

import { Edu } from './edu.ts';
import type { DeviceEnvironment, PciDevice } from './pci/device.ts';
import { type BlockOptions, VirtioBlock } from './virtio/block.ts';
import { ConsolePort, VirtioConsole } from './virtio/console.ts';
import { NetworkSwitch, VirtioNet } from './virtio/net.ts';
import { VirtioRng } from './virtio/rng.ts';
import { VirtioDevice, type VirtioModel } from './virtio/transport.ts';

interface DeviceOptions {
  edu: {
    /** Address bits of its DMA engine as a mask; default 28 bits. */
    readonly dmaMask?: bigint;
  };
  'virtio-blk': BlockOptions;
  'virtio-console': {
    /** Its far end; default: nobody listens. */
    readonly port?: ConsolePort;
  };
  /** All network cards of a machine are on one switch. */
  'virtio-net': object;
  'virtio-rng': {
    readonly seed?: bigint;
  };
}

export type DeviceKind = keyof DeviceOptions;
/** A device of the machine: what it is, and what can be chosen about it. */
export type DeviceConfig = { [Kind in DeviceKind]: { readonly kind: Kind } & DeviceOptions[Kind] }[DeviceKind];

/** Where a device is plugged in. */
interface Slot {
  /** PCI device number. */
  readonly device: number;
  readonly environment: DeviceEnvironment;
  readonly network: NetworkSwitch;
}

const MAKERS: { readonly [Kind in DeviceKind]: (options: DeviceOptions[Kind], slot: Slot) => PciDevice } = {
  edu: (options, { device, environment }) => new Edu({ ...options, device }, environment),
  'virtio-blk': (options, slot) => plugged(new VirtioBlock(options), slot),
  'virtio-console': ({ port }, slot) => {
    const model = new VirtioConsole(port ?? new ConsolePort());
    const device = plugged(model, slot);
    model.attach(device);
    return device;
  },
  'virtio-net': (_options, slot) => {
    const model = new VirtioNet(slot.network);
    const device = plugged(model, slot);
    model.attach(device);
    return device;
  },
  'virtio-rng': ({ seed }, slot) => plugged(new VirtioRng(seed), slot),
};

const plugged = (model: VirtioModel, { device, environment }: Slot): VirtioDevice =>
  new VirtioDevice(model, device, environment);

export const DEVICE_KINDS = Object.keys(MAKERS) as readonly DeviceKind[];

/** Device numbers on bus 0 that configured devices get in turn: 0 is the host bridge, 31 the LPC bridge. */
const FIRST_DEVICE = 1;
const LAST_DEVICE = 30;

/** @throws RangeError for more devices than bus 0 has numbers for */
export function makeDevices(configs: readonly DeviceConfig[], environment: DeviceEnvironment): PciDevice[] {
  const room = LAST_DEVICE - FIRST_DEVICE + 1;
  if (configs.length > room) throw new RangeError(`${configs.length} PCI devices; bus 0 has room for ${room}`);
  const network = new NetworkSwitch();
  return configs.map((config, at) => makeDevice(config, { device: FIRST_DEVICE + at, environment, network }));
}

function makeDevice<Kind extends DeviceKind>(
  config: { readonly kind: Kind } & DeviceOptions[Kind],
  slot: Slot,
): PciDevice {
  return MAKERS[config.kind](config, slot);
}
