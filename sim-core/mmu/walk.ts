/**
 * Page walks: the guest's paging structures and, under them, EPT. One walker serves the machine and its explanations.
 */

import { spend } from '../state/time.ts';
import { exception, type MemoryFault, VECTOR, type VmExitFault } from './fault.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { mayWriteSubPages, type SubPageTable } from './sub-page.ts';
import type { TableReference } from './table-reference.ts';
import type { TableWatch } from './table-watch.ts';
import { ALL_EPT_RIGHTS, MAPPING, PROTECTION_KEY, RIGHT, type Tlb } from './tlb.ts';
import type { TranslationStep } from './translation.ts';
import { ACCESS, type AccessCode, PAGING, type World } from './world.ts';

/** What the processor model says about physical addresses and page sizes. */
export interface PagingFeatures {
  /** MAXPHYADDR. */
  physicalAddressBits: number;
  gigabytePages: boolean;
  /** EPT entries that allow execution but not reading are valid (IA32_VMX_EPT_VPID_CAP bit 0). */
  eptExecuteOnly: boolean;
}

/** Page-modification logging (vmx/page-log.ts): asked before EPT's dirty flag of a page is set. */
export interface PageLog {
  /** Logs the page. @returns the VM exit that happens instead when the log is full */
  log(guestPhysical: number): VmExitFault | undefined;
}

/** Cycles that one reference to a table entry costs. */
const CYCLES_PER_REFERENCE = 4;

/** Bits of paging-structure entries, in their low half. */
const ENTRY = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, pageSize: 0x80, global: 0x100 } as const;
/** XD is bit 63: bit 31 of the high half. */
const XD = 0x8000_0000;
/** Bits of EPT entries. */
const EPT = { read: 1, write: 2, execute: 4, large: 0x80, accessed: 0x100, dirty: 0x200, userExecute: 0x400 } as const;
/** Bits 63 and 61 of EPT entries, in their high half. */
const SUPPRESS_VE = 0x8000_0000;
const SUB_PAGE_WRITE = 0x2000_0000;
/** Memory types that an EPT leaf may name: UC, WC, WT, WP, WB (SDM Vol. 3C, "EPT Misconfigurations"). */
const EPT_MEMORY_TYPES: readonly boolean[] = [true, true, false, false, true, true, true, false];

/** Page-fault error code bits (SDM Vol. 3A, "Interrupt 14"). */
const PF = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16, protectionKey: 32 } as const;

const TABLE_NAMES = ['PTE', 'PDE', 'PDPTE', 'PML4E', 'PML5E'] as const;
const EPT_TABLE_NAMES = TABLE_NAMES.map((name) => `EPT ${name}`);

/**
 * Index of the entry for a linear or guest-physical address in the table of `level` (0 = page table), 8-byte entries.
 */
function indexOf(low: number, high: number, level: number): number {
  if (level === 0) return (low >>> 12) & 511;
  if (level === 1) return (low >>> 21) & 511;
  if (level === 2) return ((high << 2) | (low >>> 30)) & 511;
  return (high >>> (level === 3 ? 7 : 16)) & 511;
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

export class Walker {
  private readonly physical: PhysicalMemory;
  private readonly tlb: Tlb;
  private readonly features: PagingFeatures;
  pageLog: PageLog | undefined;
  /** Bytes that the access in hand has in the page: sub-page write permissions ask. */
  accessSize = 1;
  /** Told which table entries each TLB entry is filled from. */
  watch: TableWatch | undefined;
  /** Told of every access to a table, but for explanations. */
  onReference: ((reference: TableReference) => void) | undefined;
  /** Set while explaining: receives every entry read. A walk then changes nothing. */
  steps: TranslationStep[] | undefined;

  /** Results of a walk that succeeded: log2 of the page sizes and the RIGHT bits. */
  order = 12;
  guestOrder = 12;
  rights = 0;
  /** What the paging structures give, before EPT. */
  guestPhysical = 0;
  /** Set when a walk returned -1. */
  fault: MemoryFault | undefined;

  /** The entry that was read last, in halves. */
  private low = 0;
  private high = 0;
  /** EPT part of the results. */
  private eptOrder = 12;
  private eptRights = ALL_EPT_RIGHTS;
  /** The linear address being translated; none while PDPTEs are loaded. */
  private linearLow = 0;
  private linearHigh = 0;
  private linearValid = false;
  /** Whether the paging structures make the linear address a user-mode one; without paging it counts as such. */
  private userPage = true;
  /** Entries used by the walk in hand, by level, for the accessed and dirty flags. */
  private readonly guestEntryAt = new Float64Array(5);
  private readonly guestEntryGuestPhysical = new Float64Array(5);
  private readonly guestEntryLow = new Uint32Array(5);
  private readonly eptEntryAt = new Float64Array(5);
  private readonly eptEntryLow = new Uint32Array(5);

  constructor(physical: PhysicalMemory, tlb: Tlb, features: PagingFeatures) {
    this.physical = physical;
    this.tlb = tlb;
    this.features = features;
  }

  /**
   * Translates by the tables in memory, never by linear or combined mappings of the TLB.
   * @param user the access is a user-mode access; @param implicit a supervisor access to a system structure
   * @returns the physical address, or -1 with `fault` set
   */
  walk(world: World, low: number, high: number, access: AccessCode, user: boolean, implicit: boolean): number {
    this.linearLow = low;
    this.linearHigh = high;
    this.linearValid = true;
    this.rights = RIGHT.user | RIGHT.writable | RIGHT.dirty;
    let guestPhysical: number;
    if (world.paging === PAGING.none) {
      guestPhysical = low;
      this.guestOrder = 30;
    } else {
      guestPhysical = this.walkTables(world, low, high, access, user, implicit);
      if (guestPhysical < 0) return -1;
    }
    this.guestPhysical = guestPhysical;
    if (!world.eptOn) {
      this.order = this.guestOrder;
      this.rights |= ALL_EPT_RIGHTS;
      return guestPhysical;
    }
    this.userPage = (this.rights & RIGHT.user) !== 0;
    const physical = this.translateEpt(world, guestPhysical, access, false);
    if (physical < 0) return -1;
    const order = Math.min(this.guestOrder, this.eptOrder);
    // The TLB keeps one size of large pages a mode: a 4-MiB page over 2-MiB EPT pages is cached in 4-KiB pieces.
    this.order = order === 21 && world.paging === PAGING.bits32 ? 12 : order;
    this.rights = (this.rights & ~RIGHT.dirty) | (this.rights & this.eptRights & RIGHT.dirty);
    this.rights |= this.eptRights & (RIGHT.eptRead | RIGHT.eptWrite);
    // The kind of linear address, and with it which execute permission counts, is part of the translation.
    const executable = this.eptRights & (this.userPage ? RIGHT.eptUserExecute : RIGHT.eptExecute);
    if (executable !== 0) this.rights |= RIGHT.eptExecute;
    return physical;
  }

  private walkTables(
    world: World,
    low: number,
    high: number,
    access: AccessCode,
    user: boolean,
    implicit: boolean,
  ): number {
    const narrow = narrowOf(world);
    const top = world.topLevel;
    let table = world.root;
    if (world.paging === PAGING.pae) {
      table = this.pdpteTable(world, low, access, user);
      if (table < 0) return -1;
    }
    let allowed = ENTRY.user | ENTRY.writable;
    let noExecute = 0;
    let level: number = top;
    for (; ; level--) {
      const at =
        table + (narrow ? (level === 1 ? low >>> 22 : (low >>> 12) & 1023) * 4 : indexOf(low, high, level) * 8);
      const entryAt = this.readGuestEntry(world, at, narrow, level);
      if (entryAt < 0) return -1;
      this.guestEntryAt[level] = entryAt;
      this.guestEntryLow[level] = this.low;
      if ((this.low & ENTRY.present) === 0) return this.pageFault(world, access, user, 0, 'not present');
      const leaf = level === 0 || ((this.low & ENTRY.pageSize) !== 0 && this.mayBeLarge(world, level));
      const reserved = narrow ? this.reserved32(level, leaf) : this.reserved(world, level, leaf);
      if (reserved) return this.pageFault(world, access, user, PF.present | PF.reserved, 'a reserved bit is set');
      allowed &= this.low;
      noExecute |= this.high & XD;
      if (leaf) break;
      table = this.entryAddress(12);
    }
    const leafLow = this.low;
    const order = level === 0 ? 12 : level === 2 ? 30 : narrow ? 22 : 21;
    const base = narrow && level === 1 ? this.largeBase32() : this.entryAddress(order);
    const key = world.protectionKeys ? (this.high >>> 27) & 15 : 0;
    const byKey =
      access !== ACCESS.execute &&
      (allowed & ENTRY.user) !== 0 &&
      world.pkru !== 0 &&
      world.refusesKey(key, access === ACCESS.write, user);
    const problem =
      this.refusal(world, allowed, noExecute !== 0, access, user, implicit) ??
      (byKey ? `PKRU forbids it for protection key ${key}` : undefined);
    if (problem !== undefined) {
      return this.pageFault(world, access, user, PF.present | (byKey ? PF.protectionKey : 0), problem);
    }
    if (!this.markUsed(world, top, level, access)) return -1;
    this.guestOrder = order;
    this.rights =
      ((allowed & ENTRY.user) !== 0 ? RIGHT.user : 0) |
      ((allowed & ENTRY.writable) !== 0 ? RIGHT.writable : 0) |
      (noExecute !== 0 ? RIGHT.noExecute : 0) |
      (key << PROTECTION_KEY.shift) |
      (world.globalPages && (leafLow & ENTRY.global) !== 0 ? RIGHT.global : 0) |
      (access === ACCESS.write || (leafLow & ENTRY.dirty) !== 0 ? RIGHT.dirty : 0);
    return base + (low & (2 ** order - 1));
  }

  /** The table that the PDPTE register for `low` points to (SDM Vol. 3A, "PDPTE Registers"), or -1. */
  private pdpteTable(world: World, low: number, access: AccessCode, user: boolean): number {
    const index = low >>> 30;
    this.low = world.pdpte[2 * index] as number;
    this.high = world.pdpte[2 * index + 1] as number;
    this.record('linear', 'PDPTE', world.root + index * 8, undefined);
    if ((this.low & ENTRY.present) === 0) return this.pageFault(world, access, user, 0, 'not present');
    return this.entryAddress(12);
  }

  /** Physical address in the entry read last, for a page or table of 2^order bytes. */
  private entryAddress(order: number): number {
    return (this.high & 0xf_ffff) * 2 ** 32 + ((this.low & ~(2 ** order - 1)) >>> 0);
  }

  /** PSE-36: bits 20:13 of a 4-MiB page's PDE are address bits 39:32. */
  private largeBase32(): number {
    return ((this.low >>> 13) & 0xff) * 2 ** 32 + ((this.low & 0xffc0_0000) >>> 0);
  }

  private mayBeLarge(world: World, level: number): boolean {
    if (level === 1) return world.paging !== PAGING.bits32 || world.pageSizeExtension;
    return level === 2 && this.features.gigabytePages;
  }

  /** Whether the 8-byte entry read last sets a reserved bit (SDM Vol. 3A, "Reserved bits in paging structures"). */
  private reserved(world: World, level: number, leaf: boolean): boolean {
    const above = 0xf_ffff & ~(2 ** (this.features.physicalAddressBits - 32) - 1);
    // Bits 62:52 are ignored in IA-32e mode and reserved under PAE.
    const highMask = (above | (world.noExecute ? 0 : XD) | (world.paging === PAGING.pae ? 0x7ff0_0000 : 0)) >>> 0;
    if ((this.high & highMask) !== 0) return true;
    if (leaf) return level > 0 && (this.low & (level === 2 ? 0x3fff_e000 : 0x001f_e000)) !== 0;
    return level >= 2 && (this.low & ENTRY.pageSize) !== 0;
  }

  /** The same for a 4-byte entry: bit 21 and, of PSE-36's address bits, those beyond the physical width. */
  private reserved32(level: number, leaf: boolean): boolean {
    if (!leaf || level === 0) return false;
    const width = Math.min(8, this.features.physicalAddressBits - 32);
    return (this.low & (1 << 21)) !== 0 || ((this.low >>> 13) & 0xff) >>> width !== 0;
  }

  /** Why the rights refuse the access, in words; undefined when they allow it (SDM Vol. 3A, "Access Rights"). */
  private refusal(
    world: World,
    allowed: number,
    noExecute: boolean,
    access: AccessCode,
    user: boolean,
    implicit: boolean,
  ): string | undefined {
    const userPage = (allowed & ENTRY.user) !== 0;
    if (access === ACCESS.execute && noExecute) return 'execution is disabled (XD)';
    if (user) {
      if (!userPage) return 'a supervisor page';
      if (access === ACCESS.write && (allowed & ENTRY.writable) === 0) return 'read-only';
      return undefined;
    }
    if (access === ACCESS.execute) return world.smep && userPage ? 'SMEP forbids to execute a user page' : undefined;
    if (userPage && world.smap && (implicit || !world.alignmentFlag)) return 'SMAP forbids to access a user page';
    if (access === ACCESS.write && world.writeProtect && (allowed & ENTRY.writable) === 0) {
      return 'read-only, and CR0.WP is set';
    }
    return undefined;
  }

  /** Sets the accessed flags of the entries used and the dirty flag for a write. False with `fault` set. */
  private markUsed(world: World, top: number, leaf: number, access: AccessCode): boolean {
    for (let level = top; level >= leaf; level--) {
      const wanted = ENTRY.accessed | (level === leaf && access === ACCESS.write ? ENTRY.dirty : 0);
      const old = this.guestEntryLow[level] as number;
      if ((old & wanted) === wanted) continue;
      const at = this.guestEntryAt[level] as number;
      // With EPT's own A/D flags the read of the entry has already counted as a write.
      if (world.eptOn && !world.eptAccessedDirty && !this.mayWriteEntry(world, level)) return false;
      if (this.steps === undefined) this.mark(TABLE_NAMES[level] as string, at, old | wanted, narrowOf(world));
    }
    return true;
  }

  /** The update of an accessed or dirty flag is a write to guest-physical memory. */
  private mayWriteEntry(world: World, level: number): boolean {
    const steps = this.steps;
    const traced = steps?.length ?? 0;
    const ok = this.translateEpt(world, this.guestEntryGuestPhysical[level] as number, ACCESS.write, true) >= 0;
    if (steps !== undefined && ok) steps.length = traced;
    return ok;
  }

  /**
   * Reads a paging-structure entry into `low` and `high`. @returns its host-physical address, or -1 with `fault` set.
   */
  private readGuestEntry(world: World, guestPhysical: number, narrow: boolean, level: number): number {
    let at = guestPhysical;
    this.guestEntryGuestPhysical[level] = guestPhysical;
    if (world.eptOn) {
      at = this.translateEpt(world, guestPhysical, ACCESS.read, true);
      if (at < 0) return -1;
    }
    const table = TABLE_NAMES[level] as string;
    this.readEntry(table, at, narrow, false);
    this.record('linear', table, at, world.eptOn ? guestPhysical : undefined);
    return at;
  }

  private readEntry(table: string, at: number, narrow: boolean, ept: boolean): void {
    const physical = this.physical;
    if (this.steps !== undefined) {
      const bytes = new DataView(physical.peek(at, 8).buffer);
      this.low = bytes.getUint32(0, true);
      this.high = narrow ? 0 : bytes.getUint32(4, true);
      return;
    }
    this.tlb.countReference(ept);
    this.watch?.read(at);
    spend(physical.state, CYCLES_PER_REFERENCE);
    this.low = physical.read(at, 4);
    this.high = narrow ? 0 : physical.read(at + 4, 4);
    this.tell(table, 'read', at, narrow);
  }

  /** Sets flags in the low half of an entry. */
  private mark(table: string, at: number, low: number, narrow: boolean): void {
    this.physical.write(at, 4, low);
    this.tell(table, 'write', at, narrow);
  }

  private tell(table: string, access: TableReference['access'], address: number, narrow: boolean): void {
    if (!this.onReference) return;
    const bytes = new DataView(this.physical.peek(address, 8).buffer);
    const value = narrow ? BigInt(bytes.getUint32(0, true)) : bytes.getBigUint64(0, true);
    this.onReference({ table, access, address, length: narrow ? 4 : 8, value });
  }

  private record(level: 'linear' | 'ept', table: string, at: number, guestPhysical: number | undefined): void {
    if (this.steps === undefined) return;
    const value = (BigInt(this.high) << 32n) | BigInt(this.low);
    const step = { table, level, entryAddress: at, value };
    this.steps.push(guestPhysical === undefined ? step : { ...step, entryGuestPhysical: guestPhysical });
  }

  /** Marks the step recorded last as the one that ends the walk. */
  private blame(problem: string): void {
    const last = this.steps?.pop();
    if (last !== undefined) this.steps?.push({ ...last, problem });
  }

  private linearAddress(): bigint {
    return (BigInt(this.linearHigh) << 32n) | BigInt(this.linearLow);
  }

  /** @returns -1, with `fault` set to the #PF. */
  private pageFault(world: World, access: AccessCode, user: boolean, code: number, problem: string): number {
    const fetch = access === ACCESS.execute && (world.noExecute || world.smep);
    const errorCode = code | (access === ACCESS.write ? PF.write : 0) | (user ? PF.user : 0) | (fetch ? PF.fetch : 0);
    this.blame(problem);
    this.fault = { ...exception(VECTOR.pf, errorCode), linearAddress: this.linearAddress() };
    return -1;
  }

  /**
   * Translates a guest-physical address through EPT, by a guest-physical mapping of the TLB or by a walk.
   * @param structure the access is to a paging-structure entry
   * @returns the host-physical address (`eptOrder` and `eptRights` set), or -1 with `fault` set
   */
  private translateEpt(world: World, guestPhysical: number, access: AccessCode, structure: boolean): number {
    const asWrite = access === ACCESS.write || (structure && world.eptAccessedDirty);
    const low = guestPhysical >>> 0;
    const high = Math.floor(guestPhysical / 2 ** 32);
    const { tlb } = this;
    let entry = -1;
    // That a page is dirty is remembered for the guest's data in combined mappings only: hypervisors that clear the
    // flag
    // count on it when VM transitions have invalidated those.
    const mustMark = access === ACCESS.write && !structure && world.eptAccessedDirty;
    if (this.steps === undefined && !mustMark) {
      entry = tlb.find(MAPPING.guestPhysical, low, high, 21, world.guestPhysicalTags);
      if (entry >= 0 && allowsEpt(tlb.rights(entry), asWrite, access, this.userPage)) {
        this.eptRights = tlb.rights(entry);
        this.eptOrder = tlb.order(entry);
        tlb.countHit(MAPPING.guestPhysical);
        this.watch?.serves(entry, low, high, access, world);
        return tlb.target(entry, low);
      }
      tlb.countMiss(MAPPING.guestPhysical);
    }
    const mark = this.watch?.mark ?? 0;
    const physical = this.walkEpt(world, guestPhysical, low, high, access, asWrite, structure);
    if (this.steps !== undefined) return physical;
    if (physical < 0) {
      if (entry >= 0) tlb.remove(entry);
      return -1;
    }
    const order = this.eptOrder;
    const base = physical - (low & (2 ** order - 1));
    const tags = world.guestPhysicalTags;
    const filled = tlb.fill(MAPPING.guestPhysical, low, high, tags, base, order, order, this.eptRights);
    this.watch?.filled(filled, mark);
    if (entry >= 0 && entry !== filled) tlb.remove(entry);
    return physical;
  }

  private walkEpt(
    world: World,
    guestPhysical: number,
    low: number,
    high: number,
    access: AccessCode,
    asWrite: boolean,
    structure: boolean,
  ): number {
    const modeBased = world.eptModeBasedExecute;
    const present = EPT.read | EPT.write | EPT.execute | (modeBased ? EPT.userExecute : 0);
    let rights = present;
    let table = world.eptRoot;
    let level: number = world.eptTopLevel;
    // Four levels translate 48 bits: more is a violation (SDM Vol. 3C, "EPT Translation Mechanism").
    if (level === 3 && high >>> 16 !== 0)
      return this.eptViolation(world, guestPhysical, access, 0, structure, 'beyond 48 bits');
    for (; ; level--) {
      const at = table + indexOf(low, high, level) * 8;
      const name = EPT_TABLE_NAMES[level] as string;
      this.readEntry(name, at, false, true);
      this.record('ept', name, at, undefined);
      this.eptEntryAt[level] = at;
      this.eptEntryLow[level] = this.low;
      rights &= this.low;
      if ((this.low & present) === 0) {
        return this.eptViolation(world, guestPhysical, access, 0, structure, 'not present');
      }
      const leaf = level === 0 || ((this.low & EPT.large) !== 0 && this.mayBeLargeEpt(level));
      const misconfigured = this.misconfiguration(present, level, leaf);
      if (misconfigured !== undefined) {
        this.blame(misconfigured);
        this.fault = { kind: 'eptMisconfiguration', guestPhysicalAddress: BigInt(guestPhysical) };
        return -1;
      }
      if (leaf) break;
      table = this.entryAddress(12);
    }
    const order = level === 0 ? 12 : level === 1 ? 21 : 30;
    const base = this.entryAddress(order);
    const leafDirty = (this.low & EPT.dirty) !== 0;
    const execute = modeBased && this.userPage ? EPT.userExecute : EPT.execute;
    const wanted = access === ACCESS.execute ? execute : asWrite ? EPT.write : EPT.read;
    // An access to a paging structure that counts as a write is a read too.
    const needed = structure ? wanted | EPT.read : wanted;
    if ((rights & needed) !== needed) {
      const asks = level === 0 && access === ACCESS.write && !structure && this.linearValid && world.subPageWrites;
      const allowed = asks && this.mayWriteSubPage(world, guestPhysical, rights);
      if (typeof allowed === 'object') {
        this.fault = allowed;
        return -1;
      }
      if (!allowed) {
        const missing = access === ACCESS.execute ? 'execute' : asWrite ? 'write' : 'read';
        return this.eptViolation(world, guestPhysical, access, rights, structure, `no ${missing} permission`);
      }
    }
    const marks = world.eptAccessedDirty && this.steps === undefined;
    if (marks && !this.markEptUsed(world.eptTopLevel, level, guestPhysical, asWrite)) return -1;
    this.eptOrder = order;
    this.eptRights =
      ((rights & EPT.read) !== 0 ? RIGHT.eptRead : 0) |
      ((rights & EPT.write) !== 0 ? RIGHT.eptWrite : 0) |
      ((rights & EPT.execute) !== 0 ? RIGHT.eptExecute : 0) |
      ((rights & (modeBased ? EPT.userExecute : EPT.execute)) !== 0 ? RIGHT.eptUserExecute : 0) |
      (!world.eptAccessedDirty || asWrite || leafDirty ? RIGHT.dirty : 0);
    return base + (low & (2 ** order - 1));
  }

  /**
   * Asks the sub-page-permission table about a write that EPT forbids. The translation is not remembered as writable:
   * the table is asked at every write.
   */
  private mayWriteSubPage(world: World, guestPhysical: number, rights: number): boolean | VmExitFault {
    if ((this.high & SUB_PAGE_WRITE) === 0 || (rights & EPT.read) === 0) return false;
    const { low, high } = this;
    const table: SubPageTable = {
      root: world.subPageRoot,
      physicalAddressBits: this.features.physicalAddressBits,
      read: (at) => {
        this.readEntry('SPPT', at, false, true);
        return (BigInt(this.high) << 32n) | BigInt(this.low);
      },
    };
    const answer = mayWriteSubPages(table, { guestPhysical, linear: this.linearAddress(), size: this.accessSize });
    this.low = low;
    this.high = high;
    return answer;
  }

  private mayBeLargeEpt(level: number): boolean {
    return level === 1 || (level === 2 && this.features.gigabytePages);
  }

  /**
   * What is wrong with the present EPT entry read last (SDM Vol. 3C, "EPT Misconfigurations"); undefined when nothing.
   */
  private misconfiguration(present: number, level: number, leaf: boolean): string | undefined {
    const rights = this.low & present;
    if ((rights & EPT.read) === 0) {
      if ((rights & EPT.write) !== 0) return 'misconfigured: writable but not readable';
      if (!this.features.eptExecuteOnly) return 'misconfigured: execute-only is not supported';
    }
    const above = 0xf_ffff & ~(2 ** (this.features.physicalAddressBits - 32) - 1);
    if ((this.high & above) !== 0) return 'misconfigured: address beyond the physical-address width';
    if (!leaf) {
      const mask = level >= 3 ? 0xf8 : EPT.large | 0x78;
      return (this.low & mask) !== 0 ? `misconfigured: reserved bits ${hex(this.low & mask)} are set` : undefined;
    }
    const reserved = level === 0 ? 0 : level === 1 ? 0x001f_f000 : 0x3fff_f000;
    if ((this.low & reserved) !== 0) return `misconfigured: reserved bits ${hex(this.low & reserved)} are set`;
    const type = (this.low >>> 3) & 7;
    return EPT_MEMORY_TYPES[type] ? undefined : `misconfigured: memory type ${type} is reserved`;
  }

  /** Sets accessed and dirty flags. @returns false with `fault` set when the page-modification log is full */
  private markEptUsed(top: number, leaf: number, guestPhysical: number, write: boolean): boolean {
    const becomesDirty = write && ((this.eptEntryLow[leaf] as number) & EPT.dirty) === 0;
    const full = becomesDirty ? this.pageLog?.log(guestPhysical) : undefined;
    if (full) {
      this.fault = full;
      return false;
    }
    for (let level = top; level >= leaf; level--) {
      const wanted = EPT.accessed | (level === leaf && write ? EPT.dirty : 0);
      const old = this.eptEntryLow[level] as number;
      if ((old & wanted) === wanted) continue;
      this.mark(EPT_TABLE_NAMES[level] as string, this.eptEntryAt[level] as number, old | wanted, false);
    }
    return true;
  }

  /** @param rights the AND of bits 2:0 of the entries used. @returns -1, with `fault` set. */
  private eptViolation(
    world: World,
    guestPhysical: number,
    access: AccessCode,
    rights: number,
    structure: boolean,
    problem: string,
  ): number {
    // SDM Vol. 3C, "Exit Qualification for EPT Violations".
    // Setting a flag in a paging structure reads and writes the entry in one access.
    const both = structure && (world.eptAccessedDirty || access === ACCESS.write);
    let qualification = both ? 3 : 1 << access;
    qualification |= ((rights & 7) << 3) | ((rights & EPT.userExecute) >>> 4);
    if (this.linearValid) qualification |= structure ? 0x080 : 0x180;
    this.blame(problem);
    this.fault = {
      kind: 'eptViolation',
      qualification: BigInt(qualification),
      guestPhysicalAddress: BigInt(guestPhysical),
      ...((this.high & SUPPRESS_VE) !== 0 ? { suppressesException: true } : {}),
      ...(this.linearValid ? { guestLinearAddress: this.linearAddress() } : {}),
    };
    return -1;
  }

  /**
   * Translates a guest-physical address that comes from no linear address: PDPTE loads, and explanations of EPT alone.
   * @returns the host-physical address, or -1 with `fault` set
   */
  guestPhysicalAccess(world: World, guestPhysical: number, access: AccessCode, structure: boolean): number {
    this.linearValid = false;
    this.userPage = true;
    return this.translateEpt(world, guestPhysical, access, structure);
  }

  /** log2 of the EPT page that the last EPT translation went through. */
  get lastEptOrder(): number {
    return this.eptOrder;
  }
}

/** Whether entries have 4 bytes. */
const narrowOf = (world: World): boolean => world.paging === PAGING.bits32;

/** Whether a guest-physical mapping suffices for an access. */
function allowsEpt(rights: number, asWrite: boolean, access: AccessCode, userPage: boolean): boolean {
  if (access === ACCESS.execute) return (rights & (userPage ? RIGHT.eptUserExecute : RIGHT.eptExecute)) !== 0;
  if (!asWrite) return (rights & RIGHT.eptRead) !== 0;
  return (rights & (RIGHT.eptWrite | RIGHT.dirty)) === (RIGHT.eptWrite | RIGHT.dirty);
}
