import type { DebugProtocol } from '@vscode/debugprotocol';
import type { BreakpointLocation, World } from '../../sim-core/machine/api.ts';
import type { InstructionStop, Watch } from '../../sim-core/machine/watching/watch.ts';
import type { Target } from '../running/target.ts';
import { applies, type SymbolContext, type When } from '../worlds/symbol-context.ts';
import { Trigger, type TriggerOptions } from './trigger.ts';

/** A place in a program: where the program is not, there may be other code at the same address. */
export interface ProgramLocation extends BreakpointLocation {
  readonly when?: When;
}

/** Where or at what a breakpoint stops the machine. */
export interface StoppingAt {
  readonly locations: readonly ProgramLocation[];
  /** Data breakpoints, and events that are watched like data. */
  readonly watches?: readonly Watch[];
  /** Kinds of instructions. */
  readonly stops?: readonly InstructionStop[];
}

/** A breakpoint of the user, with what stands for it in the machine. */
export interface UserBreakpoint extends StoppingAt {
  readonly id: number;
  readonly trigger: Trigger;
  readonly answer: DebugProtocol.Breakpoint;
}

/** Where a breakpoint request leads, and what to tell the client; or why it leads nowhere. */
export interface Placement extends StoppingAt {
  readonly answer: Omit<DebugProtocol.Breakpoint, 'id' | 'verified'>;
}

/** Makes a set's breakpoints for a target: again after a restart, when programs may have been rebuilt. */
export type SetMaker = (target: Target) => readonly (TriggerOptions & { readonly placement: Placement })[];

const NOWHERE: StoppingAt = { locations: [] };
/** What a breakpoint is, apart from its id. */
function identity(where: StoppingAt, { condition, hitCondition, logMessage }: TriggerOptions): string {
  const { locations, watches = [], stops = [] } = where;
  return JSON.stringify([locations, watches, stops, condition, hitCondition, logMessage], (_key, value: unknown) =>
    typeof value === 'bigint' ? `${value}` : value,
  );
}

const leadsSomewhere = ({ locations, watches = [], stops = [] }: StoppingAt): boolean =>
  locations.length + watches.length + stops.length > 0;

/** All breakpoints of a session: DAP replaces them a set at a time. */
export class BreakpointStore {
  private readonly sets = new Map<string, readonly UserBreakpoint[]>();
  private readonly makers = new Map<string, SetMaker>();
  private nextId = 1;
  private enabled = true;
  private watched: Pick<Required<StoppingAt>, 'watches' | 'stops'> | undefined;

  /** Replaces one set: 'functions', 'instructions', or 'source:' with a path. */
  replace(set: string, make: SetMaker, target: Target): DebugProtocol.Breakpoint[] {
    const old = this.sets.get(set) ?? [];
    const isSame = this.makers.get(set) === make;
    const breakpoints = make(target).map(({ placement, ...options }, index): UserBreakpoint => {
      // Clients send what they had along with what is new: that goes on counting.
      const wanted = identity(placement, options);
      const kept = isSame ? old[index] : old.find((each) => identity(each, each.trigger.options) === wanted);
      const trigger = kept?.trigger ?? new Trigger(options, target.machine.cycles);
      const id = (isSame && kept?.id) || this.nextId++;
      const verified = leadsSomewhere(placement) && trigger.problem === undefined;
      const message = trigger.problem ?? placement.answer.message;
      const answer = { ...placement.answer, id, verified, ...(message === undefined ? {} : { message }) };
      const { locations, watches = [], stops = [] } = verified ? placement : NOWHERE;
      return { id, trigger, locations, watches, stops, answer };
    });
    this.sets.set(set, breakpoints);
    this.makers.set(set, make);
    this.watched = undefined;
    return breakpoints.map(({ answer }) => answer);
  }

  /** Places all breakpoints anew, under their ids. */
  relocate(target: Target): DebugProtocol.Breakpoint[] {
    return [...this.makers].flatMap(([set, make]) => this.replace(set, make, target));
  }

  get all(): UserBreakpoint[] {
    return [...this.sets.values()].flat();
  }

  get triggers(): Trigger[] {
    return this.all.map(({ trigger }) => trigger);
  }

  /** For a run without debugging: no breakpoint is at any place. */
  disable(): void {
    this.enabled = false;
    this.watched = undefined;
  }

  get locations(): BreakpointLocation[] {
    if (!this.enabled) return [];
    return this.all.flatMap((breakpoint) => breakpoint.locations);
  }

  /** Everything that is watched, and the kinds of instructions to stop at: the same object until they change. */
  get watching(): Pick<Required<StoppingAt>, 'watches' | 'stops'> {
    const all = this.enabled ? this.all : [];
    this.watched ??= {
      watches: all.flatMap(({ watches = [] }) => watches),
      stops: all.flatMap(({ stops = [] }) => stops),
    };
    return this.watched;
  }

  /** Breakpoints on something that is watched. */
  on(watch: Watch): UserBreakpoint[] {
    return this.all.filter(({ watches }) => watches?.includes(watch));
  }

  /** Breakpoints on kinds of instructions. */
  onKinds(kinds: readonly InstructionStop[]): UserBreakpoint[] {
    return kinds.length === 0 ? [] : this.all.filter(({ stops }) => stops?.some((stop) => kinds.includes(stop)));
  }

  /** Breakpoints that lie at a place. */
  at(where: SymbolContext, address: bigint): UserBreakpoint[] {
    if (!this.enabled) return [];
    const isHere = (location: ProgramLocation): boolean =>
      matches(location, where.world, address) && (location.when === undefined || applies(location.when, where));
    return this.all.filter((breakpoint) => breakpoint.locations.some(isHere));
  }
}

export const matches = (location: BreakpointLocation, world: World, address: bigint): boolean =>
  location.address === address && (location.world === undefined || location.world === world);
