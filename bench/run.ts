/** `npm run bench`: the workloads on VMXray, QEMU TCG and Bochs, interleaved; see `--help`. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { EMULATORS, type Emulator, type RunResult } from './emulators.ts';
import { formatReport, type Measurement, median } from './report.ts';
import { WORKLOADS, type Workload } from './workloads.ts';

const HELP = `Usage: npm run bench -- [options]
  --repetitions N     runs of each workload on each machine, interleaved (default 3); medians are reported
  --workloads A,B     only these (default: the 64-bit ones; 'all' adds the 32-bit ones)
  --machines A,B      only these: ${EMULATORS.map((emulator) => emulator.name).join(', ')}
  --debugger          how long stops, steps and variables take in the debugger, in place of the workloads
  --json FILE         also write every single measurement
  --help
`;

/** Seconds between the START and END lines; undefined with a reason when the run did not print what it must. */
function check(workload: Workload, run: RunResult): { seconds: number } | { problem: string } {
  const results = { START: '0', ...workload.results, END: '0' };
  const printed = Object.fromEntries(run.marks.map((mark) => [mark.name, mark.result]));
  for (const [name, expected] of Object.entries(results)) {
    if (printed[name] !== expected) {
      return {
        problem: `${name} is ${printed[name] ?? 'missing'}, not ${expected}: ${run.messages.trim().slice(-300)}`,
      };
    }
  }
  const start = run.marks.find((mark) => mark.name === 'START');
  const end = run.marks.find((mark) => mark.name === 'END');
  return { seconds: (end?.at ?? 0) - (start?.at ?? 0) };
}

async function measure(
  emulators: readonly Emulator[],
  workloads: readonly Workload[],
  repetitions: number,
  scratch: string,
): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    for (const workload of workloads) {
      for (const emulator of emulators.filter((each) => each.supports(workload))) {
        const run = await emulator.run(workload, path.join(scratch, 'run'));
        const outcome = check(workload, run);
        const text = 'seconds' in outcome ? `${outcome.seconds.toFixed(3)} s` : `FAILED: ${outcome.problem}`;
        process.stderr.write(`${repetition}/${repetitions} ${workload.name} on ${emulator.name}: ${text}\n`);
        const { process: whole, memory } = run;
        measurements.push({ workload: workload.name, machine: emulator.name, process: whole, memory, ...outcome });
      }
    }
  }
  return measurements;
}

function select<T extends { name: string }>(all: readonly T[], names: string | undefined, what: string): readonly T[] {
  if (!names) return all;
  return names.split(',').map((name) => {
    const found = all.find((each) => each.name.toLowerCase() === name.toLowerCase());
    if (!found) throw new Error(`no ${what} '${name}': choose from ${all.map((each) => each.name).join(', ')}`);
    return found;
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      repetitions: { type: 'string', default: '3' },
      workloads: { type: 'string' },
      machines: { type: 'string' },
      json: { type: 'string' },
      debugger: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.debugger) {
    const { measureDebugger } = await import('./debugger.ts');
    process.stdout.write(await measureDebugger());
    return 0;
  }
  const repetitions = Number(values.repetitions);
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new Error('--repetitions takes a positive number');
  const wide = WORKLOADS.filter((workload) => !workload.file.endsWith('.32.elf'));
  const workloads =
    values.workloads === 'all' ? WORKLOADS : values.workloads ? select(WORKLOADS, values.workloads, 'workload') : wide;
  const chosen = select(EMULATORS, values.machines, 'machine');
  const missing = new Map(chosen.map((emulator) => [emulator.name, emulator.missing()]));
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'vmxray-bench-'));
  try {
    const present = chosen.filter((emulator) => missing.get(emulator.name) === undefined);
    const measurements = await measure(present, workloads, repetitions, scratch);
    if (values.json) writeFileSync(values.json, `${JSON.stringify(measurements, undefined, 2)}\n`);
    process.stdout.write(formatReport({ workloads, machines: chosen, missing, measurements, repetitions }));
    const all = measurements.every((measurement) => median([measurement]) !== undefined);
    return all ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
