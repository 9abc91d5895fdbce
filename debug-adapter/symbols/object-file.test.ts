// Expected values: what binutils' linker made of the same object file, as nm and readelf list it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FormatError } from './byte-reader.ts';
import { Program } from './program.ts';

const SOURCE = `
int counter = 3;
int table[16];
__attribute__((section(".init.text"))) int start(int x) { return x + counter; }
static int twice(int x) {
  return 2 * x;
}
__attribute__((noinline)) int module_function(int count) {
  int total = counter;
  for (int i = 0; i < count; i++)
    total += twice(table[i & 15]);
  return total;
}
`;
const ADDRESSES = [
  '-Ttext=0x40001000',
  '-Tdata=0x40020000',
  '-Tbss=0x40030000',
  '--section-start=.init.text=0x40040000',
];

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

for (const options of [
  ['-O0', '-gdwarf-5'],
  ['-O2', '-gdwarf-5'],
  ['-O2', '-gdwarf-4', '-fno-asynchronous-unwind-tables'],
  ['-O2', '-gdwarf-5', '-gz=zlib'],
]) {
  describe(`an object file compiled with ${options.join(' ')}`, () => {
    let folder: string;
    let places: Map<string, bigint>;
    const file = (name: string): string => join(folder, name);
    const placed = (at: Map<string, bigint> | bigint): Program =>
      new Program('module', file('module.o'), readFileSync(file('module.o')), at);

    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'vmxray-object-'));
      writeFileSync(file('module.c'), SOURCE);
      run(
        'gcc',
        '-c',
        '-ffreestanding',
        '-fcf-protection=none',
        '-fno-pic',
        ...options,
        '-o',
        file('module.o'),
        file('module.c'),
      );
      run('ld', '-e', 'start', ...ADDRESSES, '-o', file('linked.elf'), file('module.o'));
      const sections = run('readelf', '-SW', file('linked.elf')).matchAll(/\] (\.\S+)\s+\w+\s+([0-9a-f]{16})/g);
      places = new Map([...sections].map(([, name = '', address]) => [name, BigInt(`0x${address}`)]));
    });
    after(() => rmSync(folder, { recursive: true }));

    it('has its symbols where the linker put them', () => {
      const program = placed(places);
      const symbols = run('nm', file('linked.elf')).matchAll(
        /^([0-9a-f]+) [tTdDbB] (counter|table|start|module_function)$/gm,
      );
      const found = [...symbols].map(([, address, name = '']) => [name, BigInt(`0x${address}`)] as const);
      assert.equal(found.length, 4);
      for (const [name, address] of found) assert.equal(program.symbolNamed(name)?.address, address, name);
    });

    it('has its lines, frames and variables there, too', () => {
      const program = placed(places);
      const rows = [
        ...run('readelf', '--debug-dump=decodedline', '-W', file('linked.elf')).matchAll(
          /^module\.c\s+(\d+)\s+(0x[0-9a-f]+)(?:\s+\d+)?\s+x$/gm,
        ),
      ];
      assert.ok(rows.length > 4);
      for (const [, line, address = ''] of rows) {
        assert.ok(program.codeLines('module.c', Number(line), Number(line)).length === 1, `line ${line} has code`);
        assert.ok(program.lineAt(BigInt(address))?.file.endsWith('/module.c'), address);
      }
      const start = program.symbolNamed('module_function')?.address ?? 0n;
      assert.deepEqual(
        program.activationsAt(start).map(({ name }) => name),
        ['module_function'],
      );
      assert.equal(program.frameRules(start) !== undefined, hasFrames(file('module.o')));
      assert.equal(program.scopes.globalNamed('counter', start)?.name, 'counter');
      assert.deepEqual(program.problems, []);
    });

    it('does without the sections that nobody has loaded', () => {
      const program = placed(places.get('.text') ?? 0n);
      assert.equal(program.symbolNamed('start'), undefined);
      assert.equal(
        program.symbolNamed('module_function')?.address,
        placed(places).symbolNamed('module_function')?.address,
      );
      assert.ok(program.contains(places.get('.text') ?? 0n));
      assert.ok(!program.contains(places.get('.data') ?? 0n));
    });
  });
}

const hasFrames = (path: string): boolean => /\.(debug|eh)_frame\b/.test(run('readelf', '-SW', path));

it('an object file of 32 bits is refused', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-object-'));
  try {
    const [source, object] = [join(folder, 'a.S'), join(folder, 'a.o')];
    writeFileSync(source, 'nop\n');
    run('gcc', '-m32', '-c', '-o', object, source);
    assert.throws(() => new Program('a', object, readFileSync(object)), FormatError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
