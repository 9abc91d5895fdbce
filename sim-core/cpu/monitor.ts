/** The address range of MONITOR (SDM Vol. 2A, "MONITOR", "MWAIT"): a store of another processor to it ends the wait. */

import type { PhysicalMemory } from '../mmu/physical-memory.ts';
import { countOf } from '../state/layout.ts';
import type { StateFields } from '../state/processor-state.ts';
import type { Cpu } from './cpu.ts';

/** Values of `monitorArmed`. */
export const MONITOR = { off: 0, armed: 1, waiting: 2 } as const;

/** CPUID.5: lines of 64 bytes. */
const LINE_MASK = 63;
const NOWHERE = -1;
const WORDS = countOf('monitorLine');

/** Remembers what is in the line of a linear address that can be read. */
export function watchLine({ state, mmu }: Pick<Cpu, 'state' | 'mmu'>, linear: bigint): void {
  const { physical } = mmu.explain(linear, 'read');
  const line = physical === undefined ? NOWHERE : physical - (physical & LINE_MASK);
  const watched = line !== NOWHERE && mmu.physical.isRam(line, LINE_MASK + 1);
  state.setFloat('monitorAddress', watched ? line : NOWHERE);
  state.set32('monitorArmed', MONITOR.armed);
  if (!watched) return;
  for (let i = 0; i < WORDS; i++) state.set32('monitorLine', mmu.physical.read(line + 4 * i, 4), i);
}

/** Whether the line holds something else now. A store of what is there already is none to this. */
export function lineChanged(state: StateFields, physical: PhysicalMemory): boolean {
  const line = state.getFloat('monitorAddress');
  if (line === NOWHERE) return false;
  const { u32 } = physical.state;
  const first = physical.host(line) >>> 2;
  for (let i = 0; i < WORDS; i++) if (u32[first + i] !== state.get32('monitorLine', i)) return true;
  return false;
}
