/** Invalidation, by registers and by the queue (VT-d specification, chapter "Invalidation of Translation Caches"). */

import { bits, extract, flag } from '../vmx/bits.ts';
import type { Caches } from './caches.ts';
import { INVALIDATION_COMPLETE, LARGEST_MASK, QUEUE, QUEUE_ERROR, type RegisterFile } from './registers.ts';
import type { TableMemory } from './walk.ts';

const GRANULARITY = { global: 1, domain: 2, selective: 3 } as const;

const FIELD = {
  granularity: bits('G', 5, 4),
  domain: bits('DID', 31, 16),
  source: bits('SID', 47, 32),
  functions: bits('FM', 49, 48),
  interruptSelective: flag('G', 4),
  interruptMask: bits('IM', 31, 27),
  interruptIndex: bits('IIDX', 47, 32),
  waitInterrupt: flag('IF', 4),
  waitStatus: flag('SW', 5),
  statusData: bits('Status Data', 63, 32),
  addressMask: bits('AM', 5, 0),
  hint: flag('IH', 6),
} as const;

type Descriptor = readonly [bigint, bigint, bigint, bigint];

interface DescriptorType {
  readonly name: string;
  /** Bits of the two low quadwords that must be 0; the upper two of wide descriptors must be 0 altogether. */
  readonly reserved: readonly [bigint, bigint];
  /** It has 256 bits only. */
  readonly wide?: boolean;
  run(descriptor: Descriptor, queue: InvalidationUnit): void;
}

const part = (field: Parameters<typeof extract>[0], value: bigint): number => Number(extract(field, value));

/** By type: bits 3:0, with bits 11:9 as its upper part. */
const DESCRIPTORS: Readonly<Record<number, DescriptorType>> = {
  1: {
    name: 'context-cache invalidate',
    reserved: [0xfffc_0000_0000_f1c0n, ~0n],
    run: ([low], { caches }) => {
      const granularity = part(FIELD.granularity, low);
      invalidateContexts(caches, granularity, low >> 16n, low >> 32n, low >> 48n);
    },
  },
  2: {
    name: 'IOTLB invalidate',
    reserved: [0xffff_ffff_0000_f100n, 0xf80n],
    run: ([low, high], { caches }) => {
      const granularity = part(FIELD.granularity, low);
      invalidateMappings(caches, granularity, part(FIELD.domain, low), high);
    },
  },
  4: {
    name: 'interrupt entry cache invalidate',
    reserved: [0xffff_0000_07ff_f1e0n, ~0n],
    run: ([low], { caches }) => {
      if (part(FIELD.interruptSelective, low) === 0) caches.forgetInterruptEntries();
      else caches.forgetInterruptEntries(part(FIELD.interruptIndex, low), part(FIELD.interruptMask, low));
    },
  },
  5: {
    name: 'invalidation wait',
    reserved: [0xffff_f100n, 3n],
    run: ([low, high], unit) => {
      if (part(FIELD.waitStatus, low) !== 0) unit.writeStatus(high, part(FIELD.statusData, low));
      if (part(FIELD.waitInterrupt, low) !== 0) unit.complete();
    },
  },
  // First-stage mappings do not exist, so that only pass-through and second-stage ones of the domain could go.
  6: { name: 'PASID-based IOTLB invalidate', reserved: [0xfff0_0000_0000_f1c0n, 0xf80n], wide: true, run: () => {} },
  7: {
    name: 'PASID-cache invalidate',
    reserved: [0xfff0_0000_0000_f1c0n, ~0n],
    wide: true,
    run: ([low], { caches }) => {
      // Domain- and PASID-selective ones name a domain; 3 is global.
      const global = part(FIELD.granularity, low) === 3;
      caches.forgetContexts(global ? undefined : part(FIELD.domain, low));
    },
  },
};

function invalidateContexts(
  caches: Caches,
  granularity: number,
  domain: bigint,
  source: bigint,
  functions: bigint,
): void {
  const id = Number(domain & 0xffffn);
  if (granularity === GRANULARITY.global) caches.forgetContexts();
  else if (granularity === GRANULARITY.domain) caches.forgetContexts(id);
  else if (granularity === GRANULARITY.selective) {
    caches.forgetContexts(id, Number(source & 0xffffn), Number(functions & 3n));
  }
}

/** @param pages address, hint and mask as in IVA_REG */
function invalidateMappings(caches: Caches, granularity: number, domain: number, pages: bigint): void {
  if (granularity === GRANULARITY.global) caches.forgetMappings();
  else if (granularity === GRANULARITY.domain) caches.forgetMappings(domain);
  else if (granularity === GRANULARITY.selective) {
    const order = Math.min(part(FIELD.addressMask, pages), LARGEST_MASK);
    caches.forgetPages(domain, pages & ~0xfffn, order, part(FIELD.hint, pages) !== 0);
  }
}

/** Context-cache invalidation by CCMD_REG. @returns the register with what was done */
export function contextCommand(caches: Caches, register: bigint): bigint {
  const granularity = Number((register >> 61n) & 3n);
  invalidateContexts(caches, granularity, register, register >> 16n, register >> 32n);
  return withActual(register, 63n, 59n, granularity);
}

/** IOTLB invalidation by IOTLB_REG and IVA_REG. @returns IOTLB_REG with what was done */
export function iotlbCommand(caches: Caches, register: bigint, pages: bigint): bigint {
  const granularity = Number((register >> 60n) & 3n);
  invalidateMappings(caches, granularity, Number((register >> 32n) & 0xffffn), pages);
  return withActual(register, 63n, 57n, granularity);
}

/** The request bit is cleared, the two bits of the actual granularity set. */
export const withActual = (register: bigint, request: bigint, actual: bigint, granularity: number): bigint =>
  (register & ~(1n << request) & ~(3n << actual)) | (BigInt(granularity) << actual);

export interface InvalidationConnections {
  readonly memory: TableMemory;
  /** Writes 32 bits to memory; false when there is none. */
  write32(physical: bigint, value: number): boolean;
  /** The queue met something wrong: IQE is to be set. */
  queueError(): void;
  /** A wait descriptor asks for an interrupt. */
  completed(): void;
}

export class InvalidationUnit {
  readonly caches: Caches;
  private readonly registers: RegisterFile;
  private readonly connections: InvalidationConnections;

  constructor(caches: Caches, registers: RegisterFile, connections: InvalidationConnections) {
    this.caches = caches;
    this.registers = registers;
    this.connections = connections;
  }

  /** Executes descriptors up to the tail, or to the first that is wrong. The head stays at that one. */
  run(): void {
    const { registers } = this;
    const address = registers.get('IQA');
    const wide = (address & QUEUE.wide) !== 0n;
    const step = wide ? 32n : 16n;
    const size = 4096n << (address & QUEUE.size);
    const tail = registers.get('IQT');
    if (tail >= size) return this.stop(QUEUE_ERROR.tail);
    if (tail % step !== 0n) return this.stop(QUEUE_ERROR.unaligned);
    for (let head = registers.get('IQH'); head !== tail; ) {
      const problem = this.execute((address & ~0xfffn) + head, wide);
      if (problem !== undefined) return this.stop(problem);
      head = (head + step) % size;
      registers.set('IQH', head);
    }
  }

  private stop(error: number): void {
    this.registers.set('IQERCD', BigInt(error));
    this.connections.queueError();
  }

  /** @returns what is wrong with the descriptor; undefined when it was executed */
  private execute(at: bigint, wide: boolean): number | undefined {
    const quadwords = [0n, 8n, 16n, 24n].map((offset) =>
      wide || offset < 16n ? this.connections.memory.read64(at + offset) : 0n,
    );
    const [a, b, c, d] = quadwords;
    if (a === undefined || b === undefined || c === undefined || d === undefined) return QUEUE_ERROR.fetch;
    const type = Number((a & 0xfn) | ((a >> 5n) & 0x70n));
    const found = DESCRIPTORS[type];
    if (!found) return QUEUE_ERROR.type;
    if (found.wide && !wide) return QUEUE_ERROR.width;
    const [low, high] = found.reserved;
    if ((a & low) !== 0n || (b & BigInt.asUintN(64, high)) !== 0n || c !== 0n || d !== 0n) return QUEUE_ERROR.reserved;
    found.run([a, b, c, d], this);
    return undefined;
  }

  /** The status write of a wait descriptor: lost where there is no memory. */
  writeStatus(address: bigint, data: number): void {
    this.connections.write32(address, data);
  }

  complete(): void {
    this.registers.change('ICS', INVALIDATION_COMPLETE, true);
    this.connections.completed();
  }
}
