import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { workloadPath } from '../../bench/emulators.ts';
import { WORKLOADS } from '../../bench/workloads.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { JobQueue } from './job-queue.ts';
import { CompilerThread } from './thread.ts';

const INSTRUCTIONS = 30_000_000;

describe('CompilerThread', function () {
  this.timeout(60_000);
  for (const name of ['d_fib', 'f_vmx']) {
    it(`leaves ${name} in the state that the interpreter leaves it in`, async () => {
      const workload = WORKLOADS.find((one) => one.name === name);
      assert(workload);
      const image = readFileSync(workloadPath(workload));
      const compiler = new CompilerThread();
      while (!compiler.isFree) await setTimeout(5);
      let arrived = 0;
      const counting = {
        isFree: true,
        request: compiler.request.bind(compiler),
        take: () => {
          const regions = compiler.take();
          arrived += regions.length;
          return regions;
        },
      };
      const hashes = [{ compiler: counting }, { compile: false }].map((config) => {
        const machine = createMachine({ memory: 64 << 20, ...config });
        machine.boot({ name, image, commandLine: '', modules: [] });
        machine.run(INSTRUCTIONS);
        assert.equal(machine.instructions, INSTRUCTIONS);
        return stateHash(machine);
      });
      assert.equal(hashes[0], hashes[1]);
      assert(arrived > 0, 'no region came from the thread');
    });
  }
});

describe('JobQueue', () => {
  const job = (id: number, length: number) => ({
    id,
    index: 7,
    table: 0x18_0000,
    memoryPages: 16,
    forms: [{ handler: 9, meaning: 3, form: { name: 'ä', mnemonic: id } as never }],
    blocks: Uint32Array.from({ length }, (_, i) => (id << 16) | i),
  });

  it('passes jobs on as they are, around its end, and knows when it is full', () => {
    const writer = new JobQueue();
    const reader = new JobQueue(writer.memory);
    assert(!writer.isFree, 'nobody reads yet');
    reader.open();
    assert(writer.isFree);
    for (let id = 1; id <= 40; id++) {
      const sent = job(id, 1000 * id);
      writer.write(sent);
      assert.deepEqual(reader.read(), sent);
      reader.finish();
    }
    assert.equal(writer.done, 40);
    writer.write(job(41, 200_000));
    assert(!writer.isFree, 'a further job would wait long');
    assert.throws(() => writer.write(job(42, 200_000)), RangeError);
    assert.deepEqual(reader.read(), job(41, 200_000));
  });
});
