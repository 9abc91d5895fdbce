import type { Clock } from '../../cpu/cpu.ts';
import type { Snapshotted, TimedDevice } from '../device.ts';
import type { PciFunction } from './function.ts';

/** A device of the machine that is a PCI function. Its own state is what it snapshots; the bus keeps the function's. */
export interface PciDevice extends TimedDevice, Snapshotted<unknown> {
  readonly name: string;
  readonly function: PciFunction;
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
}
