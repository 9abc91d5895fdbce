/** The PCI devices that a machine's configuration can name. */

import { Edu } from './edu.ts';
import type { DeviceEnvironment, PciDevice } from './pci/device.ts';

interface DeviceOptions {
  edu: {
    /** Address bits of its DMA engine as a mask; default 28 bits. */
    readonly dmaMask?: bigint;
  };
}

export type DeviceKind = keyof DeviceOptions;
/** A device of the machine: what it is, and what can be chosen about it. */
export type DeviceConfig = { [Kind in DeviceKind]: { readonly kind: Kind } & DeviceOptions[Kind] }[DeviceKind];

const MAKERS: {
  readonly [Kind in DeviceKind]: (
    options: DeviceOptions[Kind],
    device: number,
    environment: DeviceEnvironment,
  ) => PciDevice;
} = {
  edu: (options, device, environment) => new Edu({ ...options, device }, environment),
};

export const DEVICE_KINDS = Object.keys(MAKERS) as readonly DeviceKind[];

/** Device numbers on bus 0 that configured devices get in turn: 0 is the host bridge, 31 the LPC bridge. */
const FIRST_DEVICE = 1;
const LAST_DEVICE = 30;

/** @throws RangeError for more devices than bus 0 has numbers for */
export function makeDevices(configs: readonly DeviceConfig[], environment: DeviceEnvironment): PciDevice[] {
  const room = LAST_DEVICE - FIRST_DEVICE + 1;
  if (configs.length > room) throw new RangeError(`${configs.length} PCI devices; bus 0 has room for ${room}`);
  return configs.map((config, at) => makeDevice(config, FIRST_DEVICE + at, environment));
}

function makeDevice<Kind extends DeviceKind>(
  config: { readonly kind: Kind } & DeviceOptions[Kind],
  device: number,
  environment: DeviceEnvironment,
): PciDevice {
  return MAKERS[config.kind](config, device, environment);
}
