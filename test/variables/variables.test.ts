// Expected values: what gdb shows of the same program, run by this computer's own processor, at the same instructions.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isThere } from '../support/programs.ts';
import { gdbStops, normalEach, ownStops, type ShownStop } from './against-gdb.ts';

const FLAGS = '-g -ffreestanding -fno-stack-protector -fcf-protection=none -nostdlib -static -no-pie'.split(' ');
const LINK = '-Wl,-Ttext-segment=0x200000,--build-id=none';

interface Build {
  readonly name: string;
  readonly compiler: readonly string[];
  /** Files of this folder that are compiled. */
  readonly sources: readonly string[];
  /** gdb 13 misreads what an optimised program has in pieces: only what is whole is compared. */
  readonly onlyWhole?: boolean;
}
const c = (compiler: string, ...options: string[]): Build => ({
  name: `${compiler} ${options.join(' ')}`,
  compiler: [compiler, ...FLAGS, ...options],
  sources: ['start.S', 'sample.c'],
});
const cpp = (compiler: string, ...options: string[]): Build => ({
  name: `${compiler} ${options.join(' ')}, C++`,
  compiler: [compiler, ...FLAGS, '-fno-exceptions', '-fno-rtti', ...options],
  sources: ['start.S', 'sample.cc'],
});
/** The compiler of Rust links what gcc has assembled: `start.o`. */
const RUST_FLAGS = '-g --edition 2021 --crate-name sample -C panic=abort -C relocation-model=static -C linker=gcc';
const RUST_LINK = ['-nostartfiles', '-nostdlib', '-static', '-no-pie', LINK];
const rust = (level: number, ...options: string[]): Build => ({
  name: `rustc -C opt-level=${level} ${options.join(' ')}`.trimEnd(),
  compiler: [
    'rustc',
    ...RUST_FLAGS.split(' '),
    ...['-C', `opt-level=${level}`, ...options],
    ...RUST_LINK.flatMap((option) => ['-C', `link-arg=${option}`]),
  ],
  sources: ['sample.rs'],
  onlyWhole: level > 0,
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
  cpp('clang++', '-O0'),
  cpp('clang++', '-O2'),
  rust(0),
  rust(2),
  rust(0, '-C', 'symbol-mangling-version=v0', '-C', 'dwarf-version=5'),
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

const inThisFolder = (file: string): string => join(import.meta.dirname, file);

/**
 * gdb names a function of a local class by its last part, or by all that its mangled name says:
 * `f(int)::$_0::operator()(char) const`. @param own taken where it ends in the same part.
 */
function normalName(name: string, own = ''): string {
  const isLocal = !name.includes('::') || name.includes(')::');
  const last = (text: string): string => text.slice(text.lastIndexOf('::') + 1).replace(/^:/, '');
  return isLocal && last(name).startsWith(last(own)) ? own : name;
}

/** The same functions are under way, and variables that gdb has as one number have it here. */
function assertWhole(own: ShownStop, expected: ShownStop, where: string): void {
  const places = ({ frames }: ShownStop): unknown => frames.map(({ name, pc }) => [name, pc]);
  assert.deepEqual(places(own), places(expected), where);
  for (const [depth, { variables }] of expected.frames.entries()) {
    const numbers = Object.entries(variables).filter(
      ([, value]) => typeof value === 'string' && !value.startsWith('<'),
    );
    for (const [name, value] of numbers) {
      assert.equal(own.frames[depth]?.variables[name], value, `${where}, frame ${depth}: ${name}`);
    }
  }
}

describe(`variables at ${STOPS} random stops are those that gdb shows (seed ${SEED})`, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-variables-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  function build({ compiler, sources }: Build): string {
    const [command = '', ...options] = compiler;
    const program = join(folder, 'program.elf');
    const start = join(folder, 'start.o');
    const [files, stdio] = [sources.map(inThisFolder), ['ignore', 'ignore', 'pipe'] as const];
    if (command === 'rustc') execFileSync('gcc', ['-c', '-o', start, inThisFolder('start.S')], { stdio: [...stdio] });
    const link = command === 'rustc' ? ['-C', `link-arg=${start}`] : [LINK];
    execFileSync(command, [...options, ...link, '-o', program, ...files], { stdio: [...stdio] });
    return program;
  }

  for (const one of BUILDS) {
    const { name, compiler, onlyWhole = false } = one;
    it(name, async function () {
      // Rust's compiler is 200 MB of Debian packages: where it is missing, its programs are not tested.
      if (!isThere(compiler[0] ?? '')) this.skip();
      const program = build(one);
      const steps = randomSteps();
      const expected = gdbStops(program, steps, join(folder, 'gdb.json'));
      const found = await ownStops(program, steps);
      assert.equal(expected.length, STOPS);
      for (const [index, stop] of expected.entries()) {
        const where = `stop ${index} at 0x${BigInt(stop.pc).toString(16)}`;
        const own = found[index];
        assert.ok(own);
        const frames = stop.frames.map(({ name, pc, variables }, depth) => {
          const ownFrame = own.frames[depth];
          const shown = normalEach(variables, ownFrame?.variables ?? {});
          return { name: normalName(name, ownFrame?.name), pc, variables: shown };
        });
        if (onlyWhole) assertWhole(own, { ...stop, frames }, where);
        else assert.deepEqual(own, { ...stop, frames }, where);
      }
    }).timeout(120_000);
  }
});
