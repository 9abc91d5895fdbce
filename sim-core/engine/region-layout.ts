/**
 * Where the blocks of a region stand in its function. WebAssembly branches only forwards out of blocks and backwards
 * to loops, so a region is a sequence of units behind a dispatching branch table; a loop without calls is a unit of its
 * own, with units inside, so that its iterations do not pass the region's dispatcher.
 */

/** Blocks [first, last]; a loop that branches back to `first` when it has units, else one block. */
export interface Unit {
  readonly first: number;
  readonly last: number;
  /** Whether branches lead from within the unit back to its first block. */
  readonly loops: boolean;
  /** In order; empty for a single block. */
  readonly units: readonly Unit[];
}

/** One block's way on, as far as it is known. */
export interface BlockEdges {
  /** Numbers of the blocks that it branches or falls through to. */
  readonly targets: readonly number[];
  /** Whether control also leaves by a call, a return or a computed jump: the region's dispatcher is needed then. */
  readonly dispatches: boolean;
}

interface Interval {
  readonly first: number;
  last: number;
}

/** @returns the units of all blocks, numbered in the order in which they stand */
export function layOutBlocks(edges: readonly BlockEdges[]): Unit[] {
  return unitsOf(0, edges.length - 1, loopsOf(edges), edges);
}

/** Ranges of blocks that branches lead back through, properly nested, the outer ones first. */
function loopsOf(edges: readonly BlockEdges[]): Interval[] {
  const last = new Map<number, number>();
  edges.forEach(({ targets }, number) => {
    for (const target of targets) {
      if (target <= number) last.set(target, Math.max(number, last.get(target) ?? 0));
    }
  });
  const loops = [...last].map(([first, end]) => ({ first, last: end })).sort((a, b) => a.first - b.first);
  // A loop that begins in another and ends behind it makes that one longer.
  for (let changed = true; changed; ) {
    changed = false;
    for (const outer of loops) {
      for (const inner of loops) {
        if (inner.first <= outer.first || inner.first > outer.last || inner.last <= outer.last) continue;
        outer.last = inner.last;
        changed = true;
      }
    }
  }
  return loops.filter((loop) => !edges.slice(loop.first, loop.last + 1).some(({ dispatches }) => dispatches));
}

function unitsOf(first: number, last: number, loops: readonly Interval[], edges: readonly BlockEdges[]): Unit[] {
  const units: Unit[] = [];
  for (let at = first; at <= last; ) {
    const loop = loops.find((candidate) => candidate.first === at && candidate.last <= last);
    const end = loop?.last ?? at;
    const rest = loops.filter((other) => other !== loop);
    const inner = end > at ? unitsOf(at, end, rest, edges) : [];
    units.push({ first: at, last: end, loops: loop !== undefined, units: inner });
    at = end + 1;
  }
  return units;
}
