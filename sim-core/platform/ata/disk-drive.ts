/** An ATA disk (ATA8-ACS, general feature set and 48-bit addresses). */

import { CopyOnWriteDisk, type DiskImage } from '../virtio/disk.ts';
import { bytesOf, DEVICE, type Direction, Drive, type DriveState, ERROR, IDLE, putText } from './drive.ts';

const SECTOR = 512;
const HEADS = 16;
const SECTORS_PER_TRACK = 63;
const MOST_CYLINDERS = 16_383;
const LBA28_LIMIT = 2 ** 28;
/** Sectors of a block of READ MULTIPLE at most, and of a block by DMA. */
const MOST_MULTIPLE = 16;
const DMA_BLOCK = 128;
const DEVICE_ACTIVE = 0xff;
/** SET FEATURES subcommands: transfer mode, and caches and look-ahead on and off, which change nothing here. */
const ACCEPTED_FEATURES = new Set([0x02, 0x03, 0x55, 0x66, 0x82, 0xaa, 0xcc]);

export interface AtaDiskOptions {
  readonly disk: DiskImage;
  /** What the guest writes goes into the image. Default: into memory, and the image stays as it is. */
  readonly writeThrough?: boolean;
}

/** How a command addresses and moves sectors. */
interface Transfer {
  readonly direction: Direction;
  readonly wide?: boolean;
  readonly dma?: boolean;
  /** Blocks as SET MULTIPLE MODE has set them; otherwise single sectors. */
  readonly multiple?: boolean;
}

const TRANSFERS: ReadonlyMap<number, Transfer> = new Map<number, Transfer>([
  [0x20, { direction: 'in' }], // READ SECTOR(S), with and without retries
  [0x21, { direction: 'in' }],
  [0x24, { direction: 'in', wide: true }],
  [0x25, { direction: 'in', wide: true, dma: true }],
  [0x29, { direction: 'in', wide: true, multiple: true }],
  [0x30, { direction: 'out' }], // WRITE SECTOR(S)
  [0x31, { direction: 'out' }],
  [0x34, { direction: 'out', wide: true }],
  [0x35, { direction: 'out', wide: true, dma: true }],
  [0x39, { direction: 'out', wide: true, multiple: true }],
  [0xc4, { direction: 'in', multiple: true }],
  [0xc5, { direction: 'out', multiple: true }],
  [0xc8, { direction: 'in', dma: true }],
  [0xca, { direction: 'out', dma: true }],
]);

interface Work {
  readonly transfer: Transfer;
  /** The next sector, and how many there are from it on. */
  sector: number;
  left: number;
}

interface Saved {
  readonly state: DriveState;
  readonly work: Work | undefined;
  readonly multiple: number;
  readonly blocks: ReadonlyMap<number, Uint8Array> | undefined;
}

export class AtaDisk extends Drive {
  protected readonly signature = { mid: 0, high: 0, status: IDLE };
  private readonly disk: DiskImage;
  private readonly overlay: CopyOnWriteDisk | undefined;
  private readonly sectors: number;
  private work: Work | undefined;
  /** Sectors of a block of READ MULTIPLE; 0: not set. */
  private multiple = MOST_MULTIPLE;

  constructor({ disk, writeThrough = false }: AtaDiskOptions) {
    super();
    this.overlay = writeThrough ? undefined : new CopyOnWriteDisk(disk);
    this.disk = this.overlay ?? disk;
    this.sectors = Math.floor(disk.size / SECTOR);
  }

  private readonly commands: ReadonlyMap<number, () => void> = new Map([
    [0x10, () => this.succeed()], // RECALIBRATE
    [0x40, () => this.verify(false)], // READ VERIFY SECTOR(S)
    [0x41, () => this.verify(false)],
    [0x42, () => this.verify(true)],
    [0x70, () => this.succeed()], // SEEK
    [0x91, () => this.succeed()], // INITIALIZE DEVICE PARAMETERS
    [0xc6, () => this.setMultiple()],
    [0xe0, () => this.succeed()], // STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE
    [0xe1, () => this.succeed()],
    [0xe2, () => this.succeed()],
    [0xe3, () => this.succeed()],
    [0xe5, () => this.checkPower()],
    [0xe7, () => this.succeed()], // FLUSH CACHE
    [0xea, () => this.succeed()],
    [0xec, () => this.begin('in', bytesOf(this.identity()), false)],
    [0xef, () => this.setFeatures()],
    [0xf8, () => this.readNativeMaximum(false)],
    [0x27, () => this.readNativeMaximum(true)],
  ]);

  protected override execute(code: number): void {
    this.work = undefined;
    const transfer = TRANSFERS.get(code);
    const other = this.commands.get(code);
    if (transfer) this.transfer(transfer);
    else if (other) other();
    else this.fail(ERROR.abort);
  }

  override reset(): void {
    this.work = undefined;
    super.reset();
  }

  // Addresses

  /** The sector that the registers name: by number, or by cylinder, head and sector (from 1 on). */
  private address(wide: boolean): number {
    const { low, mid, high, device } = this.state;
    const bottom = (low & 0xff) + 2 ** 8 * (mid & 0xff) + 2 ** 16 * (high & 0xff);
    if (wide) return bottom + 2 ** 24 * (low >> 8) + 2 ** 32 * (mid >> 8) + 2 ** 40 * (high >> 8);
    const head = device & DEVICE.lowBits;
    if (device & DEVICE.lba) return bottom + 2 ** 24 * head;
    const cylinder = (mid & 0xff) + 2 ** 8 * (high & 0xff);
    return (cylinder * HEADS + head) * SECTORS_PER_TRACK + (low & 0xff) - 1;
  }

  /** Zero stands for the number that does not fit. */
  private count(wide: boolean): number {
    return wide ? this.state.count || 0x1_0000 : this.state.count & 0xff || 0x100;
  }

  private isInside(sector: number, count: number): boolean {
    return sector >= 0 && sector + count <= this.sectors;
  }

  private verify(wide: boolean): void {
    if (this.isInside(this.address(wide), this.count(wide))) this.succeed();
    else this.fail(ERROR.abort);
  }

  // Transfers

  private transfer(transfer: Transfer): void {
    const { wide = false, multiple = false } = transfer;
    const sector = this.address(wide);
    const left = this.count(wide);
    if (!this.isInside(sector, left) || (multiple && this.multiple === 0)) {
      this.fail(ERROR.abort);
      return;
    }
    this.work = { transfer, sector, left };
    // The first block to be written is asked for without an interrupt.
    this.next(this.work, transfer.direction === 'out');
  }

  private blockSize({ transfer, left }: Work): number {
    const whole = transfer.dma ? DMA_BLOCK : transfer.multiple ? this.multiple : 1;
    return Math.min(left, whole);
  }

  private next(work: Work, quiet: boolean): void {
    const { transfer, sector } = work;
    const { direction, dma = false } = transfer;
    const length = this.blockSize(work) * SECTOR;
    const bytes = this.attempt(ERROR.uncorrectable, () =>
      direction === 'in' ? this.disk.read(sector * SECTOR, length) : new Uint8Array(length),
    );
    if (bytes) this.begin(direction, bytes, dma, quiet);
  }

  /** An image that fails ends the command. */
  private attempt<Result>(error: number, act: () => Result): Result | undefined {
    try {
      return act();
    } catch {
      this.work = undefined;
      this.fail(error);
      return undefined;
    }
  }

  protected override blockDone(bytes: Uint8Array): void {
    const { work } = this;
    // IDENTIFY DEVICE has no more than its one block.
    if (!work) return;
    const { direction, dma = false } = work.transfer;
    if (direction === 'out' && !this.attempt(ERROR.abort, () => this.put(work.sector, bytes))) return;
    work.sector += bytes.length / SECTOR;
    work.left -= bytes.length / SECTOR;
    if (work.left > 0) {
      this.next(work, false);
      return;
    }
    this.work = undefined;
    // A program that has read the last block knows that it has.
    if (direction === 'out' || dma) this.succeed();
  }

  private put(sector: number, bytes: Uint8Array): true {
    if (!this.disk.write) throw new RangeError('the image cannot be changed');
    this.disk.write(sector * SECTOR, bytes);
    return true;
  }

  // Other commands

  private setMultiple(): void {
    const count = this.state.count & 0xff;
    if (count > MOST_MULTIPLE || (count & (count - 1)) !== 0) {
      this.fail(ERROR.abort);
      return;
    }
    this.multiple = count;
    this.succeed();
  }

  private setFeatures(): void {
    if (ACCEPTED_FEATURES.has(this.state.features & 0xff)) this.succeed();
    else this.fail(ERROR.abort);
  }

  private checkPower(): void {
    this.state.count = DEVICE_ACTIVE;
    this.succeed();
  }

  private readNativeMaximum(wide: boolean): void {
    const last = Math.min(this.sectors, wide ? Number.POSITIVE_INFINITY : LBA28_LIMIT) - 1;
    const byte = (n: number): number => Math.floor(last / 2 ** (8 * n)) % 256;
    const upper = (n: number): number => (wide ? byte(n) << 8 : 0);
    this.state.low = byte(0) | upper(3);
    this.state.mid = byte(1) | upper(4);
    this.state.high = byte(2) | upper(5);
    if (!wide) this.state.device = (this.state.device & ~DEVICE.lowBits) | (byte(3) & DEVICE.lowBits);
    this.succeed();
  }

  /** IDENTIFY DEVICE data (ATA8-ACS, table 21). */
  private identity(): Uint16Array {
    const words = new Uint16Array(256);
    const cylinders = Math.min(MOST_CYLINDERS, Math.floor(this.sectors / (HEADS * SECTORS_PER_TRACK)));
    const put = (first: number, ...values: number[]): void => words.set(values, first);
    const reachable = Math.min(this.sectors, LBA28_LIMIT - 1);
    const wide = (value: number): number[] => [0, 1, 2, 3].map((i) => Math.floor(value / 2 ** (16 * i)) % 2 ** 16);
    put(0, 0x0040, cylinders);
    put(3, HEADS);
    put(6, SECTORS_PER_TRACK);
    putText(words, 10, 10, 'VMXRAY1');
    putText(words, 23, 4, '1.0');
    putText(words, 27, 20, 'VMXRAY ATA DISK');
    // READ MULTIPLE; LBA and DMA; words 54 to 58, 64 to 70 and 88 are valid.
    put(47, 0x8000 | MOST_MULTIPLE);
    put(49, 0x0300, 0x4000);
    put(53, 0x0007, cylinders, HEADS, SECTORS_PER_TRACK, ...wide(cylinders * HEADS * SECTORS_PER_TRACK).slice(0, 2));
    put(59, 0x0100 | this.multiple, ...wide(reachable).slice(0, 2));
    // Multiword DMA 0 to 2; PIO 3 and 4 with cycles of 120 ns; ATA-4 to ATA-7.
    put(63, 0x0007, 0x0003, 120, 120, 120, 120);
    put(80, 0x00f0);
    // Supported and enabled: 48-bit addresses, FLUSH CACHE (EXT).
    put(82, 0x4000, 0x7400, 0x4000, 0x4000, 0x3400, 0x4000);
    // Ultra DMA 0 to 5, of which 5 is on; the cable is one of 80 wires.
    put(88, 0x203f);
    put(93, 0x6001);
    put(100, ...wide(this.sectors));
    return words;
  }

  override snapshot(): Saved {
    const { state, work, multiple, overlay } = this;
    return { ...structuredClone({ state, work, multiple }), blocks: overlay?.snapshot() };
  }

  override restore(saved: unknown): void {
    const { state, work, multiple, blocks } = saved as Saved;
    Object.assign(this, structuredClone({ state, work, multiple }));
    if (blocks) this.overlay?.restore(blocks);
  }
}
