import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { assemble } from '../test/support/nasm.ts';

const CLI = path.join(import.meta.dirname, 'main.ts');
const SAMPLE = path.join(import.meta.dirname, '../examples/first-vmm');
const VMM = [path.join(SAMPLE, 'first-vmm.elf'), '--module', path.join(SAMPLE, 'guest.elf')];
/** 32-bit code at 1 MiB: what it is, and what it does. */
const CODE: readonly (readonly number[])[] = [
  [0xb8, 5, 0, 0, 0], // mov eax, 5
  [0xa3, 0, 0, 0x20, 0], // mov [200000h], eax
  [0x8b, 0x1d, 0, 0, 0x20, 0], // mov ebx, [200000h]
  [0xa3, 0x80, 0, 0xe0, 0xfe], // mov [FEE00080h], eax: the local APIC's task priority
  [0x8b, 0x0d, 0x80, 0, 0xe0, 0xfe], // mov ecx, [FEE00080h]
  [0xe6, 0xf4], // out F4h, al: isa-debug-exit
  [0xeb, 0xfe], // jmp to itself
];

/** Maps the first 2 MiB, and 405000h in a page of 4 KiB; by writes to other places the lines of the trace are found. */
const WALKS = `
        bits    32
        org     0x100000
        mov     dword [0x200000], 0x201003
        mov     dword [0x201000], 0x202003
        mov     dword [0x202000], 0x83
        mov     dword [0x202010], 0x203003
        mov     dword [0x203028], 0x300003
        mov     eax, 0x20
        mov     cr4, eax
        mov     eax, 0x200000
        mov     cr3, eax
        mov     ecx, 0xc0000080
        rdmsr
        or      eax, 0x100
        wrmsr
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        mov     [0x1ff000], eax
        mov     dword [0x405678], 0x1234
        mov     [0x1ff004], eax
        invlpg  [0x405678]
        mov     eax, [0x405678]
        mov     al, 5
        out     0xf4, al
`;

/** The Trace Event Format's complete, instant and metadata events. */
interface JsonEvent {
  readonly ph: 'X' | 'i' | 'M';
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
}

describe('vmxray trace', function () {
  this.timeout(60_000);
  let folder = '';
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'vmxray-trace-'));
    writeFileSync(path.join(folder, 'code.bin'), Uint8Array.from(CODE.flat()));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function trace(...args: readonly string[]) {
    return spawnSync(process.execPath, [CLI, 'trace', ...args], { encoding: 'utf8', input: '', timeout: 60_000 });
  }
  const traceCode = (...args: readonly string[]) =>
    trace(path.join(folder, 'code.bin'), '--image-format', 'flat', '--ram', '4M', ...args);

  it('writes instructions with what they access', () => {
    const { stdout, status } = traceCode('--instructions', '--memory', '--devices');
    assert.equal(status, (5 << 1) | 1);
    const lines = stdout.split('\n').map((line) => line.replace(/^ *(\d+) 0 vmm +/, '$1 '));
    const encodings = lines.flatMap(
      (line) => /^\d+ 0{8}([0-9a-f]{8}) {2}((?:[0-9a-f]{2} )+)/.exec(line)?.slice(1) ?? [],
    );
    let address = 0x10_0000;
    const expected = CODE.slice(0, 6).flatMap((bytes) => {
      const at = address.toString(16).padStart(8, '0');
      address += bytes.length;
      return [at, `${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')} `];
    });
    assert.deepEqual(encodings, expected);
    assert.ok(lines.includes('2 write 0x200000, 4 bytes = 0x5'), stdout);
    assert.ok(lines.includes('3 read 0x200000, 4 bytes = 0x5'), stdout);
    for (const [count, access] of [
      [4, 'write'],
      [5, 'read'],
    ]) {
      const told = new RegExp(`^${count} memory ${access} 0xfee00080, 4 bytes = 0x5 .*APIC`, 'i');
      assert.ok(
        lines.some((line) => told.test(line)),
        stdout,
      );
    }
    assert.ok(
      lines.some((line) => line.startsWith('6 port write 0xf4, 1 bytes = 0x5')),
      stdout,
    );
    assert.match(stdout, /\nend: debugExit, cycle \d+\n$/);
  });

  it('tells the walks of the paging structures, with the flags that they set', () => {
    // SDM Vol. 3A, "4-Level Paging" and "Accessed and Dirty Flags": bits 5 and 6.
    const file = path.join(folder, 'walks.bin');
    writeFileSync(file, assemble(WALKS));
    const { stdout, status } = trace(file, '--image-format', 'flat', '--ram', '4M', '--memory');
    assert.equal(status, (5 << 1) | 1, stdout);
    const lines = stdout.split('\n').map((line) => line.replace(/^ *\d+ 0 vmm +/, ''));
    const walksBehind = (marker: string): string[] => {
      const from = lines.findIndex((line) => line.startsWith(marker));
      return lines.slice(
        from + 1,
        lines.findIndex((line, index) => index > from && !line.startsWith('walk')),
      );
    };
    const upper = ['walk read 0x200000, 8 bytes = 0x201023  PML4E', 'walk read 0x201000, 8 bytes = 0x202023  PDPTE'];
    // The first access to the page; the marks are writes through a 2-MiB page that is known already.
    assert.deepEqual(walksBehind('write 0x1ff000'), [
      ...upper,
      'walk read 0x202010, 8 bytes = 0x203003  PDE',
      'walk read 0x203028, 8 bytes = 0x300003  PTE',
      'walk write 0x202010, 8 bytes = 0x203023  PDE',
      'walk write 0x203028, 8 bytes = 0x300063  PTE',
    ]);
    assert.deepEqual(walksBehind('write 0x405678'), []);
    // Again after INVLPG: all flags are set.
    assert.deepEqual(walksBehind('write 0x1ff004'), [
      ...upper,
      'walk read 0x202010, 8 bytes = 0x203023  PDE',
      'walk read 0x203028, 8 bytes = 0x300063  PTE',
    ]);
    assert.ok(lines.includes('read 0x405678, 4 bytes = 0x1234'), stdout);
    const perfetto = trace(file, '--image-format', 'flat', '--ram', '4M', '--memory', '--format', 'perfetto').stdout;
    assert.match(perfetto, /"name":"walk write PTE","cat":"walk".*"address":"0x203028","length":8,"value":"0x300063"/);
  });

  it('begins and ends where it is told', () => {
    const { stdout, status } = traceCode('--instructions', '--from', '1', '--to', '3');
    assert.equal(status, 0);
    assert.equal(stdout.trimEnd().split('\n').length, 3, stdout);
    assert.match(stdout, /^ +1 0 vmm +0{10}100005 /);
  });

  it('tells of every VM exit, as the sample counts them itself', () => {
    const { stdout, stderr } = trace(...VMM);
    const said = /VM exits: (\d+)\n/.exec(stderr)?.[1];
    assert.equal(stdout.match(/ VM exit /g)?.length, Number(said));
    const [, cpuid] = /(\d+) CPUID \(exit reason 10\)/.exec(stderr) ?? [];
    assert.equal(stdout.match(/ VM exit CPUID, /g)?.length, Number(cpuid));
    assert.equal(stdout.match(/ VM entry, /g)?.length, Number(said));
  });

  it('writes trace events whose slices do not overlap', () => {
    const file = path.join(folder, 'trace.json');
    const { status, stdout } = trace(...VMM, '--format', 'perfetto', '-o', file);
    assert.equal(status, 1);
    assert.match(stdout, /guest says: Hello/);
    const { traceEvents }: { traceEvents: JsonEvent[] } = JSON.parse(readFileSync(file, 'utf8'));
    for (const { ph, name, ts, pid } of traceEvents) {
      assert.ok(typeof name === 'string' && typeof pid === 'number' && (ph === 'M' || typeof ts === 'number'));
    }
    const slices = traceEvents.filter(({ ph }) => ph === 'X');
    const exits = /VM exits: (\d+)\n/.exec(stdout)?.[1];
    assert.equal(slices.filter(({ name }) => name.startsWith('VMM: ')).length, Number(exits));
    let end = 0;
    for (const { ts = 0, dur = 0 } of slices) {
      assert.ok(ts >= end - 1e-6, `a slice begins at ${ts} before the last one's end at ${end}`);
      end = ts + dur;
    }
  });

  it('says what is wrong with its options', () => {
    const wrong = [['--format', 'xml'], ['--json'], ['--from', 'x'], ['-o', '/nowhere/x']];
    for (const args of wrong) {
      const { status, stderr } = traceCode(...args);
      assert.equal(status, 2, args.join(' '));
      assert.match(stderr, /^vmxray: /);
    }
  });
});
