import { Mnemonic } from 'iced-x86';
import type { World } from '../../sim-core/machine/api.ts';
import type { History } from '../../sim-core/machine/history/history.ts';
import { type Position, same } from '../../sim-core/machine/history/position.ts';
import type { LineRange } from '../symbols/program.ts';
import type { Goal, Runner, Stop } from './runner.ts';
import type { Granularity } from './stepper.ts';
import type { Target } from './target.ts';

/** What the instruction at a place does to the call stack. */
type Kind = 'call' | 'return' | 'interruptReturn' | 'other';
const KINDS: ReadonlyMap<Mnemonic, Kind> = new Map([
  [Mnemonic.Call, 'call'],
  [Mnemonic.Ret, 'return'],
  [Mnemonic.Retf, 'return'],
  [Mnemonic.Iret, 'interruptReturn'],
  [Mnemonic.Iretd, 'interruptReturn'],
  [Mnemonic.Iretq, 'interruptReturn'],
]);

/** A place on the way to where the step back begins, in front of an instruction. */
interface Place {
  readonly at: Position;
  readonly world: World;
  readonly vmcs: bigint | undefined;
  readonly pc: bigint;
  readonly sp: bigint;
  readonly kind: Kind;
  readonly length: number;
}

/** Numbers of instructions to look back over, one after the other, until the step's end is among them. */
const WINDOWS = [64, 1000, 30_000] as const;

/**
 * Steps back as `Stepper` steps over: calls, the VMM behind a VM exit, and handlers of interrupts are passed over; a line
 * step ends at the beginning of a line. It goes back a little, records each step on the way forward, and looks for the
 * place among them; when it is not there, it goes back further. What is longer still is passed over by a search for
 * where it began.
 */
export class ReverseStepper {
  private readonly target: Target;
  private readonly runner: Runner;
  private readonly history: History;
  /** The way to where the last step back began. */
  private trodden: Trodden | undefined;

  constructor(target: Target, runner: Runner, history: History) {
    this.target = target;
    this.runner = runner;
    this.history = history;
  }

  async step(granularity: Granularity): Promise<Stop> {
    const { history } = this;
    const near = this.onTroddenWay(granularity);
    if (near) return this.stepTo(near);
    let trail: Trail | undefined;
    for (const window of WINDOWS) {
      const recorder = new Recorder(this.target);
      const fromStart = await this.runner.inPieces(history.retrace(window, () => recorder.record()));
      if (fromStart === 'paused') return { kind: 'paused' };
      const { places } = recorder;
      if (places.length < 2) return { kind: 'start' };
      const { selected } = this.target.machine;
      this.trodden = { places, fromStart, processor: selected, changes: this.target.changes };
      trail = new Trail(this.target, places, fromStart);
      const place = trail.end(granularity);
      if (place) return this.stepTo(place);
      if (fromStart) break;
    }
    if (trail?.obstacle) return this.passOver(trail, trail.obstacle, granularity);
    return this.goTo(history.start, 'start');
  }

  /** What the user has set stops on the way, as in a step over. */
  private async stepTo({ at }: Place): Promise<Stop> {
    const { history, runner } = this;
    const { instructions, events } = history.position;
    const isNext = at.instructions + 1 === instructions && at.events === events;
    if (isNext || !runner.hasStops) return this.goTo(at, 'step');
    const stop = await runner.runBack({}, at);
    return stop === 'reached' || stop.kind === 'start' ? { kind: 'step' } : stop;
  }

  private async goTo(place: Position, kind: 'step' | 'start'): Promise<Stop> {
    return (await this.runner.travel(place)) ?? { kind };
  }

  /** Where a step back from a place on the way to the last one ends, if that can be told from what is known of it. */
  private onTroddenWay(granularity: Granularity): Place | undefined {
    const { trodden, target } = this;
    const { selected, rewindable } = target.machine;
    if (!trodden || trodden.processor !== selected || trodden.changes !== target.changes) return undefined;
    const here = rewindable.position;
    const index = trodden.places.findLastIndex(({ at }) => same(at, here));
    if (index < 1) return undefined;
    return new Trail(target, trodden.places.slice(0, index + 1), trodden.fromStart).end(granularity);
  }

  /** Goes on behind a call, a VM exit or an interrupt that is longer than what was looked at. */
  private async passOver(trail: Trail, obstacle: Obstacle, granularity: Granularity): Promise<Stop> {
    const { history, target, runner } = this;
    const { selected } = target.machine;
    for (const goal of obstacle.goals) {
      const paused = await runner.travel(obstacle.at);
      if (paused) return paused;
      const stop = await runner.runBack(goal);
      // The VM exit that is looked for may have a filter that stops for it.
      const isExit = stop !== 'reached' && stop.kind === 'vmExit' && target.machine.selected === selected;
      if (stop === 'reached' || (goal.vmExit && isExit)) break;
      if (stop.kind !== 'start' || goal === obstacle.goals.at(-1)) return stop;
    }
    const isBehindExit = target.machine.world !== obstacle.world;
    if (isBehindExit && (await runner.inPieces(history.travelOneBack())) === 'paused') return { kind: 'paused' };
    const { pc, world } = target.view();
    const line = target.statementAt(world, pc);
    if (granularity === 'instruction' || line === undefined) return { kind: 'step' };
    if (trail.sought && (trail.sought.line !== line.line || trail.sought.file !== line.file)) {
      // The line that was begun after it is complete.
      return this.goTo(obstacle.at, 'step');
    }
    return line.start === pc && line.isStatement ? { kind: 'step' } : this.step('line');
  }
}

/** Places of a processor that a search has come by. @property changes by hand until then. */
interface Trodden {
  readonly places: readonly Place[];
  readonly fromStart: boolean;
  readonly processor: number;
  readonly changes: number;
}

/** Something hidden that leads to a place and began too long ago. */
interface Obstacle {
  readonly at: Position;
  readonly world: World;
  /** Where it may have begun, the likeliest first. */
  readonly goals: readonly Goal[];
}

/** Lengths of near calls: relative, by register, through memory. */
const CALL_LENGTHS = [5, 2, 3, 6, 7, 4, 8] as const;

/** Call instructions that may have led to a return to a place. */
function callsBefore(target: Target, { pc, sp, world }: Place): Goal[] {
  return CALL_LENGTHS.flatMap((length) => {
    const address = pc - BigInt(length);
    const decoded = target.machine.decodeAt(address);
    const isCall = decoded?.mnemonic === Mnemonic.Call && decoded.length === length;
    return isCall ? [{ address: { address, world, minimumSp: sp } }] : [];
  });
}

/** Takes down the places of one processor. */
class Recorder {
  readonly places: Place[] = [];
  private readonly target: Target;
  private readonly processor: number;
  /** Of the instructions met so far: code that changes between two visits is rare, and only looks different. */
  private readonly instructions = new Map<string, Pick<Place, 'kind' | 'length'>>();

  constructor(target: Target) {
    this.target = target;
    this.processor = target.machine.selected;
  }

  record(): void {
    const { machine } = this.target;
    if (machine.selected !== this.processor) return;
    const { world, pc, sp } = this.target.view();
    const { position } = machine.rewindable;
    this.places.push({ at: position, world, vmcs: machine.vmx.currentVmcs, pc, sp, ...this.instructionAt(world, pc) });
  }

  private instructionAt(world: World, pc: bigint): Pick<Place, 'kind' | 'length'> {
    const key = `${world}${pc}`;
    const known = this.instructions.get(key);
    if (known) return known;
    const decoded = this.target.machine.decodeAt(pc);
    const made = { kind: (decoded && KINDS.get(decoded.mnemonic)) ?? 'other', length: decoded?.length ?? 0 } as const;
    this.instructions.set(key, made);
    return made;
  }
}

/** Something between a place and the one before it that the user sees. */
interface Hidden {
  /** Whether it began at a place. */
  readonly matches: (place: Place, next: Place) => boolean;
  /** Where it began is the same as where it ended: what came before counts. */
  readonly isTransparent: boolean;
  /** For a search backwards. */
  readonly goals: () => Goal[];
}

/** Looks back over places; their numbers count from the earliest one. */
class Trail {
  private readonly target: Target;
  private readonly places: readonly Place[];
  /** There is nothing further back: what is not found is not hidden. */
  private readonly isAll: boolean;
  /** Set when something hidden began before these places. */
  obstacle: Obstacle | undefined;
  /** The line of which the beginning is looked for. */
  sought: LineRange | undefined;

  constructor(target: Target, places: readonly Place[], isAll: boolean) {
    this.target = target;
    this.places = places;
    this.isAll = isAll;
  }

  /** Where a step back from the last place ends; undefined: further back. */
  end(granularity: Granularity): Place | undefined {
    const end = granularity === 'instruction' ? this.previous(this.places.length - 1) : this.previousLine();
    return end === undefined ? undefined : this.places[end];
  }

  private place(index: number): Place {
    return this.places[index] as Place;
  }

  /** The instruction before a place as the user sees it; undefined: further back than these places. */
  previous(index: number): number | undefined {
    let at = index;
    for (;;) {
      const before = at - 1;
      if (before < 0) return undefined;
      const hidden = this.hiddenBefore(at);
      if (hidden === undefined) return before;
      const shown = this.lastBefore(before, hidden.matches);
      if (shown === undefined) {
        if (this.isAll) return before;
        const { at: place, world } = this.place(at);
        this.obstacle = { at: place, world, goals: hidden.goals() };
        return undefined;
      }
      if (!hidden.isTransparent) return shown;
      at = shown;
    }
  }

  /** What led to a place, when that is something to pass over: where it began. */
  private hiddenBefore(index: number): Hidden | undefined {
    const now = this.place(index);
    const before = this.place(index - 1);
    const sameWorld = (place: Place): boolean => place.world === now.world && place.vmcs === now.vmcs;
    if (now.world === 'guest' && before.world === 'vmm') {
      // VM entry: back to the instruction that exited, or was interrupted.
      const matches = (place: Place, next: Place): boolean => sameWorld(place) && next.world === 'vmm';
      return { matches, isTransparent: false, goals: () => [{ vmExit: true }] };
    }
    if (!sameWorld(before)) return undefined;
    const isStep = before.at.instructions < now.at.instructions;
    if (isStep && before.kind === 'return') {
      const matches = (place: Place): boolean =>
        sameWorld(place) &&
        place.kind === 'call' &&
        place.pc + BigInt(place.length) === now.pc &&
        place.sp <= now.sp &&
        place.sp > before.sp;
      return { matches, isTransparent: false, goals: () => callsBefore(this.target, now) };
    }
    if (isStep && before.kind === 'interruptReturn') {
      // The interrupted place is the same as this one: what came before it counts.
      const matches = (place: Place): boolean => sameWorld(place) && place.pc === now.pc && place.sp === now.sp;
      const address = { address: now.pc, world: now.world, minimumSp: now.sp };
      return { matches, isTransparent: true, goals: () => [{ address }] };
    }
    return undefined;
  }

  private lastBefore(index: number, matches: (place: Place, next: Place) => boolean): number | undefined {
    for (let at = index - 1; at >= 0; at--) if (matches(this.place(at), this.place(at + 1))) return at;
    return undefined;
  }

  /** The beginning of the line in hand, or when this is it, of the line before; undefined: further back. */
  previousLine(): number | undefined {
    const here = this.places.length - 1;
    const origin = this.lineAt(here);
    if (origin === undefined) return this.previous(here);
    const inLine = this.beginningOfLine(here, origin);
    if (inLine !== here) return inLine;
    let last = this.previous(here);
    while (last !== undefined && this.isInlined(here, last)) last = this.previous(last);
    if (last === undefined) return undefined;
    const line = this.lineAt(last);
    return line === undefined ? last : this.beginningOfLine(last, line);
  }

  /** The earliest place from which the line has been executed without leaving it. */
  private beginningOfLine(index: number, line: LineRange): number | undefined {
    this.sought = line;
    let beginning = index;
    let at = index;
    for (;;) {
      const before = this.previous(at);
      if (before === undefined) return this.isAll ? beginning : undefined;
      const other = this.lineAt(before);
      const isEntered = before === at - 1 && this.place(before).kind === 'call';
      if (isEntered || this.place(before).world !== this.place(at).world) return beginning;
      if (other?.line === line.line && other.file === line.file) beginning = before;
      else if (!this.isInlined(beginning, before)) return beginning;
      at = before;
    }
  }

  /** Code of an inline function of another file, which steps over run through. */
  private isInlined(index: number, before: number): boolean {
    const { world, pc } = this.place(index);
    const other = this.place(before);
    const home = this.target.functionAt(world, pc);
    if (!home || home.start !== this.target.functionAt(other.world, other.pc)?.start) return false;
    const ownFile = this.target.lineAt(world, home.start)?.file;
    const line = this.lineAt(before);
    return this.lineAt(index)?.file === ownFile && line !== undefined && line.file !== ownFile;
  }

  private lineAt(index: number): LineRange | undefined {
    const { world, pc } = this.place(index);
    return this.target.statementAt(world, pc);
  }
}
