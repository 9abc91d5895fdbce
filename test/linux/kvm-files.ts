/** What a session needs that debugs KVM inside Debian's kernel: images, and names of functions by the kernel's own word. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { DebianFiles } from './debian.ts';
import { makeInitramfs, program } from './initramfs.ts';
import { Terminal } from './terminal.ts';

export const PROMPT = 'guest# ';
/** A kernel that stays where it is linked: its symbols hold in every run, and so do the places of its modules. */
export const COMMAND_LINE = 'console=ttyS0 nokaslr';

const MEMORY = 256 * 2 ** 20;
const MODULES = ['irqbypass', 'kvm', 'kvm-intel'] as const;
export const LOAD_MODULES = `dmesg -n 1; for m in ${MODULES.join(' ')}; do insmod /lib/$m.ko; done`;
/** Up to here the kernel's list names its code and its ORC tables. */
const LAST_SYMBOL = '_einittext';
const SECTIONS = ['.text', '.noinstr.text', '.data', '.orc_unwind_ip'] as const;

/** Linear addresses in kvm-guest.c's guest code: ADD in the loop, OUT, HLT. */
export const [ADD, OUT, HLT] = [0x1005, 0x1009, 0x100b] as const;
/** What the guest computes. */
export const SUM = 55;

/** A kernel module's file, and where the kernel puts its sections. */
interface PlacedModule {
  readonly path: string;
  readonly sections: Readonly<Record<string, string>>;
}

/** Files in a folder of their own. */
export class KvmFiles {
  readonly debian: DebianFiles;
  readonly folder = mkdtempSync(join(tmpdir(), 'vmxray-kvm-'));

  constructor(debian: DebianFiles) {
    this.debian = debian;
    const modules = MODULES.map((name) => program(`lib/${name}.ko`, debian.module(name)));
    const programs = ['kvm-guest', 'list-symbols'].map((name) => program(`bin/${name}`, this.compile(name)));
    writeFileSync(this.path('vmlinuz'), debian.kernel);
    writeFileSync(this.path('initramfs'), makeInitramfs(debian.busybox, [...programs, ...modules]));
    for (const name of MODULES) writeFileSync(this.path(`${name}.ko`), debian.module(name));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private compile(name: string): Uint8Array {
    const source = new URL(`${name}.c`, import.meta.url).pathname;
    execFileSync('gcc', ['-static', '-O1', '-o', this.path(name), source], { stdio: 'pipe' });
    return readFileSync(this.path(name));
  }

  /**
   * Boots the kernel and asks it: its symbols become the file System.map.
   * @returns KVM's modules for `symbols` of a launch configuration with `COMMAND_LINE`
   */
  askKernel(): readonly PlacedModule[] {
    const machine = createMachine({ memory: MEMORY });
    const modules = [{ name: 'initramfs', bytes: readFileSync(this.path('initramfs')), commandLine: '' }];
    machine.boot({ name: 'vmlinuz', image: this.debian.kernel, commandLine: COMMAND_LINE, modules });
    const terminal = new Terminal(machine);
    const shell = (command: string): string => {
      terminal.type(command);
      terminal.waitFor('\r\n');
      return terminal.waitFor(PROMPT);
    };
    terminal.waitFor(PROMPT);
    shell(LOAD_MODULES);
    const list: number[] = [];
    machine.onDebugConsole = (byte) => list.push(byte);
    assert.match(shell(`list-symbols ${LAST_SYMBOL} && echo done`), /done/);
    writeFileSync(this.path('System.map'), Uint8Array.from(list));
    const sectionsOf = (module: string): Readonly<Record<string, string>> => {
      const paths = SECTIONS.map((name) => `/sys/module/${module}/sections/${name}`);
      const addresses = shell(`cat ${paths.join(' ')}`).match(/0x[0-9a-f]+/g) ?? [];
      assert.equal(addresses.length, SECTIONS.length);
      return Object.fromEntries(SECTIONS.map((name, index) => [name, addresses[index] ?? '']));
    };
    return ['kvm', 'kvm-intel'].map((name) => {
      return { path: this.path(`${name}.ko`), sections: sectionsOf(name.replace('-', '_')) };
    });
  }
}
