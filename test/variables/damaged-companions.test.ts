// Files with debug information beside a program that are damaged: what is wrong is told, and the rest works.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from '../../debug-adapter/symbols/byte-reader.ts';
import { openCompanions } from '../../debug-adapter/symbols/companions.ts';
import { parseElf } from '../../debug-adapter/symbols/elf.ts';
import { memoryFile } from '../../debug-adapter/symbols/file-image.ts';
import { Program } from '../../debug-adapter/symbols/program.ts';
import { damaged, lookAtVariables, type Place, randomNumbers } from '../support/damage.ts';

const SEED = Number(process.env.SEED ?? 4711);
const ROUNDS = Number(process.env.ROUNDS ?? 60);
const FLAGS = '-g -O2 -ffreestanding -fno-stack-protector -nostdlib -static -no-pie -Wl,-emain,--build-id=sha1'.split(
  ' ',
);
const SPLIT = ['-gsplit-dwarf', '-fdebug-types-section'];

interface Form {
  readonly name: string;
  readonly options: readonly string[];
  /** A command in the folder, and the program that it needs. */
  readonly finish?: readonly [command: string, tool: string];
  /** Which files are damaged. */
  readonly file: RegExp;
}
const forms: readonly Form[] = [
  { name: 'a file of a split unit, DWARF 4', options: [...SPLIT, '-gdwarf-4'], file: /\.dwo$/ },
  { name: 'a file of a split unit, DWARF 5', options: [...SPLIT, '-gdwarf-5'], file: /\.dwo$/ },
  {
    name: 'a package, DWARF 4',
    options: [...SPLIT, '-gdwarf-4'],
    finish: ['dwp -e program.elf -o program.elf.dwp && rm *.dwo', 'dwp'],
    file: /\.dwp$/,
  },
  {
    name: 'a package, DWARF 5',
    options: [...SPLIT, '-gdwarf-5'],
    finish: ['llvm-dwp -e program.elf -o program.elf.dwp && rm *.dwo', 'llvm-dwp'],
    file: /\.dwp$/,
  },
  {
    name: 'a file that it shares with another program',
    options: ['-gdwarf-5'],
    finish: ['cp program.elf other.elf && dwz -m shared.debug program.elf other.elf', 'dwz'],
    file: /^shared\.debug$/,
  },
  {
    name: 'a file that the program names',
    options: ['-gdwarf-5'],
    finish: [
      'objcopy --only-keep-debug program.elf kept.debug && ' +
        'objcopy --strip-debug --add-gnu-debuglink=kept.debug program.elf',
      'objcopy',
    ],
    file: /^kept\.debug$/,
  },
  {
    name: 'compressed with zstd',
    options: ['-gdwarf-5'],
    finish: ['objcopy --compress-debug-sections=zstd program.elf', 'objcopy'],
    file: /^program\.elf$/,
  },
];

describe(`damaged files beside a program (seed ${SEED})`, function () {
  this.timeout(120_000);
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'vmxray-damaged-'));
  });
  after(() => rmSync(root, { recursive: true }));

  /** Every file of the folder by its path. */
  function build(form: Form): Map<string, Uint8Array> {
    const folder = mkdtempSync(join(root, 'program-'));
    const sources = [join(import.meta.dirname, 'sample.c')];
    const run = (command: string, args: readonly string[]): void => {
      execFileSync(command, [...args], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    };
    run('gcc', [...FLAGS, ...form.options, '-o', 'program.elf', ...sources]);
    if (form.finish) run('sh', ['-c', form.finish[0]]);
    return new Map(readdirSync(folder).map((name) => [join(folder, name), readFileSync(join(folder, name))]));
  }

  const isThere = (program: string): boolean => {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  };
  const placesIn = (bytes: Uint8Array): Place[] =>
    parseElf(memoryFile(bytes))
      .sections.filter(({ name, content }) => /debug_/.test(name) && content.size > 0)
      .map(({ offset, size }) => ({ start: offset, size }));

  async function read(files: ReadonlyMap<string, Uint8Array>): Promise<Program> {
    const [path, bytes] = [...files].find(([name]) => name.endsWith('/program.elf')) ?? ['', new Uint8Array()];
    const image = memoryFile(bytes);
    const open = async (other: string) => {
      const found = files.get(other);
      return found && memoryFile(found);
    };
    return new Program('program.elf', path, image, undefined, undefined, await openCompanions(path, image, open));
  }

  for (const form of forms) {
    it(`are told of, and hang or break nothing: ${form.name}`, async function () {
      if (form.finish && !isThere(form.finish[1])) this.skip();
      const files = build(form);
      const sound = await read(files);
      const addresses = sound.functions.flatMap(({ start, end }) => [start, (start + end) / 2n]);
      const variables = lookAtVariables(sound, addresses);
      assert.ok(variables > 30, `${variables} variables`);
      assert.deepEqual(sound.problems, []);
      const random = randomNumbers(SEED);
      const hurt = [...files].filter(([path]) => form.file.test(path.slice(path.lastIndexOf('/') + 1)));
      assert.ok(hurt.length > 0);
      let told = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const begun = performance.now();
        const [path, bytes] = hurt[random(hurt.length)] ?? ['', new Uint8Array()];
        const cut = random(10) === 0;
        const broken = cut ? bytes.slice(0, random(bytes.length)) : damaged(bytes, placesIn(bytes), random);
        try {
          const program = await read(new Map([...files, [path, broken]]));
          lookAtVariables(program, addresses);
          for (const problem of program.problems) assert.match(problem, /^program\.elf: .{10,}/, `round ${round}`);
          if (program.problems.length > 0) told++;
        } catch (error) {
          if (!(error instanceof FormatError)) throw new Error(`seed ${SEED}, round ${round}`, { cause: error });
          told++;
        }
        assert.ok(performance.now() - begun < 5000, `seed ${SEED}, round ${round} takes too long`);
      }
      assert.ok(told > 5, `only ${told} of ${ROUNDS} damages were told of`);
    });
  }
});
