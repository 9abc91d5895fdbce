import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import { differentStretches, processorDifferences, stretchDifferences } from '../state-differences.ts';
import { History } from './history.ts';

const SAMPLE = join(import.meta.dirname, '../../../examples/direct-assignment');

/** A guest that lets its device do DMA, behind VT-d or not. */
function boot(iommu: boolean, compile = true): Machine {
  const machine = createMachine({
    memory: 16 << 20,
    devices: [{ kind: 'edu' }, { kind: 'virtio-rng' }],
    iommu,
    compile,
  });
  const file = (name: string) => readFileSync(join(SAMPLE, name));
  const modules = [{ name: 'guest.elf', bytes: file('guest.elf'), commandLine: '' }];
  machine.boot({ name: 'direct-assignment', image: file('direct-assignment.elf'), commandLine: '', modules });
  return machine;
}

function differences(a: Machine, b: Machine): readonly string[] {
  const found = [
    ...processorDifferences(a.state, b.state),
    ...stretchDifferences(a.state, b.state, differentStretches(a.state, b.state)),
  ].map(({ name }) => name);
  return isDeepStrictEqual(a.rewindable.saveOutside(), b.rewindable.saveOutside()) ? found : [...found, 'devices'];
}

describe('devices', () => {
  for (const iommu of [true, false]) {
    it(`come to the same state ${iommu ? 'with' : 'without'} VT-d: after time travel, and interpreted`, () => {
      const machine = boot(iommu);
      const history = new History(machine.rewindable, { interval: 20_000 });
      assert.equal(history.run(5_000_000).kind, 'debugExit');
      const end = history.position;
      history.goTo({ instructions: Math.floor(end.instructions / 2), events: 0 });
      history.goTo({ instructions: 0, events: 0 });
      assert.equal(history.run(5_000_000).kind, 'debugExit');
      for (const compile of [true, false]) {
        const other = boot(iommu, compile);
        assert.equal(other.run(5_000_000).kind, 'debugExit');
        assert.deepEqual(differences(machine, other), [], compile ? 'compiled' : 'interpreted');
      }
    });
  }
});
