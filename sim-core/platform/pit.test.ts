// Expected values: Intel 82C54 data sheet (order number 231244).
import assert from 'node:assert/strict';
import { PIT_FREQUENCY, Pit } from './pit.ts';

/** One cycle per timer clock, so that cycles and ticks are the same. */
function makePit(cyclesPerSecond = PIT_FREQUENCY) {
  const time = { now: 1000 };
  const edges: number[] = [];
  let level = false;
  const pit = new Pit({ cycles: () => time.now }, cyclesPerSecond, (asserted) => {
    if (asserted && !level) edges.push(time.now);
    level = asserted;
  });
  const write = (port: number, ...values: number[]): void => {
    for (const value of values) pit.write(port, 1, value);
  };
  const read16 = (port: number): number => pit.read(port) | (pit.read(port) << 8);
  /** Lets time pass as the machine does: from deadline to deadline. */
  const pass = (ticks: number): void => {
    const end = time.now + ticks;
    while (pit.nextDeadline() <= end) {
      time.now = pit.nextDeadline();
      pit.service(time.now);
    }
    time.now = end;
    pit.service(end);
  };
  return { pit, time, edges, write, read16, pass, level: () => level };
}

/** Control words of counter 0 with both bytes. */
const MODE = { terminalCount: 0x30, rate: 0x34, square: 0x36, strobe: 0x38 } as const;

describe('8254 timer', () => {
  it('does nothing before a count is written', () => {
    const { pit, edges, pass } = makePit();
    assert.equal(pit.nextDeadline(), Number.POSITIVE_INFINITY);
    pass(200_000);
    assert.deepEqual(edges, []);
  });

  it('mode 0: the output rises N + 1 clocks after the count is written, once', () => {
    const { edges, write, pass, level } = makePit();
    write(0x43, MODE.terminalCount);
    write(0x40, 100, 0);
    pass(100);
    assert.equal(level(), false);
    pass(1);
    assert.deepEqual([level(), edges], [true, [1101]]);
    pass(200_000);
    assert.deepEqual(edges, [1101]);
  });

  it('mode 0: counts down by one a clock and goes on below zero', () => {
    const { write, read16, pass } = makePit();
    write(0x43, MODE.terminalCount);
    write(0x40, 0x10, 0x00);
    pass(1);
    assert.equal(read16(0x40), 0x10);
    pass(6);
    assert.equal(read16(0x40), 0x0a);
    pass(12);
    assert.equal(read16(0x40), 0xfffe);
  });

  it('mode 2: one rising edge every N clocks', () => {
    const { edges, write, pass } = makePit();
    write(0x43, MODE.rate);
    // The output goes high with the control word, which is an edge of its own.
    edges.length = 0;
    write(0x40, 0xe8, 0x03);
    pass(3500);
    assert.deepEqual(edges, [2001, 3001, 4001]);
  });

  it('mode 2: reads N down to 1', () => {
    const { write, read16, pass } = makePit();
    write(0x43, MODE.rate);
    write(0x40, 3, 0);
    pass(1);
    const seen = Array.from({ length: 6 }, () => {
      const value = read16(0x40);
      pass(1);
      return value;
    });
    assert.deepEqual(seen, [3, 2, 1, 3, 2, 1]);
  });

  it('mode 2: takes a new count when the period ends', () => {
    const { edges, write, pass } = makePit();
    write(0x43, MODE.rate);
    edges.length = 0;
    write(0x40, 100, 0);
    pass(250);
    write(0x40, 10, 0);
    pass(75);
    assert.deepEqual(edges, [1101, 1201, 1301, 1311, 1321]);
  });

  it('mode 3: high for half of the period, one clock longer for odd counts, counting by two', () => {
    const { write, read16, pass, level } = makePit();
    write(0x43, MODE.square);
    write(0x40, 5, 0);
    pass(1);
    const levels = Array.from({ length: 10 }, () => {
      const high = level();
      pass(1);
      return high ? 1 : 0;
    });
    assert.deepEqual(levels, [1, 1, 1, 0, 0, 1, 1, 1, 0, 0]);
    write(0x43, MODE.square);
    write(0x40, 6, 0);
    pass(1);
    const counts = Array.from({ length: 6 }, () => {
      const value = read16(0x40);
      pass(1);
      return value;
    });
    assert.deepEqual(counts, [6, 4, 2, 6, 4, 2]);
  });

  it('mode 3 with count 0 is 65536 clocks: the 18.2 Hz of PC firmware', () => {
    const { edges, write, pass } = makePit();
    write(0x43, MODE.square);
    edges.length = 0;
    write(0x40, 0, 0);
    pass(200_000);
    assert.deepEqual(edges, [1001 + 65_536, 1001 + 2 * 65_536, 1001 + 3 * 65_536]);
  });

  it('mode 4: a strobe of one clock after N, so the edge is one clock later', () => {
    const { edges, write, pass, level } = makePit();
    write(0x43, MODE.strobe);
    assert.equal(level(), true);
    edges.length = 0;
    write(0x40, 50, 0);
    pass(51);
    assert.equal(level(), false);
    pass(1);
    assert.deepEqual(edges, [1052]);
    pass(100_000);
    assert.equal(edges.length, 1);
  });

  it('latches a count that stays until both bytes are read', () => {
    const { write, read16, pass } = makePit();
    write(0x43, MODE.rate);
    write(0x40, 0x34, 0x12);
    pass(1);
    write(0x43, 0x00);
    pass(100);
    write(0x43, 0x00);
    assert.equal(read16(0x40), 0x1234);
    assert.equal(read16(0x40), 0x1234 - 100);
  });

  it('reads back status and counts of several counters', () => {
    const { pit, write, read16, pass } = makePit();
    write(0x43, MODE.rate);
    write(0x43, 0xe2);
    // OUT high, null count, both bytes, mode 2.
    assert.equal(pit.read(0x40), 0xf4);
    write(0x40, 100, 0);
    write(0x43, 0xb6);
    write(0x42, 200, 0);
    pass(1);
    write(0x43, 0xc2);
    assert.deepEqual([pit.read(0x40), read16(0x40)], [0xb4, 100]);
    // Counter 2 has its gate low: nothing has counted, mode 3.
    write(0x43, 0xe8);
    assert.equal(pit.read(0x42) & 0x3f, 0x36);
  });

  it('takes and gives single bytes as the control word says', () => {
    const { pit, write, pass } = makePit();
    write(0x43, 0x14);
    write(0x40, 0x20);
    pass(1 + 5);
    assert.equal(pit.read(0x40), 0x1b);
    write(0x43, 0x24);
    write(0x40, 0x20);
    pass(1);
    assert.equal(pit.read(0x40), 0x20);
    pass(0x101);
    assert.equal(pit.read(0x40), 0x1e);
  });

  it('counts in BCD', () => {
    const { write, read16, pass } = makePit();
    write(0x43, 0x31);
    write(0x40, 0x00, 0x01);
    pass(2);
    assert.equal(read16(0x40), 0x0099);
  });

  it('counter 2 counts while its gate is open, as Linux measures the TSC with it', () => {
    const { pit, write, read16, pass } = makePit();
    write(0x43, 0xb0);
    write(0x42, 100, 0);
    pass(500);
    assert.equal(pit.speakerOutput(), false);
    pit.setSpeakerGate(true);
    pass(60);
    pit.setSpeakerGate(false);
    pass(1000);
    write(0x43, 0x80);
    assert.equal(read16(0x42), 40);
    pit.setSpeakerGate(true);
    pass(39);
    assert.equal(pit.speakerOutput(), false);
    pass(1);
    assert.equal(pit.speakerOutput(), true);
  });

  it('runs at 1.193182 MHz of virtual time', () => {
    const { pit, write, time } = makePit(1_000_000_000);
    write(0x43, MODE.rate);
    write(0x40, 0x9c, 0x2e);
    // 11932 clocks are 10.0001 ms; the count is taken with the next clock.
    const milliseconds = (pit.nextDeadline() - time.now) / 1e6;
    assert.ok(Math.abs(milliseconds - 10.0) < 0.002, `${milliseconds} ms`);
  });

  it('goes on from a snapshot', () => {
    const { pit, edges, write, pass, time } = makePit();
    write(0x43, MODE.rate);
    edges.length = 0;
    write(0x40, 100, 0);
    pass(50);
    const saved = pit.snapshot();
    const at = time.now;
    pass(1000);
    pit.restore(saved);
    time.now = at;
    edges.length = 0;
    pass(100);
    assert.deepEqual(edges, [1101]);
  });
});
