/** Judges what has happened to watched things: which data breakpoints stop the machine, and what to say of it. */

import type { WatchHit } from '../../sim-core/machine/watching/watch.ts';
import { TargetEnvironment } from '../expressions/environment.ts';
import { formatNumber } from '../expressions/evaluate.ts';
import type { Target } from '../running/target.ts';
import { hex } from '../worlds/memory-reference.ts';
import type { BreakpointStore } from './breakpoint-store.ts';
import { describeWatch } from './watch-places.ts';

export interface WatchStop {
  readonly ids: readonly number[];
  readonly hits: readonly WatchHit[];
}

/** Names that conditions and log messages have for a hit. */
const namesOf = ({ access, address, before, after }: WatchHit): Readonly<Record<string, bigint>> => ({
  write: access === 'write' ? 1n : 0n,
  ...(address === undefined ? {} : { address }),
  ...(before === undefined ? {} : { old: before }),
  ...(after === undefined ? {} : { new: after }),
});

/**
 * @param tell takes log messages
 * @returns the breakpoints that stop, with their hits; undefined: none does
 */
export function judgeWatches(
  target: Target,
  breakpoints: BreakpointStore,
  hits: readonly WatchHit[],
  tell: (output: string) => void,
): WatchStop | undefined {
  const stopping = hits.flatMap((hit) => {
    const names = namesOf(hit);
    return breakpoints.on(hit.watch).flatMap(({ id, trigger }) => {
      const verdict = trigger.judge(
        (extra) => new TargetEnvironment(target, undefined, { ...names, ...extra }),
        target.machine.cycles,
      );
      if (verdict.output !== undefined) tell(verdict.output);
      return verdict.stop ? [{ id, hit }] : [];
    });
  });
  if (stopping.length === 0) return undefined;
  return { ids: [...new Set(stopping.map(({ id }) => id))], hits: stopping.map(({ hit }) => hit) };
}

const ACTORS: Readonly<Record<WatchHit['by'], string>> = {
  instruction: 'by',
  processor: 'by the processor, during',
  device: 'by a device, during',
};

/** 'GUEST_RIP written: 0x1000 → 0x1003, by 0x200010 <main+0x10> of the VMM'. */
export function describeHit(target: Target, { watch, access, by, at, world, before, after }: WatchHit): string {
  const symbol = target.symbolName(world, at);
  const place = `${hex(at)}${symbol === undefined ? '' : ` <${symbol}>`} of the ${world === 'vmm' ? 'VMM' : 'guest'}`;
  const name = describeWatch(watch);
  const values = access === 'write' ? [before, after] : [before ?? after];
  const known = values.flatMap((value) => (value === undefined ? [] : [formatNumber(value)]));
  const isSame = access === 'write' && known.length === 2 && known[0] === known[1];
  const shown = known.length === 0 ? '' : `: ${isSame ? `${known[0]} as before` : known.join(' → ')}`;
  if (watch.kind === 'event') return `${name}${shown}, at ${place}`;
  // The processor writes fields at VM exits; the machine is in the VMM then.
  const actor = watch.kind === 'field' && by === 'processor' ? 'by the VM exit to' : ACTORS[by];
  return `${name} ${access === 'write' ? 'written' : 'read'}${shown}, ${actor} ${place}`;
}
