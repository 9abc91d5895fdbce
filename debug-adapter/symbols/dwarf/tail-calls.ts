/**
 * Functions that have ended by calling another one, so that their frames are gone: which they were, the entries of
 * calls tell where only one way leads from a caller to the function that runs (DWARF 5, 3.4).
 */

import { Recent } from '../recent.ts';
import { AT, TAG } from './constants.ts';
import { entryPoint } from './lists.ts';
import type { Scopes } from './scopes.ts';
import type { Entry } from './unit.ts';

const CALL_SITES: readonly number[] = [TAG.callSite, TAG.gnuCallSite];

/** The entries of all calls in a function. */
export function* callSitesOf({ unit, index: first }: Entry): Generator<Entry> {
  for (let index = first + 1; index < unit.endOf(first); index++) {
    if (CALL_SITES.includes(unit.abbreviation(index).tag)) yield unit.entry(index);
  }
}

/** Behind the call; of calls that do not return clang tells where they are instead. */
export function addressOfCall(site: Entry): bigint | undefined {
  const at = site.own(AT.callReturnPc) ?? site.own(AT.lowPc) ?? site.own(AT.callPc);
  return at && site.unit.address(at);
}

/** The entry of the called function; undefined when it is computed. */
export function calledBy(site: Entry): Entry | undefined {
  const origin = site.own(AT.callOrigin) ?? site.own(AT.abstractOrigin);
  return origin && site.unit.referred(origin);
}

const isTailCall = (site: Entry): boolean =>
  site.own(AT.callTailCall)?.raw === 1n || site.own(AT.gnuTailCall)?.raw === 1n;

/** Where a function that has ended was, as its frame would be. */
export interface EndedCall {
  /** Behind the jump, or at it. */
  readonly pc: bigint;
  /** Inside the jump. */
  readonly inside: bigint;
}

/** Ways are looked for no further than this: in a program with many there is more than one. */
const MOST_STEPS = 1000;
const MOST_KNOWN = 1000;

/** What all ways have in common. */
interface Common {
  readonly way: readonly Entry[];
  /** At its beginning and at its end. */
  readonly first: number;
  readonly last: number;
}

export class TailCalls {
  private readonly scopes: Scopes;
  private readonly beginning: (called: Entry) => bigint | undefined;
  private readonly known = new Recent<string, readonly EndedCall[]>(MOST_KNOWN);

  private readonly reentered = new Recent<bigint, boolean>(MOST_KNOWN);

  /** @param beginning of a function by its entry, which may be a declaration */
  constructor(scopes: Scopes, beginning: (called: Entry) => bigint | undefined) {
    this.scopes = scopes;
    this.beginning = beginning;
  }

  /**
   * The functions between a call and the function that runs, the innermost first; none where the call calls it, or
   * where it is not known which they were.
   * @param returnAddress of the call. @param callee where the function that runs begins
   */
  between(returnAddress: bigint, callee: bigint): readonly EndedCall[] {
    return this.known.get(`${returnAddress} ${callee}`, () => this.find(returnAddress, callee));
  }

  private find(returnAddress: bigint, callee: bigint): readonly EndedCall[] {
    const caller = this.scopes.functionAt(returnAddress - 1n);
    const site = caller && [...callSitesOf(caller)].find((each) => addressOfCall(each) === returnAddress);
    const called = site && this.called(site);
    if (called === undefined || called === callee) return [];
    const { way, first, last } = this.ways(called, callee) ?? { way: [], first: 0, last: 0 };
    const all = first === way.length ? way : [...way.slice(0, first), ...way.slice(way.length - last)];
    return all.map(endedCall).reverse();
  }

  /**
   * Whether a function may have been entered again by tail calls: what its caller has passed is not what it was entered
   * with then.
   */
  mayReenter(start: bigint): boolean {
    return this.reentered.get(start, () => {
      const reached = [start];
      for (const from of reached) {
        for (const site of this.tailCallsOf(from)) {
          const called = this.called(site);
          if (called === undefined || called === start || reached.length > MOST_STEPS) return true;
          if (!reached.includes(called)) reached.push(called);
        }
      }
      return false;
    });
  }

  private called(site: Entry): bigint | undefined {
    const entry = calledBy(site);
    return entry && this.beginning(entry);
  }

  private tailCallsOf(start: bigint): readonly Entry[] {
    const entry = this.scopes.functionAt(start);
    return entry && entryPoint(entry) === start ? [...callSitesOf(entry)].filter(isTailCall) : [];
  }

  /** What all ways from one function to another have in common; undefined when they may lead anywhere. */
  private ways(from: bigint, to: bigint): Common | undefined {
    let common: Common | undefined;
    let steps = 0;
    const way: Entry[] = [];
    /** @returns whether every way is known */
    const follow = (start: bigint): boolean => {
      for (const site of this.tailCallsOf(start)) {
        if (++steps > MOST_STEPS) return false;
        if (way.some((passed) => passed.offset === site.offset)) continue;
        way.push(site);
        const called = this.called(site);
        if (called === undefined) return false;
        if (called === to) common = inCommon(common, way);
        else if (!follow(called)) return false;
        way.pop();
      }
      return true;
    };
    return follow(from) ? common : undefined;
  }
}

function inCommon(before: Common | undefined, way: readonly Entry[]): Common {
  if (!before) return { way: [...way], first: way.length, last: way.length };
  const same = (a: Entry | undefined, b: Entry | undefined): boolean => a?.offset === b?.offset;
  let first = 0;
  while (first < Math.min(before.first, way.length) && same(before.way[first], way[first])) first++;
  let last = 0;
  while (last < Math.min(before.last, way.length) && same(before.way.at(-1 - last), way.at(-1 - last))) last++;
  const shorter = way.length < before.way.length ? way : before.way;
  return { way: [...shorter], first, last: Math.min(last, shorter.length - first) };
}

function endedCall(site: Entry): EndedCall {
  const pc = addressOfCall(site) ?? 0n;
  const isAtJump = site.own(AT.callReturnPc) === undefined && site.own(AT.lowPc) === undefined;
  return { pc, inside: isAtJump ? pc : pc - 1n };
}
