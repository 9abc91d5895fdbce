// Expected values: what the linker has written into the instructions that access the variables; what gdb finds in
// programs that Linux runs on this computer.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HAS_GDB } from '../../test/support/gdb.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import { Program } from '../symbols/program.ts';
import { threadLocalAddress } from './thread-local.ts';

const SOURCE = `
__thread int first = 1;
__thread char odd[3] = {1, 2, 3};
__thread long zero;
__thread char aligned[5] __attribute__((aligned(ALIGNMENT)));
int get_first(void) { return first; }
char get_odd(void) { return odd[1]; }
long get_zero(void) { return zero; }
char get_aligned(void) { return aligned[0]; }
void _start(void) { for (;;); }
`;
/** Two threads, each with copies. */
const THREADS = `
#include <pthread.h>
#include <stdlib.h>
__thread int first = 1;
__thread char odd[3] = {1, 2, 3};
static __thread long zero;
__thread char wide[5] __attribute__((aligned(64)));
static void stop(void) { __asm__ volatile("nop"); }
static void *work(void *argument)
{
  first += 10; odd[1] = 20; zero = 30; wide[4] = 40;
  stop();
  return argument;
}
int main(void)
{
  pthread_t thread;
  first += 100; zero = 7;
  stop();
  if (pthread_create(&thread, 0, work, 0) != 0) abort();
  pthread_join(thread, 0);
  return 0;
}
`;
/** Distances of what the functions read from the beginnings of the variables. */
const READ: Readonly<Record<string, bigint>> = { first: 0n, odd: 1n, zero: 0n, aligned: 0n };
const BASES: Readonly<Record<string, bigint>> = { 'fs.base': 0x50_0000n, 'gs.base': 0xffff_8000_0060_0000n };

interface Form {
  readonly name: string;
  readonly options: readonly string[];
  readonly segment: 'fs' | 'gs';
}
const forms: readonly Form[] = [
  ...[1, 16, 64, 4096].map(
    (alignment): Form => ({
      name: `aligned to ${alignment}`,
      options: ['-static', '-no-pie', `-DALIGNMENT=${alignment}`],
      segment: 'fs',
    }),
  ),
  { name: 'at any address', options: ['-static-pie', '-fpie', '-DALIGNMENT=32'], segment: 'fs' },
  {
    name: 'of a kernel in the upper half',
    options: [
      '-static',
      '-no-pie',
      '-fno-pie',
      '-mcmodel=kernel',
      '-Wl,-Ttext-segment=0xffffffff80000000',
      '-DALIGNMENT=32',
    ],
    segment: 'fs',
  },
  { name: 'of 32 bits', options: ['-m32', '-static', '-no-pie', '-DALIGNMENT=32'], segment: 'gs' },
];

describe('thread-local variables', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-threads-'));
    writeFileSync(join(folder, 'program.c'), SOURCE);
  });
  after(() => rmSync(folder, { recursive: true }));

  function build(options: readonly string[]): { file: string; program: Program } {
    const file = join(folder, 'program.elf');
    const flags = ['-O2', '-ffreestanding', '-nostdlib', '-fcf-protection=none', '-o', file, join(folder, 'program.c')];
    execFileSync('gcc', [...flags, ...options], { stdio: ['ignore', 'ignore', 'pipe'] });
    return { file, program: new Program('program', file, readFileSync(file)) };
  }
  /** Value of a symbol in what each thread has a copy of. */
  function offsetOf(file: string, name: string): bigint {
    const symbols = execFileSync('readelf', ['-s', '-W', file], { encoding: 'utf8' });
    return BigInt(`0x${new RegExp(`([0-9a-f]+) +\\d+ TLS .* ${name}$`, 'm').exec(symbols)?.[1]}`);
  }

  for (const { name, options, segment } of forms) {
    it(`are where the code finds them: ${name}`, () => {
      const { file, program } = build(options);
      const { bits } = program.elf;
      const view = { bitness: bits, register: (register: string) => BASES[register] };
      for (const [variable, read] of Object.entries(READ)) {
        const text = execFileSync('objdump', ['-d', `--disassemble=get_${variable}`, file], { encoding: 'utf8' });
        const [, register, displacement = ''] = /%([fg]s):(0x[0-9a-f]+)/.exec(text) ?? [];
        assert.equal(register, segment, text);
        const expected = BigInt.asUintN(bits, (BASES[`${segment}.base`] ?? 0n) + BigInt(displacement) - read);
        assert.equal(threadLocalAddress(program, view, offsetOf(file, variable)), expected, variable);
      }
      assert.deepEqual([...(program.elf.threadLocal?.names() ?? [])].sort(), Object.keys(READ).sort());
    });
  }

  const LINUX: Readonly<Record<string, readonly string[]>> = {
    'at a fixed address': ['-no-pie'],
    'at any address': ['-pie', '-fpie'],
    'without shared libraries': ['-static'],
  };
  for (const [name, options] of Object.entries(LINUX)) {
    it(`are where gdb finds them in two threads of a program that runs on Linux, ${name}`, function () {
      if (!HAS_GDB) this.skip();
      const [source, file] = [join(folder, 'threads.c'), join(folder, 'threads')];
      writeFileSync(source, THREADS);
      execFileSync('gcc', ['-g', '-O0', ...options, '-o', file, source], { stdio: ['ignore', 'ignore', 'pipe'] });
      const program = new Program('threads', file, readFileSync(file));
      const variables = ['first', 'odd', 'zero', 'wide'];
      const addresses = variables.map((variable) => `&${variable}`).join(', ');
      const look = ['up', `printf "at %lx %lx %lx %lx %lx\\n", $fs_base, ${addresses}`];
      const commands = ['break stop', 'run', ...look, 'continue', ...look, 'continue'];
      const args = ['-nx', '-batch', ...commands.flatMap((command) => ['-ex', command]), file];
      const text = execFileSync('gdb', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
      const places = [...text.matchAll(/^at (.*)$/gm)].map(([, words = '']) =>
        words.split(' ').map((each) => `0x${each}`),
      );
      assert.equal(places.length, 2, text);
      assert.notEqual(places[0]?.[0], places[1]?.[0], 'each thread has its own base');
      for (const [base = '', ...expected] of places) {
        const view = {
          bitness: 64 as const,
          register: (register: string) => (register === 'fs.base' ? BigInt(base) : 0n),
        };
        const found = variables.map((variable) => threadLocalAddress(program, view, offsetOf(file, variable)));
        assert.deepEqual(found, expected.map(BigInt));
      }
    });
  }

  it('are looked for by GS where FS has no base, and nowhere where neither has one', () => {
    const { program } = build(['-static', '-no-pie', '-DALIGNMENT=1']);
    const at = (bases: Readonly<Record<string, bigint>>): bigint =>
      threadLocalAddress(program, { bitness: 64, register: (name) => bases[name] }, 0n);
    assert.equal(at({ 'fs.base': 0n, 'gs.base': 0x1000n }) - at({ 'fs.base': 0x3000n, 'gs.base': 0x1000n }), -0x2000n);
    assert.throws(() => at({ 'fs.base': 0n, 'gs.base': 0n }), Unavailable);
  });

  it('are not guessed in shared objects', () => {
    const { program } = build(['-shared', '-fpic', '-DALIGNMENT=1']);
    const view = { bitness: 64 as const, register: (register: string) => BASES[register] };
    assert.throws(() => threadLocalAddress(program, view, 0n), /in a shared object/);
  });
});
