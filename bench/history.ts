/** What time travel costs: recording while a workload runs, and a step back far into the run. See `--help`. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { History } from '../sim-core/machine/history/history.ts';
import { createMachine } from '../sim-core/machine/machine.ts';
import { debianFiles } from '../test/linux/debian.ts';
import { makeInitramfs } from '../test/linux/initramfs.ts';

const HELP = `Usage: node bench/history.ts [options]
  --instructions N    how far each workload runs (default 1000000000; the shorter ones run to their end)
  --repetitions N     runs with and without a history, taking turns (default 5); medians of the pairs are reported
  --workloads A,B     files of bench/workloads without .elf, or linux: the first 500 million instructions of Debian's
                      kernel with 256 MiB (default a_int,f_vmx,b_chase,c_string,linux)
`;
const MEMORY = 512 << 20;
const LINUX_MEMORY = 256 << 20;
const LINUX_INSTRUCTIONS = 500_000_000;
/** The debugger's adapter runs slices of a few milliseconds; this is as many instructions as one may have. */
const SLICE = 10_000_000;
const STEPS_BACK = 20;

/** @throws Error where there is no Debian kernel */
function bootLinux() {
  const files = debianFiles();
  if (typeof files === 'string') throw new Error(files);
  const machine = createMachine({ memory: LINUX_MEMORY });
  const modules = [{ name: 'initramfs', bytes: makeInitramfs(files.busybox), commandLine: '' }];
  machine.boot({ name: 'vmlinuz', image: files.kernel, commandLine: 'console=ttyS0', modules });
  return machine;
}

function boot(workload: string) {
  if (workload === 'linux') return bootLinux();
  const machine = createMachine({ memory: MEMORY });
  const image = readFileSync(path.join(import.meta.dirname, 'workloads', `${workload}.elf`));
  machine.boot({ name: workload, image, commandLine: '', modules: [] });
  return machine;
}

/** @returns seconds on the clock */
function timed(work: () => void): number {
  const begun = performance.now();
  work();
  return (performance.now() - begun) / 1000;
}

/** @returns seconds of processor time, of all threads: other load on the computer disturbs it less */
function processorTime(work: () => void): number {
  const begun = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(begun);
  return (user + system) / 1e6;
}

function runFor(driver: { run(n: number): { kind: string } }, instructions: number): void {
  for (let left = instructions; left > 0; left -= SLICE) {
    if (driver.run(Math.min(left, SLICE)).kind !== 'limit') return;
  }
}

const quantile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0;

function measure(workload: string, most: number, repetitions: number): string {
  const instructions = workload === 'linux' ? Math.min(most, LINUX_INSTRUCTIONS) : most;
  const plain: number[] = [];
  const recorded: number[] = [];
  const first: number[] = [];
  const back: number[] = [];
  let usage = { bytes: 0, checkpoints: 0 };
  const runPlain = (): void => {
    const machine = boot(workload);
    plain.push(processorTime(() => runFor(machine, instructions)));
  };
  const runRecorded = (): void => {
    const history = new History(boot(workload).rewindable, { clock: () => performance.now() });
    recorded.push(processorTime(() => runFor(history, instructions)));
    usage = history.usage;
    first.push(1000 * timed(() => history.stepBack()));
    for (let step = 0; step < STEPS_BACK; step++) back.push(1000 * timed(() => history.stepBack()));
    history.close();
  };
  // One of each for what is compiled once; then pairs, each kind first in every other one.
  runPlain();
  runRecorded();
  for (const times of [plain, recorded, first, back]) times.length = 0;
  for (let i = 0; i < repetitions; i++)
    for (const run of i % 2 ? [runPlain, runRecorded] : [runRecorded, runPlain]) run();
  const costs = plain.map((time, i) => 100 * ((recorded[i] ?? 0) / time - 1));
  const cells = [
    workload,
    `${quantile(plain, 0.5).toFixed(2)} s`,
    `${quantile(recorded, 0.5).toFixed(2)} s`,
    `${quantile(costs, 0.5).toFixed(0)} % (${Math.min(...costs).toFixed(0)} to ${Math.max(...costs).toFixed(0)})`,
    `${usage.checkpoints}, ${(usage.bytes / 2 ** 20).toFixed(0)} MiB`,
    `${quantile(first, 0.5).toFixed(0)} ms`,
    `${quantile(back, 0.5).toFixed(0)} ms`,
    `${Math.max(...first, ...back).toFixed(0)} ms`,
  ];
  return `| ${cells.join(' | ')} |\n`;
}

const { values } = parseArgs({
  options: {
    instructions: { type: 'string', default: '1000000000' },
    repetitions: { type: 'string', default: '5' },
    workloads: { type: 'string', default: 'a_int,f_vmx,b_chase,c_string,linux' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) process.stdout.write(HELP);
else {
  const head = [
    'workload',
    'without',
    'with history',
    'cost',
    'checkpoints',
    'first step back',
    'further ones, median',
    'longest',
  ];
  process.stdout.write(`| ${head.join(' | ')} |\n|${' --- |'.repeat(head.length)}\n`);
  for (const workload of values.workloads.split(',')) {
    process.stdout.write(measure(workload, Number(values.instructions), Number(values.repetitions)));
  }
}
