// Expected values: what the test itself sends; the same hash for the same input is what determinism means.
import assert from 'node:assert/strict';
import { assemble } from '../../../test/support/nasm.ts';
import type { Machine } from '../api.ts';
import { createMachine } from '../machine.ts';
import { History } from './history.ts';
import { stateHash } from './state-hash.ts';

const CONSOLE = 0;
const CARD = 1;
const THIRD = 20_000;

function boot(): Machine {
  const machine = createMachine({
    memory: 1 << 22,
    devices: [{ kind: 'virtio-console' }, { kind: 'virtio-net' }],
  });
  const image = assemble('bits 32\norg 0x100000\nagain: inc ecx\njmp again');
  machine.boot({ name: 'test', image, commandLine: '', modules: [], format: 'flat' });
  return machine;
}

interface Run {
  readonly hash: string;
  readonly machine: Machine;
  readonly history: History;
}

/** Runs 60,000 instructions; types at the console after the first third, unless nothing is typed. */
function run(typed: string): Run {
  const machine = boot();
  const history = new History(machine.rewindable, { interval: 5000 });
  history.run(THIRD);
  if (typed !== '') history.apply({ kind: 'device', device: CONSOLE, bytes: new TextEncoder().encode(typed) });
  history.run(THIRD);
  history.apply({ kind: 'device', device: CARD, bytes: new Uint8Array(60).fill(0xff) });
  history.run(THIRD);
  return { hash: stateHash(machine), machine, history };
}

describe('what arrives at devices from outside', () => {
  it('is part of the history: the same input leads to the same state, other input to another', () => {
    assert.equal(run('abc').hash, run('abc').hash);
    assert.notEqual(run('abc').hash, run('abd').hash);
    assert.notEqual(run('abc').hash, run('').hash);
  });

  it('comes again when the machine goes back and on', () => {
    const { hash, machine, history } = run('abc');
    const end = history.present;
    for (const instructions of [THIRD / 2, THIRD + 5]) {
      history.goTo({ instructions, events: 0 });
      assert.notEqual(stateHash(machine), hash);
      history.goTo(end);
      assert.equal(stateHash(machine), hash);
    }
    assert.equal(history.events.length, 2);
  });

  it('comes again in a machine that repeats the recorded run', () => {
    const { hash, history } = run('abc');
    const machine = boot();
    const repeated = new History(machine.rewindable, { future: { events: history.events, end: history.present } });
    repeated.run(3 * THIRD);
    assert.equal(stateHash(machine), hash);
  });
});
