// Expected values: none but each other's. The same machine with the same input is in the same state, bit for bit.
import assert from 'node:assert/strict';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { type Session, type Sessions, sessionsOrSkip } from './sessions.ts';

/** Instructions: the decompressor and the kernel's first messages. */
const BEGINNING = 60_000_000;

const essence = ({ hash, instructions, output }: Session) => ({ hash, instructions, output });

describe("The same boot of Debian's kernel, twice", function () {
  this.timeout(600_000);
  let sessions: Sessions;

  before(function () {
    sessions = sessionsOrSkip(this);
  });

  for (const cpus of [1, 4]) {
    it(`ends in the same state with ${cpus} processor${cpus > 1 ? 's' : ''} and what is typed`, () => {
      // The first is the one that linux.test.ts goes on with.
      const first = essence(sessions.shared(cpus));
      assert.deepEqual(essence(sessions.run(cpus)), first);
    });
  }

  it('begins in the same way compiled, interpreted and in slices', () => {
    const machines = [sessions.boot({}), sessions.boot({ compile: false }), sessions.boot({})] as const;
    const [compiled, interpreted, sliced] = machines;
    compiled.run(BEGINNING);
    interpreted.run(BEGINNING);
    while (sliced.instructions < BEGINNING) sliced.run(Math.min(1_234_567, BEGINNING - sliced.instructions));
    const hashes = machines.map(stateHash);
    assert.deepEqual(hashes, [hashes[0], hashes[0], hashes[0]]);
  });
});
