/** VM exits (SDM Vol. 3C, chapter "VM Exits"): records why, saves the guest, loads the host. */

import type { FaultStep } from '../cpu/fault-step.ts';
import type { VectoredEvent } from '../cpu/intercepts.ts';
import { updateCodeMode } from '../cpu/modes.ts';
import { loadGlobalControl } from '../cpu/performance-counters.ts';
import { readRflags, writeRflags } from '../cpu/rflags.ts';
import { updateSegmentTops } from '../cpu/segments.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { BLOCKING, CR0, CR4, EFER, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { ACTIVITY, MONITOR_TRAP, OFFSET, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { spend } from '../state/time.ts';
import { abortVmx } from './abort.ts';
import { MISC } from './capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import { describeMsrFailure, loadMsrList, storeMsrList } from './msr-lists.ts';
import type { VmExitRecord } from './records.ts';
import { TRANSITION_CYCLES, type VmxUnit } from './unit.ts';
import { type CurrentVmcs, wordOf } from './vmcs.ts';

const VALID = 0x8000_0000;
const ENTRY_FAILURE = 0x8000_0000;

/** What a VM exit reports. Absent parts are recorded as 0. */
export interface ExitDetails {
  readonly reason: number;
  readonly qualification?: bigint | undefined;
  readonly guestLinearAddress?: bigint | undefined;
  readonly guestPhysicalAddress?: bigint | undefined;
  readonly interruptionInformation?: number;
  readonly interruptionErrorCode?: number | undefined;
  /** The event whose delivery was under way. */
  readonly vectoring?: VectoredEvent | undefined;
  readonly instructionLength?: number;
  readonly instructionInformation?: number | undefined;
  /** RFLAGS.RF in the saved image; undefined keeps what the processor has. */
  readonly resumeFlag?: boolean | undefined;
  readonly nmi?: boolean;
  /** In words: what asked for the VM exit. */
  readonly cause: string;
  /** Triple faults: how it came about. */
  readonly story?: readonly FaultStep[] | undefined;
}

/** The interruption-information format of an event. */
export const eventInformation = (event: VectoredEvent): number =>
  (VALID | (event.errorCode === undefined ? 0 : 0x800) | (event.type << 8) | event.vector) >>> 0;

export const secondaryControls = (vmcs: CurrentVmcs): number =>
  vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & PRIMARY.ACTIVATE_SECONDARY_CONTROLS
    ? vmcs.get32(F.SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
    : 0;

/** Leaves VMX non-root operation. Afterwards the state is the host's. */
export function exitToHost(unit: VmxUnit, details: ExitDetails): void {
  const { state, vmcs, cpu } = unit;
  unit.callbacks.onExiting?.();
  spend(state, TRANSITION_CYCLES);
  recordInformation(vmcs, details.reason, details);
  saveGuest(unit, details);
  const record = makeRecord(unit, details, details.reason);
  const count = vmcs.get32(F.VM_EXIT_MSR_STORE_COUNT);
  const unsaved = count === 0 ? undefined : storeMsrList(cpu, address(vmcs, F.VM_EXIT_MSR_STORE_ADDRESS), count);
  if (unsaved) abortVmx(unit, 'savingGuestMsrs', describeMsrFailure(unsaved));
  else if (loadHost(unit, details.nmi ?? false)) {
    unit.known.exited(state, Number(record.vmcs), record.instructions);
    announce(unit, record);
  }
}

/**
 * The VM exit that a failed VM entry makes (reasons 33 and 34): nothing of the guest is saved, and only the exit reason
 * and qualification are recorded (SDM Vol. 3C, "VM-Entry Failures During or After Loading Guest State").
 */
export function exitForFailedEntry(unit: VmxUnit, reason: number, qualification: bigint, cause: string): void {
  const { vmcs } = unit;
  vmcs.set32(F.EXIT_REASON, (ENTRY_FAILURE | reason) >>> 0);
  vmcs.set64(F.EXIT_QUALIFICATION, qualification);
  const record = makeRecord(unit, { reason, qualification, cause }, (ENTRY_FAILURE | reason) >>> 0);
  if (loadHost(unit, false)) announce(unit, record);
}

const address = (vmcs: CurrentVmcs, offset: number): number => Number(vmcs.get64(offset));

function announce(unit: VmxUnit, record: VmExitRecord): void {
  unit.exitCounts.set(record.reason, (unit.exitCounts.get(record.reason) ?? 0) + 1);
  unit.lastExit = record;
  unit.exited = { reason: record.reason, cycle: unit.cpu.clock.cycles() };
  unit.callbacks.onExit(record);
}

function recordInformation(vmcs: CurrentVmcs, reasonField: number, details: ExitDetails): void {
  const { vectoring } = details;
  vmcs.set32(F.EXIT_REASON, reasonField);
  record64(vmcs, F.EXIT_QUALIFICATION, details.qualification);
  record64(vmcs, F.GUEST_LINEAR_ADDRESS, details.guestLinearAddress);
  record64(vmcs, F.GUEST_PHYSICAL_ADDRESS, details.guestPhysicalAddress);
  vmcs.set32(F.VM_EXIT_INTERRUPTION_INFORMATION, details.interruptionInformation ?? 0);
  vmcs.set32(F.VM_EXIT_INTERRUPTION_ERROR_CODE, details.interruptionErrorCode ?? 0);
  vmcs.set32(F.IDT_VECTORING_INFORMATION, vectoring ? eventInformation(vectoring) : 0);
  vmcs.set32(F.IDT_VECTORING_ERROR_CODE, vectoring?.errorCode ?? 0);
  vmcs.set32(F.VM_EXIT_INSTRUCTION_LENGTH, details.instructionLength ?? 0);
  vmcs.set32(F.VM_EXIT_INSTRUCTION_INFORMATION, details.instructionInformation ?? 0);
  vmcs.set32(F.VM_ENTRY_INTERRUPTION_INFORMATION, vmcs.get32(F.VM_ENTRY_INTERRUPTION_INFORMATION) & ~VALID);
}

/** Most VM exits have 0 here: spares the BigInt arithmetic. */
function record64(vmcs: CurrentVmcs, offset: number, value: bigint | undefined): void {
  if (value === undefined || value === 0n) vmcs.setHalves(offset, 0, 0);
  else vmcs.set64(offset, value);
}

function makeRecord(unit: VmxUnit, details: ExitDetails, exitReasonField: number): VmExitRecord {
  const { state, vmcs, cpu } = unit;
  return {
    reason: details.reason,
    exitReasonField,
    qualification: details.qualification ?? 0n,
    guestLinearAddress: details.guestLinearAddress ?? 0n,
    guestPhysicalAddress: details.guestPhysicalAddress ?? 0n,
    interruptionInformation: details.interruptionInformation ?? 0,
    interruptionErrorCode: details.interruptionErrorCode ?? 0,
    idtVectoringInformation: details.vectoring ? eventInformation(details.vectoring) : 0,
    instructionLength: details.instructionLength ?? 0,
    instructionInformation: details.instructionInformation ?? 0,
    guestRip: vmcs.get64(F.GUEST_RIP),
    vmcs: vmcs.pointer,
    instructions: cpu.clock.cycles() - (state.f64[OFFSET.extraCycles >>> 3] as number),
    cause: details.cause,
    story: details.story,
  };
}

/** VM exits between instructions, which save the debug exceptions that the last instruction has left pending. */
const KEEPS_PENDING_DEBUG: ReadonlySet<number> = new Set([
  EXIT.INIT_SIGNAL,
  EXIT.MONITOR_TRAP_FLAG,
  EXIT.TPR_BELOW_THRESHOLD,
  EXIT.VIRTUALIZED_EOI,
  EXIT.APIC_WRITE,
]);

/** Other VM exits save none, unless MOV SS holds them back (SDM Vol. 3C, "Saving Non-Register State"). */
function dropPendingDebug(state: State, reason: number): void {
  const held = ((state.u32[OFFSET.interruptibility >>> 2] as number) & BLOCKING.byMovSs) !== 0;
  if (!held && !KEEPS_PENDING_DEBUG.has(reason)) clear64(state, OFFSET.pendingDebug);
}

/** SDM Vol. 3C, "Saving Guest State". */
function saveGuest(unit: VmxUnit, details: ExitDetails): void {
  const { state, vmcs } = unit;
  dropPendingDebug(state, details.reason);
  const controls = vmcs.get32(F.PRIMARY_VM_EXIT_CONTROLS);
  // SS.DPL is always the CPL.
  const { u32 } = state;
  const stack = RIGHTS_AT + SEGMENT.ss;
  u32[stack] = ((u32[stack] as number) & ~RIGHTS.dpl) | ((u32[OFFSET.cpl >>> 2] as number) << 5);
  vmcs.noteStagedWrites();
  vmcs.transfer.saveGuest();
  vmcs.setHalves(F.GUEST_CR0, u32[OFFSET.cr0 >>> 2] as number, 0);
  vmcs.setHalves(F.GUEST_RFLAGS, savedRflags(state, details.resumeFlag), 0);
  if (controls & EXIT_CONTROL.SAVE_DEBUG_CONTROLS) {
    vmcs.setHalves(F.GUEST_DR7, u32[(OFFSET.dr >>> 2) + 14] as number, 0);
    saveField(state, vmcs, F.GUEST_IA32_DEBUGCTL, OFFSET.msrDebugctl);
  }
  if (controls & EXIT_CONTROL.SAVE_IA32_PAT) {
    saveField(state, vmcs, F.GUEST_IA32_PAT, OFFSET.msrPat);
  }
  if (controls & EXIT_CONTROL.SAVE_IA32_PERF_GLOBAL_CTRL) {
    saveField(state, vmcs, F.GUEST_IA32_PERF_GLOBAL_CTRL, OFFSET.msrPerfGlobalCtrl);
  }
  if (controls & EXIT_CONTROL.SAVE_IA32_EFER) {
    saveField(state, vmcs, F.GUEST_IA32_EFER, OFFSET.efer);
  }
  if (controls & EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE) {
    vmcs.set32(F.VMX_PREEMPTION_TIMER_VALUE, remainingTimer(unit));
  }
  saveLongMode(state, vmcs);
  if (secondaryControls(vmcs) & SECONDARY.ENABLE_EPT && usesPdptes(state)) vmcs.transfer.savePdptes();
}

const savedRflags = (state: State, resumeFlag: boolean | undefined): number => {
  const flags = readRflags(state);
  if (resumeFlag === undefined) return flags;
  return resumeFlag ? flags | RFLAGS.rf : flags & ~RFLAGS.rf;
};

function remainingTimer({ state, cpu }: VmxUnit): number {
  const cycles = state.getFloat('preemptionDeadline') - cpu.clock.cycles();
  return Number.isFinite(cycles) ? Math.max(0, Math.floor(cycles / 2 ** MISC.preemptionTimerShift)) : 0;
}

/** IA32_VMX_MISC bit 5: “IA-32e mode guest” receives IA32_EFER.LMA. */
function saveLongMode(state: State, vmcs: CurrentVmcs): void {
  const controls = vmcs.get32(F.VM_ENTRY_CONTROLS);
  const other = (controls & ~ENTRY_CONTROL.IA_32E_MODE_GUEST) >>> 0;
  const long = ((state.u32[OFFSET.efer >>> 2] as number) & EFER.lma) !== 0;
  vmcs.set32(F.VM_ENTRY_CONTROLS, long ? other | ENTRY_CONTROL.IA_32E_MODE_GUEST : other);
}

/** Whether the processor's current mode is PAE paging. */
export const usesPdptes = ({ u32 }: State): boolean =>
  ((u32[OFFSET.efer >>> 2] as number) & EFER.lma) === 0 &&
  ((u32[OFFSET.cr0 >>> 2] as number) & CR0.pg) !== 0 &&
  ((u32[OFFSET.cr4 >>> 2] as number) & CR4.pae) !== 0;

/** CR0 bits that VM entries and VM exits do not change: ET, CD, NW and the reserved 28:19, 17 and 15:6. */
export const CR0_KEPT = CR0.et | CR0.cd | CR0.nw | 0x1ff8_0000 | 0x2_0000 | 0xffc0;

/** Access rights that VM exits give the host's segments (SDM Vol. 3C, "Loading Host Segment Registers"). */
const HOST_RIGHTS = { code64: 0xa09b, code32: 0xc09b, data: 0xc093, tss: 0x8b } as const;
const HOST_DATA: readonly (readonly [SegmentIndex, number])[] = [
  [SEGMENT.es, F.HOST_ES_SELECTOR],
  [SEGMENT.ss, F.HOST_SS_SELECTOR],
  [SEGMENT.ds, F.HOST_DS_SELECTOR],
  [SEGMENT.fs, F.HOST_FS_SELECTOR],
  [SEGMENT.gs, F.HOST_GS_SELECTOR],
];

/**
 * SDM Vol. 3C, "Loading Host State". @param nmi the VM exit is due to an NMI, which blocks further ones
 * @returns false when that has ended in a VMX abort
 */
function loadHost(unit: VmxUnit, nmi: boolean): boolean {
  const { state, vmcs, cpu } = unit;
  const controls = vmcs.get32(F.PRIMARY_VM_EXIT_CONTROLS);
  const virtualNmis = (vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS) & PIN.VIRTUAL_NMIS) !== 0;
  const host64 = (controls & EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE) !== 0;
  if (!host64 && ((state.u32[OFFSET.efer >>> 2] as number) & EFER.lma) !== 0) {
    abortVmx(unit, 'hostNot64Bit');
    return false;
  }
  vmcs.transfer.loadHost();
  clearSysenterCsHigh(state);
  loadHostRegisters(state, vmcs, controls, host64);
  if (controls & EXIT_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL)
    loadGlobalControl(cpu, vmcs.get64(F.HOST_IA32_PERF_GLOBAL_CTRL));
  loadHostSegments(state, vmcs, host64);
  writeRflags(state, 2);
  const { u32 } = state;
  const blocked = virtualNmis ? 0 : (u32[OFFSET.interruptibility >>> 2] as number) & BLOCKING.byNmi;
  u32[OFFSET.interruptibility >>> 2] = nmi ? BLOCKING.byNmi : blocked;
  u32[OFFSET.activity >>> 2] = ACTIVITY.active;
  u32[OFFSET.monitorArmed >>> 2] = 0;
  clear64(state, OFFSET.pendingDebug);
  leaveGuestWorld(unit);
  if (usesPdptes(state) && !loadPdptes(unit)) {
    abortVmx(unit, 'hostPdptes');
    return false;
  }
  cpu.mmu.updateContext();
  const count = vmcs.get32(F.VM_EXIT_MSR_LOAD_COUNT);
  const unloaded = count === 0 ? undefined : loadMsrList(cpu, address(vmcs, F.VM_EXIT_MSR_LOAD_ADDRESS), count);
  if (unloaded) abortVmx(unit, 'loadingHostMsrs', describeMsrFailure(unloaded));
  return !unloaded;
}

/** IA32_SYSENTER_CS has 32 bits in the VMCS. */
export function clearSysenterCsHigh({ u32 }: State): void {
  u32[(OFFSET.msrSysenterCs >>> 2) + 1] = 0;
}

function loadHostRegisters(state: State, vmcs: CurrentVmcs, controls: number, host64: boolean): void {
  const { u32 } = state;
  u32[OFFSET.cr0 >>> 2] = (vmcs.get32(F.HOST_CR0) & ~CR0_KEPT) | ((u32[OFFSET.cr0 >>> 2] as number) & CR0_KEPT);
  const cr4 = vmcs.get32(F.HOST_CR4);
  u32[OFFSET.cr4 >>> 2] = host64 ? cr4 | CR4.pae : cr4 & ~CR4.pcide;
  u32[(OFFSET.dr >>> 2) + 14] = 0x400;
  u32[(OFFSET.dr >>> 2) + 15] = 0;
  clear64(state, OFFSET.msrDebugctl);
  const efer =
    controls & EXIT_CONTROL.LOAD_IA32_EFER ? vmcs.get32(F.HOST_IA32_EFER) : (u32[OFFSET.efer >>> 2] as number);
  const mode = EFER.lma | EFER.lme;
  u32[OFFSET.efer >>> 2] = host64 ? efer | mode : efer & ~mode;
  if (controls & EXIT_CONTROL.LOAD_IA32_PAT) copyField(state, F.HOST_IA32_PAT, OFFSET.msrPat);
}

/** Copies both halves of a field of the cached VMCS to a field of the state. */
export function copyField(state: State, offset: number, to: number): void {
  const { u32 } = state;
  u32[to >>> 2] = u32[wordOf(offset)] as number;
  u32[(to >>> 2) + 1] = u32[wordOf(offset) + 1] as number;
}

function loadHostSegments(state: State, vmcs: CurrentVmcs, host64: boolean): void {
  const { cs, fs, gs, ldtr, tr } = SEGMENT;
  place(state, cs, vmcs.get32(F.HOST_CS_SELECTOR), 0xffff_ffff, host64 ? HOST_RIGHTS.code64 : HOST_RIGHTS.code32);
  clearBase(state, cs);
  for (const [index, field] of HOST_DATA) {
    const selector = vmcs.get32(field);
    place(state, index, selector, 0xffff_ffff, selector === 0 ? RIGHTS.unusable : HOST_RIGHTS.data);
    if (index !== fs && index !== gs) clearBase(state, index);
  }
  place(state, tr, vmcs.get32(F.HOST_TR_SELECTOR), 0x67, HOST_RIGHTS.tss);
  place(state, ldtr, 0, 0, RIGHTS.unusable);
  state.u32[OFFSET.gdtrLimit >>> 2] = 0xffff;
  state.u32[OFFSET.idtrLimit >>> 2] = 0xffff;
  state.u32[OFFSET.cpl >>> 2] = 0;
  updateCodeMode(state);
}

/** Index in `State.u32` of element 0 of the segment arrays. */
export const LIMIT_AT = OFFSET.segmentLimit >>> 2;
export const RIGHTS_AT = OFFSET.segmentRights >>> 2;

function place(state: State, index: SegmentIndex, selector: number, limit: number, rights: number): void {
  const { u32 } = state;
  u32[(OFFSET.segmentSelector >>> 2) + index] = selector;
  if (u32[LIMIT_AT + index] === limit && u32[RIGHTS_AT + index] === rights) return;
  u32[LIMIT_AT + index] = limit;
  u32[RIGHTS_AT + index] = rights;
  updateSegmentTops(state, index);
}

const clearBase = (state: State, index: SegmentIndex): void => clear64(state, OFFSET.segmentBase + 8 * index);

/** Clears an 8-byte field of the state. */
function clear64({ u32 }: State, address: number): void {
  u32[address >>> 2] = 0;
  u32[(address >>> 2) + 1] = 0;
}

/** Copies an 8-byte field of the state to a field of the cached VMCS. */
function saveField({ u32 }: State, vmcs: CurrentVmcs, offset: number, from: number): void {
  vmcs.setHalves(offset, u32[from >>> 2] as number, u32[(from >>> 2) + 1] as number);
}

/** Takes away what only non-root operation has: EPT, VPID, TSC offset, preemption timer. */
function leaveGuestWorld(unit: VmxUnit): void {
  const { state, vmcs, cpu } = unit;
  state.u32[OFFSET.nonRoot >>> 2] = 0;
  state.u32[OFFSET.vpid >>> 2] = 0;
  clear64(state, OFFSET.eptp);
  clear64(state, OFFSET.tscOffset);
  state.f64[OFFSET.preemptionDeadline >>> 3] = Number.POSITIVE_INFINITY;
  state.u32[OFFSET.monitorTrap >>> 2] = MONITOR_TRAP.off;
  state.u32[OFFSET.eptControls >>> 2] = 0;
  state.u32[OFFSET.apicWrite >>> 2] = 0;
  clear64(state, OFFSET.tscMultiplier);
  unit.virtualApic.leave();
  unit.pageLog.leave();
  if ((secondaryControls(vmcs) & SECONDARY.ENABLE_VPID) === 0) flushVpid0(cpu);
}

/** Without VPIDs transitions invalidate the mappings of VPID 0 (SDM Vol. 3C, "Operations That Invalidate…"). */
export function flushVpid0(cpu: VmxUnit['cpu']): void {
  cpu.mmu.tlb.invalidate({ kinds: [MAPPING.linear, MAPPING.combined], vpid: 0 });
}

/** Loads the PDPTE registers from memory at CR3. @returns false when one is invalid */
export function loadPdptes({ state, cpu }: VmxUnit): boolean {
  const entries = cpu.mmu.readPdptes(state.get64('cr3'));
  if (!Array.isArray(entries)) return false;
  entries.forEach((entry, i) => {
    state.set64('pdpte', entry, i);
  });
  return true;
}

/** Events whose saved RFLAGS image has RF set: faults, not traps (SDM Vol. 3A, "Restarting…"). */
export const setsResumeFlag = (event: VectoredEvent): boolean | undefined =>
  event.type === 3 && event.vector !== 1 && event.vector !== 8 && event.vector !== 18 ? true : undefined;
