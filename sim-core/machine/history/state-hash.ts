/** One number for all that a machine is: every processor's architectural state, RAM, TLBs and devices. */

import { readRflags } from '../../cpu/rflags.ts';
import { countOf, OFFSET, REGION, type StateField, widthOf } from '../../state/layout.ts';
import type { Machine } from '../api.ts';
import { COMPARED_FIELDS } from '../state-differences.ts';
import { Hash } from './hash.ts';

/** Fields that say where a run was cut into pieces: nothing that software sees depends on them. */
const OF_RUNS: ReadonlySet<StateField> = new Set([
  ...(['attention', 'sliceEnd', 'othersMayRun', 'vmcsWriteCount', 'vmcsWrites'] as const),
]);
const HASHED = COMPARED_FIELDS.filter((field) => !OF_RUNS.has(field));

/** 16 hexadecimal digits. The same run has the same hash at the same place, however it came there. */
export function stateHash(machine: Machine): string {
  const hash = new Hash();
  const { state, selected } = machine;
  // This brings the processor's counters up to date, too.
  const outside = machine.rewindable.saveOutside();
  for (const { number } of machine.processors) {
    machine.select(number);
    for (const field of HASHED) hash.bytes(state.bytes.subarray(OFFSET[field], OFFSET[field] + bytesOf(field)));
    hash.value(readRflags(state));
    hash.value(machine.mmu.tlb.entries());
  }
  machine.select(selected);
  const { start } = REGION.ram;
  hash.words(state.i32.subarray(start >>> 2, (start + state.ramSize) >>> 2));
  hash.value(outside);
  return hash.digest();
}

const bytesOf = (field: StateField): number => widthOf(field) * countOf(field);
