/**
 * What one data breakpoint costs a program that does not touch what it is on: `node bench/watchpoints.ts`, seconds with
 * and without, best of 3.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createMachine } from '../sim-core/machine/machine.ts';
import type { Watch } from '../sim-core/machine/watching/watch.ts';
import { ENCODING } from '../sim-core/vmx/fields.ts';

const MEMORY = 512 * 2 ** 20;
const REPETITIONS = 3;
const MOST = 400_000_000;
/** Page tables are filled in start-up code. */
const MOST_HITS = 5000;
/** A page of RAM that the workloads never touch. */
const ELSEWHERE = 0x1ff0_0000n;
const WORKLOADS = ['a_int.elf', 'b_chase.elf', 'd_fib.elf'] as const;
const elsewhere = { kind: 'memory', address: ELSEWHERE, length: 64, access: 'readWrite' } as const;
/** On things that exist and that the workloads leave alone. */
const WATCHES: Readonly<Record<string, Watch | undefined>> = {
  nothing: undefined,
  linear: { ...elsewhere, space: 'linear' },
  hpa: { ...elsewhere, space: 'hpa' },
  gpa: { ...elsewhere, space: 'gpa' },
  register: { kind: 'register', name: 'cr4', access: 'readWrite' },
  MSR: { kind: 'msr', index: 0xc000_0082, access: 'readWrite' },
  'VMCS field': { kind: 'field', encoding: ENCODING.GUEST_RIP, access: 'readWrite' },
  port: { kind: 'port', port: 0x80, ports: 1, access: 'readWrite' },
  'table entry': { kind: 'tableEntry', of: 'linear', world: 'vmm', address: ELSEWHERE, access: 'readWrite' },
};

/** @returns seconds of a run whose code is warm at the end of the first part */
function seconds(file: string, watches: readonly Watch[]): number {
  const machine = createMachine({ memory: MEMORY });
  const image = readFileSync(path.join(import.meta.dirname, 'workloads', file));
  machine.boot({ name: file, image, commandLine: '', modules: [] });
  machine.setWatches(watches);
  // Start-up code sets up CR4 and page tables; what follows touches nothing that is watched.
  let hits = 0;
  machine.onWatch = () => {
    hits++;
    return false;
  };
  const begun = performance.now();
  machine.run(MOST);
  if (hits > MOST_HITS) throw new Error(`what is watched was touched ${hits} times`);
  return (performance.now() - begun) / 1000;
}

for (const file of WORKLOADS) {
  const best = new Map<string, number>();
  for (let i = 0; i < REPETITIONS; i++) {
    for (const [name, watch] of Object.entries(WATCHES)) {
      const time = seconds(file, watch ? [watch] : []);
      best.set(name, Math.min(time, best.get(name) ?? Number.POSITIVE_INFINITY));
    }
  }
  const row = [...best].map(([name, time]) => `${name} ${time.toFixed(3)} s`);
  process.stdout.write(`${file.padEnd(12)} watched: ${row.join(', ')}\n`);
}
