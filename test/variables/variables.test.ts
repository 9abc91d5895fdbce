// Expected values: what gdb shows of the same program, run by this computer's own processor, at the same instructions.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gdbStops, normal, ownStops } from './against-gdb.ts';

const FLAGS = '-g -ffreestanding -fno-stack-protector -fcf-protection=none -nostdlib -static -no-pie'.split(' ');
const LINK = '-Wl,-Ttext-segment=0x200000,--build-id=none';

interface Build {
  readonly name: string;
  readonly compiler: readonly string[];
  readonly source: string;
}
const c = (compiler: string, ...options: string[]): Build => ({
  name: `${compiler} ${options.join(' ')}`,
  compiler: [compiler, ...FLAGS, ...options],
  source: 'sample.c',
});
const cpp = (compiler: string, ...options: string[]): Build => ({
  name: `${compiler} ${options.join(' ')}, C++`,
  compiler: [compiler, ...FLAGS, '-fno-exceptions', '-fno-rtti', ...options],
  source: 'sample.cc',
});
const BUILDS: readonly Build[] = [
  c('gcc', '-O0'),
  c('gcc', '-O2'),
  c('gcc', '-O1', '-gdwarf-4'),
  c('clang', '-O0'),
  c('clang', '-O2'),
  c('clang', '-O2', '-gdwarf-4'),
  cpp('g++', '-O0'),
  cpp('g++', '-O2'),
];

const STOPS = Number(process.env.STOPS ?? 40);
const SEED = Number(process.env.SEED ?? 12345);
/** The sample's first instructions set up its stack. */
const SETTING_UP = 19;

function randomSteps(): number[] {
  let state = SEED;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
  return [SETTING_UP, ...Array.from({ length: STOPS - 1 }, () => 1 + random(90))];
}

const isThere = (program: string): boolean => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

describe(`variables at ${STOPS} random stops are those that gdb shows (seed ${SEED})`, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-variables-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const { name, compiler, source } of BUILDS) {
    it(name, async function () {
      const [command = '', ...options] = compiler;
      if (!isThere(command)) this.skip();
      const program = join(folder, 'program.elf');
      const sources = ['start.S', source].map((file) => join(import.meta.dirname, file));
      execFileSync(command, [...options, LINK, '-o', program, ...sources], { stdio: ['ignore', 'ignore', 'pipe'] });
      const steps = randomSteps();
      const expected = gdbStops(program, steps, join(folder, 'gdb.json'));
      const found = await ownStops(program, steps);
      assert.equal(expected.length, STOPS);
      for (const [index, stop] of expected.entries()) {
        const where = `stop ${index} at 0x${BigInt(stop.pc).toString(16)}`;
        const frames = stop.frames.map((frame, depth) => ({
          ...frame,
          variables: normal(frame.variables, found[index]?.frames[depth]?.variables),
        }));
        assert.deepEqual(found[index], { pc: stop.pc, frames }, where);
      }
    }).timeout(120_000);
  }
});
