import { countOf, OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { AccessWatch } from './access-watch.ts';
import { BounceBuffer } from './bounce-buffer.ts';
import { Breakpoints, notePending } from './breakpoints.ts';
import type { ContextKey } from './fast-tlb.ts';
import { exception, generalProtection, type MemoryFault, VECTOR, type VmExitFault } from './fault.ts';
import { highHalf, lowHalf, toLinear } from './halves.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import type { TableReference } from './table-reference.ts';
import { type StaleStory, TableWatch, type TableWatchHooks } from './table-watch.ts';
import { MAPPING, PROTECTION_KEY, RIGHT, type Tlb, type TlbEntry } from './tlb.ts';
import {
  type Access,
  currentContext,
  explainEpt,
  explainTranslation,
  type Translation,
  type TranslationContext,
} from './translation.ts';
import { type PageLog, type PagingFeatures, Walker } from './walk.ts';
import { ACCESS, type AccessCode, PAGING, World } from './world.ts';

/** Who keeps decoded code per physical page (engine/code-cache.ts): writes to such pages take the slow path. */
export interface CodeWatch {
  /** @param page physical page number. */
  holdsCode(page: number): boolean;
  /** About to write RAM at [physical, physical + length). */
  written(physical: number, length: number): void;
}

/** Takes the accesses to a guest's APIC-access page (vmx/virtual-apic.ts). */
export interface ApicAccess {
  /** Physical address of the page. */
  readonly page: number;
  /** @returns the physical address that the access goes to instead, or the VM exit that it causes */
  access(offset: number, size: number, kind: Access): number | VmExitFault;
  /** A write that `access` has let pass is done. */
  written(offset: number): void;
}

/** Paging, EPT and the TLB in front of physical memory. */
export class Mmu {
  readonly state: State;
  readonly physical: PhysicalMemory;
  readonly tlb: Tlb;
  /** What the processor model supports; set once when the machine is built. */
  readonly features: PagingFeatures = { physicalAddressBits: 40, gigabytePages: true, eptExecuteOnly: true };
  /** The fault of the last `access` or `fetch` that returned 0 or -1. */
  fault: MemoryFault | undefined;
  codeWatch: CodeWatch | undefined;
  private apic: ApicAccess | undefined;
  /** Page offset of the write to the APIC-access page that waits in the bounce buffer, or -1. */
  private apicWrite = -1;
  private accessedLow = 0;
  private accessedHigh = 0;
  /** Breakpoints in DR0…DR3. Pages with a data breakpoint are never in the engine's fast TLB. */
  readonly breakpoints = new Breakpoints();
  /** Told of an access that a data breakpoint traps: the processor must stop after the instruction in hand. */
  onDataBreakpoint: (() => void) | undefined;
  /** Told when CPL may have changed, among other things that translations depend on. */
  onContextChanged: (() => void) | undefined;
  /** Told when breakpoints in the debug registers may have changed. */
  onBreakpointsChanged: (() => void) | undefined;

  /** The worlds of VMX root and non-root operation: each remembers what it was loaded from. */
  private readonly worlds = [new World(), new World()] as const;
  private world: World = this.worlds[0];
  private readonly walker: Walker;
  private watch: TableWatch | undefined;
  private accessWatch: AccessWatch | undefined;
  private readonly key: ContextKey = { mode: 0, tags: 0, eptLow: 0, eptHigh: 0, processor: 0 };
  /** RIGHT bits of the translation that `translate` returned last. */
  private rights = 0;
  /** PKRU of the fast translations at hand. */
  private pkru = 0;
  private readonly bounce: BounceBuffer;

  constructor(state: State, physical: PhysicalMemory, tlb: Tlb) {
    this.state = state;
    this.physical = physical;
    this.tlb = tlb;
    this.bounce = new BounceBuffer(state, physical, (at, length) => {
      if (this.holdsCode(at, true)) this.noteWrite(at, length);
    });
    this.key.processor = tlb.processor;
    this.walker = new Walker(physical, tlb, this.features);
    this.updateContext();
  }

  /** Told when VM entries and VM exits change who takes accesses to the APIC-access page. */
  setApicAccess(apic: ApicAccess | undefined): void {
    if (this.apic === apic) return;
    this.apic = apic;
    // Fast translations of the page would pass it by.
    this.tlb.fast.wipe();
  }

  /** Who records the pages that become dirty through EPT (page-modification logging); undefined: nobody. */
  set pageLog(log: PageLog | undefined) {
    this.walker.pageLog = log;
  }

  /** Forgets the engine's fast write translations that lead to this physical page (it now holds decoded code). */
  dropWriteTranslations(physicalPage: number): void {
    const physical = physicalPage * 4096;
    if (physical + 4096 <= this.state.ramSize) this.tlb.fast.dropWritesTo(this.physical.host(physical));
  }

  /** Forgets everything that is derived from `state`: after a checkpoint was copied back, or devices were remapped. */
  forgetFastTranslations(): void {
    this.tlb.fast.wipe();
    this.watch?.adopt();
    this.updateContext();
    this.updateBreakpoints();
  }

  /** Begins, or with undefined ends, to tell every access to a table that a walk makes. */
  watchWalks(onReference: ((reference: TableReference) => void) | undefined): void {
    this.walker.onReference = onReference;
  }

  /** Begins, or with undefined ends, to follow which writes make TLB entries stale. It changes nothing else. */
  watchTables(hooks: TableWatchHooks | undefined): void {
    const { writeWatches } = this.physical;
    if (this.watch) writeWatches.splice(writeWatches.indexOf(this.watch), 1);
    this.watch = hooks && new TableWatch(this, hooks);
    this.walker.watch = this.watch;
    if (this.watch) writeWatches.push(this.watch);
  }

  /** Begins, or with undefined ends, to tell of accesses to watched memory. All processors share the watch. */
  watchAccesses(watch: AccessWatch | undefined): void {
    this.accessWatch = watch;
    this.tlb.fast.wipe();
  }

  /** What is known of a stale TLB entry's past: only while tables are watched. */
  storyOf(entry: TlbEntry): StaleStory | undefined {
    return this.watch?.story(entry);
  }

  /**
   * The engine's slow path. Translates [linear, linear + size), fills TLBs, and returns the linear-memory address where
   * the data can be accessed: RAM, or the bounce buffer (OFFSET.bounce) already filled with the current data, in which
   * case a write is finished by `commit`. Returns 0 with `fault` set when the access faults; nothing has changed then.
   * @param low @param high the linear address's halves, unsigned
   * @param size at most 64, or any number of bytes inside one page of RAM
   */
  access(low: number, high: number, size: number, write: boolean): number {
    const { world } = this;
    if (world.alignmentChecks && (size === 2 || size === 4 || size === 8) && (low & (size - 1)) !== 0) {
      this.fault = exception(VECTOR.ac, 0);
      return 0;
    }
    return this.accessAs(low, high, size, write, world.user, false);
  }

  /** `access` after a look into the engine's fast TLB: for TypeScript that reads and writes as the guest does. */
  locate(low: number, high: number, size: number, write: boolean): number {
    if ((low & 0xfff) + size <= 4096) {
      const host = this.tlb.fast.probe(low, high, write);
      if (host !== 0) {
        this.bounce.clear();
        return host;
      }
    }
    return this.access(low, high, size, write);
  }

  /** As `access`, for the processor's own accesses to its tables: supervisor accesses at any CPL. */
  accessSystem(low: number, high: number, size: number, write: boolean): number {
    return this.accessAs(low, high, size, write, false, true);
  }

  private accessAs(low: number, high: number, size: number, write: boolean, user: boolean, implicit: boolean): number {
    this.bounce.clear();
    this.apicWrite = -1;
    this.accessedLow = low;
    this.accessedHigh = high;
    const inFirst = 4096 - (low & 0xfff);
    const host =
      inFirst < size
        ? this.accessAcross(low, high, size, inFirst, write, user, implicit)
        : this.accessWithin(low, high, size, write, user, implicit);
    if (host !== 0 && !implicit && this.breakpoints.data.length !== 0) {
      this.noteDataBreakpoints(this.breakpoints.matchData(low, high, size, write));
    }
    return host;
  }

  private accessWithin(
    low: number,
    high: number,
    size: number,
    write: boolean,
    user: boolean,
    implicit: boolean,
  ): number {
    this.walker.accessSize = size;
    const physical = this.translate(low, high, write ? ACCESS.write : ACCESS.read, user, implicit);
    if (physical < 0) return 0;
    if (this.accessWatch) this.tellAccess(this.accessWatch, low, high, physical, size, write, implicit);
    if (this.apic !== undefined && physical - (physical % 4096) === this.apic.page) {
      return this.accessApic(this.apic, physical % 4096, size, write);
    }
    if (!this.physical.isRamPage(physical)) {
      return this.bounce.fill(physical, size);
    }
    const holdsCode = this.holdsCode(physical, write);
    if (write && holdsCode) {
      this.noteWrite(physical, size);
    } else if (user === this.world.user && !this.world.alignmentChecks && !this.isWatched(low, high)) {
      this.fillFast(low, high, physical, user, holdsCode);
    }
    return this.physical.host(physical);
  }

  /**
   * Whether somebody wants to know of writes to the page: it holds decoded code, or tables that are watched.
   * @param write the access in hand is one
   */
  private holdsCode(physical: number, write: boolean): boolean {
    const page = Math.floor(physical / 4096);
    if (write) this.physical.prepareWrite(page);
    return this.codeWatch?.holdsCode(page) === true || this.physical.holdsTable(page);
  }

  private noteWrite(physical: number, length: number): void {
    this.codeWatch?.written(physical, length);
    this.physical.tellWatches(physical, length, 'instruction');
  }

  /** Gives the engine the translation that `translate` has just found, for RAM without watched or awkward accesses. */
  private fillFast(low: number, high: number, physical: number, user: boolean, holdsCode: boolean): void {
    const { rights } = this;
    const blocked = this.watch?.blocked ?? 0;
    const mayRead = (blocked & (1 << ACCESS.read)) === 0 && !this.accessWatch?.watchesReads(physical);
    const readable = mayRead && this.allows(rights, ACCESS.read, user, false);
    const mayWrite = !holdsCode && (blocked & (1 << ACCESS.write)) === 0;
    const writable = mayWrite && this.allows(rights, ACCESS.write, user, false);
    const isGlobal = (rights & RIGHT.global) !== 0;
    this.tlb.fast.fill(low, high, this.physical.host(physical - (physical % 4096)), readable, writable, isGlobal);
  }

  /**
   * `access` for compiled code: the host address of RAM whose translation the fast TLB now holds, 0 with `fault` set, or
   * -1 when the access is for the interpreter. Nothing but a translation has been cached in that case.
   */
  touch(low: number, high: number, size: number, write: boolean): number {
    const { world } = this;
    if (world.alignmentChecks || (low & 0xfff) + size > 4096 || this.isWatched(low, high)) return -1;
    // Sub-page write permissions ask at every write, and for its size.
    if (write && world.subPageWrites) return -1;
    this.accessedLow = low;
    this.accessedHigh = high;
    const access = write ? ACCESS.write : ACCESS.read;
    const physical = this.ask(low, high, access);
    if (physical < 0) return 0;
    if (this.watch !== undefined && (this.watch.blocked & (1 << access)) !== 0) return -1;
    if (this.apic !== undefined && physical - (physical % 4096) === this.apic.page) return -1;
    if (!this.physical.isRamPage(physical)) return -1;
    const holdsCode = this.holdsCode(physical, write);
    if (write ? holdsCode : this.accessWatch?.watchesReads(physical)) return -1;
    this.fillFast(low, high, physical, world.user, holdsCode);
    return this.physical.host(physical);
  }

  /** Translates for compiled code, which may leave the access itself to the interpreter. */
  private ask(low: number, high: number, access: AccessCode): number {
    const { watch, world } = this;
    if (watch) watch.asksOnly = true;
    const physical = this.translate(low, high, access, world.user, false);
    if (watch) watch.asksOnly = false;
    return physical;
  }

  private noteDataBreakpoints(bits: number): void {
    if (bits === 0) return;
    notePending(this.state, bits);
    this.onDataBreakpoint?.();
  }

  /** Whether accesses through the linear page of an address are watched, by the guest's breakpoints or from outside. */
  private isWatched(low: number, high: number): boolean {
    if (this.breakpoints.data.length !== 0 && this.breakpoints.watchesPage(low, high)) return true;
    const { accessWatch } = this;
    if (accessWatch === undefined) return false;
    if (accessWatch.watchesLinear(toLinear(low, high))) return true;
    const guestPhysical = this.guestPhysicalOf(accessWatch, low, high);
    return guestPhysical !== undefined && accessWatch.watchesGuestPhysical(guestPhysical);
  }

  /** The guest-physical address behind a linear one, where somebody wants to know. */
  private guestPhysicalOf(watch: AccessWatch, low: number, high: number): bigint | undefined {
    if (!watch.wantsGuestPhysical || !this.world.eptOn) return undefined;
    const { guestPhysical } = this.explain(toLinear(low, high), 'read');
    return guestPhysical === undefined ? undefined : BigInt(guestPhysical);
  }

  private tellAccess(
    watch: AccessWatch,
    low: number,
    high: number,
    physical: number,
    size: number,
    write: boolean,
    implicit: boolean,
  ): void {
    const gpa = this.guestPhysicalOf(watch, low, high);
    const at = { linear: toLinear(low, high), gpa, hpa: BigInt(physical) };
    watch.accessed(at, size, write, implicit ? 'processor' : 'instruction');
  }

  /** Must be called after any change of DR0…DR3 and DR7. */
  updateBreakpoints(): void {
    const { breakpoints } = this;
    breakpoints.update(this.state);
    for (const { low, high } of breakpoints.data) this.tlb.fast.dropPages(low, high, 1);
    this.onBreakpointsChanged?.();
  }

  /** An access to the APIC-access page goes to the virtual-APIC page through the bounce buffer, or causes a VM exit. */
  private accessApic(apic: ApicAccess, offset: number, size: number, write: boolean): number {
    const target = apic.access(offset, size, write ? 'write' : 'read');
    if (typeof target === 'object') {
      this.fault = { ...target, guestLinearAddress: this.accessed };
      return 0;
    }
    this.apicWrite = write ? offset : -1;
    return this.bounce.fill(target, size);
  }

  /** Linear address of the access in hand. */
  private get accessed(): bigint {
    return toLinear(this.accessedLow, this.accessedHigh);
  }

  private accessAcross(
    low: number,
    high: number,
    size: number,
    inFirst: number,
    write: boolean,
    user: boolean,
    implicit: boolean,
  ): number {
    const access = write ? ACCESS.write : ACCESS.read;
    const nextLow = (low + inFirst) >>> 0;
    // Outside IA-32e mode linear addresses have 32 bits and wrap.
    const carry = nextLow === 0 && this.world.paging === PAGING.ia32e ? 1 : 0;
    const nextHigh = (high + carry) >>> 0;
    // All bytes must be canonical before any page is looked at.
    if (!this.isCanonical(high) || !this.isCanonical(nextHigh)) return 0;
    this.walker.accessSize = inFirst;
    const first = this.translate(low, high, access, user, implicit);
    if (first < 0) return 0;
    this.walker.accessSize = size - inFirst;
    const second = this.translate(nextLow, nextHigh, access, user, implicit);
    if (second < 0) return 0;
    if (this.accessWatch) {
      this.tellAccess(this.accessWatch, low, high, first, inFirst, write, implicit);
      this.tellAccess(this.accessWatch, nextLow, nextHigh, second, size - inFirst, write, implicit);
    }
    const page = this.apic?.page;
    if (page !== undefined && (first - (first % 4096) === page || second - (second % 4096) === page)) {
      return this.accessApic(this.apic as ApicAccess, first % 4096, size, write);
    }
    return this.bounce.fillAcross(first, inFirst, second, size - inFirst);
  }

  /** Writes the bounce buffer of the last `access` for writing to where it belongs. */
  commit(): void {
    this.bounce.commit();
    if (this.apicWrite >= 0) this.apic?.written(this.apicWrite);
    this.apicWrite = -1;
  }

  /** Physical address of the code byte at `linear`, or -1 with `fault` set. */
  fetch(linear: bigint): number {
    return this.fetchAt(lowHalf(linear), highHalf(linear));
  }

  /** `fetch` from a linear address in halves. */
  fetchAt(low: number, high: number): number {
    const physical = this.translate(low, high, ACCESS.execute, this.world.user, false);
    if (physical >= 0 && (this.rights & RIGHT.global) === 0) this.tlb.fast.noteLocalCode(low);
    if (this.apic === undefined || physical < 0 || physical - (physical % 4096) !== this.apic.page) return physical;
    const exit = this.apic.access(physical % 4096, 1, 'execute');
    if (typeof exit === 'number') return exit;
    this.fault = { ...exit, guestLinearAddress: toLinear(low, high) };
    return -1;
  }

  /** Whether the upper half of a linear address is canonical in this paging mode, of 48 or 57 bits. */
  canReach(high: number): boolean {
    return this.world.isCanonical(high);
  }

  /** Whether the upper half of a linear address is canonical where that matters; leaves #GP(0) in `fault` otherwise. */
  private isCanonical(high: number): boolean {
    if (this.world.isCanonical(high)) return true;
    this.fault = generalProtection();
    return false;
  }

  /** The whole translation of one byte: TLB, walk, TLB fill. @returns the physical address or -1 with `fault` set. */
  private translate(low: number, high: number, access: AccessCode, user: boolean, implicit: boolean): number {
    const { world, tlb, walker } = this;
    this.watch?.begin();
    if (world.paging === PAGING.none) return this.translateUnpaged(low, access);
    if (!this.isCanonical(high)) return -1;
    const kind = world.eptOn ? MAPPING.combined : MAPPING.linear;
    const entry = tlb.find(kind, low, high, world.largeOrder, world);
    if (entry >= 0 && this.allows(tlb.rights(entry), access, user, implicit)) {
      this.rights = tlb.rights(entry);
      tlb.countHit(kind);
      this.watch?.serves(entry, low, high, access, world);
      return tlb.target(entry, low);
    }
    // An entry that does not suffice (rights, dirty flag) is not trusted: the tables decide, as after an invalidation.
    tlb.countMiss(kind);
    const physical = walker.walk(world, low, high, access, user, implicit);
    if (physical < 0) {
      this.fault = walker.fault;
      if (entry >= 0) tlb.remove(entry);
      return -1;
    }
    const { order } = walker;
    const page = physical - (low & (2 ** order - 1));
    const filled = tlb.fill(kind, low, high, world, page, order, walker.guestOrder, walker.rights);
    this.watch?.filled(filled, 0);
    if (entry >= 0 && entry !== filled) tlb.remove(entry);
    this.rights = walker.rights;
    return physical;
  }

  /** Without paging there are no linear or combined mappings: only EPT translates. */
  private translateUnpaged(low: number, access: AccessCode): number {
    const { walker } = this;
    const physical = walker.walk(this.world, low, 0, access, false, false);
    this.rights = walker.rights;
    if (physical < 0) this.fault = walker.fault;
    return physical;
  }

  /** Whether a translation with these RIGHT bits allows the access without touching a table. */
  private allows(rights: number, access: AccessCode, user: boolean, implicit: boolean): boolean {
    const { world } = this;
    const userPage = (rights & RIGHT.user) !== 0;
    if (world.pkru !== 0 && userPage && access !== ACCESS.execute) {
      if (world.refusesKey((rights & PROTECTION_KEY.mask) >>> PROTECTION_KEY.shift, access === ACCESS.write, user)) {
        return false;
      }
    }
    if (access === ACCESS.execute) {
      if ((rights & (RIGHT.noExecute | RIGHT.eptExecute)) !== RIGHT.eptExecute) return false;
      return user ? userPage : !(world.smep && userPage && world.paging !== PAGING.none);
    }
    if (user && !userPage) return false;
    const smap = !user && userPage && world.smap && world.paging !== PAGING.none;
    if (smap && (implicit || !world.alignmentFlag)) return false;
    if (access === ACCESS.read) return (rights & RIGHT.eptRead) !== 0;
    if ((rights & (RIGHT.eptWrite | RIGHT.dirty)) !== (RIGHT.eptWrite | RIGHT.dirty)) return false;
    return (rights & RIGHT.writable) !== 0 || (!user && !world.writeProtect);
  }

  /** Reads `size` (1, 2, 4, 8) bytes at a linear address; implicit supervisor access when `system`. */
  read(linear: bigint, size: number, system = false): bigint | MemoryFault {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    const at = system ? this.accessSystem(low, high, size, false) : this.locate(low, high, size, false);
    if (at === 0) return this.lastFault();
    const { view } = this.state;
    if (size === 8) return view.getBigUint64(at, true);
    return BigInt(size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at));
  }

  write(linear: bigint, size: number, value: bigint, system = false): MemoryFault | undefined {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    const at = system ? this.accessSystem(low, high, size, true) : this.locate(low, high, size, true);
    if (at === 0) return this.lastFault();
    const { view } = this.state;
    if (size === 8) view.setBigUint64(at, BigInt.asUintN(64, value), true);
    else if (size === 4) view.setUint32(at, Number(value & 0xffff_ffffn), true);
    else if (size === 2) view.setUint16(at, Number(value & 0xffffn), true);
    else view.setUint8(at, Number(value & 0xffn));
    if (at === OFFSET.bounce) this.commit();
    return undefined;
  }

  /** `fault` after an access that returned 0. */
  lastFault(): MemoryFault {
    if (this.fault === undefined) throw new Error('no access has faulted');
    return this.fault;
  }

  /**
   * Must be called after any change of what translations depend on: CR0, CR3, CR4, EFER, CPL, RFLAGS.AC, PKRU, VPID,
   * EPTP, and of DR7.
   */
  updateContext(): void {
    const world = this.worlds[this.state.get32('nonRoot') === 0 ? 0 : 1];
    this.world = world;
    world.loadCurrent(this.state);
    this.key.mode = world.modeBits;
    this.key.tags = world.tags;
    this.key.eptLow = world.eptLow;
    this.key.eptHigh = world.eptHigh;
    this.tlb.fast.enter(this.key);
    if (world.pkru !== this.pkru) {
      this.pkru = world.pkru;
      this.tlb.fast.giveUp({ processor: this.tlb.processor });
    }
    this.watch?.entered(world);
    this.onContextChanged?.();
    // VM entries and exits change DR7, too.
    if (this.breakpoints.isStale(this.state)) this.updateBreakpoints();
  }

  /**
   * Reads the four PDPTEs at CR3 (PAE paging) through EPT when it is on, without changing state.
   * @param cr3 the value being loaded
   * @returns the entries, or the fault: EPT's, or #GP(0) for a present entry with a reserved bit set
   */
  readPdptes(cr3: bigint): bigint[] | MemoryFault {
    const table = Number(cr3 & 0xffff_ffe0n);
    const reserved = pdpteReserved(this.features.physicalAddressBits);
    const entries: bigint[] = [];
    for (let i = 0; i < countOf('pdpte'); i++) {
      const at = this.guestToHost(table + 8 * i);
      if (at < 0) return this.lastFault();
      const entry = this.physical.read64(at);
      this.walker.onReference?.({ table: 'PDPTE', access: 'read', address: at, length: 8, value: entry });
      if ((entry & 1n) !== 0n && (entry & reserved) !== 0n) return generalProtection();
      entries.push(entry);
    }
    return entries;
  }

  /** Host-physical address that a guest-physical one has in the current world, or -1 with `fault` set. */
  private guestToHost(guestPhysical: number): number {
    if (!this.world.eptOn) return guestPhysical;
    this.watch?.begin();
    const physical = this.walker.guestPhysicalAccess(this.world, guestPhysical, ACCESS.read, false);
    if (physical < 0) this.fault = this.walker.fault;
    return physical;
  }

  /** What the tables say of one byte's translation; see `explainTranslation`. Default context: the current world. */
  explain(linear: bigint, access: Access, context?: TranslationContext): Translation {
    return explainTranslation(this, linear, access, context);
  }

  /** The EPT part alone, for a guest-physical address. */
  explainEpt(guestPhysical: number, access: Access, eptp: bigint): Translation {
    return explainEpt(this, guestPhysical, access, eptp);
  }

  /** The current world's context. */
  context(): TranslationContext {
    return currentContext(this.state);
  }
}

/**
 * Reserved bits of a PAE PDPTE: 2:1, 8:5 and those from the physical-address width on (SDM Vol. 3A, "PDPTE
 * Registers").
 */
const pdpteReserved = (physicalAddressBits: number): bigint =>
  0x1e6n | (0xffff_ffff_ffff_ffffn & ~((1n << BigInt(physicalAddressBits)) - 1n));
