/** Message-signalled interrupts: the MSI and MSI-X capabilities (PCI Local Bus Specification 3.0, section 6.8). */

import type { Snapshotted } from '../device.ts';
import type { ConfigSpace } from './config-space.ts';

/** Sends a message: a write of 32 bits. */
export type SendMessage = (address: bigint, data: number) => void;

const CAPABILITY = { msi: 0x05, msix: 0x11 } as const;

const address64 = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);

/** Offsets in the MSI capability with 64-bit address and per-vector masking. */
const MSI = { control: 2, address: 4, addressHigh: 8, data: 12, mask: 16, pending: 20, size: 24 } as const;
const MSI_ENABLE = 1;
const MSI_64_BITS = 0x80;
const MSI_MASKING = 0x100;

/** One vector, 64-bit address, maskable. */
export class MsiCapability {
  private readonly config: ConfigSpace;
  private readonly at: number;

  constructor(config: ConfigSpace) {
    this.config = config;
    this.at = config.addCapability(CAPABILITY.msi, MSI.size);
    config.define(this.at + MSI.control, 2, MSI_64_BITS | MSI_MASKING, MSI_ENABLE);
    config.define(this.at + MSI.address, 4, 0, 0xffff_fffc);
    config.define(this.at + MSI.addressHigh, 4, 0, 0xffff_ffff);
    config.define(this.at + MSI.data, 2, 0, 0xffff);
    config.define(this.at + MSI.mask, 4, 0, 1);
  }

  get enabled(): boolean {
    return (this.config.get(this.at + MSI.control, 2) & MSI_ENABLE) !== 0;
  }

  signal(send: SendMessage): void {
    const { config, at } = this;
    if (config.get(at + MSI.mask, 4) & 1) {
      config.set(at + MSI.pending, 4, 1);
      return;
    }
    const address = address64(config.get(at + MSI.address, 4), config.get(at + MSI.addressHigh, 4));
    send(address, config.get(at + MSI.data, 2));
  }

  /** Software wrote configuration space: a pending message goes out when nothing masks it any more. */
  changed(send: SendMessage): void {
    const { config, at } = this;
    if (!this.enabled || config.get(at + MSI.pending, 4) === 0 || config.get(at + MSI.mask, 4) & 1) return;
    config.set(at + MSI.pending, 4, 0);
    this.signal(send);
  }
}

const MSIX = { control: 2, table: 4, pending: 8, size: 12 } as const;
const MSIX_ENABLE = 0x8000;
const MSIX_FUNCTION_MASK = 0x4000;
const ENTRY_SIZE = 16;
const ENTRY_MASK = 1;
/** Where the pending bits are in the region that the table begins. */
const PENDING_OFFSET = 0x800;
const MOST_VECTORS = PENDING_OFFSET / ENTRY_SIZE;

export interface MsixState {
  /** Four words for each vector: address low, high, data, control. */
  readonly table: readonly number[];
  readonly pending: readonly boolean[];
}

export class MsixCapability implements Snapshotted<MsixState> {
  private readonly config: ConfigSpace;
  private readonly at: number;
  private readonly vectors: number;
  private readonly send: SendMessage;
  private table: number[] = [];
  private pending: boolean[] = [];

  /** @param bar number of the register whose region holds the table and, at 800h, the pending bits */
  constructor(config: ConfigSpace, vectors: number, bar: number, send: SendMessage) {
    if (vectors < 1 || vectors > MOST_VECTORS) throw new RangeError(`${vectors} MSI-X vectors`);
    this.config = config;
    this.vectors = vectors;
    this.send = send;
    this.at = config.addCapability(CAPABILITY.msix, MSIX.size);
    config.define(this.at + MSIX.control, 2, vectors - 1, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    config.define(this.at + MSIX.table, 4, bar);
    config.define(this.at + MSIX.pending, 4, PENDING_OFFSET | bar);
    this.reset();
  }

  /** Every vector masked, nothing pending. */
  reset(): void {
    this.table = Array.from({ length: 4 * this.vectors }, (_, word) => (word % 4 === 3 ? ENTRY_MASK : 0));
    this.pending = new Array<boolean>(this.vectors).fill(false);
  }

  private get control(): number {
    return this.config.get(this.at + MSIX.control, 2);
  }

  get enabled(): boolean {
    return (this.control & MSIX_ENABLE) !== 0;
  }

  private isMasked(vector: number): boolean {
    return (this.control & MSIX_FUNCTION_MASK) !== 0 || ((this.table[4 * vector + 3] ?? ENTRY_MASK) & ENTRY_MASK) !== 0;
  }

  /** A vector that the table does not have is none. */
  signal(vector: number): void {
    if (vector >= this.vectors) return;
    this.pending[vector] = this.isMasked(vector);
    if (this.pending[vector]) return;
    const [low = 0, high = 0, data = 0] = this.table.slice(4 * vector, 4 * vector + 3);
    this.send(address64(low - (low & 3), high), data);
  }

  changed(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.vectors; vector++) {
      if (this.pending[vector] && !this.isMasked(vector)) this.signal(vector);
    }
  }

  read(offset: number, size: number): number {
    const word = this.readWord(offset & ~3);
    return size === 4 ? word : (word >>> (8 * (offset & 3))) & (size === 2 ? 0xffff : 0xff);
  }

  private readWord(offset: number): number {
    if (offset < PENDING_OFFSET) return this.table[offset / 4] ?? 0;
    const first = (offset - PENDING_OFFSET) * 8;
    const bits = this.pending.slice(first, first + 32);
    return bits.reduce((word, bit, at) => (bit ? word | (1 << at) : word), 0) >>> 0;
  }

  /** The table takes whole words; the pending bits are for reading. */
  write(offset: number, size: number, value: number): void {
    if (size !== 4 || offset & 3 || offset / 4 >= this.table.length) return;
    this.table[offset / 4] = value;
    this.changed();
  }

  snapshot(): MsixState {
    return { table: [...this.table], pending: [...this.pending] };
  }

  restore(saved: MsixState): void {
    this.table = [...saved.table];
    this.pending = [...saved.pending];
  }
}
