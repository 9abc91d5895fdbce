/**
 * QEMU's pc-testdev, by which test programs drive interrupt lines and have a port and a memory of their own: what
 * `-device pc-testdev` adds to a PC.
 */

import type { MmioDevice } from '../mmu/physical-memory.ts';
import type { PortDevice, Snapshotted } from './device.ts';

/** Ports: what is written can be read back; each of the others drives the interrupt line of its number. */
const PORTS = { latch: 0xe0, lines: 0x2000 } as const;
const LATCH_SIZE = 4;
const TEST_LINES = 24;

export const TEST_MEMORY = { start: 0xff00_0000, size: 0x1_0000 } as const;

export interface TestDeviceState {
  readonly latch: number;
  readonly memory: Uint8Array;
}

export class TestDevice implements PortDevice, Snapshotted<TestDeviceState> {
  readonly name = 'pc-testdev';
  /** First port and number of ports. */
  static readonly ports = [
    [PORTS.latch, LATCH_SIZE],
    [PORTS.lines, TEST_LINES],
  ] as const;
  readonly memory: MmioDevice = {
    name: this.name,
    read: (offset, size) => this.readMemory(offset, size),
    write: (offset, size, value) => this.writeMemory(offset, size, value),
  };
  private readonly setLine: (line: number, asserted: boolean) => void;
  private latch = 0;
  private bytes = new Uint8Array(TEST_MEMORY.size);

  /** @param setLine drives an interrupt line, 0 to 23 */
  constructor(setLine: (line: number, asserted: boolean) => void) {
    this.setLine = setLine;
  }

  read(port: number, size: number): number {
    return port === PORTS.latch ? this.latch & (2 ** (8 * size) - 1) : 0;
  }

  write(port: number, _size: number, value: number): void {
    if (port === PORTS.latch) this.latch = value;
    else if (port >= PORTS.lines) this.setLine(port - PORTS.lines, value !== 0);
  }

  private readMemory(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.bytes[offset + i] ?? 0);
    return value;
  }

  private writeMemory(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.bytes[offset + i] = value >>> (8 * i);
  }

  snapshot(): TestDeviceState {
    return { latch: this.latch, memory: this.bytes.slice() };
  }

  restore({ latch, memory }: TestDeviceState): void {
    this.latch = latch;
    this.bytes = memory.slice();
  }
}
