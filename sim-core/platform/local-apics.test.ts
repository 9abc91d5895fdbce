// Expected values: SDM Vol. 3A, "Determining IPI Destination", "Issuing Interprocessor Interrupts".
import assert from 'node:assert/strict';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { START_UP } from '../state/layout.ts';
import { ProcessorState } from '../state/processor-state.ts';
import { State } from '../state/state.ts';
import { DELIVERY_MODE, type InterruptMessage } from './interrupt-message.ts';
import { LocalApics } from './local-apics.ts';
import { Pic } from './pic.ts';

const COUNT = 4;
const PAGE = 0xfee0_0000;
const REGISTER = { taskPriority: 0x80, logical: 0xd0, format: 0xe0, spurious: 0xf0, command: 0x300, high: 0x310 };
const APIC_BASE = 0x1b;
const VECTOR = 0x41;

class TestApics {
  readonly state = new State(0x1_0000, COUNT);
  readonly physical = new PhysicalMemory(this.state);
  readonly processors = Array.from({ length: COUNT }, (_, i) => new ProcessorState(this.state, i));
  sent = 0;
  readonly apics = new LocalApics({
    processors: this.processors,
    physical: this.physical,
    clock: { cycles: () => 0 },
    physicalAddressBits: 40,
    pic: new Pic(() => {}),
    changed: () => {},
    levelEnded: () => {},
    sent: () => {
      this.sent++;
    },
    moved: () => {},
  });

  constructor() {
    this.apics.reset();
    this.each((i) => {
      this.write(REGISTER.spurious, 0x1ff);
      this.write(REGISTER.logical, (1 << (24 + i)) >>> 0);
    });
  }

  /** Does something as each processor in turn; processor 0 is loaded again at the end. */
  each(work: (processor: number) => void): void {
    for (let i = 0; i < COUNT; i++) this.as(i, () => work(i));
  }
  as(processor: number, work: () => void): void {
    this.switch(0, processor);
    work();
    this.switch(processor, 0);
  }
  private switch(from: number, to: number): void {
    if (from === to) return;
    this.processors[from]?.park();
    this.processors[to]?.load();
  }

  write(register: number, value: number): void {
    this.physical.write(PAGE + register, 4, value);
  }
  send(low: number, destination = 0): void {
    this.write(REGISTER.high, (destination << 24) >>> 0);
    this.write(REGISTER.command, low);
  }
  deliver(message: Partial<InterruptMessage>): boolean {
    const deliveryMode = DELIVERY_MODE.fixed;
    return this.apics.deliver({
      destination: 0,
      logical: false,
      deliveryMode,
      vector: VECTOR,
      level: false,
      ...message,
    });
  }
  /** Numbers of the processors whose field is not 0. */
  with(field: 'interruptRequest' | 'nmiRequest' | 'initRequest' | 'startUpRequest'): number[] {
    return this.processors.filter((processor) => processor.get32(field) !== 0).map(({ index }) => index);
  }
}

describe('local APICs of several processors', () => {
  it('have their registers at one address, each processor its own', () => {
    const test = new TestApics();
    const ids: number[] = [];
    test.each(() => ids.push(test.physical.read(PAGE + 0x20, 4) >>> 24));
    assert.deepEqual(ids, [0, 1, 2, 3]);
  });

  const messages: readonly (readonly [string, Partial<InterruptMessage>, number[]])[] = [
    ['a physical ID', { destination: 2 }, [2]],
    ['an ID that nobody has', { destination: 9 }, []],
    ['the physical broadcast', { destination: 0xff }, [0, 1, 2, 3]],
    ['a flat logical mask', { destination: 0b1010, logical: true }, [1, 3]],
  ];
  for (const [what, message, expected] of messages) {
    it(`deliver to ${what}`, () => {
      const test = new TestApics();
      assert.equal(test.deliver(message), expected.length > 0);
      assert.deepEqual(test.with('interruptRequest'), expected);
    });
  }

  it('deliver to members of a cluster', () => {
    const test = new TestApics();
    test.each((i) => {
      test.write(REGISTER.format, 0x0fff_ffff);
      // Processors 0 and 1 are members of cluster 0, 2 and 3 of cluster 1.
      test.write(REGISTER.logical, (((i >> 1) << 28) | (1 << (24 + (i & 1)))) >>> 0);
    });
    test.deliver({ destination: 0x12, logical: true });
    assert.deepEqual(test.with('interruptRequest'), [3]);
  });

  it('in x2APIC mode are named by 32 bits: the cluster in bits 31:16, members in 15:0', () => {
    const test = new TestApics();
    test.each((i) =>
      assert.ok(test.apics.controllers[i]?.writeMsr(APIC_BASE, BigInt(PAGE) | (i === 0 ? 0xd00n : 0xc00n))),
    );
    test.deliver({ destination: 0b0101, logical: true });
    assert.deepEqual(test.with('interruptRequest'), [0, 2]);
    test.deliver({ destination: 0xffff_ffff });
    assert.deepEqual(test.with('interruptRequest'), [0, 1, 2, 3]);
    assert.equal(test.deliver({ destination: 0x1_0001, logical: true }), false);
  });

  it('choose the one with the lowest priority when asked', () => {
    const test = new TestApics();
    test.each((i) => test.write(REGISTER.taskPriority, i === 2 ? 0x10 : 0x30));
    test.deliver({ destination: 0xf, logical: true, deliveryMode: DELIVERY_MODE.lowestPriority });
    assert.deepEqual(test.with('interruptRequest'), [2]);
  });

  const shorthands: readonly (readonly [string, number, number[]])[] = [
    ['self', 0x4_0000, [1]],
    ['all including self', 0x8_0000, [0, 1, 2, 3]],
    ['all excluding self', 0xc_0000, [0, 2, 3]],
  ];
  for (const [what, shorthand, expected] of shorthands) {
    it(`take the shorthand “${what}”`, () => {
      const test = new TestApics();
      test.as(1, () => test.send(shorthand | 0x4000 | VECTOR));
      assert.deepEqual([test.with('interruptRequest'), test.sent], [expected, expected.length > 1 ? 1 : 0]);
    });
  }

  it('take NMI, INIT and start-up IPIs while disabled by software, fixed ones not', () => {
    const test = new TestApics();
    test.as(3, () => test.write(REGISTER.spurious, 0xff));
    test.send(0x4400, 3);
    test.send(0x4500, 3);
    test.send(0x4600 | 0x9a, 3);
    assert.equal(test.deliver({ destination: 3 }), false);
    assert.deepEqual([test.with('nmiRequest'), test.with('initRequest'), test.with('startUpRequest')], [[3], [3], [3]]);
    assert.equal(test.processors[3]?.get32('startUpRequest'), START_UP.latched | 0x9a);
  });

  it('forget a start-up IPI that came before INIT', () => {
    const test = new TestApics();
    test.send(0x4600 | 0x9a, 3);
    test.send(0x4500, 3);
    assert.deepEqual([test.with('initRequest'), test.with('startUpRequest')], [[3], []]);
  });

  it('ignore INIT level de-assert', () => {
    const test = new TestApics();
    test.send(0x8500, 0xff);
    assert.deepEqual(test.with('initRequest'), []);
  });

  it('answer nothing where only other processors have theirs', () => {
    const test = new TestApics();
    assert.ok(test.apics.controllers[0]?.writeMsr(APIC_BASE, 0xfed0_0900n));
    assert.equal(test.physical.read(PAGE + 0x30, 4), 0xffff_ffff);
    assert.equal(test.physical.read(0xfed0_0030, 4), 0x5_0014);
    test.as(1, () => assert.equal(test.physical.read(PAGE + 0x30, 4), 0x5_0014));
  });
});
