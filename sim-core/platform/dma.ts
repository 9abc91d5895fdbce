/**
 * The way of devices to memory and to the processors: every access is made with its requester id, and goes through the
 * IOMMU where there is one. A memory write to FEEx_xxxxh is an interrupt request (SDM Vol. 3A, "Message Signalled
 * Interrupts").
 */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { DELIVERY_MODE, type DeliverInterrupt, type DeliveryMode, type InterruptMessage } from './interrupt-message.ts';

export type DmaAccess = 'read' | 'write' | 'interrupt';

/** An access of a device that did not reach memory or a processor. */
export interface DmaFault {
  /** Bus 15:8, device 7:3, function 2:0. */
  readonly requester: number;
  readonly access: DmaAccess;
  /** First byte that was refused; for an interrupt the message's address. */
  readonly address: bigint;
  /** The IOMMU's fault reason; undefined when nothing answers at the address. */
  readonly reason: number | undefined;
  /** What happened, in a sentence. */
  readonly text: string;
  /** The table entries that were read on the way, a line each. */
  readonly steps: readonly string[];
}

/** An IOMMU as the bus sees it. It reports what it refuses by itself. */
export interface DmaRemapper {
  /** @returns the host-physical address of one byte, valid to the end of its 4-KiB page; undefined: refused */
  translate(requester: number, address: bigint, write: boolean): bigint | undefined;
  /** An interrupt request. It delivers the interrupt, posts it, or refuses. @returns false: refused */
  interrupt(requester: number, address: bigint, data: number): boolean;
}

const PAGE = 4096;
const INTERRUPT_RANGE = { first: 0xfee0_0000n, last: 0xfeef_ffffn } as const;
const LARGEST_PHYSICAL = 1n << 52n;

export const isInterruptAddress = (address: bigint): boolean =>
  address >= INTERRUPT_RANGE.first && address <= INTERRUPT_RANGE.last;

/** The interrupt that a message of the compatibility format asks for (SDM, "Message Address/Data Register Format"). */
export function compatibilityMessage(address: bigint, data: number): InterruptMessage {
  const low = Number(address & 0xffff_ffffn);
  return {
    destination: (low >>> 12) & 0xff,
    // The manual has the mode ignored where RH = 0; Linux's messages have RH = 0, and rely on what processors do.
    logical: (low & 4) !== 0,
    deliveryMode: deliveryModeOf((data >> 8) & 7),
    vector: data & 0xff,
    level: (data & 0x8000) !== 0,
  };
}

/** 3 is reserved: taken as fixed. */
export const deliveryModeOf = (bits: number): DeliveryMode =>
  Object.values(DELIVERY_MODE).find((mode) => mode === bits) ?? DELIVERY_MODE.fixed;

export class DmaBus {
  private readonly physical: PhysicalMemory;
  private readonly deliver: DeliverInterrupt;
  /** The IOMMU; undefined: addresses of devices are host-physical ones. */
  remapper: DmaRemapper | undefined;
  /** Told of accesses that reach memory, page by page, before they are done. */
  onAccess:
    | ((requester: number, address: bigint, physical: number, length: number, write: boolean) => void)
    | undefined;
  /** Told of accesses to addresses where there is no memory. */
  onFault: ((fault: DmaFault) => void) | undefined;

  constructor(physical: PhysicalMemory, deliver: DeliverInterrupt) {
    this.physical = physical;
    this.deliver = deliver;
  }

  /** @returns the bytes; undefined when a part of them was refused */
  read(requester: number, address: bigint, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    const whole = this.eachPage(requester, address, length, false, (physical, offset, count) => {
      out.set(this.physical.peek(physical, count), offset);
    });
    return whole ? out : undefined;
  }

  /** @returns false when a part was refused; pages before that are written */
  write(requester: number, address: bigint, bytes: Uint8Array): boolean {
    if (isInterruptAddress(address)) return this.interruptWrite(requester, address, bytes);
    return this.eachPage(requester, address, bytes.length, true, (physical, offset, count) => {
      this.physical.poke(physical, bytes.subarray(offset, offset + count));
    });
  }

  /** An MSI, MSI-X or I/O APIC message. @returns whether it was let through and a processor took it */
  interrupt(requester: number, address: bigint, data: number): boolean {
    if (this.remapper) return this.remapper.interrupt(requester, address, data);
    return this.deliver(compatibilityMessage(address, data));
  }

  private interruptWrite(requester: number, address: bigint, bytes: Uint8Array): boolean {
    if (bytes.length === 4 && (address & 3n) === 0n) {
      return this.interrupt(requester, address, new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
    }
    return this.refuse(requester, address, 'interrupt', 'an interrupt request is one aligned write of 4 bytes');
  }

  private eachPage(
    requester: number,
    address: bigint,
    length: number,
    write: boolean,
    use: (physical: number, offset: number, count: number) => void,
  ): boolean {
    for (let offset = 0; offset < length; ) {
      const at = BigInt.asUintN(64, address + BigInt(offset));
      const count = Math.min(length - offset, PAGE - Number(at & 0xfffn));
      const physical = this.remapper ? this.remapper.translate(requester, at, write) : at;
      if (physical === undefined) return false;
      if (physical >= LARGEST_PHYSICAL || !this.physical.isRam(Number(physical), count)) {
        const where = this.remapper ? ` (host-physical 0x${physical.toString(16)})` : '';
        return this.refuse(requester, at, write ? 'write' : 'read', `there is no memory at the address${where}`);
      }
      this.onAccess?.(requester, at, Number(physical), count, write);
      use(Number(physical), offset, count);
      offset += count;
    }
    return true;
  }

  private refuse(requester: number, address: bigint, access: DmaAccess, text: string): false {
    this.onFault?.({ requester, access, address, reason: undefined, text, steps: [] });
    return false;
  }
}
