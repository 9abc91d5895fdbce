/**
 * Runs the x86 tests of a built copy of kvm-unit-tests that do not need VMX, and prints a row of a table for each:
 *
 *     node test/conformance/kvm-unit-tests.ts FOLDER [NAME…]
 *
 * FOLDER holds x86/*.flat, as the suite's own `./configure && make` leaves them. A name may be any part of a row's.
 * With --serial what the tests print is shown, too.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';

interface Row {
  /** As in the suite's unittests.cfg. */
  readonly name: string;
  /** File without `.flat`. */
  readonly file: string;
  readonly commandLine?: string;
  /** Default 'max'. */
  readonly cpuModel?: string;
  /** Instructions in millions; default 2000. */
  readonly limit?: number;
}

const ROWS: readonly Row[] = [
  { name: 'realmode', file: 'realmode' },
  { name: 'access', file: 'access_test', limit: 40_000 },
  { name: 'smap', file: 'smap' },
  { name: 'pku', file: 'pku' },
  { name: 'pks', file: 'pks' },
  { name: 'emulator', file: 'emulator' },
  { name: 'eventinj', file: 'eventinj' },
  { name: 'hypercall', file: 'hypercall' },
  { name: 'idt_test', file: 'idt_test' },
  { name: 'memory', file: 'memory' },
  { name: 'msr', file: 'msr' },
  { name: 'sieve', file: 'sieve', limit: 20_000 },
  { name: 'syscall', file: 'syscall' },
  { name: 'tsc', file: 'tsc' },
  { name: 'tsc_adjust', file: 'tsc_adjust' },
  { name: 'xsave', file: 'xsave' },
  { name: 'rmap_chain', file: 'rmap_chain' },
  { name: 'pcid-enabled', file: 'pcid' },
  { name: 'pcid-disabled', file: 'pcid', cpuModel: 'westmere' },
  { name: 'rdpru', file: 'rdpru' },
  { name: 'umip', file: 'umip' },
  { name: 'la57', file: 'la57' },
  { name: 'debug', file: 'debug' },
  { name: 'apic', file: 'apic' },
  { name: 'tscdeadline_latency', file: 'tscdeadline_latency' },
  { name: 'taskswitch', file: 'taskswitch' },
  { name: 'taskswitch2', file: 'taskswitch2' },
  { name: 'pmu', file: 'pmu' },
  { name: 'cet', file: 'cet' },
  { name: 'lam', file: 'lam' },
  { name: 'tsx-ctrl', file: 'tsx-ctrl' },
];

/** What the tests read as a multiboot module. */
const ENVIRONMENT = 'NR_CPUS=1\nMEMSIZE=512\nTEST_DEVICE=0\nBOOTLOADER=1\n';
const MEMORY = 512 * 2 ** 20;
const MILLION = 1e6;

/** A stop in a few words. */
function describeStop(stop: StopReason): string {
  if (stop.kind === 'debugExit') return `exit ${stop.value}`;
  if (stop.kind === 'unimplemented') return `not simulated: ${stop.what} at ${stop.address.toString(16)}`;
  return stop.kind;
}

function run(folder: string, row: Row): { text: string; stop: StopReason; instructions: number } {
  const machine = createMachine({ memory: MEMORY, cpuModel: row.cpuModel ?? 'max' });
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  const environment = { name: 'environment', bytes: new TextEncoder().encode(ENVIRONMENT), commandLine: 'environment' };
  const name = `${row.file}.flat`;
  const image = new Uint8Array(readFileSync(join(folder, 'x86', name)));
  machine.boot({ name, image, commandLine: row.commandLine ?? '', modules: [environment] });
  const stop = machine.run((row.limit ?? 2000) * MILLION);
  return { text, stop, instructions: machine.instructions };
}

const count = (text: string, word: string): number => text.split('\n').filter((line) => line.startsWith(word)).length;

function main(): void {
  const [folder, ...rest] = process.argv.slice(2);
  if (folder === undefined) {
    console.error('usage: node test/conformance/kvm-unit-tests.ts FOLDER [NAME…] [--serial]');
    process.exitCode = 2;
    return;
  }
  const showsSerial = rest.includes('--serial');
  const names = rest.filter((word) => word !== '--serial');
  for (const row of ROWS) {
    if (names.length > 0 && !names.some((name) => row.name.includes(name))) continue;
    if (!existsSync(join(folder, 'x86', `${row.file}.flat`))) {
      console.log(`| ${row.name} | not built |`);
      continue;
    }
    const { text, stop, instructions } = run(folder, row);
    if (showsSerial) console.log(text);
    const counts = `${count(text, 'PASS')} | ${count(text, 'FAIL')} | ${count(text, 'SKIP')}`;
    console.log(`| ${row.name} | ${counts} | ${describeStop(stop)} | ${(instructions / MILLION).toFixed(1)} |`);
  }
}

main();
