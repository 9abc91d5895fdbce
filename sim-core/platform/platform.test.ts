import assert from 'node:assert/strict';
import type { InterruptController } from '../cpu/cpu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { State } from '../state/state.ts';
import { Platform } from './platform.ts';

const FREQUENCY = 1_000_000_000;
const APIC = 0xfee0_0000;

function makePlatform() {
  const state = new State(2 ** 20);
  const physical = new PhysicalMemory(state);
  const time = { now: 0 };
  const events: string[] = [];
  const platform = new Platform({
    state,
    physical,
    clock: { cycles: () => time.now },
    frequency: FREQUENCY,
    physicalAddressBits: 40,
    callbacks: {
      onSerialOutput: (byte) => events.push(`serial ${byte}`),
      onDebugConsole: (byte) => events.push(`debug ${byte}`),
      onDebugExit: (value) => events.push(`exit ${value}`),
      onPowerOff: () => events.push('power off'),
      onReset: () => events.push('reset'),
      onMemoryMapChange: () => events.push('memory map'),
    },
  });
  events.length = 0;
  const out = (port: number, ...values: number[]): void => {
    for (const value of values) platform.ports.write(port, 1, value);
  };
  const initialisePics = (masterMask: number): void => {
    out(0x20, 0x11);
    out(0x21, 0x20, 0x04, 0x01, masterMask);
    out(0xa0, 0x11);
    out(0xa1, 0x28, 0x02, 0x01, 0xff);
  };
  const interrupt = (): boolean => state.get32('interruptRequest') === 1;
  const serviceNext = (): void => {
    time.now = platform.nextDeadline();
    platform.service(time.now);
  };
  const interrupts = platform.interrupts[0] as InterruptController;
  return { state, physical, platform, interrupts, time, events, out, initialisePics, interrupt, serviceNext };
}

describe('platform', () => {
  it('starts without interrupts or deadlines', () => {
    const { platform, interrupt } = makePlatform();
    assert.deepEqual([platform.nextDeadline(), interrupt()], [Number.POSITIVE_INFINITY, false]);
  });

  it('ends by isa-debug-exit in each size, by "Shutdown" at port 8900h, and by ACPI soft-off', () => {
    const { platform, events, out } = makePlatform();
    platform.ports.write(0xf4, 4, 0x1_0000);
    platform.ports.write(0xf4, 2, 0x300);
    out(0xf4, 9);
    for (const character of 'ShutShutdown') out(0x8900, character.charCodeAt(0));
    platform.ports.write(0x604, 2, 0x3400);
    platform.ports.write(0x604, 2, 0x2000);
    assert.deepEqual(events, ['exit 65536', 'exit 768', 'exit 9', 'power off', 'power off']);
  });

  it('has debug consoles at ports E9h, as Bochs has, and 402h, as SeaBIOS writes to; both read E9h: somebody listens', () => {
    const { platform, events, out } = makePlatform();
    out(0xe9, 65);
    out(0x402, 66);
    assert.deepEqual(events, ['debug 65', 'debug 66']);
    assert.deepEqual([platform.ports.read(0xe9, 1), platform.ports.read(0x402, 1)], [0xe9, 0xe9]);
  });

  it('resets by the keyboard controller, port 92h and CF9h', () => {
    const { events, out, platform } = makePlatform();
    out(0x64, 0xd1, 0xfe);
    out(0x92, 0x02, 0x03);
    out(0xcf9, 0x02, 0x06);
    assert.deepEqual(events, ['reset', 'reset', 'reset']);
    platform.ports.write(0xcf8, 4, 0x8000_ff00);
    assert.equal(events.length, 3, 'PCI configuration address: not the byte at CF9h');
    // Nothing is in the controller's buffers.
    assert.equal(platform.ports.read(0x64, 1) & 3, 0);
  });

  it('carries a timer interrupt through the 8259A to INTR, asking for attention when it rises', () => {
    const { interrupts, state, out, initialisePics, interrupt, serviceNext } = makePlatform();
    initialisePics(0xfe);
    out(0x43, 0x34);
    interrupts.acknowledge();
    out(0x20, 0x20);
    out(0x40, 0xa9, 0x04);
    assert.equal(interrupt(), false);
    state.set32('attention', 0);
    serviceNext();
    assert.deepEqual([interrupt(), state.get32('attention')], [true, 1]);
    assert.equal(interrupts.acknowledge(), 0x20);
    assert.equal(interrupt(), false);
  });

  it('says when a deadline comes nearer than it had announced', () => {
    const { state, platform, out, initialisePics } = makePlatform();
    initialisePics(0xfe);
    platform.nextDeadline();
    state.set32('attention', 0);
    out(0x43, 0x30);
    out(0x40, 0x10, 0x00);
    assert.equal(state.get32('attention'), 1);
  });

  it('needs no deadline while IRQ0 is masked, and delivers what passed when it is unmasked', () => {
    const { platform, time, out, initialisePics, interrupt } = makePlatform();
    initialisePics(0xff);
    out(0x43, 0x30);
    out(0x40, 0x10, 0x00);
    assert.equal(platform.nextDeadline(), Number.POSITIVE_INFINITY);
    time.now = 1_000_000;
    out(0x21, 0xfe);
    assert.equal(interrupt(), true);
  });

  it('has COM1 on IRQ4', () => {
    const { platform, interrupts, events, out, initialisePics, interrupt } = makePlatform();
    initialisePics(0xef);
    out(0x3fc, 0x08);
    out(0x3f9, 0x01);
    platform.com1.receive([0x41]);
    assert.equal(interrupt(), true);
    assert.equal(interrupts.acknowledge(), 0x24);
    assert.equal(platform.ports.read(0x3f8, 1), 0x41);
    out(0x3f8, 0x42);
    assert.deepEqual(events, ['serial 66']);
  });

  it('maps the local APIC where IA32_APIC_BASE says, and prefers its interrupts to the 8259A', () => {
    const { interrupts, physical, events, out, initialisePics } = makePlatform();
    assert.equal(physical.read(APIC + 0x30, 4), 0x0005_0014);
    initialisePics(0xef);
    out(0x3fc, 0x08);
    out(0x3f9, 0x02);
    physical.write(APIC + 0x300, 4, 0x4_0061);
    assert.deepEqual([interrupts.acknowledge(), interrupts.acknowledge()], [0x61, 0x24]);
    assert.ok(interrupts.writeMsr(0x1b, 0xfed0_0900n));
    assert.equal(physical.read(APIC + 0x30, 4), 0xffff_ffff);
    assert.equal(physical.read(0xfed0_0030, 4), 0x0005_0014);
    assert.deepEqual(events, ['memory map']);
  });

  it('shuts the 8259A out when LINT0 is masked', () => {
    const { interrupts, physical, initialisePics, out, interrupt } = makePlatform();
    initialisePics(0xef);
    physical.write(APIC + 0x350, 4, 0x1_0700);
    out(0x3fc, 0x08);
    out(0x3f9, 0x02);
    assert.equal(interrupt(), false);
    physical.write(APIC + 0x350, 4, 0x700);
    assert.deepEqual([interrupt(), interrupts.acknowledge()], [true, 0x24]);
  });

  it('lowers INTR while the task priority holds the interrupt back', () => {
    const { interrupts, physical, interrupt } = makePlatform();
    physical.write(APIC + 0x300, 4, 0x4_0061);
    assert.equal(interrupt(), true);
    interrupts.setTaskPriority(6);
    assert.equal(interrupt(), false);
    interrupts.setTaskPriority(5);
    assert.equal(interrupt(), true);
  });

  it('latches an NMI that the local APIC sends', () => {
    const { state, physical } = makePlatform();
    physical.write(APIC + 0x300, 4, 0x4_0400);
    assert.deepEqual([state.get32('nmiRequest'), state.get32('attention')], [1, 1]);
  });

  it('gives port 61h the gate and output of counter 2, and a refresh bit that toggles every 15 µs', () => {
    const { platform, time, out } = makePlatform();
    const port61 = (): number => platform.ports.read(0x61, 1);
    out(0x61, 0x01);
    out(0x43, 0xb0);
    out(0x42, 0xa9, 0x04);
    assert.equal(port61() & 0x23, 0x01);
    time.now = 1_000_000;
    assert.equal(port61() & 0x23, 0x01);
    time.now = 1_001_000;
    assert.equal(port61() & 0x23, 0x21);
    const before = port61() & 0x10;
    time.now += 15_000;
    assert.equal((port61() & 0x10) ^ before, 0x10);
  });

  it('has a standing clock, RAM sizes and storage in CMOS', () => {
    const { platform, out } = makePlatform();
    const cell = (index: number): number => {
      out(0x70, index);
      return platform.ports.read(0x71, 1);
    };
    // Base memory 640 KiB; year, century; battery good; no update in progress.
    assert.deepEqual([cell(0x15) | (cell(0x16) << 8), cell(9), cell(0x32), cell(13)], [640, 0x26, 0x20, 0x80]);
    assert.equal(cell(10) & 0x80, 0);
    out(0x70, 0x40);
    out(0x71, 0x5a);
    assert.equal(cell(0xc0), 0x5a);
  });

  it('goes on from a snapshot, interrupts included', () => {
    const { state, platform, interrupts, out, initialisePics, interrupt } = makePlatform();
    initialisePics(0xef);
    out(0x3fc, 0x08);
    out(0x3f9, 0x02);
    const saved = structuredClone(platform.snapshot());
    interrupts.acknowledge();
    out(0x80, 0x77);
    assert.equal(interrupt(), false);
    platform.restore(saved);
    assert.deepEqual([interrupt(), platform.ports.read(0x80, 1)], [true, 0]);
    assert.equal(interrupts.acknowledge(), 0x24);
    assert.equal(state.get32('interruptRequest'), 0);
  });
});
