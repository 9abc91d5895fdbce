import assert from 'node:assert/strict';
import { debugExitStatus, EXIT_STATUS, exitStatusHelp } from './exit-status.ts';

describe('exit statuses', () => {
  it('follow isa-debug-exit: (v << 1) | 1 in 8 bits', () => {
    assert.deepEqual([0, 1, 0x10, 0x7f, 0x80, 0xffff_ffff].map(debugExitStatus), [1, 3, 0x21, 0xff, 1, 0xff]);
  });

  it('are different for different ends, and the help names each', () => {
    const statuses = Object.values(EXIT_STATUS).map(({ status }) => status);
    assert.equal(new Set(statuses).size, statuses.length);
    for (const status of statuses) assert.match(exitStatusHelp(), new RegExp(`^ +${status}  \\S`, 'm'));
  });
});
