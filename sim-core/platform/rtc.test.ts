// Expected values: MC146818A data sheet; dates from the calendar (24 December 2025 was a Wednesday).
import assert from 'node:assert/strict';
import { civilTime, secondsOf, weekday } from './calendar.ts';
import { Rtc } from './rtc.ts';

const FREQUENCY = 1_000_000_000;
/** 24 December 2025, 23:59:58 UTC. */
const START = 1_766_620_798;

function makeRtc(startTime = START) {
  const time = { now: 0 };
  const line = { asserted: false };
  const rtc = new Rtc({
    clock: { cycles: () => time.now },
    frequency: FREQUENCY,
    ramSize: 64 * 2 ** 20,
    startTime,
    irq: (asserted) => {
      line.asserted = asserted;
    },
  });
  const read = (cell: number): number => {
    rtc.write(0x70, 1, cell);
    return rtc.read(0x71);
  };
  const write = (cell: number, value: number): void => {
    rtc.write(0x70, 1, cell);
    rtc.write(0x71, 1, value);
  };
  const pass = (seconds: number): void => {
    time.now += Math.round(seconds * FREQUENCY);
    rtc.service(time.now);
  };
  /** Year, month, day, hours, minutes, seconds as the cells give them. */
  const shown = (): number[] => [9, 8, 7, 4, 2, 0].map(read);
  return { rtc, time, line, read, write, pass, shown };
}

describe('calendar', () => {
  it('knows leap years, ends of months and centuries', () => {
    const days: [seconds: number, date: [number, number, number], weekday: number][] = [
      [0, [1970, 1, 1], 4],
      [951_782_400, [2000, 2, 29], 2],
      [951_868_800, [2000, 3, 1], 3],
      [4_107_456_000, [2100, 2, 28], 0],
      [4_107_542_400, [2100, 3, 1], 1],
      [START, [2025, 12, 24], 3],
    ];
    for (const [seconds, [year, month, day], inWeek] of days) {
      const time = civilTime(seconds);
      assert.deepEqual([time.year, time.month, time.day, weekday(seconds)], [year, month, day, inWeek]);
      assert.equal(secondsOf(time), seconds);
    }
  });
});

describe('RTC', () => {
  it('starts at the configured time, in BCD and 24 hours, and runs', () => {
    const { read, shown, pass } = makeRtc();
    assert.deepEqual(shown(), [0x25, 0x12, 0x24, 0x23, 0x59, 0x58]);
    assert.deepEqual([read(0x32), read(6)], [0x20, 4]);
    pass(2);
    assert.deepEqual([shown(), read(6)], [[0x25, 0x12, 0x25, 0, 0, 0], 5]);
  });

  it('gives binary numbers and 12 hours when asked', () => {
    const { write, shown, pass } = makeRtc();
    write(11, 0x04);
    assert.deepEqual(shown(), [25, 12, 24, 0x80 | 11, 59, 58]);
    pass(2);
    assert.equal(shown()[3], 12, 'midnight is 12 AM');
  });

  it('is set with the clock stopped', () => {
    const { write, shown, pass } = makeRtc();
    write(11, 0x82);
    for (const [cell, value] of [[9, 0x30], [8, 0x02], [7, 0x28], [4, 0x12], [2, 0x34], [0, 0x56]] as const) {
      write(cell, value);
    } // biome-ignore format: pairs
    pass(100);
    assert.deepEqual(shown(), [0x30, 0x02, 0x28, 0x12, 0x34, 0x56]);
    write(11, 0x02);
    pass(5);
    assert.deepEqual(shown(), [0x30, 0x02, 0x28, 0x12, 0x35, 0x01]);
  });

  it('says that an update is near', () => {
    const { read, pass } = makeRtc();
    assert.equal(read(10) & 0x80, 0);
    pass(0.9999);
    assert.equal(read(10) & 0x80, 0x80);
  });

  it('interrupts at each update, until C is read', () => {
    const { rtc, time, line, read, write } = makeRtc();
    write(11, 0x12);
    assert.equal(rtc.nextDeadline(), FREQUENCY);
    time.now = rtc.nextDeadline();
    rtc.service(time.now);
    assert.deepEqual([line.asserted, rtc.nextDeadline()], [true, Number.POSITIVE_INFINITY]);
    // IRQF, UF; the periodic flag is set whether enabled or not.
    assert.equal(read(12) & 0x90, 0x90);
    assert.deepEqual([line.asserted, read(12)], [false, 0]);
    assert.equal(rtc.nextDeadline(), 2 * FREQUENCY);
  });

  it('interrupts periodically at the selected rate', () => {
    const { rtc, write } = makeRtc();
    write(10, 0x26);
    write(11, 0x42);
    // Rate 6 is 1024 Hz.
    assert.equal(rtc.nextDeadline(), Math.ceil(FREQUENCY / 1024));
    write(10, 0x2f);
    assert.equal(rtc.nextDeadline(), FREQUENCY / 2);
  });

  it('interrupts at the alarm; cells from C0h match anything', () => {
    const { rtc, line, read, write, pass } = makeRtc();
    write(5, 0x00);
    write(3, 0x00);
    write(1, 0x10);
    write(11, 0x22);
    assert.equal(rtc.nextDeadline(), 12 * FREQUENCY);
    pass(11);
    assert.equal(line.asserted, false);
    pass(1);
    assert.deepEqual([line.asserted, read(12) & 0xa0], [true, 0xa0]);
    for (const cell of [5, 3]) write(cell, 0xff);
    assert.equal(rtc.nextDeadline(), 72 * FREQUENCY);
  });

  it('keeps memory sizes and what is written to its RAM', () => {
    const { read, write } = makeRtc();
    assert.deepEqual([read(0x15) | (read(0x16) << 8), read(0x34) | (read(0x35) << 8), read(13)], [640, 768, 0x80]);
    write(0x40, 0x5a);
    assert.equal(read(0x40), 0x5a);
  });

  it('goes on from a snapshot', () => {
    const { rtc, pass, shown } = makeRtc();
    const saved = structuredClone(rtc.snapshot());
    pass(1);
    rtc.write(0x70, 1, 9);
    rtc.write(0x71, 1, 0x11);
    rtc.restore(saved);
    assert.deepEqual(shown(), [0x25, 0x12, 0x24, 0x23, 0x59, 0x59]);
  });
});
