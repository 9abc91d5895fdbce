/**
 * What the guest program test/system/ata32.asm does not see of the IDE controller: interrupts, images that fail, drives
 * that are not there, ports that do not answer, checkpoints. Registers: ATA8-ACS.
 */

import assert from 'node:assert/strict';
import { makeDevices } from '../devices.ts';
import { COMMAND, HEADER } from '../pci/config-space.ts';
import { TestBus } from '../pci/test-bus.ts';
import { type DiskImage, memoryImage } from '../virtio/disk.ts';
import { IdeController } from './controller.ts';

const SECTOR = 512;
const CHANNEL = { data: 0x1f0, error: 0x1f1, count: 0x1f2, low: 0x1f3, device: 0x1f6, command: 0x1f7, control: 0x3f6 };
const READ_SECTORS = 0x20;
const WRITE_SECTORS = 0x30;
const PACKET = 0xa0;
const IRQ = 14;
const RAM = 0x5000;

const vanished: DiskImage = {
  size: 16 * SECTOR,
  read: () => {
    throw new Error('the file is gone');
  },
};
const numbered = (): Uint8Array => Uint8Array.from({ length: 16 * SECTOR }, (_, at) => Math.floor(at / SECTOR));

/** A controller with a disk and a disc on its first channel, and a program that talks to them. */
class Host {
  readonly test = new TestBus();
  readonly controller: IdeController;

  constructor(disk: DiskImage, disc: DiskImage = memoryImage(new Uint8Array(4096))) {
    const configs = [
      { kind: 'ide-hd', disk },
      { kind: 'ide-cd', disk: disc },
    ] as const;
    const [device] = makeDevices(configs, this.test.environment);
    assert.ok(device instanceof IdeController);
    this.controller = device;
    this.test.plug(device);
    device.reset();
  }

  private find(port: number) {
    return this.controller.legacyPorts.find(({ first, count }) => port >= first && port < first + count)?.device;
  }
  in(port: number, size: 1 | 2 = 1): number {
    return this.find(port)?.read(port, size) ?? -1;
  }
  out(port: number, value: number, size: 1 | 2 = 1): void {
    this.find(port)?.write(port, size, value);
  }

  command(code: number, sector: number, count = 1, device = 0xe0): void {
    this.out(CHANNEL.device, device);
    this.out(CHANNEL.count, count);
    this.out(CHANNEL.low, sector);
    this.out(CHANNEL.command, code);
  }
  receive(words = 256): number[] {
    return Array.from({ length: words }, () => this.in(CHANNEL.data, 2));
  }
  send(words: number, value: number): void {
    for (let i = 0; i < words; i++) this.out(CHANNEL.data, value, 2);
  }
  get interrupted(): boolean {
    return this.test.lines[IRQ] === true;
  }
}

describe('IDE', () => {
  it('interrupts for each sector that can be read, and not behind the last; reading status ends it', () => {
    const host = new Host(memoryImage(numbered()));
    host.command(READ_SECTORS, 3, 2);
    assert.equal(host.interrupted, true);
    assert.equal(host.in(CHANNEL.control), 0x58);
    assert.equal(host.interrupted, true, 'alternate status leaves it');
    assert.equal(host.in(CHANNEL.command), 0x58);
    assert.equal(host.interrupted, false);
    assert.deepEqual([...new Set(host.receive())], [0x0303]);
    assert.equal(host.interrupted, true);
    host.in(CHANNEL.command);
    assert.deepEqual([...new Set(host.receive())], [0x0404]);
    assert.equal(host.interrupted, false);
  });

  it('interrupts behind each sector that was written, not in front of the first', () => {
    const host = new Host(memoryImage(numbered()));
    host.command(WRITE_SECTORS, 3);
    assert.equal(host.interrupted, false);
    host.send(256, 0x5a5a);
    assert.equal(host.interrupted, true);
    assert.equal(host.in(CHANNEL.command), 0x50);
  });

  it('keeps interrupts to itself while device control says so, and tells of them later', () => {
    const host = new Host(memoryImage(numbered()));
    host.out(CHANNEL.control, 2);
    host.command(READ_SECTORS, 0);
    assert.equal(host.interrupted, false);
    host.out(CHANNEL.control, 0);
    assert.equal(host.interrupted, true);
    host.out(CHANNEL.device, 0xb0);
    assert.equal(host.interrupted, false, 'the other drive has none');
  });

  it('leaves the image as it is, unless it is to be written', () => {
    const bytes = numbered();
    const written: number[] = [];
    const disk = { ...memoryImage(bytes), write: (offset: number) => void written.push(offset) };
    const host = new Host(disk);
    host.command(WRITE_SECTORS, 7);
    host.send(256, 0x5a5a);
    host.command(READ_SECTORS, 7);
    assert.deepEqual([...new Set(host.receive())], [0x5a5a]);
    assert.deepEqual(written, []);

    const through = new TestBus();
    const [device] = makeDevices([{ kind: 'ide-hd', disk, writeThrough: true }], through.environment);
    assert.ok(device instanceof IdeController);
    through.plug(device);
    const [channel] = device.channels;
    for (const [register, value] of [0, 0, 1, 7, 0, 0, 0xe0, WRITE_SECTORS].entries()) {
      if (register >= 2) channel?.write(register, 1, value);
    }
    for (let i = 0; i < 256; i++) channel?.write(0, 2, 0x5a5a);
    assert.deepEqual(written, [7 * SECTOR]);
  });

  it('answers with an error when the image fails: uncorrectable data, a medium error', () => {
    const host = new Host(vanished, vanished);
    host.command(READ_SECTORS, 0);
    assert.deepEqual([host.in(CHANNEL.command), host.in(CHANNEL.error)], [0x51, 0x40]);
    host.command(WRITE_SECTORS, 0);
    host.send(256, 1);
    assert.equal(host.in(CHANNEL.command) & 1, 1);
    host.out(0x1f4, 0);
    host.out(0x1f5, 8);
    host.command(PACKET, 0, 0, 0xb0);
    for (const word of [0x28, 0, 0, 0, 0x0001, 0]) host.out(CHANNEL.data, word, 2);
    assert.deepEqual([host.in(CHANNEL.command) & 1, host.in(CHANNEL.error) >> 4], [1, 3]);
  });

  it('reads as zeros where no drive is, and as ones where no channel answers', () => {
    const host = new Host(memoryImage(numbered()));
    assert.equal(host.in(0x177), 0);
    host.out(0x172, 0x55);
    assert.equal(host.in(0x172), 0);
    host.controller.function.write(HEADER.command, 2, COMMAND.memory);
    assert.deepEqual([host.in(CHANNEL.command), host.in(CHANNEL.data, 2)], [0xff, 0xffff]);
    host.controller.function.write(HEADER.command, 2, COMMAND.io);
    host.controller.function.write(0x40, 2, 0);
    assert.equal(host.in(CHANNEL.command), 0xff, 'IDETIM');
  });

  it('goes on from a checkpoint in the middle of a sector', () => {
    const host = new Host(memoryImage(numbered()));
    host.command(READ_SECTORS, 3, 2);
    host.receive(100);
    const saved = host.controller.snapshot();
    const rest = host.receive(412);
    host.command(WRITE_SECTORS, 4);
    host.send(256, 0);
    host.controller.restore(saved);
    assert.deepEqual(host.receive(412), rest);
    assert.equal(host.in(CHANNEL.command), 0x50);
  });

  it('ends a DMA transfer with an error where there is no memory', () => {
    const host = new Host(memoryImage(numbered()));
    const base = host.controller.function.bars[0];
    const at = base ? (host.controller.function.decoded(base) ?? 0) : 0;
    host.test.physical.write64(RAM, (0x8000_0200n << 32n) | 0x7000_0000n);
    host.test.bus.io.write(at + 4, 4, RAM);
    host.command(0xc8, 1);
    host.test.bus.io.write(at, 1, 9);
    assert.equal(host.test.bus.io.read(at + 2, 1) & 3, 2);
    assert.equal(host.test.faults.length, 1);
  });

  it('has room for four drives', () => {
    const drive = { kind: 'ide-cd', disk: memoryImage(new Uint8Array(2048)) } as const;
    const { environment } = new TestBus();
    assert.equal(makeDevices(Array(4).fill(drive), environment).length, 1);
    assert.throws(() => makeDevices(Array(5).fill(drive), environment), /5 IDE drives; there is room for 4/);
  });
});
