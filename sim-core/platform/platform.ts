/** The devices of the machine, wired as on a PC. */

import type { Clock, InterruptController, PortBus } from '../cpu/cpu.ts';
import { Iommu, type IommuState } from '../iommu/iommu.ts';
import type { MmioDevice, PhysicalMemory } from '../mmu/physical-memory.ts';
import { ProcessorState } from '../state/processor-state.ts';
import type { State } from '../state/state.ts';
import { TIMER_GSI } from './acpi/tables.ts';
import { ACPI_PORTS, AcpiRegisters, type AcpiRegistersState, SCI_IRQ } from './acpi-registers.ts';
import type { Line, PortDevice, TimedDevice } from './device.ts';
import { type DeviceConfig, makeDevices } from './devices.ts';
import { DmaBus, type DmaFault } from './dma.ts';
import { Firmware } from './firmware.ts';
import { FW_CFG_PORTS, type FwCfgState } from './fw-cfg.ts';
import { Hpet, type HpetState } from './hpet.ts';
import { KeyboardController, type KeyboardControllerState } from './i8042.ts';
import { IoApic, type IoApicState } from './io-apic.ts';
import type { LocalApicState } from './local-apic.ts';
import { LocalApics } from './local-apics.ts';
import { PHYSICAL } from './memory-map.ts';
import { PciBus, type PciBusState } from './pci/bus.ts';
import { FIRMWARE_ROUTES, HostBridge, LpcBridge } from './pci/chipset.ts';
import type { PciDevice } from './pci/device.ts';
import { CONFIG_PORT, FIRST_PCI_GSI, IO_APIC_REQUESTER, PCI_WINDOW } from './pci/layout.ts';
import { Pic, type PicPairState } from './pic.ts';
import { Pit, type PitState } from './pit.ts';
import { PortMap } from './port-bus.ts';
import { DEFAULT_START_TIME, Rtc, type RtcState } from './rtc.ts';
import { DebugConsole, DebugExit, PostPort, ResetPorts, ShutdownPort, SystemControlPort } from './system-ports.ts';
import { TEST_MEMORY, TestDevice, type TestDeviceState } from './test-device.ts';
import { Uart, type UartState } from './uart.ts';

const COM1 = { port: 0x3f8, irq: 4 } as const;
const COM2 = { port: 0x2f8, irq: 3 } as const;
const TIMER_IRQ = 0;
const KEYBOARD_IRQ = 1;
const RTC_IRQ = 8;
const ISA_IRQS = 16;

export interface PlatformCallbacks {
  /** A byte that the guest sent on COM1. */
  onSerialOutput(byte: number): void;
  /** The guest wrote to isa-debug-exit: exit status (value << 1) | 1. */
  onDebugExit(value: number): void;
  /** A byte for a debug console (ports E9h and 402h). */
  onDebugConsole?(byte: number): void;
  onPowerOff(): void;
  onReset(): void;
  /** An access of a device was refused: by the IOMMU, or because nothing is at its address. */
  onDmaFault?(fault: DmaFault): void;
  /** The guest has done something to a device that it cannot work with: words for people. */
  onDeviceComplaint?(text: string): void;
  /** A processor has sent an interrupt to another one. */
  onInterprocessorInterrupt?(): void;
  /** Devices moved in physical address space: whatever caches where RAM is must forget it. */
  onMemoryMapChange?(): void;
}

export interface PlatformConfig {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly clock: Clock;
  /** Hertz of the cycle counter; also the local APIC timer's input. */
  readonly frequency: number;
  readonly physicalAddressBits: number;
  readonly callbacks: PlatformCallbacks;
  /** PCI devices, in the order of their numbers on bus 0. */
  readonly devices?: readonly DeviceConfig[];
  /** Devices' accesses go through an IOMMU. Default false. */
  readonly iommu?: boolean;
  /** What the real-time clock shows at cycle 0: seconds since 1 January 1970, UTC. */
  readonly startTime?: number;
  /** The processors' states; default one processor. */
  readonly processors?: readonly ProcessorState[];
  /** With QEMU's pc-testdev. Default false. */
  readonly testDevice?: boolean;
}

export interface PlatformState {
  readonly com1: UartState;
  readonly com2: UartState;
  readonly pic: PicPairState;
  readonly pit: PitState;
  readonly apics: readonly LocalApicState[];
  readonly rtc: RtcState;
  readonly ioApic: IoApicState;
  readonly hpet: HpetState;
  readonly acpi: AcpiRegistersState;
  readonly keyboard: KeyboardControllerState;
  readonly fwCfg: FwCfgState;
  readonly shutdown: number;
  readonly reset: number;
  readonly systemControl: number;
  readonly post: number;
  readonly pci: PciBusState;
  readonly devices: readonly unknown[];
  readonly iommu: IommuState | undefined;
  readonly testDevice: TestDeviceState | undefined;
}

/**
 * Everything around the processor. The machine runs no further than `nextDeadline()` without calling `service()`; when
 * the guest brings the deadline nearer, the processor's `attention` is set.
 */
export class Platform implements TimedDevice {
  readonly ports: PortBus;
  /** In front of each processor. */
  readonly interrupts: readonly InterruptController[];
  readonly com1: Uart;
  readonly com2: Uart;
  readonly pic: Pic;
  readonly pit: Pit;
  readonly apics: LocalApics;
  readonly ioApic: IoApic;
  readonly firmware: Firmware;
  readonly dma: DmaBus;
  readonly pci: PciBus;
  readonly devices: readonly PciDevice[];
  readonly iommu: Iommu | undefined;
  private readonly testDevice: TestDevice | undefined;
  private readonly lpc = new LpcBridge((input, asserted) => this.pic.setLine(input, asserted));
  private readonly state: State;
  private readonly clock: Clock;
  private readonly systemControl: SystemControlPort;
  private readonly post = new PostPort();
  private readonly shutdown: ShutdownPort;
  private readonly resetPorts: ResetPorts;
  private readonly rtc: Rtc;
  private readonly hpet: Hpet;
  private readonly acpi: AcpiRegisters;
  private readonly keyboard: KeyboardController;
  /** What does something by itself, but for the 8254. */
  private readonly timers: readonly TimedDevice[];
  private readonly onMemoryMapChange: () => void;
  /** What `nextDeadline` said last: a nearer one asks for attention. */
  private announced = Number.POSITIVE_INFINITY;

  constructor(config: PlatformConfig) {
    const { state, clock, frequency, callbacks } = config;
    this.state = state;
    this.clock = clock;
    this.onMemoryMapChange = () => callbacks.onMemoryMapChange?.();
    const processors = config.processors ?? [new ProcessorState(state, 0)];
    this.pic = new Pic((asserted) => this.apics.setExternal(asserted));
    this.ioApic = new IoApic((address, data) => this.dma.interrupt(IO_APIC_REQUESTER, address, data));
    this.pit = new Pit(clock, frequency, this.unlessReplaced(TIMER_IRQ));
    this.apics = this.makeApics(config, processors);
    this.interrupts = this.apics.controllers;
    this.com1 = new Uart('COM1', this.line(COM1.irq));
    this.com1.onOutput = (byte) => callbacks.onSerialOutput(byte);
    this.com2 = new Uart('COM2', this.line(COM2.irq));
    this.systemControl = new SystemControlPort(this.pit, clock, frequency);
    this.shutdown = new ShutdownPort(() => callbacks.onPowerOff());
    this.resetPorts = new ResetPorts(() => callbacks.onReset());
    const { startTime = DEFAULT_START_TIME } = config;
    const irq = this.unlessReplaced(RTC_IRQ);
    this.rtc = new Rtc({ clock, frequency, ramSize: state.ramSize, startTime, irq });
    this.hpet = new Hpet({
      clock,
      frequency,
      pin: (pin, asserted) => this.ioApic.setPin(pin, asserted),
      legacy: (input, asserted) => this.setLine(input, asserted),
    });
    const onPowerOff = (): void => callbacks.onPowerOff();
    this.acpi = new AcpiRegisters({ clock, frequency, sci: this.line(SCI_IRQ), onPowerOff });
    this.keyboard = new KeyboardController(this.line(KEYBOARD_IRQ), () => callbacks.onReset());
    this.firmware = new Firmware(config.physical, {
      processors: processors.length,
      iommu: config.iommu ?? false,
      physicalAddressBits: config.physicalAddressBits,
    });
    this.dma = new DmaBus(config.physical, (message) => this.apics.deliver(message));
    const onFault = (fault: DmaFault): void => callbacks.onDmaFault?.(fault);
    this.dma.onFault = onFault;
    const { physical } = config;
    this.iommu = config.iommu
      ? new Iommu({ physical, deliver: (message) => this.apics.deliver(message), onFault })
      : undefined;
    this.dma.remapper = this.iommu;
    this.pci = new PciBus(this.dma, (pirq, asserted) => {
      this.lpc.setPirq(pirq, asserted);
      this.ioApic.setPin(FIRST_PCI_GSI + pirq, asserted);
    });
    this.devices = makeDevices(config.devices ?? [], {
      clock,
      deadlineChanged: () => this.checkDeadline(),
      line: (number) => this.line(number),
      complain: (text) => callbacks.onDeviceComplaint?.(text),
    });
    this.timers = [...this.apics.all, this.hpet, this.rtc, this.acpi, ...this.devices];
    this.testDevice = config.testDevice ? new TestDevice((line, asserted) => this.setInput(line, asserted)) : undefined;
    this.ports = this.mapPorts(callbacks);
    this.plugDevices(config.physical);
    // The other devices are made in their power-on state; the machine's clock may not be there to be asked yet.
    this.apics.reset();
  }

  /** Plugs the PCI functions, and leaves them as firmware does: with addresses, and level-triggered inputs. */
  private plugDevices(physical: PhysicalMemory): void {
    const { pci } = this;
    const bridge = new HostBridge((base) => this.moveEcam(physical, base));
    for (const one of [bridge, this.lpc, ...this.devices.map((device) => device.function)]) pci.plug(one);
    physical.map(PHYSICAL.ioApic.start, PHYSICAL.ioApic.size, this.timedMemory(this.ioApic));
    physical.map(PHYSICAL.hpet.start, PHYSICAL.hpet.size, this.timedMemory(this.hpet));
    if (this.iommu) physical.map(PHYSICAL.dmar.start, PHYSICAL.dmar.size, this.iommu);
    if (this.testDevice) physical.mapOver(TEST_MEMORY.start, TEST_MEMORY.size, this.testDevice.memory);
    physical.map(PHYSICAL.pciDecoded.start, PHYSICAL.pciDecoded.size, pci.memory32);
    physical.map(PCI_WINDOW.memory64.start, PCI_WINDOW.memory64.size, pci.memory64);
    physical.mapOver(PHYSICAL.ecam.start, PHYSICAL.ecam.size, pci.ecam);
    this.setUpPci();
  }

  /** Firmware programs where configuration space is in memory; undefined: nowhere. */
  private moveEcam(physical: PhysicalMemory, base: number | undefined): void {
    physical.unmap(this.pci.ecam);
    if (base !== undefined) physical.mapOver(base, PHYSICAL.ecam.size, this.pci.ecam);
    this.onMemoryMapChange();
  }

  private setUpPci(): void {
    for (const device of this.devices) device.reset();
    this.pci.reset();
    this.pci.assign();
    for (const input of FIRMWARE_ROUTES) this.pic.setLevelTriggered(input);
  }

  /** An ISA interrupt reaches the 8259A pair and the I/O APIC. */
  private setLine(irq: number, asserted: boolean): void {
    this.pic.setLine(irq, asserted);
    this.ioApic.setPin(irq === TIMER_IRQ ? TIMER_GSI : irq, asserted);
  }

  /** An input of the I/O APIC; the lower ones are ISA interrupts. */
  private setInput(input: number, asserted: boolean): void {
    if (input < ISA_IRQS) this.setLine(input, asserted);
    else this.ioApic.setPin(input, asserted);
  }

  private line(irq: number): Line {
    return (asserted) => this.setLine(irq, asserted);
  }

  /** The line of a timer that the HPET takes the place of when software wants that. */
  private unlessReplaced(irq: number): Line {
    return (asserted) => {
      if (!this.hpet.replacesLegacy) this.setLine(irq, asserted);
    };
  }

  private makeApics(config: PlatformConfig, processors: readonly ProcessorState[]): LocalApics {
    const { physical, clock, physicalAddressBits, callbacks } = config;
    return new LocalApics({
      processors,
      physical,
      clock,
      physicalAddressBits,
      pic: this.pic,
      changed: () => this.checkDeadline(),
      levelEnded: (vector) => this.ioApic.endOfInterrupt(vector),
      sent: () => callbacks.onInterprocessorInterrupt?.(),
      moved: () => callbacks.onMemoryMapChange?.(),
    });
  }

  private mapPorts(callbacks: PlatformCallbacks): PortMap {
    const map = new PortMap();
    map.map(COM1.port, 8, this.com1);
    map.map(COM2.port, 8, this.com2);
    for (const [first, count] of Pic.ports) map.map(first, count, this.timed(this.pic));
    map.map(0x40, 4, this.timed(this.pit));
    map.map(SystemControlPort.port, 1, this.systemControl);
    map.map(PostPort.port, 1, this.post);
    map.map(Rtc.port, 2, this.timed(this.rtc));
    for (const port of KeyboardController.ports) map.map(port, 1, this.keyboard);
    map.map(ResetPorts.fastReset, 1, this.resetPorts);
    // A wide access to the PCI address port CF8h is no access to the reset control register.
    map.map(ResetPorts.resetControl, 1, this.resetPorts, 'any');
    map.map(ShutdownPort.port, 1, this.shutdown);
    map.map(CONFIG_PORT.address, 1, this.pci.configPorts, 'any');
    map.map(CONFIG_PORT.data, 4, this.pci.configPorts, 'any');
    map.others = this.pci.io;
    map.map(DebugExit.port, 4, new DebugExit((value) => callbacks.onDebugExit(value)), 'any');
    map.map(ACPI_PORTS.start, ACPI_PORTS.size, this.timed(this.acpi), 'any');
    map.map(FW_CFG_PORTS.start, FW_CFG_PORTS.size, this.firmware.fwCfg, 'any');
    if (this.testDevice) for (const [first, count] of TestDevice.ports) map.map(first, count, this.testDevice, 'any');
    for (const { legacyPorts = [] } of this.devices) {
      for (const { first, count, device } of legacyPorts) map.map(first, count, device, 'any');
    }
    const debugConsole = new DebugConsole((byte) => callbacks.onDebugConsole?.(byte));
    for (const port of DebugConsole.ports) map.map(port, 1, debugConsole);
    return map;
  }

  /** A device whose registers depend on, or decide, what time has done: it is serviced before and checked after. */
  private timed(device: PortDevice): PortDevice {
    return {
      name: device.name,
      read: (port, size) => {
        this.service(this.clock.cycles());
        return device.read(port, size);
      },
      write: (port, size, value) => {
        this.service(this.clock.cycles());
        device.write(port, size, value);
        this.checkDeadline();
      },
    };
  }

  private timedMemory(device: MmioDevice): MmioDevice {
    return {
      name: device.name,
      read: (offset, size) => device.read(offset, size),
      write: (offset, size, value) => {
        this.service(this.clock.cycles());
        device.write(offset, size, value);
        this.checkDeadline();
      },
    };
  }

  /** The cycle at which `service` must be called; Infinity when no device will do anything by itself. */
  nextDeadline(): number {
    this.announced = this.deadline();
    return this.announced;
  }

  /** The timer's edges matter only while nothing masks IRQ0: they are caught up with when that changes. */
  private deadline(): number {
    const masked = (this.pic.isMasked(TIMER_IRQ) || this.apics.blocksExternal) && this.ioApic.isMasked(TIMER_GSI);
    const pit = masked ? Number.POSITIVE_INFINITY : this.pit.nextDeadline();
    return Math.min(pit, ...this.timers.map((device) => device.nextDeadline()));
  }

  private checkDeadline(): void {
    if (this.deadline() < this.announced) this.state.set32('attention', 1);
  }

  service(now: number): void {
    this.pit.service(now);
    for (const device of this.timers) device.service(now);
  }

  /** A copy of all devices' state; IA32_APIC_BASE and IA32_TSC_DEADLINE are in the processor's. */
  snapshot(): PlatformState {
    return {
      com1: this.com1.snapshot(),
      com2: this.com2.snapshot(),
      pic: this.pic.snapshot(),
      pit: this.pit.snapshot(),
      apics: this.apics.snapshot(),
      rtc: this.rtc.snapshot(),
      ioApic: this.ioApic.snapshot(),
      hpet: this.hpet.snapshot(),
      acpi: this.acpi.snapshot(),
      keyboard: this.keyboard.snapshot(),
      fwCfg: this.firmware.fwCfg.snapshot(),
      shutdown: this.shutdown.snapshot(),
      reset: this.resetPorts.snapshot(),
      systemControl: this.systemControl.snapshot(),
      post: this.post.snapshot(),
      pci: this.pci.snapshot(),
      devices: this.devices.map((device) => device.snapshot()),
      iommu: this.iommu?.snapshot(),
      testDevice: this.testDevice?.snapshot(),
    };
  }

  /** The processor state must have been restored before. */
  restore(saved: PlatformState): void {
    this.pit.restore(saved.pit);
    this.pic.restore(saved.pic);
    this.apics.restore(saved.apics);
    this.com1.restore(saved.com1);
    this.com2.restore(saved.com2);
    this.rtc.restore(saved.rtc);
    this.hpet.restore(saved.hpet);
    this.acpi.restore(saved.acpi);
    this.keyboard.restore(saved.keyboard);
    this.firmware.fwCfg.restore(saved.fwCfg);
    this.shutdown.restore(saved.shutdown);
    this.resetPorts.restore(saved.reset);
    this.systemControl.restore(saved.systemControl);
    this.post.restore(saved.post);
    for (const [at, device] of this.devices.entries()) device.restore(saved.devices[at]);
    if (saved.iommu) this.iommu?.restore(saved.iommu);
    if (saved.testDevice) this.testDevice?.restore(saved.testDevice);
    this.pci.restore(saved.pci);
    // Last: restored devices have driven its inputs again.
    this.ioApic.restore(saved.ioApic);
    this.apics.update();
  }
}
