/** Performance counters count the same whether code is compiled or interpreted, and in however many slices it runs. */

import assert from 'node:assert/strict';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { assemble, KERNELS } from './kernels.ts';

const INSTRUCTION_LIMIT = 20_000_000;

function outcome(compile: boolean, slice: number): unknown {
  const kernel = KERNELS.find(({ name }) => name === 'performance64');
  assert.ok(kernel);
  const machine = createMachine({ memory: 64 * 2 ** 20, cpuModel: 'skylake', compile });
  let serial = '';
  machine.serial.onOutput = (byte) => {
    serial += String.fromCharCode(byte);
  };
  machine.boot({ name: kernel.name, image: assemble(kernel), commandLine: '', modules: [] });
  let stop = machine.run(slice);
  while (stop.kind === 'limit' && machine.instructions < INSTRUCTION_LIMIT) stop = machine.run(slice);
  const { state, instructions, cycles } = machine;
  return { serial, stop, instructions, cycles, counters: state.elements('perfCounters') };
}

describe('Performance counters in a run', () => {
  const expected = outcome(false, INSTRUCTION_LIMIT);

  it('are those of the interpreter in compiled code', () => {
    assert.deepEqual(outcome(true, INSTRUCTION_LIMIT), expected);
  });
  it('do not depend on the slices', () => {
    assert.deepEqual(outcome(true, 9973), expected);
  });
});
