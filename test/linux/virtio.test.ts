// Expected values: what the same kernel prints on QEMU with -device intel-iommu; arithmetic; the test's own disk.
import assert from 'node:assert/strict';
import type { MachineConfig } from '../../sim-core/machine/api.ts';
import { History } from '../../sim-core/machine/history/history.ts';
import { formatRecording, parseRecording, type RecordedBoot } from '../../sim-core/machine/history/recording.ts';
import { stateHash } from '../../sim-core/machine/history/state-hash.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { DeviceConfig } from '../../sim-core/platform/devices.ts';
import { memoryImage } from '../../sim-core/platform/virtio/disk.ts';
import type { DebianFiles } from './debian.ts';
import { makeInitramfs, program } from './initramfs.ts';
import { filesOrSkip } from './sessions.ts';
import { Terminal } from './terminal.ts';

const PROMPT = 'guest# ';
const MEMORY = 256 * 2 ** 20;
/** In the order in which they need each other. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_blk'],
  ...['failover', 'net_failover', 'virtio_net', 'virtio-rng'],
];
const DISK_SIZE = 2 ** 20;
/** Device 1 on bus 0. */
const BLOCK_DEVICE = 1 << 3;
/** In the machine's list of devices. */
const SECOND_CARD = 2;
const SLICE = 7_654_321;
/** What a recording says of the boot; here the machine is made again by the test itself. */
const BOOTED: RecordedBoot = {
  image: { name: 'vmlinuz', path: 'vmlinuz', hash: '' },
  ...{ commandLine: '', format: 'auto', modules: [], disks: [] },
  machine: { memory: MEMORY, cpuModel: 'westmere', cpus: 1, vmx: true, iommu: true, devices: [] },
};

function disk(): Uint8Array {
  const bytes = new Uint8Array(DISK_SIZE);
  bytes.set(new TextEncoder().encode('the first sector'));
  return bytes;
}

const devices = (image: Uint8Array): readonly DeviceConfig[] => [
  { kind: 'virtio-blk', disk: memoryImage(image) },
  { kind: 'virtio-net' },
  { kind: 'virtio-net', packed: false },
  { kind: 'virtio-rng' },
  { kind: 'edu' },
];

/** @param how what is said of VT-d on the command line */
function boot(files: DebianFiles, image: Uint8Array, how = 'on', more: Partial<MachineConfig> = {}): Terminal {
  const machine = createMachine({ memory: MEMORY, iommu: true, devices: devices(image), ...more });
  const modules = MODULES.map((name) => program(`lib/${name}.ko`, files.module(name)));
  machine.boot({
    name: 'vmlinuz',
    image: files.kernel,
    commandLine: `console=ttyS0 intel_iommu=${how}`,
    modules: [{ name: 'initramfs', bytes: makeInitramfs(files.busybox, modules), commandLine: '' }],
  });
  return new Terminal(machine);
}

/** Types a command. @returns its output */
function run(terminal: Terminal, command: string): string {
  terminal.type(command);
  terminal.waitFor('\r\n');
  return terminal.waitFor(PROMPT).slice(0, -PROMPT.length);
}

const LOAD_MODULES = `for m in ${MODULES.join(' ')}; do insmod /lib/$m.ko; done`;

describe("Debian's cloud kernel behind VT-d", function () {
  this.timeout(400_000);
  const image = disk();
  let files: DebianFiles;
  let terminal: Terminal;
  const faults: string[] = [];

  before(function () {
    files = filesOrSkip(this);
    terminal = boot(files, image);
    terminal.machine.onDmaFault = ({ text, access, address }) => {
      faults.push(`${access} 0x${address.toString(16)}: ${text}`);
      return false;
    };
  });

  const shell = (command: string): string => run(terminal, command);

  it('finds the DMAR table, and turns on DMA and interrupt remapping', () => {
    const log = terminal.waitFor(PROMPT);
    assert.match(log, /DMAR: dmar0: reg_base_addr fed90000 ver 1:0/);
    assert.match(log, /DMAR-IR: Enabled IRQ remapping/);
    assert.match(log, /DMAR: Intel\(R\) Virtualization Technology for Directed I\/O/);
    assert.doesNotMatch(log, /DMAR:.*(?:fault|error|failed)/i);
    assert.ok(terminal.machine.iommu?.translates);
    assert.ok(terminal.machine.iommu?.remapsInterrupts);
  });

  it('uses a virtio disk, which keeps its image', () => {
    shell(LOAD_MODULES);
    assert.match(shell('head -c 16 /dev/vda; echo'), /(?:^|\n)the first sector\r\n/);
    assert.match(shell('cat /sys/block/vda/size'), /^2048\r\n/);
    shell('echo changed | dd of=/dev/vda bs=512 seek=9 conv=fsync 2> /dev/null; echo 3 > /proc/sys/vm/drop_caches');
    assert.match(shell('dd if=/dev/vda bs=512 skip=9 count=1 2> /dev/null | head -n 1'), /(?:^|\n)changed\r\n/);
    assert.deepEqual(image, disk());
  });

  it('takes packed rings where they are offered, and tables of descriptors and event indices everywhere', () => {
    // Bits 28, 29 and 34, counted from 1; devices in the order of the configuration.
    const features = shell('for i in 0 1 2 3; do cut -c 29,30,35 /sys/bus/virtio/devices/virtio$i/features; done');
    assert.match(features, /(?:^|\n)111\r\n111\r\n110\r\n111\r\n/);
  });

  it('gets numbers from the entropy device', () => {
    assert.match(shell('cat /sys/class/misc/hw_random/rng_current'), /^virtio_rng/);
    assert.match(shell('dd if=/dev/hwrng bs=16 count=1 2> /dev/null | wc -c'), /^16\r\n/);
  });

  it('sends frames from one network card to the other', () => {
    // The kernel's own messages come when they like.
    shell('for i in all default; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done');
    shell('for i in eth0 eth1; do ifconfig $i up; done');
    shell('arping -c 2 -I eth0 -U 10.0.0.9 > /dev/null');
    const packets = shell('cat /sys/class/net/eth1/statistics/rx_packets');
    assert.ok(Number.parseInt(packets, 10) >= 2, packets);
  });

  it('takes frames from outside', () => {
    const received = (card: string): number =>
      Number.parseInt(shell(`cat /sys/class/net/${card}/statistics/rx_packets`), 10);
    const before = [received('eth0'), received('eth1')];
    // To everybody, from a station that is not there, with an EtherType for experiments.
    const frame = Uint8Array.from([...Array(6).fill(0xff), 2, 0, 0, 0, 0, 7, 0x88, 0xb5, ...Array(46).fill(0)]);
    for (let i = 0; i < 3; i++) terminal.apply({ kind: 'device', device: SECOND_CARD, bytes: frame });
    shell('sleep 1');
    assert.deepEqual([received('eth0'), received('eth1')], [before[0] ?? 0, (before[1] ?? 0) + 3]);
  });

  it('lets no device do DMA that it was not told to', () => {
    assert.deepEqual(faults, []);
    assert.match(shell('grep -c virtio /proc/interrupts'), /^[1-9]/);
  });

  it('does all of it again to the same state, by a recording of what was typed and what came over the network', () => {
    const { machine, events, output } = terminal;
    const end = machine.rewindable.position;
    const recording = parseRecording(formatRecording({ ...BOOTED, events, end, hash: stateHash(machine) }));
    const again = boot(files, image);
    const history = new History(again.machine.rewindable, { future: recording, interval: Number.POSITIVE_INFINITY });
    while (history.isInPast) history.run(Math.min(SLICE, Math.max(1, end.instructions - again.machine.instructions)));
    assert.equal(again.output, output);
    assert.equal(stateHash(again.machine), recording.hash);
  });
});

describe("Debian's cloud kernel behind VT-d in scalable mode, with two processors", function () {
  this.timeout(400_000);

  it('translates by second-stage tables of PASID entries, and has its interrupts remapped to x2APICs', function () {
    const image = disk();
    const how = { cpus: 2, cpuModel: 'max' } as const;
    const terminal = boot(filesOrSkip(this), image, 'on,sm_on iommu.strict=1', how);
    const { machine } = terminal;
    const faults: string[] = [];
    machine.onDmaFault = ({ text }) => {
      faults.push(text);
      return false;
    };
    const log = terminal.waitFor(PROMPT);
    assert.match(
      log,
      /DMAR: Enable scalable mode if hardware supports[\s\S]*DMAR-IR: Enabled IRQ remapping in x2apic mode/,
    );
    run(terminal, LOAD_MODULES);
    assert.match(run(terminal, 'head -c 16 /dev/vda; echo'), /(?:^|\n)the first sector\r\n/);
    assert.match(run(terminal, 'grep -c IR-PCI-MSI /proc/interrupts'), /(?:^|\n)[1-9]/);
    const { iommu } = machine;
    // RTADDR bits 11:10, TTM: 1 is scalable mode.
    assert.equal((iommu?.tables.root ?? 0n) & 0xc00n, 0x400n);
    const { steps = [], domain } = iommu?.domainNow(BLOCK_DEVICE) ?? {};
    assert.ok(domain?.table !== undefined);
    assert.match(steps.map(({ table }) => table).join(), /scalable-mode context entry,PASID directory entry,PASID/);
    assert.deepEqual(faults, []);
  });
});
