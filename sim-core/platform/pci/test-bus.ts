/** A bus with RAM and recorded interrupts around it, for tests of PCI functions. */

import { PhysicalMemory } from '../../mmu/physical-memory.ts';
import { State } from '../../state/state.ts';
import { DmaBus, type DmaFault } from '../dma.ts';
import type { InterruptMessage } from '../interrupt-message.ts';
import { PciBus } from './bus.ts';
import { COMMAND, HEADER } from './config-space.ts';
import type { DeviceEnvironment, PciDevice } from './device.ts';
import { PCI_WINDOW } from './layout.ts';

export class TestBus {
  readonly physical = new PhysicalMemory(new State(0x10_0000));
  readonly messages: InterruptMessage[] = [];
  readonly faults: DmaFault[] = [];
  readonly pirqs = [false, false, false, false];
  readonly dma: DmaBus;
  readonly bus: PciBus;
  now = 0;
  readonly complaints: string[] = [];
  /** Levels of ISA interrupts, by number. */
  readonly lines: boolean[] = [];
  readonly environment: DeviceEnvironment = {
    clock: { cycles: () => this.now },
    deadlineChanged: () => {},
    complain: (text) => void this.complaints.push(text),
    line: (irq) => (asserted) => {
      this.lines[irq] = asserted;
    },
  };

  constructor() {
    this.dma = new DmaBus(this.physical, (message) => this.messages.push(message) > 0);
    this.dma.onFault = (fault) => this.faults.push(fault);
    this.bus = new PciBus(this.dma, (pirq, asserted) => {
      this.pirqs[pirq] = asserted;
    });
    this.physical.map(PCI_WINDOW.memory32.start, PCI_WINDOW.memory32.size, this.bus.memory32);
    this.physical.map(PCI_WINDOW.memory64.start, PCI_WINDOW.memory64.size, this.bus.memory64);
  }

  /** Plugs a device, gives all addresses and lets them master the bus. @returns where its first region is */
  plug(device: PciDevice): number {
    this.bus.plug(device.function);
    this.bus.assign();
    const { io, memory, busMaster } = COMMAND;
    for (const one of this.bus.all) one.write(HEADER.command, 2, io | memory | busMaster);
    const [bar] = device.function.bars;
    return bar ? (device.function.decoded(bar) ?? 0) : 0;
  }

  /** Lets time pass, with everything that happens by itself on the way. */
  run(device: PciDevice, cycles: number): void {
    const end = this.now + cycles;
    while (device.nextDeadline() <= end) {
      this.now = Math.max(this.now, device.nextDeadline());
      device.service(this.now);
    }
    this.now = end;
  }
}
