/** The machine that gdb drives: it runs forwards and backwards until something stops it, and tells gdb why. */

import type { Machine } from '../../sim-core/machine/api.ts';
import { History } from '../../sim-core/machine/history/history.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import { type Position, same } from '../../sim-core/machine/history/position.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import type { Watch, WatchHit } from '../../sim-core/machine/watching/watch.ts';
import { describeQualification, exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';
import { exitStatus, type FinalStop } from '../exit-status.ts';
import { inputCanWake } from '../machines.ts';
import { describeStop } from '../report.ts';
import { asFinal } from '../run.ts';
import { nextTurn, Slices } from '../slices.ts';
import { HostFiles } from './host-files.ts';
import { linearRip } from './registers.ts';
import type { Recorded } from './snapshots.ts';

const SLICE_MILLISECONDS = 20;
/** Between two looks at whether input has come for a halted machine. */
const WAIT_MILLISECONDS = 20;
/** Steps of a range step between two looks at whether gdb interrupts. */
const STEPS_AT_ONCE = 1000;

/** Signals that stop replies name: SIGINT, SIGTRAP, SIGSEGV. */
const SIGNAL = { interrupt: '02', trap: '05', fault: '0b' } as const;
const LIMIT: StopReason = { kind: 'limit' };
/** Ends that a replay comes to as well: gdb may go back from there. */
const ENDS: ReadonlySet<StopReason['kind']> = new Set(['powerOff', 'debugExit', 'reset']);

/** What gdb calls watchpoints in its stop replies. */
const WATCH_REPLIES = { write: 'watch', read: 'rwatch', readWrite: 'awatch' } as const;
export type WatchKind = keyof typeof WATCH_REPLIES;

/** As stop replies name them. */
const BREAKPOINT_KINDS = ['swbreak', 'hwbreak'] as const;
export type BreakpointKind = (typeof BREAKPOINT_KINDS)[number];

/** Single steps of a processor until RIP is outside [start, end); at least one. */
export interface Steps {
  readonly kind: 'step';
  readonly processor: number;
  readonly start: bigint;
  readonly end: bigint;
}
export type Resumption =
  | Steps
  | { readonly kind: 'continue' }
  | { readonly kind: 'continueBack' }
  | { readonly kind: 'stepBack' };

/** Why a resumption ended, and a line for the user where there is more to say than a packet can. */
export interface StopReply {
  readonly packet: string;
  readonly text?: string;
}

export class Debuggee {
  readonly machine: Machine;
  readonly history: History;
  readonly files: HostFiles;
  /** What the machine began with, for snapshots; undefined: they cannot be made. */
  recorded: Recorded | undefined;
  /** Set by gdb's interrupt while the machine runs. */
  interrupted = false;
  /** Which VM exits stop the machine, by reason; set by `monitor stop-on-exit`. */
  stopsAtExit: (reason: number) => boolean = () => false;
  /** Linear addresses, in whichever world. gdb tells its kinds of breakpoints apart; here they are the same. */
  private readonly breakpoints = { swbreak: new Set<bigint>(), hwbreak: new Set<bigint>() };
  private readonly watchpoints = new Map<string, Watch>();
  private readonly slices = new Slices(SLICE_MILLISECONDS);
  private readonly afterSlice: () => void;
  /** How the run ended, and where: going on from there ends the debuggee for gdb. */
  private end: { readonly at: Position; readonly stop: FinalStop } | undefined;

  private isReplaying = false;
  private isSearching = false;
  /** What came for the guest while the machine was elsewhere in its history. */
  private readonly heldInput: Uint8Array[] = [];

  /** @param afterSlice called whenever the machine has run for a while @param files what gdb may read */
  constructor(machine: Machine, afterSlice: () => void, files = new HostFiles()) {
    this.machine = machine;
    this.files = files;
    this.afterSlice = afterSlice;
    machine.onWatch = () => true;
    machine.onVmExit = ({ reason }) => this.stopsAtExit(reason);
    this.history = new History(machine.rewindable);
    this.history.onReplaying = (replaying) => {
      this.isReplaying = replaying;
    };
  }

  /** gdb's numbers of threads count from 1. */
  get thread(): number {
    return this.machine.selected + 1;
  }

  setBreakpoint(kind: BreakpointKind, address: bigint, on: boolean): void {
    if (on) this.breakpoints[kind].add(address);
    else this.breakpoints[kind].delete(address);
    const all = new Set([...this.breakpoints.swbreak, ...this.breakpoints.hwbreak]);
    this.machine.setBreakpoints([...all].map((each) => ({ address: each })));
  }

  /** A gdb that goes without a word leaves its breakpoints and watchpoints behind: the next one does not know them. */
  clear(): void {
    for (const addresses of Object.values(this.breakpoints)) addresses.clear();
    this.watchpoints.clear();
    this.machine.setBreakpoints([]);
    this.machine.setWatches([]);
  }

  setWatchpoint(access: WatchKind, address: bigint, length: number, on: boolean): void {
    const key = `${access} ${address} ${length}`;
    if (on) this.watchpoints.set(key, { kind: 'memory', space: 'linear', access, address, length });
    else this.watchpoints.delete(key);
    this.machine.setWatches([...this.watchpoints.values()]);
  }

  /** Changes the machine for gdb. */
  apply(event: OutsideEvent): void {
    this.history.apply(event);
    this.end = undefined;
  }

  /** A snapshot was restored: there is nothing before. */
  beginAnew(): void {
    this.history.beginAnew();
    this.end = undefined;
  }

  /** Bytes for the guest's serial port. */
  input(bytes: Uint8Array): void {
    if (this.isSearching) this.heldInput.push(bytes);
    else this.apply({ kind: 'input', bytes });
  }

  /** Whether the machine does what it has done before: its output has been shown. */
  get repeats(): boolean {
    return this.isReplaying || this.history.isInPast;
  }

  async resume(action: Resumption): Promise<StopReply> {
    this.interrupted = false;
    if (action.kind === 'stepBack') return this.goBack(() => this.oneBack());
    if (action.kind === 'continueBack')
      return this.goBack(async () => this.undoAccess() ?? (await this.continueBack()));
    const { end } = this;
    if (end && same(end.at, this.history.position)) return { packet: `W${hexByte(exitStatus(end.stop))}` };
    return action.kind === 'continue' ? this.continue() : this.step(action);
  }

  private async continue(): Promise<StopReply> {
    for (;;) {
      const reason = this.slices.run((instructions) => this.history.run(instructions));
      this.afterSlice();
      if (reason.kind === 'halted' && inputCanWake(this.machine)) await wait(WAIT_MILLISECONDS);
      else await nextTurn();
      // A slice that ends in front of a breakpoint would pass it with the next one's first instruction.
      const stop = reason.kind === 'limit' ? this.atBreakpoint() : this.replyTo(reason);
      if (stop) return stop;
      if (this.interrupted) return { packet: this.stopped(SIGNAL.interrupt) };
    }
  }

  private async step({ processor, start, end }: Steps): Promise<StopReply> {
    for (let steps = 1; ; steps++) {
      this.machine.select(processor);
      const reason = this.history.step();
      this.afterSlice();
      const stop = reason.kind === 'breakpoint' && this.machine.selected === processor ? LIMIT : reason;
      const reply = stop.kind === 'limit' ? undefined : this.replyTo(stop);
      if (reply) return reply;
      this.machine.select(processor);
      const rip = linearRip(this.machine);
      if (rip < start || rip >= end) return this.trap();
      const breakpoint = this.atBreakpoint();
      if (breakpoint) return breakpoint;
      if (steps % STEPS_AT_ONCE === 0) await nextTurn();
      if (this.interrupted) return { packet: this.stopped(SIGNAL.interrupt) };
    }
  }

  /** An interrupt makes the machine go back to where it was, another one makes it stop where it is on the way. */
  private async goBack(work: () => Promise<StopReply | undefined>): Promise<StopReply> {
    const origin = this.history.position;
    this.isSearching = true;
    let reply = await work();
    if (!reply) {
      await this.inPieces(this.history.travel(origin));
      reply = { packet: this.stopped(SIGNAL.interrupt) };
    }
    this.isSearching = false;
    for (const bytes of this.heldInput.splice(0)) this.input(bytes);
    return reply;
  }

  /** @returns undefined when gdb has interrupted it */
  private async inPieces<T>(work: Generator<undefined, T>): Promise<{ readonly value: T } | undefined> {
    this.interrupted = false;
    for (;;) {
      const piece = work.next();
      if (piece.done) return piece;
      await nextTurn();
      if (!this.interrupted) continue;
      work.return(undefined as T);
      return undefined;
    }
  }

  private async oneBack(): Promise<StopReply | undefined> {
    const outcome = await this.inPieces(this.history.travelOneBack());
    return outcome && (outcome.value ? this.trap() : this.atBeginning());
  }

  /** The machine may be right behind an access that is watched: going back undoes that one first. */
  private undoAccess(): StopReply | undefined {
    if (this.watchpoints.size === 0 || !this.history.stepBack()) return undefined;
    const reason = this.history.step();
    return reason.kind === 'watchpoint' ? this.foundBack(reason) : undefined;
  }

  private async continueBack(): Promise<StopReply | undefined> {
    const counts: readonly StopReason['kind'][] = ['breakpoint', 'watchpoint', 'vmExit'];
    const outcome = await this.inPieces(this.history.searchBackwards(({ kind }) => counts.includes(kind)));
    if (!outcome) return undefined;
    return outcome.value ? this.foundBack(outcome.value.reason) : this.atBeginning();
  }

  private foundBack(reason: StopReason): StopReply {
    const reply = this.replyTo(reason) ?? this.trap();
    // Backwards, an access is undone where the search found it: gdb compares the value with the one that it knew.
    if (reason.kind === 'watchpoint') this.history.stepBack();
    return reply;
  }

  // ---- stop replies

  private stopped(signal: string, what = ''): string {
    return `T${signal}${what}thread:${this.thread.toString(16)};`;
  }

  private watchpointHit(hits: readonly WatchHit[]): string {
    for (const { watch, address } of hits) {
      if (watch.kind !== 'memory' || watch.access === 'change') continue;
      return `${WATCH_REPLIES[watch.access]}:${(address ?? watch.address).toString(16)};`;
    }
    return '';
  }

  private trap(): StopReply {
    return { packet: this.stopped(SIGNAL.trap) };
  }

  private atBeginning(): StopReply {
    return { packet: this.stopped(SIGNAL.trap, 'replaylog:begin;') };
  }

  private atBreakpoint(): StopReply | undefined {
    const address = linearRip(this.machine);
    const kind = BREAKPOINT_KINDS.find((each) => this.breakpoints[each].has(address));
    return kind && { packet: this.stopped(SIGNAL.trap, `${kind}:;`) };
  }

  /** Undefined when the machine goes on. */
  private replyTo(reason: StopReason): StopReply | undefined {
    switch (reason.kind) {
      case 'limit':
      case 'paused':
        return undefined;
      case 'breakpoint':
        return this.atBreakpoint() ?? this.trap();
      case 'watchpoint':
        return { packet: this.stopped(SIGNAL.trap, this.watchpointHit(reason.hits)) };
      case 'vmExit':
        return { packet: this.stopped(SIGNAL.trap), text: describeExit(reason.exit) };
      case 'halted':
        if (inputCanWake(this.machine)) return undefined;
        break;
    }
    return this.ended(asFinal(reason));
  }

  private ended(stop: FinalStop): StopReply {
    this.end = { at: this.history.position, stop };
    const text = `${describeStop(stop, this.machine)}vmxray: the run is at its end (${stop.kind}); it can go back from here\n`;
    const isEnd = ENDS.has(stop.kind);
    return { packet: isEnd ? this.stopped(SIGNAL.trap, 'replaylog:end;') : this.stopped(SIGNAL.fault), text };
  }

  /** What `?` answers: the machine has just stopped where it is. */
  get status(): string {
    return this.stopped(SIGNAL.trap);
  }
}

export function describeExit(exit: VmExitRecord): string {
  const words = describeQualification(exit.reason, exit.qualification, exit.interruptionInformation);
  const detail = words === '' ? '' : ` (${words})`;
  return `VM exit: ${exitTitle(exit.reason)}${detail} at guest RIP 0x${exit.guestRip.toString(16)}: ${exit.cause}\n`;
}

const hexByte = (value: number): string => (value & 0xff).toString(16).padStart(2, '0');

const wait = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
