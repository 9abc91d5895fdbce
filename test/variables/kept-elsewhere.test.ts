// Expected values: what gdb shows of the same program where gdb 13 reads the form; of split units, which it misreads,
// what the same code shows that was compiled in one piece, which variables.test.ts holds to gdb.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCompanions } from '../../debug-adapter/symbols/companions.ts';
import { memoryFile } from '../../debug-adapter/symbols/file-image.ts';
import { Program } from '../../debug-adapter/symbols/program.ts';
import { isThere } from '../support/programs.ts';
import { gdbStops, normalEach, ownStops, type ShownStop } from './against-gdb.ts';

const FLAGS = '-g -O2 -ffreestanding -fno-stack-protector -fcf-protection=none -nostdlib -static -no-pie'.split(' ');
const LINK = '-Wl,-Ttext-segment=0x200000,--build-id=sha1';
const STEPS = [19, ...Array.from({ length: 24 }, (_, index) => 7 * index + 5)];

interface Form {
  readonly name: string;
  readonly compiler: string;
  readonly options: readonly string[];
  readonly source?: string;
  /** What is done to the program in its folder. */
  readonly finish?: (run: (command: string, ...args: string[]) => void, identifier: () => string) => void;
  /** gdb 13 fails on it, or shows less. */
  readonly gdbFails?: boolean;
  /** In reports, when what is elsewhere has been removed. */
  readonly missing?: RegExp;
}

/** Each named where it is called, so that it is seen which tool a form needs. */
const PACKERS: Readonly<Record<'dwp' | 'llvm-dwp', NonNullable<Form['finish']>>> = {
  dwp: (run) => run('sh', '-c', 'dwp -e program.elf -o program.elf.dwp && rm *.dwo'),
  'llvm-dwp': (run) => run('sh', '-c', 'llvm-dwp -e program.elf -o program.elf.dwp && rm *.dwo'),
};

const cpp = { source: 'sample.cc' };
const noRuntime = ['-fno-exceptions', '-fno-rtti'];
const forms: readonly Form[] = [
  { name: 'compressed with zlib', compiler: 'gcc', options: ['-gz=zlib'] },
  {
    name: 'compressed with zstd',
    compiler: 'gcc',
    options: [],
    finish: (run) => run('objcopy', '--compress-debug-sections=zstd', 'program.elf'),
  },
  { name: 'compressed with zlib, the older way', compiler: 'gcc', options: ['-gz=zlib-gnu'] },
  ...['-gdwarf-4', '-gdwarf-5'].flatMap((version): Form[] => [
    { name: `type units, gcc ${version}`, compiler: 'gcc', options: ['-fdebug-types-section', version] },
    { name: `type units, clang ${version}`, compiler: 'clang', options: ['-fdebug-types-section', version] },
    ...['gcc', 'clang'].map(
      (compiler): Form => ({
        name: `split units, ${compiler} ${version}`,
        compiler,
        options: ['-gsplit-dwarf', version],
        gdbFails: true,
        missing: /variables and types are in .*sample\.dwo.* not found beside it/,
      }),
    ),
    {
      name: `split units with type units, gcc ${version}`,
      compiler: 'gcc',
      options: ['-gsplit-dwarf', '-fdebug-types-section', version],
      gdbFails: true,
    },
  ]),
  { name: 'type units, C++', compiler: 'g++', options: ['-fdebug-types-section', ...noRuntime], ...cpp },
  { name: 'split units, C++', compiler: 'clang++', options: ['-gsplit-dwarf', ...noRuntime], ...cpp, gdbFails: true },
  { name: 'an index of names, clang', compiler: 'clang', options: ['-gpubnames'] },
  {
    name: 'a package of split units, DWARF 4',
    compiler: 'gcc',
    options: ['-gsplit-dwarf', '-gdwarf-4'],
    finish: PACKERS.dwp,
    gdbFails: true,
    missing: /variables and types are in .*sample\.dwo/,
  },
  {
    name: 'a package of split units, DWARF 5',
    compiler: 'clang',
    options: ['-gsplit-dwarf'],
    finish: PACKERS['llvm-dwp'],
    gdbFails: true,
  },
  ...(
    [
      ['gcc', '-gdwarf-4', 'dwp'],
      ['gcc', '-gdwarf-5', 'llvm-dwp'],
      ['clang', '-gdwarf-4', 'dwp'],
      ['clang', '-gdwarf-5', 'llvm-dwp'],
    ] as const
  ).map(
    ([compiler, version, packer]): Form => ({
      name: `a package of split units with type units, ${compiler} ${version}, ${packer}`,
      compiler,
      options: ['-gsplit-dwarf', '-fdebug-types-section', version],
      finish: PACKERS[packer],
      gdbFails: true,
    }),
  ),
  {
    name: 'a file that the program names',
    compiler: 'gcc',
    options: [],
    finish: (run) => {
      run('objcopy', '--only-keep-debug', 'program.elf', 'kept.debug');
      run('objcopy', '--strip-all', '--add-gnu-debuglink=kept.debug', 'program.elf');
    },
    missing: /debug information is in kept\.debug, which is in none of: /,
  },
  {
    name: 'a file that the build identifier names',
    compiler: 'gcc',
    options: [],
    finish: (run, identifier) => {
      const [folder, file] = [`.build-id/${identifier().slice(0, 2)}`, `${identifier().slice(2)}.debug`];
      run('mkdir', '-p', folder);
      run('objcopy', '--only-keep-debug', 'program.elf', `${folder}/${file}`);
      run('strip', 'program.elf');
    },
    gdbFails: true,
  },
  {
    name: 'a file that it shares with another program',
    compiler: 'gcc',
    options: [],
    finish: (run) => {
      run('cp', 'program.elf', 'other.elf');
      run('dwz', '-m', 'shared.debug', 'program.elf', 'other.elf');
    },
    missing: /shares debug information with other programs in shared\.debug \(dwz\), which was not found/,
  },
];

/** gcc leaves out in split units which variable a pointer without a value points to. */
const withoutPointees = (stops: readonly ShownStop[]): unknown =>
  JSON.parse(JSON.stringify(stops, (name, value) => (name === '*' ? '' : value)));

/** Reads a program with what belongs to it. */
async function read(path: string): Promise<Program> {
  const open = async (other: string): Promise<ReturnType<typeof memoryFile> | undefined> => {
    try {
      return memoryFile(readFileSync(other));
    } catch {
      return undefined;
    }
  };
  const image = memoryFile(readFileSync(path));
  return new Program('program.elf', path, image, undefined, undefined, await openCompanions(path, image, open));
}

describe('variables of programs whose debug information is elsewhere', function () {
  this.timeout(60_000);
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'vmxray-elsewhere-'));
  });
  after(() => rmSync(root, { recursive: true }));

  function build(folder: string, { compiler, options, source = 'sample.c' }: Form): string {
    mkdirSync(folder);
    const sources = ['start.S', source].map((file) => join(import.meta.dirname, file));
    const args = [...FLAGS, ...options, LINK, '-o', 'program.elf', ...sources];
    execFileSync(compiler, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    return join(folder, 'program.elf');
  }

  function finish(folder: string, { finish: work }: Form): void {
    const run = (command: string, ...args: string[]): void => {
      execFileSync(command, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    };
    const notes = (): string => execFileSync('readelf', ['-n', 'program.elf'], { cwd: folder, encoding: 'utf8' });
    work?.(run, () => /Build ID: (\w+)/.exec(notes())?.[1] ?? '');
  }

  function fromGdb(program: string, own: readonly ShownStop[]): ShownStop[] {
    const stops = gdbStops(program, STEPS, join(root, 'gdb.json'));
    return stops.map((stop, index) => ({
      ...stop,
      frames: stop.frames.map(({ name, pc, variables }, depth) => {
        const frame = own[index]?.frames[depth];
        // Of a lambda gdb leaves out where it is.
        const full = frame?.name.endsWith(`::${name}`) ? frame.name : name;
        return { name: full, pc, variables: normalEach(variables, frame?.variables ?? {}) };
      }),
    }));
  }

  for (const [number, form] of forms.entries()) {
    it(`are those of the program: ${form.name}`, async function () {
      const tools = [
        form.compiler,
        ...['dwz', 'llvm-dwp', 'dwp'].filter((tool) => String(form.finish).includes(`'${tool}`)),
      ];
      if (!tools.every(isThere)) this.skip();
      const folder = join(root, String(number));
      const program = build(folder, form);
      finish(folder, form);
      const own = await ownStops(program, STEPS);
      assert.deepEqual((await read(program)).problems, []);
      assert.ok(own.flatMap(({ frames }) => frames).some(({ variables }) => Object.keys(variables).length > 1));
      const options = form.options.filter((option) => option !== '-gsplit-dwarf' && option !== '-fdebug-types-section');
      const plain = (): string => build(join(root, `${number}-plain`), { ...form, options });
      const expected = form.gdbFails ? await ownStops(plain(), STEPS) : fromGdb(program, own);
      const isLeftOut = form.compiler === 'gcc' && form.options.includes('-gsplit-dwarf');
      if (isLeftOut) assert.deepEqual(withoutPointees(own), withoutPointees(expected));
      else assert.deepEqual(own, expected);
    });
  }

  for (const [number, form] of forms.entries()) {
    if (!form.missing) continue;
    it(`are told to be missing: ${form.name}`, async function () {
      if (!isThere('dwz') || !isThere('dwp')) this.skip();
      const folder = join(root, `${number}-missing`);
      const program = build(folder, form);
      finish(folder, form);
      execFileSync('sh', ['-c', 'rm -rf *.dwo *.dwp *.debug'], { cwd: folder });
      const found = await read(program);
      assert.match(found.problems.join('\n'), form.missing ?? /./);
      // The rest works.
      const [stop] = await ownStops(program, [2000]);
      assert.ok(stop);
      assert.equal(found.symbolNamed('_start') !== undefined, form.name !== 'a file that the program names');
    });
  }

  it('are told to be compressed with zstd where the host cannot decompress it', async () => {
    const folder = join(root, 'zstd');
    const program = build(folder, { name: 'zstd', compiler: 'gcc', options: [] });
    execFileSync('objcopy', ['--compress-debug-sections=zstd', program]);
    const { getBuiltinModule } = process;
    // As Node 20 and browsers.
    Object.assign(process, { getBuiltinModule: undefined });
    try {
      const found = await read(program);
      const told = /compressed with zstd, which nothing here can decompress: objcopy --decompress-debug-sections/;
      assert.match(found.problems.join('\n'), told);
      assert.ok(found.functions.some(({ name }) => name === 'main'));
    } finally {
      Object.assign(process, { getBuiltinModule });
    }
  });

  it('are not taken from the file of another build', async () => {
    const folder = join(root, 'other-build');
    const program = build(folder, { name: 'own', compiler: 'gcc', options: ['-O1'] });
    const other = build(join(root, 'other'), { name: 'other', compiler: 'gcc', options: ['-O0'] });
    execFileSync('objcopy', ['--only-keep-debug', other, join(folder, 'kept.debug')]);
    execFileSync('objcopy', ['--strip-all', '--add-gnu-debuglink=kept.debug', program], { cwd: folder });
    assert.match((await read(program)).problems.join('\n'), /kept\.debug is not used: it belongs to another build/);
  });
});
