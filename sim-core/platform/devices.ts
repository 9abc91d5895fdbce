/** The PCI devices that a machine's configuration can name. */

import { CdDrive } from './ata/cd-drive.ts';
import { IdeController, MOST_DRIVES } from './ata/controller.ts';
import { AtaDisk, type AtaDiskOptions } from './ata/disk-drive.ts';
import type { Drive } from './ata/drive.ts';
import { Edu } from './edu.ts';
import type { DeviceEnvironment, PciDevice } from './pci/device.ts';
import { type BlockOptions, VirtioBlock } from './virtio/block.ts';
import { ConsolePort, VirtioConsole } from './virtio/console.ts';
import type { DiskImage } from './virtio/disk.ts';
import { NetworkSwitch, VirtioNet } from './virtio/net.ts';
import { VirtioRng } from './virtio/rng.ts';
import { VirtioDevice, type VirtioModel, type VirtioOptions } from './virtio/transport.ts';

/** Drives, which hang on one IDE controller. */
interface DriveOptions {
  'ide-cd': { readonly disk: DiskImage };
  'ide-hd': AtaDiskOptions;
}

/** Functions of their own on the PCI bus. */
interface FunctionOptions {
  edu: {
    /** Address bits of its DMA engine as a mask; default 28 bits. */
    readonly dmaMask?: bigint;
  };
  'virtio-blk': BlockOptions & VirtioOptions;
  'virtio-console': VirtioOptions & {
    /** Its far end; default: nobody listens. */
    readonly port?: ConsolePort;
  };
  /** All network cards of a machine are on one switch. */
  'virtio-net': VirtioOptions;
  'virtio-rng': VirtioOptions & {
    readonly seed?: bigint;
  };
}

type DeviceOptions = FunctionOptions & DriveOptions;
export type DeviceKind = keyof DeviceOptions;
type DriveKind = keyof DriveOptions;
type FunctionKind = keyof FunctionOptions;
/** A device of the machine: what it is, and what can be chosen about it. */
export type DeviceConfig = ConfigOf<DeviceOptions>;
type ConfigOf<Options> = { [Kind in keyof Options]: { readonly kind: Kind } & Options[Kind] }[keyof Options];

/** Where a device is plugged in. */
interface Slot {
  /** PCI device number. */
  readonly device: number;
  readonly environment: DeviceEnvironment;
  readonly network: NetworkSwitch;
}

const DRIVES: { readonly [Kind in DriveKind]: (options: DriveOptions[Kind]) => Drive } = {
  'ide-cd': ({ disk }) => new CdDrive(disk),
  'ide-hd': (options) => new AtaDisk(options),
};

const MAKERS: { readonly [Kind in FunctionKind]: (options: FunctionOptions[Kind], slot: Slot) => PciDevice } = {
  edu: (options, { device, environment }) => new Edu({ ...options, device }, environment),
  'virtio-blk': (options, slot) => plugged(new VirtioBlock(options), slot, options),
  'virtio-console': ({ port, ...options }, slot) => {
    const model = new VirtioConsole(port ?? new ConsolePort());
    const device = plugged(model, slot, options);
    model.attach(device);
    return device;
  },
  'virtio-net': (options, slot) => {
    const model = new VirtioNet(slot.network);
    const device = plugged(model, slot, options);
    model.attach(device);
    return device;
  },
  'virtio-rng': ({ seed, ...options }, slot) => plugged(new VirtioRng(seed), slot, options),
};

const plugged = (model: VirtioModel, { device, environment }: Slot, options: VirtioOptions): VirtioDevice =>
  new VirtioDevice(model, device, environment, options);

export const DEVICE_KINDS = Object.keys({ ...MAKERS, ...DRIVES }) as readonly DeviceKind[];

/** Device numbers on bus 0 that configured devices get in turn: 0 is the host bridge, 31 the LPC bridge. */
const FIRST_DEVICE = 1;
const LAST_DEVICE = 30;

const isDrive = (config: DeviceConfig): config is ConfigOf<DriveOptions> => config.kind in DRIVES;

/**
 * The drives' controller comes behind the other devices.
 * @throws RangeError for more devices than bus 0 has numbers for, or more drives than the controller has room for
 */
export function makeDevices(configs: readonly DeviceConfig[], environment: DeviceEnvironment): PciDevice[] {
  const drives = configs.filter(isDrive);
  const others = configs.filter((config): config is ConfigOf<FunctionOptions> => !isDrive(config));
  const room = LAST_DEVICE - FIRST_DEVICE + 1 - Number(drives.length > 0);
  if (others.length > room) throw new RangeError(`${others.length} PCI devices; bus 0 has room for ${room}`);
  if (drives.length > MOST_DRIVES)
    throw new RangeError(`${drives.length} IDE drives; there is room for ${MOST_DRIVES}`);
  const network = new NetworkSwitch();
  const devices = others.map((config, at) => makeDevice(config, { device: FIRST_DEVICE + at, environment, network }));
  if (drives.length === 0) return devices;
  return [...devices, new IdeController(drives.map(makeDrive), FIRST_DEVICE + devices.length, environment)];
}

function makeDevice<Kind extends FunctionKind>(
  config: { readonly kind: Kind } & FunctionOptions[Kind],
  slot: Slot,
): PciDevice {
  return MAKERS[config.kind](config, slot);
}

const makeDrive = <Kind extends DriveKind>(config: { readonly kind: Kind } & DriveOptions[Kind]): Drive =>
  DRIVES[config.kind](config);
