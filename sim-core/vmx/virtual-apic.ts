/**
 * APIC virtualization (SDM Vol. 3C, chapter "APIC Virtualization and Virtual Interrupts"): what a guest's accesses to its
 * local APIC do, and which virtual interrupt it gets. Registers live in the virtual-APIC page, RVI and SVI in the VMCS.
 */

import type { VectoredEvent } from '../cpu/intercepts.ts';
import type { VmExitFault } from '../mmu/fault.ts';
import type { ApicAccess } from '../mmu/mmu.ts';
import { BLOCKING, RFLAGS } from '../state/control-bits.ts';
import { ACTIVITY, OFFSET } from '../state/layout.ts';
import { PIN, PRIMARY, SECONDARY } from './controls.ts';
import { type ExitDetails, secondaryControls } from './exit.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import type { VmxUnit } from './unit.ts';

/** Offsets of virtual registers that are more than memory. */
const REGISTER = {
  taskPriority: 0x80, processorPriority: 0xa0, endOfInterrupt: 0xb0, inService: 0x100, requests: 0x200, command: 0x300,
  commandHigh: 0x310, selfIpi: 0x3f0,
} as const; // biome-ignore format: a table reads better in rows

/** Registers that a guest may read, and write, with “APIC-register virtualization”. */
const everySixteen = (from: number, to: number): number[] =>
  Array.from({ length: (to - from) / 0x10 + 1 }, (_, i) => from + 0x10 * i);
const BOTH = [0x20, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, ...everySixteen(0x320, 0x370), 0x380, 0x3e0];
const READABLE: ReadonlySet<number> = new Set([...BOTH, 0x30, ...everySixteen(0x100, 0x270)]);
const WRITABLE: ReadonlySet<number> = new Set(BOTH);

/** Access types of the APIC-access exit qualification, bits 15:12. */
const ACCESS_TYPE = { read: 0, write: 1, execute: 2, eventDelivery: 3 } as const;

/** MSRs of x2APIC mode: 800H + offset / 16. */
const X2APIC = { first: 0x800, last: 0x8ff, taskPriority: 0x808, endOfInterrupt: 0x80b, selfIpi: 0x83f } as const;

/** ICR bits that a self-IPI without VM exit must have 0; the destination shorthand (19:18) must be 1, self. */
const ICR = { mustBeZero: 0xfff3_b700, shorthand: 0xc_0000, self: 0x4_0000 } as const;

/** Bits of the posted-interrupt descriptor behind its 256 requests. */
const POSTED = { requestWords: 8, flags: 32, outstanding: 1 } as const;

const NONE = 0xf_ffff_ffff_ffff;

export class VirtualApic implements ApicAccess {
  private readonly unit: VmxUnit;
  /** Controls in force; all 0 outside non-root operation. */
  private primary = 0;
  private secondary = 0;
  /** Physical addresses of the virtual-APIC page and (in `page`) the APIC-access page. */
  private registers = 0;
  page = NONE;

  constructor(unit: VmxUnit) {
    this.unit = unit;
  }

  /** VM entry, or a restored state in non-root operation: takes over what the VMCS says. */
  enter(): void {
    const { vmcs, cpu } = this.unit;
    this.primary = vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
    this.secondary = secondaryControls(vmcs);
    if (this.hasShadow) this.registers = Number(vmcs.get64(F.VIRTUAL_APIC_ADDRESS));
    const virtualizes = (this.secondary & SECONDARY.VIRTUALIZE_APIC_ACCESSES) !== 0;
    cpu.mmu.setApicAccess(virtualizes ? this : undefined);
    this.page = virtualizes ? Number(vmcs.get64(F.APIC_ACCESS_ADDRESS)) : NONE;
  }

  /** VM exit. */
  leave(): void {
    this.primary = 0;
    this.secondary = 0;
    if (this.page === NONE) return;
    this.page = NONE;
    this.unit.cpu.mmu.setApicAccess(undefined);
  }

  private get hasShadow(): boolean {
    return (this.primary & PRIMARY.USE_TPR_SHADOW) !== 0;
  }
  private get deliversInterrupts(): boolean {
    return (this.secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0;
  }
  private get virtualizesRegisters(): boolean {
    return (this.secondary & SECONDARY.APIC_REGISTER_VIRTUALIZATION) !== 0;
  }

  private get(offset: number): number {
    return this.unit.cpu.mmu.physical.read(this.registers + offset, 4);
  }
  private set(offset: number, value: number): void {
    this.unit.cpu.mmu.physical.write(this.registers + offset, 4, value);
  }

  // ---- accesses to the APIC-access page

  /** @returns the physical address that the access goes to instead, or the VM exit that it causes */
  access(offset: number, size: number, kind: 'read' | 'write' | 'execute'): number | VmExitFault {
    const fits = size <= 4 && (offset & 15) + size <= 4;
    if (fits && kind !== 'execute' && this.hasShadow && this.isVirtual(offset & ~15, kind)) {
      return this.registers + offset;
    }
    const cause = `a ${kind} of the APIC-access page at offset 0x${offset.toString(16)} is not virtualized`;
    const qualification = BigInt(offset | (ACCESS_TYPE[kind] << 12));
    return { kind: 'vmExit', reason: EXIT.APIC_ACCESS, qualification, cause };
  }

  private isVirtual(register: number, kind: 'read' | 'write'): boolean {
    if (this.virtualizesRegisters) return (kind === 'read' ? READABLE : WRITABLE).has(register);
    if (register === REGISTER.taskPriority) return true;
    const written = register === REGISTER.endOfInterrupt || register === REGISTER.command;
    return kind === 'write' && this.deliversInterrupts && written;
  }

  /** A write to the virtual-APIC page has happened: it is emulated at the next instruction boundary. */
  written(offset: number): void {
    const { state } = this.unit;
    state.set32('apicWrite', (offset & ~15) + 1);
    state.set32('attention', 1);
  }

  // ---- CR8 and the MSRs of x2APIC mode

  /** CR8, 0…15; undefined without “use TPR shadow”. */
  taskPriority(): number | undefined {
    return this.hasShadow ? (this.get(REGISTER.taskPriority) >>> 4) & 15 : undefined;
  }

  /** @returns whether there is a TPR shadow */
  setTaskPriority(priority: number): boolean {
    if (!this.hasShadow) return false;
    this.set(REGISTER.taskPriority, priority << 4);
    this.written(REGISTER.taskPriority);
    return true;
  }

  private isVirtualMsr(msr: number): boolean {
    const virtualizes = (this.secondary & SECONDARY.VIRTUALIZE_X2APIC_MODE) !== 0;
    return virtualizes && msr >= X2APIC.first && msr <= X2APIC.last;
  }

  /** What RDMSR gets from the virtual-APIC page; undefined: the MSR is the processor's. */
  readMsr(msr: number): bigint | undefined {
    if (!this.isVirtualMsr(msr)) return undefined;
    if (msr !== X2APIC.taskPriority && !this.virtualizesRegisters) return undefined;
    return this.unit.cpu.mmu.physical.read64(this.registers + ((msr & 0xff) << 4));
  }

  /** WRMSR. @returns 'fault' for #GP(0), undefined when the MSR is the processor's */
  writeMsr(msr: number, value: bigint): 'written' | 'fault' | undefined {
    if (!this.isVirtualMsr(msr)) return undefined;
    const delivers = this.deliversInterrupts && (msr === X2APIC.endOfInterrupt || msr === X2APIC.selfIpi);
    if (msr !== X2APIC.taskPriority && !delivers) return undefined;
    const reserved = msr === X2APIC.endOfInterrupt ? value : value >> 8n;
    if (reserved !== 0n) return 'fault';
    const offset = (msr & 0xff) << 4;
    this.set(offset, Number(value));
    this.set(offset + 4, 0);
    this.written(offset);
    return 'written';
  }

  // ---- emulation of writes (SDM, "APIC-Write Emulation")

  /** Emulates the write that is pending. @returns the VM exit that it causes, which is trap-like */
  emulateWrite(): ExitDetails | undefined {
    const { state } = this.unit;
    const pending = state.u32[OFFSET.apicWrite >>> 2] as number;
    if (pending === 0) return undefined;
    state.set32('apicWrite', 0);
    return this.emulate(pending - 1);
  }

  private emulate(offset: number): ExitDetails | undefined {
    switch (offset) {
      case REGISTER.taskPriority:
        this.set(offset, this.get(offset) & 0xff);
        return this.virtualizeTaskPriority();
      case REGISTER.endOfInterrupt:
        return this.deliversInterrupts ? this.virtualizeEndOfInterrupt() : writeExit(offset);
      case REGISTER.command:
        return this.virtualizeCommand();
      case REGISTER.commandHigh:
        this.set(offset, this.get(offset) & 0xff00_0000);
        return undefined;
      case REGISTER.selfIpi:
        return this.sendToSelf(this.get(offset) & 0xff) ? undefined : writeExit(offset);
      default:
        return writeExit(offset);
    }
  }

  private virtualizeTaskPriority(): ExitDetails | undefined {
    if (this.deliversInterrupts) {
      this.updateProcessorPriority();
      return undefined;
    }
    return this.belowThreshold();
  }

  /** The VM exit “TPR below threshold”, if it is due. */
  belowThreshold(): ExitDetails | undefined {
    const threshold = this.unit.vmcs.get32(F.TPR_THRESHOLD) & 15;
    const priority = this.taskPriority();
    if (priority === undefined || this.deliversInterrupts || priority >= threshold) return undefined;
    const cause = `the virtual task priority ${priority} is below TPR_THRESHOLD, ${threshold}`;
    return { reason: EXIT.TPR_BELOW_THRESHOLD, cause };
  }

  /** PPR virtualization. */
  private updateProcessorPriority(): void {
    const task = this.get(REGISTER.taskPriority) & 0xff;
    const { servicing } = this;
    this.set(REGISTER.processorPriority, task >>> 4 >= servicing >>> 4 ? task : servicing & 0xf0);
  }

  private virtualizeEndOfInterrupt(): ExitDetails | undefined {
    this.set(REGISTER.endOfInterrupt, 0);
    const vector = this.servicing;
    this.setBit(REGISTER.inService, vector, false);
    this.servicing = Math.max(0, this.highest(REGISTER.inService));
    this.updateProcessorPriority();
    const bitmap = this.unit.vmcs.get64(F[EOI_EXIT_BITMAPS[vector >>> 6] as (typeof EOI_EXIT_BITMAPS)[number]]);
    if (((bitmap >> BigInt(vector & 63)) & 1n) === 0n) return undefined;
    const cause = `bit ${vector} of the EOI-exit bitmap is 1`;
    return { reason: EXIT.VIRTUALIZED_EOI, qualification: BigInt(vector), cause };
  }

  private virtualizeCommand(): ExitDetails | undefined {
    const command = this.get(REGISTER.command);
    const simple = (command & ICR.mustBeZero) === 0 && (command & ICR.shorthand) === ICR.self;
    const sent = this.deliversInterrupts && simple && this.sendToSelf(command & 0xff);
    return sent ? undefined : writeExit(REGISTER.command);
  }

  /** Self-IPI virtualization. @returns false for vectors that no interrupt can have */
  private sendToSelf(vector: number): boolean {
    if (vector < 16) return false;
    this.setBit(REGISTER.requests, vector, true);
    this.requesting = Math.max(this.requesting, vector);
    return true;
  }

  // ---- virtual interrupts

  private get requesting(): number {
    return this.unit.vmcs.get32(F.GUEST_INTERRUPT_STATUS) & 0xff;
  }
  private set requesting(vector: number) {
    const { vmcs } = this.unit;
    vmcs.set32(F.GUEST_INTERRUPT_STATUS, (vmcs.get32(F.GUEST_INTERRUPT_STATUS) & 0xff00) | vector);
  }
  private get servicing(): number {
    return this.unit.vmcs.get32(F.GUEST_INTERRUPT_STATUS) >>> 8;
  }
  private set servicing(vector: number) {
    const { vmcs } = this.unit;
    vmcs.set32(F.GUEST_INTERRUPT_STATUS, (vmcs.get32(F.GUEST_INTERRUPT_STATUS) & 0xff) | (vector << 8));
  }

  private setBit(register: number, vector: number, value: boolean): void {
    const at = register + ((vector >>> 5) << 4);
    const mask = 1 << (vector & 31);
    this.set(at, value ? this.get(at) | mask : this.get(at) & ~mask);
  }

  /** The highest vector whose bit is set in a 256-bit register, or -1. */
  private highest(register: number): number {
    for (let word = 7; word >= 0; word--) {
      const value = this.get(register + (word << 4));
      if (value !== 0) return 32 * word + 31 - Math.clz32(value);
    }
    return -1;
  }

  /** After VM entry: PPR virtualization, or the VM exit of a task priority that is too low from the start. */
  afterEntry(): void {
    if (this.deliversInterrupts) this.updateProcessorPriority();
    else if (this.belowThreshold()) this.written(REGISTER.taskPriority);
    if (this.hasPending) this.unit.state.set32('attention', 1);
  }

  /** Whether a virtual interrupt is recognized. */
  get hasPending(): boolean {
    return this.deliversInterrupts && this.requesting >>> 4 > ((this.get(REGISTER.processorPriority) >>> 4) & 15);
  }

  /** The virtual interrupt to deliver now, which goes into service. */
  takeInterrupt(): VectoredEvent | undefined {
    if (!this.hasPending) return undefined;
    const { u32 } = this.unit.state;
    const blocked = (u32[OFFSET.interruptibility >>> 2] as number) & (BLOCKING.bySti | BLOCKING.byMovSs);
    const open = ((u32[OFFSET.rflagsSystem >>> 2] as number) & RFLAGS.if) !== 0 && blocked === 0;
    if (!open || (u32[OFFSET.activity >>> 2] as number) > ACTIVITY.hlt) return undefined;
    const vector = this.requesting;
    this.setBit(REGISTER.inService, vector, true);
    this.servicing = vector;
    this.set(REGISTER.processorPriority, vector & 0xf0);
    this.setBit(REGISTER.requests, vector, false);
    this.requesting = Math.max(0, this.highest(REGISTER.requests));
    return { vector, type: 0 };
  }

  /** Whether external interrupts are looked at for the posted-interrupt notification vector. */
  get processesPosted(): boolean {
    const pin = this.unit.vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS);
    return (pin & PIN.PROCESS_POSTED_INTERRUPTS) !== 0;
  }

  /** Posted-interrupt processing. @returns false when the acknowledged vector is not the notification vector */
  processPosted(vector: number): boolean {
    const { vmcs, cpu } = this.unit;
    if (vector !== vmcs.get32(F.POSTED_INTERRUPT_NOTIFICATION_VECTOR)) return false;
    const { physical } = cpu.mmu;
    const descriptor = Number(vmcs.get64(F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS));
    const flags = descriptor + POSTED.flags;
    physical.write(flags, 4, physical.read(flags, 4) & ~POSTED.outstanding);
    cpu.interrupts.endOfInterrupt();
    let highest = -1;
    for (let word = 0; word < POSTED.requestWords; word++) {
      const at = descriptor + 4 * word;
      const posted = physical.read(at, 4);
      if (posted === 0) continue;
      physical.write(at, 4, 0);
      const register = REGISTER.requests + 16 * word;
      this.set(register, this.get(register) | posted);
      highest = 32 * word + 31 - Math.clz32(posted);
    }
    this.requesting = Math.max(this.requesting, highest);
    return true;
  }
}

const EOI_EXIT_BITMAPS = ['EOI_EXIT_BITMAP_0', 'EOI_EXIT_BITMAP_1', 'EOI_EXIT_BITMAP_2', 'EOI_EXIT_BITMAP_3'] as const;

const writeExit = (offset: number): ExitDetails => ({
  reason: EXIT.APIC_WRITE,
  qualification: BigInt(offset),
  cause: `the write to the virtual APIC at offset 0x${offset.toString(16)} needs the hypervisor`,
});
