/** The 16550A UART (National Semiconductor PC16550D data sheet), as a PC wires it. */

import type { Line, PortDevice, Snapshotted } from './device.ts';

const LCR_DIVISOR_ACCESS = 0x80;
const MCR_OUT2 = 0x08;
const MCR_LOOPBACK = 0x10;
const LSR_DATA_READY = 0x01;
/** THRE and TEMT: a character takes no time, so the transmitter is always empty. */
const LSR_TRANSMITTER_EMPTY = 0x60;
const FIFO_SIZE = 16;
const FCR_ENABLE = 0x01;
const FCR_CLEAR_RECEIVER = 0x02;
/** Bytes in the receiver FIFO that raise "received data available", by FCR bits 7:6. */
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;

/** Interrupt enable bits, and the identification each one gives (data sheet, table IV). */
const IER = { receivedData: 1, transmitterEmpty: 2, lineStatus: 4, modemStatus: 8 } as const;
const IIR = { none: 0x01, modemStatus: 0x00, transmitterEmpty: 0x02, receivedData: 0x04, timeout: 0x0c } as const;
const IIR_FIFOS_ENABLED = 0xc0;

/** Modem status lines: CTS, DSR, RI, DCD in bits 4…7; the delta bits are four places below. */
const MODEM_LINES_OF_TERMINAL = 0xb0;
const RI_LINE = 0x40;

export interface UartState {
  interruptEnable: number;
  fifoControl: number;
  lineControl: number;
  modemControl: number;
  modemStatus: number;
  scratch: number;
  divisor: number;
  /** A "transmitter empty" interrupt that has not been read or answered yet. */
  transmitterEmptyPending: boolean;
  /** Bytes in the receiver, at most 16 (1 without FIFO). */
  received: number[];
  /** Bytes sent to the guest that the receiver has no room for yet: the far end waits, nothing is overrun. */
  waiting: number[];
  /** Number of bytes that the guest has transmitted. */
  sent: number;
}

const powerOn = (): UartState => ({
  interruptEnable: 0,
  fifoControl: 0,
  lineControl: 0,
  modemControl: 0,
  modemStatus: MODEM_LINES_OF_TERMINAL,
  scratch: 0,
  divisor: 12,
  transmitterEmptyPending: false,
  received: [],
  waiting: [],
  sent: 0,
});

export class Uart implements PortDevice, Snapshotted<UartState> {
  readonly name: string;
  private readonly irq: Line;
  private state = powerOn();
  /** Called with each byte that the guest transmits. */
  onOutput: ((byte: number) => void) | undefined;

  /** Number of bytes that the guest has transmitted. */
  get sent(): number {
    return this.state.sent;
  }

  /** @param irq IRQ4 for COM1, IRQ3 for COM2 */
  constructor(name: string, irq: Line) {
    this.name = name;
    this.irq = irq;
  }

  /** Queues bytes for the guest to receive. */
  receive(bytes: Iterable<number>): void {
    for (const byte of bytes) this.state.waiting.push(byte & 0xff);
    this.update();
  }

  snapshot(): UartState {
    return structuredClone(this.state);
  }

  restore(saved: UartState): void {
    this.state = structuredClone(saved);
    this.update();
  }

  read(port: number): number {
    return this.readers[port & 7]?.() ?? 0xff;
  }

  write(port: number, _size: number, value: number): void {
    this.writers[port & 7]?.(value);
    this.update();
  }

  /** By register offset (data sheet, table II); DLAB turns the first two into the divisor latch. */
  private readonly readers: readonly (() => number)[] = [
    () => (this.divisorAccess ? this.state.divisor & 0xff : this.takeByte()),
    () => (this.divisorAccess ? this.state.divisor >> 8 : this.state.interruptEnable),
    () => this.identify(),
    () => this.state.lineControl,
    () => this.state.modemControl,
    () => LSR_TRANSMITTER_EMPTY | (this.state.received.length > 0 ? LSR_DATA_READY : 0),
    () => this.readModemStatus(),
    () => this.state.scratch,
  ];

  private readonly writers: readonly ((value: number) => void)[] = [
    (value) => {
      if (this.divisorAccess) this.state.divisor = (this.state.divisor & 0xff00) | value;
      else this.transmit(value);
    },
    (value) => {
      if (this.divisorAccess) this.state.divisor = (this.state.divisor & 0xff) | (value << 8);
      else this.enableInterrupts(value & 0x0f);
    },
    (value) => this.controlFifo(value),
    (value) => {
      this.state.lineControl = value;
    },
    (value) => {
      this.state.modemControl = value & 0x1f;
      this.setModemLines(this.modemLines());
    },
    // The line and modem status registers are for reading.
    () => {},
    () => {},
    (value) => {
      this.state.scratch = value;
    },
  ];

  private get divisorAccess(): boolean {
    return (this.state.lineControl & LCR_DIVISOR_ACCESS) !== 0;
  }

  private get loopback(): boolean {
    return (this.state.modemControl & MCR_LOOPBACK) !== 0;
  }

  private get fifoEnabled(): boolean {
    return (this.state.fifoControl & FCR_ENABLE) !== 0;
  }

  private takeByte(): number {
    const byte = this.state.received.shift() ?? 0;
    this.update();
    return byte;
  }

  private transmit(value: number): void {
    if (this.loopback) this.state.waiting.push(value);
    else {
      this.state.sent++;
      this.onOutput?.(value);
    }
    // The holding register is empty again at once, which is a new event.
    this.state.transmitterEmptyPending = true;
  }

  private enableInterrupts(value: number): void {
    const { state } = this;
    // Enabling the interrupt while the holding register is empty raises it (data sheet, "Interrupt Enable Register").
    const enabled = value & ~state.interruptEnable;
    if (enabled & IER.transmitterEmpty) state.transmitterEmptyPending = true;
    state.interruptEnable = value;
  }

  private controlFifo(value: number): void {
    const { state } = this;
    const toggled = (value ^ state.fifoControl) & FCR_ENABLE;
    // Turning the FIFOs on or off clears them; the clear bits need the enable bit.
    if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RECEIVER)) state.received = [];
    state.fifoControl = value & FCR_ENABLE ? value & 0xc9 : 0;
  }

  /** In loopback RTS, DTR, OUT1, OUT2 feed CTS, DSR, RI, DCD; else a terminal is connected and ready. */
  private modemLines(): number {
    if (!this.loopback) return MODEM_LINES_OF_TERMINAL;
    const control = this.state.modemControl;
    return ((control & 2) << 3) | ((control & 1) << 5) | ((control & 4) << 4) | ((control & 8) << 4);
  }

  private setModemLines(lines: number): void {
    const before = this.state.modemStatus;
    const changed = (before ^ lines) & 0xf0;
    // RI only reports its trailing edge.
    const deltas = changed & RI_LINE && lines & RI_LINE ? changed & ~RI_LINE : changed;
    this.state.modemStatus = lines | (before & 0x0f) | (deltas >> 4);
  }

  private readModemStatus(): number {
    const value = this.state.modemStatus;
    this.state.modemStatus &= 0xf0;
    this.update();
    return value;
  }

  /** The pending interrupt of highest priority, without the FIFO bits. */
  private pending(): number {
    const { interruptEnable, received, fifoControl, transmitterEmptyPending, modemStatus } = this.state;
    if (interruptEnable & IER.receivedData && received.length > 0) {
      const trigger = this.fifoEnabled ? (TRIGGER_LEVELS[fifoControl >> 6] ?? 1) : 1;
      // Below the trigger level the four character times of the time-out pass at once.
      return received.length >= trigger ? IIR.receivedData : IIR.timeout;
    }
    if (interruptEnable & IER.transmitterEmpty && transmitterEmptyPending) return IIR.transmitterEmpty;
    if (interruptEnable & IER.modemStatus && modemStatus & 0x0f) return IIR.modemStatus;
    return IIR.none;
  }

  private identify(): number {
    const source = this.pending();
    // Reading the identification answers a transmitter-empty interrupt, if that is what it reports.
    if (source === IIR.transmitterEmpty) this.state.transmitterEmptyPending = false;
    this.update();
    return source | (this.fifoEnabled ? IIR_FIFOS_ENABLED : 0);
  }

  /** Fills the receiver from the far end and drives the interrupt line, which a PC gates with OUT2. */
  private update(): void {
    const { state } = this;
    const room = (this.fifoEnabled ? FIFO_SIZE : 1) - state.received.length;
    if (room > 0 && state.waiting.length > 0) state.received.push(...state.waiting.splice(0, room));
    this.irq((state.modemControl & MCR_OUT2) !== 0 && !this.loopback && this.pending() !== IIR.none);
  }
}
