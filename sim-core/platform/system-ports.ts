/** The small devices of a PC's board: ways to end or reset the machine, port 61h, POST codes, CMOS. */

import type { Clock } from '../cpu/cpu.ts';
import type { PortDevice, Snapshotted } from './device.ts';
import type { Pit } from './pit.ts';

/** QEMU's isa-debug-exit device, as `-device isa-debug-exit,iobase=0xf4,iosize=4` places it. */
export class DebugExit implements PortDevice {
  readonly name = 'isa-debug-exit';
  static readonly port = 0xf4;
  private readonly onExit: (value: number) => void;

  /** @param onExit told the value; the exit status is (value << 1) | 1 */
  constructor(onExit: (value: number) => void) {
    this.onExit = onExit;
  }

  read(): number {
    return 0;
  }

  write(_port: number, _size: number, value: number): void {
    this.onExit(value);
  }
}

const SHUTDOWN_WORD = 'Shutdown';

/** Bochs's power-off: the bytes of "Shutdown" written one after the other to port 8900h. */
export class ShutdownPort implements PortDevice, Snapshotted<number> {
  readonly name = 'shutdown port';
  static readonly port = 0x8900;
  private readonly onPowerOff: () => void;
  /** How many bytes of the word have come. */
  private matched = 0;

  constructor(onPowerOff: () => void) {
    this.onPowerOff = onPowerOff;
  }

  read(): number {
    return 0xff;
  }

  write(_port: number, _size: number, value: number): void {
    if (value === SHUTDOWN_WORD.charCodeAt(this.matched)) this.matched++;
    else this.matched = value === SHUTDOWN_WORD.charCodeAt(0) ? 1 : 0;
    if (this.matched < SHUTDOWN_WORD.length) return;
    this.matched = 0;
    this.onPowerOff();
  }

  snapshot(): number {
    return this.matched;
  }

  restore(saved: number): void {
    this.matched = saved;
  }
}

/** ACPI's PM1a control register where QEMU's machines have it: soft-off (S5) is SLP_EN with sleep type 0. */
export class PowerManagement implements PortDevice {
  readonly name = 'power management';
  static readonly port = 0x604;
  private readonly onPowerOff: () => void;

  constructor(onPowerOff: () => void) {
    this.onPowerOff = onPowerOff;
  }

  /** SCI_EN: there is no legacy mode to leave. */
  read(): number {
    return 1;
  }

  write(_port: number, _size: number, value: number): void {
    if ((value & 0x3c00) === 0x2000) this.onPowerOff();
  }
}

/**
 * Resets: the keyboard controller's pulse command (port 64h, FEh), the fast reset of port 92h and the reset control
 * register CF9h. There is no keyboard: the controller is always ready and never has data.
 */
export class ResetPorts implements PortDevice, Snapshotted<number> {
  readonly name = 'reset ports';
  static readonly ports = [0x60, 0x64, 0x92] as const;
  static readonly resetControl = 0xcf9;
  private readonly onReset: () => void;
  private resetControl = 0;

  constructor(onReset: () => void) {
    this.onReset = onReset;
  }

  read(port: number): number {
    // Status: self-test passed and keyboard not locked, both buffers empty.
    if (port === 0x64) return 0x14;
    // A20 is always open.
    if (port === 0x92) return 0x02;
    return port === ResetPorts.resetControl ? this.resetControl : 0;
  }

  write(port: number, _size: number, value: number): void {
    if (port === 0x64 && value === 0xfe) this.onReset();
    if (port === 0x92 && value & 1) this.onReset();
    if (port !== ResetPorts.resetControl) return;
    // Setting RST_CPU resets.
    if (value & 4) this.onReset();
    this.resetControl = value & 0x0a;
  }

  snapshot(): number {
    return this.resetControl;
  }

  restore(saved: number): void {
    this.resetControl = saved;
  }
}

/** Seconds between two changes of the DRAM refresh bit of port 61h. */
const REFRESH_SECONDS = 15e-6;

/** Port 61h: the gate and output of timer counter 2, the speaker, and the refresh toggle that old delays count. */
export class SystemControlPort implements PortDevice, Snapshotted<number> {
  readonly name = 'system control port B';
  static readonly port = 0x61;
  private readonly pit: Pit;
  private readonly clock: Clock;
  private readonly refreshCycles: number;
  /** Bits 1:0, speaker data and gate. */
  private control = 0;

  constructor(pit: Pit, clock: Clock, cyclesPerSecond: number) {
    this.pit = pit;
    this.clock = clock;
    this.refreshCycles = Math.max(1, Math.round(cyclesPerSecond * REFRESH_SECONDS));
  }

  reset(): void {
    this.control = 0;
  }

  read(): number {
    const refresh = Math.floor(this.clock.cycles() / this.refreshCycles) & 1;
    return this.control | (refresh << 4) | (this.pit.speakerOutput() ? 0x20 : 0);
  }

  write(_port: number, _size: number, value: number): void {
    this.control = value & 0x03;
    this.pit.setSpeakerGate((value & 1) !== 0);
  }

  snapshot(): number {
    return this.control;
  }

  restore(saved: number): void {
    this.control = saved;
  }
}

/** Port 80h: POST codes, which old code writes for a delay. It reads back. */
export class PostPort implements PortDevice, Snapshotted<number> {
  readonly name = 'POST port';
  static readonly port = 0x80;
  private code = 0;

  read(): number {
    return this.code;
  }

  write(_port: number, _size: number, value: number): void {
    this.code = value & 0xff;
  }

  snapshot(): number {
    return this.code;
  }

  restore(saved: number): void {
    this.code = saved;
  }
}

const MIB = 2 ** 20;

/** Contents after power-on: midnight of 1 January 2026, a Thursday, in BCD; memory sizes as PC firmware stores them. */
function initialCmos(ramSize: number): number[] {
  const cells = new Array<number>(128).fill(0);
  // Day of week, day, month, year, then status registers A (32 kHz base), B (24-hour mode), D (battery good), century.
  const fixed: Readonly<Record<number, number>> = { 6: 5, 7: 1, 8: 1, 9: 0x26, 10: 0x26, 11: 0x02, 13: 0x80, 50: 0x20 };
  const extendedKib = Math.min(0xffff, Math.max(0, ramSize - MIB) / 1024);
  const above16 = Math.min(0xffff, Math.max(0, ramSize - 16 * MIB) / 65_536);
  const words: Readonly<Record<number, number>> = { 21: 640, 23: extendedKib, 48: extendedKib, 52: above16 };
  for (const [index, value] of Object.entries(fixed)) cells[Number(index)] = value;
  for (const [index, value] of Object.entries(words)) {
    cells[Number(index)] = value & 0xff;
    cells[Number(index) + 1] = value >> 8;
  }
  return cells;
}

export interface CmosState {
  readonly index: number;
  readonly cells: readonly number[];
}

/** Ports 70h and 71h. The clock stands still: virtual time has no date. */
export class Cmos implements PortDevice, Snapshotted<CmosState> {
  readonly name = 'CMOS';
  static readonly port = 0x70;
  private index = 0;
  private cells: number[];

  constructor(ramSize: number) {
    this.cells = initialCmos(ramSize);
  }

  read(port: number): number {
    return port & 1 ? (this.cells[this.index] ?? 0) : 0xff;
  }

  write(port: number, _size: number, value: number): void {
    // Bit 7 of the index gates NMI, which nothing here raises.
    if (port & 1) this.cells[this.index] = value;
    else this.index = value & 0x7f;
  }

  snapshot(): CmosState {
    return { index: this.index, cells: [...this.cells] };
  }

  restore(saved: CmosState): void {
    this.index = saved.index;
    this.cells = [...saved.cells];
  }
}
