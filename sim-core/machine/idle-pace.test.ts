import assert from 'node:assert/strict';
import { HALT, idleImage, SPIN, TICK } from '../../test/support/idle-guest.ts';
import { stateHash } from './history/state-hash.ts';
import { IdlePace } from './idle-pace.ts';
import { createMachine } from './machine.ts';

function boot(code: readonly number[]) {
  const machine = createMachine({ memory: 2 ** 21 });
  machine.boot({ name: 'idle', image: idleImage(code), format: 'flat', commandLine: '', modules: [] });
  return { machine, pace: new IdlePace(machine) };
}

describe('IdlePace', () => {
  it('lets the first second of idleness fly, then stops the machine to wait as long as the guest does', () => {
    const { machine, pace } = boot(HALT);
    assert.equal(machine.run(1_000_000).kind, 'paused');
    assert.ok(Math.abs(pace.takeMilliseconds() - TICK) < 1, 'owes a tick');
    assert.ok(machine.cycles > 1e9 && machine.cycles < 1.2e9, `at ${machine.cycles}`);
    assert.equal(pace.takeMilliseconds(), 0);
    assert.equal(machine.run(1_000_000).kind, 'paused');
    assert.ok(Math.abs(pace.takeMilliseconds() - TICK) < 1, 'owes the next');
  });

  it('does not change what the machine does', () => {
    const { machine } = boot(HALT);
    const { machine: other } = boot(HALT);
    other.onSleep = undefined;
    for (let i = 0; i < 20; i++) machine.run(1_000_000);
    const end = machine.instructions + 3;
    for (const one of [machine, other]) while (one.instructions < end) one.run(end - one.instructions);
    assert.equal(stateHash(other), stateHash(machine));
  });

  it('stops nothing while the guest works', () => {
    const { machine, pace } = boot(SPIN);
    assert.equal(machine.run(1_000_000).kind, 'limit');
    assert.equal(pace.takeMilliseconds(), 0);
  });
});
