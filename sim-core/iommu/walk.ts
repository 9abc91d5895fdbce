/** Walks of the IOMMU's tables: from a requester to its domain, and from an address of the domain to memory. */

import { describeBits } from '../vmx/bits.ts';
import {
  type EntryFormat,
  FORMAT,
  fieldOf,
  hasReserved,
  pointerOf,
  SECOND_STAGE,
  SECOND_STAGE_NAMES,
  secondStageReserved,
} from './entries.ts';
import { FAULT_REASON, STAGE_FAULTS, type TranslationMode } from './fault-reasons.ts';

/** Memory as the walks see it: undefined where there is none. */
export interface TableMemory {
  read64(physical: bigint): bigint | undefined;
  write64(physical: bigint, value: bigint): void;
}

/** A table entry that a walk has read. */
export interface WalkStep {
  readonly table: string;
  readonly entryAddress: bigint;
  /** Its quadwords; none where there is no memory. */
  readonly values: readonly bigint[];
  /** The entry's parts in words. */
  readonly words: string;
  /** Level of a second-stage entry. */
  readonly level?: number;
}

export interface WalkFault {
  readonly reason: number;
  /** The entry's FPD bit: the fault is not recorded. */
  readonly unrecorded: boolean;
}

/** What the context entry (and PASID table entry) of a requester say: its domain. */
export interface Domain {
  readonly mode: TranslationMode;
  readonly id: number;
  /** Physical address of the topmost second-stage table; undefined: pass-through. */
  readonly table: bigint | undefined;
  readonly levels: number;
  /** Second-stage accessed and dirty flags are kept. */
  readonly accessedDirty: boolean;
  readonly unrecorded: boolean;
}

/** A page of a domain. */
export interface PageMapping {
  /** Of the address space of the domain, and of memory: multiples of `size`. */
  readonly page: bigint;
  readonly target: bigint;
  /** Bytes: 4 KiB, 2 MiB or 1 GiB. */
  readonly size: bigint;
  readonly read: boolean;
  readonly write: boolean;
  /** The dirty flag is set, or not kept. */
  readonly dirty: boolean;
}

export type Outcome<T> = { readonly value: T } | { readonly fault: WalkFault };

export const isFault = <T>(outcome: Outcome<T>): outcome is { readonly fault: WalkFault } => 'fault' in outcome;

const fail = (reason: number, unrecorded = false): { readonly fault: WalkFault } => ({ fault: { reason, unrecorded } });

/** RTADDR_REG: bits 11:10 choose legacy (0) or scalable mode (1). */
export const rootTableMode = (register: bigint): TranslationMode | undefined =>
  (
    [
      ['legacy', 0],
      ['scalable', 1],
    ] as const
  ).find(([, value]) => value === Number((register >> 10n) & 3n))?.[0];

export class Walker {
  private readonly memory: TableMemory;
  /** Entries read, in order; walks add to it. */
  readonly steps: WalkStep[] = [];

  constructor(memory: TableMemory) {
    this.memory = memory;
  }

  /** Reads an entry. @returns undefined when there is no memory */
  private entry(format: EntryFormat, at: bigint): readonly bigint[] | undefined {
    const values: bigint[] = [];
    for (let i = 0; i < format.quadwords.length; i++) {
      const value = this.memory.read64(at + BigInt(8 * i));
      if (value === undefined) break;
      values.push(value);
    }
    const whole = values.length === format.quadwords.length;
    const words = whole
      ? format.quadwords.flatMap(({ fields }, i) => describeBits(fields, values[i] ?? 0n) || []).join(', ')
      : 'no memory';
    this.steps.push({ table: format.name, entryAddress: at, values, words: words || 'not present' });
    return whole ? values : undefined;
  }

  /** The domain of a requester. @param root RTADDR_REG */
  domain(root: bigint, requester: number): Outcome<Domain> {
    const mode = rootTableMode(root);
    if (mode === undefined) return fail(FAULT_REASON.scalableRootInvalid);
    return mode === 'legacy' ? this.legacyDomain(root, requester) : this.scalableDomain(root, requester);
  }

  private legacyDomain(register: bigint, requester: number): Outcome<Domain> {
    const faults = STAGE_FAULTS.legacy;
    const root = this.entry(FORMAT.root, pointerOf(register) + BigInt(16 * (requester >> 8)));
    if (!root) return fail(faults.rootAccess);
    if (!isPresent(root)) return fail(faults.rootNotPresent);
    if (hasReserved(FORMAT.root, root)) return fail(faults.rootReserved);
    const context = this.entry(FORMAT.context, pointerOf(root[0] ?? 0n) + BigInt(16 * (requester & 0xff)));
    if (!context) return fail(faults.contextAccess);
    const part = (name: string): number => fieldOf(FORMAT.context, name, context);
    const unrecorded = part('FPD') !== 0;
    if (!isPresent(context)) return fail(faults.contextNotPresent, unrecorded);
    if (hasReserved(FORMAT.context, context)) return fail(faults.contextReserved, unrecorded);
    const type = part('TT');
    const levels = levelsOf(part('AW'));
    if (levels === undefined || (type !== 0 && type !== 2)) return fail(FAULT_REASON.contextInvalid, unrecorded);
    const table = type === 0 ? pointerOf(context[0] ?? 0n) : undefined;
    return { value: { mode: 'legacy', id: part('DID'), table, levels, accessedDirty: false, unrecorded } };
  }

  private scalableDomain(register: bigint, requester: number): Outcome<Domain> {
    const faults = STAGE_FAULTS.scalable;
    const upper = requester & 0x80 ? 8 : 0;
    const root = this.entry(FORMAT.scalableRoot, pointerOf(register) + BigInt(16 * (requester >> 8) + upper));
    if (!root) return fail(faults.rootAccess);
    if (!isPresent(root)) return fail(faults.rootNotPresent);
    if (hasReserved(FORMAT.scalableRoot, root)) return fail(faults.rootReserved);
    const context = this.entry(FORMAT.scalableContext, pointerOf(root[0] ?? 0n) + BigInt(32 * (requester & 0x7f)));
    if (!context) return fail(faults.contextAccess);
    const unrecorded = fieldOf(FORMAT.scalableContext, 'FPD', context) !== 0;
    if (!isPresent(context)) return fail(faults.contextNotPresent, unrecorded);
    if (hasReserved(FORMAT.scalableContext, context)) return fail(faults.contextReserved, unrecorded);
    const pasid = fieldOf(FORMAT.scalableContext, 'RID_PASID', context);
    const entries = 2 ** (fieldOf(FORMAT.scalableContext, 'PDTS', context) + 7);
    if (pasid >> 6 >= entries) return fail(FAULT_REASON.ridPasidInvalid, unrecorded);
    return this.pasidDomain(pointerOf(context[0] ?? 0n), pasid, unrecorded);
  }

  /** The domain of a PASID: directory, table. */
  private pasidDomain(directory: bigint, pasid: number, contextUnrecorded: boolean): Outcome<Domain> {
    const entry = this.entry(FORMAT.pasidDirectory, directory + BigInt(8 * (pasid >> 6)));
    if (!entry) return fail(FAULT_REASON.directoryAccess, contextUnrecorded);
    const quiet = contextUnrecorded || fieldOf(FORMAT.pasidDirectory, 'FPD', entry) !== 0;
    if (!isPresent(entry)) return fail(FAULT_REASON.directoryNotPresent, quiet);
    if (hasReserved(FORMAT.pasidDirectory, entry)) return fail(FAULT_REASON.directoryReserved, quiet);
    const row = this.entry(FORMAT.pasid, pointerOf(entry[0] ?? 0n) + BigInt(64 * (pasid & 63)));
    if (!row) return fail(FAULT_REASON.pasidAccess, quiet);
    const part = (name: string): number => fieldOf(FORMAT.pasid, name, row);
    const unrecorded = quiet || part('FPD') !== 0;
    if (!isPresent(row)) return fail(FAULT_REASON.pasidNotPresent, unrecorded);
    if (hasReserved(FORMAT.pasid, row)) return fail(FAULT_REASON.pasidReserved, unrecorded);
    const type = part('PGTT');
    const levels = levelsOf(part('AW'));
    if (type !== 2 && type !== 4) return fail(FAULT_REASON.pasidInvalid, unrecorded);
    if (type === 2 && levels === undefined) return fail(FAULT_REASON.pasidInvalid, unrecorded);
    return {
      value: {
        mode: 'scalable',
        id: part('DID'),
        table: type === 2 ? pointerOf(row[0] ?? 0n) : undefined,
        levels: levels ?? 4,
        accessedDirty: part('SSADE') !== 0,
        unrecorded,
      },
    };
  }

  /**
   * Second-stage translation.
   *
   * @param start where the walk begins: the topmost table, or one that a paging-structure cache remembers
   * @param onTable told of every table below, for those caches
   * @param update sets accessed and dirty flags where the domain keeps them
   */
  page(
    domain: Domain,
    address: bigint,
    write: boolean,
    start: TablePointer,
    options: { readonly update: boolean; readonly onTable?: (pointer: TablePointer) => void },
  ): Outcome<PageMapping> {
    const faults = STAGE_FAULTS[domain.mode];
    let { level, table, read, write: writable } = start;
    for (;;) {
      const shift = BigInt(12 + 9 * (level - 1));
      const at = table + 8n * ((address >> shift) & 0x1ffn);
      const value = this.pagingEntry(level, at);
      if (value === undefined) return fail(faults.pagingEntryAccess, domain.unrecorded);
      const leaf = level === 1 || (level < 4 && (value & SECOND_STAGE.page) !== 0n);
      const rights = value & (SECOND_STAGE.read | SECOND_STAGE.write);
      if (rights !== 0n && (value & secondStageReserved(level, leaf)) !== 0n) {
        return fail(faults.pagingEntryReserved, domain.unrecorded);
      }
      read &&= (value & SECOND_STAGE.read) !== 0n;
      writable &&= (value & SECOND_STAGE.write) !== 0n;
      if (write ? !writable : !read) return fail(write ? faults.writeDenied : faults.readDenied, domain.unrecorded);
      if (domain.accessedDirty && options.update) this.setFlags(at, value, leaf && write);
      if (leaf) {
        const size = 1n << shift;
        const dirty = !domain.accessedDirty || write || (value & SECOND_STAGE.dirty) !== 0n;
        const target = pointerOf(value) & ~(size - 1n);
        return { value: { page: address & ~(size - 1n), target, size, read, write: writable, dirty } };
      }
      table = pointerOf(value);
      level--;
      options.onTable?.({ level, table, read, write: writable });
    }
  }

  private pagingEntry(level: number, at: bigint): bigint | undefined {
    const value = this.memory.read64(at);
    const words = value === undefined ? 'no memory' : describeBits(SECOND_STAGE.fields, value) || 'not present';
    const table = SECOND_STAGE_NAMES[level] ?? '';
    this.steps.push({ table, entryAddress: at, values: value === undefined ? [] : [value], words, level });
    return value;
  }

  private setFlags(at: bigint, value: bigint, dirty: boolean): void {
    const wanted = value | SECOND_STAGE.accessed | (dirty ? SECOND_STAGE.dirty : 0n);
    if (wanted !== value) this.memory.write64(at, wanted);
  }
}

/** A second-stage table that a walk can begin at, with the rights of the entries that led to it. */
export interface TablePointer {
  /** Of its entries: 4…1. */
  readonly level: number;
  readonly table: bigint;
  readonly read: boolean;
  readonly write: boolean;
}

/** Where a domain's walks begin when nothing is remembered. */
export const topOf = ({ levels, table }: Domain): TablePointer => ({
  level: levels,
  table: table ?? 0n,
  read: true,
  write: true,
});

const isPresent = (values: readonly bigint[]): boolean => ((values[0] ?? 0n) & 1n) !== 0n;

/** Levels of second-stage tables by AW: 39-bit and 48-bit, as CAP_REG.SAGAW says. */
const levelsOf = (width: number): number | undefined => ({ 1: 3, 2: 4 })[width];

/** Bits of a domain's addresses. */
export const addressWidth = ({ levels }: Pick<Domain, 'levels'>): number => 12 + 9 * levels;

/** A step in a line. */
export function stepLine({ table, entryAddress, values, words }: WalkStep): string {
  const value = values.map((one) => `0x${one.toString(16)}`).join(' ');
  return `${table} at 0x${entryAddress.toString(16)}${value === '' ? '' : ` = ${value}`} (${words})`;
}
