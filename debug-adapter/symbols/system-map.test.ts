// Expected values: nm's own list of a program, read here, must name the same functions as the program's symbol table.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from './byte-reader.ts';
import { memoryFile } from './file-image.ts';
import { Program } from './program.ts';
import { isSystemMap } from './system-map.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const KERNEL = `0000000000000000 A fixed_percpu_data
000000000001a000 d percpu_data
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000060 t verify_cpu
ffffffff81000140 T __start_kernel
ffffffff82000000 D jiffies
ffffffff83000000 B _end
ffffffffc0001000 t module_function\t[kvm]
`;

describe('System.map', () => {
  it('names functions up to the next one, and data, inside the kernel image', () => {
    const program = new Program('System.map', '/boot/System.map', bytes(KERNEL));
    assert.equal(program.functionAt(0xffff_ffff_8100_0065n)?.name, 'verify_cpu');
    assert.equal(program.functionAt(0xffff_ffff_8100_013fn)?.name, 'verify_cpu');
    assert.deepEqual(program.symbolAt(0xffff_ffff_8200_0008n), { name: 'jiffies', offset: 8n });
    assert.equal(program.symbolAt(0x1a_000n), undefined, 'per-processor offsets are no places');
    assert.ok(program.contains(0xffff_ffff_8100_0000n) && !program.contains(0xffff_ffff_8300_0000n));
    assert.equal(program.symbolNamed('__start_kernel')?.address, 0xffff_ffff_8100_0140n);
  });

  it('names what /proc/kallsyms lists of modules, outside of the kernel image', () => {
    const program = new Program('kallsyms', '/kallsyms', bytes(KERNEL));
    assert.equal(program.functionAt(0xffff_ffff_c000_1008n)?.name, 'module_function');
    assert.ok(program.contains(0xffff_ffff_c000_1008n) && !program.contains(0xffff_ffff_c000_0ff8n));
  });

  it('leaves offsets into each processor’s own data as they are, wherever the kernel is', () => {
    const ends = '0000000000034000 D __per_cpu_end\n';
    const list = bytes(KERNEL.replace('0000000000000000 A fixed', '0000000000000000 D __per_cpu_start\n$&') + ends);
    const program = new Program('System.map', '/boot/System.map', list, 0xffff_ffff_9100_0000n);
    assert.equal(program.symbolNamed('percpu_data')?.address, 0x1a_000n);
    assert.equal(program.symbolNamed('jiffies')?.address, 0xffff_ffff_9200_0000n);
    assert.ok(!program.contains(0x1a_000n));
  });

  it('gives what the symbol table gives, from nm’s list of a program', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmxray-map-'));
    try {
      const [source, elf] = [join(folder, 'a.c'), join(folder, 'a.elf')];
      writeFileSync(
        source,
        'int f(int x) { return x + 1; }\nint g(int x) { return f(x) * 2; }\nvoid _start(void) { g(1); }\n',
      );
      const link = ['-nostdlib', '-static', '-no-pie', '-fno-asynchronous-unwind-tables', '-Wl,-Ttext=0x400000'];
      execFileSync('gcc', ['-O0', ...link, '-o', elf, source], { stdio: 'pipe' });
      const real = new Program('elf', elf, readFileSync(elf));
      const functions = ['f', 'g', '_start'].map((name) => real.symbolNamed(name)?.address ?? 0n);
      for (const options of [['-n'], ['-S'], []]) {
        // As nm prints a symbol that another file has.
        const list = bytes(`                 U elsewhere\n${execFileSync('nm', [...options, elf])}`);
        assert.ok(isSystemMap(memoryFile(list)));
        const map = new Program('map', '/map', list);
        for (const start of functions) {
          assert.equal(map.functionAt(start + 1n)?.name, real.functionAt(start + 1n)?.name);
        }
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('says what is wrong with a file', () => {
    const problem = (text: string): string => {
      try {
        new Program('map', '/map', bytes(text));
      } catch (error) {
        if (error instanceof FormatError) return error.message;
      }
      return 'none';
    };
    assert.match(problem(`${KERNEL}what is this\n`), /line 10 is not "address kind name"/);
    // Debian's package without symbols has only this line.
    const standIn = 'ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n';
    assert.match(problem(standIn), /not an ELF file/);
    assert.match(problem('0000000000000000 A nothing\n'), /no symbol has an address/);
  });
});
