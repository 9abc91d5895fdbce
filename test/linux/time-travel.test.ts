// Expected values: none but each other's. A place of the past is in the state that it was in, whatever way leads there.
import assert from 'node:assert/strict';
import { History } from '../../sim-core/machine/history/history.ts';
import type { Position } from '../../sim-core/machine/history/position.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { randomNumbers } from '../support/random-program.ts';
import { debianFiles } from './debian.ts';
import { makeInitramfs } from './initramfs.ts';

const MEMORY = 256 * 2 ** 20;
/** SEED=… repeats a run that has failed; ROUNDS=… and REACH=… (instructions) make a longer one. */
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(process.env.ROUNDS ?? 3);
const reach = Number(process.env.REACH ?? 300e6);

describe(`Debian's kernel, forward N, back M, forward M, seed ${seed}`, function () {
  this.timeout(240_000 * rounds);
  let history: History;
  let hash: () => string;
  const random = randomNumbers(seed);

  before(function () {
    const files = debianFiles();
    if (typeof files === 'string') {
      console.log(`      skipped: ${files}`);
      this.skip();
    }
    const machine = createMachine({ memory: MEMORY });
    const modules = [{ name: 'initramfs', bytes: makeInitramfs(files.busybox), commandLine: '' }];
    machine.boot({ name: 'vmlinuz', image: files.kernel, commandLine: 'console=ttyS0', modules });
    history = new History(machine.rewindable);
    hash = () => stateHash(machine);
  });

  /** Runs on by so many instructions. */
  function forward(instructions: number): Position {
    const target = history.position.instructions + instructions;
    while (history.position.instructions < target) {
      const { kind } = history.run(target - history.position.instructions);
      assert.equal(kind, 'limit');
    }
    return history.position;
  }

  it('comes to the same states', () => {
    for (let round = 0; round < rounds; round++) {
      const there = forward(1 + random(Math.floor(reach / rounds)));
      const thereHash = hash();
      const back = random(Math.min(there.instructions, Math.floor(reach / 5)));
      history.goTo({ instructions: there.instructions - back, events: 0 });
      const from = history.position;
      const fromHash = hash();
      forward(there.instructions - from.instructions);
      history.goTo(there);
      assert.equal(hash(), thereHash, `at ${there.instructions}, ${back} back and forth`);
      history.goTo(from);
      assert.equal(hash(), fromHash, `at ${from.instructions} again`);
      history.goTo(there);
    }
  });

  it('steps back and forth over the same states', () => {
    const places = [{ at: history.position, hash: hash() }];
    for (let i = 0; i < 5; i++) {
      assert.ok(history.stepBack());
      places.push({ at: history.position, hash: hash() });
    }
    assert.equal(new Set(places.map(({ at }) => `${at.instructions}:${at.events}`)).size, places.length);
    for (const { at, hash: expected } of places.reverse().slice(1)) {
      history.step();
      assert.deepEqual(history.position, at);
      assert.equal(hash(), expected, `at ${at.instructions}`);
    }
  });
});
