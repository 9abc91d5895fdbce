/** The machine's logical processors: what belongs to each alone, whose state is loaded, and whose turn it is. */

import type { Cpu } from '../cpu/cpu.ts';
import { lineChanged, MONITOR } from '../cpu/monitor.ts';
import { resumeCounters, suspendCounters } from '../cpu/performance-counters.ts';
import type { Mmu } from '../mmu/mmu.ts';
import { ACTIVITY, CODE_MODE, OFFSET, SEGMENT } from '../state/layout.ts';
import type { ProcessorState } from '../state/processor-state.ts';
import type { State } from '../state/state.ts';
import type { Vmx } from '../vmx/vmx.ts';
import type { ProcessorView } from './api.ts';

export interface LogicalProcessor {
  readonly number: number;
  /** Its state, loaded or not. */
  readonly state: ProcessorState;
  readonly mmu: Mmu;
  readonly vmx: Vmx;
  readonly cpu: Cpu;
}

const RFLAGS_IF = 0x200;

/**
 * Processors run in turns on one clock: while one runs, the others stand still. So TSCs never go backwards from one to
 * the next, LOCK prefixes need nothing, and a processor that waits or yields costs the others no time.
 */
export class Processors {
  readonly all: readonly LogicalProcessor[];
  /** The one whose state is where `State` and the engine look. */
  loaded: LogicalProcessor;
  private readonly state: State;
  /** Cycles of a turn. */
  private readonly quantum: number;
  private readonly onLoad: (processor: LogicalProcessor) => void;

  /** @param all not empty; the first one's state is loaded @param onLoad told of every other one that is loaded */
  constructor(
    state: State,
    all: readonly LogicalProcessor[],
    quantum: number,
    onLoad: (processor: LogicalProcessor) => void,
  ) {
    this.state = state;
    this.all = all;
    this.loaded = all[0] as LogicalProcessor;
    this.quantum = quantum;
    this.onLoad = onLoad;
  }

  /** Makes a processor's state the one that everything looks at. It does not become its turn. */
  load(number: number): void {
    const next = this.all[number];
    if (!next) throw new RangeError(`there is no processor ${number}`);
    if (next === this.loaded) return;
    suspendCounters(this.loaded.cpu);
    this.loaded.state.park();
    next.state.load();
    this.state.set32('othersMayRun', 1);
    this.loaded = next;
    resumeCounters(next.cpu);
    next.mmu.updateContext();
    this.onLoad(next);
  }

  /** Visits every processor with its state loaded. */
  visit(work: (processor: LogicalProcessor) => void): void {
    const before = this.loaded.number;
    for (const processor of this.all) {
      this.load(processor.number);
      work(processor);
    }
    this.load(before);
  }

  /** Linear memory was replaced: somebody else may be loaded now. */
  stateReplaced(): void {
    const now = this.all[this.state.get32('loadedProcessor')] as LogicalProcessor;
    if (now === this.loaded) return;
    this.loaded = now;
    this.onLoad(now);
  }

  // ---- turns

  /** Loads the processor whose turn it is. */
  resume(): void {
    this.load(this.state.get32('turn'));
  }

  /** The absolute cycle at which the turn ends; Infinity while there is nobody to give it to. */
  get turnEnd(): number {
    const isAlone = this.all.length === 1 || this.state.get32('othersMayRun') === 0;
    return isAlone ? Number.POSITIVE_INFINITY : this.state.getFloat('turnEnd');
  }

  /** The processor that runs gives up the rest of its turn: it waits for another one. */
  yieldTurn(): void {
    this.state.set32('turnYielded', 1);
    this.state.set32('attention', 1);
  }

  /** At an instruction boundary: lets the next one run if the turn is over. @returns whether another one's has begun */
  takeTurn(now: number): boolean {
    const { u32, f64 } = this.state;
    if (this.all.length === 1) return false;
    if (u32[OFFSET.turnYielded >>> 2] === 0 && now < (f64[OFFSET.turnEnd >>> 3] as number)) return false;
    return this.pass(now);
  }

  /**
   * Whether another processor may have something to do. Where not, and where nothing but a signal can change that, it
   * is remembered until one comes.
   */
  canPass(now: number): boolean {
    let restless = false;
    for (const one of this.all) {
      if (one === this.loaded) continue;
      wakeByStore(one);
      if (mayRun(one.state, now)) return true;
      restless ||= mayWakeByItself(one.state);
    }
    this.state.set32('othersMayRun', restless ? 1 : 0);
    return false;
  }

  /** Gives the turn to the next processor that may have something to do. @returns false when there is no other one */
  pass(now: number): boolean {
    const { all, loaded, state } = this;
    state.set32('turnYielded', 0);
    for (let i = 1; i < all.length; i++) {
      const next = all[(loaded.number + i) % all.length] as LogicalProcessor;
      wakeByStore(next);
      if (!mayRun(next.state, now)) continue;
      state.set32('turn', next.number);
      state.setFloat('turnEnd', now + this.quantum);
      this.load(next.number);
      return true;
    }
    this.lookAgain(now);
    return false;
  }

  /** Nobody takes the turn: it goes on, until somebody is to be looked at again. */
  private lookAgain(now: number): void {
    const { state, quantum } = this;
    const late = now - state.getFloat('turnEnd');
    if (this.canPass(now) || state.get32('othersMayRun') === 0 || late < 0) return;
    // A whole number of turns, wherever a run was interrupted in between.
    state.setFloat('turnEnd', state.getFloat('turnEnd') + quantum * (Math.floor(late / quantum) + 1));
  }

  /**
   * When none has anything to do: the cycle at which that may change; Infinity when nothing can change it.
   * @param devices the cycle at which a device will do something
   */
  wakeUp(devices: number): number {
    let wakeUp = Number.POSITIVE_INFINITY;
    for (const { state } of this.all) {
      if (state.get32('activity') !== ACTIVITY.hlt) continue;
      wakeUp = Math.min(wakeUp, wakesUp(state) ? devices : wakeUp, state.getFloat('preemptionDeadline'));
    }
    return wakeUp;
  }
}

const ACTIVITY_NAMES = ['active', 'HLT', 'shutdown', 'wait-for-SIPI'] as const;

export function viewOf({ number, state, vmx }: LogicalProcessor): ProcessorView {
  const is64 = state.get32('codeMode') === CODE_MODE.code64;
  const rip = state.get64('rip');
  return {
    number,
    activity: ACTIVITY_NAMES[state.get32('activity')] ?? 'shutdown',
    world: state.get32('nonRoot') !== 0 ? 'guest' : 'vmm',
    wakesUp: wakesUp(state),
    rip: is64 ? rip : BigInt.asUintN(32, rip + state.get64('segmentBase', SEGMENT.cs)),
    vmx,
  };
}

/** A guest is left for an interrupt, whatever its RFLAGS.IF. */
const wakesUp = (state: ProcessorState): boolean =>
  state.get32('activity') === ACTIVITY.hlt &&
  ((state.get32('rflagsSystem') & RFLAGS_IF) !== 0 || state.get32('nonRoot') !== 0);

/** Ends an MWAIT whose line has been changed. */
function wakeByStore({ state, mmu }: LogicalProcessor): void {
  if (state.get32('monitorArmed') !== MONITOR.waiting || state.get32('activity') !== ACTIVITY.hlt) return;
  if (!lineChanged(state, mmu.physical)) return;
  state.set32('monitorArmed', MONITOR.off);
  state.set32('activity', ACTIVITY.active);
}

/** Whether a processor that waits may go on without a signal: another one's store, or its own timer. */
const mayWakeByItself = (state: ProcessorState): boolean =>
  state.get32('monitorArmed') === MONITOR.waiting || (state.get32('nonRoot') !== 0 && hasPreemptionTimer(state));

const hasPreemptionTimer = (state: ProcessorState): boolean => Number.isFinite(state.getFloat('preemptionDeadline'));

/** Whether a processor executes instructions, or something has come that may make it do so. */
function mayRun(state: ProcessorState, now: number): boolean {
  if (state.get32('activity') === ACTIVITY.active) return true;
  const signals = state.get32('initRequest') | state.get32('startUpRequest') | state.get32('nmiRequest');
  if ((signals | state.get32('interruptRequest')) !== 0) return true;
  return state.get32('nonRoot') !== 0 && now >= state.getFloat('preemptionDeadline');
}
