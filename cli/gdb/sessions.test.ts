// What Debian's gdb does with several processors, with a program that never ends, and without a file of its own.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { elf64 } from '../../test/dap/sample.ts';
import { type GdbServer, HAS_GDB, type Interrupts, runGdb, startServer } from '../../test/support/gdb.ts';
import { assemble, KERNELS, type Kernel } from '../../test/system/kernels.ts';

const SAMPLE = path.join(import.meta.dirname, '../../examples/first-vmm');
const LOOP = `
volatile unsigned long counter, input = 5, both;
static void count(void) { counter++; }
static unsigned long look(void) { return input; }
static void change(unsigned long value) { both = both + value; }
void _start(void) {
  __asm__ volatile("lea stack_top(%rip), %rsp");
  for (;;) { count(); change(look()); }
}
__asm__(".bss; .skip 4096; stack_top: .text");
`;
const FLAGS = '-g -O0 -ffreestanding -fcf-protection=none -nostdlib -static -no-pie'.split(' ');
const LINK = '-Wl,-Ttext-segment=0x200000,--build-id=none';

describe('gdb connected to vmxray gdb', function () {
  this.timeout(60_000);
  let folder: string;
  let loop: string;
  let server: GdbServer | undefined;
  before(function () {
    if (!HAS_GDB) this.skip();
    folder = mkdtempSync(path.join(tmpdir(), 'vmxray-gdb-'));
    loop = path.join(folder, 'loop.elf');
    writeFileSync(path.join(folder, 'loop.c'), LOOP);
    execFileSync('gcc', [...FLAGS, LINK, '-o', loop, path.join(folder, 'loop.c')], { stdio: 'pipe' });
  });
  afterEach(() => {
    server?.process.kill();
  });
  after(() => {
    if (folder) rmSync(folder, { recursive: true });
  });

  /** Without a file of its own, unless the server is there already. */
  async function session(
    image: readonly string[],
    commands: readonly string[],
    more: Interrupts = [],
  ): Promise<string> {
    server = await startServer(...image);
    return runGdb(server, undefined, commands, more);
  }

  it('reads the program from the server', async () => {
    const text = await session([loop], ['info address count', 'break count', 'continue', 'backtrace 1', 'finish']);
    assert.match(text, /Reading symbols from target:.*loop\.elf/);
    assert.match(text, /Symbol "count" is a function at address 0x20\w+/);
    assert.match(text, /Breakpoint 1, count \(\) at .*loop\.c:3/);
    assert.match(text, /\n0x\w+ in _start \(\) at/);
  });

  it('interrupts what runs with Ctrl-C, and goes on from there', async () => {
    const commands = ['echo Running\\n', 'continue', 'print counter > 10'];
    // The interrupt may come between the load of the counter and its store.
    const reset = ['tbreak count', 'continue', 'set variable counter = 0'];
    const text = await session(
      [loop],
      [...commands, ...reset, 'break count if counter > 3', 'continue', 'print counter'],
      [{ after: /Running/ }],
    );
    assert.match(text, /Program received signal SIGINT, Interrupt\.\n/);
    assert.match(text, /\$1 = 1\n/);
    assert.match(text, /\$2 = 4\n/);
  });

  it('watches reads, writes and both in hardware, in both directions', async () => {
    const watches = ['rwatch input', 'awatch both', 'continue', 'continue', 'continue', 'delete', 'watch counter'];
    const back = ['continue', 'continue', 'reverse-continue', 'delete', 'hbreak look', 'continue'];
    const text = await session([loop], [...watches, ...back]);
    assert.match(text, /Hardware read watchpoint 1: input\n\nValue = 5\nlook \(\)/);
    assert.match(text, /Hardware access \(read\/write\) watchpoint 2: both\n\nValue = 0\n/);
    assert.match(text, /Hardware access \(read\/write\) watchpoint 2: both\n\nOld value = 0\nNew value = 5\n/);
    const changes = [...text.matchAll(/watchpoint 3: counter\n\nOld value = (\d)\nNew value = (\d)/g)];
    assert.deepEqual(
      changes.map(([, from, to]) => `${from} ${to}`),
      ['1 2', '2 3', '3 2'],
    );
    assert.match(text, /Breakpoint 4, look \(\)/);
  });

  it('leaves, and finds the machine where it was when it comes again', async () => {
    const first = await session([loop], ['break change', 'continue', 'print $pc', 'detach', 'print 1']);
    assert.match(first, /Inferior 1 \(Remote target\) detached/);
    const stopped = /\(void \(\*\)\(\)\) (0x\w+) <change/.exec(first)?.[1];
    assert.ok(stopped);
    const second = await runGdb(server as GdbServer, undefined, ['print $pc', 'watch both', 'continue', 'kill']);
    assert.ok(second.includes(`= (void (*)()) ${stopped} <change`), second);
    assert.match(second, /New value = 5/);
    assert.equal(await server?.ended, 0);
  });

  it('may be killed while the machine runs: the next one finds none of its breakpoints', async () => {
    server = await startServer(loop);
    const commands = [`target remote 127.0.0.1:${server.port}`, 'break count', 'ignore 1 1000000000', 'continue'];
    const first = spawn('gdb', ['-nx', '-batch', ...commands.flatMap((each) => ['-ex', each])], { stdio: 'ignore' });
    await new Promise((resolve) => {
      setTimeout(resolve, 2000);
    });
    first.kill('SIGKILL');
    const text = await runGdb(server, undefined, ['tbreak change', 'continue', 'info breakpoints', 'stepi', 'stepi']);
    assert.match(text, /Temporary breakpoint 1, change/);
    assert.match(text, /No breakpoints or watchpoints/);
    assert.doesNotMatch(text, /SIGTRAP/);
  });

  it('sees processors as threads, in real-address mode too, and steps each', async () => {
    const image = path.join(folder, 'smp.elf');
    writeFileSync(image, assemble(KERNELS.find(({ name }) => name === 'smp') as Kernel));
    const threads = ['info threads', 'x/2i $pc', 'stepi', 'print/x $pc', 'continue', 'delete'];
    const stepping = ['thread 2', 'print/x $cs', 'set scheduler-locking on', 'stepi', 'thread apply all print $cr0'];
    const text = await session(
      [image, '--cpus', '4', '--memory', '64M'],
      // Where the kernel's start-up IPIs start the others: MOV AX, CS.
      ['break *0x8000', 'continue', ...threads, ...stepping],
    );
    assert.match(text, /Thread 2 "processor 1" hit Breakpoint 1, 0x0*8000 in/);
    assert.match(text, /\n {2}4 +Thread 4 "processor 3" \(wait-for-SIPI, not in a guest\) 0x0*fffffff0 in/);
    assert.match(text, /=> 0x8000:\tmov +%cs,%eax\n/);
    assert.match(text, /\$1 = 0x8002\n/);
    assert.match(text, /Thread 3 "processor 2" hit Breakpoint 1/);
    assert.equal([...text.matchAll(/= \[ (PE )?ET/g)].length, 4);
  });

  it('goes back over a VM exit into the guest, and on into the hypervisor again', async () => {
    const vmm = path.join(SAMPLE, 'first-vmm.elf');
    const back = ['reverse-stepi', 'monitor position', 'info threads', 'print $vmcs_guest_rip', 'stepi'];
    const text = await session(
      [vmm, '--module', path.join(SAMPLE, 'guest.elf')],
      ['break vm_exit_entry', 'continue', 'continue', ...back, 'reverse-continue', 'monitor position', 'continue'],
    );
    assert.equal([...text.matchAll(/Breakpoint 1, vm_exit_entry/g)].length, 5);
    assert.match(text, /in the past: it has been as far as \d+\nprocessor 0: VMX non-root operation/);
    assert.match(text, /\* 1 +Thread 1 "processor 0" \(active, in the guest\) 0x0*4000\w{4} in/);
    // Two stops, one instruction back, and the first stop again.
    const places = [...text.matchAll(/^instruction (\d+),/gm)].map(([, instruction]) => Number(instruction));
    assert.ok((places[0] ?? 0) > (places[1] ?? 0), `${places}`);
  });

  it('reads and writes system registers', async () => {
    const set = ['set $fs_base = 0x1234', 'set $cr3 = 0x105000', 'set $efer = $efer | 1', 'set $cr4 = $cr4 | 0x200'];
    const show = ['fs_base', 'cr3', 'efer', 'cr4', 'gdtr_limit'].map((name) => `output $${name}`);
    const commands = [...set, ...show.flatMap((each) => [each, 'echo \\n'])];
    const text = await session(
      [path.join(SAMPLE, 'first-vmm.elf'), '--module', path.join(SAMPLE, 'guest.elf')],
      commands,
    );
    // The image is loaded by multiboot: in protected mode, without paging.
    assert.match(text, /^4660\n1069056\n\[ SCE \]\n\[ OSFXSR \]\n\d+$/m);
    assert.doesNotMatch(text, /Invalid|Could not/);
  });

  it('sets registers of the x87, and the machine computes with them', async () => {
    const image = path.join(folder, 'x87.elf');
    // fninit; fld1; fld1; faddp; sub rsp, 16; fstp qword [rsp]; jmp $
    const add = [0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xe8, 0xde, 0xc1, 0x48, 0x83, 0xec, 0x10, 0xdd, 0x1c, 0x24, 0xeb, 0xfe];
    // mov esp, 180000h
    writeFileSync(image, elf64([0xbc, 0, 0, 0x18, 0, ...add]));
    const set = ['set $st0 = 0.75', 'set $st1 = -8', 'print $st0', 'print $st1', 'print $ftag', 'print/x $fctrl'];
    const compute = ['stepi', 'print $st0', 'set $fctrl = 0x27f', 'print/x $fctrl', 'stepi', 'stepi', 'x/fg $rsp'];
    const undone = ['reverse-stepi', 'print $ftag == 0xffff', 'set $ftag = 0xffff', 'print $ftag'];
    const steps = Array.from({ length: 4 }, () => 'stepi');
    const text = await session([image], [...steps, ...set, ...compute, ...undone]);
    const values = [...text.matchAll(/^\$\d+ = (.*)$/gm)].map(([, value]) => value);
    assert.deepEqual(values, ['0.75', '-8', '4095', '0x37f', '-7.25', '0x27f', '0', '65535'], text);
    assert.match(text, /^0x17fff0:\t-7\.25$/m);
    assert.doesNotMatch(text, /Could not|Invalid/);
  });

  it('saves the machine, goes back to it, and is told what is wrong with a file', async () => {
    const file = path.join(folder, 'counted to 3.vmxsnap');
    const saved = ['break count if counter == 3', 'continue', `monitor snapshot ${file}`, 'delete'];
    const later = ['break look if counter == 7', 'continue', 'print counter', `monitor restore ${file}`];
    const again = ['info symbol $pc', 'print counter', 'continue', 'print counter', 'delete'];
    const wrong = ['reverse-continue', `monitor restore ${loop}`, 'monitor snapshot', 'monitor snapshot /nowhere/x'];
    // gdb knows of no way in which a server may change what gdb has read: docs/clients.md has this hook.
    const flush = ['maintenance flush register-cache', 'maintenance flush dcache'];
    const script = path.join(folder, 'init.gdb');
    writeFileSync(script, ['define hookpost-monitor', ...flush, 'end'].join('\n'));
    const hook = [`source ${script}`];
    const text = await session([loop, '--memory', '16M'], [...hook, ...saved, ...later, ...again, ...wrong]);
    assert.match(
      text,
      /saved the machine at instruction (\d+) in .*, state [0-9a-f]{16}\n[\s\S]*restored .*, instruction \1:/,
    );
    assert.deepEqual(
      [...text.matchAll(/^\$\d = (\d)$/gm)].map(([, value]) => value),
      ['7', '3', '7'],
    );
    assert.match(text, /^count \+ 4 in section \.text/m);
    assert.match(text, /No more reverse-execution history/);
    assert.match(text, /restore FILE: cannot go on from .*loop.elf: it is no snapshot of VMXray/);
    assert.match(text, /snapshot FILE: a file is missing\nsnapshot FILE: .*no such file/i);
  });

  it('is told of the monitor commands', async () => {
    const text = await session([loop], ['monitor help', 'monitor registers cr0', 'monitor nonsense']);
    for (const command of [
      'vmcs [GROUP|FIELD]',
      'ept ADDRESS',
      'translate ADDRESS',
      'stop-on-exit',
      'position',
      'snapshot FILE',
      'restore FILE',
    ]) {
      assert.ok(text.includes(`\n${command} `) || text.includes(`${command} `), command);
    }
    assert.match(text, /cr0 = 0x\w+ .*PE/);
    assert.match(text, /no command 'nonsense'; monitor help lists them/);
  });
});
