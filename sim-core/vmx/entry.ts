/** VM entries (SDM Vol. 3C, chapter "VM Entries"): checks, loads the guest, loads MSRs, injects an event. */

import { NEXT, type Next } from '../cpu/cpu.ts';
import { deliverEvent } from '../cpu/events.ts';
import type { VectoredEvent } from '../cpu/intercepts.ts';
import { updateCodeMode } from '../cpu/modes.ts';
import { loadGlobalControl } from '../cpu/performance-counters.ts';
import { writeRflags } from '../cpu/rflags.ts';
import { updateSegmentTops } from '../cpu/segments.ts';
import { ENABLED_BREAKPOINT } from '../mmu/breakpoints.ts';
import type { Fault } from '../mmu/fault.ts';
import { BLOCKING, CR0, DR6, EFER, RFLAGS } from '../state/control-bits.ts';
import { ACTIVITY, EPT_CONTROL, MONITOR_TRAP, OFFSET, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { spend } from '../state/time.ts';
import { MISC } from './capabilities.ts';
import { ENTRY_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import type { EntryCheck } from './entry-check.ts';
import { explainCheck, failedCheck, failingChecks, GROUP_OUTCOME } from './entry-checks.ts';
import {
  CR0_KEPT,
  clearSysenterCsHigh,
  copyField,
  exitForFailedEntry,
  flushVpid0,
  LIMIT_AT,
  loadPdptes,
  RIGHTS_AT,
  secondaryControls,
  usesPdptes,
} from './exit.ts';
import { EXIT } from './exit-reasons.ts';
import { FIELD_OFFSET as F } from './fields.ts';
import { describeMsrFailure, loadMsrList } from './msr-lists.ts';
import type { VmEntryFailure } from './records.ts';
import { TRANSITION_CYCLES, type VmxUnit } from './unit.ts';
import { type CurrentVmcs, wordOf } from './vmcs.ts';

/** How VMLAUNCH or VMRESUME ends: as an instruction that jumped, or with VMfail(7) or VMfail(8). */
export type EntryOutcome = Next | Fault | { readonly vmFail: 7 | 8 };

/** Enters the guest of the current VMCS, whose launch state is right. */
export function enterGuest(unit: VmxUnit, launch: boolean): EntryOutcome {
  const { vmcs, state } = unit;
  vmcs.noteStagedWrites();
  const failed = vmcs.checks.firstFailure(vmcs.values, unit.facts);
  if (failed) return refuse(unit, failed);
  loadGuest(unit);
  const count = vmcs.get32(F.VM_ENTRY_MSR_LOAD_COUNT);
  const bad = count === 0 ? undefined : loadMsrList(unit.cpu, Number(vmcs.get64(F.VM_ENTRY_MSR_LOAD_ADDRESS)), count);
  if (bad) {
    fail(
      unit,
      {
        outcome: { exitReason: EXIT.ENTRY_FAILURE_DUE_TO_MSR_LOADING as 34 },
        checks: [failedCheck('entry.msrLoad', 'entryMsrLoading', describeMsrFailure(bad))],
      },
      BigInt(bad.entry),
    );
    return NEXT.jumped;
  }
  if (launch) vmcs.setLaunched();
  spend(state, TRANSITION_CYCLES);
  startTimer(unit);
  unit.entries++;
  countExitCycles(unit);
  unit.callbacks.onEntry();
  const outcome = inject(unit);
  unit.virtualApic.afterEntry();
  noteAttention(unit);
  return outcome;
}

/** The time since the last VM exit counts as what that exit has cost. */
function countExitCycles(unit: VmxUnit): void {
  const { exited, exitCycles, cpu } = unit;
  if (!exited) return;
  const cycles = cpu.clock.cycles() - exited.cycle;
  exitCycles.set(exited.reason, (exitCycles.get(exited.reason) ?? 0) + cycles);
  unit.exited = undefined;
}

/** A check failed: all others that would fail are explained, too. */
function refuse(unit: VmxUnit, failed: EntryCheck): EntryOutcome {
  const failure = entryFailure(unit, failed);
  if ('vmInstructionError' in failure.outcome) {
    unit.lastEntryFailure = failure;
    unit.callbacks.onEntryFailure(failure);
    return { vmFail: failure.outcome.vmInstructionError };
  }
  fail(unit, failure, BigInt(failed.qualification ?? 0));
  return NEXT.jumped;
}

/** The failure that `failed` and all other failing checks make. */
export function entryFailure(unit: VmxUnit, failed: EntryCheck): VmEntryFailure {
  const { values } = unit.vmcs;
  const others = failingChecks(values, unit.facts).filter((check) => check !== failed);
  return {
    outcome: GROUP_OUTCOME[failed.group],
    checks: [failed, ...others].map((check) => explainCheck(check, values, unit.facts)),
  };
}

/** VM exit 33 or 34. */
function fail(unit: VmxUnit, failure: VmEntryFailure, qualification: bigint): void {
  const reason = 'exitReason' in failure.outcome ? failure.outcome.exitReason : EXIT.ENTRY_FAILURE_DUE_TO_GUEST_STATE;
  exitForFailedEntry(unit, reason, qualification, failure.checks[0]?.explanation ?? 'VM-entry failure');
  unit.lastEntryFailure = failure;
  unit.callbacks.onEntryFailure(failure);
}

/** SDM Vol. 3C, "Loading Guest State". */
function loadGuest(unit: VmxUnit): void {
  const { state, vmcs, cpu } = unit;
  const controls = vmcs.get32(F.VM_ENTRY_CONTROLS);
  const secondary = secondaryControls(vmcs);
  const changed = changedSegments(state);
  vmcs.transfer.loadGuest();
  clearSysenterCsHigh(state);
  loadGuestRegisters(state, vmcs, controls);
  if (controls & ENTRY_CONTROL.LOAD_IA32_PERF_GLOBAL_CTRL)
    loadGlobalControl(cpu, vmcs.get64(F.GUEST_IA32_PERF_GLOBAL_CTRL));
  for (const index of SIX) if ((changed >>> index) & 1) updateSegmentTops(state, index);
  writeRflags(state, vmcs.get32(F.GUEST_RFLAGS));
  const { u32 } = state;
  u32[OFFSET.cpl >>> 2] = ((u32[RIGHTS_AT + SEGMENT.ss] as number) >>> 5) & 3;
  updateCodeMode(state);
  u32[OFFSET.nonRoot >>> 2] = 1;
  u32[OFFSET.monitorArmed >>> 2] = 0;
  enterGuestWorld(unit, secondary);
  if (usesPdptes(state)) {
    if (secondary & SECONDARY.ENABLE_EPT) vmcs.transfer.loadPdptes();
    else loadPdptes(unit);
  }
  cpu.mmu.updateContext();
}

const SIX: readonly SegmentIndex[] = [SEGMENT.es, SEGMENT.cs, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs];
/** Index in `State.u32` of the fields of ES; those of the other segments follow in order. */
const FIELD_LIMIT_AT = wordOf(F.GUEST_ES_LIMIT);
const FIELD_RIGHTS_AT = wordOf(F.GUEST_ES_ACCESS_RIGHTS);

/** Segments whose limit or rights the VM entry changes, a bit each: only their fast limit checks need work. */
function changedSegments({ u32 }: State): number {
  let changed = 0;
  for (const index of SIX) {
    const same =
      u32[FIELD_LIMIT_AT + 2 * index] === u32[LIMIT_AT + index] &&
      u32[FIELD_RIGHTS_AT + 2 * index] === u32[RIGHTS_AT + index];
    if (!same) changed |= 1 << index;
  }
  return changed;
}

function loadGuestRegisters(state: State, vmcs: CurrentVmcs, controls: number): void {
  const { u32 } = state;
  u32[OFFSET.cr0 >>> 2] = (vmcs.get32(F.GUEST_CR0) & ~CR0_KEPT) | ((u32[OFFSET.cr0 >>> 2] as number) & CR0_KEPT);
  if (controls & ENTRY_CONTROL.LOAD_DEBUG_CONTROLS) {
    // DR7 bits 12, 14 and 15 are always 0, bit 10 is always 1.
    u32[(OFFSET.dr >>> 2) + 14] = (vmcs.get32(F.GUEST_DR7) & ~0xd000) | 0x400;
    copyField(state, F.GUEST_IA32_DEBUGCTL, OFFSET.msrDebugctl);
  }
  if (controls & ENTRY_CONTROL.LOAD_IA32_PAT) copyField(state, F.GUEST_IA32_PAT, OFFSET.msrPat);
  if (controls & ENTRY_CONTROL.LOAD_IA32_EFER) copyField(state, F.GUEST_IA32_EFER, OFFSET.efer);
  else u32[OFFSET.efer >>> 2] = derivedEfer(state, (controls & ENTRY_CONTROL.IA_32E_MODE_GUEST) !== 0);
}

/** Without “load IA32_EFER”, LMA follows “IA-32e mode guest”, and LME follows LMA when paging is on. */
function derivedEfer(state: State, long: boolean): number {
  const changed = ((state.u32[OFFSET.cr0 >>> 2] as number) & CR0.pg) !== 0 ? EFER.lma | EFER.lme : EFER.lma;
  const efer = state.u32[OFFSET.efer >>> 2] as number;
  return long ? efer | changed : efer & ~changed;
}

function enterGuestWorld(unit: VmxUnit, secondary: number): void {
  const { state, vmcs, cpu } = unit;
  if (secondary & SECONDARY.ENABLE_EPT) copyField(state, F.EPT_POINTER, OFFSET.eptp);
  if (secondary & SECONDARY.ENABLE_VPID) state.u32[OFFSET.vpid >>> 2] = vmcs.get32(F.VIRTUAL_PROCESSOR_ID);
  else flushVpid0(cpu);
  const primary = vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS);
  if (primary & PRIMARY.USE_TSC_OFFSETTING) {
    copyField(state, F.TSC_OFFSET, OFFSET.tscOffset);
    if (secondary & SECONDARY.USE_TSC_SCALING) copyField(state, F.TSC_MULTIPLIER, OFFSET.tscMultiplier);
  }
  if (primary & PRIMARY.MONITOR_TRAP_FLAG) state.u32[OFFSET.monitorTrap >>> 2] = MONITOR_TRAP.armed;
  // The first PAUSE after VM entry starts a loop.
  if (secondary & SECONDARY.PAUSE_LOOP_EXITING) state.setFloat('pauseLoop', Number.NEGATIVE_INFINITY, 1);
  const modeBased = secondary & SECONDARY.MODE_BASED_EXECUTE_CONTROL_FOR_EPT;
  const subPage = secondary & SECONDARY.SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT;
  if (subPage) copyField(state, F.SUB_PAGE_PERMISSION_TABLE_POINTER, OFFSET.subPageTable);
  state.u32[OFFSET.eptControls >>> 2] =
    (modeBased ? EPT_CONTROL.modeBasedExecute : 0) | (subPage ? EPT_CONTROL.subPageWrite : 0);
  unit.virtualApic.enter();
  unit.pageLog.enter();
}

function startTimer({ state, vmcs, cpu }: VmxUnit): void {
  if ((vmcs.get32(F.PIN_BASED_VM_EXECUTION_CONTROLS) & PIN.ACTIVATE_VMX_PREEMPTION_TIMER) === 0) return;
  const ticks = vmcs.get32(F.VMX_PREEMPTION_TIMER_VALUE) * 2 ** MISC.preemptionTimerShift;
  state.setFloat('preemptionDeadline', cpu.clock.cycles() + ticks);
}

/** The event that the VM-entry interruption information asks for. */
function injectedEvent(vmcs: CurrentVmcs): VectoredEvent | undefined {
  const information = vmcs.get32(F.VM_ENTRY_INTERRUPTION_INFORMATION);
  if (information >>> 31 === 0) return undefined;
  const type = ((information >>> 8) & 7) as VectoredEvent['type'];
  return {
    vector: information & 0xff,
    type,
    ...(information & 0x800 ? { errorCode: vmcs.get32(F.VM_ENTRY_EXCEPTION_ERROR_CODE) } : {}),
    ...(type >= 4 ? { instructionLength: vmcs.get32(F.VM_ENTRY_INSTRUCTION_LENGTH) } : {}),
  };
}

/** Valid bit and type of the interruption information: other event, a pending MTF VM exit. */
const EVENT_TYPE = 0x8000_0700;

/** Pending debug exceptions are valid with BS or the bit for enabled breakpoints. */
const VALID_PENDING = BigInt(DR6.bs | ENABLED_BREAKPOINT);
const BREAKPOINT = 3;
const OVERFLOW = 4;

/**
 * Drops the pending debug exceptions that VM entry does not leave pending (SDM Vol. 3C, "Delivery of Pending Debug
 * Exceptions after VM Entry"). INT n, INT3 and INTO keep what MOV SS has held back but the single step, as they do when
 * the guest executes them.
 */
function takePendingDebug(state: State, event: VectoredEvent | undefined): void {
  const pending = state.get64('pendingDebug');
  if (pending === 0n) return;
  const asleep = state.get32('activity') > ACTIVITY.hlt;
  let kept = (pending & VALID_PENDING) === 0n || asleep ? 0n : pending;
  if (event) {
    const held = (state.get32('interruptibility') & BLOCKING.byMovSs) !== 0;
    const executed = event.type === 4 || (event.type === 6 && [BREAKPOINT, OVERFLOW].includes(event.vector));
    const breakpoint = (pending & BigInt(ENABLED_BREAKPOINT)) !== 0n;
    kept = held && executed && breakpoint ? pending & ~BigInt(DR6.bs) : 0n;
  }
  state.set64('pendingDebug', kept);
}

/** Delivers the injected event, which itself causes no VM exit (SDM Vol. 3C, "Event Injection"). */
function inject({ cpu, state, vmcs }: VmxUnit): Next | Fault {
  if ((vmcs.get32(F.VM_ENTRY_INTERRUPTION_INFORMATION) & EVENT_TYPE) >>> 0 === EVENT_TYPE) {
    state.set32('monitorTrap', MONITOR_TRAP.pending);
    return NEXT.jumped;
  }
  const event = injectedEvent(vmcs);
  takePendingDebug(state, event);
  if (!event) return NEXT.jumped;
  // A VM entry that injects ends in the active state without blocking by STI and MOV SS, also when delivery exits.
  state.set32('interruptibility', state.get32('interruptibility') & ~(BLOCKING.bySti | BLOCKING.byMovSs));
  state.set32('activity', ACTIVITY.active);
  const delivery = deliverEvent(cpu, event);
  if (delivery.kind === 'unimplemented') return { kind: 'unimplemented', what: delivery.what };
  if (delivery.kind === 'delivered' && event.type === 2) {
    state.set32('interruptibility', state.get32('interruptibility') | BLOCKING.byNmi);
  }
  return NEXT.jumped;
}

/** Makes the run loop look at events and deadlines when the guest's state may bring some. */
function noteAttention({ state, vmcs }: VmxUnit): void {
  const windows = PRIMARY.INTERRUPT_WINDOW_EXITING | PRIMARY.NMI_WINDOW_EXITING;
  const { u32 } = state;
  const quiet =
    u32[OFFSET.interruptRequest >>> 2] === 0 &&
    u32[OFFSET.nmiRequest >>> 2] === 0 &&
    u32[OFFSET.initRequest >>> 2] === 0 &&
    u32[OFFSET.pendingDebug >>> 2] === 0 &&
    u32[OFFSET.interruptibility >>> 2] === 0 &&
    u32[OFFSET.activity >>> 2] === ACTIVITY.active &&
    u32[OFFSET.monitorTrap >>> 2] === MONITOR_TRAP.off &&
    u32[OFFSET.apicWrite >>> 2] === 0 &&
    ((u32[OFFSET.rflagsSystem >>> 2] as number) & (RFLAGS.tf | RFLAGS.rf)) === 0 &&
    (vmcs.get32(F.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & windows) === 0 &&
    state.f64[OFFSET.preemptionDeadline >>> 3] === Number.POSITIVE_INFINITY;
  if (!quiet) state.set32('attention', 1);
}
