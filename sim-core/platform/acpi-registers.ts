/** ACPI's fixed hardware (ACPI specification, "ACPI Hardware Specification"): PM1 event and control block, PM timer. */

import type { Clock } from '../cpu/cpu.ts';
import type { Line, PortDevice, Snapshotted, TimedDevice } from './device.ts';

/** Where the registers are (as on QEMU's machines) and how long, for the FADT. */
export const ACPI_PORT = {
  pm1Event: { start: 0x600, size: 4 },
  pm1Control: { start: 0x604, size: 2 },
  pmTimer: { start: 0x608, size: 4 },
} as const;
export const ACPI_PORTS = { start: 0x600, size: 0x10 } as const;
/** The system control interrupt's ISA number. */
export const SCI_IRQ = 9;
const PM_TIMER_FREQUENCY = 3_579_545;
/** The sleep type in SLP_TYP that means soft-off; the DSDT's _S5 names it. */
export const SLEEP_TYPE_OFF = 0;

const OFFSET = { status: 0, enable: 2, control: 4, timer: 8 } as const;
const TIMER_STATUS = 1;
const SCI_ENABLED = 1;
const SLEEP = { enable: 0x2000, typeShift: 10, typeMask: 7 } as const;
/** Status bits that software clears by writing ones: timer, bus master, global lock, buttons, wake. */
const STATUS_BITS = 0x8731;
const ENABLE_BITS = 0x0721;
/** TMR_STS is set whenever the timer's highest bit (of 32) changes. */
const TIMER_HALF = 2 ** 31;

export interface AcpiRegistersState {
  readonly status: number;
  readonly enable: number;
  readonly control: number;
  readonly serviced: number;
}

export interface AcpiConnections {
  readonly clock: Clock;
  readonly frequency: number;
  readonly sci: Line;
  onPowerOff(): void;
}

export class AcpiRegisters implements PortDevice, TimedDevice, Snapshotted<AcpiRegistersState> {
  readonly name = 'ACPI registers';
  private readonly connections: AcpiConnections;
  private status = 0;
  private enable = 0;
  private control = 0;
  private serviced = 0;

  constructor(connections: AcpiConnections) {
    this.connections = connections;
  }

  /** Ticks of the PM timer at a cycle, not yet wrapped. */
  private ticks(cycle: number): number {
    return Math.floor((cycle * PM_TIMER_FREQUENCY) / this.connections.frequency);
  }

  nextDeadline(): number {
    if ((this.enable & TIMER_STATUS) === 0 || this.status & TIMER_STATUS) return Number.POSITIVE_INFINITY;
    const next = (Math.floor(this.ticks(this.serviced) / TIMER_HALF) + 1) * TIMER_HALF;
    return Math.ceil((next * this.connections.frequency) / PM_TIMER_FREQUENCY);
  }

  service(now: number): void {
    const changes = Math.floor(this.ticks(now) / TIMER_HALF) > Math.floor(this.ticks(this.serviced) / TIMER_HALF);
    this.serviced = Math.max(this.serviced, now);
    if (!changes) return;
    this.status |= TIMER_STATUS;
    this.update();
  }

  private update(): void {
    this.connections.sci((this.status & this.enable) !== 0);
  }

  read(port: number, size: 1 | 2 | 4): number {
    const offset = port - ACPI_PORTS.start;
    const word = this.readWord(offset & ~3) >>> (8 * (offset & 3));
    return size === 4 ? word >>> 0 : word & (size === 2 ? 0xffff : 0xff);
  }

  private readWord(offset: number): number {
    if (offset === OFFSET.status) return this.status | (this.enable << 16);
    // There is no legacy mode: SCI_EN is always set.
    if (offset === OFFSET.control) return this.control | SCI_ENABLED;
    return offset === OFFSET.timer ? this.ticks(this.connections.clock.cycles()) % 2 ** 32 : 0;
  }

  write(port: number, size: 1 | 2 | 4, value: number): void {
    const offset = port - ACPI_PORTS.start;
    if (offset === OFFSET.status) {
      this.status &= ~(value & STATUS_BITS);
      if (size === 4) this.enable = (value >>> 16) & ENABLE_BITS;
    } else if (offset === OFFSET.enable) {
      this.enable = value & ENABLE_BITS;
    } else if (offset === OFFSET.control) {
      this.writeControl(value & 0xffff);
    }
    this.update();
  }

  /** SLP_EN reads as zero. */
  private writeControl(value: number): void {
    this.control = value & ~SLEEP.enable & ~SCI_ENABLED;
    const type = (value >> SLEEP.typeShift) & SLEEP.typeMask;
    if (value & SLEEP.enable && type === SLEEP_TYPE_OFF) this.connections.onPowerOff();
  }

  snapshot(): AcpiRegistersState {
    return { status: this.status, enable: this.enable, control: this.control, serviced: this.serviced };
  }

  restore(saved: AcpiRegistersState): void {
    this.status = saved.status;
    this.enable = saved.enable;
    this.control = saved.control;
    this.serviced = saved.serviced;
    this.update();
  }
}
