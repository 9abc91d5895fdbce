// Expected values: the lists that the test's own kernel holds, whose structures are named as Linux 6.1 names them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { loadTarget, type Target } from '../running/target.ts';

/** Two modules, of which the second one still runs its start function. */
const KERNEL = `
struct list_head { struct list_head *next, *prev; };
struct attribute { const char *name; unsigned short mode; };
struct bin_attribute { struct attribute attr; unsigned long size; };
struct module_sect_attr { struct bin_attribute battr; unsigned long address; };
struct module_sect_attrs { void *grp; unsigned nsections; struct module_sect_attr attrs[3]; };
enum module_state { MODULE_STATE_LIVE, MODULE_STATE_COMING };
struct module {
  enum module_state state;
  struct list_head list;
  char name[56];
  struct module_sect_attrs *sect_attrs;
};
#define SECTIONS(at) { 0, 3, { { { { ".text", 0 }, 0 }, at }, { { { ".data", 0 }, 0 }, at + 0x1000 }, \\
                               { { { ".init.text", 0 }, 0 }, at + 0x2000 } } }
static struct module_sect_attrs first_sections = SECTIONS(0x300000), second_sections = SECTIONS(0x400000);
extern struct module first, second;
struct list_head modules = { &second.list, &first.list };
struct module second = { MODULE_STATE_COMING, { &first.list, &modules }, "second", &second_sections };
struct module first = { MODULE_STATE_LIVE, { &modules, &second.list }, "the_first", &first_sections };
void _start(void) { for (;;) __asm__ volatile("hlt"); }
`;
const MODULE = `
char info[] __attribute__((section(".modinfo"))) = "license=none\\0name=NAME";
int value = 1;
__attribute__((section(".init.text"))) int begin(void) { return value; }
int work(int x) { return x + value; }
`;

describe('modules of a Linux kernel', () => {
  let folder: string;
  const file = (name: string): string => join(folder, name);
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-modules-'));
    const gcc = (...args: string[]): void => {
      execFileSync('gcc', ['-ffreestanding', '-fno-pic', '-fcf-protection=none', '-O1', '-g', ...args], {
        stdio: 'pipe',
      });
    };
    writeFileSync(file('kernel.c'), KERNEL);
    gcc('-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x100000', '-o', file('kernel'), file('kernel.c'));
    for (const [path, name] of Object.entries({ 'first-module': 'the_first', second: 'second', third: 'third' })) {
      writeFileSync(file(`${path}.c`), MODULE.replace('NAME', name));
      gcc('-c', '-o', file(`${path}.ko`), file(`${path}.c`));
    }
  });
  after(() => rmSync(folder, { recursive: true }));

  const launch = (symbols: readonly string[]): Promise<Target> =>
    loadTarget({ readFile: async (path) => readFileSync(path) }, createMachine, {
      program: file('kernel'),
      symbols: symbols.map((name) => ({ path: file(name), loadAddress: 'auto' })),
      machine: { memory: '16M' },
    });

  it('are found by the names that they call themselves, at the addresses that the kernel tells', async () => {
    const target = await launch(['first-module.ko', 'second.ko', 'third.ko']);
    assert.equal(target.symbolName('vmm', 0x30_0000n), undefined);
    const found = target.locatePrograms();
    assert.deepEqual(found.map(({ program }) => program.name).sort(), ['first-module.ko', 'second.ko']);
    const work = found.map(({ program }) => program.symbolNamed('work')?.address ?? 0n);
    assert.deepEqual(work.map((address) => address - (address % 0x1000n)).sort(), [0x30_0000n, 0x40_0000n]);
    assert.equal(target.functionAt('vmm', work[0] ?? 0n)?.name, 'work');
    assert.ok(target.lineAt('vmm', work[0] ?? 0n)?.file.endsWith('.c'));
    assert.equal(target.symbolName('vmm', 0x30_1000n), 'value');
    assert.deepEqual(target.locatePrograms(), [], 'they are still there');
  });

  it('have start functions as long as they start', async () => {
    const target = await launch(['first-module.ko', 'second.ko']);
    target.locatePrograms();
    assert.equal(target.symbolName('vmm', 0x40_2000n), 'begin');
    assert.equal(target.symbolName('vmm', 0x30_2000n), undefined);
  });

  it('are not found without a kernel', async () => {
    const target = await launch(['third.ko']);
    assert.deepEqual(target.locatePrograms(), []);
    target.machine.physical.write64(Number(target.programs.at(-1)?.program.symbolNamed('modules')?.address), 0n);
    assert.deepEqual(target.locatePrograms(), [], 'and not in a list that is damaged');
  });
});
