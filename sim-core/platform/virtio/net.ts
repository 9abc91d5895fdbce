/** The virtio network card (virtio 1.2, section 5.1), and the switch between the cards of a machine. */

import type { VirtioDevice, VirtioModel } from './transport.ts';

const RECEIVE = 0;
const TRANSMIT = 1;
const FEATURE = { mac: 1n << 5n, status: 1n << 16n } as const;
const LINK_UP = 1;
/** struct virtio_net_hdr, with num_buffers as version 1 always has it. */
const HEADER_SIZE = 12;
const BUFFERS_OFFSET = 10;
const SHORTEST_FRAME = 14;
/** Frames that wait for the guest; more are dropped, as a card without room does. */
const LONGEST_LINE = 256;
const MAC_SIZE = 6;

/** Carries frames between the cards of one machine: to the card that has the address, else to all others. */
export class NetworkSwitch {
  private readonly cards: VirtioNet[] = [];

  /** @returns the address of the card: locally administered, by its number */
  connect(card: VirtioNet): Uint8Array {
    this.cards.push(card);
    return Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, this.cards.length);
  }

  forward(from: VirtioNet, frame: Uint8Array): void {
    const destination = frame.subarray(0, MAC_SIZE);
    const addressee = this.cards.find((card) => card.mac.every((byte, at) => byte === destination[at]));
    for (const card of addressee ? [addressee] : this.cards) if (card !== from) card.deliver(frame);
  }
}

export class VirtioNet implements VirtioModel {
  readonly name = 'virtio-net';
  readonly id = 1;
  readonly classCode = 0x02_0000;
  readonly features = FEATURE.mac | FEATURE.status;
  readonly queueSizes = [256, 256];
  readonly configuration = new Uint8Array(12);
  readonly mac: Uint8Array;
  private readonly network: NetworkSwitch;
  private device: VirtioDevice | undefined;
  private waiting: Uint8Array[] = [];

  constructor(network: NetworkSwitch) {
    this.network = network;
    this.mac = network.connect(this);
    this.configuration.set(this.mac);
    this.configuration[MAC_SIZE] = LINK_UP;
  }

  attach(device: VirtioDevice): void {
    this.device = device;
  }

  /** A frame arrives. */
  deliver(frame: Uint8Array): void {
    if (!this.device?.isRunning || this.waiting.length >= LONGEST_LINE) return;
    this.waiting.push(frame);
    this.device.wake(RECEIVE);
  }

  /** A frame from outside the machine. */
  input(bytes: Uint8Array): void {
    this.deliver(bytes);
  }

  serve(index: number, device: VirtioDevice): void {
    if (index === TRANSMIT) this.transmit(device);
    else this.receive(device);
  }

  private transmit(device: VirtioDevice): void {
    const queue = device.queues[TRANSMIT];
    for (let chain = queue?.take(); queue && chain; chain = queue.take()) {
      const frame = queue.gather(chain)?.slice(HEADER_SIZE);
      if (!frame) return;
      device.complete(TRANSMIT, chain, 0);
      if (frame.length >= SHORTEST_FRAME) this.network.forward(this, frame);
    }
  }

  /** A frame that does not fit the driver's buffer is dropped. */
  private receive(device: VirtioDevice): void {
    const queue = device.queues[RECEIVE];
    while (queue && this.waiting.length > 0) {
      const chain = queue.take();
      if (!chain) return;
      const frame = this.waiting.shift() ?? new Uint8Array();
      const bytes = new Uint8Array(HEADER_SIZE + frame.length);
      bytes[BUFFERS_OFFSET] = 1;
      bytes.set(frame, HEADER_SIZE);
      const fits = bytes.length <= queue.room(chain);
      if (fits) queue.scatter(chain, bytes);
      device.complete(RECEIVE, chain, fits ? bytes.length : 0);
    }
  }

  reset(): void {
    this.waiting = [];
  }

  snapshot(): unknown {
    return this.waiting;
  }

  restore(saved: unknown): void {
    if (Array.isArray(saved)) this.waiting = saved.filter((frame) => frame instanceof Uint8Array);
  }
}
