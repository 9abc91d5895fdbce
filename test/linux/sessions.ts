/** Sessions on Debian's kernel, from its start to a first command: several tests look at the same ones. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Machine, MachineConfig } from '../../sim-core/machine/api.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { ConsolePort } from '../../sim-core/platform/virtio/console.ts';
import { type DebianFiles, debianFiles } from './debian.ts';
import { makeInitramfs, program } from './initramfs.ts';
import { Terminal } from './terminal.ts';

export const PROMPT = 'guest# ';
const MEMORY = 256 * 2 ** 20;
/** 24 December 2025, 18:30 UTC. */
const START_TIME = 1_766_601_000;
const KVM_MODULES = ['irqbypass', 'kvm', 'kvm-intel'] as const;
/** In the order in which they need each other. */
export const CONSOLE_MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_console'],
] as const;
/** What a run may depend on: time, interrupts, random numbers. */
const FIRST_COMMAND = 'cat /proc/uptime /proc/interrupts; dd if=/dev/urandom bs=16 count=1 | hexdump -C';

/** A static program of ours that is a user of /dev/kvm. */
function compileGuest(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-kvm-'));
  try {
    const source = new URL('kvm-guest.c', import.meta.url).pathname;
    execFileSync('gcc', ['-static', '-O1', '-o', join(folder, 'kvm-guest'), source], { stdio: 'pipe' });
    return readFileSync(join(folder, 'kvm-guest'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export interface Session {
  readonly terminal: Terminal;
  /** The far end of a virtio console. */
  readonly console: ConsolePort;
  /** What the kernel printed up to the prompt. */
  readonly log: string;
  /** Behind the first command: of the machine's whole state, and how far it has come. */
  readonly hash: string;
  readonly instructions: number;
  readonly output: string;
}

/** Skips the test when they cannot be had, and says why. */
export function filesOrSkip(test: Mocha.Context): DebianFiles {
  const files = debianFiles();
  if (typeof files !== 'string') return files;
  console.log(`      skipped: ${files}`);
  return test.skip();
}

export class Sessions {
  private readonly files: DebianFiles;
  private readonly initramfs: Uint8Array;
  private readonly known = new Map<number, Session>();

  constructor(files: DebianFiles) {
    this.files = files;
    const modules = [...KVM_MODULES, ...CONSOLE_MODULES].map((name) => program(`lib/${name}.ko`, files.module(name)));
    this.initramfs = makeInitramfs(files.busybox, [program('bin/kvm-guest', compileGuest()), ...modules]);
  }

  boot(config: Partial<MachineConfig>): Machine {
    const machine = createMachine({ memory: MEMORY, startTime: START_TIME, ...config });
    const modules = [{ name: 'initramfs', bytes: this.initramfs, commandLine: '' }];
    machine.boot({ name: 'vmlinuz', image: this.files.kernel, commandLine: 'console=ttyS0', modules });
    return machine;
  }

  /** A session of its own. @param slice instructions that the machine is given at once */
  run(cpus: number, slice?: number): Session {
    const console = new ConsolePort();
    const machine = this.boot({ cpus, devices: [{ kind: 'virtio-console', port: console }] });
    const terminal = new Terminal(machine, slice);
    const log = terminal.waitFor(PROMPT);
    terminal.type(FIRST_COMMAND);
    terminal.waitFor('\r\n');
    terminal.waitFor(PROMPT);
    const { instructions } = machine;
    return { terminal, console, log, hash: stateHash(machine), instructions, output: terminal.output };
  }

  /** The session that all tests share, which they go on with. */
  shared(cpus: number): Session {
    const known = this.known.get(cpus) ?? this.run(cpus);
    this.known.set(cpus, known);
    return known;
  }
}

let sessions: Sessions | undefined;

/** The same for all test files of a run. Skips the test when Debian's files cannot be had. */
export function sessionsOrSkip(test: Mocha.Context): Sessions {
  sessions ??= new Sessions(filesOrSkip(test));
  return sessions;
}
