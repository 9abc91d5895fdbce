// Expected values: what Debian's kernel prints on QEMU (-machine q35, the same command line); arithmetic.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { type DebianFiles, debianFiles } from './debian.ts';
import { makeInitramfs, program } from './initramfs.ts';
import { Terminal } from './terminal.ts';

const PROMPT = 'guest# ';
const MEMORY = 256 * 2 ** 20;
/** 24 December 2025, 18:30 UTC. */
const START_TIME = 1_766_601_000;

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

function boot(files: DebianFiles): Terminal {
  const machine = createMachine({ memory: MEMORY, startTime: START_TIME });
  const modules = ['irqbypass', 'kvm', 'kvm-intel'].map((name) => program(`lib/${name}.ko`, files.module(name)));
  const initramfs = makeInitramfs(files.busybox, [program('bin/kvm-guest', compileGuest()), ...modules]);
  machine.boot({
    name: 'vmlinuz',
    image: files.kernel,
    commandLine: 'console=ttyS0',
    modules: [{ name: 'initramfs', bytes: initramfs, commandLine: '' }],
  });
  return new Terminal(machine);
}

describe("Debian's cloud kernel", function () {
  this.timeout(400_000);
  let terminal: Terminal;

  before(function () {
    const files = debianFiles();
    if (typeof files === 'string') {
      console.log(`      skipped: ${files}`);
      this.skip();
    }
    terminal = boot(files);
  });

  /** Types a command. @returns its output */
  function shell(command: string): string {
    terminal.type(command);
    terminal.waitFor('\r\n');
    return terminal.waitFor(PROMPT).slice(0, -PROMPT.length);
  }

  it('boots to a shell on the serial port, and finds the devices by the ACPI tables', () => {
    const log = terminal.waitFor(PROMPT);
    assert.match(log, /IOAPIC\[0\]: apic_id 1, version 32, address 0xfec00000, GSI 0-23/);
    assert.match(log, /ACPI: Using IOAPIC for interrupt routing/);
    assert.match(log, /PCI: MMCONFIG for domain 0000 \[bus 00-ff\] at \[mem 0xe0000000-0xefffffff\]/);
    assert.match(log, /hpet0: 3 comparators, 64-bit 100\.000000 MHz counter/);
    assert.match(log, /i8042: PNP: PS\/2 Controller \[PNP0303:KBD\] at 0x60,0x64 irq 1/);
    assert.match(log, /ttyS0 at I\/O 0x3f8 \(irq = 4, base_baud = 115200\) is a 16550A/);
    assert.match(log, /rtc_cmos .* setting system clock to 2025-12-24T18:30:0\d UTC/);
    assert.doesNotMatch(log, /Call Trace|BUG:|ACPI BIOS Error|ACPI Error|Kernel panic/);
  });

  it('runs commands that are typed', () => {
    assert.match(shell('uname -sm'), /^Linux x86_64\r\n/);
    assert.match(shell('echo $((6 * 7))'), /^42\r\n/);
    const interrupts = shell('cat /proc/interrupts');
    assert.match(interrupts, /4: +\d+ +IO-APIC +4-edge +ttyS0/);
    assert.match(interrupts, /LOC: +[1-9]\d* +Local timer interrupts/);
  });

  it('loads kvm-intel, which runs a guest of 16-bit code through /dev/kvm', () => {
    shell('for m in irqbypass kvm kvm-intel; do insmod /lib/$m.ko; done');
    assert.match(shell('ls /dev/kvm'), /^\/dev\/kvm\r\n/);
    const entries = terminal.machine.vmx.entries;
    assert.match(shell('kvm-guest'), /guest sent 55\r\nguest halted\r\n/);
    assert.ok(terminal.machine.vmx.entries > entries);
  });

  it('powers off', () => {
    terminal.type('poweroff -f');
    assert.equal(terminal.untilStop().kind, 'powerOff');
  });
});
