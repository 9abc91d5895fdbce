import type { DebugProtocol } from '@vscode/debugprotocol';
import type { BreakpointLocation, World } from '../sim-core/machine/api.ts';
import type { Target } from './target.ts';
import { Trigger, type TriggerOptions } from './trigger.ts';

/** A breakpoint of the user, with the addresses that stand for it. */
export interface UserBreakpoint {
  readonly id: number;
  readonly locations: readonly BreakpointLocation[];
  readonly trigger: Trigger;
  readonly answer: DebugProtocol.Breakpoint;
}

/** Where a breakpoint request leads: addresses, and what to tell the client; or why it leads nowhere. */
export interface Placement {
  readonly locations: readonly BreakpointLocation[];
  readonly answer: Omit<DebugProtocol.Breakpoint, 'id' | 'verified'>;
}

/** Makes a set's breakpoints for a target: again after a restart, when programs may have been rebuilt. */
export type SetMaker = (target: Target) => readonly (TriggerOptions & { readonly placement: Placement })[];

/** All breakpoints of a session: DAP replaces them a set at a time. */
export class BreakpointStore {
  private readonly sets = new Map<string, readonly UserBreakpoint[]>();
  private readonly makers = new Map<string, SetMaker>();
  private nextId = 1;
  private enabled = true;

  /** Replaces one set: 'functions', 'instructions', or 'source:' with a path. */
  replace(set: string, make: SetMaker, target: Target): DebugProtocol.Breakpoint[] {
    const ids = this.makers.get(set) === make ? (this.sets.get(set) ?? []).map(({ id }) => id) : [];
    const breakpoints = make(target).map(({ placement, ...options }, index): UserBreakpoint => {
      const trigger = new Trigger(options);
      const id = ids[index] ?? this.nextId++;
      const verified = placement.locations.length > 0 && trigger.problem === undefined;
      const message = trigger.problem ?? placement.answer.message;
      const answer = { ...placement.answer, id, verified, ...(message === undefined ? {} : { message }) };
      return { id, trigger, locations: verified ? placement.locations : [], answer };
    });
    this.sets.set(set, breakpoints);
    this.makers.set(set, make);
    return breakpoints.map(({ answer }) => answer);
  }

  /** Places all breakpoints anew, under their ids. */
  relocate(target: Target): DebugProtocol.Breakpoint[] {
    return [...this.makers].flatMap(([set, make]) => this.replace(set, make, target));
  }

  get all(): UserBreakpoint[] {
    return [...this.sets.values()].flat();
  }

  /** For a run without debugging: no breakpoint is at any place. */
  disable(): void {
    this.enabled = false;
  }

  get locations(): BreakpointLocation[] {
    if (!this.enabled) return [];
    return this.all.flatMap((breakpoint) => breakpoint.locations);
  }

  /** Breakpoints that lie at a place. */
  at(world: World, address: bigint): UserBreakpoint[] {
    if (!this.enabled) return [];
    return this.all.filter((breakpoint) => breakpoint.locations.some((location) => matches(location, world, address)));
  }
}

export const matches = (location: BreakpointLocation, world: World, address: bigint): boolean =>
  location.address === address && (location.world === undefined || location.world === world);
