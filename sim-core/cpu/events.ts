import { type ExceptionFault, exception, type Fault, VECTOR } from '../mmu/fault.ts';
import { BLOCKING, DR6, DR7_GD, RFLAGS } from '../state/control-bits.ts';
import { ACTIVITY, MONITOR_TRAP } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { deliveryReads, describeErrorCode } from './delivery-story.ts';
import type { FaultStep } from './fault-step.ts';
import type { VectoredEvent } from './intercepts.ts';
import { deliverThroughIdt } from './interrupt-delivery.ts';
import { setResumeFlag } from './rflags.ts';
import { takeSignals } from './start-up.ts';

/** What became of an event. After `delivered` and `vmExit` the processor goes on at `state.rip`. */
export type Delivery =
  | { readonly kind: 'delivered' | 'vmExit' }
  /** An INIT signal to the bootstrap processor. */
  | { readonly kind: 'reset' }
  | { readonly kind: 'tripleFault'; readonly story: readonly FaultStep[] }
  | { readonly kind: 'unimplemented'; readonly what: string };

/** B3:B0 of DR6, in the same places in the pending debug exceptions. */
const DR6_BREAKPOINTS = 0xfn;

/** Pending debug exceptions that DR6 shows: breakpoints, single step, task switch. */
const PENDING_IN_DR6 = DR6_BREAKPOINTS | BigInt(DR6.bs | DR6.bt);

const DELIVERED: Delivery = { kind: 'delivered' };
const VM_EXIT: Delivery = { kind: 'vmExit' };
const RESET: Delivery = { kind: 'reset' };

/** Names of the exceptions for stories (SDM Vol. 3A, "Protected-Mode Exceptions and Interrupts"). */
const MNEMONICS = [
  '#DE', '#DB', 'NMI', '#BP', '#OF', '#BR', '#UD', '#NM', '#DF', '', '#TS', '#NP', '#SS', '#GP', '#PF', '', '#MF',
  '#AC', '#MC', '#XM', '#VE', '#CP',
]; // biome-ignore format: a table reads better in rows

/** Exceptions of the contributory class (SDM Vol. 3A, "Interrupt 8 - Double Fault Exception"). */
const CONTRIBUTORY: ReadonlySet<number> = new Set([VECTOR.de, VECTOR.ts, VECTOR.np, VECTOR.ss, VECTOR.gp, VECTOR.cp]);

/** Handles the fault of the instruction at `state.rip`: exception through the IDT, double and triple fault, VM exit. */
export function deliverFault(cpu: Cpu, fault: Fault): Delivery {
  switch (fault.kind) {
    case 'unimplemented':
      return { kind: 'unimplemented', what: fault.what };
    case 'exception':
      // What the instruction has met on its way to the fault is forgotten: it will be executed again.
      cpu.state.set64('pendingDebug', 0n);
      return deliver(cpu, toEvent(fault), true);
    case 'softwareInterrupt': {
      const { vector, type, instructionLength } = fault;
      const debugStatus = type === 5 ? { debugStatus: mergePendingDebug(cpu) } : {};
      dropPendingStep(cpu);
      // INT n is no exception: the exception bitmap does not see it.
      return deliver(cpu, { vector, type, instructionLength, ...debugStatus }, type !== 4);
    }
    default: {
      const instead = cpu.intercepts.exceptionFor(fault);
      if (instead) return deliver(cpu, toEvent(instead), true);
      cpu.intercepts.exitForFault(fault, undefined);
      return VM_EXIT;
    }
  }
}

/** INT1 is a #DB of its own: data breakpoints that MOV SS has held back are reported with it. */
function mergePendingDebug({ state }: Cpu): bigint {
  const bits = state.get64('pendingDebug') & DR6_BREAKPOINTS;
  state.set64('pendingDebug', 0n);
  return bits;
}

/** Delivery clears TF: a single-step trap that MOV SS has held back until now is lost, data breakpoints are not. */
function dropPendingStep({ state }: Cpu): void {
  if (state.low('pendingDebug') !== 0) state.set64('pendingDebug', state.get64('pendingDebug') & ~BigInt(DR6.bs));
}

/**
 * Delivers an event through the IDT (interrupts, NMI, events injected by VM entry). The event itself causes no VM exit;
 * faults during its delivery may.
 */
export function deliverEvent(cpu: Cpu, event: VectoredEvent): Delivery {
  return deliver(cpu, event, false);
}

const toEvent = (fault: ExceptionFault): VectoredEvent => ({ ...fault, type: 3 });

/** @param asks whether VMX is asked first if `first` itself is to cause a VM exit. */
function deliver(cpu: Cpu, first: VectoredEvent, asks: boolean): Delivery {
  const { state, intercepts } = cpu;
  const failed: (readonly [VectoredEvent, Fault])[] = [];
  let event = first;
  let vectoring: VectoredEvent | undefined;
  for (;;) {
    const nonRoot = state.get32('nonRoot') !== 0;
    if (nonRoot && (asks || vectoring !== undefined) && intercepts.event(event)) {
      intercepts.exitForEvent(event, vectoring);
      return VM_EXIT;
    }
    noteAddressAndStatus(cpu, event);
    const fault = deliverThroughIdt(cpu, event);
    if (fault === undefined) {
      trapMonitored(state);
      return DELIVERED;
    }
    failed.push([event, fault]);
    if (fault.kind === 'unimplemented') return { kind: 'unimplemented', what: fault.what };
    if (fault.kind !== 'exception') {
      if (fault.kind === 'softwareInterrupt') throw new Error('event delivery executes no instruction');
      intercepts.exitForFault(fault, event);
      return VM_EXIT;
    }
    const second = toEvent(fault);
    // The exception bitmap sees the fault as it is, before it makes a double fault of the event.
    if (nonRoot && intercepts.event(second)) {
      intercepts.exitForEvent(second, event);
      return VM_EXIT;
    }
    const next = combine(event, fault);
    if (next === undefined) {
      // Failed deliveries have changed nothing but CR2: what they read is still there to be told.
      const story = [...failed.map((pair) => step(cpu, ...pair)), shutdownStep(cpu, fault)];
      if (!nonRoot) return { kind: 'tripleFault', story };
      intercepts.exitForEvent('tripleFault', event, story);
      return VM_EXIT;
    }
    vectoring = event;
    event = next;
  }
}

/** CR2 of a page fault, DR6 of a debug exception: set before delivery, not when the exception causes a VM exit. */
function noteAddressAndStatus(cpu: Cpu, event: VectoredEvent): void {
  const { state } = cpu;
  if (event.type !== 3 && event.type !== 5) return;
  if (event.vector === VECTOR.pf && event.linearAddress !== undefined) state.set64('cr2', event.linearAddress);
  if (event.vector !== VECTOR.db || event.debugStatus === undefined) return;
  // B3:B0 are those of this exception; the other bits are cleared by software only.
  state.set64('dr', (state.get64('dr', 6) & ~DR6_BREAKPOINTS) | event.debugStatus, 6);
  state.set64('dr', state.get64('dr', 7) & ~BigInt(DR7_GD), 7);
}

/** What follows when `second` occurs while `first` is delivered; undefined: shutdown (SDM Vol. 3A, "Interrupt 8"). */
function combine(first: VectoredEvent, second: ExceptionFault): VectoredEvent | undefined {
  if (first.type !== 3) return toEvent(second);
  if (first.vector === VECTOR.df) return undefined;
  const secondContributes = CONTRIBUTORY.has(second.vector);
  const double =
    (CONTRIBUTORY.has(first.vector) && secondContributes) ||
    (first.vector === VECTOR.pf && (secondContributes || second.vector === VECTOR.pf));
  return toEvent(double ? exception(VECTOR.df, 0) : second);
}

/** An event in words: '#PF, error code 0x2, at linear address 0x1000'. */
function describeEvent(event: VectoredEvent): string {
  const isException = event.type === 3 || event.type === 5 || event.type === 6;
  const name = isException ? MNEMONICS[event.vector] || `exception ${event.vector}` : `interrupt ${event.vector}`;
  const code = event.errorCode === undefined ? '' : `, error code 0x${event.errorCode.toString(16)}`;
  const at = event.linearAddress === undefined ? '' : `, at linear address 0x${event.linearAddress.toString(16)}`;
  return name + code + at;
}

function step(cpu: Cpu, event: VectoredEvent, fault: Fault): FaultStep {
  const cause = fault.kind === 'exception' ? describeEvent(toEvent(fault)) : fault.kind;
  return {
    fault: { ...event, kind: 'exception' },
    rip: cpu.state.get64('rip'),
    description: `${describeEvent(event)} could not be delivered: ${cause}`,
    errorCode: describeErrorCode(event.vector, event.errorCode),
    reads: deliveryReads(cpu, event),
  };
}

const shutdownStep = (cpu: Cpu, fault: ExceptionFault): FaultStep => ({
  fault,
  rip: cpu.state.get64('rip'),
  description: `${describeEvent(toEvent(fault))} while a double fault was delivered: shutdown`,
  errorCode: describeErrorCode(fault.vector, fault.errorCode),
  reads: [],
});

/**
 * At an instruction boundary: VM exits that are due, NMI, external interrupts, in the manual's priority order (SDM
 * Vol. 3A, "Priority Among Concurrent Events"). Undefined when nothing is to be done.
 */
export function serviceBoundary(cpu: Cpu): Delivery | undefined {
  const { state } = cpu;
  const blocking = state.get32('interruptibility');
  const shadow = (blocking & (BLOCKING.bySti | BLOCKING.byMovSs)) !== 0;
  const nonRoot = state.get32('nonRoot') !== 0;
  if (nonRoot && cpu.intercepts.trap()) return VM_EXIT;
  const signalled = nonRoot ? undefined : takeSignals(cpu);
  if (signalled) return signalled === 'reset' ? RESET : DELIVERED;
  const debug = (blocking & BLOCKING.byMovSs) === 0 ? takePendingDebug(cpu) : undefined;
  if (debug) return debug;
  const activity = state.get32('activity');
  // The wait-for-SIPI state and VMX aborts block everything, the shutdown state external interrupts.
  if (activity >= ACTIVITY.waitForSipi) return undefined;
  const due = nonRoot && cpu.intercepts.boundary();
  if (due) return due === true ? VM_EXIT : deliverEvent(cpu, due);
  // STI may hold back NMIs, too (SDM Vol. 2B, "STI"): software relies on its doing so.
  if (state.get32('nmiRequest') !== 0 && (blocking & BLOCKING.byNmi) === 0 && !shadow) return takeNmi(cpu);
  const interruptible = activity !== ACTIVITY.shutdown && !shadow;
  if (state.get32('interruptRequest') !== 0 && interruptible) return takeInterrupt(cpu);
  return undefined;
}

function takePendingDebug(cpu: Cpu): Delivery | undefined {
  const { state } = cpu;
  if (state.low('pendingDebug') === 0) return undefined;
  const debugStatus = state.get64('pendingDebug') & PENDING_IN_DR6;
  state.set64('pendingDebug', 0n);
  if (debugStatus === 0n) return undefined;
  return deliver(cpu, { vector: VECTOR.db, type: 3, debugStatus }, true);
}

function takeNmi(cpu: Cpu): Delivery {
  const { state, intercepts } = cpu;
  const event: VectoredEvent = { vector: VECTOR.nmi, type: 2 };
  state.set32('nmiRequest', 0);
  if (state.get32('nonRoot') !== 0 && intercepts.event(event)) {
    intercepts.exitForEvent(event, undefined);
    return VM_EXIT;
  }
  state.set32('interruptibility', state.get32('interruptibility') | BLOCKING.byNmi);
  return deliverEvent(cpu, event);
}

/** External-interrupt exiting does not look at RFLAGS.IF, and its VM exit decides by itself whether to acknowledge. */
function takeInterrupt(cpu: Cpu): Delivery | undefined {
  const { state, intercepts } = cpu;
  const asked: VectoredEvent = { vector: 0, type: 0 };
  if (state.get32('nonRoot') !== 0 && intercepts.event(asked)) {
    intercepts.exitForEvent(asked, undefined);
    return VM_EXIT;
  }
  if ((state.get32('rflagsSystem') & RFLAGS.if) === 0) return undefined;
  return deliverEvent(cpu, { vector: cpu.interrupts.acknowledge(), type: 0 });
}

// ---- what the run loop does around single instructions

/** STI and MOV SS blocking in force: the next instruction runs alone, then `endShadow` is called with this value. */
export const shadowOf = (state: State): number => state.get32('interruptibility') & (BLOCKING.bySti | BLOCKING.byMovSs);

/**
 * Ends the blocking that was in force before the instruction that has just run.
 * @param wasNonRoot `state.nonRoot` before it: a VM entry has loaded a new interruptibility state, which stays
 */
export function endShadow(state: State, shadow: number, wasNonRoot: number): void {
  if (wasNonRoot === 0 && state.get32('nonRoot') !== 0) return;
  state.set32('interruptibility', state.get32('interruptibility') & ~shadow);
}

/**
 * STI while nothing is pending does not end the slice, since its blocking can hold nothing back: it notes when it began
 * instead. At the slice's end the blocking is over if another instruction has run.
 * @param faulted the last instruction that began did not complete
 */
export function settleSti(state: State, faulted: boolean): void {
  const blocking = state.get32('interruptibility');
  if ((blocking & BLOCKING.bySti) === 0 || state.get32('nonRoot') !== 0) return;
  if (state.getFloat('retired') - (faulted ? 1 : 0) > state.getFloat('stiAt')) {
    state.set32('interruptibility', blocking & ~BLOCKING.bySti);
  }
}

/** Monitor trap flag: an instruction or the delivery of an event is complete. */
export function trapMonitored(state: State): void {
  if (state.get32('monitorTrap') !== MONITOR_TRAP.armed) return;
  state.set32('monitorTrap', MONITOR_TRAP.pending);
  state.set32('attention', 1);
}

/** Whether the next instruction runs alone because of the monitor trap flag; then `trapMonitored` is called. */
export const isMonitored = (state: State): boolean => state.get32('monitorTrap') !== MONITOR_TRAP.off;

export const isResuming = (state: State): boolean => (state.get32('rflagsSystem') & RFLAGS.rf) !== 0;

/**
 * RFLAGS.RF lasts for one instruction, which runs alone. @returns whether it was set; it is cleared, so that the
 * instruction may set it, and put back by `undoResume` when the instruction did not complete
 */
export function beginResume(state: State): boolean {
  if (!isResuming(state)) return false;
  setResumeFlag(state, false);
  return true;
}

export const undoResume = (state: State): void => setResumeFlag(state, true);

/** RFLAGS.TF: the next instruction runs alone, then `trapSingleStep` is called if it completed without a fault. */
export const isSingleStepping = (state: State): boolean => (state.get32('rflagsSystem') & RFLAGS.tf) !== 0;

/** Makes the single-step #DB pending (DR6.BS); `serviceBoundary` delivers it. */
export function trapSingleStep(state: State): void {
  state.set64('pendingDebug', state.get64('pendingDebug') | BigInt(DR6.bs));
}
