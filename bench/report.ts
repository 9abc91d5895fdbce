/** The benchmark's table in Markdown. */

import type { Emulator } from './emulators.ts';
import type { Workload } from './workloads.ts';

export type Measurement = {
  readonly workload: string;
  readonly machine: string;
  /** Seconds of the whole process. */
  readonly process: number;
  /** Its largest resident memory in MiB, where it is known. */
  readonly memory?: number | undefined;
} & ({ readonly seconds: number } | { readonly problem: string });

export interface Report {
  readonly workloads: readonly Workload[];
  readonly machines: readonly Emulator[];
  /** By machine name: why it could not run, or undefined. */
  readonly missing: ReadonlyMap<string, string | undefined>;
  readonly measurements: readonly Measurement[];
  readonly repetitions: number;
}

/** Median of the workload times, in seconds; undefined when a run failed or there is none. */
export function median(measurements: readonly Measurement[]): number | undefined {
  const seconds = measurements.map((each) => ('seconds' in each ? each.seconds : Number.NaN)).sort((a, b) => a - b);
  if (seconds.length === 0 || seconds.some(Number.isNaN)) return undefined;
  const middle = seconds.length >> 1;
  const upper = seconds[middle] ?? 0;
  return seconds.length % 2 === 1 ? upper : ((seconds[middle - 1] ?? 0) + upper) / 2;
}

const medianProcess = (measurements: readonly Measurement[]): number | undefined =>
  median(measurements.map((each) => ({ ...each, seconds: each.process })));

function speed(workload: Workload, seconds: number): string {
  const exits = Object.values(workload.vmExits ?? {}).reduce((sum, count) => sum + count, 0);
  if (exits > 1000) return `, ${Math.round(exits / seconds / 1000)}k exits/s`;
  return workload.millions ? `, ${Math.round(workload.millions / seconds)} MIPS` : '';
}

function cell(report: Report, workload: Workload, machine: Emulator): string {
  const missing = report.missing.get(machine.name);
  if (missing) return missing;
  if (!machine.supports(workload)) return '–';
  const runs = report.measurements.filter((each) => each.workload === workload.name && each.machine === machine.name);
  const seconds = median(runs);
  if (seconds === undefined) return 'failed';
  const whole = medianProcess(runs) ?? 0;
  const memory = Math.max(...runs.map((each) => each.memory ?? 0));
  const size = memory > 0 ? `, ${memory} MiB` : '';
  return `${seconds.toFixed(2)} s${speed(workload, seconds)} (process ${whole.toFixed(2)} s${size})`;
}

function ratio(report: Report, workload: Workload, machine: Emulator): string {
  const of = (name: string): number | undefined =>
    median(report.measurements.filter((each) => each.workload === workload.name && each.machine === name));
  const first = report.machines[0];
  const own = first && of(first.name);
  const other = of(machine.name);
  // START and END of the empty workload are microseconds apart: a ratio of those says nothing.
  if (own === undefined || other === undefined || Object.keys(workload.results).length === 0) return '–';
  return (own / other).toFixed(2);
}

/** A Markdown table: a row per workload, a column per machine, then the first machine's time over each other's. */
export function formatReport(report: Report): string {
  const [first, ...others] = report.machines;
  if (!first) return '';
  const names = report.machines.map((machine) => machine.name);
  const ratios = others.map((machine) => `${first.name} : ${machine.name} time`);
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;
  const head = row(['workload', ...names, ...ratios]) + row(['---', ...names, ...ratios].map(() => '---'));
  const body = report.workloads.map((workload) =>
    row([
      workload.name,
      ...report.machines.map((machine) => cell(report, workload, machine)),
      ...others.map((machine) => ratio(report, workload, machine)),
    ]),
  );
  const title = `Medians of ${report.repetitions}, machines interleaved; workload time from START to END.`;
  return `${title}\n\n${head}${body.join('')}`;
}
