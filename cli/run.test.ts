import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const CLI = path.join(import.meta.dirname, 'main.ts');

/** 32-bit machine code, piece by piece. */
const outByte = (port: number, value: number): number[] => [
  ...[0x66, 0xba, port & 0xff, port >> 8], // mov dx, port
  ...[0xb0, value, 0xee], // mov al, value; out dx, al
];
const print = (text: string): number[] => [...text].flatMap((character) => outByte(0x3f8, character.charCodeAt(0)));
const SPIN = [0xeb, 0xfe];
const powerOff = [...'Shutdown'].flatMap((character) => outByte(0x8900, character.charCodeAt(0)));
/** Sends received bytes back until a '.' has come, then exits with 7. */
const ECHO = [
  ...[0x66, 0xba, 0xfd, 0x03], // again: mov dx, 3FDh
  ...[0xec, 0xa8, 0x01, 0x74, 0xfb], // wait: in al, dx; test al, 1; jz wait
  ...[0x66, 0xba, 0xf8, 0x03], // mov dx, 3F8h
  ...[0xec, 0xee, 0x3c, 0x2e, 0x75, 0xed], // in al, dx; out dx, al; cmp al, '.'; jne again
  ...[...outByte(0xf4, 7)],
];

describe('vmxray run', function () {
  // Each test starts processes, which takes its time on a busy machine.
  this.timeout(60_000);
  let folder = '';
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'vmxray-cli-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function vmxray(args: readonly string[], input = '') {
    const options = { encoding: 'latin1', input, timeout: 60_000 } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], options);
    return { status, stdout, stderr };
  }
  function runCode(code: readonly number[], args: readonly string[] = [], input = '') {
    const file = path.join(folder, 'code.bin');
    writeFileSync(file, Uint8Array.from(code));
    return vmxray(['run', file, '--format', 'flat', '--memory', '2M', ...args], input);
  }

  it('prints what the guest sends, and ends with 0 when it powers off', () => {
    assert.deepEqual(runCode([...print('hello\n'), ...powerOff]), { status: 0, stdout: 'hello\n', stderr: '' });
  });

  it('ends with (v << 1) | 1 when the guest writes v to isa-debug-exit', () => {
    assert.equal(runCode([...outByte(0xf4, 0x10), ...SPIN]).status, 0x21);
  });

  it('gives the guest standard input', () => {
    assert.deepEqual(runCode(ECHO, [], 'echo.'), { status: 15, stdout: 'echo.', stderr: '' });
  });

  it('ends with 12 at the use of a stale translation when asked to, and tells which write made it stale', () => {
    const sample = path.join(import.meta.dirname, '../examples/stale-tlb/stale-tlb.elf');
    const { status, stderr } = vmxray(['run', '--stop-on-stale', sample]);
    assert.equal(status, 12);
    assert.match(stderr, /^vmxray: a stale translation was used: the read of 0x8000000000: the entry gives/);
    assert.match(
      stderr,
      /Made stale by the write of the table entry at physical .* by the instruction at 0x[0-9a-f]+ /,
    );
    assert.match(stderr, /would have removed it: INVLPG 0x8000000000/);
    assert.equal(vmxray(['run', sample]).status, 1);
  });

  it('ends with 3 and the story of a triple fault', () => {
    const { status, stderr } = runCode([0x0f, 0x0b]); // ud2, without an IDT
    assert.equal(status, 3);
    assert.match(stderr, /triple fault.*\n {2}1\. at 0x100000: /);
    assert.match(stderr, /^ {6}IDT entry 6 at 0x[0-9a-f]+: /m);
  });

  it('ends with 8 and the failed check when a VM entry fails and the hypervisor gives up', () => {
    const samples = path.join(import.meta.dirname, '../examples');
    const image = path.join(samples, 'broken-entry/broken-entry.elf');
    const { status, stderr } = vmxray(['run', image, '--module', path.join(samples, 'first-vmm/guest.elf')]);
    assert.equal(status, 8);
    // SDM Vol. 3C 27.2.3: the selector of TR cannot be 0000H; bit 3 is the lowest one of its index.
    assert.match(stderr, /VM-instruction error 8.*HOST_TR_SELECTOR must not be 0.*\(SDM Vol\. 3C 27\.2\.3\)/s);
    assert.match(stderr, /would satisfy it: set bit 3.* of HOST_TR_SELECTOR/);
  });

  it('counts VM exits with their cycles, and what the TLB does', () => {
    const samples = path.join(import.meta.dirname, '../examples/first-vmm');
    const modules = ['--module', path.join(samples, 'guest.elf')];
    const { stdout } = vmxray(['run', path.join(samples, 'first-vmm.elf'), ...modules, '--json']);
    const { vmExits, vmExitCycles, tlb } = JSON.parse(stdout.split('\n').at(-2) ?? '');
    // No VM entry follows the HLT that ends the sample; each other exit and entry costs 500 cycles and instructions.
    assert.deepEqual(Object.keys(vmExits).sort(), [...Object.keys(vmExitCycles), 'HLT'].sort());
    for (const [name, cycles] of Object.entries(vmExitCycles)) assert.ok(Number(cycles) > 500 * vmExits[name], name);
    // With 2-MiB pages a walk of 4 levels reads three entries, else four.
    assert.ok(tlb.pagingReferences >= 3 * tlb.linearMisses, stdout);
    assert.ok(tlb.eptReferences >= 3 * tlb.guestPhysicalMisses, stdout);
    assert.ok(tlb.combinedMisses > 0 && tlb.guestPhysicalHits > 0);
  });

  it('ends the same way with --verify, which compares compiled code with the interpreter', () => {
    const spin = [0xb9, 0, 0, 1, 0, 0x49, 0x75, 0xfd]; // mov ecx, 10000h; dec ecx; jnz
    const code = [...spin, ...print('done\n'), ...outByte(0xf4, 3)];
    assert.deepEqual(runCode(code, ['--verify']), { status: 7, stdout: 'done\n', stderr: '' });
  });

  it('ends with 4 when the processor halts for ever', () => {
    const { status, stderr } = runCode([0xfa, 0xf4]); // cli; hlt
    assert.equal(status, 4);
    assert.match(stderr, /halted for ever at RIP 0x100002/);
  });

  it('ends with 10 when the guest resets the machine', () => {
    assert.equal(runCode([...outByte(0x64, 0xfe), ...SPIN]).status, 10);
  });

  it('ends with 124 after --max-instructions, exactly, and after --timeout', () => {
    const { status, stdout } = runCode(SPIN, ['--max-instructions', '1234567', '--json']);
    assert.deepEqual([status, JSON.parse(stdout).instructions], [124, 1_234_567]);
    assert.equal(runCode(SPIN, ['--timeout', '0.2']).status, 124);
  });

  it('ends with a line of JSON when asked', () => {
    const { status, stdout } = runCode([...print('x'), ...outByte(0xf4, 3)], ['--json']);
    const lines = stdout.split('\n');
    const summary = JSON.parse(lines.at(-2) ?? '');
    assert.equal(status, 7);
    assert.ok(Math.abs(summary.mips - summary.instructions / summary.seconds / 1e6) < 0.01, stdout);
    // Three instructions for each of the two bytes; the last one completes.
    const { stopReason, exitStatus, debugExit, instructions, vmExits } = summary;
    assert.deepEqual(
      { stopReason, exitStatus, debugExit, instructions, vmExits },
      { stopReason: 'debugExit', exitStatus: 7, debugExit: 3, instructions: 6, vmExits: {} },
    );
  });

  it('records what its disks were, and replays with them only, here or beside the recording', () => {
    const [recording, disk] = [path.join(folder, 'disk.vmxtrace'), path.join(folder, 'disk.img')];
    writeFileSync(disk, new Uint8Array(4096).fill(1));
    const device = `virtio-blk,file=${path.relative(process.cwd(), disk)}`;
    assert.equal(runCode(ECHO, ['--record', recording, '--device', device], '.').status, 15);
    const elsewhere = mkdtempSync(path.join(os.tmpdir(), 'vmxray-cli-'));
    const replay = () => {
      const options = { cwd: elsewhere, encoding: 'latin1' } as const;
      return spawnSync(process.execPath, [CLI, 'replay', recording], options);
    };
    try {
      assert.equal(replay().status, 0);
      writeFileSync(disk, new Uint8Array(4096));
      const changed = replay();
      assert.equal(changed.status, 2);
      assert.match(changed.stderr, /cannot replay .*: the disk image is not the recorded one: .*disk.img had the hash/);
      rmSync(disk);
      assert.match(replay().stderr, /cannot replay .*: there is no file .*disk.img/);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  it('records a run with its input, and replays it to the same output and state', () => {
    const recording = path.join(folder, 'run.vmxtrace');
    const recorded = runCode(ECHO, ['--record', recording], 'echo.');
    assert.deepEqual([recorded.status, recorded.stdout], [15, 'echo.']);
    const [, instructions, state] = /recorded (\d+) instructions in .*, state (\w+)\n/.exec(recorded.stderr) ?? [];
    const replayed = vmxray(['replay', recording]);
    assert.deepEqual([replayed.status, replayed.stdout], [0, 'echo.']);
    assert.ok(replayed.stderr.includes(`replayed ${instructions} instructions to state ${state}: the recorded state`));
    writeFileSync(path.join(folder, 'code.bin'), Uint8Array.from([...ECHO, 0x90]));
    const other = vmxray(['replay', recording]);
    assert.equal(other.status, 2);
    assert.match(other.stderr, /cannot replay .*: the image is not the recorded one/);
    writeFileSync(recording, '{}');
    assert.match(vmxray(['replay', recording]).stderr, /it is no recording of VMXray/);
  });

  it('ends with 2 and says what to do for images that cannot be loaded', () => {
    writeFileSync(path.join(folder, 'empty'), '');
    writeFileSync(path.join(folder, 'text'), 'no program');
    const cases = [
      [['run'], /run needs an image/],
      [['run', path.join(folder, 'absent')], /absent: there is no such file/],
      [['run', folder], /that is a folder/],
      [['run', path.join(folder, 'empty')], /the file is empty\. Build the program again/],
      [['run', path.join(folder, 'text')], /neither a kernel of a known boot protocol nor an ELF.*--format flat/],
      [['run', path.join(folder, 'empty'), '--memory', '1'], /--memory 1: give a size/],
      [['debug'], /no command 'debug'; choose from run, replay, dap/],
      [[], /no command is given/],
    ] as const;
    for (const [args, message] of cases) {
      const { status, stdout, stderr } = vmxray(args);
      assert.deepEqual([status, stdout], [2, '']);
      assert.match(stderr, message);
    }
  });

  it('has --help with every exit status, and --version', () => {
    assert.match(vmxray(['--help']).stdout, /vmxray run IMAGE.*124 {2}--max-instructions/s);
    assert.match(vmxray(['--version']).stdout, /^vmxray \d+\.\d+\.\d+\n$/);
  });
});
