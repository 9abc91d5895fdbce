import type { FaultStep } from '../../sim-core/cpu/fault-step.ts';
import type { BreakpointLocation, World } from '../../sim-core/machine/api.ts';
import type { History } from '../../sim-core/machine/history/history.ts';
import { type Position, same } from '../../sim-core/machine/history/position.ts';
import { IdlePace } from '../../sim-core/machine/idle-pace.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import type { StaleUse } from '../../sim-core/mmu/table-watch.ts';
import type { DmaFault } from '../../sim-core/platform/dma.ts';
import type { VmEntryFailure, VmExitRecord, VmxAbort } from '../../sim-core/vmx/records.ts';
import { yieldToMessages } from '../connection/yield.ts';
import { TargetEnvironment } from '../expressions/environment.ts';
import { type BreakpointStore, matches } from '../stops/breakpoint-store.ts';
import {
  DMA_FAULT_FILTER,
  type ExceptionFilters,
  FAILED_ENTRY_FILTER,
  STALE_USE_FILTER,
  TRIPLE_FAULT_FILTER,
} from '../stops/exception-filters.ts';
import type { Trigger } from '../stops/trigger.ts';
import { judgeWatches, type WatchStop } from '../stops/watch-judge.ts';
import type { Target } from './target.ts';

/** Why the debugger stopped the machine, for the client. */
export type Stop =
  | { readonly kind: 'entry' | 'step' | 'goto' | 'halted' }
  /** `text`: what has become of a way through the history that the pause has ended. */
  | { readonly kind: 'paused'; readonly text?: string }
  | { readonly kind: 'breakpoint'; readonly ids: readonly number[] }
  | ({ readonly kind: 'dataBreakpoint' } & WatchStop)
  /** `watch`: data breakpoints on what the VM exit, or the instruction that caused it, has done. */
  | { readonly kind: 'vmExit'; readonly exit: VmExitRecord; readonly watch?: WatchStop }
  | { readonly kind: 'vmEntry' }
  | { readonly kind: 'vmEntryFailure'; readonly failure: VmEntryFailure }
  | { readonly kind: 'staleUse'; readonly use: StaleUse }
  | { readonly kind: 'tripleFault'; readonly story: readonly FaultStep[] }
  | { readonly kind: 'dmaFault'; readonly fault: DmaFault }
  | { readonly kind: 'vmxAbort'; readonly abort: VmxAbort }
  | { readonly kind: 'unimplemented'; readonly what: string }
  /** Backwards: there is nothing before. */
  | { readonly kind: 'start' }
  /** By a command of time travel. @see time-travel.ts */
  | { readonly kind: 'travel'; readonly text: string; readonly detail?: string }
  /** The machine is off: nothing can run any more. */
  | Ended;

export interface Ended {
  readonly kind: 'ended';
  readonly text: string;
  readonly exitCode: number;
  /** The guest says that something is wrong: debuggers stop there when nobody says otherwise. */
  readonly isFailure?: boolean;
}

/** What a run waits for beside breakpoints and filters. */
export interface Goal {
  /** An address in a world, reached with the stack pointer at `minimumSp` or above (not in a deeper call). */
  readonly address?: { readonly address: bigint; readonly world: World; readonly minimumSp: bigint };
  readonly vmExit?: boolean;
  /** A VM entry; the predicate is asked in the guest. */
  readonly vmEntry?: () => boolean;
}

/** A goal is one processor's. */
interface ProcessorGoal extends Goal {
  readonly processor: number;
  /** An address in the guest is in that of this VMCS: another guest may have code there, too. */
  readonly vmcs: bigint | undefined;
}

export interface RunnerEvents {
  output(text: string): void;
  /** What the guest has sent: on COM1, or on the console that is named. */
  serial(bytes: readonly number[], console?: string): void;
  futureForgotten(): void;
}

const NO_GOAL: ProcessorGoal = { processor: 0, vmcs: undefined };
const SLICE_MILLISECONDS = 8;
/** Milliseconds; what setTimeout can count is 2^31 - 1. */
const LONGEST_REST = 2 ** 30;
const SMALLEST_SLICE = 500;
const LARGEST_SLICE = 100_000_000;

/**
 * Runs the machine in slices short enough that messages are answered in between, and turns the machine's stop reasons
 * into the debugger's.
 */
export class Runner {
  private readonly target: Target;
  private readonly breakpoints: BreakpointStore;
  private readonly filters: ExceptionFilters;
  private readonly events: RunnerEvents;
  private readonly serialBytes: number[] = [];
  /** Bytes of the serial port's output that the client has got: replays bring them again. */
  private sent = 0;
  /** The machine repeats its past: nothing is told of it. */
  private isReplaying = false;
  private slice = SMALLEST_SLICE;
  /** When the slice in hand ends at the latest: what the guest does may suddenly take longer than it did. */
  private sliceEnd = Number.POSITIVE_INFINITY;
  private goal: ProcessorGoal = NO_GOAL;
  private pauseWanted = false;
  private isAbandoned = false;
  private readonly pace: IdlePace;
  /** Ends the wait in hand for what the guest waits for. */
  private endRest: () => void = () => {};
  private lastYield = 0;
  /** What the hooks decided during a slice. */
  private exitIsGoal = false;
  private watchStop: WatchStop | undefined;
  /** What the machine watches. */
  private watching: BreakpointStore['watching'] | undefined;

  constructor(target: Target, breakpoints: BreakpointStore, filters: ExceptionFilters, events: RunnerEvents) {
    this.target = target;
    this.breakpoints = breakpoints;
    this.filters = filters;
    this.events = events;
    const { machine, launch } = target;
    this.sent = machine.serial.sent;
    this.pace = new IdlePace(machine);
    machine.serial.onOutput = (byte) => this.takeSerial(byte);
    if (target.history) {
      target.history.onReplaying = (replaying) => {
        this.isReplaying = replaying;
      };
    }
    for (const trigger of this.triggers) trigger.countAnew(machine.cycles);
    target.onFutureForgotten = () => {
      for (const trigger of this.triggers) trigger.forgetAfter(machine.cycles);
      this.sent = machine.serial.sent;
      target.consoles.forgetFuture();
      this.events.futureForgotten();
    };
    machine.onVmExit = (exit) => this.afterVmExit(exit);
    machine.onWatch = (hits) => {
      this.watchStop = judgeWatches(target, breakpoints, hits, (output) => this.tell(output));
      return this.watchStop !== undefined;
    };
    machine.onVmEntryFailure = ({ outcome }) =>
      this.asksFilter(FAILED_ENTRY_FILTER, {
        error: BigInt('vmInstructionError' in outcome ? outcome.vmInstructionError : 0),
      });
    machine.onDmaFault = ({ requester, address, reason = 0 }) =>
      this.asksFilter(DMA_FAULT_FILTER, { requester: BigInt(requester), address, fault: BigInt(reason) });
    machine.onDeviceComplaint = (text) => this.tell(`${text}\n`);
    machine.onStaleUse = ({ accessed, entry }) =>
      this.asksFilter(STALE_USE_FILTER, { address: accessed, page: entry.page, vpid: BigInt(entry.vpid) });
    machine.onSample = () => {
      if (performance.now() <= this.sliceEnd) return;
      this.sliceEnd = Number.POSITIVE_INFINITY;
      machine.requestStop();
    };
    machine.watchTables(launch.noDebug !== true);
  }

  pause(): void {
    this.pauseWanted = true;
    this.rouse();
  }

  /** Nobody waits for the machine any more: it stops where it is. */
  abandon(): void {
    this.isAbandoned = true;
    this.pause();
  }

  private get triggers(): Trigger[] {
    return [...this.breakpoints.triggers, ...this.filters.triggers];
  }

  /** The machine runs on from a place of its past: hits are counted from there, if not from earlier. */
  private countHits(): void {
    const { history, machine } = this.target;
    if (!history?.isInPast) return;
    for (const trigger of this.triggers) trigger.countFrom(machine.cycles);
  }

  /** What the guest waits for may have come. */
  rouse(): void {
    this.endRest();
  }

  /** Waits as long as an idle guest has waited: it shall not run through days, nor burn a processor. */
  private async rest(): Promise<void> {
    const milliseconds = Math.min(this.pace.takeMilliseconds(), LONGEST_REST);
    if (milliseconds === 0 || this.pauseWanted || this.target.history?.isInPast) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.endRest = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.endRest = () => {};
  }

  /** The breakpoints have changed. */
  refresh(): void {
    const locations: BreakpointLocation[] = this.breakpoints.locations;
    const { address, processor, vmEntry } = this.goal;
    const { machine } = this.target;
    if (address) locations.push({ address: address.address, world: address.world, processor });
    machine.setBreakpoints(locations);
    const { watching } = this.breakpoints;
    if (watching !== this.watching) {
      machine.setWatches(watching.watches);
      machine.setInstructionStops(watching.stops);
      this.watching = watching;
    }
    machine.onVmEntry = vmEntry && (() => machine.selected === processor && vmEntry());
  }

  /** A goal of the selected processor. */
  private own(goal: Goal): ProcessorGoal {
    const { selected, vmx } = this.target.machine;
    return { ...goal, processor: selected, vmcs: vmx.currentVmcs };
  }

  /** @param goal of the selected processor @returns why the machine stopped; 'reached' when it is at the goal. */
  async run(goal: Goal): Promise<Stop | 'reached'> {
    this.goal = this.own(goal);
    this.refresh();
    this.countHits();
    try {
      for (;;) {
        const interrupted = await this.breathe();
        if (interrupted) return interrupted;
        const stop = this.runSlice();
        this.flushSerial();
        if (stop) return stop;
        await this.rest();
      }
    } finally {
      this.goal = NO_GOAL;
      this.refresh();
    }
  }

  /** Executes one instruction of the selected processor. @returns why more must not follow; undefined: all is well. */
  step(): Stop | undefined {
    const { machine } = this.target;
    const processor = machine.selected;
    this.countHits();
    const reason = this.target.driver.step();
    const elsewhere = machine.selected !== processor;
    const outcome = this.judge(reason, elsewhere);
    if (elsewhere && outcome === undefined) machine.select(processor);
    this.flushSerial();
    return outcome === 'reached' ? undefined : outcome;
  }

  /** Lets messages in now and then. @returns the stop when one of them asked for a pause. */
  async breathe(): Promise<Stop | undefined> {
    const now = performance.now();
    if (now - this.lastYield >= SLICE_MILLISECONDS) {
      await yieldToMessages();
      this.lastYield = performance.now();
    }
    if (!this.pauseWanted) return undefined;
    this.pauseWanted = false;
    return { kind: 'paused' };
  }

  /** Forgets a pause that came when nothing ran. */
  begin(): void {
    this.pauseWanted = false;
    this.lastYield = performance.now();
  }

  private runSlice(): Stop | 'reached' | undefined {
    const { machine, launch } = this.target;
    const left = (launch.maxInstructions ?? Number.POSITIVE_INFINITY) - machine.instructions;
    if (left <= 0) return { kind: 'ended', text: `maxInstructions (${launch.maxInstructions}) reached`, exitCode: 124 };
    const from = machine.rewindable.position;
    const before = from.instructions;
    const begun = performance.now();
    const portion = Math.min(this.slice, left, this.untilPresent);
    this.sliceEnd = begun + 2 * SLICE_MILLISECONDS;
    const reason = this.target.driver.run(portion);
    this.sliceEnd = Number.POSITIVE_INFINITY;
    this.adapt(reason.kind === 'limit' ? portion : machine.instructions - before, performance.now() - begun);
    // On a busy computer a slice's time may be over before it begins: the breakpoint that it began at is not hit again.
    const hasMoved = !same(from, machine.rewindable.position);
    return this.judgeEnd(this.judge(reason, hasMoved));
  }

  /** Instructions until a recorded run that is replayed ends. */
  private get untilPresent(): number {
    const { history, launch, machine } = this.target;
    if (launch.replay === undefined || !history?.isInPast) return Number.POSITIVE_INFINITY;
    return Math.max(1, history.present.instructions - machine.instructions);
  }

  /** A recorded run that is replayed ends with what its machine was, whether or not something stops there. */
  private judgeEnd(stop: Stop | 'reached' | undefined): Stop | 'reached' | undefined {
    const { target } = this;
    if (!target.recorded || target.history?.isInPast) return stop;
    const text = target.endRecording();
    if (stop === undefined) return { kind: 'travel', text };
    this.events.output(`${text}.\n`);
    return stop;
  }

  /** Whether something of the user's may stop the machine. */
  get hasStops(): boolean {
    return this.breakpoints.all.length > 0 || this.filters.hasStops;
  }

  /**
   * Goes back to the last stop before this place that forwards would have been one, or to the goal.
   * @param since where to end the search, if not at the start
   * @returns 'start' when there is none: the machine is at the start of its history then, or at `since`
   */
  async runBack(goal: Goal, since?: Position): Promise<Stop | 'reached'> {
    const { history } = this.target;
    if (!history) return { kind: 'start' };
    this.goal = this.own(goal);
    this.refresh();
    let last: Stop | 'reached' | undefined;
    const wanted = (reason: StopReason): boolean => {
      const stop = this.judge(reason, true);
      if (stop === undefined || (stop !== 'reached' && stop.kind === 'ended')) return false;
      last = stop;
      return true;
    };
    const isNewToTriggers = (): boolean => this.triggers.filter((trigger) => trigger.takeLearnt()).length > 0;
    const search = history.searchBackwards(wanted, isNewToTriggers, since);
    try {
      const found = await this.inPieces(search);
      if (found === 'paused') return { kind: 'paused' };
      return (found && last) || { kind: 'start' };
    } finally {
      this.goal = NO_GOAL;
      this.refresh();
    }
  }

  /**
   * Does something that goes through the history in one or several ways. A pause makes the machine go back to where it
   * was before the first one; another pause makes it stop where it is.
   */
  async journey(work: () => Promise<Stop>): Promise<Stop> {
    const { history } = this.target;
    if (!history) return work();
    const origin = history.position;
    try {
      const stop = await work();
      return stop.kind === 'paused' ? await this.giveUp(history, origin) : stop;
    } catch (error) {
      history.goTo(origin);
      throw error;
    }
  }

  private async giveUp(history: History, origin: Position): Promise<Stop> {
    const outcome = this.isAbandoned ? 'paused' : await this.inPieces(history.travel(origin));
    return { kind: 'paused', text: outcome === 'paused' ? 'Stopped on the way' : 'Given up: back where the way began' };
  }

  /**
   * Works through a search of the history, or a way to a place of it, with messages let in.
   * @returns 'paused' when a pause has ended it: the machine is somewhere on the way then
   */
  async inPieces<T>(work: Generator<undefined, T>): Promise<T | 'paused'> {
    this.target.isTravelling = true;
    try {
      for (let piece = this.piece(() => work.next()); ; piece = this.piece(() => work.next())) {
        if (piece.done) return piece.value;
        if (!(await this.breathe())) continue;
        work.return(undefined as T);
        return 'paused';
      }
    } finally {
      this.target.isTravelling = false;
    }
  }

  private piece<T>(work: () => T): T {
    this.sliceEnd = performance.now() + 2 * SLICE_MILLISECONDS;
    const done = work();
    this.sliceEnd = Number.POSITIVE_INFINITY;
    return done;
  }

  /** Goes to a place of the history. @returns the stop when a pause has ended it on the way */
  async travel(to: Position): Promise<Stop | undefined> {
    const { history } = this.target;
    const outcome = history && (await this.inPieces(history.travel(to)));
    return outcome === 'paused' ? { kind: 'paused' } : undefined;
  }

  /** @param portion of the slice that was run, in so much time: of one that a stop has ended it tells little. */
  private adapt(portion: number, milliseconds: number): void {
    if (portion < this.slice / 2 && milliseconds < SLICE_MILLISECONDS) return;
    const fitting = (portion * SLICE_MILLISECONDS) / Math.max(milliseconds, 0.1);
    this.slice = Math.round(Math.min(Math.max(fitting, SMALLEST_SLICE), 4 * this.slice, LARGEST_SLICE));
  }

  /** @param stopsAtBreakpoints false after a single step, which ends where it ends. */
  private judge(reason: StopReason, stopsAtBreakpoints: boolean): Stop | 'reached' | undefined {
    switch (reason.kind) {
      // A slice may end at a breakpoint, which the next one would pass over as its first instruction.
      case 'watchpoint':
        if (this.watchStop) return { kind: 'dataBreakpoint', ...this.watchStop };
        return stopsAtBreakpoints ? this.atBreakpoint() : undefined;
      // At the slice's end, by number or time; a pause is asked for in between.
      case 'limit':
      case 'paused':
      case 'breakpoint':
        return stopsAtBreakpoints ? this.atBreakpoint() : undefined;
      case 'vmExit':
        return this.atVmExit(reason.exit);
      case 'vmEntry':
        return 'reached';
      case 'vmEntryFailure':
        return { kind: 'vmEntryFailure', failure: reason.failure };
      case 'staleUse':
        return { kind: 'staleUse', use: reason.use };
      case 'tripleFault':
        return this.asksFilter(TRIPLE_FAULT_FILTER)
          ? { kind: 'tripleFault', story: reason.story }
          : { kind: 'ended', text: 'Triple fault', exitCode: 3 };
      case 'dmaFault':
        return { kind: 'dmaFault', fault: reason.fault };
      case 'vmxAbort':
        return { kind: 'vmxAbort', abort: reason.abort };
      case 'unimplemented':
        return { kind: 'unimplemented', what: describeUnimplemented(reason) };
      case 'halted':
        return { kind: 'halted' };
      case 'debugExit':
        return debugExit(reason.value);
      case 'powerOff':
        return { kind: 'ended', text: 'The machine was powered off', exitCode: 0 };
      case 'reset':
        return { kind: 'ended', text: 'The machine was reset', exitCode: 0, isFailure: true };
    }
  }

  private atVmExit(exit: VmExitRecord): Stop | 'reached' {
    const watch = this.watchStop;
    if (this.exitIsGoal) return watch ? { kind: 'dataBreakpoint', ...watch } : 'reached';
    return { kind: 'vmExit', exit, ...(watch ? { watch } : {}) };
  }

  private atBreakpoint(): Stop | 'reached' | undefined {
    const view = this.target.view();
    const { pc, world } = view;
    const { address: wanted, processor, vmcs } = this.goal;
    const { machine } = this.target;
    const isOwn = processor === machine.selected && (world === 'vmm' || machine.vmx.currentVmcs === vmcs);
    if (wanted && isOwn && matches(wanted, world, pc) && view.sp >= wanted.minimumSp) return 'reached';
    const ids: number[] = [];
    const kinds = this.breakpoints.onKinds(machine.instructionStopsHere());
    for (const breakpoint of [...this.breakpoints.at(view, pc), ...kinds]) {
      const names = (extra: Readonly<Record<string, bigint>>) => new TargetEnvironment(this.target, undefined, extra);
      const verdict = breakpoint.trigger.judge(names, this.target.machine.cycles);
      this.tell(verdict.output);
      if (verdict.stop) ids.push(breakpoint.id);
    }
    return ids.length > 0 ? { kind: 'breakpoint', ids } : undefined;
  }

  private afterVmExit(exit: VmExitRecord): boolean {
    const { machine } = this.target;
    // What is watched is judged at the boundary behind the VM exit.
    this.watchStop = undefined;
    this.target.timeline.add(exit, machine.rewindable.position, machine.selected);
    const names = (extra: Readonly<Record<string, bigint>>) => new TargetEnvironment(this.target, undefined, extra);
    const verdict = this.filters.judgeExit(exit, names, machine.cycles);
    this.tell(verdict.output);
    const isOwn = this.goal.processor === machine.selected;
    this.exitIsGoal = !verdict.stop && this.goal.vmExit === true && isOwn;
    return verdict.stop || this.exitIsGoal;
  }

  /** @param names of what has happened, for the filter's condition @returns whether it stops the machine */
  private asksFilter(filter: string, names: Readonly<Record<string, bigint>> = {}): boolean {
    const environment = (extra: Readonly<Record<string, bigint>>) =>
      new TargetEnvironment(this.target, undefined, { ...names, ...extra });
    const verdict = this.filters.judge(filter, environment, this.target.machine.cycles);
    this.tell(verdict.output);
    return verdict.stop;
  }

  /** Log messages, but not those of a past that is only searched. */
  private tell(output: string | undefined): void {
    if (output !== undefined && !this.isReplaying) this.events.output(output);
  }

  private takeSerial(byte: number): void {
    const { sent } = this.target.machine.serial;
    if (sent <= this.sent) return;
    this.sent = sent;
    this.serialBytes.push(byte);
  }

  private flushSerial(): void {
    if (this.serialBytes.length > 0) this.events.serial(this.serialBytes.splice(0));
    this.target.consoles.flush((console, bytes) => this.events.serial(bytes, console));
  }
}

const debugExit = (value: number): Stop => ({
  kind: 'ended',
  text: `The guest wrote ${value} to the debug-exit port`,
  exitCode: ((value << 1) | 1) & 0xff,
  isFailure: value !== 0,
});

function describeUnimplemented(reason: Extract<StopReason, { kind: 'unimplemented' }>): string {
  const bytes = [...reason.bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `${reason.mnemonic} (${bytes}) at 0x${reason.address.toString(16)}: ${reason.what}`;
}
