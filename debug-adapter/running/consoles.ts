/** COM2 and virtio consoles of a machine, and where they lead: COM1 is everybody's (runner.ts). */

import type { Machine } from '../../sim-core/machine/api.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import { ConsolePort } from '../../sim-core/platform/virtio/console.ts';
import { errors } from '../errors.ts';
import type { FileReader } from '../protocol.ts';

const COM2 = 'COM2';
const VIRTIO = 'virtio-console';
/** Instead of a file. */
const TERMINAL = 'terminal';
const NONE = 'none';

/** The guest's end of a console. */
interface Line {
  readonly name: string;
  /** Bytes that the guest has sent since boot, as this place in time has it. */
  sent(): number;
  /** What typing is for the machine's history. */
  input(bytes: Uint8Array): OutsideEvent;
}

interface FarEnd {
  readonly line: Line;
  /** A file that has it all; undefined for a terminal. */
  readonly append: ((bytes: Uint8Array) => void) | undefined;
  /** Bytes that have gone there: replays bring them again. */
  delivered: number;
  waiting: number[];
}

export class Consoles {
  private readonly lines: Line[] = [];
  private readonly ends = new Map<string, FarEnd>();
  /** The far ends of virtio consoles, by their places in the configuration. */
  private readonly ports = new Map<number, ConsolePort>();

  /** @param devices texts of the launch configuration */
  constructor(devices: readonly string[]) {
    // The machine numbers drives behind all other devices.
    let device = 0;
    for (const [place, text] of devices.entries()) {
      const kind = text.split(',')[0]?.trim() ?? '';
      if (kind === VIRTIO) this.addVirtio(place, device);
      if (!kind.startsWith('ide-')) device++;
    }
  }

  private addVirtio(place: number, device: number): void {
    const port = new ConsolePort();
    this.ports.set(place, port);
    const name = this.ports.size === 1 ? VIRTIO : `${VIRTIO} ${this.ports.size}`;
    this.lines.push({ name, sent: () => port.sent, input: (bytes) => ({ kind: 'device', device, bytes }) });
    port.onOutput = (bytes) => this.take(name, bytes);
  }

  /** The far end of the device with this number. */
  portOf(device: number): ConsolePort | undefined {
    return this.ports.get(device);
  }

  /**
   * Connects the machine, and makes the files.
   * @param wanted as `consoles` of the launch configuration. @throws badLaunchValue
   */
  async connect(machine: Machine, wanted: Readonly<Record<string, string>>, files: FileReader): Promise<void> {
    const input = (bytes: Uint8Array): OutsideEvent => ({ kind: 'input', bytes, port: COM2 });
    this.lines.unshift({ name: COM2, sent: () => machine.com2.sent, input });
    machine.com2.onOutput = (byte) => this.take(COM2, [byte]);
    const names = this.lines.map(({ name }) => name);
    const unknown = Object.keys(wanted).find((name) => !names.includes(name));
    if (unknown !== undefined) {
      throw errors.badLaunchValue('consoles', `there is no console '${unknown}'; there is ${names.join(', ')}`);
    }
    for (const line of this.lines) {
      const to = wanted[line.name] ?? TERMINAL;
      if (to === NONE) continue;
      const append = to === TERMINAL ? undefined : await createFile(files, to);
      this.ends.set(line.name, { line, append, delivered: line.sent(), waiting: [] });
    }
  }

  private take(name: string, bytes: Iterable<number>): void {
    const end = this.ends.get(name);
    if (!end) return;
    const fresh = end.line.sent() - end.delivered;
    if (fresh <= 0) return;
    for (const byte of [...bytes].slice(-fresh)) end.waiting.push(byte);
    end.delivered = end.line.sent();
  }

  /** Hands on what has been sent since the last time. @param show for a terminal */
  flush(show: (name: string, bytes: readonly number[]) => void): void {
    for (const end of this.ends.values()) {
      if (end.waiting.length === 0) continue;
      const bytes = end.waiting;
      end.waiting = [];
      if (end.append) end.append(Uint8Array.from(bytes));
      else show(end.line.name, bytes);
    }
  }

  /** What was sent later has not been sent. */
  forgetFuture(): void {
    for (const end of this.ends.values()) end.delivered = end.line.sent();
  }

  /** @throws noConsole */
  input(name: string, bytes: Uint8Array): OutsideEvent {
    const line = this.lines.find((each) => each.name === name);
    if (!line) throw errors.noConsole(name, this.lines.map((each) => each.name).join(', '));
    return line.input(bytes);
  }

  /** Bytes that the guest has sent, by console. */
  get sent(): Record<string, number> {
    return Object.fromEntries(this.lines.map((line) => [line.name, line.sent()]));
  }
}

async function createFile(files: FileReader, path: string): Promise<(bytes: Uint8Array) => void> {
  let problem = 'files cannot be written here';
  try {
    const append = await files.createFile?.(path);
    if (append) return append;
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  throw errors.badLaunchValue('consoles', `${path}: ${problem}`);
}
