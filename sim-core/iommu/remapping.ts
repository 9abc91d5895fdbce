/** Interrupt remapping and posting (VT-d specification, chapter "Interrupt Remapping and Interrupt Posting"). */

import { deliveryModeOf } from '../platform/dma.ts';
import type { DeliverInterrupt } from '../platform/interrupt-message.ts';
import { DELIVERY_MODE } from '../platform/interrupt-message.ts';
import type { Caches } from './caches.ts';
import { type EntryFormat, FORMAT, fieldOf, hasReserved } from './entries.ts';
import { FAULT_REASON } from './fault-reasons.ts';
import { INTERRUPT_TABLE } from './registers.ts';
import type { TableMemory } from './walk.ts';

const REMAPPABLE = 1n << 4n;
const SUBHANDLE_VALID = 1n << 3n;
const IRTE_POSTED = 1n << 15n;

/** A posted-interrupt descriptor: 256 request bits, then these in its fifth quadword. */
const POSTED = { size: 64, control: 32n, outstanding: 1n, suppress: 2n, reserved: 0xff00_fffcn } as const;

export interface InterruptFault {
  readonly reason: number;
  /** interrupt_index of the request, where it has one. */
  readonly index: number;
  readonly unrecorded: boolean;
}

export const isRemappable = (address: bigint): boolean => (address & REMAPPABLE) !== 0n;

/** The index of a request of the remappable format: handle, and subhandle where it is valid. */
function indexOf(address: bigint, data: number): number {
  const handle = Number((address >> 5n) & 0x7fffn) | (Number((address >> 2n) & 1n) << 15);
  return (address & SUBHANDLE_VALID) === 0n ? handle : (handle + (data & 0xffff)) & 0xffff;
}

/** Whether an entry is for a requester: SVT and SQ choose which bits of SID count. */
function isFor(format: EntryFormat, entry: readonly bigint[], requester: number): boolean | undefined {
  const sid = fieldOf(format, 'SID', entry);
  switch (fieldOf(format, 'SVT', entry)) {
    case 0:
      return true;
    case 1: {
      const ignored = [0, 4, 6, 7][fieldOf(format, 'SQ', entry)] ?? 0;
      return ((sid ^ requester) & ~ignored & 0xffff) === 0;
    }
    case 2:
      // The bus of the requester is between the entry's first (15:8) and last (7:0) one.
      return requester >> 8 >= sid >> 8 && requester >> 8 <= (sid & 0xff);
    default:
      return undefined;
  }
}

export class InterruptRemapper {
  private readonly caches: Caches;
  private readonly memory: TableMemory;
  private readonly deliver: DeliverInterrupt;

  constructor(caches: Caches, memory: TableMemory, deliver: DeliverInterrupt) {
    this.caches = caches;
    this.memory = memory;
    this.deliver = deliver;
  }

  /**
   * A request of the remappable format: it is delivered or posted.
   *
   * @param table the IRTA register that is in force
   * @returns the fault; undefined when all is well
   */
  request(table: bigint, requester: number, address: bigint, data: number): InterruptFault | undefined {
    const index = indexOf(address, data);
    const fault = (reason: number, unrecorded = false): InterruptFault => ({ reason, index, unrecorded });
    if ((address & SUBHANDLE_VALID) !== 0n && data >>> 16 !== 0) return fault(FAULT_REASON.requestReserved);
    if (index >= 2 ** (Number(table & INTERRUPT_TABLE.size) + 1)) return fault(FAULT_REASON.indexTooLarge);
    const entry = this.caches.interruptEntry(index) ?? this.read(table, index);
    if (!entry) return fault(FAULT_REASON.irteAccess);
    const posted = ((entry[0] ?? 0n) & IRTE_POSTED) !== 0n;
    const format = posted ? FORMAT.postedIrte : FORMAT.irte;
    const unrecorded = fieldOf(format, 'FPD', entry) !== 0;
    if (fieldOf(format, 'P', entry) === 0) return fault(FAULT_REASON.irteNotPresent, unrecorded);
    const suits = isFor(format, entry, requester);
    if (hasReserved(format, entry) || suits === undefined) return fault(FAULT_REASON.irteReserved, unrecorded);
    if (!suits) return fault(FAULT_REASON.sourceInvalid, unrecorded);
    this.caches.addInterruptEntry(index, entry);
    const extended = (table & INTERRUPT_TABLE.extended) !== 0n;
    const reason = posted ? this.post(entry, extended) : this.remap(entry, extended);
    return reason === undefined ? undefined : fault(reason, unrecorded);
  }

  private read(table: bigint, index: number): readonly bigint[] | undefined {
    const at = (table & ~0xfffn) + BigInt(16 * index);
    const low = this.memory.read64(at);
    const high = this.memory.read64(at + 8n);
    return low === undefined || high === undefined ? undefined : [low, high];
  }

  /** @returns a fault reason; undefined when it was delivered */
  private remap(entry: readonly bigint[], extended: boolean): number | undefined {
    const part = (name: string): number => fieldOf(FORMAT.irte, name, entry);
    const destination = part('DST');
    // xAPIC destinations are in bits 15:8.
    if (!extended && destination & 0xffff_00ff) return FAULT_REASON.irteReserved;
    this.deliver({
      destination: extended ? destination : destination >> 8,
      logical: part('DM') !== 0,
      deliveryMode: deliveryModeOf(part('DLM')),
      vector: part('V'),
      level: part('TM') !== 0,
    });
    return undefined;
  }

  /** Sets the request bit of the vector, and notifies when nothing is outstanding and nothing suppresses it. */
  private post(entry: readonly bigint[], extended: boolean): number | undefined {
    const part = (name: string): number => fieldOf(FORMAT.postedIrte, name, entry);
    const at = (BigInt(part('PDAH')) << 32n) | (BigInt(part('PDAL')) << 6n);
    const vector = part('V');
    const word = at + BigInt(8 * (vector >> 6));
    const requests = this.memory.read64(word);
    const control = this.memory.read64(at + POSTED.control);
    if (requests === undefined || control === undefined) return FAULT_REASON.postedAccess;
    if ((control & POSTED.reserved) !== 0n) return FAULT_REASON.postedReserved;
    this.memory.write64(word, requests | (1n << BigInt(vector & 63)));
    const suppressed = (control & POSTED.suppress) !== 0n && part('URG') === 0;
    if (suppressed || (control & POSTED.outstanding) !== 0n) return undefined;
    this.memory.write64(at + POSTED.control, control | POSTED.outstanding);
    const destination = Number(control >> 32n);
    this.deliver({
      destination: extended ? destination : (destination >> 8) & 0xff,
      logical: false,
      deliveryMode: DELIVERY_MODE.fixed,
      vector: Number((control >> 16n) & 0xffn),
      level: false,
    });
    return undefined;
  }
}
