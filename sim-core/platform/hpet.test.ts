// Expected values: IA-PC HPET specification 1.0a, "Register Model" and "Theory Of Operation".
import assert from 'node:assert/strict';
import { Hpet } from './hpet.ts';

/** Ten cycles of 1 GHz are one tick. */
const TICK = 10;

function makeHpet() {
  const time = { now: 0 };
  const lines: string[] = [];
  const hpet = new Hpet({
    clock: { cycles: () => time.now },
    frequency: 1_000_000_000,
    pin: (pin, asserted) => lines.push(`pin ${pin} ${asserted}`),
    legacy: (irq, asserted) => lines.push(`irq ${irq} ${asserted}`),
  });
  /** Lets ticks pass, stopping at each deadline. @returns the ticks at which lines rose */
  const pass = (ticks: number): number[] => {
    const end = time.now + ticks * TICK;
    const rises: number[] = [];
    while (hpet.nextDeadline() <= end) {
      time.now = hpet.nextDeadline();
      const before = lines.length;
      hpet.service(time.now);
      if (lines.slice(before).some((line) => line.endsWith('true'))) rises.push(time.now / TICK);
    }
    time.now = end;
    hpet.service(end);
    return rises;
  };
  const write = (offset: number, value: number): void => hpet.write(offset, 4, value);
  const read = (offset: number): number => hpet.read(offset, 4);
  return { hpet, time, lines, pass, write, read };
}

describe('HPET', () => {
  it('says what it is: three 64-bit timers at 100 MHz that can replace the legacy ones', () => {
    const { read } = makeHpet();
    assert.equal(read(4), 10_000_000, 'period in femtoseconds');
    assert.equal(read(0) >>> 16, 0x8086);
    assert.deepEqual([(read(0) >> 8) & 31, read(0) & 0xa000], [2, 0xa000]);
    assert.deepEqual([read(0x100) & 0x30, read(0x104)], [0x30, 0x00f0_0004]);
  });

  it('counts while it is enabled, and takes a new count only while it is not', () => {
    const { write, read, pass } = makeHpet();
    pass(50);
    assert.equal(read(0xf0), 0);
    write(0xf0, 0xffff_fff0);
    write(0x10, 1);
    pass(0x20);
    assert.deepEqual([read(0xf0), read(0xf4)], [0x10, 1]);
    write(0xf0, 0);
    assert.equal(read(0xf0), 0x10);
  });

  it('interrupts once when the counter reaches the comparator', () => {
    const { write, lines, pass } = makeHpet();
    write(0x108, 100);
    write(0x10c, 0);
    write(0x100, 0x4 | (20 << 9));
    write(0x10, 1);
    assert.deepEqual(pass(1000), [100]);
    assert.deepEqual(lines, ['pin 20 false', 'pin 20 true']);
  });

  it('interrupts periodically, as Linux programs it: comparator and period with “value set”, 32 bits', () => {
    const { write, read, pass } = makeHpet();
    write(0x10, 3);
    write(0x100, 0x4 | 0x8 | 0x40 | 0x100);
    write(0x108, 70);
    write(0x108, 50);
    assert.deepEqual(pass(200), [70, 120, 170]);
    assert.equal(read(0x108), 220);
  });

  it('drives IRQ0 and IRQ8 in legacy replacement mode', () => {
    const { hpet, write, lines, pass } = makeHpet();
    for (const timer of [0x100, 0x120]) {
      write(timer, 0x4 | 0x100);
      write(timer + 8, 10);
    }
    assert.equal(hpet.replacesLegacy, false);
    write(0x10, 3);
    pass(20);
    assert.deepEqual([hpet.replacesLegacy, lines], [true, ['irq 0 false', 'irq 0 true', 'irq 8 false', 'irq 8 true']]);
  });

  it('keeps a level until its status bit is cleared by writing 1', () => {
    const { write, read, lines, pass } = makeHpet();
    write(0x108, 5);
    write(0x100, 0x2 | 0x4 | 0x100 | (21 << 9));
    write(0x10, 1);
    pass(10);
    assert.deepEqual([read(0x20), lines], [1, ['pin 21 true']]);
    write(0x20, 1);
    assert.deepEqual([read(0x20), lines.at(-1)], [0, 'pin 21 false']);
  });

  it('matches again after a wrap of 32 bits, and needs no deadline for what is too far away', () => {
    const { hpet, write, pass } = makeHpet();
    write(0x100, 0x4 | 0x100 | (20 << 9));
    write(0x108, 5);
    write(0xf0, 0xffff_fff0);
    write(0x10, 1);
    assert.deepEqual(pass(0x100), [0x15]);
    write(0x10, 0);
    assert.equal(hpet.nextDeadline(), Number.POSITIVE_INFINITY);
  });

  it('goes on from a snapshot', () => {
    const { hpet, write, pass } = makeHpet();
    const initial = structuredClone(hpet.snapshot());
    write(0x108, 100);
    write(0x10c, 0);
    write(0x100, 0x4 | (20 << 9));
    write(0x10, 1);
    pass(40);
    const saved = structuredClone(hpet.snapshot());
    hpet.restore(initial);
    assert.deepEqual(pass(0), []);
    hpet.restore(saved);
    assert.deepEqual(pass(100), [100]);
  });
});
