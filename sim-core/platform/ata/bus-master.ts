/** A channel's bus master: it moves a drive's data to and from memory by a table of physical regions. */

import type { PciFunction } from '../pci/function.ts';
import type { Channel } from './channel.ts';

const REGISTER = { command: 0, status: 2, table: 4 } as const;
const COMMAND = { start: 0x01, toMemory: 0x08 } as const;
const STATUS = { active: 0x01, error: 0x02, interrupt: 0x04, drivesCan: 0x60 } as const;
/** A region: its address, its length (0 stands for 64 KiB), and in bit 31 of that doubleword that it is the last. */
const REGION = { size: 8, last: 0x8000_0000, largest: 0x1_0000 } as const;
/** The table must not cross a boundary of 64 KiB, which limits how many regions it has. */
const MOST_REGIONS = 0x1_0000 / REGION.size;

export interface BusMasterState {
  command: number;
  status: number;
  table: number;
}

interface Region {
  readonly address: bigint;
  readonly length: number;
  readonly isLast: boolean;
}

export class BusMaster {
  private readonly channel: Channel;
  private readonly memory: PciFunction;
  private state: BusMasterState = { command: 0, status: 0, table: 0 };

  constructor(channel: Channel, memory: PciFunction) {
    this.channel = channel;
    this.memory = memory;
  }

  read(offset: number, size: number): number {
    const { command, status, table } = this.state;
    if (offset === REGISTER.command) return size === 1 ? command : command + 2 ** 16 * status;
    if (offset === REGISTER.status) return status;
    return Math.floor(table / 2 ** (8 * (offset - REGISTER.table))) % 2 ** (8 * size);
  }

  write(offset: number, size: number, value: number): void {
    if (offset === REGISTER.command) this.setCommand(value & 0xff);
    else if (offset === REGISTER.status) this.setStatus(value & 0xff);
    else if (offset === REGISTER.table && size === 4) this.state.table = (value & ~3) >>> 0;
  }

  /** Writing ones clears error and interrupt. Clearing the start bit ends a transfer. */
  private setStatus(value: number): void {
    const { status } = this.state;
    const cleared = value & (STATUS.error | STATUS.interrupt);
    this.state.status = (status & ~cleared & ~STATUS.drivesCan) | (value & STATUS.drivesCan);
  }

  private setCommand(value: number): void {
    const starts = (value & ~this.state.command & COMMAND.start) !== 0;
    this.state.command = value & (COMMAND.start | COMMAND.toMemory);
    if ((value & COMMAND.start) === 0) this.state.status &= ~STATUS.active;
    else if (starts) this.start();
  }

  /** The drive has asserted INTRQ. */
  noteInterrupt(): void {
    this.state.status |= STATUS.interrupt;
  }

  /** A host gives the command to the drive before it starts the bus master. */
  private start(): void {
    this.state.status |= STATUS.active;
    const toMemory = (this.state.command & COMMAND.toMemory) !== 0;
    const drive = this.channel.selected;
    for (let at = 0; at < MOST_REGIONS && drive?.dma === (toMemory ? 'in' : 'out'); at++) {
      const region = this.region(at);
      const moved = region && (toMemory ? this.toMemory(region) : this.fromMemory(region));
      if (!moved) {
        this.state.status = (this.state.status & ~STATUS.active) | STATUS.error;
        return;
      }
      // Longer than the drive's data: the host sees that it is still active, and ends it.
      if (region.isLast) {
        if (drive.dma === undefined) this.state.status &= ~STATUS.active;
        return;
      }
    }
  }

  private region(at: number): Region | undefined {
    const bytes = this.memory.dmaRead(BigInt(this.state.table + REGION.size * at), REGION.size);
    if (!bytes) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = view.getUint16(4, true) & ~1 || REGION.largest;
    const isLast = (view.getUint32(4, true) & REGION.last) !== 0;
    return { address: BigInt((view.getUint32(0, true) & ~1) >>> 0), length, isLast };
  }

  private toMemory({ address, length }: Region): boolean {
    const bytes = this.channel.selected?.giveBytes(length);
    return bytes !== undefined && (bytes.length === 0 || this.memory.dmaWrite(address, bytes));
  }

  private fromMemory({ address, length }: Region): boolean {
    const bytes = this.memory.dmaRead(address, length);
    if (bytes) this.channel.selected?.takeBytes(bytes);
    return bytes !== undefined;
  }

  reset(): void {
    this.state = { command: 0, status: 0, table: 0 };
  }

  snapshot(): BusMasterState {
    return { ...this.state };
  }

  restore(saved: BusMasterState): void {
    this.state = { ...saved };
  }
}
