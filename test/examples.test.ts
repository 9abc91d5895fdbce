/**
 * The built samples in the repository are what their sources build to, and name no path of the machine they were built
 * on.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const EXAMPLES = join(ROOT, 'examples');
const BUILT = globSync('*/*.elf', { cwd: EXAMPLES }).sort();

/** The compiler that made the files in the repository: Debian 12's. Others make other code. */
const COMPILER = 'gcc (Debian 12.2.0-14+deb12u1) 12.2.0';

function compiler(): string {
  try {
    return execFileSync('gcc', ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
  } catch {
    return 'no gcc';
  }
}

describe('examples', () => {
  it('are in the repository as ELF files', () => {
    assert.deepEqual(BUILT, [
      'broken-entry/broken-entry.elf',
      'direct-assignment/direct-assignment.elf',
      'direct-assignment/guest.elf',
      'first-vmm/first-vmm.elf',
      'first-vmm/guest.elf',
      'migration/guest.elf',
      'migration/migration.elf',
      'shadow-paging/guest.elf',
      'shadow-paging/shadow-paging.elf',
      'stale-tlb/stale-tlb.elf',
      'two-guests/collatz.elf',
      'two-guests/primes.elf',
      'two-guests/two-guests.elf',
    ]);
  });

  for (const file of BUILT) {
    it(`${file} has no absolute path but of the compiler's own headers`, () => {
      const strings = readFileSync(join(EXAMPLES, file), 'latin1').split('\0');
      const paths = strings.filter((string) => /^\/[\w.-]+\/[\w./-]+$/.test(string));
      assert.deepEqual([...new Set(paths)], ['/usr/lib/gcc/x86_64-linux-gnu/12/include']);
    });
  }

  describe('rebuilt in another folder', () => {
    let folder = '';
    before(function () {
      const found = compiler();
      if (found !== COMPILER) {
        console.log(`    skipped: built with ${COMPILER}, here is ${found}`);
        this.skip();
      }
      this.timeout(60_000);
      folder = mkdtempSync(join(tmpdir(), 'vmxray-examples-'));
      cpSync(EXAMPLES, folder, { recursive: true, filter: (path) => !/\.(o|elf)$/.test(path) });
      execFileSync('make', ['-C', folder], { stdio: 'pipe' });
    });
    after(() => {
      if (folder) rmSync(folder, { recursive: true });
    });

    for (const file of BUILT) {
      it(`${file} is the same, byte for byte`, () => {
        const rebuilt = readFileSync(join(folder, file));
        const message = `run "npm run build:examples" and commit ${file}`;
        assert.ok(rebuilt.equals(readFileSync(join(EXAMPLES, file))), message);
      });
    }
  });
});
