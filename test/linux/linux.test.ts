// Expected values: what Debian's kernel prints on QEMU (-machine q35, the same command line); arithmetic.
import assert from 'node:assert/strict';
import { CONSOLE_MODULES, PROMPT, type Session, sessionsOrSkip } from './sessions.ts';
import type { Terminal } from './terminal.ts';

/** Types a command. @returns its output */
function run(terminal: Terminal, command: string): string {
  // Messages of the kernel must not come between.
  terminal.type(`dmesg -n 1; ${command}`);
  terminal.waitFor('\r\n');
  return terminal.waitFor(PROMPT).slice(0, -PROMPT.length);
}

describe("Debian's cloud kernel", function () {
  this.timeout(400_000);
  let session: Session;
  let terminal: Terminal;
  const shell = (command: string): string => run(terminal, command);

  before(function () {
    session = sessionsOrSkip(this).shared(1);
    terminal = session.terminal;
  });

  it('boots to a shell on the serial port, and finds the devices by the ACPI tables', () => {
    const { log } = session;
    assert.match(log, /IOAPIC\[0\]: apic_id 1, version 32, address 0xfec00000, GSI 0-23/);
    assert.match(log, /ACPI: Using IOAPIC for interrupt routing/);
    assert.match(log, /PCI: MMCONFIG for domain 0000 \[bus 00-ff\] at \[mem 0xe0000000-0xefffffff\]/);
    assert.match(log, /hpet0: 3 comparators, 64-bit 100\.000000 MHz counter/);
    assert.match(log, /i8042: PNP: PS\/2 Controller \[PNP0303:KBD\] at 0x60,0x64 irq 1/);
    assert.match(log, /ttyS0 at I\/O 0x3f8 \(irq = 4, base_baud = 115200\) is a 16550A/);
    assert.match(log, /rtc_cmos .* setting system clock to 2025-12-24T18:30:0\d UTC/);
    assert.doesNotMatch(log, /Call Trace|unchecked MSR|BUG:|ACPI BIOS Error|ACPI Error|Kernel panic/);
  });

  it('runs commands that are typed', () => {
    assert.match(shell('uname -sm'), /^Linux x86_64\r\n/m);
    assert.match(shell('echo $((6 * 7))'), /^42\r\n/m);
    const interrupts = shell('cat /proc/interrupts');
    assert.match(interrupts, /4: +\d+ +IO-APIC +4-edge +ttyS0/);
    assert.match(interrupts, /LOC: +[1-9]\d* +Local timer interrupts/);
  });

  it('loads kvm-intel, which runs a guest of 16-bit code through /dev/kvm', () => {
    shell('for m in irqbypass kvm kvm-intel; do insmod /lib/$m.ko; done');
    assert.match(shell('ls /dev/kvm'), /^\/dev\/kvm\r\n/m);
    const entries = terminal.machine.vmx.entries;
    assert.match(shell('kvm-guest'), /guest sent 55\r\nguest halted\r\n/);
    assert.ok(terminal.machine.vmx.entries > entries);
  });

  it('talks over a virtio console, which interrupts by messages to a logical destination', () => {
    let said = '';
    session.console.onOutput = (bytes) => {
      said += String.fromCharCode(...bytes);
    };
    shell(`for m in ${CONSOLE_MODULES.join(' ')}; do insmod /lib/$m.ko; done`);
    shell('echo hello > /dev/hvc0');
    assert.equal(said, 'hello\r\n');
    shell('(read line < /dev/hvc0; echo got $line) & sleep 1');
    session.console.input(new TextEncoder().encode('typed\n'));
    terminal.waitFor('got typed\r\n');
    assert.match(shell('cat /proc/interrupts'), /: +[1-9]\d* +PCI-MSI \d+-edge +virtio0-input/);
  });

  it('powers off', () => {
    terminal.type('poweroff -f');
    assert.equal(terminal.untilStop().kind, 'powerOff');
  });
});

describe("Debian's cloud kernel on 4 processors", function () {
  this.timeout(400_000);

  it('starts all of them, uses them, and powers off', function () {
    const { terminal, log } = sessionsOrSkip(this).shared(4);
    assert.match(log, /smp: Brought up 1 node, 4 CPUs/);
    assert.match(run(terminal, 'nproc'), /^4\r\n/m);
    // A process of its own for each processor, which says where it ran.
    const placed = run(terminal, 'for i in 0 1 2 3; do taskset -c $i cut -d" " -f39 /proc/self/stat; done');
    assert.match(placed, /^0\r\n1\r\n2\r\n3\r\n/m);
    terminal.type('poweroff -f');
    assert.equal(terminal.untilStop().kind, 'powerOff');
  });
});
