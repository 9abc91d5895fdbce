import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { workloadPath } from '../../../bench/emulators.ts';
import { WORKLOADS } from '../../../bench/workloads.ts';
import { ENCODING } from '../../vmx/fields.ts';
import { createMachine } from '../machine.ts';
import type { Watch } from './watch.ts';

const MIB = 2 ** 20;
const MEMORY = 128 * MIB;
const INSTRUCTIONS = 3_000_000;
/** A page of RAM that the workloads never touch. */
const ELSEWHERE = BigInt(MEMORY - MIB);
const elsewhere = { kind: 'memory', address: ELSEWHERE, length: 64, access: 'readWrite' } as const;
const WATCHES: Readonly<Record<string, Watch>> = {
  'a linear address': { ...elsewhere, space: 'linear' },
  'a guest-physical address': { ...elsewhere, space: 'gpa' },
  'a host-physical address': { ...elsewhere, space: 'hpa' },
  'a register': { kind: 'register', name: 'cr4', access: 'readWrite' },
  'an MSR': { kind: 'msr', index: 0xc000_0082, access: 'readWrite' },
  'a VMCS field': { kind: 'field', encoding: ENCODING.GUEST_RIP, access: 'readWrite' },
  'a port': { kind: 'port', port: 0x80, ports: 1, access: 'readWrite' },
  'a page-table entry': { kind: 'tableEntry', of: 'linear', world: 'vmm', address: ELSEWHERE, access: 'readWrite' },
};

/** How often a run of b_chase leaves the fast path for memory: from interpreted and from compiled code. */
function slowAccesses(watches: readonly Watch[]): { readonly interpreted: number; readonly compiled: number } {
  const workload = WORKLOADS.find(({ name }) => name === 'b_chase');
  assert(workload);
  const machine = createMachine({ memory: MEMORY });
  machine.boot({ name: workload.name, image: readFileSync(workloadPath(workload)), commandLine: '', modules: [] });
  machine.setWatches(watches);
  const { mmu } = machine;
  const [access, touch] = [mmu.access.bind(mmu), mmu.touch.bind(mmu)];
  let [interpreted, compiled] = [0, 0];
  mmu.access = (...accessed) => {
    interpreted++;
    return access(...accessed);
  };
  mmu.touch = (...touched) => {
    compiled++;
    return touch(...touched);
  };
  while (machine.instructions < INSTRUCTIONS) machine.run(INSTRUCTIONS - machine.instructions);
  return { interpreted, compiled };
}

describe('a data breakpoint that nothing touches', () => {
  const without = slowAccesses([]);

  it('is tried where compiled code misses the fast path', () => {
    assert.ok(without.compiled > 500, `${without.compiled} times`);
  });

  for (const [name, watch] of Object.entries(WATCHES)) {
    it(`keeps no access from the fast path: ${name}`, () => {
      assert.deepEqual(slowAccesses([watch]), without);
    });
  }
});
