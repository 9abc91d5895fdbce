/**
 * Every benchmark workload on the machine: the results and VM exits that bench/workloads.ts lists. Those were measured
 * on other emulators and, for the results, follow from what the programs compute.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { workloadPath } from '../bench/emulators.ts';
import { WORKLOADS, type Workload } from '../bench/workloads.ts';

const TIME_LIMIT_MS = 600_000;
const CLI = new URL('../cli/main.ts', import.meta.url).pathname;

interface Outcome {
  /** Results by phase, hexadecimal without leading zeros. */
  readonly results: Readonly<Record<string, string>>;
  readonly summary: { stopReason: string; vmExits: Record<string, number> };
}

function runWorkload(workload: Workload): Outcome {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [CLI, 'run', workloadPath(workload), '--memory', '512M', '--json'],
    { encoding: 'latin1', input: '', timeout: TIME_LIMIT_MS },
  );
  // isa-debug-exit with 0.
  assert.equal(status, 1, `${stdout}${stderr}`);
  const lines = stdout.trim().split('\n');
  const marks = lines.flatMap((line) => {
    const [, name = '', result = ''] = /^@(\S+) 0*([0-9a-f]+) [0-9a-f]+$/.exec(line) ?? [];
    return name ? [[name, result] as const] : [];
  });
  return { results: Object.fromEntries(marks), summary: JSON.parse(lines.at(-1) ?? '') };
}

describe('workloads', function () {
  this.timeout(TIME_LIMIT_MS);
  for (const workload of WORKLOADS) {
    it(`${workload.name} prints what other machines print`, () => {
      const { results, summary } = runWorkload(workload);
      assert.deepEqual(results, { START: '0', ...workload.results, END: '0' });
      assert.equal(summary.stopReason, 'debugExit');
      assert.deepEqual(summary.vmExits, workload.vmExits ?? {});
    });
  }
});
