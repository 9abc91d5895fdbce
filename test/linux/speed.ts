/**
 * Boots Debian's kernel to a shell on VMXray and on QEMU's TCG, in turns, with the same kernel, initial RAM file system
 * and command line: `npm run build`, then `node test/linux/speed.ts [RUNS]`. Times are from the start of the process, and
 * from its first output.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { debianFiles } from './debian.ts';
import { makeInitramfs } from './initramfs.ts';

const PROMPT = 'guest# ';
const COMMAND_LINE = 'console=ttyS0';
const MEMORY = 256;
const CLI = fileURLToPath(new URL('../../cli/vmxray.mjs', import.meta.url));

interface Boot {
  /** Seconds. */
  readonly process: number;
  readonly kernel: number;
}

function stop(child: ChildProcess): void {
  child.stdin?.destroy();
  child.kill();
}

/** Runs until the prompt is there. */
function boot(program: string, args: readonly string[]): Promise<Boot> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    let first = 0;
    let output = '';
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.on('error', reject).on('exit', () => reject(new Error(`${program} ended before the prompt:\n${output}`)));
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
      if (first === 0 && output.includes('Linux version')) first = performance.now();
      if (!output.includes(PROMPT)) return;
      const end = performance.now();
      child.removeAllListeners('exit');
      stop(child);
      resolve({ process: (end - start) / 1000, kernel: (end - first) / 1000 });
    });
  });
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

async function main(runs: number): Promise<void> {
  const files = debianFiles();
  if (typeof files === 'string') throw new Error(files);
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-linux-'));
  const [kernel, initrd] = [join(folder, 'vmlinuz'), join(folder, 'initramfs')];
  writeFileSync(kernel, files.kernel);
  writeFileSync(initrd, makeInitramfs(files.busybox));
  const qemu = ['-accel', 'tcg', '-m', `${MEMORY}`, '-nographic', '-no-reboot', '-kernel', kernel, '-initrd', initrd];
  const vmxray = [CLI, 'run', kernel, '--initrd', initrd, '--memory', `${MEMORY}M`, '--cmdline', COMMAND_LINE];
  const machines: readonly (readonly [string, () => Promise<Boot>])[] = [
    ['VMXray', () => boot(process.execPath, vmxray)],
    ['QEMU TCG', () => boot('qemu-system-x86_64', [...qemu, '-append', COMMAND_LINE])],
  ];
  try {
    const results = new Map<string, Boot[]>(machines.map(([name]) => [name, []]));
    for (let i = 0; i < runs; i++) for (const [name, run] of machines) results.get(name)?.push(await run());
    for (const [name, boots] of results) {
      const [whole, kernelOnly] = [boots.map((one) => one.process), boots.map((one) => one.kernel)].map(median);
      console.log(`${name}: ${whole?.toFixed(2)} s from process start, ${kernelOnly?.toFixed(2)} s from first output`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

await main(Number(process.argv[2] ?? 1));
