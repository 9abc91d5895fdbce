/** Every test kernel on VMXray: each of its statements must be reported as PASS. */

import assert from 'node:assert/strict';
import type { Machine } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import { assemble, KERNELS, type Kernel, readReport, statementsOf } from './kernels.ts';

const MEMORY = 64 * 2 ** 20;
/** The longest kernel needs a tenth of this. */
const INSTRUCTION_LIMIT = 500_000_000;

function boot(kernel: Kernel): { machine: Machine; serial: () => string } {
  const { cpuModel, devices, testDevice = false, processors = 1 } = kernel;
  const machine = createMachine({
    memory: MEMORY,
    cpus: processors,
    testDevice,
    ...(cpuModel === undefined ? {} : { cpuModel }),
    ...(devices === undefined ? {} : { devices, iommu: true }),
  });
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  machine.boot({ name: kernel.name, image: assemble(kernel), commandLine: '', modules: [] });
  return { machine, serial: () => text };
}

/** A stop as an error message shows it. */
const describeStop = (stop: StopReason): string =>
  JSON.stringify(stop, (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value));

for (const kernel of KERNELS) {
  describe(`guest kernel ${kernel.name}`, function () {
    this.timeout(60_000);
    const statements = statementsOf(kernel);
    let report = readReport('', []);
    let ending = 'not run';

    before(() => {
      const { machine, serial } = boot(kernel);
      const stop = machine.run(INSTRUCTION_LIMIT);
      ending = `${describeStop(stop)} at RIP 0x${machine.state.get64('rip').toString(16)}`;
      report = readReport(serial(), statements);
    });

    it('names each statement differently', () => {
      assert.deepEqual([...new Set(statements)], statements);
    });
    it('comes to its end', () => {
      assert.ok(report.ended, ending);
    });
    it('reports nothing that is not in its source', () => {
      const known = new Set(statements);
      assert.deepEqual(
        [...report.failed].filter(([name]) => !known.has(name)),
        [],
      );
    });
    for (const statement of statements) {
      it(statement, () => {
        assert.ok(report.passed.includes(statement), report.failed.get(statement) ?? `not reached: ${ending}`);
      });
    }
  });
}
