// A boot sector that Debian's SeaBIOS starts from a disk. Expected: what the source says, at the address of every PC.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';

const SEABIOS = '/usr/share/seabios/bios-256k.bin';
const SOURCE = `bits 16
global start
section .text
start:
    xor ax, ax
    mov ss, ax
    mov sp, 0x7c00
    call greet
    mov al, 0x15
    mov dx, 0xf4
    out dx, al
greet:
    mov al, '!'
    mov dx, 0x3f8
    out dx, al
    ret
`;
const lineOf = (text: string): number => SOURCE.split('\n').findIndex((line) => line.includes(text)) + 1;

describe('a boot sector, started by firmware', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  const file = useFolder();

  before(async function () {
    if (!existsSync(SEABIOS)) {
      console.log(`      skipped: ${SEABIOS} is not there (Debian package seabios)`);
      this.skip();
    }
    const tool = (name: string, ...args: readonly string[]) => execFileSync(name, args, { cwd: file(), stdio: 'pipe' });
    writeFileSync(file('boot.asm'), SOURCE);
    tool('nasm', '-f', 'elf32', '-g', '-F', 'dwarf', '-o', 'boot.o', 'boot.asm');
    tool('ld', '-m', 'elf_i386', '-Ttext=0x7c00', '-e', 'start', '-o', 'boot.elf', 'boot.o');
    tool('objcopy', '-O', 'binary', '-j', '.text', 'boot.elf', 'boot.bin');
    writeFileSync(file('disk.asm'), 'incbin "boot.bin"\ntimes 510 - ($ - $$) db 0\ndw 0xaa55\ntimes 1 << 20 db 0\n');
    tool('nasm', '-f', 'bin', '-o', 'disk.img', 'disk.asm');
  });

  it('stops at a line of its source in real mode, steps into a call, and ends with its status', async () => {
    const client = await adapter.launch({
      program: SEABIOS,
      format: 'firmware',
      symbols: [file('boot.elf')],
      machine: { memory: '64M', devices: [`virtio-blk,file=${file('disk.img')}`] },
      stopOn: 'none',
      stopAtEnd: 'never',
    });
    const breakpoints = [{ line: lineOf('call greet') }];
    const set = await client.request('setBreakpoints', { source: { path: file('boot.asm') }, breakpoints });
    assert.equal(set.body.breakpoints[0]?.verified, true);
    assert.equal((await client.run('configurationDone')).body.reason, 'breakpoint');
    const top = async () => (await client.request('stackTrace', { threadId: 1 })).body.stackFrames[0];
    const frame = await top();
    assert.match(frame?.name ?? '', /^start/);
    assert.deepEqual([frame?.line, frame?.instructionPointerReference], [lineOf('call greet'), 'vmm:0x7c07']);
    await client.run('stepIn', { threadId: 1 });
    assert.match((await top())?.name ?? '', /^greet/);
    const exited = client.event('exited');
    await client.run('continue');
    assert.deepEqual((await exited).body, { exitCode: (0x15 << 1) | 1 });
  });
});
