import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { damaged, lookAtVariables, type Place, randomNumbers } from '../../../test/support/damage.ts';
import { FormatError } from '../byte-reader.ts';
import { Program } from '../program.ts';

const SAMPLE = join(import.meta.dirname, '../../../test/variables/sample.c');
const DEBUG_SECTION = /^\.debug_(info|types|abbrev|line|loc|loclists|ranges|rnglists|str_offsets|addr|aranges)$/;

const SEED = Number(process.env.SEED ?? 4711);

for (const options of [
  ['-O2', '-gdwarf-5'],
  ['-O1', '-gdwarf-4'],
  ['-O0', '-gdwarf-5', '-gdwarf64'],
  ['-O1', '-gdwarf-4', '-fdebug-types-section'],
  ['-O2', '-gdwarf-5', '-fdebug-types-section', '-gz=zlib'],
]) {
  describe(`damaged debug information (${options.join(' ')}; seed ${SEED})`, () => {
    let folder: string;
    let bytes: Uint8Array;
    let places: readonly Place[];
    let addresses: readonly bigint[];
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmxray-damaged-'));
      const file = join(folder, 'sample.elf');
      const flags = ['-ffreestanding', '-nostdlib', '-static', '-no-pie', '-Wl,-emain', '-o', file, SAMPLE];
      execFileSync('gcc', [...options, ...flags], { stdio: 'ignore' });
      bytes = readFileSync(file);
      const program = new Program('sample', file, bytes);
      places = program.elf.sections
        .filter(({ name }) => DEBUG_SECTION.test(name))
        .map(({ offset, size }) => ({ start: offset, size }));
      addresses = program.functions.flatMap(({ start, end }) => [start, (start + end) / 2n]);
    });
    after(() => rmSync(folder, { recursive: true }));

    it('is read whole when it is sound', () => {
      const program = new Program('sample', 'sample.elf', bytes);
      assert.ok(lookAtVariables(program, addresses) > 30);
      assert.deepEqual(program.problems, []);
    });

    it('is told of and never hangs or throws anything but FormatError', () => {
      const random = randomNumbers(SEED);
      let told = 0;
      for (let round = 0; round < 60; round++) {
        const copy = damaged(bytes, places, random);
        const begun = performance.now();
        try {
          const program = new Program('damaged', 'damaged.elf', copy);
          lookAtVariables(program, addresses);
          if (program.problems.length > 0) told++;
        } catch (error) {
          assert.ok(error instanceof FormatError, `seed ${SEED}, round ${round}: ${(error as Error).stack}`);
        }
        assert.ok(performance.now() - begun < 5000, `round ${round} takes too long`);
      }
      assert.ok(told > 5, `only ${told} of 60 damages were told of`);
    }).timeout(120_000);
  });
}
