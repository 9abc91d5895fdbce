import assert from 'node:assert/strict';
import { fuzz } from './fuzz.ts';

const INSTRUCTIONS = 100_000;
const SEED = 1;

describe('Random bytes in every mode', function () {
  this.timeout(300_000);

  it(`do no harm to the simulator (seed ${SEED})`, () => {
    const { problems, instructions } = fuzz(INSTRUCTIONS, SEED);
    assert.deepEqual(problems, []);
    assert.ok(instructions >= INSTRUCTIONS);
  });
});
