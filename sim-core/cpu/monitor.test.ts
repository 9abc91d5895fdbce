// Expected values: SDM Vol. 2A, "MONITOR—Set Up Monitor Address" and "MWAIT—Monitor Wait".
import assert from 'node:assert/strict';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { State } from '../state/state.ts';
import { lineChanged, watchLine } from './monitor.ts';

function watch(linear: bigint) {
  const state = new State(2 ** 20);
  const physical = new PhysicalMemory(state);
  const mmu = new Mmu(state, physical, new Tlb(state));
  watchLine({ state, mmu }, linear);
  return { physical, changed: () => lineChanged(state, physical) };
}

describe('MONITOR', () => {
  it('watches the 64-byte line of its address, and nothing beside it', () => {
    const { physical, changed } = watch(0x5048n);
    physical.write(0x503f, 1, 1);
    physical.write(0x5080, 1, 1);
    assert.equal(changed(), false);
    physical.write(0x507f, 1, 1);
    assert.equal(changed(), true);
  });

  it('watches nothing where there is no RAM', () => {
    assert.equal(watch(0x20_0000n).changed(), false);
  });
});
