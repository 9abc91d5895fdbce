/** The machines that run the workloads: how each is started, and what it needs to be there. */

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Workload } from './workloads.ts';

const HERE = import.meta.dirname;
export const workloadPath = (workload: Workload): string => path.join(HERE, 'workloads', workload.file);

/** A line `@name result ticks` as the workload printed it. */
export interface Mark {
  readonly name: string;
  /** Hexadecimal without leading zeros. */
  readonly result: string;
  /** Seconds since the process was started when the line arrived. */
  readonly at: number;
}

export interface RunResult {
  readonly marks: readonly Mark[];
  /** Seconds from start to end of the process. */
  readonly process: number;
  /** Largest resident memory of the process in MiB; undefined where the system does not tell. */
  readonly memory: number | undefined;
  /** Everything the process said beside the serial port, for messages. */
  readonly messages: string;
}

export interface Emulator {
  readonly name: string;
  /** Why it cannot run here at all, or undefined. */
  missing(): string | undefined;
  /** False when it lacks what the workload needs. */
  supports(workload: Workload): boolean;
  /** Runs the workload once. @param scratch an empty folder for its files */
  run(workload: Workload, scratch: string): Promise<RunResult>;
}

function hasProgram(name: string): boolean {
  return (process.env.PATH ?? '').split(path.delimiter).some((folder) => existsSync(path.join(folder, name)));
}

/** Collects marks from serial output as it arrives. */
class MarkReader {
  readonly marks: Mark[] = [];
  private readonly start = performance.now();
  private partial = '';

  feed(text: string): void {
    const lines = (this.partial + text).split('\n');
    this.partial = lines.pop() ?? '';
    for (const line of lines) {
      const match = /^@(\S+) ([0-9a-f]{16}) [0-9a-f]{16}/.exec(line.trim());
      if (!match) continue;
      const [, name = '', result = ''] = match;
      this.marks.push({ name, result: result.replace(/^0+(?=.)/, ''), at: this.seconds() });
    }
  }

  seconds(): number {
    return (performance.now() - this.start) / 1000;
  }
}

const RUN_LIMIT_MS = 600_000;

interface Command {
  readonly file: string;
  readonly arguments: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** A file that the serial port is written to, when that is not standard output. */
  readonly serialFile?: string;
}

/** How often a process is asked for its largest memory so far, which it keeps until its end. */
const MEMORY_POLL_MS = 50;

/** Linux keeps it in /proc; undefined elsewhere, and when the process has gone. */
function largestMemory(pid: number | undefined): number | undefined {
  const file = `/proc/${pid}/status`;
  if (!existsSync(file)) return undefined;
  const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(file, 'latin1'))?.[1];
  return kilobytes === undefined ? undefined : Math.round(Number(kilobytes) / 1024);
}

/** How often a serial file is looked at: well below the shortest phase that is compared. */
const POLL_MS = 5;

function runCommand(command: Command): Promise<RunResult> {
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
  const reader = new MarkReader();
  let messages = '';
  let seen = 0;
  const { serialFile } = command;
  const readSerialFile = (): void => {
    if (!serialFile || !existsSync(serialFile)) return;
    const text = readFileSync(serialFile, 'latin1');
    reader.feed(text.slice(seen));
    seen = text.length;
  };
  const child = spawn(command.file, [...command.arguments], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...command.environment },
    timeout: RUN_LIMIT_MS,
  });
  const poll = serialFile ? setInterval(readSerialFile, POLL_MS) : undefined;
  let memory: number | undefined;
  const memoryPoll = setInterval(() => {
    memory = largestMemory(child.pid) ?? memory;
  }, MEMORY_POLL_MS);
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    if (serialFile) messages += text;
    else reader.feed(text);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    messages += text;
  });
  child.on('error', reject);
  child.on('close', () => {
    clearInterval(poll);
    clearInterval(memoryPoll);
    readSerialFile();
    resolve({ marks: reader.marks, process: reader.seconds(), memory, messages: messages.slice(-2000) });
  });
  return promise;
}

const CLI = path.join(HERE, '..', 'cli', 'main.ts');

/** VMXray from its sources. The interpreter alone is asked for by name: it takes minutes. */
const vmxray = (name: string, options: readonly string[]): Emulator => ({
  name,
  missing: () => undefined,
  supports: () => true,
  run: (workload) =>
    runCommand({
      file: process.execPath,
      arguments: [CLI, 'run', workloadPath(workload), '--memory', '512M', ...options],
    }),
});

const qemu: Emulator = {
  name: 'QEMU TCG',
  missing: () => (hasProgram('qemu-system-x86_64') ? undefined : 'qemu-system-x86_64 is not installed'),
  // TCG has no VT-x.
  supports: (workload) => workload.vmExits === undefined,
  run: (workload) =>
    runCommand({
      file: 'qemu-system-x86_64',
      arguments: [
        ...['-accel', 'tcg', '-cpu', 'max', '-m', '512', '-kernel', workloadPath(workload), '-serial', 'stdio'],
        ...['-display', 'none', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4', '-no-reboot'],
      ],
    }),
};

const BIOS = '/usr/share/seabios/bios.bin';
const VGA_BIOS = '/usr/share/seabios/vgabios.bin';

/** Bochs has no direct kernel boot: an ISO with GRUB. The text display goes to standard output, which nobody reads. */
function bochsConfiguration(scratch: string): string {
  return [
    'plugin_ctrl: unmapped=1, biosdev=1, speaker=0',
    'config_interface: textconfig',
    'display_library: term',
    `romimage: file=${BIOS}`,
    `vgaromimage: file=${VGA_BIOS}`,
    'megs: 512',
    'cpu: count=1, ips=100000000, model=corei7_skylake_x',
    'boot: cdrom',
    `ata0-master: type=cdrom, path=${scratch}/workload.iso, status=inserted`,
    `com1: enabled=1, mode=file, dev=${scratch}/serial.txt`,
    `log: ${scratch}/bochs.log`,
    'panic: action=fatal',
    'error: action=report',
    'info: action=ignore',
    '',
  ].join('\n');
}

const GRUB_CONFIGURATION = 'set timeout=0\nmenuentry workload {\n  multiboot /boot/workload.elf\n}\n';

const bochs: Emulator = {
  name: 'Bochs',
  missing: () => {
    const program = ['bochs', 'grub-mkrescue', 'xorriso'].find((name) => !hasProgram(name));
    if (program) return `${program} is not installed`;
    return [BIOS, VGA_BIOS].every((file) => existsSync(file)) ? undefined : 'SeaBIOS is not installed';
  },
  supports: () => true,
  run: async (workload, scratch) => {
    rmSync(scratch, { recursive: true, force: true });
    mkdirSync(path.join(scratch, 'iso/boot/grub'), { recursive: true });
    writeFileSync(path.join(scratch, 'iso/boot/grub/grub.cfg'), GRUB_CONFIGURATION);
    writeFileSync(path.join(scratch, 'iso/boot/workload.elf'), readFileSync(workloadPath(workload)));
    execFileSync('grub-mkrescue', ['-o', `${scratch}/workload.iso`, `${scratch}/iso`], { stdio: 'ignore' });
    writeFileSync(path.join(scratch, 'bochsrc'), bochsConfiguration(scratch));
    // Debian's build stops in its debugger until told to continue.
    writeFileSync(path.join(scratch, 'commands'), 'c\n');
    return runCommand({
      file: 'bochs',
      arguments: ['-q', '-f', `${scratch}/bochsrc`, '-rc', `${scratch}/commands`],
      environment: { TERM: 'vt100' },
      serialFile: `${scratch}/serial.txt`,
    });
  },
};

export const EMULATORS: readonly Emulator[] = [
  vmxray('VMXray', []),
  vmxray('VMXray interpreter', ['--interpret']),
  qemu,
  bochs,
];
