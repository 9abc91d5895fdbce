/** The small devices of a PC's board: ways to end or reset the machine, port 61h, POST codes, debug consoles. */

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

/** Resets: the fast reset of port 92h and the reset control register CF9h. */
export class ResetPorts implements PortDevice, Snapshotted<number> {
  readonly name = 'reset ports';
  static readonly fastReset = 0x92;
  static readonly resetControl = 0xcf9;
  private readonly onReset: () => void;
  private resetControl = 0;

  constructor(onReset: () => void) {
    this.onReset = onReset;
  }

  read(port: number): number {
    // A20 is always open.
    return port === ResetPorts.resetControl ? this.resetControl : 0x02;
  }

  write(port: number, _size: number, value: number): void {
    if (port === ResetPorts.fastReset && value & 1) this.onReset();
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

/** Debug consoles: port E9h of Bochs and QEMU, and port 402h, where SeaBIOS writes. They read as E9h to be found. */
export class DebugConsole implements PortDevice {
  readonly name = 'debug console';
  static readonly ports = [0xe9, 0x402] as const;
  private readonly onOutput: (byte: number) => void;

  constructor(onOutput: (byte: number) => void) {
    this.onOutput = onOutput;
  }

  read(): number {
    return 0xe9;
  }

  write(_port: number, _size: number, value: number): void {
    this.onOutput(value & 0xff);
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
