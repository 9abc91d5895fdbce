/** `vmxray trace` of test kernels against what QEMU and Bochs trace of the same, where they are installed. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isThere } from '../support/programs.ts';
import { traceInBochs, traceInQemu } from './emulators.ts';
import { assemble, KERNELS, type Kernel } from './kernels.ts';

const CLI = join(import.meta.dirname, '../../cli/main.ts');
/** Where the kernels lie, and QEMU's firmware does not. */
const KERNEL = { from: 0x10_0000, to: 0x600_0000 } as const;
/** Where GRUB enters them. */
const ENTRY = 0x10_0060;

/** Repeated string instructions are told once here, and once for each repetition there. */
const withoutRepetitions = (addresses: readonly number[]): number[] =>
  addresses.filter((address, index) => address !== addresses[index - 1]);

/** What was read and written at each byte, in order: which bytes an access has at once is the emulator's business. */
class Accesses {
  readonly bytes = new Map<number, string[]>();

  add(kind: 'read' | 'write', address: number, length: number, value: bigint): void {
    for (let i = 0; i < length; i++) {
      const here = this.bytes.get(address + i) ?? [];
      here.push(`${kind} ${(value >> BigInt(8 * i)) & 0xffn}`);
      this.bytes.set(address + i, here);
    }
  }
}

interface MemoryTrace {
  readonly accesses: Accesses;
  /** 'read PML4E at 0x106000: 0x107007' */
  readonly walks: readonly string[];
}

const walkText = (kind: string, table: string, address: string, value: string): string =>
  `${kind} ${table} at ${Number(address).toString(16)}: ${BigInt(value).toString(16)}`;

/** `[CPU0 RD]: LIN 0x103340 PHY 0x103340 (len=4, WB): 0xFF`; by page walks without LIN, with `; PDE`. */
function parseBochs(lines: readonly string[]): MemoryTrace {
  const accesses = new Accesses();
  const walks: string[] = [];
  for (const line of lines) {
    const found = /^\[CPU0 (RD|WR|RW)\]: (?:LIN (0x\w+) )?PHY (0x\w+) \(len=(\d+), \w+\): ([^;]*)(?:; (\w.*))?$/.exec(
      line,
    );
    const [, access, linear, physical = '', length = '', words = '', table] = found ?? [];
    assert.ok(access, line);
    // Of a read-modify-write the trace here tells the write, which there is without LIN.
    if (access === 'RW') continue;
    const kind = access === 'RD' ? 'read' : 'write';
    const value = `0x${words.trim().replace(/ ?0x/g, '')}`;
    if (table === undefined) accesses.add(kind, Number(linear ?? physical), Number(length), BigInt(value));
    else walks.push(walkText(kind, table.trim(), physical, value));
  }
  return { accesses, walks };
}

function parseOwn(text: string): MemoryTrace {
  const accesses = new Accesses();
  const walks: string[] = [];
  for (const [, walk, kind, address = '', length = '', value = '', table = ''] of text.matchAll(
    /^ *\d+ 0 vmm +(walk )?(read|write) (0x\w+), (\d+) bytes = (0x\w+)(?: {2}(\w+)| by the processor)?$/gm,
  )) {
    if (walk) walks.push(walkText(kind ?? '', table, address, value));
    else accesses.add(kind === 'read' ? 'read' : 'write', Number(address), Number(length), BigInt(value));
  }
  return { accesses, walks };
}

/** Whether a list is another one with something left out. */
function isPartOf(part: readonly string[], whole: readonly string[]): boolean {
  let at = 0;
  for (const each of whole) if (each === part[at]) at++;
  return at === part.length;
}

describe('vmxray trace of test kernels', function () {
  this.timeout(120_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-trace-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  function build(name: string): string {
    const file = join(folder, `${name}.elf`);
    writeFileSync(file, assemble(KERNELS.find((kernel) => kernel.name === name) as Kernel));
    return file;
  }
  function trace(kernel: string, kind: string): string {
    const output = join(folder, 'trace.txt');
    const args = [CLI, 'trace', kernel, kind, '-o', output];
    assert.equal(spawnSync(process.execPath, args, { encoding: 'utf8' }).error, undefined);
    return readFileSync(output, 'utf8');
  }

  for (const name of ['modes', 'strings64']) {
    it(`has the instructions that QEMU executes: ${name}`, async function () {
      if (!isThere('qemu-system-x86_64')) this.skip();
      const kernel = build(name);
      const there = withoutRepetitions(await traceInQemu({ kernel, modules: [] }, KERNEL.from, KERNEL.to));
      const lines = trace(kernel, '--instructions').matchAll(/^ *\d+ 0 vmm +([0-9a-f]{16}) {2}/gm);
      const here = Array.from(lines, ([, address = '']) => Number.parseInt(address, 16));
      const inKernel = here.filter((address) => address >= KERNEL.from && address < KERNEL.to);
      assert.ok(there.length > 10_000, `${there.length}`);
      assert.deepEqual(withoutRepetitions(inKernel), there);
    });
  }

  it('has the accesses to memory that Bochs makes, and walks that it makes, too', async function () {
    if (spawnSync('bochs', ['--help']).error || !isThere('grub-mkrescue')) this.skip();
    const kernel = build('modes');
    const lines = await traceInBochs({ kernel, modules: [] }, ENTRY);
    // Where the machine ends here, the kernel goes on to what ends Bochs: it sends this word to a port.
    const farewell = KERNEL.from + readFileSync(kernel).indexOf('Shutdown');
    const end = lines.findIndex((line) => line.includes(`LIN 0x${farewell.toString(16).padStart(16, '0')} `));
    const there = parseBochs(lines.slice(0, end));
    const here = parseOwn(trace(kernel, '--memory'));
    assert.ok(there.accesses.bytes.size > 1000, `${there.accesses.bytes.size}`);
    for (const [address, expected] of there.accesses.bytes) {
      assert.deepEqual(here.accesses.bytes.get(address), expected, `at 0x${address.toString(16)}`);
    }
    assert.equal(here.accesses.bytes.size, there.accesses.bytes.size);
    // Bochs keeps translations of 4-KiB pages only, and one for each set: it walks more often.
    assert.ok(here.walks.length > 10, here.walks.join('\n'));
    assert.ok(isPartOf(here.walks, there.walks), here.walks.join('\n'));
    const flagsOf = ({ walks }: MemoryTrace): string[] => walks.filter((walk) => walk.startsWith('write'));
    assert.deepEqual(flagsOf(here), flagsOf(there));
  });
});
