/** The virtio console (virtio 1.2, section 5.3): one port. */

import type { VirtioDevice, VirtioModel } from './transport.ts';

const RECEIVE = 0;
const TRANSMIT = 1;

/** The far end of a console's port. The device takes `onInput` for itself. */
export class ConsolePort {
  /** Told the bytes that the guest sends. */
  onOutput: ((bytes: Uint8Array) => void) | undefined;
  /** Bytes that the guest has sent since boot, which a replay of the past counts again; the device's. */
  sent = 0;
  /** Told of input; the device's. */
  onInput: ((bytes: Uint8Array) => void) | undefined;

  /** Queues bytes for the guest to receive. */
  input(bytes: Uint8Array): void {
    this.onInput?.(bytes);
  }
}

interface ConsoleState {
  readonly waiting: readonly number[];
  readonly sent: number;
}

export class VirtioConsole implements VirtioModel {
  readonly name = 'virtio-console';
  readonly id = 3;
  readonly classCode = 0x07_8000;
  readonly features = 0n;
  readonly queueSizes = [64, 64];
  readonly configuration = new Uint8Array(12);
  private readonly port: ConsolePort;
  private device: VirtioDevice | undefined;
  /** Bytes that the guest has not given room for yet. */
  private waiting: number[] = [];

  constructor(port: ConsolePort) {
    this.port = port;
  }

  attach(device: VirtioDevice): void {
    this.device = device;
    this.port.onInput = (bytes) => this.input(bytes);
  }

  input(bytes: Uint8Array): void {
    this.waiting.push(...bytes);
    this.device?.wake(RECEIVE);
  }

  serve(index: number, device: VirtioDevice): void {
    if (index === TRANSMIT) this.transmit(device);
    else this.receive(device);
  }

  private transmit(device: VirtioDevice): void {
    const queue = device.queues[TRANSMIT];
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const bytes = queue.gather(chain);
      if (!bytes) return;
      this.port.sent += bytes.length;
      this.port.onOutput?.(bytes);
      device.complete(TRANSMIT, chain, 0);
    }
  }

  private receive(device: VirtioDevice): void {
    const queue = device.queues[RECEIVE];
    while (queue && this.waiting.length > 0) {
      const chain = queue.take();
      if (!chain) return;
      const bytes = Uint8Array.from(this.waiting.splice(0, queue.room(chain)));
      queue.scatter(chain, bytes);
      device.complete(RECEIVE, chain, bytes.length);
    }
  }

  /** Input that waits for the guest stays. */
  reset(): void {}

  snapshot(): ConsoleState {
    return { waiting: [...this.waiting], sent: this.port.sent };
  }

  restore(saved: unknown): void {
    const { waiting, sent } = saved as ConsoleState;
    this.waiting = [...waiting];
    this.port.sent = sent;
  }
}
