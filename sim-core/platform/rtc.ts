/** The real-time clock and CMOS RAM (Motorola MC146818A data sheet), with virtual time from a configured start. */

import type { Clock } from '../cpu/cpu.ts';
import { type CivilTime, civilTime, SECONDS_PER_DAY, secondsOf, weekday } from './calendar.ts';
import type { Line, PortDevice, Snapshotted, TimedDevice } from './device.ts';

/** Where the clock starts when nothing else is configured: midnight of 1 January 2026, UTC. */
export const DEFAULT_START_TIME = 1_767_225_600;

const MIB = 2 ** 20;
const CELL = {
  seconds: 0, secondsAlarm: 1, minutes: 2, minutesAlarm: 3, hours: 4, hoursAlarm: 5, weekday: 6, day: 7, month: 8,
  year: 9, a: 10, b: 11, c: 12, d: 13, century: 50,
} as const; // biome-ignore format: a table reads better in rows
const TIME_CELLS: ReadonlySet<number> = new Set([0, 2, 4, 6, 7, 8, 9, CELL.century]);

const A = { updating: 0x80, rate: 0x0f } as const;
const B = { set: 0x80, periodic: 0x40, alarm: 0x20, update: 0x10, binary: 0x04, hours24: 0x02 } as const;
/** Flags in C, at the same places as their enable bits in B. */
const C = { request: 0x80, periodic: 0x40, alarm: 0x20, update: 0x10 } as const;
const D_VALID = 0x80;
const AFTERNOON = 0x80;
/** An alarm cell from C0h to FFh matches anything. */
const ANY = 0xc0;
const OSCILLATOR = 32_768;
/** Seconds before an update at which UIP rises (data sheet, "Update Cycle"). */
const UPDATE_WARNING = 244e-6;

export interface RtcState {
  readonly index: number;
  readonly cells: readonly number[];
  /** Date at cycle 0 in seconds since 1970; while SET stops the clock, the date that it shows. */
  readonly base: number;
  /** Cycle up to which events have been noticed. */
  readonly serviced: number;
}

/** Memory sizes as PC firmware stores them, and the status registers after power-on: 24-hour mode, BCD. */
function initialCells(ramSize: number): number[] {
  const cells = new Array<number>(128).fill(0);
  const fixed: Readonly<Record<number, number>> = { [CELL.a]: 0x26, [CELL.b]: B.hours24, [CELL.d]: D_VALID };
  const extendedKib = Math.min(0xffff, Math.max(0, ramSize - MIB) / 1024);
  const above16 = Math.min(0xffff, Math.max(0, ramSize - 16 * MIB) / 65_536);
  const words: Readonly<Record<number, number>> = { 21: 640, 23: extendedKib, 48: extendedKib, 52: above16 };
  for (const [index, value] of Object.entries(fixed)) cells[Number(index)] = value;
  for (const [index, value] of Object.entries(words)) {
    cells[Number(index)] = value & 0xff;
    cells[Number(index) + 1] = value >> 8;
  }
  return cells;
}

export interface RtcConnections {
  readonly clock: Clock;
  readonly frequency: number;
  readonly ramSize: number;
  /** Seconds since 1970 at cycle 0. */
  readonly startTime: number;
  readonly irq: Line;
}

/** Ports 70h and 71h. Bit 7 of the index would gate NMI, which nothing here raises. */
export class Rtc implements PortDevice, TimedDevice, Snapshotted<RtcState> {
  readonly name = 'RTC';
  static readonly port = 0x70;
  private readonly connections: RtcConnections;
  private index = 0;
  private cells: number[];
  private base: number;
  private serviced = 0;
  /** What `nextAlarm` found last, until software writes a cell. */
  private alarm: { readonly from: number; readonly at: number } | undefined;
  private deadline: number | undefined;

  constructor(connections: RtcConnections) {
    this.connections = connections;
    this.cells = initialCells(connections.ramSize);
    this.base = connections.startTime;
  }

  private cell(index: number): number {
    return this.cells[index] ?? 0;
  }

  private get stopped(): boolean {
    return (this.cell(CELL.b) & B.set) !== 0;
  }

  /** Whole seconds since 1970. */
  private secondsAt(cycle: number): number {
    return this.stopped ? this.base : this.base + Math.floor(cycle / this.connections.frequency);
  }

  private get now(): number {
    return this.connections.clock.cycles();
  }

  // Time in the cells' format

  private encode(value: number): number {
    return this.cell(CELL.b) & B.binary ? value : ((Math.floor(value / 10) << 4) | (value % 10)) & 0xff;
  }

  private decode(value: number): number {
    return this.cell(CELL.b) & B.binary ? value : (value >> 4) * 10 + (value & 15);
  }

  private encodeHours(hours: number): number {
    if (this.cell(CELL.b) & B.hours24) return this.encode(hours);
    return this.encode(hours % 12 || 12) | (hours >= 12 ? AFTERNOON : 0);
  }

  private decodeHours(value: number): number {
    if (this.cell(CELL.b) & B.hours24) return this.decode(value);
    return (this.decode(value & 0x7f) % 12) + (value & AFTERNOON ? 12 : 0);
  }

  private timeCell(index: number, seconds: number): number {
    const time = civilTime(seconds);
    switch (index) {
      case CELL.seconds:
        return this.encode(time.seconds);
      case CELL.minutes:
        return this.encode(time.minutes);
      case CELL.hours:
        return this.encodeHours(time.hours);
      case CELL.weekday:
        return this.encode(weekday(seconds) + 1);
      case CELL.day:
        return this.encode(time.day);
      case CELL.month:
        return this.encode(time.month);
      case CELL.year:
        return this.encode(time.year % 100);
      default:
        return this.encode(Math.floor(time.year / 100));
    }
  }

  /** The date after software has written one of the cells that make it up. */
  private withCell(index: number, value: number, time: CivilTime): CivilTime {
    const decoded = this.decode(value);
    switch (index) {
      case CELL.seconds:
        return { ...time, seconds: decoded };
      case CELL.minutes:
        return { ...time, minutes: decoded };
      case CELL.hours:
        return { ...time, hours: this.decodeHours(value) };
      case CELL.day:
        return { ...time, day: decoded };
      case CELL.month:
        return { ...time, month: decoded };
      case CELL.year:
        return { ...time, year: Math.floor(time.year / 100) * 100 + decoded };
      case CELL.century:
        return { ...time, year: decoded * 100 + (time.year % 100) };
      default:
        return time;
    }
  }

  // Events

  /** Cycles between periodic interrupts; Infinity for rate 0. Rates 1 and 2 repeat 8 and 9. */
  private get period(): number {
    const rate = this.cell(CELL.a) & A.rate;
    if (rate === 0) return Number.POSITIVE_INFINITY;
    const shift = rate < 3 ? rate + 6 : rate - 1;
    return (this.connections.frequency * 2 ** shift) / OSCILLATOR;
  }

  private matchesAlarm(seconds: number): boolean {
    const pairs = [
      [CELL.secondsAlarm, CELL.seconds],
      [CELL.minutesAlarm, CELL.minutes],
      [CELL.hoursAlarm, CELL.hours],
    ] as const;
    return pairs.every(([alarm, time]) => {
      const wanted = this.cell(alarm);
      return wanted >= ANY || wanted === this.timeCell(time, seconds);
    });
  }

  /** The first second after `seconds` at which the alarm goes off; Infinity when the cells hold no time of day. */
  private nextAlarm(seconds: number): number {
    const { alarm } = this;
    if (alarm && alarm.from <= seconds && seconds < alarm.at) return alarm.at;
    let later = 1;
    while (later <= SECONDS_PER_DAY && !this.matchesAlarm(seconds + later)) later++;
    const at = later <= SECONDS_PER_DAY ? seconds + later : Number.POSITIVE_INFINITY;
    this.alarm = { from: seconds, at };
    return at;
  }

  /** The cycle at which a date comes. */
  private cycleOf(seconds: number): number {
    return Math.ceil((seconds - this.base) * this.connections.frequency);
  }

  /** Cached, for it is asked at every boundary; registers and events change it. */
  nextDeadline(): number {
    this.deadline ??= this.findDeadline();
    return this.deadline;
  }

  private findDeadline(): number {
    const b = this.cell(CELL.b);
    // The line stays until software reads C: more events change nothing.
    if (this.cell(CELL.c) & C.request) return Number.POSITIVE_INFINITY;
    const deadlines = [Number.POSITIVE_INFINITY];
    if (b & B.periodic) deadlines.push((Math.floor(this.serviced / this.period) + 1) * this.period);
    const seconds = this.secondsAt(this.serviced);
    if (b & B.update && !this.stopped) deadlines.push(this.cycleOf(seconds + 1));
    if (b & B.alarm && !this.stopped) deadlines.push(this.cycleOf(this.nextAlarm(seconds)));
    return Math.ceil(Math.min(...deadlines));
  }

  service(now: number): void {
    if (now >= this.nextDeadline()) this.notice(now);
  }

  /** Sets the flags of what has happened since the last look. */
  private notice(now: number): void {
    const from = this.serviced;
    this.deadline = undefined;
    if (now <= from) return;
    this.serviced = now;
    let flags = Math.floor(now / this.period) > Math.floor(from / this.period) ? C.periodic : 0;
    const [before, after] = [this.secondsAt(from), this.secondsAt(now)];
    if (after > before) {
      flags |= C.update;
      const until = Math.min(after, before + SECONDS_PER_DAY);
      for (let second = before + 1; second <= until; second++) if (this.matchesAlarm(second)) flags |= C.alarm;
    }
    if ((flags & ~this.cell(CELL.c)) !== 0) this.raise(flags);
  }

  private raise(flags: number): void {
    const all = this.cell(CELL.c) | flags;
    const requested = (all & this.cell(CELL.b) & (C.periodic | C.alarm | C.update)) !== 0;
    this.cells[CELL.c] = all | (requested ? C.request : 0);
    this.connections.irq(requested);
  }

  // Ports

  read(port: number): number {
    if ((port & 1) === 0) return 0xff;
    const { index } = this;
    if (TIME_CELLS.has(index)) return this.timeCell(index, this.secondsAt(this.now));
    if (index === CELL.a) return this.cell(CELL.a) | (this.updating ? A.updating : 0);
    if (index === CELL.c) return this.takeFlags();
    return this.cell(index);
  }

  private get updating(): boolean {
    const { frequency } = this.connections;
    return !this.stopped && frequency - (this.now % frequency) <= UPDATE_WARNING * frequency;
  }

  private takeFlags(): number {
    this.notice(this.now);
    const flags = this.cell(CELL.c);
    this.cells[CELL.c] = 0;
    this.deadline = undefined;
    this.connections.irq(false);
    return flags;
  }

  write(port: number, _size: number, value: number): void {
    if ((port & 1) === 0) {
      this.index = value & 0x7f;
      return;
    }
    // What has happened up to now happened by the old settings.
    this.notice(this.now);
    this.writeCell(this.index, value);
    this.alarm = undefined;
    this.deadline = undefined;
  }

  private writeCell(index: number, value: number): void {
    if (TIME_CELLS.has(index)) this.writeTime(index, value);
    else if (index === CELL.a) this.cells[CELL.a] = value & 0x7f;
    else if (index === CELL.b) this.writeB(value);
    else if (index !== CELL.c && index !== CELL.d) this.cells[index] = value;
  }

  private writeTime(index: number, value: number): void {
    const shown = this.secondsAt(this.now);
    this.base += secondsOf(this.withCell(index, value, civilTime(shown))) - shown;
  }

  private writeB(value: number): void {
    const shown = this.secondsAt(this.now);
    this.cells[CELL.b] = value;
    // Stopped, `base` is what the clock shows; running, it is what it would have shown at cycle 0.
    this.base += shown - this.secondsAt(this.now);
    this.raise(0);
  }

  snapshot(): RtcState {
    return { index: this.index, cells: [...this.cells], base: this.base, serviced: this.serviced };
  }

  restore(saved: RtcState): void {
    this.index = saved.index;
    this.cells = [...saved.cells];
    this.base = saved.base;
    this.serviced = saved.serviced;
    this.alarm = undefined;
    this.deadline = undefined;
  }
}
