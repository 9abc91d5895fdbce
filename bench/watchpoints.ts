/** What one data breakpoint costs a program that does not touch what it is on. See `--help`. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createMachine } from '../sim-core/machine/machine.ts';
import type { Watch } from '../sim-core/machine/watching/watch.ts';
import { ENCODING } from '../sim-core/vmx/fields.ts';

const HELP = `Usage: node bench/watchpoints.ts [options]
  --repetitions N     pairs of runs without and with a data breakpoint, each first in every other one (default 5)
  --workloads A,B     files of bench/workloads without .elf (default a_int,b_chase,d_fib)
  --kinds A,B         only these (default all)
Processor time; the cost is the median of the pairs, the range in brackets.
`;
const MEMORY = 512 * 2 ** 20;
const MOST = 1_000_000_000;
/** Page tables are filled in start-up code. */
const MOST_HITS = 5000;
/** A page of RAM that the workloads never touch. */
const ELSEWHERE = 0x1ff0_0000n;
const elsewhere = { kind: 'memory', address: ELSEWHERE, length: 64, access: 'readWrite' } as const;
/** On things that exist and that the workloads leave alone. */
const WATCHES: Readonly<Record<string, Watch>> = {
  linear: { ...elsewhere, space: 'linear' },
  hpa: { ...elsewhere, space: 'hpa' },
  gpa: { ...elsewhere, space: 'gpa' },
  register: { kind: 'register', name: 'cr4', access: 'readWrite' },
  MSR: { kind: 'msr', index: 0xc000_0082, access: 'readWrite' },
  'VMCS field': { kind: 'field', encoding: ENCODING.GUEST_RIP, access: 'readWrite' },
  port: { kind: 'port', port: 0x80, ports: 1, access: 'readWrite' },
  'table entry': { kind: 'tableEntry', of: 'linear', world: 'vmm', address: ELSEWHERE, access: 'readWrite' },
};

/** @returns seconds of processor time of a run from boot on */
function seconds(workload: string, watches: readonly Watch[]): number {
  const machine = createMachine({ memory: MEMORY });
  const image = readFileSync(path.join(import.meta.dirname, 'workloads', `${workload}.elf`));
  machine.boot({ name: workload, image, commandLine: '', modules: [] });
  machine.setWatches(watches);
  // Start-up code sets up CR4 and page tables; what follows touches nothing that is watched.
  let hits = 0;
  machine.onWatch = () => {
    hits++;
    return false;
  };
  const begun = process.cpuUsage();
  machine.run(MOST);
  const { user, system } = process.cpuUsage(begun);
  if (hits > MOST_HITS) throw new Error(`what is watched was touched ${hits} times`);
  return (user + system) / 1e6;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

/** @returns a row's cells */
function measure(workload: string, kind: string, watch: Watch, repetitions: number): readonly string[] {
  const without: number[] = [];
  const watching: number[] = [];
  const runs = [() => without.push(seconds(workload, [])), () => watching.push(seconds(workload, [watch]))];
  for (let i = 0; i < repetitions; i++) for (const run of i % 2 ? runs.toReversed() : runs) run();
  const costs = without.map((time, i) => 100 * ((watching[i] ?? 0) / time - 1));
  const range = `${Math.min(...costs).toFixed(0)} to ${Math.max(...costs).toFixed(0)}`;
  const times = [without, watching].map((each) => `${median(each).toFixed(2)} s`);
  return [workload, kind, ...times, `${median(costs).toFixed(0)} % (${range})`];
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;

const { values } = parseArgs({
  options: {
    repetitions: { type: 'string', default: '5' },
    workloads: { type: 'string', default: 'a_int,b_chase,d_fib' },
    kinds: { type: 'string', default: Object.keys(WATCHES).join(',') },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) process.stdout.write(HELP);
else {
  const kinds = values.kinds.split(',');
  process.stdout.write(row(['workload', 'watched', 'without', 'with', 'cost']) + row(Array(5).fill('---')));
  for (const workload of values.workloads.split(',')) {
    // What is compiled once is compiled before the first pair.
    seconds(workload, []);
    for (const [kind, watch] of Object.entries(WATCHES)) {
      if (kinds.includes(kind)) process.stdout.write(row(measure(workload, kind, watch, Number(values.repetitions))));
    }
  }
}
