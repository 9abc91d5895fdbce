/**
 * What guests and devices can do wrong to the machine as a whole: it goes on or stops with a reason, never with an
 * exception of JavaScript or without an end. Fault reasons are those of the VT-d specification, "Fault Reason Encodings".
 */

import assert from 'node:assert/strict';
import type { Machine, MachineConfig } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { DmaFault } from '../../sim-core/platform/dma.ts';
import { GPR } from '../../sim-core/state/layout.ts';
import { assemble } from '../support/nasm.ts';
import { randomNumbers } from '../support/random-program.ts';

const MEMORY = 4 * 2 ** 20;
/** Device 1 on bus 0. */
const EDU = { requester: 1 << 3, bar: 0x10, source: 0x80, destination: 0x88, count: 0x90, command: 0x98 } as const;
const EDU_BUFFER = 0x4_0000;
/** Bits of edu's command: start; from the device to memory. */
const TO_MEMORY = 3;
const ECAM = 0xe000_0000;
const BUS_MASTER_AND_MEMORY = 6;
const IOMMU = 0xfed9_0000;
const REGISTER = { command: 0x18, root: 0x20, faultStatus: 0x34, head: 0x80, tail: 0x88, queue: 0x90 } as const;
const COMMAND = { translate: 2 ** 31, setRoot: 2 ** 30, queue: 2 ** 26 } as const;
const QUEUE_ERROR = 0x10;
const TRANSFER = 100_000;

const images = new Map<string, Uint8Array>();

function imageOf(source: string): Uint8Array {
  const image = images.get(source) ?? assemble(`bits 32\norg 0x100000\n${source}`);
  images.set(source, image);
  return image;
}

function boot(source: string, config: Partial<MachineConfig> = {}): Machine {
  const machine = createMachine({ memory: MEMORY, ...config });
  machine.boot({ name: 'test', image: imageOf(source), commandLine: '', modules: [], format: 'flat' });
  return machine;
}

const SPIN = 'inc ecx\njmp 0x100000';
const spinsOn = (machine: Machine): void => assert.equal(machine.run(1000).kind, 'limit');

const low = ({ state }: Machine, register: number): number => Number(state.get64('gpr', register));

describe('a guest that storms interrupts', () => {
  /** Input 5 of the I/O APIC, level-triggered, stays up. The handler counts in EBX. */
  const STORM = `
      mov esp, 0x90000
      lgdt [gdtr]
      jmp 8:.flat
  .flat: mov eax, handler
      mov [0x80000 + 8 * 0x51], ax
      mov word [0x80000 + 8 * 0x51 + 2], cs
      mov word [0x80000 + 8 * 0x51 + 4], 0x8e00
      shr eax, 16
      mov [0x80000 + 8 * 0x51 + 6], ax
      lidt [idtr]
      mov dword [0xfee000f0], 0x1ff
      mov dword [0xfec00000], 0x1a
      mov dword [0xfec00010], 0x8051
      mov dx, 0x2005
      mov al, 1
      out dx, al
      sti
  spin: inc ecx
      jmp spin
  handler: inc ebx
      mov dword [0xfee000b0], 0
      iretd
  idtr: dw 0x7ff
      dd 0x80000
  align 8
  gdt: dq 0, 0x00cf9b000000ffff
  gdtr: dw 15
      dd gdt`;

  it('keeps to the number of instructions that it is given', () => {
    const machine = boot(STORM, { testDevice: true });
    assert.equal(machine.run(300_000).kind, 'limit');
    assert.equal(machine.instructions, 300_000);
    // Three instructions each: behind IRETD the next interrupt comes before the loop's next instruction.
    assert.ok(low(machine, GPR.rbx) > 90_000, `${low(machine, GPR.rbx)} interrupts`);
  });

  it('asks on the way whether to stop, of its own accord', () => {
    const machine = boot(STORM, { testDevice: true });
    let asked = 0;
    machine.onSample = () => {
      if (++asked === 3) machine.requestStop();
    };
    assert.equal(machine.run(10_000_000).kind, 'paused');
    assert.ok(machine.instructions < 100_000, `stopped after ${machine.instructions} instructions`);
    machine.onSample = undefined;
    assert.equal(machine.run(300_000).kind, 'limit');
  });

  it('can be paused', () => {
    const machine = boot(STORM, { testDevice: true });
    machine.run(1000);
    machine.requestStop();
    assert.equal(machine.run(1_000_000).kind, 'paused');
  });
});

/** The edu device's memory, with bus mastering on. */
function eduOf({ physical }: Machine): number {
  const configuration = ECAM + (EDU.requester << 12);
  physical.write(configuration + 4, 2, BUS_MASTER_AND_MEMORY);
  return physical.read(configuration + EDU.bar, 4) & ~0xf;
}

/** edu writes 16 bytes to an address. @returns what was refused */
function dma(machine: Machine, address: bigint): DmaFault[] {
  const faults: DmaFault[] = [];
  machine.onDmaFault = (fault) => {
    faults.push(fault);
    return false;
  };
  const edu = eduOf(machine) >>> 0;
  const put = (offset: number, value: bigint): void => {
    machine.physical.write(edu + offset, 4, Number(value & 0xffff_ffffn));
    machine.physical.write(edu + offset + 4, 4, Number(value >> 32n));
  };
  put(EDU.source, BigInt(EDU_BUFFER));
  put(EDU.destination, address);
  put(EDU.count, 16n);
  put(EDU.command, BigInt(TO_MEMORY));
  spinsOn(machine);
  machine.run(TRANSFER);
  return faults;
}

const edu = { kind: 'edu', dmaMask: 2n ** 64n - 1n } as const;

describe('DMA to nowhere', () => {
  it('is refused with the requester, the address and what is missing; the machine goes on', () => {
    const machine = boot(SPIN, { devices: [edu] });
    for (const address of [BigInt(MEMORY), 0xfed0_0000n, 2n ** 40n, 2n ** 63n]) {
      const faults = dma(machine, address);
      assert.equal(faults.length, 1, address.toString(16));
      const [{ requester, access, text } = {}] = faults;
      assert.deepEqual([requester, access, faults[0]?.address], [EDU.requester, 'write', address]);
      assert.notEqual(text, '');
      spinsOn(machine);
    }
  });

  it('stops the machine when the debugger wants that', () => {
    const machine = boot(SPIN, { devices: [edu] });
    dma(machine, 0n);
    const address = eduOf(machine) >>> 0;
    machine.onDmaFault = () => true;
    machine.physical.write(address + EDU.destination, 4, MEMORY);
    machine.physical.write(address + EDU.command, 4, TO_MEMORY);
    assert.equal(machine.run(TRANSFER).kind, 'dmaFault');
  });
});

/** Turns translation on with a root table somewhere. */
function translate({ physical }: Machine, root: number): void {
  physical.write(IOMMU + REGISTER.root, 4, root);
  physical.write(IOMMU + REGISTER.root + 4, 4, 0);
  physical.write(IOMMU + REGISTER.command, 4, COMMAND.setRoot);
  physical.write(IOMMU + REGISTER.command, 4, COMMAND.translate);
}

describe('malformed IOMMU tables', () => {
  const ROOT = 0x20_0000;

  it('a root table outside memory is a fault of its own', () => {
    const machine = boot(SPIN, { devices: [edu], iommu: true });
    translate(machine, 0x7fff_f000);
    const faults = dma(machine, 0x1000n);
    // 8: an access to the root table failed.
    assert.deepEqual(
      faults.map(({ reason }) => reason),
      [8],
    );
    spinsOn(machine);
  });

  it('random ones give a fault with a reason, or memory: never anything else', () => {
    const random = randomNumbers(5);
    const word = (): number => random(2 ** 32);
    const reasons = new Set<number>();
    for (let turn = 0; turn < 60; turn++) {
      const machine = boot(SPIN, { devices: [edu], iommu: true });
      const { physical } = machine;
      // Entries that are present and lead to tables in memory, with some random bits.
      for (let at = ROOT; at < ROOT + 0x4000; at += 8) {
        const low = ROOT + 0x1000 * (word() % 4) + (word() % 4 === 0 ? word() & 0xfff : 3);
        physical.write(at, 4, word() % 2 ? low & ~2 : low);
        physical.write(at + 4, 4, word() % 3 === 0 ? word() : word() % 8);
      }
      translate(machine, ROOT);
      for (const { reason, text } of dma(machine, BigInt(word() & ~0xfff))) {
        assert.notEqual(text, '');
        if (reason !== undefined) reasons.add(reason);
      }
      spinsOn(machine);
    }
    assert.ok(reasons.size >= 2, `only reasons ${[...reasons]}`);
  });
});

describe('garbage in the invalidation queue', () => {
  const QUEUE = 0x20_0000;

  it('stops the queue with an error flag, and nothing else', () => {
    const random = randomNumbers(6);
    let errors = 0;
    for (let turn = 0; turn < 40; turn++) {
      const machine = boot(SPIN, { devices: [edu], iommu: true });
      const { physical } = machine;
      for (let at = QUEUE; at < QUEUE + 0x1000; at += 4) physical.write(at, 4, random(2 ** 32));
      physical.write(IOMMU + REGISTER.queue, 4, QUEUE);
      physical.write(IOMMU + REGISTER.queue + 4, 4, 0);
      physical.write(IOMMU + REGISTER.command, 4, COMMAND.queue);
      physical.write(IOMMU + REGISTER.tail, 4, 0xff0);
      const failed = (physical.read(IOMMU + REGISTER.faultStatus, 4) & QUEUE_ERROR) !== 0;
      assert.equal(failed, physical.read(IOMMU + REGISTER.head, 4) !== 0xff0);
      if (failed) errors++;
      spinsOn(machine);
    }
    assert.ok(errors > 30, `${errors} errors`);
  });
});
