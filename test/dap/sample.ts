import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';

export const ROOT = join(import.meta.dirname, '../..');
export const FIRST_VMM = join(ROOT, 'examples/first-vmm');

/** Debugs the sample hypervisor with its guest. */
export const firstVmm = (more: Partial<LaunchArguments> = {}): LaunchArguments => ({
  program: join(FIRST_VMM, 'first-vmm.elf'),
  modules: [join(FIRST_VMM, 'guest.elf')],
  guests: [{ name: 'guest', program: join(FIRST_VMM, 'guest.elf') }],
  ...more,
});

const TWO_GUESTS = join(ROOT, 'examples/two-guests');

/** Debugs the hypervisor with two guests: both programs are linked at the same addresses. */
export const twoGuests = (more: Partial<LaunchArguments> = {}): LaunchArguments => ({
  program: join(TWO_GUESTS, 'two-guests.elf'),
  modules: ['primes', 'collatz'].map((name) => join(TWO_GUESTS, `${name}.elf`)),
  guests: ['primes', 'collatz'].map((name, index) => ({
    name,
    program: join(TWO_GUESTS, `${name}.elf`),
    when: { vpid: index + 1 },
  })),
  stopOn: 'none',
  ...more,
});

const DIRECT_ASSIGNMENT = join(ROOT, 'examples/direct-assignment');

/** Debugs the hypervisor whose guest owns a device, on a machine with an IOMMU. */
export const directAssignment = (more: Partial<LaunchArguments> = {}): LaunchArguments => ({
  program: join(DIRECT_ASSIGNMENT, 'direct-assignment.elf'),
  modules: [join(DIRECT_ASSIGNMENT, 'guest.elf')],
  machine: { devices: ['edu'], iommu: true, memory: '64M' },
  ...more,
});

/** Path and number of the first line of a sample's source that contains a text. */
export function lineWith(file: string, text: string): { path: string; line: number } {
  const path = join(FIRST_VMM, file);
  const index = readFileSync(path, 'utf8')
    .split('\n')
    .findIndex((line) => line.includes(text));
  if (index < 0) throw new Error(`${file} has no line with '${text}'`);
  return { path, line: index + 1 };
}

/**
 * A 64-bit ELF program of one segment at 1 MiB that holds the given machine code, which is also its entry.
 * @param machine e_machine; 62 is x86-64.
 */
export function elf64(code: readonly number[], machine = 62): Buffer {
  const address = 0x10_0000n;
  const headers = 64 + 56;
  const file = Buffer.alloc(headers + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(address + BigInt(headers), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, 64);
  file.writeUInt32LE(7, 68);
  file.writeBigUInt64LE(address, 80);
  file.writeBigUInt64LE(address, 88);
  file.writeBigUInt64LE(BigInt(file.length), 96);
  file.writeBigUInt64LE(BigInt(file.length), 104);
  file.writeBigUInt64LE(4096n, 112);
  file.set(code, headers);
  return file;
}
