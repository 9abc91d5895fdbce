/**
 * For developers: runs the test kernels and the samples under QEMU and Bochs, and says where those do otherwise than
 * kernels.ts or the sample's expected-output.txt has it. Needs qemu-system-x86, bochs, seabios, grub-mkrescue, xorriso.
 *
 *   node test/system/oracles.ts [NAME…]     names of kernels or samples; default: all
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Program, runInBochs, runInQemu } from './emulators.ts';
import { assemble, KERNELS, type Kernel, readReport, statementsOf } from './kernels.ts';
import { SAMPLES, type Sample } from './samples.ts';

type Run = (program: Program) => Promise<string>;

/** Prints a line and returns whether the kernel behaved as the table says. */
async function compareKernel(kernel: Kernel, emulator: 'qemu' | 'bochs', run: Run): Promise<boolean> {
  const known = kernel[emulator];
  if (typeof known === 'string') {
    console.log(`${kernel.name} ${emulator}: not run. ${known}.`);
    return true;
  }
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-kernel-'));
  try {
    const file = join(folder, `${kernel.name}.elf`);
    writeFileSync(file, assemble(kernel));
    const { passed, failed, ended } = readReport(
      await run({
        kernel: file,
        modules: [],
        processors: kernel.processors ?? 1,
        ...(kernel.qemuMachine ? { qemuMachine: kernel.qemuMachine } : {}),
      }),
      statementsOf(kernel),
    );
    const surprises = [
      ...(ended ? [] : ['it did not come to its end']),
      ...[...failed].filter(([name]) => !known.includes(name)).map(([, line]) => line),
      ...known.filter((name) => !failed.has(name)).map((name) => `the table says that this fails: ${name}`),
    ];
    console.log(`${kernel.name} ${emulator}: ${passed.length} passed, ${failed.size} failed`);
    for (const surprise of surprises) console.log(`  NOT AS EXPECTED: ${surprise}`);
    return surprises.length === 0;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function compareSample(sample: Sample): Promise<boolean> {
  const output = await runInBochs(sample);
  const same = output.replaceAll('\r', '') === readFileSync(sample.expectedOutput, 'utf8');
  console.log(`${sample.name} bochs: ${same ? 'as expected' : `NOT AS EXPECTED:\n${output}`}`);
  return same;
}

const names = process.argv.slice(2);
const chosen = (name: string): boolean => names.length === 0 || names.includes(name);
let ok = true;
for (const kernel of KERNELS.filter(({ name }) => chosen(name))) {
  ok = (await compareKernel(kernel, 'qemu', runInQemu)) && ok;
  ok = (await compareKernel(kernel, 'bochs', runInBochs)) && ok;
}
for (const sample of Object.values(SAMPLES).filter(({ name }) => chosen(name)))
  ok = (await compareSample(sample)) && ok;
process.exitCode = ok ? 0 : 1;
