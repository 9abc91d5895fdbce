import { REGION } from '../state/layout.ts';
import type { State } from '../state/state.ts';

/** A device that answers in physical address space. Offsets are from the region's start; values are unsigned. */
export interface MmioDevice {
  readonly name: string;
  /** @param size 1, 2 or 4 bytes (8-byte accesses arrive as two of 4). */
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
}

interface MmioRegion {
  readonly start: number;
  readonly end: number;
  readonly device: MmioDevice;
}

/** Who writes RAM: an instruction's operand, the processor itself (flags, VMX areas), or somebody outside of it. */
export type TableWriter = 'instruction' | 'processor' | 'outside';

/** Wants to know of writes to pages that hold tables (mmu/table-watch.ts): those never take a fast path. */
export interface WriteWatch {
  /** @param page physical page number. */
  holdsTable(page: number): boolean;
  /** About to write RAM at [physical, physical + length). */
  written(physical: number, length: number, by: TableWriter): void;
  /** For whom the first write to a page is enough: one may come now, and `holdsTable` of the page be false from then on. */
  prepareWrite?(page: number): void;
}

/** Told of every write to RAM that does not go through the guest's instructions (DMA, debugger, VMX area stores). */
export type RamWriteListener = (physical: number, length: number) => void;

/**
 * Physical address space: RAM in linear memory, devices around it. Reads of nothing give all ones, writes to nothing
 * vanish, as on a PC. Physical addresses are Numbers below 2^52.
 */
export class PhysicalMemory {
  private readonly regions: MmioRegion[] = [];
  /** A flag for each 4-KiB page of RAM that no device lies over; made anew after regions have changed. */
  private plain: Uint8Array | undefined;
  readonly state: State;
  /** The decode cache, so that code written from outside is decoded anew. */
  onWrite: RamWriteListener | undefined;
  /** Told what is read where there is no RAM, and what is about to be written there. */
  onDeviceAccess: ((physical: number, size: number, value: number) => void) | undefined;
  /** Empty unless somebody debugs. */
  readonly writeWatches: WriteWatch[] = [];

  constructor(state: State) {
    this.state = state;
  }

  map(start: number, size: number, device: MmioDevice): void {
    const end = start + size;
    const other = this.regions.find((region) => start < region.end && region.start < end);
    if (other) throw new RangeError(`${device.name} at ${start.toString(16)} overlaps ${other.device.name}`);
    this.regions.push({ start, end, device });
    this.plain = undefined;
  }

  /** In front of whatever else is there: software can move the local APIC anywhere. */
  mapOver(start: number, size: number, device: MmioDevice): void {
    this.regions.unshift({ start, end: start + size, device });
    this.plain = undefined;
  }

  unmap(device: MmioDevice): void {
    const at = this.regions.findIndex((region) => region.device === device);
    if (at >= 0) this.regions.splice(at, 1);
    this.plain = undefined;
  }

  /** The device region that holds `physical`. Devices take precedence over RAM. */
  device(physical: number): MmioRegion | undefined {
    for (const region of this.regions) if (physical >= region.start && physical < region.end) return region;
    return undefined;
  }

  /** Whether the whole 4-KiB page of `physical` is plain RAM: only then may the engine access it directly. */
  isRamPage(physical: number): boolean {
    this.plain ??= this.findPlainPages();
    return this.plain[Math.floor(physical / 4096)] === 1;
  }

  private findPlainPages(): Uint8Array {
    const plain = new Uint8Array(Math.floor(this.state.ramSize / 4096)).fill(1);
    for (const { start, end } of this.regions) plain.fill(0, Math.floor(start / 4096), Math.ceil(end / 4096));
    return plain;
  }

  isRam(physical: number, length = 1): boolean {
    return physical >= 0 && physical + length <= this.state.ramSize && this.device(physical) === undefined;
  }

  /** Linear-memory address of RAM; only meaningful when `isRam`. */
  host(physical: number): number {
    return REGION.ram.start + physical;
  }

  /** An instruction may be about to write to a page of RAM. */
  prepareWrite(page: number): void {
    for (const watch of this.writeWatches) watch.prepareWrite?.(page);
  }

  /** Whether writes to a page must be told to `writeWatches`. */
  holdsTable(page: number): boolean {
    for (const watch of this.writeWatches) if (watch.holdsTable(page)) return true;
    return false;
  }

  /** About to write RAM at [physical, physical + length). */
  tellWatches(physical: number, length: number, by: TableWriter): void {
    for (const watch of this.writeWatches) watch.written(physical, length, by);
  }

  /** @param size 1, 2 or 4 bytes. */
  read(physical: number, size: number): number {
    if (this.isRam(physical, size)) {
      const view = this.state.view;
      const at = this.host(physical);
      return size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at);
    }
    const region = this.device(physical);
    const value = region ? region.device.read(physical - region.start, size) >>> 0 : 2 ** (8 * size) - 1;
    this.onDeviceAccess?.(physical, size, value);
    return value;
  }

  write(physical: number, size: number, value: number): void {
    if (this.isRam(physical, size)) {
      const view = this.state.view;
      const at = this.host(physical);
      this.onWrite?.(physical, size);
      this.tellWatches(physical, size, 'processor');
      if (size === 4) view.setUint32(at, value, true);
      else if (size === 2) view.setUint16(at, value, true);
      else view.setUint8(at, value);
      return;
    }
    this.onDeviceAccess?.(physical, size, value);
    const region = this.device(physical);
    region?.device.write(physical - region.start, size, value >>> 0);
  }

  read64(physical: number): bigint {
    return (BigInt(this.read(physical + 4, 4)) << 32n) | BigInt(this.read(physical, 4));
  }

  write64(physical: number, value: bigint): void {
    this.write(physical, 4, Number(value & 0xffff_ffffn));
    this.write(physical + 4, 4, Number((value >> 32n) & 0xffff_ffffn));
  }

  /** Bytes of RAM themselves, not a copy. */
  ramAt(physical: number, length: number): Uint8Array {
    const host = this.host(physical);
    return this.state.bytes.subarray(host, host + length);
  }

  /** Copies bytes out without side effects: device registers read as zeros. For debuggers and loaders. */
  peek(physical: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    const inRam = Math.max(0, Math.min(length, this.state.ramSize - physical));
    if (physical >= 0 && inRam > 0)
      out.set(this.state.bytes.subarray(this.host(physical), this.host(physical) + inRam));
    return out;
  }

  /** Copies bytes into RAM. @throws RangeError where there is no RAM. */
  poke(physical: number, bytes: Uint8Array): void {
    if (physical < 0 || physical + bytes.length > this.state.ramSize) {
      throw new RangeError(`no RAM at physical 0x${physical.toString(16)}, ${bytes.length} bytes`);
    }
    this.onWrite?.(physical, bytes.length);
    this.tellWatches(physical, bytes.length, 'outside');
    this.state.bytes.set(bytes, this.host(physical));
  }
}
