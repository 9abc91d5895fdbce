/** The 8042 keyboard controller with a keyboard that nobody types on (IBM PC/AT technical reference, "Keyboard"). */

import type { Line, PortDevice, Snapshotted } from './device.ts';

const PORT = { data: 0x60, command: 0x64 } as const;
const STATUS = { output: 0x01, system: 0x04, command: 0x08, unlocked: 0x10 } as const;
/** The controller's command byte: interrupt of the keyboard, system flag, keyboard clock off, scan-code translation. */
const COMMAND_BYTE = { interrupt: 0x01, system: 0x04, keyboardOff: 0x10, translate: 0x40 } as const;

const COMMAND = {
  readByte: 0x20, writeByte: 0x60, disableAux: 0xa7, enableAux: 0xa8, testAux: 0xa9, selfTest: 0xaa, testKeyboard: 0xab,
  disableKeyboard: 0xad, enableKeyboard: 0xae, readOutputPort: 0xd0, writeOutputPort: 0xd1, echo: 0xd2, echoAux: 0xd3,
  toAux: 0xd4,
} as const; // biome-ignore format: a table reads better in rows
/** Pulse commands F0h to FFh: a zero in bit 0 pulses the processor's reset line. */
const PULSE = 0xf0;
const SELF_TEST_PASSED = 0x55;
/** Output port: reset line high, A20 open. */
const OUTPUT_PORT = 0x03;
const RESET_HIGH = 1;

const KEYBOARD = {
  setLeds: 0xed, echo: 0xee, scanCodeSet: 0xf0, identify: 0xf2, setRate: 0xf3, enable: 0xf4, reset: 0xff,
  acknowledge: 0xfa, testPassed: 0xaa,
} as const; // biome-ignore format: a table reads better in rows
/** An MF2 keyboard. */
const IDENTITY = [0xab, 0x83] as const;
const SCAN_CODE_SET = 2;

export interface KeyboardControllerState {
  readonly commandByte: number;
  /** Bytes for port 60h, the oldest first. */
  readonly output: readonly number[];
  /** A command that waits for its byte at port 60h; 0: none. */
  readonly waiting: number;
  /** A keyboard command that waits for its byte; 0: none. */
  readonly keyboardWaiting: number;
  readonly lastWasCommand: boolean;
}

export class KeyboardController implements PortDevice, Snapshotted<KeyboardControllerState> {
  readonly name = '8042';
  static readonly ports = [PORT.data, PORT.command] as const;
  private readonly irq: Line;
  private readonly onReset: () => void;
  private commandByte = COMMAND_BYTE.system | COMMAND_BYTE.translate;
  private output: number[] = [];
  private waiting = 0;
  private keyboardWaiting = 0;
  private lastWasCommand = false;

  constructor(irq: Line, onReset: () => void) {
    this.irq = irq;
    this.onReset = onReset;
  }

  private update(): void {
    this.irq(this.output.length > 0 && (this.commandByte & COMMAND_BYTE.interrupt) !== 0);
  }

  read(port: number): number {
    if (port === PORT.command) {
      const flags = (this.output.length > 0 ? STATUS.output : 0) | (this.lastWasCommand ? STATUS.command : 0);
      return STATUS.unlocked | (this.commandByte & COMMAND_BYTE.system ? STATUS.system : 0) | flags;
    }
    const byte = this.output.shift() ?? 0;
    // Each byte is an edge of its own.
    this.irq(false);
    this.update();
    return byte;
  }

  write(port: number, _size: number, value: number): void {
    this.lastWasCommand = port === PORT.command;
    if (port === PORT.command) this.command(value);
    else this.data(value);
    this.update();
  }

  private command(value: number): void {
    const answers: Readonly<Record<number, number>> = {
      [COMMAND.readByte]: this.commandByte,
      [COMMAND.selfTest]: SELF_TEST_PASSED,
      [COMMAND.testKeyboard]: 0,
      // Nothing is at the auxiliary port: its clock line is stuck low.
      [COMMAND.testAux]: 1,
      [COMMAND.readOutputPort]: OUTPUT_PORT,
    };
    const answer = answers[value];
    if (answer !== undefined) this.output = [answer];
    else if (value === COMMAND.disableKeyboard) this.commandByte |= COMMAND_BYTE.keyboardOff;
    else if (value === COMMAND.enableKeyboard) this.commandByte &= ~COMMAND_BYTE.keyboardOff;
    else if (value >= PULSE && (value & 1) === 0) this.onReset();
    const takesByte = [COMMAND.writeByte, COMMAND.writeOutputPort, COMMAND.echo, COMMAND.echoAux, COMMAND.toAux];
    this.waiting = takesByte.some((command) => command === value) ? value : 0;
  }

  /** A byte at port 60h: for a command that waits for it, else for the keyboard. */
  private data(value: number): void {
    const { waiting } = this;
    this.waiting = 0;
    if (waiting === COMMAND.writeByte) this.commandByte = value;
    else if (waiting === COMMAND.writeOutputPort && (value & RESET_HIGH) === 0) this.onReset();
    // What should come from the auxiliary port comes from the keyboard's side, which tells that there is none.
    else if (waiting === COMMAND.echo || waiting === COMMAND.echoAux) this.output.push(value);
    else if (waiting === 0) this.keyboard(value);
  }

  private keyboard(value: number): void {
    this.commandByte &= ~COMMAND_BYTE.keyboardOff;
    if (this.keyboardWaiting !== 0) {
      this.output.push(KEYBOARD.acknowledge);
      if (this.keyboardWaiting === KEYBOARD.scanCodeSet && value === 0) this.output.push(SCAN_CODE_SET);
      this.keyboardWaiting = 0;
      return;
    }
    if (value === KEYBOARD.echo) {
      this.output.push(KEYBOARD.echo);
      return;
    }
    this.output.push(KEYBOARD.acknowledge);
    if (value === KEYBOARD.reset) this.output.push(KEYBOARD.testPassed);
    else if (value === KEYBOARD.identify) this.output.push(...IDENTITY);
    const takesByte = [KEYBOARD.setLeds, KEYBOARD.scanCodeSet, KEYBOARD.setRate].some((command) => command === value);
    this.keyboardWaiting = takesByte ? value : 0;
  }

  snapshot(): KeyboardControllerState {
    const { commandByte, output, waiting, keyboardWaiting, lastWasCommand } = this;
    return { commandByte, output: [...output], waiting, keyboardWaiting, lastWasCommand };
  }

  restore(saved: KeyboardControllerState): void {
    this.commandByte = saved.commandByte;
    this.output = [...saved.output];
    this.waiting = saved.waiting;
    this.keyboardWaiting = saved.keyboardWaiting;
    this.lastWasCommand = saved.lastWasCommand;
    this.update();
  }
}
