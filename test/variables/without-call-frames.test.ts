// Expected values: gdb's stacks of the same code with its call-frame information, which is taken away here; and what we
// show of the variables with that information, which variables.test.ts holds to gdb.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isThere } from '../support/programs.ts';
import { gdbStops, ownStops, type ShownStop } from './against-gdb.ts';

const FLAGS = '-g -ffreestanding -fno-stack-protector -fcf-protection=none -nostdlib -static';
const LINK = ['-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
const STEPS = [19, ...Array.from({ length: 79 }, (_, index) => 1 + ((37 * index) % 90))];
const LEVELS = ['gcc -O0', 'gcc -O1', 'gcc -O2', 'gcc -O3', 'clang -O0', 'clang -O1', 'clang -O2'];
const BUILDS = [
  ...LEVELS.map((build) => `${build} -fno-omit-frame-pointer`),
  ...LEVELS.map((build) => `${build} -fomit-frame-pointer`),
];

describe('call stacks without call-frame information, by what the code does to the stack', function () {
  this.timeout(60_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-frames-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const places = (stops: readonly ShownStop[]): unknown =>
    stops.map(({ frames }) => frames.map(({ name, pc }) => `${name} ${pc}`));

  for (const build of BUILDS) {
    it(`are those of gdb with it: ${build}`, async function () {
      const [compiler = '', ...options] = build.split(' ');
      const [whole, bare] = [join(folder, 'whole.elf'), join(folder, 'bare.elf')];
      const sources = ['start.S', 'sample.c'].map((file) => join(import.meta.dirname, file));
      if (!isThere(compiler)) this.skip();
      execFileSync(compiler, [...FLAGS.split(' '), ...options, ...LINK, '-o', whole, ...sources], { stdio: 'pipe' });
      execFileSync('objcopy', ['-R', '.eh_frame', '-R', '.debug_frame', whole, bare], { stdio: 'pipe' });
      const expected = gdbStops(whole, STEPS, join(folder, 'gdb.json'));
      assert.ok(expected.some(({ frames }) => frames.length > 2));
      const found = await ownStops(bare, STEPS);
      assert.deepEqual(places(found), places(expected));
      assert.deepEqual(found, await ownStops(whole, STEPS));
    });
  }
});
