// Expected values: none but each other's. The same machine with the same input is in the same state, bit for bit.
import assert from 'node:assert/strict';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { type Session, type Sessions, sessionsOrSkip } from './sessions.ts';

/** Instructions: the decompressor and the kernel's first messages. */
const BEGINNING = 60_000_000;
/** Instructions that the second machine is given at once: another number than the first one's. */
const OTHER_SLICE = 7_654_321;

const essence = ({ hash, instructions, output }: Session) => ({ hash, instructions, output });

describe("The same boot of Debian's kernel, twice", function () {
  this.timeout(600_000);
  let sessions: Sessions;

  before(function () {
    sessions = sessionsOrSkip(this);
  });

  for (const cpus of [1, 4]) {
    it(`ends in the same state with ${cpus} processor${cpus > 1 ? 's' : ''} and what is typed, in other slices`, () => {
      // The first is the one that linux.test.ts goes on with.
      const first = essence(sessions.shared(cpus));
      assert.deepEqual(essence(sessions.run(cpus, OTHER_SLICE)), first);
    });
  }

  it('begins in the same way compiled and interpreted', () => {
    const machines = [sessions.boot({}), sessions.boot({ compile: false })];
    for (const machine of machines) machine.run(BEGINNING);
    const [compiled, interpreted] = machines.map(stateHash);
    assert.equal(interpreted, compiled);
  });
});
