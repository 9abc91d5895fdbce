/**
 * The test kernels, and where other emulators are known to disagree with the manual (and so with the kernels).
 * `oracles.ts` runs the kernels on those emulators and compares with this table.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DeviceConfig } from '../../sim-core/platform/devices.ts';
import { memoryImage } from '../../sim-core/platform/virtio/disk.ts';

export interface Kernel {
  readonly name: string;
  /** File name without `.asm`. Default: the name. */
  readonly file?: string;
  /** Default: the machine's. */
  readonly cpuModel?: string;
  /** Number of processors; default 1. */
  readonly processors?: number;
  /** PCI devices, behind an IOMMU. */
  readonly devices?: readonly DeviceConfig[];
  /** With pc-testdev. */
  readonly testDevice?: boolean;
  /** What QEMU needs for the same machine. */
  readonly qemuMachine?: readonly string[];
  /** Names of the statements that fail there, or why the emulator cannot run the kernel. */
  readonly qemu: readonly string[] | string;
  readonly bochs: readonly string[] | string;
}

const TCG_LACKS_CHECKS = 'TCG leaves out most checks of segment limits and rights, and of control registers and MSRs';
const TCG_LACKS_VMX = 'TCG has no VMX';
const BOCHS_HAS_ONE_PROCESSOR = 'Debian builds Bochs for one processor';
const LACKS_LA57 = 'the processor that it runs has no 5-level paging';
const LACKS_COUNTERS = 'it has no performance counters';
const ORACLES_HAVE_ONE_MODEL = 'the emulators run one processor model, by the kernel of the plain name';

/** Error codes that TCG of QEMU 7.2 forms otherwise: it scales IDT indices by 16, and leaves out P beside RSVD. */
export const KERNELS: readonly Kernel[] = [
  { name: 'modes', qemu: [], bochs: [] },
  { name: 'segments32', qemu: TCG_LACKS_CHECKS, bochs: [] },
  {
    name: 'gates32',
    qemu: ["gate with an offset beyond the segment's limit", '#NP at the delivery of #UD has the EXT flag'],
    bochs: [],
  },
  { name: 'paging32', qemu: 'TCG reads the pointers of PAE paging from memory at each walk', bochs: [] },
  {
    name: 'gates64',
    qemu: [
      'gate that is not present',
      'gate of a 16-bit type',
      'gate with an offset that is not canonical',
      "vector beyond the IDT's limit",
      'INT from ring 3 through a gate of DPL 0',
      'INT3 from ring 3 does look at it',
      'INT1 from ring 3 does not',
      '#NP at the delivery of #UD is no double fault',
      'IRETQ to a RIP that is not canonical',
    ],
    bochs: ['IST2 that is not canonical', 'IRETD in 64-bit mode pops ESP and SS'],
  },
  {
    name: 'paging64',
    qemu: [
      'read-modify-write counts as a write',
      'bit 63 is reserved while EFER.NXE = 0',
      'address bit beyond MAXPHYADDR',
      '2 MiB page that is not aligned (bits 20:13)',
      'PS in a PML4 entry',
    ],
    bochs: [],
  },
  {
    name: 'paging57',
    cpuModel: 'icelake',
    qemu: [
      '4 levels: IA32_LSTAR takes no more',
      '5 levels: PS in a PML5 entry is reserved',
      '5 levels: SS-relative, not canonical',
      '5 levels: JMP to an address that is not canonical',
      '5 levels: access across the end of the canonical addresses',
    ],
    bochs: LACKS_LA57,
  },
  { name: 'registers64', qemu: TCG_LACKS_CHECKS, bochs: [] },
  {
    name: 'syscall64',
    qemu: ['SYSRET to an address that is not canonical faults in ring 0', 'the fault is at CPL 0'],
    bochs: [],
  },
  { name: 'self_modifying', qemu: [], bochs: [] },
  { name: 'strings64', qemu: [], bochs: [] },
  {
    name: 'features64',
    cpuModel: 'max',
    qemu: 'TCG of QEMU 7.2 has no XSAVEC, and its XSAVE does not look at CR0.TS',
    bochs: 'its Skylake-X has no UMIP',
  },
  // TCG executes RDSEED without reporting it.
  { name: 'instructions64', qemu: ['RDSEED'], bochs: [] },
  ...['skylake', 'icelake', 'max'].map((cpuModel) => ({
    name: `instructions64 on ${cpuModel}`,
    file: 'instructions64',
    cpuModel,
    qemu: ORACLES_HAVE_ONE_MODEL,
    bochs: ORACLES_HAVE_ONE_MODEL,
  })),
  { name: 'performance64', cpuModel: 'skylake', qemu: LACKS_COUNTERS, bochs: LACKS_COUNTERS },
  { name: 'stepping', qemu: [], bochs: [] },
  { name: 'realmode16', qemu: ['#GP: an access beyond 64 KiB'], bochs: [] },
  {
    name: 'virtual8086',
    qemu: ['IRETD to a 32-bit EIP beyond the limit', 'access beyond 64 KiB', 'handler of CPL 3'],
    bochs: ['IRETD to a 32-bit EIP beyond the limit'],
  },
  {
    name: 'tasks32',
    qemu: [
      'new task with code that cannot be read in DS',
      'new task with a TSS in ES',
      'new task with data in FS that is not present',
      'new task with GS beyond the GDT',
    ],
    bochs: [],
  },
  {
    name: 'breakpoints32',
    qemu: 'TCG takes an instruction breakpoint behind MOV SS',
    bochs: ['RF is saved set between iterations'],
  },
  { name: 'interrupts32', qemu: ['MOV SS: one more instruction'], bochs: [] },
  { name: 'vmx_instructions', qemu: TCG_LACKS_VMX, bochs: [] },
  { name: 'vmx_vmcall_in_root', qemu: TCG_LACKS_VMX, bochs: 'Bochs stops at VMCALL in VMX root operation' },
  {
    name: 'vmx_entry',
    qemu: TCG_LACKS_VMX,
    bochs: ['VM-entry: entry to SMM outside SMM', 'guest RIP: bits 63:48'],
  },
  {
    name: 'dma_remapping',
    devices: [{ kind: 'edu' }],
    qemuMachine: ['-M', 'q35', '-device', 'intel-iommu,intremap=on,aw-bits=48', '-device', 'edu'],
    // QEMU 7.2 neither records faults of interrupt remapping nor blocks the compatibility format.
    qemu: ['requester that the entry is not for', 'the compatibility format is blocked'],
    bochs: 'Bochs has neither edu nor an IOMMU',
  },
  {
    name: 'io_apic32',
    testDevice: true,
    qemuMachine: ['-M', 'q35', '-device', 'pc-testdev'],
    qemu: [],
    bochs: 'Bochs has no pc-testdev',
  },
  {
    name: 'ata32',
    devices: [
      { kind: 'ide-hd', disk: memoryImage(new Uint8Array(8 * 2 ** 20)) },
      { kind: 'ide-cd', disk: memoryImage(new Uint8Array(2 ** 20)) },
    ],
    qemuMachine: [
      ...['-drive', 'if=ide,index=0,driver=null-co,size=8M,read-zeroes=on,snapshot=on'],
      ...['-drive', 'if=ide,index=1,media=cdrom,driver=null-co,size=1M,read-zeroes=on'],
    ],
    // It takes the event's header for no part of the data behind the length, and keeps sense data that it has told.
    qemu: ['GET EVENT STATUS NOTIFICATION: a medium event of 4 bytes', 'REQUEST SENSE: telling it ends it'],
    bochs: 'its drives are those that it boots from',
  },
  {
    name: 'timers32',
    qemuMachine: ['-M', 'q35'],
    // Each period raises the line that is up already, and the I/O APIC takes that for an edge.
    qemu: ['clock: no further interrupt before register C is read'],
    bochs: 'it needs longer than 30 s for the seconds that the clock takes',
  },
  { name: 'smp', processors: 4, qemu: [], bochs: BOCHS_HAS_ONE_PROCESSOR },
  { name: 'vmx_exits', qemu: TCG_LACKS_VMX, bochs: ['external interrupt with IF = 0'] },
];

const HERE = import.meta.dirname;

const fileOf = ({ name, file = name }: Kernel): string => `${file}.asm`;
const sourceOf = (kernel: Kernel): string => readFileSync(join(HERE, fileOf(kernel)), 'utf8');

/** Names of all statements in a kernel's source: each must be reported. */
export function statementsOf(kernel: Kernel): string[] {
  const statement = /^\s*(?:check\w*|trap|gated|refused|expect_\w+)\s+"([^"]*)"/gm;
  return [...sourceOf(kernel).matchAll(statement)].map(([, name = '']) => name);
}

/** Assembles the kernel. @returns an ELF32 file with a multiboot 1 header. @throws with nasm's messages */
export function assemble(kernel: Kernel): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-kernel-'));
  try {
    const output = join(folder, 'kernel.elf');
    const include = `${join(HERE, 'include')}/`;
    execFileSync('nasm', ['-f', 'bin', '-I', include, '-o', output, fileOf(kernel)], { cwd: HERE });
    return new Uint8Array(readFileSync(output));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export interface Report {
  readonly passed: readonly string[];
  /** Name → the whole line. */
  readonly failed: ReadonlyMap<string, string>;
  readonly ended: boolean;
}

/** Reads what a kernel printed. */
export function readReport(serial: string, statements: readonly string[]): Report {
  const lines = serial.split('\n').map((line) => line.trimEnd());
  const passed = lines.filter((line) => line.startsWith('PASS ')).map((line) => line.slice(5));
  const failed = new Map<string, string>();
  for (const line of lines.filter((text) => text.startsWith('FAIL '))) {
    const names = statements.filter((name) => line.startsWith(`FAIL ${name}`)).sort((a, b) => b.length - a.length);
    failed.set(names[0] ?? line, line);
  }
  return { passed, failed, ended: lines.includes('END') };
}
