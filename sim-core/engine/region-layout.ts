/**
 * Where the blocks of a region stand in its function. WebAssembly branches only forwards out of blocks and backwards
 * to loops, so a region is a sequence of units behind a dispatching branch table. A loop that is entered at its first
 * block only, and that no call leaves, is one unit with units inside: its iterations do not pass the dispatcher.
 */

/** Blocks [first, last]: a loop back to `first`, or a single block. */
export interface Unit {
  readonly first: number;
  readonly last: number;
  readonly loops: boolean;
  /** What the loop consists of, in order; empty for a single block. */
  readonly units: readonly Unit[];
}

/** A block's ways on, as far as they are known. */
export interface BlockEdges {
  /** Numbers of the blocks that it branches or falls through to. */
  readonly targets: readonly number[];
  /** Whether control also leaves by a call, a return or a computed jump: it comes back through the dispatcher. */
  readonly dispatches: boolean;
  /** Whether control was seen to begin here, without a branch that is known. */
  readonly entered: boolean;
}

interface Interval {
  readonly first: number;
  last: number;
}

/** @returns the units of all blocks, numbered in the order in which they stand */
export function layOutBlocks(edges: readonly BlockEdges[]): Unit[] {
  return unitsOf(0, edges.length - 1, loopsOf(edges));
}

/** Ranges of blocks that branches lead back through, properly nested. */
function loopsOf(edges: readonly BlockEdges[]): Interval[] {
  const last = new Map<number, number>();
  edges.forEach(({ targets }, number) => {
    for (const target of targets) {
      if (target <= number) last.set(target, Math.max(number, last.get(target) ?? 0));
    }
  });
  const loops = [...last].map(([first, end]) => ({ first, last: end }));
  while (lengthenOverlapping(loops));
  return withoutOthersInside(
    loops.filter((loop) => isClosed(loop, edges)),
    loops,
  );
}

/** A loop that begins in another and ends behind it makes that one longer. @returns whether there was one */
function lengthenOverlapping(loops: readonly Interval[]): boolean {
  for (const outer of loops) {
    const inner = loops.find(({ first, last }) => first > outer.first && first <= outer.last && last > outer.last);
    if (!inner) continue;
    outer.last = inner.last;
    return true;
  }
  return false;
}

/** Whether control enters at the loop's first block only, and never through the dispatcher. */
function isClosed({ first, last }: Interval, edges: readonly BlockEdges[]): boolean {
  return edges.every(({ targets, dispatches, entered }, number) => {
    if (number < first || number > last) return targets.every((target) => target <= first || target > last);
    return !dispatches && !(entered && number > first);
  });
}

/** Every branch back in a loop needs a loop to go to: one that holds a loop that is not closed is none itself. */
function withoutOthersInside(closed: readonly Interval[], all: readonly Interval[]): Interval[] {
  const open = all.filter((loop) => !closed.includes(loop));
  return closed.filter(({ first, last }) => !open.some((loop) => loop.first > first && loop.last <= last));
}

function unitsOf(first: number, last: number, loops: readonly Interval[]): Unit[] {
  const units: Unit[] = [];
  for (let at = first; at <= last; ) {
    const loop = loops.find((candidate) => candidate.first === at && candidate.last <= last);
    const end = loop?.last ?? at;
    const inside = loops.filter((other) => other !== loop);
    units.push({ first: at, last: end, loops: loop !== undefined, units: end > at ? unitsOf(at, end, inside) : [] });
    at = end + 1;
  }
  return units;
}
