// Expected values: the stacks that gdb shows of the same program at the same instructions, run by this computer's own
// processor, with the values of variables.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gdbStops, ownStops, type ShownStop } from './against-gdb.ts';

const FLAGS = '-g -O2 -fno-inline -fno-ipa-cp -ffreestanding -fno-stack-protector -fcf-protection=none'.split(' ');
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
const STEPS = [19, ...Array.from({ length: 149 }, (_, index) => 1 + ((37 * index) % 11))];

describe('functions that have ended by calling another one', function () {
  this.timeout(60_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-tails-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  function build(compiler: string, ...options: string[]): string {
    const program = join(folder, 'program.elf');
    const sources = ['start.S', 'tail-calls.c'].map((file) => join(import.meta.dirname, file));
    execFileSync(compiler, [...FLAGS, ...options, ...LINK, '-o', program, ...sources], { stdio: 'pipe' });
    return program;
  }
  const names = (stops: readonly ShownStop[]): string[] =>
    stops.map(({ frames }) => frames.map(({ name }) => name).join(' '));

  for (const options of [['-gdwarf-5'], ['-gdwarf-4'], ['-O3', '-gdwarf-5']]) {
    it(`are in the stack where gdb has them: gcc ${options.join(' ')}`, async () => {
      const program = build('gcc', ...options);
      const expected = gdbStops(program, STEPS, join(folder, 'gdb.json'));
      const found = await ownStops(program, STEPS);
      assert.deepEqual(found, expected);
      for (const stack of [
        'leaf middle outer work main',
        'leaf before work main',
        'leaf work main',
        'one either before work main',
      ]) {
        assert.ok(names(found).includes(stack), `${stack} among ${[...new Set(names(found))].join(', ')}`);
      }
    });
  }

  it('are in the stack where clang tells of the jump only', async function () {
    try {
      execFileSync('clang', ['--version'], { stdio: 'ignore' });
    } catch {
      this.skip();
    }
    const found = names(await ownStops(build('clang', '-gdwarf-5'), STEPS));
    assert.ok(found.includes('leaf middle outer work main'));
    // Never one that cannot be known.
    assert.deepEqual(
      found.filter((stack) => /leaf (one|two)|indirect|odd|even/.test(stack) && stack.startsWith('leaf')),
      [],
    );
  });
});
