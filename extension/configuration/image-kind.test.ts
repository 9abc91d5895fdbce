import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { classifyImage } from './image-kind.ts';
import { imageProblem } from './image-problem.ts';

const SOURCE = `
.section .multiboot, "a"
.balign 4
.long 0x1BADB002, 0, -0x1BADB002
.text
.globl _start
_start: hlt
`;

describe('classifyImage', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-image-'));
    writeFileSync(join(folder, 'a.s'), SOURCE);
    writeFileSync(join(folder, 'p.c'), 'int main(void) { return 0; }\n');
    const gcc = (...args: string[]) => execFileSync('gcc', args, { cwd: folder });
    gcc('-c', 'a.s', '-o', 'a.o');
    gcc('-nostdlib', '-Wl,-n', '-static', '-no-pie', 'a.s', '-o', 'bare64');
    gcc('-m32', '-nostdlib', '-Wl,-n', '-static', '-no-pie', 'a.s', '-o', 'bare32');
    gcc('p.c', '-o', 'hosted');
  });
  after(() => rmSync(folder, { recursive: true }));
  const classify = (name: string) => classifyImage(readFileSync(join(folder, name)));

  it('tells bare 64-bit and 32-bit images with their multiboot header', () => {
    assert.deepEqual(classify('bare64'), { kind: 'elf', bits: 64, multiboot: 1, role: 'bare' });
    assert.deepEqual(classify('bare32'), { kind: 'elf', bits: 32, multiboot: 1, role: 'bare' });
  });

  it('tells programs for an operating system and object files', () => {
    assert.deepEqual(classify('hosted'), { kind: 'elf', bits: 64, multiboot: undefined, role: 'hosted' });
    const object = classify('a.o');
    assert.equal(object.kind === 'elf' && object.role, 'object');
  });

  it('tells an ELF file for another machine by name', () => {
    const bytes = readFileSync(join(folder, 'bare64'));
    bytes.writeUInt16LE(183, 18);
    assert.deepEqual(classifyImage(bytes), { kind: 'foreignElf', machine: 'AArch64' });
  });

  it('tells an ELF file that ends in its headers, wherever it ends', () => {
    const bytes = readFileSync(join(folder, 'bare64'));
    for (const length of [4, 19, 51, 63, 64, 119]) {
      assert.deepEqual(classifyImage(bytes.subarray(0, length)), { kind: 'truncatedElf' }, `${length} bytes`);
    }
  });

  it('tells flat binaries, text and nothing', () => {
    assert.deepEqual(classifyImage(Uint8Array.of(0xf4, 0xeb, 0xfd)), { kind: 'flat', multiboot: undefined });
    assert.deepEqual(classifyImage(readFileSync(join(folder, 'p.c'))), { kind: 'text' });
    assert.deepEqual(classifyImage(new Uint8Array()), { kind: 'empty' });
  });
});

describe('imageProblem', () => {
  it('says what is wrong and what to do', () => {
    assert.match(
      imageProblem('a.elf', { kind: 'foreignElf', machine: 'Arm' }) ?? '',
      /a\.elf .* for Arm.*build it for/,
    );
    assert.match(imageProblem('a', { kind: 'empty' }) ?? '', /a is empty/);
    assert.match(imageProblem('main.c', { kind: 'text' }) ?? '', /text file.*Name the ELF/);
  });

  it('has nothing against bare ELF files and flat binaries', () => {
    assert.equal(imageProblem('k', { kind: 'elf', bits: 32, multiboot: 1, role: 'bare' }), undefined);
    assert.equal(imageProblem('k.bin', { kind: 'flat', multiboot: undefined }), undefined);
  });
});
