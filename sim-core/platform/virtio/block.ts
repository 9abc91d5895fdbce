/** The virtio block device (virtio 1.2, section 5.2). */

import type { Chain } from './chain.ts';
import { CopyOnWriteDisk, type DiskImage } from './disk.ts';
import type { VirtioDevice, VirtioModel } from './transport.ts';

const SECTOR = 512;
const QUEUE_SIZE = 128;
const FEATURE = { segmentMaximum: 1n << 2n, readOnly: 1n << 5n, blockSize: 1n << 6n, flush: 1n << 9n } as const;
const REQUEST = { read: 0, write: 1, flush: 4, identify: 8 } as const;
const STATUS = { ok: 0, ioError: 1, unsupported: 2 } as const;
const HEADER_SIZE = 16;
const IDENTITY = 'vmxray disk';
const IDENTITY_SIZE = 20;

export interface BlockOptions {
  readonly disk: DiskImage;
  /** What the guest writes goes into the image. Default: into memory, and the image stays as it is. */
  readonly writeThrough?: boolean;
  readonly readOnly?: boolean;
}

/** What a request leaves: its status, and the data that was read. */
interface Answer {
  readonly status: number;
  readonly data?: Uint8Array;
}

export class VirtioBlock implements VirtioModel {
  readonly name = 'virtio-blk';
  readonly id = 2;
  readonly classCode = 0x01_0000;
  readonly features: bigint;
  readonly queueSizes = [QUEUE_SIZE];
  readonly configuration: Uint8Array;
  private readonly disk: DiskImage;
  private readonly overlay: CopyOnWriteDisk | undefined;
  private readonly readOnly: boolean;

  constructor({ disk, writeThrough = false, readOnly = false }: BlockOptions) {
    this.overlay = writeThrough ? undefined : new CopyOnWriteDisk(disk);
    this.disk = this.overlay ?? disk;
    this.readOnly = readOnly;
    this.features = FEATURE.segmentMaximum | FEATURE.blockSize | FEATURE.flush | (readOnly ? FEATURE.readOnly : 0n);
    this.configuration = new Uint8Array(24);
    const view = new DataView(this.configuration.buffer);
    view.setBigUint64(0, BigInt(this.sectors), true);
    view.setUint32(12, QUEUE_SIZE - 2, true);
    view.setUint32(20, SECTOR, true);
  }

  private get sectors(): number {
    return Math.floor(this.disk.size / SECTOR);
  }

  serve(queue: number, device: VirtioDevice): void {
    const chains = device.queues[queue];
    for (let chain = chains?.take(); chain; chain = chains?.take()) this.request(queue, chain, device);
  }

  /** The last byte of the room for the answer is the status. */
  private request(index: number, chain: Chain, device: VirtioDevice): void {
    const queue = device.queues[index];
    const room = queue ? queue.room(chain) : 0;
    if (!queue || room === 0) {
      device.complete(index, chain, 0);
      return;
    }
    const bytes = queue.gather(chain);
    if (!bytes) return;
    const { status, data } = this.answer(bytes, room - 1);
    if (data) queue.scatter(chain, data);
    queue.scatter(chain, Uint8Array.of(status), room - 1);
    device.complete(index, chain, (data?.length ?? 0) + 1);
  }

  /** @param bytes header and data from the driver @param room bytes for data from the device */
  private answer(bytes: Uint8Array, room: number): Answer {
    if (bytes.length < HEADER_SIZE) return { status: STATUS.ioError };
    const header = new DataView(bytes.buffer, bytes.byteOffset);
    const sector = Number(header.getBigUint64(8, true));
    const data = bytes.subarray(HEADER_SIZE);
    switch (header.getUint32(0, true)) {
      case REQUEST.read:
        return this.transfer(sector, room, () => ({ data: this.disk.read(sector * SECTOR, room) }));
      case REQUEST.write:
        return this.transfer(sector, data.length, () => this.write(sector * SECTOR, data));
      case REQUEST.flush:
        return { status: STATUS.ok };
      case REQUEST.identify:
        return { status: STATUS.ok, data: identity(room) };
      default:
        return { status: STATUS.unsupported };
    }
  }

  private write(offset: number, data: Uint8Array): Partial<Answer> {
    if (this.readOnly || !this.disk.write) return { status: STATUS.ioError };
    this.disk.write(offset, data);
    return {};
  }

  /** Whole sectors inside the disk; an image that fails is an I/O error. */
  private transfer(sector: number, length: number, act: () => Partial<Answer>): Answer {
    if (length % SECTOR !== 0 || sector + length / SECTOR > this.sectors) return { status: STATUS.ioError };
    try {
      return { status: STATUS.ok, ...act() };
    } catch {
      return { status: STATUS.ioError };
    }
  }

  /** The disk keeps its contents. */
  reset(): void {}

  snapshot(): unknown {
    return this.overlay?.snapshot();
  }

  restore(saved: unknown): void {
    if (saved instanceof Map) this.overlay?.restore(saved);
  }
}

const identity = (room: number): Uint8Array =>
  Uint8Array.from({ length: Math.min(room, IDENTITY_SIZE) }, (_, at) => IDENTITY.charCodeAt(at) || 0);
