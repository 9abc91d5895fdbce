/** Running: slices up to what is due next, events at the boundaries between them, and what ends a run. */

import type { Cpu } from '../cpu/cpu.ts';
import {
  beginResume,
  type Delivery,
  deliverFault,
  endShadow,
  isMonitored,
  isSingleStepping,
  serviceBoundary,
  settleSti,
  shadowOf,
  trapMonitored,
  trapSingleStep,
  undoResume,
} from '../cpu/events.ts';
import { updateCounters } from '../cpu/performance-counters.ts';
import { EXIT } from '../engine/record.ts';
import { exception, type Fault, VECTOR } from '../mmu/fault.ts';
import type { Platform } from '../platform/platform.ts';
import { BLOCKING } from '../state/control-bits.ts';
import { ACTIVITY } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Machine } from './api.ts';
import type { InstructionBreakpoints } from './instruction-breakpoints.ts';
import { peekInstruction } from './peek-instruction.ts';
import type { Processor } from './processor.ts';
import type { Processors } from './processors.ts';
import type { StopReason } from './stop-reason.ts';
import type { Watcher } from './watching/watcher.ts';

/** What waiting in HLT costs of the number given to `run`, so that a halted machine returns, too. */
const HALT_COST = 1000;
const LONGEST_SLICE = 0x4000_0000;
/** The same while somebody wants to be asked on the way. */
const SAMPLED_SLICE = 50_000;
/** Instructions of other processors after which the step of one gives up that its turn comes. */
const OTHERS_LIMIT = 10_000_000;
/** Stops that the machine makes by itself: they happen in replays, too. */
const ENDS: ReadonlySet<StopReason['kind']> = new Set(['debugExit', 'powerOff', 'reset']);

/** The parts of the machine that running is about. */
interface Parts {
  readonly hooks: Pick<Machine, 'onSample' | 'onSleep' | 'onWatch'>;
  readonly state: State;
  readonly platform: Platform;
  readonly processor: Processor;
  readonly logical: Processors;
  readonly breakpoints: InstructionBreakpoints;
  readonly watcher: Watcher;
}

export class Execution {
  /** Inside `run`. */
  isRunning = false;
  private readonly hooks: Parts['hooks'];
  private readonly state: State;
  private readonly platform: Platform;
  private readonly processor: Processor;
  private readonly logical: Processors;
  private readonly breakpoints: InstructionBreakpoints;
  private readonly watcher: Watcher;
  /** Set by devices and hooks while instructions run; `run` returns it at the next boundary. */
  private stop: StopReason | undefined;
  /** A stop that the delivery of a fault in the running slice has caused. */
  private outcome: StopReason | undefined;

  constructor(parts: Parts) {
    this.hooks = parts.hooks;
    this.state = parts.state;
    this.platform = parts.platform;
    this.processor = parts.processor;
    this.logical = parts.logical;
    this.breakpoints = parts.breakpoints;
    this.watcher = parts.watcher;
  }

  get instructions(): number {
    return this.state.getFloat('retired') + this.processor.executed;
  }
  get cycles(): number {
    return this.instructions + this.state.getFloat('extraCycles');
  }

  /** Of whose turn it is. */
  private get cpu(): Cpu {
    return this.logical.loaded.cpu;
  }
  private get selected(): number {
    return this.logical.loaded.number;
  }

  /** Ends the run at the next boundary. In a replay only what ends it by itself does. */
  stopWith(reason: StopReason): void {
    if (this.breakpoints.areIgnored && !ENDS.has(reason.kind)) return;
    this.stop ??= reason;
    this.state.set32('attention', 1);
  }

  /** The machine is at another place now: no stop that was asked for before is its own. */
  forgetStop(): void {
    this.stop = undefined;
  }

  private takeStop(): StopReason {
    const { stop } = this;
    this.stop = undefined;
    return stop ?? { kind: 'paused' };
  }

  /** Judges what has happened to something watched since the last boundary. */
  private settleWatches(): void {
    if (!this.watcher.isPending) return;
    if (this.breakpoints.areIgnored) {
      this.watcher.discard();
      return;
    }
    const hits = this.watcher.settle();
    if (hits.length > 0 && this.hooks.onWatch?.(hits)) this.stopWith({ kind: 'watchpoint', hits });
  }

  private countEvent(): void {
    this.state.setFloat('events', this.state.getFloat('events') + 1);
  }

  /**
   * @param single only instructions of this processor count, or of whose turn it is; an event that is delivered at the
   * boundary takes the place of the instruction. @param goesOn a breakpoint at RIP counts
   */
  run(instructions: number, single?: number | 'anyone', goesOn = false): StopReason {
    this.isRunning = true;
    this.logical.resume();
    this.breakpoints.begin(goesOn);
    // What the debugger itself has done to something watched is nothing to tell.
    this.watcher.discard();
    try {
      return this.executeSlices(instructions, single);
    } finally {
      this.isRunning = false;
    }
  }

  private executeSlices(instructions: number, single: number | 'anyone' | undefined): StopReason {
    let left = instructions;
    let others = OTHERS_LIMIT;
    let idle = 0;
    for (;;) {
      this.settleWatches();
      this.hooks.onSample?.();
      if (this.stop) return this.takeStop();
      if (left <= 0 || others <= 0) return { kind: 'limit' };
      this.platform.service(this.cycles);
      if (this.logical.takeTurn(this.cycles)) this.breakpoints.leaveStart();
      const isSingle = single === 'anyone' || single === this.selected;
      const counts = single === undefined || isSingle;
      if (this.cycles >= this.state.getFloat('perfDeadline')) updateCounters(this.cpu);
      const rip = this.processor.linearRip();
      const serviced = this.boundary();
      if (serviced) return serviced;
      this.settleWatches();
      if (this.stop) continue;
      if (isSingle && this.processor.linearRip() !== rip) return { kind: 'limit' };
      if (this.state.get32('activity') !== ACTIVITY.active) {
        // Everybody is asked once whether what has come for him wakes him.
        if (++idle < this.state.processors && this.logical.pass(this.cycles)) continue;
        idle = 0;
        const asleep = this.sleep();
        if (asleep) return asleep;
        left -= HALT_COST;
        continue;
      }
      idle = 0;
      const before = this.instructions;
      const outcome = this.slice(counts ? left : others);
      if (counts) left -= this.instructions - before;
      else others -= this.instructions - before;
      this.breakpoints.leaveStart();
      if (outcome) return outcome;
    }
  }

  /** Events at an instruction boundary; a stop reason when one ends the run. */
  private boundary(): StopReason | undefined {
    this.state.set32('attention', 0);
    this.breakpoints.decodeAnew();
    for (;;) {
      this.watcher.beforeEvent();
      const delivery = serviceBoundary(this.cpu);
      this.watcher.afterEvent();
      if (!delivery) return undefined;
      this.countEvent();
      const stopped = this.afterDelivery(delivery);
      if (stopped) return stopped;
      if (this.stop) return undefined;
    }
  }

  private deliver(fault: Fault): StopReason | undefined {
    this.watcher.beforeEvent();
    const delivery = deliverFault(this.cpu, fault);
    this.watcher.afterEvent();
    return this.afterDelivery(delivery);
  }

  private afterDelivery(delivery: Delivery): StopReason | undefined {
    switch (delivery.kind) {
      case 'tripleFault':
        return { kind: 'tripleFault', story: delivery.story };
      case 'unimplemented':
        return this.unimplemented(delivery.what);
      case 'reset':
        return { kind: 'reset' };
      default:
        return undefined;
    }
  }

  private unimplemented(what: string): StopReason {
    const address = this.processor.linearRip();
    const instruction = peekInstruction(this.cpu.mmu, address);
    const bytes = instruction?.bytes ?? new Uint8Array();
    return {
      kind: 'unimplemented',
      address,
      bytes,
      mnemonic: instruction ? this.processor.nameOf(instruction) : '',
      what,
    };
  }

  /** Executes instructions up to the next deadline. */
  private slice(limit: number): StopReason | undefined {
    const { state, processor } = this;
    const shadow = shadowOf(state);
    const stepping = isSingleStepping(state);
    const resume = beginResume(state);
    this.breakpoints.resuming = resume || (shadow & BLOCKING.byMovSs) !== 0;
    const wasNonRoot = state.get32('nonRoot');
    const deadline = this.nextDeadline();
    state.setFloat('sliceEnd', deadline);
    const untilDeadline = Math.ceil(deadline - this.cycles);
    const monitored = isMonitored(state);
    const alone = shadow !== 0 || stepping || resume || monitored;
    const longest = this.hooks.onSample ? SAMPLED_SLICE : LONGEST_SLICE;
    processor.run(alone ? 1 : Math.max(1, Math.min(limit, untilDeadline, longest)));
    const exit = state.get32('exitCode');
    // A slice may end in front of its first instruction, when the fetch itself has asked for a stop.
    const completed = processor.executed > 0 && (exit === EXIT.budget || exit === EXIT.attention);
    processor.retire();
    if (resume && !completed) undoResume(state);
    if (completed && shadow !== 0) endShadow(state, shadow, wasNonRoot);
    else if (shadow === 0) settleSti(state, exit === EXIT.fault);
    if (completed && stepping) trapSingleStep(state);
    if (completed && monitored) trapMonitored(state);
    if (exit === EXIT.breakpoint) return this.breakpoint();
    if (exit === EXIT.fault) this.watcher.faulted();
    if (exit === EXIT.fault && processor.fault) return this.deliver(processor.fault);
    const { outcome } = this;
    this.outcome = undefined;
    return outcome;
  }

  /** A breakpoint of the debugger, or else one of the guest's own: #DB before the instruction. */
  private breakpoint(): StopReason | undefined {
    if (this.breakpoints.debuggerStops) return { kind: 'breakpoint', address: this.processor.linearRip() };
    const debugStatus = BigInt(this.breakpoints.hitsGuest());
    return this.deliver({ ...exception(VECTOR.db), debugStatus });
  }

  /** Absolute cycle at which something happens by itself. */
  private nextDeadline(): number {
    const { state, platform, logical } = this;
    const own = Math.min(state.getFloat('preemptionDeadline'), state.getFloat('perfDeadline'));
    return Math.min(platform.nextDeadline(), own, logical.turnEnd);
  }

  /** Delivers a fault without ending the slice, unless something must be looked at before the next instruction. */
  deliverInSlice(fault: Fault): boolean {
    this.outcome = this.deliver(fault);
    if (this.outcome || this.state.get32('attention') !== 0) return false;
    return this.cycles < this.state.getFloat('sliceEnd');
  }

  /** HLT: time passes until the next device event; a stop reason when nothing can wake any processor. */
  private sleep(): StopReason | undefined {
    const { state } = this;
    const deadline = this.logical.wakeUp(this.platform.nextDeadline());
    if (deadline === Infinity) return { kind: 'halted' };
    this.countEvent();
    const wait = Math.max(0, deadline - this.cycles);
    state.setFloat('extraCycles', state.getFloat('extraCycles') + wait);
    state.setFloat('haltedCycles', state.getFloat('haltedCycles') + wait);
    this.hooks.onSleep?.(wait);
    return undefined;
  }
}
