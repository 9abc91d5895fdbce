/** The guest's serial port on this process's standard input and output. */

import type { Machine } from '../sim-core/machine/api.ts';

const CTRL_A = 0x01;
const LETTER_X = 0x78;
const NEW_LINE = 0x0a;
/** Output goes out at line ends, at the end of each slice, and when this much waits. */
const BUFFER_SIZE = 4096;
/** What setTimeout can count. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The guest's side. */
export type ConsolePort = Pick<Machine['serial'], 'onOutput' | 'input'>;

export class SerialConsole {
  /** Set when the user asked for the end with Ctrl-A x. */
  interrupted = false;
  private readonly serial: ConsolePort;
  private readonly output: NodeJS.WriteStream;
  private readonly buffer = Buffer.alloc(BUFFER_SIZE);
  private used = 0;
  private afterEscape = false;
  private inputEnded = false;
  private lastByte = NEW_LINE;
  /** Bytes given to the guest. */
  private received = 0;
  private readonly onInput = (chunk: Buffer): void => this.receive(chunk);
  private readonly onEnd = (): void => {
    this.inputEnded = true;
    this.wake();
  };
  private wake: () => void = () => {};

  constructor({ serial }: { readonly serial: ConsolePort }, output: NodeJS.WriteStream = process.stdout) {
    this.serial = serial;
    this.output = output;
    serial.onOutput = (byte) => this.transmit(byte);
  }

  /** Connects standard input; a terminal is put into raw mode so that the guest gets every key. */
  open(): void {
    const { stdin } = process;
    if (stdin.isTTY) {
      stdin.setRawMode(true);
      process.stderr.write('vmxray: Ctrl-A x ends the run\r\n');
    }
    stdin.on('data', this.onInput).on('end', this.onEnd).on('error', this.onEnd);
    // A reader that has gone away (`vmxray run … | head`) is a reason to end, not an error of the guest.
    this.output.on('error', () => {
      this.interrupted = true;
      this.wake();
    });
  }

  close(): void {
    this.flush();
    const { stdin } = process;
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.off('data', this.onInput).off('end', this.onEnd);
    stdin.destroy();
  }

  /** Waits until bytes have come for the guest, or none can come any more, or `milliseconds` have passed. */
  async waitForInput(milliseconds: number): Promise<'input' | 'end' | 'interrupted' | 'timeout'> {
    const before = this.received;
    if (!this.inputEnded && !this.interrupted) {
      const { promise, resolve } = deferred();
      this.wake = resolve;
      const limit = Math.min(milliseconds, LONGEST_TIMER);
      const timer = setTimeout(resolve, limit);
      await promise;
      clearTimeout(timer);
      this.wake = () => {};
    }
    if (this.interrupted) return 'interrupted';
    if (this.received > before) return 'input';
    return this.inputEnded ? 'end' : 'timeout';
  }

  /** Whether what is printed next starts a line. */
  get atLineStart(): boolean {
    return this.lastByte === NEW_LINE;
  }

  private receive(chunk: Buffer): void {
    const bytes = process.stdin.isTTY ? this.unescape(chunk) : chunk;
    this.serial.input(bytes);
    this.received += bytes.length;
    this.wake();
  }

  /** Takes the terminal's own commands out: Ctrl-A x, Ctrl-A Ctrl-A. */
  private unescape(chunk: Buffer): Uint8Array {
    const out: number[] = [];
    for (const byte of chunk) {
      if (this.afterEscape) {
        this.afterEscape = false;
        if (byte === LETTER_X) this.interrupted = true;
        else out.push(byte);
      } else if (byte === CTRL_A) {
        this.afterEscape = true;
      } else {
        out.push(byte);
      }
    }
    return Uint8Array.from(out);
  }

  private transmit(byte: number): void {
    this.lastByte = byte;
    this.buffer[this.used++] = byte;
    if (byte === NEW_LINE || this.used === BUFFER_SIZE) this.flush();
  }

  flush(): void {
    if (this.used === 0) return;
    // The stream may keep what it is given.
    this.output.write(Buffer.from(this.buffer.subarray(0, this.used)));
    this.used = 0;
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
