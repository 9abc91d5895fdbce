/** An IOMMU over a small RAM, with tables that tests write, for the tests beside it. */

import { PhysicalMemory } from '../mmu/physical-memory.ts';
import type { DmaFault } from '../platform/dma.ts';
import type { InterruptMessage } from '../platform/interrupt-message.ts';
import { State } from '../state/state.ts';
import { Iommu } from './iommu.ts';
import { FAULT_RECORDS, GLOBAL, REGISTERS, type RegisterName } from './registers.ts';

const RAM = 0x20_0000;

/** Where the tests put their tables. */
export const TABLE = {
  root: 0x1000n,
  context: 0x2000n,
  pml4: 0x3000n,
  pdpt: 0x4000n,
  pd: 0x5000n,
  pt: 0x6000n,
  queue: 0x7000n,
  interrupts: 0x8000n,
  posted: 0x9000n,
  directory: 0xa000n,
  pasids: 0xb000n,
} as const;

export const READ_WRITE = 3n;
/** Bus 0, device 4, function 0. */
export const DEVICE = 0x20;

export class TestIommu {
  readonly physical = new PhysicalMemory(new State(RAM));
  readonly faults: DmaFault[] = [];
  readonly messages: InterruptMessage[] = [];
  readonly iommu = new Iommu({
    physical: this.physical,
    deliver: (message) => this.messages.push(message) > 0,
    onFault: (fault) => this.faults.push(fault),
  });

  /** Writes a quadword of a table. */
  put(table: bigint, index: number, value: bigint): void {
    this.physical.write64(Number(table) + 8 * index, value);
  }
  get(table: bigint, index: number): bigint {
    return this.physical.read64(Number(table) + 8 * index);
  }

  /** A register write as a driver makes it: 64 bits are two words, the lower first. */
  write(name: RegisterName, value: bigint): void {
    const { offset, size } = REGISTERS[name];
    this.iommu.write(offset, 4, Number(BigInt.asUintN(32, value)));
    if (size === 8) this.iommu.write(offset + 4, 4, Number(BigInt.asUintN(32, value >> 32n)));
  }
  read(name: RegisterName): bigint {
    const { offset, size } = REGISTERS[name];
    const low = BigInt(this.iommu.read(offset, 4));
    return size === 4 ? low : (BigInt(this.iommu.read(offset + 4, 4)) << 32n) | low;
  }

  /** A fault recording register: information and the upper quadword. */
  record(index: number): readonly [bigint, bigint] {
    const at = FAULT_RECORDS.offset + 16 * index;
    const word = (offset: number): bigint => BigInt(this.iommu.read(at + offset, 4));
    return [(word(4) << 32n) | word(0), (word(12) << 32n) | word(8)];
  }
  clearRecord(index: number): void {
    this.iommu.write(FAULT_RECORDS.offset + 16 * index + 12, 4, 0x8000_0000);
  }

  /** Legacy mode: DEVICE is in `domain`, whose tables map address 0x20_0000 to `target`. */
  legacy(domain = 5n, target = 0x1_0000n | READ_WRITE): this {
    this.put(TABLE.root, 0, TABLE.context | 1n);
    this.put(TABLE.context, 2 * DEVICE, TABLE.pml4 | 1n);
    this.put(TABLE.context, 2 * DEVICE + 1, (domain << 8n) | 2n);
    this.secondStage(target);
    this.write('RTADDR', TABLE.root);
    return this.enable();
  }

  /** Scalable mode, second stage. @param flags of the PASID table entry */
  scalable(domain = 5n, flags = 0n): this {
    this.put(TABLE.root, 0, TABLE.context | 1n);
    this.put(TABLE.context, 4 * DEVICE, TABLE.directory | 1n);
    this.put(TABLE.directory, 0, TABLE.pasids | 1n);
    this.put(TABLE.pasids, 0, TABLE.pml4 | (2n << 6n) | (2n << 2n) | flags | 1n);
    this.put(TABLE.pasids, 1, domain);
    this.secondStage(0x1_0000n | READ_WRITE);
    this.write('RTADDR', TABLE.root | 0x400n);
    return this.enable();
  }

  private secondStage(target: bigint): void {
    this.put(TABLE.pml4, 0, TABLE.pdpt | READ_WRITE);
    this.put(TABLE.pdpt, 0, TABLE.pd | READ_WRITE);
    this.put(TABLE.pd, 1, TABLE.pt | READ_WRITE);
    this.put(TABLE.pt, 0, target);
  }

  private enable(): this {
    this.write('GCMD', BigInt(GLOBAL.setRootTable));
    this.write('GCMD', BigInt(GLOBAL.translation));
    return this;
  }

  /** Turns interrupt remapping on with a table of 256 entries. */
  interrupts(flags = 0n): this {
    this.write('IRTA', TABLE.interrupts | flags | 7n);
    this.write('GCMD', BigInt(GLOBAL.setInterruptTable));
    this.write('GCMD', BigInt(GLOBAL.interruptRemapping));
    return this;
  }

  /** Turns the queue on and lets it execute descriptors of two quadwords. */
  queue(...descriptors: readonly (readonly [bigint, bigint])[]): void {
    if ((this.read('GSTS') & BigInt(GLOBAL.queuedInvalidation)) === 0n) {
      this.write('IQA', TABLE.queue);
      this.write('IQT', 0n);
      this.write('GCMD', BigInt(GLOBAL.queuedInvalidation) | (this.read('GSTS') & BigInt(GLOBAL.translation)));
    }
    let tail = Number(this.read('IQT'));
    for (const [low, high] of descriptors) {
      this.put(TABLE.queue, tail / 8, low);
      this.put(TABLE.queue, tail / 8 + 1, high);
      tail = (tail + 16) % 4096;
    }
    this.write('IQT', BigInt(tail));
  }

  translate(address: bigint, write = false): bigint | undefined {
    return this.iommu.translate(DEVICE, address, write);
  }
  /** Reason of the last fault. */
  get reason(): number | undefined {
    return this.faults.at(-1)?.reason;
  }
}
