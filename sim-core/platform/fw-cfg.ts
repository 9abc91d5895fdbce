/** QEMU's firmware configuration device (QEMU, "fw_cfg device specification"): files by number, over ports and DMA. */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import type { PortDevice, Snapshotted } from './device.ts';

const PORT = { selector: 0x510, data: 0x511, dmaHigh: 0x514, dmaLow: 0x518 } as const;
export const FW_CFG_PORTS = { start: PORT.selector, size: 12 } as const;

/** Items with fixed numbers. */
const KEY = {
  signature: 0x00,
  identity: 0x01,
  ramSize: 0x03,
  processors: 0x05,
  directory: 0x19,
  firstFile: 0x20,
} as const;
/** The traditional interface and DMA. */
const FEATURES = 3;
const DMA_SIGNATURE = new TextEncoder().encode('QEMU CFG');
const DMA = { error: 1, read: 2, skip: 4, select: 8, write: 16, size: 16 } as const;
const NAME_SIZE = 56;

export interface FwCfgState {
  readonly key: number;
  readonly offset: number;
  readonly dmaHigh: number;
}

/** Little-endian words of a given size. */
function littleEndian(size: 2 | 4 | 8, value: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = Math.floor(value / 256 ** i) & 0xff;
  return bytes;
}

/** The directory: how many files, then size, key, name of each; big-endian. */
function directory(files: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const entrySize = 8 + NAME_SIZE;
  const view = new DataView(new ArrayBuffer(4 + files.length * entrySize));
  view.setUint32(0, files.length);
  files.forEach(([name, contents], i) => {
    view.setUint32(4 + i * entrySize, contents.length);
    view.setUint16(8 + i * entrySize, KEY.firstFile + i);
    new Uint8Array(view.buffer).set(new TextEncoder().encode(name).subarray(0, NAME_SIZE - 1), 12 + i * entrySize);
  });
  return new Uint8Array(view.buffer);
}

export interface FwCfgContents {
  readonly ramSize: number;
  readonly processors: number;
  /** By name, for example 'etc/e820'. */
  readonly files: Readonly<Record<string, Uint8Array>>;
}

export class FwCfg implements PortDevice, Snapshotted<FwCfgState> {
  readonly name = 'fw_cfg';
  private readonly physical: PhysicalMemory;
  private readonly items: ReadonlyMap<number, Uint8Array>;
  private key = 0;
  private offset = 0;
  private dmaHigh = 0;

  constructor(physical: PhysicalMemory, { ramSize, processors, files }: FwCfgContents) {
    this.physical = physical;
    const sorted = Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1));
    this.items = new Map([
      [KEY.signature, new TextEncoder().encode('QEMU')],
      [KEY.identity, littleEndian(4, FEATURES)],
      [KEY.ramSize, littleEndian(8, ramSize)],
      [KEY.processors, littleEndian(2, processors)],
      [KEY.directory, directory(sorted)],
      ...sorted.map(([, contents], i) => [KEY.firstFile + i, contents] as const),
    ]);
  }

  private select(key: number): void {
    this.key = key;
    this.offset = 0;
  }

  /** Past an item's end there are zeros. */
  private next(): number {
    return this.items.get(this.key)?.[this.offset++] ?? 0;
  }

  read(port: number, size: 1 | 2 | 4): number {
    if (port === PORT.data) return this.next();
    if (port < PORT.dmaHigh) return 0;
    const at = port - PORT.dmaHigh;
    let value = 0;
    for (let i = 0; i < size; i++) value += (DMA_SIGNATURE[at + i] ?? 0) * 256 ** i;
    return value;
  }

  write(port: number, size: 1 | 2 | 4, value: number): void {
    if (port === PORT.selector) this.select(value & 0xffff);
    // The DMA address registers are big-endian; writing the low half starts the transfer.
    else if (port === PORT.dmaHigh && size === 4) this.dmaHigh = swap(value);
    else if (port === PORT.dmaLow && size === 4) {
      this.transfer(this.dmaHigh * 2 ** 32 + swap(value));
      this.dmaHigh = 0;
    }
  }

  /** The command block in memory: control, length, address; big-endian. Control becomes 0, or the error bit. */
  private transfer(at: number): void {
    if (!this.physical.isRam(at, DMA.size)) return;
    const block = new DataView(this.physical.peek(at, DMA.size).buffer);
    const [control, length, address] = [block.getUint32(0), block.getUint32(4), Number(block.getBigUint64(8))];
    if (control & DMA.select) this.select(control >>> 16);
    const answer = new Uint8Array(4);
    if (control & DMA.write || (control & DMA.read && !this.copy(address, length))) answer[3] = DMA.error;
    else if (control & DMA.skip) this.offset += length;
    this.physical.poke(at, answer);
  }

  private copy(address: number, length: number): boolean {
    if (!this.physical.isRam(address, Math.max(1, length))) return false;
    const bytes = new Uint8Array(length);
    const item = this.items.get(this.key);
    if (item) bytes.set(item.subarray(this.offset, this.offset + length));
    this.offset += length;
    this.physical.poke(address, bytes);
    return true;
  }

  snapshot(): FwCfgState {
    return { key: this.key, offset: this.offset, dmaHigh: this.dmaHigh };
  }

  restore(saved: FwCfgState): void {
    this.key = saved.key;
    this.offset = saved.offset;
    this.dmaHigh = saved.dmaHigh;
  }
}

const swap = (value: number): number =>
  (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
