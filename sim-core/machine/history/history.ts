/**
 * Time travel: checkpoints of the machine and deterministic replay between them. The machine runs through `History`,
 * which takes a checkpoint now and then; to be somewhere in the past it goes back to the checkpoint before and runs on.
 */

import type { StopReason } from '../stop-reason.ts';
import { COPY_SIZE, MemoryHistory } from './memory-history.ts';
import type { OutsideEvent } from './outside-event.ts';
import { before, type Position, same } from './position.ts';
import type { Rewindable } from './rewindable.ts';
import { type Held, SharedSize } from './shared-size.ts';

/** Something that came from outside the machine, to be repeated at the same place in a replay. */
export interface LoggedEvent {
  readonly at: Position;
  readonly event: OutsideEvent;
}

export interface HistoryOptions {
  /** Bytes that checkpoints may take up; older ones are thinned out to stay below. Default 256 MiB. */
  readonly maxMemory?: number;
  /** Cycles between checkpoints, about, where there is no clock. Default 100 million. */
  readonly interval?: number;
  /**
   * Milliseconds of some clock of the host. With it checkpoints come after stretches that take a while to repeat, and
   * longer ones where checkpoints are dear. The machine does the same with and without.
   */
  readonly clock?: () => number;
  /** What is known to happen, when a recorded run is repeated: the machine begins in the past. */
  readonly future?: { readonly events: readonly LoggedEvent[]; readonly end: Position };
}

/** Between two places of the past. */
interface Stretch {
  readonly from: Position;
  readonly to: Position;
}

/** Watches something while the machine runs. */
export interface ChangeWatch {
  /** Whether it has changed since this was last asked, or since the watch began. */
  changed(): boolean;
  end(): void;
}

interface Checkpoint {
  readonly at: Position;
  /** What is not in linear memory: device objects. */
  readonly outside: unknown;
  readonly held: Held;
  /** Number of logged events before it. */
  readonly events: number;
}

/** Where a search backwards looks for stops: it runs with the stop conditions that the machine has. */
export interface PastStop {
  readonly at: Position;
  readonly reason: StopReason;
}

const MEBIBYTE = 2 ** 20;
const DEFAULTS = { maxMemory: 256 * MEBIBYTE, interval: 100_000_000 } as const;
/** Milliseconds that a stretch between checkpoints takes to run, about; less often where checkpoints are dear. */
const LONGEST_STRETCH = 150;
/** A checkpoint, with the pages that are copied for it, may take this part of the time of the stretch before it. */
const CHECKPOINT_SHARE = 1 / 12;
/** Milliseconds in which a page is copied when it is first written, going by measurements. */
const COPYING = 0.002;
/** Distances in instructions before the target at which a replay leaves checkpoints: the next step back is near. */
const NEAR = [1_000_000, 30_000, 1000] as const;
/** Instructions between two looks at whether a checkpoint is due: fewer where much memory changes. */
const LONGEST_PIECE = 2_000_000;
const SHORTEST_PIECE = 10_000;
/** A stretch in which a change is looked for is divided into so many parts, until single steps do. */
const PARTS = 64;
const SINGLE_STEPS = 1000;
/** Steps between two chances to give up. */
const STEPS_AT_ONCE = 1000;
/** Runs through one stretch, when what is wanted depends on what comes later in it. */
const MOST_PASSES = 4;
/** Checkpoints closer to the present than this many are thinned out last. */
const KEPT = 4;
/** The part of the memory by which checkpoints may grow, where nothing is left to thin out, until the next one. */
const GROWTH = 1 / 4;

export class History {
  private readonly machine: Rewindable;
  private readonly memory: MemoryHistory;
  private readonly maxMemory: number;
  private readonly interval: number;
  /** Of what the checkpoints hold beside linear memory. */
  private readonly outside = new SharedSize();
  /** Bytes at which a checkpoint is due, so that others can be thinned out. */
  private mostMemory = 0;
  /** In order of time, one for each mark of `memory`. */
  private readonly checkpoints: Checkpoint[] = [];
  private readonly log: LoggedEvent[] = [];
  /** Events of the log that have happened at the place where the machine is. */
  private applied = 0;
  /** The furthest place that was ever reached; the machine is in the past while it is before. */
  private end: Position;
  /** The cycle at which the next checkpoint is due. */
  private nextCheckpoint = 0;
  private readonly clock: (() => number) | undefined;
  /** Milliseconds that the machine has run since the last checkpoint, and after which another one is due. */
  private spent = 0;
  private stretch = LONGEST_STRETCH;
  /** Instructions in which checkpoints grow by no more than they may, going by the last ones. */
  private mostAtOnce = SHORTEST_PIECE;
  /** Told while the machine repeats what it has done before: output must not be shown again. */
  onReplaying: ((replaying: boolean) => void) | undefined;

  constructor(machine: Rewindable, options: HistoryOptions = {}) {
    this.machine = machine;
    this.maxMemory = options.maxMemory ?? DEFAULTS.maxMemory;
    this.interval = options.interval ?? DEFAULTS.interval;
    this.clock = options.clock;
    this.memory = new MemoryHistory(machine.state, machine.physical);
    this.log.push(...(options.future?.events ?? []));
    this.end = options.future?.end ?? machine.position;
    this.checkpoint();
    this.applyDue();
  }

  /** Stops recording. */
  close(): void {
    this.memory.end();
    this.forgetCheckpoints(0);
    this.machine.marked();
  }

  /** The machine has become another one (a snapshot was restored): nothing before this place is known. */
  beginAnew(): void {
    this.memory.forget();
    this.forgetCheckpoints(0);
    this.log.length = 0;
    this.applied = 0;
    this.end = this.machine.position;
    this.checkpoint();
  }

  get position(): Position {
    return this.machine.position;
  }
  /** The earliest place that can be reached. */
  get start(): Position {
    return (this.checkpoints[0] as Checkpoint).at;
  }
  /** The latest place that was reached. */
  get present(): Position {
    return before(this.end, this.position) ? this.position : this.end;
  }
  get isInPast(): boolean {
    return before(this.position, this.end);
  }
  get events(): readonly LoggedEvent[] {
    return this.log;
  }
  /** How many of them have happened at this place. */
  get eventsHappened(): number {
    return this.applied;
  }
  /** Bytes that checkpoints take up, and how many there are. */
  get usage(): { readonly bytes: number; readonly checkpoints: number } {
    return { bytes: this.memory.size + this.outside.bytes, checkpoints: this.checkpoints.length };
  }

  // ---- forwards

  /** As `Machine.run`; in the past it goes on as it went then, up to the present. */
  run(instructions: number): StopReason {
    let left = instructions;
    for (let goesOn = false; ; goesOn = true) {
      this.checkpointIfDue();
      const portion = Math.min(left, this.piece, this.untilNextEvent());
      // At an event's instruction, but before others that no instruction separates from it.
      const reason = portion === 0 ? this.machine.advance() : this.runFor(portion, goesOn);
      this.arrived();
      // A processor that waits uses its portion up, too.
      left -= Math.max(1, portion);
      if (reason.kind !== 'limit' || left <= 0) return reason;
    }
  }

  private runFor(instructions: number, goesOn: boolean): StopReason {
    const begun = this.clock?.() ?? 0;
    const [from, copied] = [this.machine.position.instructions, this.memory.copied];
    const reason = this.machine.run(instructions, goesOn);
    this.spent += (this.clock?.() ?? 0) - begun;
    const ran = Math.max(1, this.machine.position.instructions - from);
    // Pages of zeros take no room, but the same code may come to others.
    const rate = (COPY_SIZE * (this.memory.copied - copied)) / ran;
    // A short run that writes nothing says little of the next one.
    const tried = Math.max(this.mostAtOnce, 2 * ran);
    const fitting = Math.min((GROWTH * this.maxMemory) / rate, tried, LONGEST_PIECE);
    this.mostAtOnce = Math.max(SHORTEST_PIECE, fitting);
    return reason;
  }

  /** As `Machine.step`. */
  step(): StopReason {
    this.applyDue();
    const reason = this.machine.step();
    this.arrived();
    return reason;
  }

  private arrived(): void {
    this.applyDue();
    if (before(this.end, this.machine.position)) this.end = this.machine.position;
  }

  /** Instructions until the next logged event. */
  private untilNextEvent(): number {
    const next = this.log[this.applied]?.at.instructions ?? Number.POSITIVE_INFINITY;
    return Math.max(0, next - this.machine.position.instructions);
  }

  /** Instructions after which it is time to look whether a checkpoint is due: they may take many cycles each. */
  private get piece(): number {
    const untilCheckpoint = this.clock ? Number.POSITIVE_INFINITY : this.nextCheckpoint - this.machine.cycles;
    return Math.max(1, Math.ceil(Math.min(this.mostAtOnce, untilCheckpoint)));
  }

  private checkpointIfDue(): void {
    const isLong = this.clock ? this.spent >= this.stretch : this.machine.cycles >= this.nextCheckpoint;
    if (!isLong && this.usage.bytes <= this.mostMemory) return;
    const begun = this.clock?.() ?? 0;
    const copied = this.memory.copied * COPYING;
    this.checkpoint();
    const taken = (this.clock?.() ?? 0) - begun;
    this.stretch = Math.max(LONGEST_STRETCH, (taken + copied) / CHECKPOINT_SHARE);
  }

  private applyDue(): void {
    for (;;) {
      const next = this.log[this.applied];
      if (!next || !same(next.at, this.machine.position)) return;
      this.applied++;
      this.machine.applyEvent(next.event);
    }
  }

  // ---- what comes from outside

  /** Gives the machine something from outside, and remembers it. In the past this makes another future. */
  apply(event: OutsideEvent): void {
    this.forgetFuture();
    this.log.push({ at: this.machine.position, event });
    this.applied = this.log.length;
    this.machine.applyEvent(event);
  }

  /** What happened after this place has not happened. */
  forgetFuture(): void {
    this.log.length = this.applied;
    this.end = this.machine.position;
  }

  // ---- checkpoints

  private checkpoint(): void {
    const at = this.machine.position;
    this.nextCheckpoint = this.machine.cycles + this.interval;
    this.spent = 0;
    const last = this.checkpoints.at(-1);
    if (last && same(last.at, at)) return;
    this.memory.mark();
    const outside = this.machine.saveOutside();
    this.checkpoints.push({ at, outside, held: this.outside.hold(outside), events: this.applied });
    this.machine.marked();
    this.thinOut();
  }

  /** Stays within the memory; the last ones go only where it is not enough for them beside the first. */
  private thinOut(): void {
    const giveUp = (limit: number, kept: number): void => {
      while (this.usage.bytes > limit && this.checkpoints.length > kept + 1) this.giveUpOne(kept);
    };
    giveUp(this.maxMemory, KEPT);
    if (this.usage.bytes > this.maxMemory) giveUp(this.maxMemory + this.memory.sizeOfFirst, 0);
    this.mostMemory = Math.max(this.maxMemory, this.usage.bytes + GROWTH * this.maxMemory);
  }

  /** The checkpoint whose neighbours are nearest for its age. @param kept how many of the last ones stay */
  private giveUpOne(kept: number): void {
    const now = this.machine.position.instructions;
    let least = 1;
    let leastSpread = Number.POSITIVE_INFINITY;
    for (let i = 1; i < this.checkpoints.length - kept; i++) {
      const next = i + 1 < this.checkpoints.length ? this.instructionsAt(i + 1) : now;
      const spread = (next - this.instructionsAt(i - 1)) / (now - this.instructionsAt(i) + 1);
      if (spread >= leastSpread) continue;
      least = i;
      leastSpread = spread;
    }
    this.memory.merge(least);
    this.forgetCheckpoints(least, 1);
  }

  private forgetCheckpoints(from: number, count = this.checkpoints.length): void {
    for (const { held } of this.checkpoints.splice(from, count)) this.outside.release(held);
  }

  private instructionsAt(checkpoint: number): number {
    return (this.checkpoints[checkpoint] as Checkpoint).at.instructions;
  }

  // ---- backwards

  /** Puts the machine where it was at a place between `start` and the present. @throws RangeError elsewhere */
  goTo(target: Position): void {
    toItsEnd(this.travel(target));
  }

  /**
   * As `goTo`, in pieces. Ended early, it leaves the machine where it is on the way, as everything here does that is done
   * in pieces.
   */
  *travel(target: Position): Generator<undefined, void> {
    if (before(target, this.start) || before(this.present, target)) {
      throw new RangeError(`instruction ${target.instructions} is not between the start and the present`);
    }
    yield* this.approach(target);
  }

  private *approach(target: Position): Generator<undefined, void> {
    if (before(target, this.machine.position)) this.restore(this.lastCheckpointBefore(target, true));
    yield* this.runTo(target, false);
  }

  /** Goes to just before a place, so that the next steps back from there are short. */
  private *leaveCheckpointsBefore(target: Position): Generator<undefined, void> {
    this.restore(this.lastCheckpointBefore(target, false));
    for (const distance of NEAR) yield* this.runTo({ instructions: target.instructions - distance, events: 0 }, true);
  }

  /**
   * The place one step (an instruction, or an event between instructions) before this one. @returns false at the start
   */
  stepBack(): boolean {
    return toItsEnd(this.travelOneBack());
  }

  /** As `stepBack`, in pieces: where checkpoints are rare it may be far to the last one. */
  *travelOneBack(): Generator<undefined, boolean> {
    const target = this.machine.position;
    if (!before(this.start, target)) return false;
    yield* this.leaveCheckpointsBefore(target);
    yield* this.runTo({ instructions: target.instructions - 1, events: 0 }, false);
    let previous = this.machine.position;
    this.silently(() => {
      while (before(this.machine.position, target)) {
        previous = this.machine.position;
        this.advance();
      }
    });
    yield* this.approach(previous);
    return true;
  }

  /**
   * The last stop before this place that the machine's stop conditions make, or the start. The machine is there
   * afterwards. @param wanted which stops count; asked when the machine is there
   */
  findBackwards(wanted: (reason: StopReason) => boolean): PastStop | undefined {
    return toItsEnd(this.searchBackwards(wanted));
  }

  /**
   * As `findBackwards`, in pieces. A stretch is run through in the order of time: `again` tells whether what was wanted in
   * it depends on what came later in it, so that it has to be run through once more.
   * @param since no stop there or earlier counts: the search ends there instead of at the start
   */
  *searchBackwards(
    wanted: (reason: StopReason) => boolean,
    again = (): boolean => false,
    since?: Position,
  ): Generator<undefined, PastStop | undefined> {
    const here = this.machine.position;
    const counts = ({ at, reason }: PastStop): boolean =>
      before(at, here) && (since === undefined || before(since, at)) && wanted(reason);
    let found: PastStop | undefined;
    if (before(this.start, here)) yield* this.leaveCheckpointsBefore(here);
    again();
    for (const stretch of this.stretchesBackwards(here)) {
      found = yield* this.lastStopIn(stretch, counts);
      for (let pass = 1; pass < MOST_PASSES && again(); pass++) {
        yield* this.approach(stretch.from);
        found = yield* this.lastStopIn(stretch, counts);
      }
      if (found || (since && !before(since, stretch.from))) break;
    }
    yield* this.approach(found?.at ?? since ?? this.start);
    return found;
  }

  /** The stretches between checkpoints before a place, the latest first; the machine is at the beginning of each. */
  private *stretchesBackwards(end: Position): Generator<Stretch> {
    let limit = end;
    while (before(this.start, limit)) {
      const index = this.lastCheckpointBefore(limit, false);
      this.restore(index);
      const from = (this.checkpoints[index] as Checkpoint).at;
      yield { from, to: limit };
      limit = from;
    }
  }

  private *lastStopIn(
    { to }: Stretch,
    counts: (stop: PastStop) => boolean,
  ): Generator<undefined, PastStop | undefined> {
    let last: PastStop | undefined;
    // A breakpoint counts at the beginning and where an event, the memory or time has ended a piece: in front of it.
    for (let goesOn = true; before(this.machine.position, to); ) {
      if (this.usage.bytes > this.mostMemory) this.checkpoint();
      const next = this.machine.position.instructions + Math.ceil(this.mostAtOnce);
      this.silently(() => {
        const reason = this.advanceTowards(Math.min(to.instructions, next), goesOn);
        const stop: PastStop = { at: this.machine.position, reason };
        goesOn = reason.kind === 'limit' || reason.kind === 'paused';
        if (!goesOn && counts(stop)) last = stop;
      });
      yield;
    }
    return last;
  }

  /**
   * The last place before this one from which the next instruction or event changes something, with the machine there;
   * undefined, at the start, when nothing before did. @param watch begins to watch, at some place in the past; what it
   * returns tells whether a change has been seen since it was last asked. In pieces, as `searchBackwards`.
   */
  *searchChange(watch: () => ChangeWatch): Generator<undefined, Position | undefined> {
    const here = this.machine.position;
    let found: Position | undefined;
    if (before(this.start, here)) yield* this.leaveCheckpointsBefore(here);
    for (const { to } of this.stretchesBackwards(here)) {
      found = yield* this.lastChangeBefore(to, watch);
      if (found) break;
    }
    yield* this.approach(found ?? this.start);
    return found;
  }

  /** Divides the stretch from here to `to` again and again, where the last change is. */
  private *lastChangeBefore(to: Position, watch: () => ChangeWatch): Generator<undefined, Position | undefined> {
    let end = to;
    for (;;) {
      const from = this.machine.position;
      const length = end.instructions - from.instructions;
      const single = length <= SINGLE_STEPS;
      const found = yield* this.lastPartWithChange(end, single ? undefined : Math.ceil(length / PARTS), watch);
      if (!found || single) return found?.from;
      this.restore(this.lastCheckpointBefore(found.from, true));
      yield* this.runTo(found.from, true);
      end = found.to;
    }
  }

  /** @param size in instructions; undefined: single steps */
  private *lastPartWithChange(
    end: Position,
    size: number | undefined,
    watch: () => ChangeWatch,
  ): Generator<undefined, Stretch | undefined> {
    const watching = watch();
    let last: Stretch | undefined;
    try {
      while (before(this.machine.position, end)) {
        const from = this.machine.position;
        const next = { instructions: Math.min(end.instructions, from.instructions + (size ?? 0)), events: 0 };
        if (size !== undefined && before(from, next)) yield* this.runTo(next, false);
        else this.repeat(() => this.advance());
        if (watching.changed()) last = { from, to: this.machine.position };
      }
    } finally {
      watching.end();
    }
    return last;
  }

  /**
   * Goes back some instructions, and step by step to where the machine was: `visit` is asked at each place on the way,
   * at the last one, too. In pieces. @returns whether it began at the start of the history
   */
  *retrace(instructions: number, visit: () => void): Generator<undefined, boolean> {
    const here = this.machine.position;
    const from = { instructions: Math.max(this.start.instructions, here.instructions - instructions), events: 0 };
    yield* this.leaveCheckpointsBefore(here);
    const first = before(from, this.start) ? this.start : from;
    this.restore(this.lastCheckpointBefore(first, true));
    yield* this.runTo(first, false);
    const isStart = !before(this.start, this.machine.position);
    visit();
    while (before(this.machine.position, here)) {
      this.repeat(() => this.retraceSome(here, visit));
      yield;
    }
    return isStart;
  }

  private retraceSome(to: Position, visit: () => void): void {
    for (let left = STEPS_AT_ONCE; left > 0 && before(this.machine.position, to); left--) {
      this.advance();
      visit();
    }
  }

  /** Runs at most to an instruction, or takes a step where only events are left on the way. */
  private advanceTowards(instructions: number, goesOn = false): StopReason {
    const portion = Math.min(instructions - this.machine.position.instructions, this.untilNextEvent());
    const reason = portion <= 0 ? this.machine.advance() : this.runFor(portion, goesOn);
    this.applyDue();
    return reason;
  }

  /** One step with the logged events that belong to it. */
  private advance(): void {
    this.machine.advance();
    this.applyDue();
  }

  /** Runs on to a place, without regard to stop conditions. @param leaves a checkpoint there. In pieces. */
  private *runTo(target: Position, leaves: boolean): Generator<undefined, void> {
    if (!before(this.machine.position, target)) return;
    while (this.machine.position.instructions < target.instructions) {
      this.repeat(() => {
        this.checkpointIfDue();
        this.advanceTowards(Math.min(target.instructions, this.machine.position.instructions + this.piece));
      });
      yield;
    }
    this.repeat(() => {
      while (before(this.machine.position, target)) this.advance();
    });
    if (leaves) this.checkpoint();
  }

  private lastCheckpointBefore(target: Position, orThere: boolean): number {
    for (let i = this.checkpoints.length - 1; i > 0; i--) {
      const { at } = this.checkpoints[i] as Checkpoint;
      if (before(at, target) || (orThere && same(at, target))) return i;
    }
    return 0;
  }

  private restore(index: number): void {
    if (before(this.end, this.machine.position)) this.end = this.machine.position;
    const checkpoint = this.checkpoints[index] as Checkpoint;
    this.memory.rewind(index);
    this.forgetCheckpoints(index + 1);
    this.machine.restoreOutside(checkpoint.outside);
    this.machine.memoryReplaced();
    this.applied = checkpoint.events;
    this.silently(() => this.applyDue());
    this.spent = 0;
    this.nextCheckpoint = this.machine.cycles + this.interval;
  }

  /** Does a piece of what has been done before, without regard to stop conditions. */
  private repeat(work: () => void): void {
    this.silently(() => this.machine.withoutStops(work));
  }

  private silently(work: () => void): void {
    this.onReplaying?.(true);
    try {
      work();
    } finally {
      this.onReplaying?.(false);
    }
  }
}

/** Does all of something that can be done in pieces. */
function toItsEnd<T>(work: Generator<undefined, T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}
