import type { Clock } from '../../cpu/cpu.ts';
import type { Line, PortDevice, Snapshotted, TimedDevice } from '../device.ts';
import type { PciFunction } from './function.ts';

/** Ports that a device has had since before PCI, outside its base address registers. It sees any size of access. */
export interface LegacyPorts {
  readonly first: number;
  readonly count: number;
  readonly device: PortDevice;
}

/** A device of the machine that is a PCI function. Its own state is what it snapshots; the bus keeps the function's. */
export interface PciDevice extends TimedDevice, Snapshotted<unknown> {
  readonly name: string;
  readonly function: PciFunction;
  readonly legacyPorts?: readonly LegacyPorts[];
  /** Power-on. What the world outside has given it (a disk's contents, input) stays. */
  reset(): void;
  /** What arrives at it from outside the machine: a console's input, a frame for a network card. */
  input?(bytes: Uint8Array): void;
}

/** What a device knows of the machine. */
export interface DeviceEnvironment {
  readonly clock: Clock;
  /** The device's deadline may be nearer than it said. */
  deadlineChanged(): void;
  /** Tells people what the guest has done to a device that it cannot work with. */
  complain?(text: string): void;
  /** An ISA interrupt, for a device that does not use PCI's. */
  line(irq: number): Line;
}
