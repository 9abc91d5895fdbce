/** Other emulators as oracles for test kernels and samples: what they print on the serial port. For developers. */

import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

export interface Program {
  /** Path of a multiboot 1 kernel. */
  readonly kernel: string;
  /** Paths of its modules. */
  readonly modules: readonly string[];
  /** Default 1. */
  readonly processors?: number;
  /** Further arguments of QEMU. */
  readonly qemuMachine?: readonly string[];
}

const LIMIT_MS = 30_000;

/** Runs a command to its end. @returns its standard output. @throws when it takes longer than LIMIT_MS */
function run(file: string, args: readonly string[], environment: Record<string, string> = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn(file, [...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, ...environment },
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  let output = '';
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    output += text;
  });
  child.on('error', reject);
  child.on('close', (_, signal) => {
    if (signal) reject(new Error(`${file} did not end within ${LIMIT_MS / 1000} s; it printed: ${output.slice(-500)}`));
    else resolve(output);
  });
  return promise;
}

/** QEMU without hardware virtualization. Its CPU is Intel's because AMD's SYSENTER differs. */
export function runInQemu(program: Program): Promise<string> {
  return qemu(program, ['-serial', 'stdio']);
}

function qemu({ kernel, modules, processors = 1, qemuMachine = [] }: Program, more: readonly string[]) {
  const initrd = modules.length > 0 ? ['-initrd', modules.join(',')] : [];
  return run('qemu-system-x86_64', [
    ...['-accel', 'tcg', '-cpu', 'max,vendor=GenuineIntel', '-m', '128', '-kernel', kernel, ...initrd],
    ...['-display', 'none', '-no-reboot'],
    ...['-smp', `${processors}`, '-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
    ...qemuMachine,
    ...more,
  ]);
}

/** Addresses of the instructions between two addresses that QEMU begins to execute, in order. */
export async function traceInQemu(program: Program, from: number, to: number): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-qemu-'));
  try {
    const log = join(folder, 'log');
    const range = `0x${from.toString(16)}..0x${(to - 1).toString(16)}`;
    await qemu(program, ['-serial', 'null', '-singlestep', '-d', 'exec,nochain', '-dfilter', range, '-D', log]);
    // Trace 0: 0x7f… [CS base/RIP/flags/flags of the translation]
    const lines = readFileSync(log, 'latin1').matchAll(/^Trace .*\[[0-9a-f]+\/([0-9a-f]+)\//gm);
    return Array.from(lines, ([, address = '']) => Number.parseInt(address, 16));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** By default Bochs lets guests read and write MSRs that do not exist. */
const bochsConfiguration = (folder: string): string =>
  [
    'plugin_ctrl: unmapped=1, biosdev=1, speaker=0',
    'config_interface: textconfig',
    'display_library: term',
    'romimage: file=/usr/share/seabios/bios.bin',
    'vgaromimage: file=/usr/share/seabios/vgabios.bin',
    'megs: 128',
    'cpu: count=1, ips=100000000, model=corei7_skylake_x, ignore_bad_msrs=0',
    'boot: cdrom',
    `ata0-master: type=cdrom, path=${folder}/image.iso, status=inserted`,
    `com1: enabled=1, mode=file, dev=${folder}/serial.txt`,
    `log: ${folder}/bochs.log`,
    'panic: action=fatal',
    'error: action=report',
    'info: action=ignore',
    '',
  ].join('\n');

/** Bochs with VMX. It boots an ISO image with GRUB, and Debian's build waits in its debugger for `c`. */
export async function runInBochs(program: Program): Promise<string> {
  return (await bochs(program, ['c'])).serial;
}

/** What Bochs' debugger says of accesses to memory from an instruction on, a line each. */
export async function traceInBochs(program: Program, entry: number): Promise<string[]> {
  const { said } = await bochs(program, [`lb 0x${entry.toString(16)}`, 'c', 'trace-mem on', 'c']);
  return said.split('\n').filter((line) => line.startsWith('[CPU0 '));
}

async function bochs(
  { kernel, modules }: Program,
  commands: readonly string[],
): Promise<{ readonly serial: string; readonly said: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-bochs-'));
  try {
    mkdirSync(join(folder, 'iso/boot/grub'), { recursive: true });
    for (const file of [kernel, ...modules]) copyFileSync(file, join(folder, 'iso/boot', basename(file)));
    const lines = modules.map((module) => `  module /boot/${basename(module)}`);
    const menu = ['set timeout=0', 'menuentry test {', `  multiboot /boot/${basename(kernel)}`, ...lines, '}', ''];
    writeFileSync(join(folder, 'iso/boot/grub/grub.cfg'), menu.join('\n'));
    execFileSync('grub-mkrescue', ['-o', join(folder, 'image.iso'), join(folder, 'iso')], { stdio: 'ignore' });
    writeFileSync(join(folder, 'bochsrc'), bochsConfiguration(folder));
    writeFileSync(join(folder, 'commands'), `${commands.join('\n')}\n`);
    const args = ['-q', '-f', join(folder, 'bochsrc'), '-rc', join(folder, 'commands')];
    const said = await run('bochs', args, { TERM: 'vt100' });
    return { serial: readFileSync(join(folder, 'serial.txt'), 'latin1'), said };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
