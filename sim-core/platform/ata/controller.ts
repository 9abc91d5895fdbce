/**
 * An IDE controller as Intel's PIIX3 has one: two channels at the ports and interrupts that they have had since the
 * PC/AT, and a bus master for each ("PCI IDE Controller Specification", "Programming Interface for Bus Master IDE").
 */

import type { Line, PortDevice } from '../device.ts';
import { COMMAND, HEADER } from '../pci/config-space.ts';
import type { DeviceEnvironment, LegacyPorts, PciDevice } from '../pci/device.ts';
import { type BarDevice, PciFunction } from '../pci/function.ts';
import { BusMaster, type BusMasterState } from './bus-master.ts';
import { Channel, type SavedChannel } from './channel.ts';
import type { Drive } from './drive.ts';

const IDENTITY = { vendor: 0x8086, device: 0x7010, revision: 0, subsystemVendor: 0x1af4, subsystem: 0x1100 } as const;
/** Mass storage, IDE; both channels at the compatible ports only, with bus masters. */
const CLASS_CODE = 0x01_0180;
/** Where each channel's command block and control register are, and its interrupt. */
const CHANNELS = [
  { command: 0x1f0, control: 0x3f6, irq: 14 },
  { command: 0x170, control: 0x376, irq: 15 },
] as const;
const COMMAND_BLOCK_SIZE = 8;
const DRIVES_PER_CHANNEL = 2;
export const MOST_DRIVES = CHANNELS.length * DRIVES_PER_CHANNEL;
/** IDETIM: a channel answers at its ports while bit 15 of its register is set, as firmware leaves it. */
const TIMING = { first: 0x40, enabled: 0x8000, writable: 0xffff } as const;
const BUS_MASTER_BAR = { index: 4, size: 16, perChannel: 8 } as const;

interface ControllerState {
  readonly channels: readonly SavedChannel[];
  readonly masters: readonly BusMasterState[];
}

export class IdeController implements PciDevice {
  readonly name = 'ide';
  readonly function: PciFunction;
  readonly legacyPorts: readonly LegacyPorts[];
  readonly channels: readonly Channel[];
  private readonly masters: readonly BusMaster[];

  /** @param drives at most four: the first channel's two, the second one's two */
  constructor(drives: readonly Drive[], device: number, environment: DeviceEnvironment) {
    this.function = new PciFunction({ identity: { ...IDENTITY, classCode: CLASS_CODE }, device });
    this.channels = CHANNELS.map(({ irq }, at) => {
      const own = [drives[DRIVES_PER_CHANNEL * at], drives[DRIVES_PER_CHANNEL * at + 1]];
      const line: Line = environment.line(irq);
      return new Channel(own, (asserted) => {
        line(asserted);
        if (asserted) this.masters[at]?.noteInterrupt();
      });
    });
    this.masters = this.channels.map((channel) => new BusMaster(channel, this.function));
    for (const at of CHANNELS.keys())
      this.function.config.define(TIMING.first + 2 * at, 2, TIMING.enabled, TIMING.writable);
    this.function.addBar({ ...BUS_MASTER_BAR, kind: 'io', device: this.busMasterRegisters() });
    this.legacyPorts = CHANNELS.flatMap((_, at) => this.portsOf(at));
  }

  private busMasterRegisters(): BarDevice {
    const find = (offset: number) => this.masters[Math.floor(offset / BUS_MASTER_BAR.perChannel)];
    return {
      read: (offset, size) => find(offset)?.read(offset % BUS_MASTER_BAR.perChannel, size) ?? 0,
      write: (offset, size, value) => find(offset)?.write(offset % BUS_MASTER_BAR.perChannel, size, value),
    };
  }

  /** Whether a channel answers at its ports. */
  private answers(at: number): boolean {
    const { config } = this.function;
    const enabled = (config.get(TIMING.first + 2 * at, 2) & TIMING.enabled) !== 0;
    return enabled && (config.get(HEADER.command, 2) & COMMAND.io) !== 0;
  }

  private portsOf(at: number): LegacyPorts[] {
    const { command, control } = CHANNELS[at] as (typeof CHANNELS)[number];
    const channel = this.channels[at] as Channel;
    const ones = (size: number): number => (size === 4 ? 0xffff_ffff : 2 ** (8 * size) - 1);
    const device = (read: PortDevice['read'], write: PortDevice['write']): PortDevice => ({
      name: 'ide',
      read: (port, size) => (this.answers(at) ? read(port, size) : ones(size)),
      write: (port, size, value) => {
        if (this.answers(at)) write(port, size, value);
      },
    });
    const block = device(
      (port, size) => channel.read(port - command, size),
      (port, size, value) => channel.write(port - command, size, value),
    );
    const single = device(
      () => channel.alternateStatus,
      (_port, _size, value) => channel.control(value & 0xff),
    );
    return [
      { first: command, count: COMMAND_BLOCK_SIZE, device: block },
      { first: control, count: 1, device: single },
    ];
  }

  reset(): void {
    for (const channel of this.channels) channel.powerOn();
    for (const master of this.masters) master.reset();
  }

  /** Commands take no time. */
  nextDeadline(): number {
    return Number.POSITIVE_INFINITY;
  }
  service(): void {}

  snapshot(): ControllerState {
    return {
      channels: this.channels.map((channel) => channel.snapshot()),
      masters: this.masters.map((master) => master.snapshot()),
    };
  }

  restore(saved: unknown): void {
    const { channels, masters } = saved as ControllerState;
    for (const [at, channel] of this.channels.entries()) channel.restore(channels[at] as SavedChannel);
    for (const [at, master] of this.masters.entries()) master.restore(masters[at] as BusMasterState);
  }
}
