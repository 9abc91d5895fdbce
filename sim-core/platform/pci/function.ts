/** A PCI function: its header, base address registers, MSI and MSI-X, and its way to memory. */

import type { Line, Snapshotted } from '../device.ts';
import type { DmaBus } from '../dma.ts';
import { COMMAND, ConfigSpace, HEADER, type Identity, STATUS } from './config-space.ts';
import { requesterId } from './layout.ts';
import { MsiCapability, MsixCapability, type MsixState } from './msi.ts';

/** What answers in a region of a base address register. Offsets are from its start; values are unsigned. */
export interface BarDevice {
  /** @param size 1, 2 or 4 bytes (8-byte accesses arrive as two of 4, low first) */
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
}

export type BarKind = 'memory32' | 'memory64' | 'io';

export interface Bar {
  /** Number of its (first) register, 0…5. */
  readonly index: number;
  readonly kind: BarKind;
  /** Bytes, a power of two; at least 16 of memory and 4 of I/O. */
  readonly size: number;
  readonly prefetchable?: boolean;
  readonly device: BarDevice;
}

export interface PciFunctionState {
  readonly config: readonly number[];
  readonly msix: MsixState | undefined;
  readonly asserted: boolean;
}

export interface FunctionOptions {
  readonly identity: Identity;
  /** On bus 0. */
  readonly device: number;
  readonly function?: number;
  /** 1…4 for INTA…INTD; absent: it has no interrupt pin. */
  readonly pin?: number;
}

/** What the bus gives a function when it is plugged in. */
export interface FunctionConnections {
  readonly dma: DmaBus;
  /** INTx. */
  readonly line: Line;
  /** Base addresses or the command register changed. */
  moved(): void;
}

const BAR_IO = 1;
const BAR_64 = 4;
const BAR_PREFETCHABLE = 8;

export class PciFunction implements Snapshotted<PciFunctionState> {
  readonly config: ConfigSpace;
  readonly device: number;
  readonly function: number;
  readonly pin: number;
  readonly requester: number;
  readonly bars: Bar[] = [];
  private connections: FunctionConnections | undefined;
  private msi: MsiCapability | undefined;
  private msix: MsixCapability | undefined;
  /** INTx as the device wants it. */
  private asserted = false;

  constructor(options: FunctionOptions) {
    this.config = new ConfigSpace(options.identity);
    this.device = options.device;
    this.function = options.function ?? 0;
    this.pin = options.pin ?? 0;
    this.requester = requesterId(0, this.device, this.function);
    this.config.define(HEADER.interruptPin, 1, this.pin);
  }

  connect(connections: FunctionConnections): void {
    this.connections = connections;
  }

  /** @throws RangeError for a size that no base address register can express */
  addBar(bar: Bar): void {
    const least = bar.kind === 'io' ? 4 : 16;
    if (bar.size < least || !Number.isInteger(Math.log2(bar.size)))
      throw new RangeError(`no BAR has ${bar.size} bytes`);
    const at = HEADER.bar + 4 * bar.index;
    const type = bar.kind === 'io' ? BAR_IO : bar.kind === 'memory64' ? BAR_64 : 0;
    const writable = bar.size >= 2 ** 32 ? 0 : (-bar.size >>> 0) & (bar.kind === 'io' ? 0xffff_fffc : 0xffff_fff0);
    this.config.define(at, 4, type | (bar.prefetchable ? BAR_PREFETCHABLE : 0), writable);
    if (bar.kind === 'memory64') this.config.define(at + 4, 4, 0, -Math.max(1, bar.size / 2 ** 32) >>> 0);
    this.bars.push(bar);
  }

  /** Message-signalled interrupts with one vector. */
  addMsi(): void {
    this.msi = new MsiCapability(this.config);
  }

  /** MSI-X with its table and pending bits in a region of its own. */
  addMsix(vectors: number, bar: number): void {
    this.msix = new MsixCapability(this.config, vectors, bar, (address, data) => this.message(address, data));
    this.addBar({ index: bar, kind: 'memory32', size: 4096, device: this.msix });
  }

  // Configuration space

  read(offset: number, size: number): number {
    if (offset >= 256) return 0;
    const value = this.config.get(offset, size);
    const inStatus = offset <= HEADER.status && offset + size > HEADER.status;
    const status = this.asserted ? STATUS.interrupt * 2 ** (8 * (HEADER.status - offset)) : 0;
    return inStatus ? value + status : value;
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= 256) return;
    this.config.write(offset, size, value);
    if (offset < HEADER.subsystemVendor) this.connections?.moved();
    this.msi?.changed((address, data) => this.message(address, data));
    this.msix?.changed();
    this.driveLine();
  }

  private get command(): number {
    return this.config.get(HEADER.command, 2);
  }

  /** A register's region in its address space; undefined while the command register keeps it from answering. */
  decoded(bar: Bar): number | undefined {
    const enabled = this.command & (bar.kind === 'io' ? COMMAND.io : COMMAND.memory);
    if (!enabled) return undefined;
    const at = HEADER.bar + 4 * bar.index;
    const low = this.config.get(at, 4);
    if (bar.kind === 'io') return low - (low & 3);
    const high = bar.kind === 'memory64' ? this.config.get(at + 4, 4) : 0;
    return high * 2 ** 32 + (low - (low & 15));
  }

  // Interrupts

  /** Drives INTx, which neither MSI nor MSI-X must be in use of. */
  setInterrupt(asserted: boolean): void {
    this.asserted = asserted;
    this.driveLine();
  }

  private driveLine(): void {
    const blocked = (this.command & COMMAND.interruptDisable) !== 0 || this.usesMessages;
    this.connections?.line(this.asserted && !blocked);
  }

  get usesMessages(): boolean {
    return this.msi?.enabled === true || this.msix?.enabled === true;
  }

  get usesMsix(): boolean {
    return this.msix?.enabled === true;
  }

  /** Signals by whichever of MSI-X and MSI is on. @param vector number of the MSI-X table entry */
  signal(vector = 0): void {
    if (this.msix?.enabled) this.msix.signal(vector);
    else if (this.msi?.enabled) this.msi.signal((address, data) => this.message(address, data));
  }

  private message(address: bigint, data: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, data, true);
    this.dmaWrite(address, bytes);
  }

  // Bus mastering

  /** @returns undefined when the access was refused, or bus mastering is off */
  dmaRead(address: bigint, length: number): Uint8Array | undefined {
    if ((this.command & COMMAND.busMaster) === 0) return undefined;
    const bytes = this.connections?.dma.read(this.requester, address, length);
    if (!bytes) this.noteAbort();
    return bytes;
  }

  /** @returns false when the access was refused, or bus mastering is off */
  dmaWrite(address: bigint, bytes: Uint8Array): boolean {
    if ((this.command & COMMAND.busMaster) === 0) return false;
    const written = this.connections?.dma.write(this.requester, address, bytes) === true;
    if (!written) this.noteAbort();
    return written;
  }

  private noteAbort(): void {
    this.config.set(HEADER.status, 2, this.config.get(HEADER.status, 2) | STATUS.receivedMasterAbort);
  }

  /** Power-on: no addresses, nothing enabled. */
  reset(): void {
    this.config.reset();
    this.msix?.reset();
    this.asserted = false;
    this.connections?.moved();
    this.driveLine();
  }

  snapshot(): PciFunctionState {
    return { config: this.config.snapshot(), msix: this.msix?.snapshot(), asserted: this.asserted };
  }

  restore(saved: PciFunctionState): void {
    this.config.restore(saved.config);
    if (saved.msix) this.msix?.restore(saved.msix);
    this.asserted = saved.asserted;
    this.connections?.moved();
    this.driveLine();
  }
}
