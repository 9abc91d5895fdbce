import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from './byte-reader.ts';
import { baseName } from './paths.ts';
import { Program } from './program.ts';

const C_SOURCE = `
#include "inline.h"
int table[4];
static int square(int x) {
  return x * x;
}
__attribute__((noinline)) int sum(int count) {
  int total = 0;
  for (int i = 0; i < count; i++)
    total += square(table[i & 3]) + twice(i);
  return total;
}
void _start(void) {
  table[0] = sum(3);
  for (;;) __asm__ volatile("hlt");
}
`;
const HEADER = `
static inline int twice(int x) {
  x += x;
  return x;
}
`;
const ASSEMBLY = `
section .text
global _start
_start:
    xor eax, eax
again:
    inc eax
    cmp eax, 5
    jne again
    hlt
`;

interface Variant {
  readonly name: string;
  readonly build: (file: (name: string) => string) => void;
}

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const LINK = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x100000,--build-id=none'];
const compile = (...flags: string[]): Variant => ({
  name: `gcc ${flags.join(' ')}`,
  build: (file) => {
    run(
      'gcc',
      '-ffreestanding',
      '-fcf-protection=none',
      ...flags,
      ...LINK,
      '-o',
      file('program.elf'),
      file('source.c'),
    );
  },
});
const assemble = (format: 'elf32' | 'elf64', emulation: string): Variant => ({
  name: `nasm -f ${format}`,
  build: (file) => {
    run('nasm', '-g', '-F', 'dwarf', '-f', format, '-o', file('source.o'), file('source.asm'));
    run('ld', '-m', emulation, '-Ttext=0x100000', '-o', file('program.elf'), file('source.o'));
  },
});
const as32: Variant = {
  name: 'ELF32 that objcopy made of 64-bit code',
  build: (file) => {
    compile('-O1', '-g', '-fno-asynchronous-unwind-tables').build(file);
    run('objcopy', '-O', 'elf32-i386', file('program.elf'));
  },
};
const VARIANTS: readonly Variant[] = [
  compile('-O0', '-gdwarf-5'),
  compile('-O2', '-gdwarf-5'),
  compile('-Og', '-gdwarf-4'),
  compile('-O2', '-gdwarf-4', '-m32'),
  compile('-O1', '-gdwarf-3'),
  compile('-O1', '-gdwarf-5', '-gdwarf64'),
  assemble('elf64', 'elf_x86_64'),
  assemble('elf32', 'elf_i386'),
  as32,
];

/** Rows "file line address" of readelf's decoded line table. */
function decodedRows(elf: string): { file: string; line: number; address: bigint }[] {
  const rows = run('readelf', '--debug-dump=decodedline', '-W', elf).matchAll(/^(\S+)\s+(\d+)\s+(0x[0-9a-f]+)/gm);
  return [...rows].map((row) => ({ file: row[1] ?? '', line: Number(row[2]), address: BigInt(row[3] ?? '') }));
}

for (const variant of VARIANTS) {
  describe(`symbols of a program built by ${variant.name}`, () => {
    let folder: string;
    let program: Program;
    const file = (name: string): string => join(folder, name);

    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmxray-symbols-'));
      writeFileSync(file('source.c'), C_SOURCE);
      writeFileSync(file('inline.h'), HEADER);
      writeFileSync(file('source.asm'), ASSEMBLY);
      variant.build(file);
      program = new Program('program', file('program.elf'), readFileSync(file('program.elf')));
    });
    after(() => rmSync(folder, { recursive: true }));

    it('has every function and label of nm at its address', () => {
      const lines = run('nm', '--defined-only', file('program.elf')).matchAll(/^([0-9a-f]+) \S (\S+)$/gm);
      const symbols = [...lines];
      assert.ok(symbols.length >= 2);
      for (const [, address, name] of symbols) {
        assert.equal(program.symbolNamed(name ?? '')?.address, BigInt(`0x${address}`), name);
      }
    });

    it('finds a statement in the right file for every row of readelf', () => {
      const rows = decodedRows(file('program.elf'));
      assert.ok(rows.length > 4);
      for (const row of rows) {
        const source = program.files.find((candidate) => candidate.endsWith(row.file));
        assert.ok(source, row.file);
        const known = program
          .rangesOfFile(source)
          .some((range) => range.start === row.address && range.line === row.line);
        const endsSequence = program.lineAt(row.address) === undefined;
        assert.ok(known || endsSequence, `${row.file}:${row.line} ${row.address.toString(16)}`);
      }
    });

    // addr2line of binutils 2.40 mistakes file 1 of DWARF 5 tables for file 0: gdb is the better witness.
    it('gives the line that gdb gives, byte by byte', () => {
      const text = program.elf.sections.find((section) => section.name === '.text');
      assert.ok(text);
      const addresses = Array.from({ length: text.size }, (_, index) => text.address + BigInt(index));
      const commands = addresses.flatMap((address) => ['echo @@', `info line *0x${address.toString(16)}`]);
      writeFileSync(file('commands.gdb'), commands.join('\n'));
      const answers = run('gdb', '-batch', '-x', file('commands.gdb'), file('program.elf')).split('@@').slice(1);
      assert.equal(answers.length, addresses.length);
      for (const [index, address] of addresses.entries()) {
        const expected = /Line (\d+) of "([^"]+)"/.exec(answers[index] ?? '');
        const range = program.lineAt(address);
        const found = range && [String(range.line), baseName(range.file)];
        assert.deepEqual(found, expected?.slice(1).map(baseName), `0x${address.toString(16)}`);
      }
    });
  });
}

describe('breakpoint places', () => {
  let folder: string;
  let program: Program;
  let source: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-symbols-'));
    source = join(folder, 'source.c');
    writeFileSync(source, C_SOURCE);
    writeFileSync(join(folder, 'inline.h'), HEADER);
    compile('-O0', '-g').build((name) => join(folder, name));
    program = new Program('program', join(folder, 'program.elf'), readFileSync(join(folder, 'program.elf')));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('moves from a line without code to the next one that has some', () => {
    assert.equal(program.addressesOfLine(source, 3)?.line, 4);
    assert.equal(program.addressesOfLine(source, 999), undefined);
  });

  it('places the breakpoint of a function where gdb does: behind the prologue', () => {
    const script = ['-batch', '-ex', 'info address sum', '-ex', 'break sum', '-ex', 'info breakpoints'];
    const gdb = run('gdb', ...script, join(folder, 'program.elf'));
    const expected = /Breakpoint 1 at (0x[0-9a-f]+)/.exec(gdb)?.[1];
    const start = program.symbolNamed('sum')?.address;
    assert.ok(start !== undefined && expected);
    assert.equal(program.afterPrologue(start), BigInt(expected));
    assert.deepEqual(program.addressesOfLine(source, 7)?.addresses, [BigInt(expected)]);
  });

  it('recognises a file by the end of its path', () => {
    assert.equal(program.addressesOfLine('/elsewhere/source.c', 7)?.line, 7);
    assert.equal(program.addressesOfLine('/elsewhere/other.c', 7), undefined);
  });

  it('adds the load address to symbols and lines', () => {
    const bytes = readFileSync(join(folder, 'program.elf'));
    const lowest = program.elf.segments[0]?.address ?? 0n;
    const moved = new Program('moved', join(folder, 'program.elf'), bytes, lowest + 0x20_0000n);
    const original = program.symbolNamed('sum')?.address ?? 0n;
    assert.equal(moved.symbolNamed('sum')?.address, original + 0x20_0000n);
    assert.equal(moved.lineAt(original + 0x20_0000n)?.line, 7);
    assert.equal(moved.functionAt(original + 0x20_0001n)?.name, 'sum');
  });

  it('reads call frames: CFA of sum before, inside and after its frame is set up', () => {
    const start = program.symbolNamed('sum')?.address ?? 0n;
    const rsp = 7;
    const rbp = 6;
    assert.deepEqual(program.frameRules(start)?.cfa, { register: rsp, offset: 8n });
    assert.deepEqual(program.frameRules(start + 1n)?.cfa, { register: rsp, offset: 16n });
    assert.deepEqual(program.frameRules(program.afterPrologue(start))?.cfa, { register: rbp, offset: 16n });
    assert.deepEqual(program.frameRules(start)?.registers.get(16), { kind: 'offset', offset: -8n });
  });

  it('refuses damaged files with FormatError only', () => {
    const bytes = readFileSync(join(folder, 'program.elf'));
    for (let length = 0; length < bytes.length; length += 97) {
      try {
        new Program('cut', 'cut.elf', bytes.subarray(0, length));
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }
    let seed = 12345;
    const random = (limit: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % limit;
    };
    for (let round = 0; round < 300; round++) {
      const damaged = Uint8Array.from(bytes);
      for (let flip = 0; flip < 8; flip++) damaged[random(damaged.length)] = random(256);
      try {
        new Program('damaged', 'damaged.elf', damaged);
      } catch (error) {
        assert.ok(error instanceof FormatError, `seed 12345, round ${round}: ${error}`);
      }
    }
  });
});

describe('functions of C++', () => {
  // Expected addresses: nm's, of the mangled names.
  it('are found by the names that programs give them', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmxray-names-'));
    try {
      const [source, elf] = [join(folder, 'a.cc'), join(folder, 'a.elf')];
      writeFileSync(
        source,
        `namespace machine {
  struct Device { int count = 0; __attribute__((noinline)) int tick(int by) { return count += by; } };
  template <typename T> __attribute__((noinline)) T twice(T value) { return value + value; }
  namespace { __attribute__((noinline)) int hidden(int value) { return value - 1; } }
  int run() { Device device; return device.tick(twice(2)) + hidden(3) + static_cast<int>(twice(2L)); }
}
extern "C" void _start() { machine::run(); }`,
      );
      run('g++', '-g', '-O0', '-ffreestanding', '-fno-exceptions', ...LINK, '-o', elf, source);
      const program = new Program('a', elf, readFileSync(elf));
      const symbols = new Map(
        [...run('nm', elf).matchAll(/^([0-9a-f]+) \w (\S+)$/gm)].map(([, at, name]) => [name, BigInt(`0x${at}`)]),
      );
      const names = {
        'machine::Device::tick': ['_ZN7machine6Device4tickEi'],
        tick: ['_ZN7machine6Device4tickEi'],
        'machine::run': ['_ZN7machine3runEv'],
        'machine::twice<int>': ['_ZN7machine5twiceIiEET_S1_'],
        'machine::(anonymous namespace)::hidden': ['_ZN7machine12_GLOBAL__N_16hiddenEi'],
        _start: ['_start'],
        'other::run': [],
      };
      for (const [name, mangled] of Object.entries(names)) {
        const expected = mangled.map((each) => symbols.get(each));
        assert.deepEqual(program.functionsNamed(name), expected, name);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
