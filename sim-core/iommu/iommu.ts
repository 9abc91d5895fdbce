/** The IOMMU: registers, translation of devices' accesses, and what happens when one is refused. */

import type { MmioDevice, PhysicalMemory } from '../mmu/physical-memory.ts';
import type { Snapshotted } from '../platform/device.ts';
import { compatibilityMessage, type DmaFault, type DmaRemapper, isInterruptAddress } from '../platform/dma.ts';
import type { DeliverInterrupt } from '../platform/interrupt-message.ts';
import { Caches, type CachesState, type IotlbEntry } from './caches.ts';
import { HOST_ADDRESS_WIDTH } from './entries.ts';
import { describeFaultReason, FAULT_REASON, STAGE_FAULTS } from './fault-reasons.ts';
import { contextCommand, InvalidationUnit, iotlbCommand, withActual } from './invalidation.ts';
import { type Mapping, mappingsOf } from './mappings.ts';
import {
  EVENT_CONTROL,
  FAULT_RECORD,
  FAULT_RECORDS,
  FAULT_STATUS,
  GLOBAL,
  INTERRUPT_TABLE,
  REGISTERS,
  RegisterFile,
  type RegisterName,
} from './registers.ts';
import { InterruptRemapper, isRemappable } from './remapping.ts';
import {
  addressWidth,
  type Domain,
  isFault,
  type Outcome,
  type PageMapping,
  stepLine,
  type TableMemory,
  topOf,
  Walker,
  type WalkFault,
  type WalkStep,
} from './walk.ts';

export interface IommuState {
  readonly registers: readonly number[];
  /** RTADDR and IRTA as the last SRTP and SIRTP commands took them. */
  readonly rootTable: bigint;
  readonly interruptTable: bigint;
  readonly caches: CachesState;
  /** Number of the fault recording register that the next fault goes to. */
  readonly nextRecord: number;
}

export interface IommuConnections {
  readonly physical: PhysicalMemory;
  readonly deliver: DeliverInterrupt;
  readonly onFault: (fault: DmaFault) => void;
}

/** What a fault recording register holds. */
export interface RecordedFault {
  readonly index: number;
  readonly requester: number;
  /** Page address; for interrupts the index in bits 63:48. */
  readonly information: bigint;
  readonly reason: number;
  readonly text: string;
  readonly read: boolean;
}

/** A walk for people: through the tables as they are in memory. */
export interface IommuExplanation {
  readonly steps: readonly WalkStep[];
  readonly domain?: Domain;
  readonly physical?: bigint;
  readonly pageSize?: bigint;
  readonly fault?: { readonly reason: number; readonly text: string };
}

const word = (offset: number): number => offset >>> 2;

export class Iommu implements MmioDevice, DmaRemapper, Snapshotted<IommuState> {
  readonly name = 'IOMMU';
  readonly registers = new RegisterFile();
  readonly caches = new Caches();
  private readonly connections: IommuConnections;
  private readonly memory: TableMemory;
  private readonly invalidation: InvalidationUnit;
  private readonly remapper: InterruptRemapper;
  private rootTable = 0n;
  private interruptTable = 0n;
  private nextRecord = 0;

  constructor(connections: IommuConnections) {
    this.connections = connections;
    const { physical, deliver } = connections;
    this.memory = {
      read64: (at) => (isMemory(physical, at, 8) ? physical.read64(Number(at)) : undefined),
      write64: (at, value) => physical.write64(Number(at), value),
    };
    this.invalidation = new InvalidationUnit(this.caches, this.registers, {
      memory: this.memory,
      write32: (at, value) => {
        if (!isMemory(physical, at, 4)) return false;
        physical.write(Number(at), 4, value);
        return true;
      },
      queueError: () => {
        this.registers.change('FSTS', FAULT_STATUS.queueError, true);
        this.raiseEvent('FECTL');
      },
      completed: () => this.raiseEvent('IECTL'),
    });
    this.remapper = new InterruptRemapper(this.caches, this.memory, deliver);
  }

  get translates(): boolean {
    return this.registers.has('GSTS', GLOBAL.translation);
  }
  get remapsInterrupts(): boolean {
    return this.registers.has('GSTS', GLOBAL.interruptRemapping);
  }
  /** The root-table and interrupt-table addresses in force. */
  get tables(): { readonly root: bigint; readonly interrupt: bigint } {
    return { root: this.rootTable, interrupt: this.interruptTable };
  }

  // Registers

  read(offset: number, size: number): number {
    const value = this.registers.word(offset);
    return size === 4 ? value : (value >>> (8 * (offset & 3))) & (size === 2 ? 0xffff : 0xff);
  }

  /** Registers take whole words. */
  write(offset: number, size: number, value: number): void {
    if (size !== 4 || offset & 3) return;
    const record = offset >= FAULT_RECORDS.offset && offset < FAULT_RECORDS.offset + 16 * FAULT_RECORDS.count;
    if (record) this.writeRecord(offset, value);
    else if (offset === REGISTERS.GCMD.offset) this.command(value);
    else {
      this.registers.write(offset, value);
      this.effects.get(word(offset))?.();
    }
  }

  /** What writing a word does beside changing it. */
  private readonly effects: ReadonlyMap<number, () => void> = new Map([
    [word(REGISTERS.CCMD.offset + 4), () => this.contextCommand()],
    [word(REGISTERS.IOTLB.offset + 4), () => this.iotlbCommand()],
    [word(REGISTERS.IQT.offset), () => this.runQueue()],
    [word(REGISTERS.FSTS.offset), () => this.afterStatus()],
    [word(REGISTERS.FECTL.offset), () => this.unmasked('FECTL')],
    [word(REGISTERS.IECTL.offset), () => this.unmasked('IECTL')],
    [word(REGISTERS.ICS.offset), () => this.afterCompletion()],
  ]);

  private command(value: number): void {
    const { registers } = this;
    const queueWasOn = registers.has('GSTS', GLOBAL.queuedInvalidation);
    for (const mask of [
      GLOBAL.translation,
      GLOBAL.queuedInvalidation,
      GLOBAL.interruptRemapping,
      GLOBAL.compatibilityInterrupts,
    ]) {
      registers.change('GSTS', mask, (value & mask) !== 0);
    }
    if (value & GLOBAL.setRootTable) {
      this.rootTable = registers.get('RTADDR');
      registers.change('GSTS', GLOBAL.setRootTable, true);
    }
    if (value & GLOBAL.setInterruptTable) {
      this.interruptTable = registers.get('IRTA');
      registers.change('GSTS', GLOBAL.setInterruptTable, true);
    }
    const queueIsOn = registers.has('GSTS', GLOBAL.queuedInvalidation);
    if (queueWasOn !== queueIsOn) registers.set('IQH', 0n);
    if (queueIsOn && !queueWasOn) this.runQueue();
  }

  private get queueIsOn(): boolean {
    return this.registers.has('GSTS', GLOBAL.queuedInvalidation);
  }

  /** While the queue is on, invalidations by registers are not performed: granularity 0. */
  private contextCommand(): void {
    const register = this.registers.get('CCMD');
    if (register >> 63n === 0n) return;
    const done = this.queueIsOn ? withActual(register, 63n, 59n, 0) : contextCommand(this.caches, register);
    this.registers.set('CCMD', done);
  }

  private iotlbCommand(): void {
    const register = this.registers.get('IOTLB');
    if (register >> 63n === 0n) return;
    const pages = this.registers.get('IVA');
    const done = this.queueIsOn ? withActual(register, 63n, 57n, 0) : iotlbCommand(this.caches, register, pages);
    this.registers.set('IOTLB', done);
  }

  private runQueue(): void {
    if (this.queueIsOn && !this.registers.has('FSTS', FAULT_STATUS.queueError)) this.invalidation.run();
  }

  // Events

  /** Sends the fault or invalidation event, or leaves it pending while it is masked. */
  private raiseEvent(control: 'FECTL' | 'IECTL'): void {
    if (this.registers.has(control, EVENT_CONTROL.mask)) {
      this.registers.change(control, EVENT_CONTROL.pending, true);
      return;
    }
    const [data, address, upper] = EVENT_REGISTERS[control];
    const target = (this.registers.get(upper) << 32n) | this.registers.get(address);
    this.connections.deliver(compatibilityMessage(target, Number(this.registers.get(data))));
  }

  private unmasked(control: 'FECTL' | 'IECTL'): void {
    if (this.registers.has(control, EVENT_CONTROL.mask) || !this.registers.has(control, EVENT_CONTROL.pending)) return;
    this.registers.change(control, EVENT_CONTROL.pending, false);
    this.raiseEvent(control);
  }

  /** Software cleared bits of FSTS: the queue goes on, and a pending event that has nothing left to tell is dropped. */
  private afterStatus(): void {
    const status = FAULT_STATUS.overflow | FAULT_STATUS.pending | FAULT_STATUS.queueError;
    if (!this.registers.has('FSTS', FAULT_STATUS.queueError)) this.registers.set('IQERCD', 0n);
    if (!this.registers.has('FSTS', status)) this.registers.change('FECTL', EVENT_CONTROL.pending, false);
    this.runQueue();
  }

  private afterCompletion(): void {
    if (this.registers.get('ICS') === 0n) this.registers.change('IECTL', EVENT_CONTROL.pending, false);
  }

  // Faults

  private recordOffset(index: number): number {
    return FAULT_RECORDS.offset + 16 * index;
  }

  private hasRecord(index: number): boolean {
    return (this.registers.word(this.recordOffset(index) + 12) & FAULT_RECORD.fault) !== 0;
  }

  /** Writing 1 to F frees the register. */
  private writeRecord(offset: number, value: number): void {
    if (offset % 16 !== 12 || (value & FAULT_RECORD.fault) === 0) return;
    this.registers.setWord(offset, this.registers.word(offset) & ~FAULT_RECORD.fault);
    const pending = Array.from({ length: FAULT_RECORDS.count }, (_, index) => this.hasRecord(index)).includes(true);
    this.registers.change('FSTS', FAULT_STATUS.pending, pending);
    this.afterStatus();
  }

  /** Records a fault, and raises the fault event at the first one that is pending. */
  private record(requester: number, reason: number, information: bigint, read: boolean): void {
    const { registers } = this;
    if (registers.has('FSTS', FAULT_STATUS.overflow)) return;
    const status = FAULT_STATUS.pending | FAULT_STATUS.queueError;
    const quiet = registers.has('FSTS', status);
    if (this.hasRecord(this.nextRecord)) {
      registers.change('FSTS', FAULT_STATUS.overflow, true);
      if (!quiet) this.raiseEvent('FECTL');
      return;
    }
    const at = this.recordOffset(this.nextRecord);
    registers.setWord(at, Number(BigInt.asUintN(32, information)));
    registers.setWord(at + 4, Number(BigInt.asUintN(32, information >> 32n)));
    registers.setWord(at + 8, requester);
    registers.setWord(at + 12, (FAULT_RECORD.fault | (read ? FAULT_RECORD.read : 0) | reason) >>> 0);
    if (!registers.has('FSTS', FAULT_STATUS.pending)) {
      registers.change('FSTS', 0xff00, false);
      registers.change('FSTS', (this.nextRecord << 8) | FAULT_STATUS.pending, true);
      if (!quiet) this.raiseEvent('FECTL');
    }
    this.nextRecord = (this.nextRecord + 1) % FAULT_RECORDS.count;
  }

  private refuse(
    requester: number,
    address: bigint,
    write: boolean,
    fault: WalkFault,
    steps: readonly WalkStep[],
  ): void {
    if (!fault.unrecorded) this.record(requester, fault.reason, address & ~0xfffn, !write);
    this.connections.onFault({
      requester,
      access: write ? 'write' : 'read',
      address,
      reason: fault.reason,
      text: describeFaultReason(fault.reason),
      steps: steps.map(stepLine),
    });
  }

  // Translation

  translate(requester: number, address: bigint, write: boolean): bigint | undefined {
    if (!this.translates) return address;
    const walker = new Walker(this.memory);
    const outcome = this.lookUp(walker, requester, address, write);
    if (!isFault(outcome)) return outcome.value;
    // What was remembered is not in the steps: the debugger shows the whole way, as the tables are now.
    this.refuse(requester, address, write, outcome.fault, this.explain(requester, address, write).steps);
    return undefined;
  }

  private lookUp(walker: Walker, requester: number, address: bigint, write: boolean): Outcome<bigint> {
    const known = this.caches.context(requester);
    const found: Outcome<Domain> = known ? { value: known } : walker.domain(this.rootTable, requester);
    if (isFault(found)) return found;
    const domain = found.value;
    if (!known) this.caches.addContext(requester, domain);
    const refused = addressFault(domain, address);
    if (refused) return { fault: refused };
    if (domain.table === undefined) return { value: address };
    const entry = this.caches.find(domain.id, address);
    if (entry && (write ? entry.write && entry.dirty : entry.read)) return { value: locate(entry, address) };
    const { id, levels } = domain;
    // Rights that a remembered entry denies, and dirty flags that it lacks, are looked for in the tables.
    const start = entry ? topOf(domain) : (this.caches.findTable(id, address, levels) ?? topOf(domain));
    const page = walker.page(domain, address, write, start, {
      update: true,
      onTable: (pointer) => this.caches.addTable(id, address, pointer),
    });
    if (isFault(page)) return page;
    const target = targetFault(domain, page.value, address);
    if (target) return { fault: target };
    this.caches.add(id, page.value);
    return { value: locate(page.value, address) };
  }

  /** The walk that an access would take if nothing were remembered; changes nothing. */
  explain(requester: number, address: bigint, write: boolean): IommuExplanation {
    if (!this.translates) return { steps: [], physical: address };
    const walker = new Walker(this.memory);
    const { steps } = walker;
    const found = walker.domain(this.rootTable, requester);
    if (isFault(found)) return { steps, fault: words(found.fault) };
    const domain = found.value;
    const refused = addressFault(domain, address);
    if (refused) return { steps, domain, fault: words(refused) };
    if (domain.table === undefined) return { steps, domain, physical: address };
    const page = walker.page(domain, address, write, topOf(domain), { update: false });
    if (isFault(page)) return { steps, domain, fault: words(page.fault) };
    const target = targetFault(domain, page.value, address);
    if (target) return { steps, domain, fault: words(target) };
    return { steps, domain, physical: locate(page.value, address), pageSize: page.value.size };
  }

  /** What the tables say of a requester now, whatever is remembered; changes nothing. */
  domainNow(requester: number): {
    readonly domain?: Domain;
    readonly steps: readonly WalkStep[];
    readonly fault?: string;
  } {
    const walker = new Walker(this.memory);
    const found = walker.domain(this.rootTable, requester);
    const { steps } = walker;
    return isFault(found) ? { steps, fault: words(found.fault).text } : { steps, domain: found.value };
  }

  /** What a domain maps, at most `limit` runs of pages. */
  mappings(domain: Domain, limit: number): readonly Mapping[] {
    return mappingsOf(this.memory, domain, limit);
  }

  /** How a remembered page differs from the tables of its domain; undefined when they bear it out. */
  staleness(entry: IotlbEntry): string | undefined {
    const owner = this.caches.allContexts.find(([, { id }]) => id === entry.domain)?.[1];
    if (!owner) return 'no remembered context entry names its domain any more';
    const walker = new Walker(this.memory);
    const page = walker.page(owner, entry.page, false, { ...topOf(owner), read: true }, { update: false });
    if (isFault(page)) return `the tables now refuse reads: ${words(page.fault).text}`;
    const target = locate(page.value, entry.page);
    if (target !== entry.target) return `the tables now lead to 0x${target.toString(16)}`;
    if (page.value.write !== entry.write) return `the tables now ${entry.write ? 'forbid' : 'permit'} writes`;
    return undefined;
  }

  /** The fault recording registers that hold a fault, from the oldest that FSTS names. */
  recordedFaults(): readonly RecordedFault[] {
    const first = (this.registers.word(REGISTERS.FSTS.offset) >>> 8) & 0xff;
    return Array.from({ length: FAULT_RECORDS.count }, (_, i) => (first + i) % FAULT_RECORDS.count)
      .filter((index) => this.hasRecord(index))
      .map((index) => {
        const at = this.recordOffset(index);
        const word = (offset: number): number => this.registers.word(at + offset);
        const upper = word(12);
        return {
          index,
          requester: word(8) & 0xffff,
          information: (BigInt(word(4)) << 32n) | BigInt(word(0)),
          reason: upper & 0xff,
          text: describeFaultReason(upper & 0xff),
          read: (upper & FAULT_RECORD.read) !== 0,
        };
      });
  }

  // Interrupts

  interrupt(requester: number, address: bigint, data: number): boolean {
    if (!this.remapsInterrupts) return this.connections.deliver(compatibilityMessage(address, data));
    if (!isRemappable(address)) {
      const extended = (this.interruptTable & INTERRUPT_TABLE.extended) !== 0n;
      if (!extended && this.registers.has('GSTS', GLOBAL.compatibilityInterrupts)) {
        return this.connections.deliver(compatibilityMessage(address, data));
      }
      return this.refuseInterrupt(requester, address, FAULT_REASON.compatibilityBlocked, 0, false);
    }
    const fault = this.remapper.request(this.interruptTable, requester, address, data);
    return fault ? this.refuseInterrupt(requester, address, fault.reason, fault.index, fault.unrecorded) : true;
  }

  private refuseInterrupt(
    requester: number,
    address: bigint,
    reason: number,
    index: number,
    unrecorded: boolean,
  ): false {
    if (!unrecorded) this.record(requester, reason, BigInt(index) << 48n, false);
    const text = describeFaultReason(reason);
    this.connections.onFault({ requester, access: 'interrupt', address, reason, text, steps: [] });
    return false;
  }

  snapshot(): IommuState {
    return {
      registers: this.registers.snapshot(),
      rootTable: this.rootTable,
      interruptTable: this.interruptTable,
      caches: this.caches.snapshot(),
      nextRecord: this.nextRecord,
    };
  }

  restore(saved: IommuState): void {
    this.registers.restore(saved.registers);
    this.rootTable = saved.rootTable;
    this.interruptTable = saved.interruptTable;
    this.caches.restore(saved.caches);
    this.nextRecord = saved.nextRecord;
  }
}

const EVENT_REGISTERS = {
  FECTL: ['FEDATA', 'FEADDR', 'FEUADDR'],
  IECTL: ['IEDATA', 'IEADDR', 'IEUADDR'],
} as const satisfies Record<string, readonly [RegisterName, RegisterName, RegisterName]>;

const isMemory = (physical: PhysicalMemory, at: bigint, size: number): boolean =>
  at < 1n << BigInt(HOST_ADDRESS_WIDTH) && physical.isRam(Number(at), size);

const locate = ({ page, target }: PageMapping, address: bigint): bigint => target + (address - page);

const words = ({ reason }: WalkFault): { readonly reason: number; readonly text: string } => ({
  reason,
  text: describeFaultReason(reason),
});

/** Addresses that no translation is made of: beyond the domain's width, and the interrupt address range. */
function addressFault(domain: Domain, address: bigint): WalkFault | undefined {
  const faults = STAGE_FAULTS[domain.mode];
  const width = domain.table === undefined ? HOST_ADDRESS_WIDTH : addressWidth(domain);
  const { unrecorded } = domain;
  if (address >> BigInt(width) !== 0n) return { reason: faults.addressTooLarge, unrecorded };
  return isInterruptAddress(address) ? { reason: faults.interruptAddress, unrecorded } : undefined;
}

/** A page that is mapped to the interrupt address range is as bad. */
function targetFault(domain: Domain, page: PageMapping, address: bigint): WalkFault | undefined {
  const { unrecorded } = domain;
  if (!isInterruptAddress(locate(page, address))) return undefined;
  return { reason: STAGE_FAULTS[domain.mode].interruptAddress, unrecorded };
}
