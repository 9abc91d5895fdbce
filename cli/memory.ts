/** Memory as gdb reads and writes it: linear addresses of the world that runs, without privilege checks. */

import type { Machine } from '../sim-core/machine/api.ts';
import type { OutsideEvent } from '../sim-core/machine/history/outside-event.ts';
import type { Access, Translation } from '../sim-core/mmu/translation.ts';

const PAGE = 4096n;
const CR4_SMAP = 1n << 21n;

interface Piece {
  readonly physical: number;
  /** Offset of its first byte in the whole. */
  readonly at: number;
  readonly length: number;
}

/** As a debugger translates: no privilege stands in the way, and neither the TLB nor accessed bits change. */
export function translate({ mmu }: Machine, linear: bigint, access: Access): Translation {
  const context = mmu.context();
  return mmu.explain(linear, access, { ...context, cpl: 0, cr4: context.cr4 & ~CR4_SMAP });
}

/** The pieces of RAM behind a stretch of linear addresses, up to the first byte that has none. */
function pieces(machine: Machine, address: bigint, length: number): Piece[] {
  const found: Piece[] = [];
  for (let at = 0; at < length; ) {
    const linear = BigInt.asUintN(64, address + BigInt(at));
    const size = Math.min(length - at, Number(PAGE - (linear % PAGE)));
    const read = translate(machine, linear, 'read').physical;
    const physical = read ?? translate(machine, linear, 'execute').physical;
    if (physical === undefined || !machine.physical.isRam(physical, size)) break;
    found.push({ physical, at, length: size });
    at += size;
  }
  return found;
}

/** @returns fewer bytes where memory ends */
export function readMemory(machine: Machine, address: bigint, length: number): Uint8Array {
  const all = pieces(machine, address, length);
  return Buffer.concat(all.map((piece) => machine.physical.peek(piece.physical, piece.length)));
}

/** What must come from outside to write the bytes; undefined when some of them have no place. */
export function memoryEvents(machine: Machine, address: bigint, bytes: Uint8Array): OutsideEvent[] | undefined {
  const all = pieces(machine, address, bytes.length);
  if (all.reduce((sum, { length }) => sum + length, 0) < bytes.length) return undefined;
  return all.map(({ physical, at, length }) => ({
    kind: 'memory',
    physical,
    bytes: bytes.slice(at, at + length),
  }));
}
