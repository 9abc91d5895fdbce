/** The VMX unit: what the processor asks of it (Intercepts), and what a debugger sees of it (VmxView). */

import type { Cpu, SlowInstructionTable, VmxMsrs } from '../cpu/cpu.ts';
import type { FaultStep } from '../cpu/fault-step.ts';
import type { InterceptQuery, Intercepts, VectoredEvent } from '../cpu/intercepts.ts';
import { RECORD } from '../engine/record.ts';
import type { ExceptionFault, Fault, VmExitFault } from '../mmu/fault.ts';
import { BLOCKING, CR0, EFER, RFLAGS } from '../state/control-bits.ts';
import { ACTIVITY, MONITOR_TRAP, OFFSET, START_UP } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { CR0_FIXED, capabilityMsrs, cr4Fixed, eptLevels } from './capabilities.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { controlState } from './describe.ts';
import { entryFailure } from './entry.ts';
import type { EntryFacts } from './entry-check.ts';
import { failingChecks } from './entry-checks.ts';
import { type ExitDetails, eventInformation, exitToHost, secondaryControls, setsResumeFlag } from './exit.ts';
import { describeQualification, EXIT } from './exit-reasons.ts';
import { entryRemedies } from './explain-entry.ts';
import { FIELD_OFFSET as F, fieldByEncoding } from './fields.ts';
import { vmxInstructions } from './instructions.ts';
import { eventCause, INTERCEPTS } from './intercepts.ts';
import { type KnownVmcs, KnownVmcses } from './known-vmcses.ts';
import { PageModificationLog } from './page-log.ts';
import type { EntryRemedy, FailedCheck, VmEntryFailure, VmExitRecord, VmxView } from './records.ts';
import { shadowExitCause } from './shadow-vmcs.ts';
import { fillFieldTable } from './staged.ts';
import type { VmxCallbacks, VmxUnit } from './unit.ts';
import { VirtualApic } from './virtual-apic.ts';
import { convertViolation } from './virtualization-exception.ts';
import { CurrentVmcs } from './vmcs.ts';

const FIRST_SOFTWARE_TYPE = 4;

const NMI: VectoredEvent = { vector: 2, type: 2 };

const primaryIs1 = (mask: number): string => controlState('PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS', mask, 1);

type ExitFault = Exclude<Fault, { kind: 'exception' | 'softwareInterrupt' | 'unimplemented' }>;

/** What the unit remembers for people. */
export interface VmxHistory {
  readonly exitCounts: readonly (readonly [number, number])[];
  readonly exitCycles: readonly (readonly [number, number])[];
  readonly entries: number;
  readonly exited: VmxUnit['exited'];
  readonly lastExit: VmExitRecord | undefined;
  readonly lastEntryFailure: VmEntryFailure | undefined;
  readonly known: readonly KnownVmcs[];
}

/** Built before its processor, which needs it; `attach` joins the two. */
export class Vmx implements Intercepts, VmxView, VmxUnit {
  readonly callbacks: VmxCallbacks;
  readonly instructions: SlowInstructionTable = vmxInstructions(() => this);
  readonly known = new KnownVmcses();
  readonly exitCounts = new Map<number, number>();
  lastExit: VmExitRecord | undefined;
  lastEntryFailure: VmEntryFailure | undefined;
  entries = 0;
  readonly exitCycles = new Map<number, number>();
  exited: VmxUnit['exited'];
  readonly virtualApic = new VirtualApic(this);
  readonly pageLog = new PageModificationLog(this);
  private parts: Attached | undefined;

  constructor(callbacks: VmxCallbacks) {
    this.callbacks = callbacks;
  }

  attach(cpu: Cpu): void {
    const vmcs = new CurrentVmcs(cpu);
    fillFieldTable(cpu.state);
    this.parts = { cpu, vmcs, facts: factsOf(cpu), msrs: capabilityMsrs(cpu.model) };
  }

  private get attached(): Attached {
    if (!this.parts) throw new Error('the VMX unit is not attached to a processor');
    return this.parts;
  }
  get cpu(): Cpu {
    return this.attached.cpu;
  }
  get state(): State {
    return this.attached.cpu.state;
  }
  get vmcs(): CurrentVmcs {
    return this.attached.vmcs;
  }
  get facts(): EntryFacts {
    return this.attached.facts;
  }

  /** The capability MSRs. */
  readonly msrs: VmxMsrs = { read: (index) => this.attached.msrs.get(index) };

  snapshot(): VmxHistory {
    const { exitCounts, exitCycles, entries, exited, lastExit, lastEntryFailure } = this;
    const counts = { exitCounts: [...exitCounts], exitCycles: [...exitCycles], entries, exited };
    return { ...counts, lastExit, lastEntryFailure, known: this.known.list };
  }

  /** Puts back what `snapshot` gave; the processor's state must have been replaced. */
  restore(saved: VmxHistory): void {
    this.exitCounts.clear();
    for (const [reason, count] of saved.exitCounts) this.exitCounts.set(reason, count);
    this.exitCycles.clear();
    for (const [reason, cycles] of saved.exitCycles) this.exitCycles.set(reason, cycles);
    this.entries = saved.entries;
    this.exited = saved.exited;
    this.lastExit = saved.lastExit;
    this.lastEntryFailure = saved.lastEntryFailure;
    this.known.replace(saved.known);
  }

  /** The processor's state was replaced from outside (checkpoint): forgets what is derived from it. */
  stateReplaced(): void {
    this.vmcs.checks.everythingChanged();
    for (const part of [this.virtualApic, this.pageLog]) {
      if (this.state.get32('nonRoot') !== 0) part.enter();
      else part.leave();
    }
  }

  // ---- Intercepts

  instruction(query: InterceptQuery): VmExitFault | ExceptionFault | undefined {
    const answer = INTERCEPTS[query.kind] as (q: InterceptQuery, ...rest: unknown[]) => VmExitFault | undefined;
    return answer(query, this.vmcs, this.cpu.mmu.physical, this.cpu);
  }

  event(event: VectoredEvent): boolean {
    return eventCause(event, this.vmcs) !== undefined;
  }

  exitForEvent(
    event: VectoredEvent | 'tripleFault',
    vectoring: VectoredEvent | undefined,
    story?: readonly FaultStep[],
  ): void {
    if (event === 'tripleFault') {
      const cause = 'a fault during the delivery of a double fault';
      exitToHost(this, { reason: EXIT.TRIPLE_FAULT, cause, story });
      return;
    }
    const cause = eventCause(event, this.vmcs) ?? 'the event causes a VM exit';
    if (event.type === 0) this.exitForInterrupt(event, cause);
    else exitToHost(this, { ...exceptionDetails(event, cause), vectoring: event.vector === 8 ? undefined : vectoring });
  }

  /**
   * “Acknowledge interrupt on exit” decides whether the vector is taken and reported. The notification vector of posted
   * interrupts causes no VM exit.
   */
  private exitForInterrupt(event: VectoredEvent, cause: string): void {
    const controls = this.vmcs.get32(F.PRIMARY_VM_EXIT_CONTROLS);
    if ((controls & EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT_ON_EXIT) === 0) {
      exitToHost(this, { reason: EXIT.EXTERNAL_INTERRUPT, cause });
      return;
    }
    const vector = this.cpu.interrupts.acknowledge();
    if (this.virtualApic.processesPosted && this.virtualApic.processPosted(vector)) return;
    const interruptionInformation = eventInformation({ ...event, vector });
    exitToHost(this, { reason: EXIT.EXTERNAL_INTERRUPT, interruptionInformation, cause });
  }

  exitForFault(fault: ExitFault, vectoring: VectoredEvent | undefined): void {
    const instructionLength = vectoring ? (vectoring.instructionLength ?? 0) : this.instructionLength();
    if (fault.kind === 'vmExit') {
      const unblocking = TELLS_UNBLOCKING.has(fault.reason) ? unblockingBit(fault) : 0n;
      const qualification = vectoring ? duringDelivery(fault) : fault.qualification | unblocking;
      const resumeFlag = vectoring ? setsResumeFlag(vectoring) : OF_ACCESSES.has(fault.reason);
      exitToHost(this, { ...fault, qualification, instructionLength, vectoring, resumeFlag });
      return;
    }
    const resumeFlag = vectoring ? setsResumeFlag(vectoring) : true;
    const { guestPhysicalAddress } = fault;
    const at = `guest-physical address 0x${guestPhysicalAddress.toString(16)}`;
    const common = { guestPhysicalAddress, instructionLength, vectoring, resumeFlag };
    if (fault.kind === 'eptMisconfiguration') {
      const cause = `an EPT entry on the way to ${at} is misconfigured`;
      exitToHost(this, { ...common, reason: EXIT.EPT_MISCONFIGURATION, cause });
      return;
    }
    const { guestLinearAddress } = fault;
    const qualification = fault.qualification | unblockingBit(fault);
    const cause = `${at}: ${describeQualification(EXIT.EPT_VIOLATION, qualification)}`;
    exitToHost(this, { ...common, reason: EXIT.EPT_VIOLATION, qualification, guestLinearAddress, cause });
  }

  /** Of the instruction that has just faulted. */
  private instructionLength(): number {
    const record = this.state.u32[OFFSET.exitRecord >>> 2] as number;
    return record === 0 ? 0 : (this.state.bytes[record + RECORD.length] as number);
  }

  /** With “NMI exiting” IRET removes only the blocking of virtual NMIs. */
  iretUnblocksNmi(): boolean {
    const pin = this.vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS);
    return (pin & PIN.NMI_EXITING) === 0 || (pin & PIN.VIRTUAL_NMIS) !== 0;
  }

  exceptionFor(fault: Fault): ExceptionFault | undefined {
    return fault.kind === 'eptViolation' ? convertViolation(this, fault) : undefined;
  }

  trap(): boolean {
    const details = this.virtualApic.emulateWrite() ?? this.signalExit() ?? this.monitorTrapExit();
    if (!details) return false;
    exitToHost(this, details);
    return true;
  }

  /** The wait-for-SIPI state blocks INIT, and is the only one in which a start-up IPI counts. */
  private signalExit(): ExitDetails | undefined {
    const { state } = this;
    const { u32 } = state;
    const startUp = u32[OFFSET.startUpRequest >>> 2] as number;
    if (((u32[OFFSET.initRequest >>> 2] as number) | startUp) === 0) return undefined;
    const waits = state.get32('activity') === ACTIVITY.waitForSipi;
    state.set32('startUpRequest', 0);
    if (waits && startUp !== 0) {
      const cause = 'a start-up IPI has come in the wait-for-SIPI state';
      return { reason: EXIT.START_UP_IPI, qualification: BigInt(startUp & START_UP.vector), cause };
    }
    if (waits || state.get32('initRequest') === 0) return undefined;
    state.set32('initRequest', 0);
    return { reason: EXIT.INIT_SIGNAL, cause: 'an INIT signal has come' };
  }

  private monitorTrapExit(): ExitDetails | undefined {
    if (this.state.u32[OFFSET.monitorTrap >>> 2] !== MONITOR_TRAP.pending) return undefined;
    return { reason: EXIT.MONITOR_TRAP_FLAG, cause: '“monitor trap flag” is 1 and an instruction has run' };
  }

  boundary(): boolean | VectoredEvent {
    const { state, vmcs } = this;
    const urgent = this.timerExit() ?? this.nmiExit(state, vmcs);
    if (!urgent && this.takesNmi(state)) return false;
    const details = urgent ?? this.interruptWindowExit(state, vmcs);
    if (!details) return this.virtualApic.takeInterrupt() ?? false;
    exitToHost(this, details);
    return true;
  }

  taskPriority(): number | undefined {
    return this.virtualApic.taskPriority();
  }

  setTaskPriority(priority: number): boolean {
    return this.virtualApic.setTaskPriority(priority);
  }

  readMsr(msr: number): bigint | undefined {
    return this.virtualApic.readMsr(msr);
  }

  writeMsr(msr: number, value: bigint): 'written' | 'fault' | undefined {
    return this.virtualApic.writeMsr(msr, value);
  }

  private timerExit(): ExitDetails | undefined {
    if (this.cpu.clock.cycles() < this.state.getFloat('preemptionDeadline')) return undefined;
    return { reason: EXIT.VMX_PREEMPTION_TIMER, cause: 'the VMX-preemption timer has counted down to 0' };
  }

  /** With virtual NMIs the interruptibility state tells of those: physical NMIs are never blocked in the guest. */
  private nmiExit(state: State, vmcs: CurrentVmcs): ExitDetails | undefined {
    if ((vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS) & PIN.VIRTUAL_NMIS) === 0) return undefined;
    const blocking = state.get32('interruptibility');
    const window = vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & PRIMARY.NMI_WINDOW_EXITING;
    const isOpen = (blocking & (BLOCKING.byNmi | BLOCKING.byMovSs)) === 0 && state.get32('activity') <= ACTIVITY.hlt;
    if (window && isOpen) {
      const cause = `${primaryIs1(PRIMARY.NMI_WINDOW_EXITING)} and no virtual-NMI blocking is in force`;
      return { reason: EXIT.NMI_WINDOW, cause };
    }
    if (state.get32('nmiRequest') === 0 || blocking & BLOCKING.byMovSs) return undefined;
    state.set32('nmiRequest', 0);
    return exceptionDetails(NMI, eventCause(NMI, vmcs) ?? 'an NMI');
  }

  /** An NMI that comes next, whether it exits or not: before interrupt windows and interrupts. */
  private takesNmi(state: State): boolean {
    const blocked = state.get32('interruptibility') & (BLOCKING.byNmi | BLOCKING.byMovSs);
    return state.get32('nmiRequest') !== 0 && blocked === 0;
  }

  private interruptWindowExit(state: State, vmcs: CurrentVmcs): ExitDetails | undefined {
    const primary = vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
    if ((primary & PRIMARY.INTERRUPT_WINDOW_EXITING) === 0) return undefined;
    const blocked = state.get32('interruptibility') & (BLOCKING.bySti | BLOCKING.byMovSs);
    const isOpen = (state.get32('rflagsSystem') & RFLAGS.if) !== 0 && blocked === 0;
    if (!isOpen || state.get32('activity') > ACTIVITY.hlt) return undefined;
    const cause = `${primaryIs1(PRIMARY.INTERRUPT_WINDOW_EXITING)} and RFLAGS.IF is 1, without blocking by STI or MOV SS`;
    return { reason: EXIT.INTERRUPT_WINDOW, cause };
  }

  guestView(cr: 0 | 4, real: bigint): bigint {
    const mask = this.vmcs.get64(cr === 0 ? F.CR0_GUEST_HOST_MASK : F.CR4_GUEST_HOST_MASK);
    const shadow = this.vmcs.get64(cr === 0 ? F.CR0_READ_SHADOW : F.CR4_READ_SHADOW);
    return (real & ~mask) | (shadow & mask);
  }

  mergeGuestWrite(cr: 0 | 4, value: bigint, real: bigint): bigint {
    const mask = this.vmcs.get64(cr === 0 ? F.CR0_GUEST_HOST_MASK : F.CR4_GUEST_HOST_MASK);
    return (value & ~mask) | (real & mask);
  }

  fixedBits(cr: 0 | 4): bigint {
    if (cr === 4) return cr4Fixed(this.cpu.model).mustBeOne;
    const inGuest = this.state.get32('nonRoot') !== 0;
    const unrestricted = inGuest && (secondaryControls(this.vmcs) & SECONDARY.UNRESTRICTED_GUEST) !== 0;
    return unrestricted ? CR0_FIXED.mustBeOne & ~BigInt(CR0.pe | CR0.pg) & 0xffff_ffffn : CR0_FIXED.mustBeOne;
  }

  // ---- VmxView

  guestRegister(encoding: number): bigint | undefined {
    const { currentVmcs } = this;
    return currentVmcs === undefined ? undefined : this.known.register(Number(currentVmcs), encoding);
  }

  get knownVmcses(): readonly KnownVmcs[] {
    return this.known.list;
  }

  get currentVmcs(): bigint | undefined {
    return this.state.get32('vmxOn') !== 0 && this.vmcs.exists ? this.vmcs.pointer : undefined;
  }

  get launchState(): 'clear' | 'launched' | undefined {
    return this.currentVmcs === undefined ? undefined : this.vmcs.launchState;
  }

  read(encoding: number): bigint | undefined {
    return this.currentVmcs === undefined ? undefined : readField(encoding, (offset) => this.vmcs.get64(offset));
  }

  remember(): ((encoding: number) => bigint | undefined) | undefined {
    if (this.currentVmcs === undefined) return undefined;
    const words = this.vmcs.copy();
    return (encoding) => readField(encoding, (offset) => words[offset >>> 3] as bigint);
  }

  write(encoding: number, value: bigint): boolean {
    const found = this.currentVmcs === undefined ? undefined : fieldByEncoding(encoding);
    if (!found) return false;
    const { field, high } = found;
    const low = BigInt.asUintN(32, this.vmcs.get64(field.offset));
    this.vmcs.set64(field.offset, high ? low | (value << 32n) : BigInt.asUintN(8 * field.bytes, value));
    return true;
  }

  checkEntry(): VmEntryFailure | undefined {
    if (this.currentVmcs === undefined) return undefined;
    const [first] = failingChecks(this.vmcs.values, this.facts);
    return first ? entryFailure(this, first) : undefined;
  }

  remedies(failed: FailedCheck): readonly EntryRemedy[] {
    return entryRemedies(failed, this.facts);
  }

  whyInstruction(query: InterceptQuery): VmExitFault | ExceptionFault | undefined {
    // Of all answers that of PAUSE-loop exiting alone leaves something behind.
    const { state } = this;
    const [first, last] = [state.getFloat('pauseLoop', 0), state.getFloat('pauseLoop', 1)];
    const answer = this.instruction(query);
    state.setFloat('pauseLoop', first, 0);
    state.setFloat('pauseLoop', last, 1);
    return answer;
  }

  whyEvent(event: VectoredEvent): string | undefined {
    return eventCause(event, this.vmcs);
  }

  whyShadow(encoding: bigint, write: boolean): string | undefined {
    return shadowExitCause(this, encoding, write ? 'VMWRITE_BITMAP_ADDRESS' : 'VMREAD_BITMAP_ADDRESS');
  }

  apicExit(physical: number, size: number, access: 'read' | 'write' | 'execute'): VmExitFault | undefined {
    const { page } = this.virtualApic;
    if (physical < page || physical >= page + 4096) return undefined;
    const answer = this.virtualApic.access(physical - page, size, access);
    return typeof answer === 'number' ? undefined : answer;
  }
}

interface Attached {
  readonly cpu: Cpu;
  readonly vmcs: CurrentVmcs;
  readonly facts: EntryFacts;
  readonly msrs: ReadonlyMap<number, bigint>;
}

/** @param at what is at an offset of the VMCS @returns undefined for an encoding that no field has */
function readField(encoding: number, at: (offset: number) => bigint): bigint | undefined {
  const found = fieldByEncoding(encoding);
  const value = found && at(found.field.offset);
  return found?.high && value !== undefined ? value >> 32n : value;
}

/** Bit 12 of qualifications and interruption information: NMI unblocking due to IRET. */
const UNBLOCKING = 0x1000;
const unblockingBit = ({ unblocksNmi }: { readonly unblocksNmi?: true }): bigint =>
  unblocksNmi ? BigInt(UNBLOCKING) : 0n;

/** VM exits whose qualification has that bit, beside EPT violations. */
const TELLS_UNBLOCKING: ReadonlySet<number> = new Set([EXIT.PAGE_MODIFICATION_LOG_FULL, EXIT.SPP_RELATED_EVENT]);
/** VM exits of memory accesses that save RF = 1, unlike those of instructions (SDM Vol. 3C, "Saving RIP, RSP…"). */
const OF_ACCESSES: ReadonlySet<number> = new Set([...TELLS_UNBLOCKING, EXIT.APIC_ACCESS]);

/** Linear accesses to the APIC-access page during event delivery have access type 3, whatever they are. */
const duringDelivery = ({ reason, qualification }: VmExitFault): bigint =>
  reason === EXIT.APIC_ACCESS ? (qualification & 0xfffn) | 0x3000n : qualification;

function factsOf({ model, state, mmu }: Cpu): EntryFacts {
  return {
    physicalAddressBits: model.physicalAddressBits,
    linearAddressBits: model.linearAddressBits,
    eptLevels: eptLevels(model),
    cr0: CR0_FIXED,
    cr4: cr4Fixed(model),
    eferBits: BigInt(model.eferBits),
    longModeActive: () => ((state.u32[OFFSET.efer >>> 2] as number) & EFER.lma) !== 0,
    currentVmcs: () => state.u64[OFFSET.vmcsPointer >>> 3] as bigint,
    read32: (physical) => mmu.physical.read(physical, 4),
    read64: (physical) => mmu.physical.read64(physical),
  };
}

/** A VM exit due to an exception or NMI (SDM Vol. 3C, "Information for VM Exits Due to Vectored Events"). */
function exceptionDetails(event: VectoredEvent, cause: string): ExitDetails {
  return {
    reason: EXIT.EXCEPTION_OR_NMI,
    qualification: event.vector === 14 ? event.linearAddress : event.vector === 1 ? event.debugStatus : undefined,
    interruptionInformation: (eventInformation(event) | (event.unblocksNmi ? UNBLOCKING : 0)) >>> 0,
    interruptionErrorCode: event.errorCode,
    instructionLength: event.type >= FIRST_SOFTWARE_TYPE ? (event.instructionLength ?? 0) : 0,
    resumeFlag: setsResumeFlag(event),
    nmi: event.type === 2,
    cause,
  };
}
