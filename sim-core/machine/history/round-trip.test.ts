import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomNumbers } from '../../../test/support/random-program.ts';
import { assemble, KERNELS } from '../../../test/system/kernels.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import { History } from './history.ts';
import type { Position } from './position.ts';
import { stateHash } from './state-hash.ts';

const ROOT = join(import.meta.dirname, '../../..');

/** Four processors that start each other, count together and send interrupts. */
const SMP = 'smp';

function boot(image: string, modules: readonly string[]): Machine {
  const kernel = KERNELS.find(({ name }) => name === image);
  const machine = createMachine({ memory: 16 << 20, cpus: kernel ? 4 : 1 });
  if (kernel) {
    machine.boot({ name: image, image: assemble(kernel), commandLine: '', modules: [] });
    return machine;
  }
  const file = (name: string) => readFileSync(join(ROOT, name));
  machine.boot({
    name: image,
    image: file(image),
    commandLine: '',
    modules: modules.map((name) => ({ name: 'guest.elf', bytes: file(name), commandLine: 'guest.elf' })),
  });
  return machine;
}

/** How far each goes: the sample to its end, the others into their loops. */
const WORKLOADS = [
  { name: 'a hypervisor and its guest', length: 389_000, image: 'examples/first-vmm/first-vmm.elf' },
  { name: 'a million CPUID exits', length: 900_000, image: 'bench/workloads/f_vmx.elf' },
  { name: 'four processors', length: 300_000, image: SMP },
  { name: 'hot integer code', length: 3_000_000, image: 'bench/workloads/a_int.elf' },
] as const;
const GUEST = 'examples/first-vmm/guest.elf';

/** SEED=… repeats a run that has failed. */
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

describe(`forward N, back M, forward M, seed ${seed}`, function () {
  this.timeout(60_000);

  for (const { name, length, image } of WORKLOADS) {
    it(`comes to the same state: ${name}`, () => {
      const random = randomNumbers(seed);
      const machine = boot(image, image.includes('first-vmm') ? [GUEST] : []);
      const history = new History(machine.rewindable, { interval: 100_000 });
      let forwards = 0;
      for (let round = 0; round < 4; round++) {
        history.run(1 + random(length >> 2));
        const there: Position = history.position;
        const hash = stateHash(machine);
        forwards += there.instructions;
        const back = random(there.instructions + 1);
        history.goTo({ instructions: there.instructions - back, events: 0 });
        const [from, between] = [history.position, stateHash(machine)];
        history.run(there.instructions - from.instructions);
        history.goTo(there);
        assert.equal(stateHash(machine), hash, `at ${there.instructions}, back ${back}`);
        history.goTo(from);
        assert.equal(stateHash(machine), between, `at ${from.instructions} again`);
        history.goTo(there);
      }
      assert.ok(forwards > 0);
    });

    it(`steps back and forth over the same states: ${name}`, () => {
      const random = randomNumbers(seed + 1);
      const machine = boot(image, image.includes('first-vmm') ? [GUEST] : []);
      const history = new History(machine.rewindable);
      history.run(length - random(length >> 3));
      const places = [{ at: history.position, hash: stateHash(machine) }];
      for (let i = 0; i < 8; i++) {
        assert.ok(history.stepBack());
        places.push({ at: history.position, hash: stateHash(machine) });
      }
      assert.equal(new Set(places.map(({ hash }) => hash)).size, 9);
      for (const { at, hash } of places.reverse().slice(1)) {
        // A step of one of several processors lets the others run, too: it is no step of the machine.
        if (machine.processors.length === 1) history.step();
        else history.goTo(at);
        assert.deepEqual(history.position, at);
        assert.equal(stateHash(machine), hash);
      }
    });
  }

  it('gives a machine that has a history the state of one that has none, compiled or interpreted', () => {
    const [plain, other] = [boot(WORKLOADS[0].image, [GUEST]), boot(WORKLOADS[0].image, [GUEST])];
    const history = new History(other.rewindable, { interval: 20_000 });
    plain.run(350_000);
    history.run(350_000);
    assert.equal(stateHash(other), stateHash(plain));
    const interpreted = createMachine({ memory: 16 << 20, compile: false });
    const guest = { name: 'guest.elf', bytes: readFileSync(join(ROOT, GUEST)), commandLine: 'guest.elf' };
    const image = readFileSync(join(ROOT, WORKLOADS[0].image));
    interpreted.boot({ name: WORKLOADS[0].image, image, commandLine: '', modules: [guest] });
    interpreted.run(350_000);
    assert.equal(stateHash(interpreted), stateHash(plain));
  });
});

describe('searches of the history', () => {
  it('find the last write to memory, whatever it wrote, and stop in front of it', async () => {
    const { watchMemory, watchValue } = await import('./memory-watch.ts');
    const machine = boot(WORKLOADS[0].image, [GUEST]);
    const history = new History(machine.rewindable, { interval: 30_000 });
    history.run(388_000);
    const here = history.position;
    const hash = stateHash(machine);
    // The count of VM exits on the stack or in data: whatever the last stores were, each is found in its turn.
    const rsp = Number(machine.state.get64('gpr', 4));
    const range = [{ physical: rsp - 8, length: 8 }];
    const search = history.searchChange(() => watchMemory(machine.rewindable, range));
    let step = search.next();
    while (!step.done) step = search.next();
    const found = step.value;
    assert.ok(found && found.instructions < here.instructions);
    let writes = 0;
    const watch = watchMemory(machine.rewindable, range);
    machine.rewindable.advance();
    if (watch.changed()) writes++;
    history.run(here.instructions - history.position.instructions);
    assert.equal(watch.changed(), false, 'no later write');
    watch.end();
    assert.equal(writes, 1);
    history.goTo(here);
    assert.equal(stateHash(machine), hash);
    const never = history.searchChange(() => watchValue(() => machine.state.get64('cr3')));
    never.next();
    assert.deepEqual(never.return(undefined).done, true);
    assert.ok(history.isInPast, 'a search that is given up leaves the machine where it is');
    history.goTo(here);
    assert.equal(stateHash(machine), hash);
  });
});
