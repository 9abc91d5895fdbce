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
import type { Machine } from '../../sim-core/machine/api.ts';
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
  /** Default 1. */
  readonly processors?: number;
  /** The test waits in HLT for an interrupt of the test device, IRQ 11. An NMI wakes it instead. */
  readonly wakes?: boolean;
  /** Is told of the test device, which by the suite's rules means KVM to some tests. */
  readonly testDevice?: boolean;
  /** Behind an IOMMU, with the `edu` device. */
  readonly iommu?: boolean;
}

/** Tests of vmx.flat that need a second processor. */
const VMX_WITH_TWO = [
  'nmi_hlt',
  'vmx_eoi_bitmap_ioapic_scan_test',
  'vmx_posted_interrupts_test',
  'vmx_init_signal_test',
  'vmx_sipi_signal_test',
];

const ROWS: readonly Row[] = [
  { name: 'realmode', file: 'realmode', wakes: true },
  { name: 'access-westmere', file: 'access_test', cpuModel: 'westmere', limit: 20_000 },
  { name: 'access', file: 'access_test', limit: 200_000 },
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
  { name: 'cmpxchg8b', file: 'cmpxchg8b' },
  { name: 'taskswitch', file: 'taskswitch' },
  { name: 'taskswitch2', file: 'taskswitch2' },
  { name: 'pmu', file: 'pmu', limit: 20_000 },
  { name: 'cet', file: 'cet' },
  { name: 'lam', file: 'lam' },
  { name: 'smptest', file: 'smptest', processors: 2 },
  { name: 'smptest3', file: 'smptest', processors: 3 },
  ...VMX_WITH_TWO.map((test): Row => ({ name: test, file: 'vmx', commandLine: test, processors: 2, limit: 5000 })),
  { name: 'vmx_apic_passthrough_test', file: 'vmx', commandLine: 'vmx_apic_passthrough_test', testDevice: true },
  {
    name: 'vmx_apic_passthrough_thread_test',
    file: 'vmx',
    commandLine: 'vmx_apic_passthrough_thread_test',
    processors: 2,
    testDevice: true,
  },
  { name: 'tsx-ctrl', file: 'tsx-ctrl' },
  { name: 'x2apic', file: 'apic', processors: 2 },
  { name: 'ioapic', file: 'ioapic', processors: 4 },
  { name: 'eventinj-4', file: 'eventinj', processors: 4 },
  { name: 'hpet_read_test', file: 'hpet_read_test', processors: 4 },
  { name: 'intel_iommu', file: 'intel-iommu', processors: 4, iommu: true },
];

/** What the tests read as a multiboot module. */
const environmentOf = (processors: number, testDevice: boolean): string =>
  `NR_CPUS=${processors}\nMEMSIZE=512\nTEST_DEVICE=${testDevice ? 1 : 0}\nBOOTLOADER=1\n`;
const MEMORY = 512 * 2 ** 20;
const MILLION = 1e6;

/** An NMI, with the handler in real mode that the test has for the device: an IRET at 1000h. */
function wake(machine: Machine): void {
  machine.physical.write(4 * 2, 4, 0x1000);
  machine.state.set32('nmiRequest', 1);
}

/** A stop in a few words. */
function describeStop(stop: StopReason): string {
  if (stop.kind === 'debugExit') return `exit ${stop.value}`;
  if (stop.kind === 'unimplemented') return `not simulated: ${stop.what} at ${stop.address.toString(16)}`;
  return stop.kind;
}

function run(folder: string, row: Row): { text: string; stop: StopReason; instructions: number } {
  const { processors = 1 } = row;
  const machine = createMachine({
    memory: MEMORY,
    cpuModel: row.cpuModel ?? 'max',
    cpus: processors,
    testDevice: true,
    ...(row.iommu ? { iommu: true, devices: [{ kind: 'edu' }] } : {}),
  });
  let text = '';
  machine.serial.onOutput = (byte) => {
    text += String.fromCharCode(byte);
  };
  const bytes = new TextEncoder().encode(environmentOf(processors, row.testDevice ?? false));
  const environment = { name: 'environment', bytes, commandLine: 'environment' };
  const name = `${row.file}.flat`;
  const image = new Uint8Array(readFileSync(join(folder, 'x86', name)));
  machine.boot({ name, image, commandLine: row.commandLine ?? '', modules: [environment] });
  const limit = (row.limit ?? 2000) * MILLION;
  let stop = machine.run(limit);
  if (stop.kind === 'halted' && row.wakes) {
    wake(machine);
    stop = machine.run(limit);
  }
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
