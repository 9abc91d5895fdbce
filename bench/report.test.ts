import assert from 'node:assert/strict';
import type { Emulator } from './emulators.ts';
import { formatReport, type Measurement, median } from './report.ts';
import type { Workload } from './workloads.ts';

const machine = (name: string, supported = true): Emulator => ({
  name,
  missing: () => undefined,
  supports: () => supported,
  run: () => Promise.reject(new Error('not run here')),
});
const measured = (name: string, seconds: number, workload = 'w'): Measurement => ({
  workload,
  machine: name,
  process: seconds + 1,
  seconds,
});

describe('benchmark report', () => {
  it('takes medians, of an even number the mean of the middle two', () => {
    assert.equal(median([3, 1, 2].map((seconds) => measured('a', seconds))), 2);
    assert.equal(median([4, 1, 2, 10].map((seconds) => measured('a', seconds))), 3);
  });

  it('has no median when a run failed or none was made', () => {
    assert.equal(median([]), undefined);
    const failed = { workload: 'w', machine: 'a', process: 1, problem: 'no output' };
    assert.equal(median([measured('a', 1), failed]), undefined);
  });

  it('gives no ratio for a workload that does nothing', () => {
    const text = formatReport({
      workloads: [{ name: 'w', file: 'w.elf', results: {} }],
      machines: [machine('Own'), machine('Other')],
      missing: new Map(),
      measurements: [measured('Own', 0.001), measured('Other', 0.02)],
      repetitions: 1,
    });
    assert.match(text, /\| w \| .* \| – \|\n/);
  });

  it('shows times, speeds, ratios, what is missing and what is not supported', () => {
    const workloads: Workload[] = [
      { name: 'w', file: 'w.elf', results: { sum: '1' }, millions: 100 },
      { name: 'v', file: 'v.elf', results: { exits: '2' }, vmExits: { CPUID: 5000 } },
    ];
    const text = formatReport({
      workloads,
      machines: [machine('Own'), machine('Other'), machine('Absent'), machine('Limited', false)],
      missing: new Map([['Absent', 'absent is not installed']]),
      measurements: [measured('Own', 2), { ...measured('Other', 4), memory: 96 }, measured('Own', 0.5, 'v')],
      repetitions: 1,
    });
    const rows = text.split('\n').filter((line) => line.startsWith('| w') || line.startsWith('| v'));
    const absent = 'absent is not installed';
    assert.equal(
      rows[1],
      `| w | 2.00 s, 50 MIPS (process 3.00 s) | 4.00 s, 25 MIPS (process 5.00 s, 96 MiB) | ${absent} | – | 0.50 | – | – |`,
    );
    assert.equal(rows[2], `| v | 0.50 s, 10k exits/s (process 1.50 s) | failed | ${absent} | – | – | – | – |`);
  });
});
