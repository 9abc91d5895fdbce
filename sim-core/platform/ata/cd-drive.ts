/** An ATAPI CD-ROM drive with a disc in it (ATA8-ACS, PACKET feature set; MMC for the commands in packets). */

import type { DiskImage } from '../virtio/disk.ts';
import { bytesOf, Drive, type DriveState, ERROR, putText } from './drive.ts';
import * as data from './packet-data.ts';

const PACKET_SIZE = 12;
/** Interrupt reason, in the sector count register: a packet is meant, and to the host. */
const REASON = { packet: 1, toHost: 2 } as const;
const FEATURE_DMA = 1;
/** Bytes that the drive has in hand at a time. */
const MOST_AT_ONCE = 0xfffe;
const DMA_CHUNK = 0x1_0000;
const DEVICE_ACTIVE = 0xff;
const SET_TRANSFER_MODE = 0x03;

/** Sense keys, and additional sense codes with their qualifiers. */
const SENSE = { none: 0, mediumError: 3, illegalRequest: 5 } as const;
const CODE = { none: 0, readError: 0x1100, badOperation: 0x2000, beyondEnd: 0x2100, badField: 0x2400 } as const;

/** What goes to the host for a packet: bytes, or a stretch of the disc. */
interface Reply {
  readonly bytes: Uint8Array | undefined;
  /** Where the next part of it is, and how many bytes are left. */
  offset: number;
  left: number;
  /** Bytes of a part at most. */
  readonly limit: number;
  readonly byDma: boolean;
}

interface CdState {
  key: number;
  code: number;
  waitsForPacket: boolean;
  reply: Reply | undefined;
}

interface Saved {
  readonly state: DriveState;
  readonly cd: CdState;
}

export class CdDrive extends Drive {
  protected readonly signature = { mid: 0x14, high: 0xeb, status: 0 };
  private readonly disc: DiskImage;
  private readonly blocks: number;
  private cd: CdState = { key: SENSE.none, code: CODE.none, waitsForPacket: false, reply: undefined };

  constructor(disc: DiskImage) {
    super();
    this.disc = disc;
    this.blocks = Math.floor(disc.size / data.BLOCK);
    this.state.status = this.signature.status;
    this.sign();
  }

  // ATA commands

  private readonly commands: ReadonlyMap<number, () => void> = new Map([
    [0x08, () => this.reset()], // DEVICE RESET
    [0xa0, () => this.askForPacket()],
    [0xa1, () => this.begin('in', bytesOf(identity()), false)],
    [0xe0, () => this.succeed()], // STANDBY IMMEDIATE, IDLE IMMEDIATE
    [0xe1, () => this.succeed()],
    [0xe5, () => this.checkPower()],
    [0xe7, () => this.succeed()], // FLUSH CACHE
    [0xef, () => this.setFeatures()],
  ]);
  /** A disk's commands by which a driver finds out that this is none: READ SECTOR(S), IDENTIFY DEVICE. */
  private readonly signing: ReadonlySet<number> = new Set([0x20, 0xec]);

  protected override execute(code: number): void {
    this.cd.waitsForPacket = false;
    this.cd.reply = undefined;
    const known = this.commands.get(code);
    if (known) {
      known();
      return;
    }
    if (this.signing.has(code)) this.sign();
    this.fail(ERROR.abort);
  }

  override reset(): void {
    this.cd = { key: SENSE.none, code: CODE.none, waitsForPacket: false, reply: undefined };
    super.reset();
  }

  private checkPower(): void {
    this.state.count = DEVICE_ACTIVE;
    this.succeed();
  }

  private setFeatures(): void {
    if ((this.state.features & 0xff) === SET_TRANSFER_MODE) this.succeed();
    else this.fail(ERROR.abort);
  }

  // Packets

  private reason(bits: number): void {
    this.state.count = (this.state.count & 0xff00) | bits;
  }

  /** Without an interrupt: the host looks whether the drive is ready for the packet. */
  private askForPacket(): void {
    this.cd.waitsForPacket = true;
    this.begin('out', new Uint8Array(PACKET_SIZE), false, true);
    this.reason(REASON.packet);
  }

  protected override blockDone(bytes: Uint8Array): void {
    if (this.cd.waitsForPacket) {
      this.cd.waitsForPacket = false;
      this.packet(bytes);
    } else if (this.cd.reply) {
      this.nextPart(this.cd.reply);
    }
  }

  private readonly packets: ReadonlyMap<number, (packet: DataView) => void> = new Map<
    number,
    (packet: DataView) => void
  >([
    [0x00, () => this.good()], // TEST UNIT READY
    [0x03, (packet) => this.requestSense(packet.getUint8(4))],
    [0x12, (packet) => this.answer(data.inquiry(), packet.getUint8(4))],
    [0x1b, (packet) => this.startStop(packet.getUint8(4))],
    [0x1e, () => this.good()], // PREVENT ALLOW MEDIUM REMOVAL: nobody removes it
    [0x25, () => this.answer(data.capacity(this.blocks), 8)],
    [0x28, (packet) => this.readBlocks(packet.getUint32(2), packet.getUint16(7))],
    [0x2b, (packet) => this.seek(packet.getUint32(2))],
    [0x43, (packet) => this.readTable(packet)],
    [0x46, (packet) => this.getConfiguration(packet)],
    [0x4a, (packet) => this.getEvents(packet)],
    [0x51, (packet) => this.answer(data.discInformation(), packet.getUint16(7))],
    [0x5a, (packet) => this.modeSense(packet)],
    [0xa8, (packet) => this.readBlocks(packet.getUint32(2), packet.getUint32(6))],
    [0xbd, (packet) => this.answer([0, 0, 0, 0, 0, 1, 0, 0], packet.getUint16(8))], // MECHANISM STATUS
  ]);

  private packet(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const operation = view.getUint8(0);
    const known = this.packets.get(operation);
    if (known) known(view);
    else this.check(SENSE.illegalRequest, CODE.badOperation);
  }

  /** The command is done. */
  private good(): void {
    this.cd.reply = undefined;
    this.setSense(SENSE.none, CODE.none);
    this.reason(REASON.packet | REASON.toHost);
    this.succeed();
  }

  /** CHECK CONDITION: the sense key is in the error register, and REQUEST SENSE tells the rest. */
  private check(key: number, code: number): void {
    this.cd.reply = undefined;
    this.setSense(key, code);
    this.reason(REASON.packet | REASON.toHost);
    this.fail((key << 4) | ERROR.abort);
  }

  private setSense(key: number, code: number): void {
    this.cd.key = key;
    this.cd.code = code;
  }

  /** @param allocation bytes that the host has room for */
  private answer(bytes: readonly number[] | undefined, allocation: number): void {
    if (!bytes) {
      this.check(SENSE.illegalRequest, CODE.badField);
      return;
    }
    const part = Uint8Array.from(bytes.slice(0, allocation));
    this.send(part, 0, part.length);
  }

  /** The byte count that the host has set is the most that it takes at a time; odd ones are for the last part only. */
  private send(bytes: Uint8Array | undefined, offset: number, left: number): void {
    if (left === 0) {
      this.good();
      return;
    }
    const byDma = (this.state.features & FEATURE_DMA) !== 0;
    const wanted = (this.state.mid & 0xff) | ((this.state.high & 0xff) << 8);
    if (!byDma && wanted === 0) {
      this.reason(REASON.packet | REASON.toHost);
      this.fail(ERROR.abort);
      return;
    }
    const even = wanted < left ? wanted & ~1 : wanted;
    const limit = byDma ? DMA_CHUNK : Math.min(even || 1, MOST_AT_ONCE);
    this.cd.reply = { bytes, offset, left, limit, byDma };
    this.nextPart(this.cd.reply);
  }

  private nextPart(reply: Reply): void {
    if (reply.left === 0) {
      this.good();
      return;
    }
    const { offset, byDma } = reply;
    const length = Math.min(reply.left, reply.limit);
    const part = reply.bytes ? reply.bytes.slice(offset, offset + length) : this.readDisc(offset, length);
    if (!part) return;
    reply.offset += length;
    reply.left -= length;
    this.state.mid = length & 0xff;
    this.state.high = (length >> 8) & 0xff;
    this.reason(REASON.toHost);
    this.begin('in', part, byDma);
  }

  private readDisc(offset: number, length: number): Uint8Array | undefined {
    try {
      return this.disc.read(offset, length);
    } catch {
      this.check(SENSE.mediumError, CODE.readError);
      return undefined;
    }
  }

  private readBlocks(block: number, count: number): void {
    if (count > 0 && block + count > this.blocks) this.check(SENSE.illegalRequest, CODE.beyondEnd);
    else this.send(undefined, block * data.BLOCK, count * data.BLOCK);
  }

  private seek(block: number): void {
    if (block < this.blocks) this.good();
    else this.check(SENSE.illegalRequest, CODE.beyondEnd);
  }

  /** Telling it ends it. */
  private requestSense(allocation: number): void {
    const { key, code } = this.cd;
    this.answer(data.senseData(key, code), allocation);
  }

  /** The disc cannot be ejected. */
  private startStop(bits: number): void {
    if (bits & 2) this.check(SENSE.illegalRequest, CODE.badField);
    else this.good();
  }

  private readTable(packet: DataView): void {
    const byTime = (packet.getUint8(1) & 2) !== 0;
    // Early drives had the format in the control byte.
    const format = packet.getUint8(2) & 0xf || packet.getUint8(9) >> 6;
    this.answer(data.tableOfContents(format, packet.getUint8(6), byTime, this.blocks), packet.getUint16(7));
  }

  private getConfiguration(packet: DataView): void {
    const type = packet.getUint8(1) & 3;
    const answer = type === 3 ? undefined : data.configuration(type, packet.getUint16(2), this.blocks);
    this.answer(answer, packet.getUint16(7));
  }

  /** Only when it is polled: the drive never tells of an event by itself. */
  private getEvents(packet: DataView): void {
    const polled = (packet.getUint8(1) & 1) !== 0;
    this.answer(polled ? data.eventStatus(packet.getUint8(4)) : undefined, packet.getUint16(7));
  }

  /** Current, changeable, default and saved values: nothing can be changed, and nothing is saved. */
  private modeSense(packet: DataView): void {
    const control = packet.getUint8(2) >> 6;
    const pages = control === 0 || control === 2 ? data.modePages(packet.getUint8(2) & 0x3f) : undefined;
    this.answer(pages, packet.getUint16(7));
  }

  override snapshot(): Saved {
    const { state, cd } = this;
    return structuredClone({ state, cd });
  }

  override restore(saved: unknown): void {
    const { state, cd } = structuredClone(saved as Saved);
    this.state = state;
    this.cd = cd;
  }
}

/** IDENTIFY PACKET DEVICE data (ATA8-ACS, table 41). */
function identity(): Uint16Array {
  const words = new Uint16Array(256);
  const put = (first: number, ...values: number[]): void => words.set(values, first);
  // A CD-ROM drive with a removable medium, ready for a packet of 12 bytes in 50 us.
  put(0, 0x85c0);
  putText(words, 10, 10, 'VMXRAY2');
  putText(words, 23, 4, '1.0');
  putText(words, 27, 20, 'VMXRAY CD-ROM');
  // LBA and DMA; words 64 to 70 and 88 are valid.
  put(49, 0x0300);
  put(53, 0x0006);
  // Multiword DMA 0 to 2; PIO 3 and 4 with cycles of 120 ns; ATA-4 to ATA-7.
  put(63, 0x0007, 0x0003, 120, 120, 120, 120);
  put(80, 0x00f0);
  // PACKET, DEVICE RESET, NOP.
  put(82, 0x4210, 0x4000, 0x4000, 0x4210, 0x0000, 0x4000);
  put(88, 0x203f);
  put(93, 0x6001);
  return words;
}
