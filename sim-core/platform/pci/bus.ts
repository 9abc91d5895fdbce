/** PCI bus 0: configuration space by ports and by memory (ECAM), and the windows in which functions answer. */

import type { MmioDevice } from '../../mmu/physical-memory.ts';
import type { Line, PortDevice, Snapshotted } from '../device.ts';
import type { DmaBus } from '../dma.ts';
import { COMMAND, HEADER } from './config-space.ts';
import type { Bar, BarKind, PciFunction, PciFunctionState } from './function.ts';
import { CONFIG_PORT, PCI_WINDOW, pirqOf } from './layout.ts';

export interface PciBusState {
  /** The address register of CF8h. */
  readonly address: number;
  readonly functions: readonly PciFunctionState[];
  /** Of PIRQA…PIRQD, the functions that drive each: requester ids. */
  readonly drivers: readonly (readonly number[])[];
}

const ADDRESS_ENABLE = 0x8000_0000;
const ones = (size: number): number => (size === 4 ? 0xffff_ffff : 2 ** (8 * size) - 1);

/** A window of an address space that the host bridge forwards; what no function claims reads as ones. */
class Window implements MmioDevice {
  readonly name: string;
  private readonly start: number;
  private regions: { readonly start: number; readonly end: number; readonly bar: Bar }[] = [];

  constructor(name: string, start: number) {
    this.name = name;
    this.start = start;
  }

  fill(functions: readonly PciFunction[], io: boolean): void {
    this.regions = functions.flatMap((one) =>
      one.bars.flatMap((bar) => {
        const start = (bar.kind === 'io') === io ? one.decoded(bar) : undefined;
        return start === undefined ? [] : [{ start, end: start + bar.size, bar }];
      }),
    );
  }

  /** Where two regions overlap, the function with the lower number answers. */
  private find(address: number): { readonly start: number; readonly bar: Bar } | undefined {
    for (const region of this.regions) if (address >= region.start && address < region.end) return region;
    return undefined;
  }

  read(offset: number, size: number): number {
    const address = this.start + offset;
    const found = this.find(address);
    if (!found) return ones(size);
    const value = found.bar.device.read(address - found.start, size);
    return value % 2 ** (8 * size);
  }

  write(offset: number, size: number, value: number): void {
    const address = this.start + offset;
    const found = this.find(address);
    found?.bar.device.write(address - found.start, size, value >>> 0);
  }
}

export class PciBus implements Snapshotted<PciBusState> {
  /** In the order of their numbers. */
  private readonly functions: PciFunction[] = [];
  private readonly dma: DmaBus;
  private readonly pirq: (pirq: number, asserted: boolean) => void;
  private address = 0;
  private drivers: Set<number>[] = [0, 1, 2, 3].map(() => new Set());
  /** What the machine maps at PCI_WINDOW. */
  readonly memory32 = new Window('PCI memory', PCI_WINDOW.memory32.start);
  readonly memory64 = new Window('PCI memory above 4 GiB', PCI_WINDOW.memory64.start);
  private readonly ioWindow = new Window('PCI I/O', 0);

  /** @param pirq told the levels of PIRQA…PIRQD (0…3) */
  constructor(dma: DmaBus, pirq: (pirq: number, asserted: boolean) => void) {
    this.dma = dma;
    this.pirq = pirq;
  }

  /** @throws RangeError when another function has the number */
  plug(added: PciFunction): void {
    if (this.find(added.requester)) throw new RangeError(`PCI function ${added.requester} is there already`);
    added.connect({ dma: this.dma, line: this.lineOf(added), moved: () => this.moved() });
    this.functions.push(added);
    this.functions.sort((a, b) => a.requester - b.requester);
    this.moved();
  }

  get all(): readonly PciFunction[] {
    return this.functions;
  }

  /** INTx lines are wired together: a PIRQ is high while any function drives it. */
  private lineOf({ device, pin, requester }: PciFunction): Line {
    const pirq = pirqOf(device, pin);
    return (asserted) => {
      const drivers = this.drivers[pirq];
      if (!drivers || drivers.has(requester) === asserted) return;
      if (asserted) drivers.add(requester);
      else drivers.delete(requester);
      this.pirq(pirq, drivers.size > 0);
    };
  }

  reset(): void {
    this.address = 0;
    for (const one of this.functions) one.reset();
  }

  private moved(): void {
    this.memory32.fill(this.functions, false);
    this.memory64.fill(this.functions, false);
    this.ioWindow.fill(this.functions, true);
  }

  private find(requester: number): PciFunction | undefined {
    return this.functions.find((one) => one.requester === requester);
  }

  /** Reads of functions that are not there give all ones. */
  readConfig(requester: number, offset: number, size: number): number {
    return this.find(requester)?.read(offset, size) ?? ones(size);
  }

  writeConfig(requester: number, offset: number, size: number, value: number): void {
    this.find(requester)?.write(offset, size, value);
  }

  /** Gives every function the places in the windows that firmware would, lowest number first, and turns them on. */
  assign(): void {
    const next: Record<BarKind, number> = {
      memory32: PCI_WINDOW.memory32.start,
      memory64: PCI_WINDOW.memory64.start,
      io: PCI_WINDOW.io.start,
    };
    for (const one of this.functions) {
      for (const { index, kind, size } of one.bars) {
        const start = Math.ceil(next[kind] / size) * size;
        next[kind] = start + size;
        one.write(HEADER.bar + 4 * index, 4, start % 2 ** 32);
        if (kind === 'memory64') one.write(HEADER.bar + 4 * index + 4, 4, Math.floor(start / 2 ** 32));
      }
      if (one.bars.length > 0) one.write(HEADER.command, 2, COMMAND.io | COMMAND.memory);
    }
  }

  /** Configuration mechanism #1: the address at CF8h (written whole), the data at CFCh. */
  readonly configPorts: PortDevice = {
    name: 'PCI configuration',
    read: (port, size) => {
      if (port < CONFIG_PORT.data) return port === CONFIG_PORT.address && size === 4 ? this.address : ones(size);
      if ((this.address & ADDRESS_ENABLE) === 0) return ones(size);
      return this.readConfig((this.address >>> 8) & 0xffff, (this.address & 0xfc) + (port & 3), size);
    },
    write: (port, size, value) => {
      if (port < CONFIG_PORT.data) {
        if (port === CONFIG_PORT.address && size === 4) this.address = (value & 0x80ff_fffc) >>> 0;
      } else if (this.address & ADDRESS_ENABLE) {
        this.writeConfig((this.address >>> 8) & 0xffff, (this.address & 0xfc) + (port & 3), size, value);
      }
    },
  };

  /** Extended configuration space: 4 KiB for each function. */
  readonly ecam: MmioDevice = {
    name: 'PCI configuration space',
    read: (offset, size) => this.readConfig(Math.floor(offset / 4096), offset % 4096, size),
    write: (offset, size, value) => this.writeConfig(Math.floor(offset / 4096), offset % 4096, size, value),
  };

  /** The functions' I/O regions, for ports that no other device has. */
  readonly io: PortDevice = {
    name: 'PCI I/O',
    read: (port, size) => this.ioWindow.read(port, size),
    write: (port, size, value) => this.ioWindow.write(port, size, value),
  };

  snapshot(): PciBusState {
    return {
      address: this.address,
      functions: this.functions.map((one) => one.snapshot()),
      drivers: this.drivers.map((drivers) => [...drivers]),
    };
  }

  restore(saved: PciBusState): void {
    this.address = saved.address;
    this.functions.forEach((one, at) => {
      const state = saved.functions[at];
      if (state) one.restore(state);
    });
    this.drivers = saved.drivers.map((drivers) => new Set(drivers));
    for (const [pirq, drivers] of this.drivers.entries()) this.pirq(pirq, drivers.size > 0);
  }
}
