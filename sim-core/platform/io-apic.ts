/** The I/O APIC (Intel 82093AA data sheet; version 20h with an EOI register, as in chipsets since ICH). */

import type { MmioDevice } from '../mmu/physical-memory.ts';
import type { Snapshotted } from './device.ts';

const IO_APIC_PINS = 24;

/** Memory-mapped registers: select an internal register, its data; end an interrupt by its vector. */
const WINDOW = { select: 0x00, data: 0x10, endOfInterrupt: 0x40 } as const;
/** Internal registers; each redirection entry is two of them. */
const INTERNAL = { id: 0, version: 1, arbitration: 2, firstEntry: 0x10 } as const;
const VERSION = ((IO_APIC_PINS - 1) << 16) | 0x20;

/** Redirection table entry, low half. Polarity (bit 13) has no effect: lines are asserted or not. */
const ENTRY = { vector: 0xff, logical: 0x800, remoteIrr: 0x4000, level: 0x8000, masked: 0x1_0000 } as const;
/** Bits of an entry's low half that software can write. */
const WRITABLE = 0x1_afff;
/** Where a message's address gets an entry's bits 63:48 (destination; with remapping also the handle and its format). */
const MESSAGE = { address: 0xfee0_0000, destinationShift: 4, logical: 4 } as const;
/** Bits that go into the message's data: vector, delivery mode, trigger mode. */
const MESSAGE_DATA = 0x87ff;

export interface IoApicState {
  readonly id: number;
  readonly select: number;
  readonly entries: readonly { readonly low: number; readonly high: number }[];
  /** Levels of the inputs. */
  readonly pins: readonly boolean[];
}

interface Entry {
  low: number;
  high: number;
}

export class IoApic implements MmioDevice, Snapshotted<IoApicState> {
  readonly name = 'I/O APIC';
  private readonly send: (address: bigint, data: number) => boolean;
  private id = 0;
  private select = 0;
  private entries: Entry[] = Array.from({ length: IO_APIC_PINS }, () => ({ low: ENTRY.masked, high: 0 }));
  private pins: boolean[] = new Array<boolean>(IO_APIC_PINS).fill(false);

  /** @param send sends an interrupt message, as an MSI is sent; tells whether a processor accepted it */
  constructor(send: (address: bigint, data: number) => boolean) {
    this.send = send;
  }

  /** Whether nothing that happens at the pin can interrupt. */
  isMasked(pin: number): boolean {
    return ((this.entries[pin]?.low ?? ENTRY.masked) & ENTRY.masked) !== 0;
  }

  /** An edge at a masked pin is lost (data sheet, "Interrupt Mask"). */
  setPin(pin: number, asserted: boolean): void {
    const rises = asserted && !this.pins[pin];
    this.pins[pin] = asserted;
    const entry = this.entries[pin];
    if (!entry || (entry.low & ENTRY.masked) !== 0) return;
    if ((entry.low & ENTRY.level) !== 0) this.serviceLevel(pin, entry);
    else if (rises) this.deliver(entry);
  }

  /** A level is sent once, and again after its end if it is still there. */
  private serviceLevel(pin: number, entry: Entry): void {
    if ((entry.low & (ENTRY.level | ENTRY.masked | ENTRY.remoteIrr)) !== ENTRY.level || !this.pins[pin]) return;
    if (this.deliver(entry)) entry.low |= ENTRY.remoteIrr;
  }

  private deliver({ low, high }: Entry): boolean {
    const destination = (high >>> 16) << MESSAGE.destinationShift;
    const logical = (low & ENTRY.logical) !== 0 ? MESSAGE.logical : 0;
    // In logical mode the redirection hint makes the destination a set of processors.
    const hint = logical === 0 ? 0 : 8;
    const compatible = (high & 0x1_0000) === 0;
    const address = (MESSAGE.address | destination | logical | (compatible ? hint : 0)) >>> 0;
    return this.send(BigInt(address), low & MESSAGE_DATA);
  }

  /** A local APIC ended a level-triggered interrupt. */
  endOfInterrupt(vector: number): void {
    this.entries.forEach((entry, pin) => {
      if ((entry.low & ENTRY.vector) !== vector || (entry.low & ENTRY.remoteIrr) === 0) return;
      entry.low &= ~ENTRY.remoteIrr;
      this.serviceLevel(pin, entry);
    });
  }

  read(offset: number, _size: number): number {
    if (offset === WINDOW.select) return this.select;
    return offset === WINDOW.data ? this.readInternal() : 0;
  }

  write(offset: number, _size: number, value: number): void {
    if (offset === WINDOW.select) this.select = value & 0xff;
    else if (offset === WINDOW.data) this.writeInternal(value >>> 0);
    else if (offset === WINDOW.endOfInterrupt) this.endOfInterrupt(value & 0xff);
  }

  private readInternal(): number {
    if (this.select === INTERNAL.version) return VERSION;
    if (this.select === INTERNAL.id || this.select === INTERNAL.arbitration) return (this.id << 24) >>> 0;
    const entry = this.entries[(this.select - INTERNAL.firstEntry) >> 1];
    if (!entry) return 0;
    return (this.select & 1 ? entry.high : entry.low) >>> 0;
  }

  private writeInternal(value: number): void {
    if (this.select === INTERNAL.id) this.id = (value >>> 24) & 0xf;
    const pin = (this.select - INTERNAL.firstEntry) >> 1;
    const entry = this.entries[pin];
    if (!entry) return;
    if (this.select & 1) {
      entry.high = value;
      return;
    }
    const level = (value & ENTRY.level) !== 0;
    // Delivery status and remote IRR are for reading; an edge-triggered entry has no remote IRR.
    entry.low = (value & WRITABLE) | (level ? entry.low & ENTRY.remoteIrr : 0);
    this.serviceLevel(pin, entry);
  }

  snapshot(): IoApicState {
    return structuredClone({ id: this.id, select: this.select, entries: this.entries, pins: this.pins });
  }

  restore(saved: IoApicState): void {
    const copy = structuredClone(saved);
    this.id = copy.id;
    this.select = copy.select;
    this.entries = [...copy.entries];
    this.pins = [...copy.pins];
  }
}
