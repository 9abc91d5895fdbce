/** Finds where a program is that was loaded elsewhere than it was linked (KASLR). */

import type { Program } from '../symbols/program.ts';
import type { WorldView } from './world-view.ts';

const PAGE = 4096n;
const GATES = 32;
const GATE_BYTES = 16;
const GATE_PRESENT = 0x80;
/** So many handlers must agree at least. */
const FEWEST = 2;

/** Where a 64-bit world enters its kernel: the gates of its exceptions, and SYSCALL's target. */
function handlers(view: WorldView): bigint[] {
  const base = view.register('idtr.base');
  const limit = Number(view.register('idtr.limit') ?? 0n);
  if (view.bitness !== 64 || base === undefined) return [];
  const table = view.read(base, Math.min(limit + 1, GATES * GATE_BYTES));
  const data = new DataView(table.buffer, table.byteOffset, table.length);
  const found = new Set<bigint>();
  for (let at = 0; at + GATE_BYTES <= table.length; at += GATE_BYTES) {
    if ((data.getUint8(at + 5) & GATE_PRESENT) === 0) continue;
    // An address in three pieces (SDM Vol. 3A, "64-Bit IDT Gate Descriptors").
    const low = data.getUint16(at, true) | (data.getUint16(at + 6, true) << 16);
    found.add((BigInt(data.getUint32(at + 8, true)) << 32n) | BigInt(low >>> 0));
  }
  const lstar = view.current ? view.register('ia32_lstar') : undefined;
  if (lstar) found.add(lstar);
  return [...found];
}

/**
 * How much further up a program is than it was linked: whole pages, so that each handler is one of its symbols.
 * Undefined unless more than half of the handlers agree on one distance.
 */
export function findOffset(program: Program, view: WorldView): bigint | undefined {
  const entries = handlers(view);
  if (entries.length < FEWEST) return undefined;
  // Nearly always it is where it was found before.
  const agreeing = entries.filter((entry) => program.functionAt(entry)?.start === entry);
  if (agreeing.length >= FEWEST && 2 * agreeing.length > entries.length) return program.offset;
  const byOffsetInPage = new Map<bigint, bigint[]>();
  for (const { symbol, address } of program.symbols) {
    if (!symbol.code) continue;
    const linked = address - program.offset;
    const group = byOffsetInPage.get(linked % PAGE);
    if (group) group.push(linked);
    else byOffsetInPage.set(linked % PAGE, [linked]);
  }
  const votes = new Map<bigint, number>();
  for (const entry of entries) {
    const offsets = new Set((byOffsetInPage.get(entry % PAGE) ?? []).map((linked) => entry - linked));
    for (const offset of offsets) votes.set(offset, (votes.get(offset) ?? 0) + 1);
  }
  const [best] = [...votes].sort(([, a], [, b]) => b - a);
  if (!best || best[1] < FEWEST || 2 * best[1] <= entries.length) return undefined;
  return best[0];
}
