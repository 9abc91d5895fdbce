// Expected values: none but each other's. The same machine with the same input is in the same state, bit for bit.
import assert from 'node:assert/strict';
import type { Machine, MachineConfig } from '../../sim-core/machine/api.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { debianFiles } from './debian.ts';
import { makeInitramfs } from './initramfs.ts';
import { Terminal } from './terminal.ts';

const MEMORY = 256 * 2 ** 20;
const PROMPT = 'guest# ';
/** Instructions: the decompressor and the kernel's first messages. */
const BEGINNING = 60_000_000;

describe("The same boot of Debian's kernel, twice", function () {
  this.timeout(600_000);
  let boot: (config?: Partial<MachineConfig>) => Machine;

  before(function () {
    const files = debianFiles();
    if (typeof files === 'string') {
      console.log(`      skipped: ${files}`);
      this.skip();
    }
    const initramfs = makeInitramfs(files.busybox);
    boot = (config = {}) => {
      const machine = createMachine({ memory: MEMORY, ...config });
      const modules = [{ name: 'initramfs', bytes: initramfs, commandLine: '' }];
      machine.boot({ name: 'vmlinuz', image: files.kernel, commandLine: 'console=ttyS0', modules });
      return machine;
    };
  });

  /** To the prompt, a command, and to the next prompt. */
  function session(cpus: number): { readonly hash: string; readonly instructions: number; readonly output: string } {
    const machine = boot({ cpus });
    const terminal = new Terminal(machine);
    terminal.waitFor(PROMPT);
    terminal.type('cat /proc/uptime /proc/interrupts; dd if=/dev/urandom bs=16 count=1 | hexdump -C');
    terminal.waitFor('\r\n');
    terminal.waitFor(PROMPT);
    return { hash: stateHash(machine), instructions: machine.instructions, output: terminal.output };
  }

  for (const cpus of [1, 4]) {
    it(`ends in the same state with ${cpus} processor${cpus > 1 ? 's' : ''} and what is typed`, () => {
      assert.deepEqual(session(cpus), session(cpus));
    });
  }

  it('begins in the same way compiled, interpreted and in slices', () => {
    const machines = [boot(), boot({ compile: false }), boot()] as const;
    const [compiled, interpreted, sliced] = machines;
    compiled.run(BEGINNING);
    interpreted.run(BEGINNING);
    while (sliced.instructions < BEGINNING) sliced.run(Math.min(1_234_567, BEGINNING - sliced.instructions));
    const hashes = machines.map(stateHash);
    assert.deepEqual(hashes, [hashes[0], hashes[0], hashes[0]]);
  });
});
