/** High precision event timers (IA-PC HPET specification 1.0a): a counter of 100 MHz and three comparators. */

import type { Clock } from '../cpu/cpu.ts';
import type { MmioDevice } from '../mmu/physical-memory.ts';
import type { Snapshotted, TimedDevice } from './device.ts';

const HPET_FREQUENCY = 100_000_000;
const FEMTOSECONDS = 10 ** 15;
const TIMER_COUNT = 3;

const REGISTER = {
  capabilities: 0x000,
  configuration: 0x010,
  status: 0x020,
  counter: 0x0f0,
  firstTimer: 0x100,
} as const;
const TIMER_REGISTER = { configuration: 0x00, comparator: 0x08 } as const;

/** Revision 1, three 64-bit timers, legacy replacement, Intel; the period is in the upper half. */
const CAPABILITIES = 0x8086_a201;
/** "Event Timer Block ID" of the ACPI table: the lower half of the capabilities. */
export const HPET_BLOCK_ID = CAPABILITIES;
const PERIOD = FEMTOSECONDS / HPET_FREQUENCY;

const CONFIGURATION = { enable: 1, legacy: 2 } as const;
const TIMER = {
  level: 0x2, enable: 0x4, periodic: 0x8, periodicCapable: 0x10, wide: 0x20, set: 0x40, narrow: 0x100,
  routeShift: 9, writable: 0x3f4e,
} as const; // biome-ignore format: a table reads better in rows
/** I/O APIC inputs that a timer can be routed to: 2 and 20 to 23. */
const ROUTES = 0x00f0_0004;

export interface HpetTimerState {
  configuration: number;
  comparator: bigint;
  period: bigint;
}

export interface HpetState {
  readonly configuration: number;
  readonly status: number;
  /** The counter at cycle `since`, up to which matches have been delivered. */
  readonly counter: bigint;
  readonly since: number;
  readonly timers: readonly HpetTimerState[];
}

const powerOn = (): HpetTimerState => ({ configuration: 0, comparator: 0xffff_ffff_ffff_ffffn, period: 0n });
const widthOf = ({ configuration }: HpetTimerState): 32 | 64 => (configuration & TIMER.narrow ? 32 : 64);

export interface HpetConnections {
  readonly clock: Clock;
  readonly frequency: number;
  /** Drives an I/O APIC input. */
  pin(pin: number, asserted: boolean): void;
  /** Drives IRQ0 and IRQ8 in place of the 8254 and the RTC. */
  legacy(irq: 0 | 8, asserted: boolean): void;
}

export class Hpet implements MmioDevice, TimedDevice, Snapshotted<HpetState> {
  readonly name = 'HPET';
  private readonly connections: HpetConnections;
  private configuration = 0;
  private status = 0;
  private counter = 0n;
  private since = 0;
  private timers = Array.from({ length: TIMER_COUNT }, powerOn);
  private deadline: number | undefined;

  constructor(connections: HpetConnections) {
    this.connections = connections;
  }

  /** Whether timers 0 and 1 have taken the place of the 8254 and the RTC on IRQ0 and IRQ8. */
  get replacesLegacy(): boolean {
    return (this.configuration & CONFIGURATION.legacy) !== 0;
  }

  private get counting(): boolean {
    return (this.configuration & CONFIGURATION.enable) !== 0;
  }

  /** Whole ticks from the machine's start to a cycle. */
  private ticks(cycle: number): number {
    return Math.floor((cycle * HPET_FREQUENCY) / this.connections.frequency);
  }

  private cycleOf(tick: number): number {
    let cycle = Math.ceil((tick * this.connections.frequency) / HPET_FREQUENCY);
    // Division rounds: step over what it lost.
    while (this.ticks(cycle) < tick) cycle++;
    return cycle;
  }

  /** Ticks from the counter's value to a timer's next match: at least 1. */
  private untilMatch(timer: HpetTimerState): bigint {
    const distance = BigInt.asUintN(widthOf(timer), timer.comparator - this.counter);
    return distance === 0n ? 1n << BigInt(widthOf(timer)) : distance;
  }

  /** Cached, for it is asked at every boundary; registers and matches change it. */
  nextDeadline(): number {
    this.deadline ??= this.findDeadline();
    return this.deadline;
  }

  private findDeadline(): number {
    if (!this.counting) return Number.POSITIVE_INFINITY;
    const start = this.ticks(this.since);
    const waits = this.timers
      .filter(({ configuration }) => (configuration & TIMER.enable) !== 0)
      .map((timer) => Number(this.untilMatch(timer)))
      .filter((wait) => wait < Number.MAX_SAFE_INTEGER / 1024);
    return waits.length === 0 ? Number.POSITIVE_INFINITY : this.cycleOf(start + Math.min(...waits));
  }

  /** Until the next interrupt nothing has to be done: the counter is brought up to date when it is looked at. */
  service(now: number): void {
    if (now >= this.nextDeadline()) this.advance(now);
  }

  private advance(now: number): void {
    this.deadline = undefined;
    if (!this.counting) {
      this.since = now;
      return;
    }
    const passed = BigInt(this.ticks(now) - this.ticks(this.since));
    if (passed <= 0n) return;
    const matched = this.timers.map((timer) => this.untilMatch(timer) <= passed);
    const distances = this.timers.map((timer) => this.untilMatch(timer));
    this.counter = BigInt.asUintN(64, this.counter + passed);
    this.since = now;
    matched.forEach((matches, i) => {
      const timer = this.timers[i];
      if (!matches || !timer) return;
      if (timer.configuration & TIMER.periodic && timer.period > 0n) {
        const periods = (passed - (distances[i] ?? 0n)) / timer.period + 1n;
        timer.comparator = BigInt.asUintN(widthOf(timer), timer.comparator + periods * timer.period);
      }
      this.fire(i, timer);
    });
    // What a line reaches may have asked for the deadline in the middle of this.
    this.deadline = undefined;
  }

  private fire(index: number, timer: HpetTimerState): void {
    if (timer.configuration & TIMER.level) this.status |= 1 << index;
    if ((timer.configuration & TIMER.enable) === 0) return;
    // An edge: the line rests where the next edge lowers it first.
    if ((timer.configuration & TIMER.level) === 0) this.drive(index, timer, false);
    this.drive(index, timer, true);
  }

  private drive(index: number, { configuration }: HpetTimerState, asserted: boolean): void {
    if (this.replacesLegacy && index < 2) this.connections.legacy(index === 0 ? 0 : 8, asserted);
    else {
      const route = (configuration >> TIMER.routeShift) & 31;
      if ((ROUTES >>> route) & 1) this.connections.pin(route, asserted);
    }
  }

  /** @param size 4 or 8 bytes arrive as words */
  read(offset: number, size: number): number {
    this.advance(this.connections.clock.cycles());
    const value = this.readRegister(offset & ~7);
    const shifted = Number((value >> BigInt(8 * (offset & 7))) & 0xffff_ffffn);
    return size === 4 ? shifted : shifted & (2 ** (8 * size) - 1);
  }

  private readRegister(register: number): bigint {
    switch (register) {
      case REGISTER.capabilities:
        return (BigInt(PERIOD) << 32n) | BigInt(CAPABILITIES);
      case REGISTER.configuration:
        return BigInt(this.configuration);
      case REGISTER.status:
        return BigInt(this.status);
      case REGISTER.counter:
        return this.counter;
      default:
        return this.readTimer(register);
    }
  }

  private readTimer(register: number): bigint {
    const timer = this.timers[(register - REGISTER.firstTimer) >> 5];
    if (!timer || register < REGISTER.firstTimer) return 0n;
    if ((register & 0x1f) === TIMER_REGISTER.comparator) return timer.comparator;
    if ((register & 0x1f) !== TIMER_REGISTER.configuration) return 0n;
    return (BigInt(ROUTES) << 32n) | BigInt(timer.configuration | TIMER.periodicCapable | TIMER.wide);
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4 || offset & 3) return;
    this.advance(this.connections.clock.cycles());
    const register = offset & ~7;
    const high = (offset & 4) !== 0;
    if (register === REGISTER.configuration && !high) this.configuration = value & 3;
    else if (register === REGISTER.status && !high) this.clearStatus(value);
    // The counter can be written only while it stands still.
    else if (register === REGISTER.counter && !this.counting) this.counter = withHalf(this.counter, high, value);
    else if (register >= REGISTER.firstTimer) this.writeTimer(register, high, value);
    this.deadline = undefined;
  }

  private clearStatus(value: number): void {
    this.timers.forEach((timer, i) => {
      if (((value & this.status) >> i) & 1) this.drive(i, timer, false);
    });
    this.status &= ~value;
  }

  private writeTimer(register: number, high: boolean, value: number): void {
    const timer = this.timers[(register - REGISTER.firstTimer) >> 5];
    if (!timer) return;
    if ((register & 0x1f) === TIMER_REGISTER.configuration && !high) {
      timer.configuration = value & TIMER.writable;
      if (timer.configuration & TIMER.narrow) timer.comparator &= 0xffff_ffffn;
    } else if ((register & 0x1f) === TIMER_REGISTER.comparator) {
      this.writeComparator(timer, high, value);
    }
  }

  /** In periodic mode a write sets the period, and the comparator too when “value set” asks for that. */
  private writeComparator(timer: HpetTimerState, high: boolean, value: number): void {
    const periodic = (timer.configuration & TIMER.periodic) !== 0;
    const narrow = widthOf(timer) === 32;
    if (narrow && high) return;
    if (!periodic || timer.configuration & TIMER.set) timer.comparator = withHalf(timer.comparator, high, value);
    if (periodic) timer.period = narrow ? BigInt(value >>> 0) : withHalf(timer.period, high, value);
    if (narrow || high) timer.configuration &= ~TIMER.set;
  }

  snapshot(): HpetState {
    const { configuration, status, counter, since, timers } = this;
    return structuredClone({ configuration, status, counter, since, timers });
  }

  restore(saved: HpetState): void {
    const copy = structuredClone(saved);
    this.configuration = copy.configuration;
    this.status = copy.status;
    this.counter = copy.counter;
    this.since = copy.since;
    this.timers = [...copy.timers];
    this.deadline = undefined;
  }
}

function withHalf(old: bigint, high: boolean, value: number): bigint {
  const half = BigInt(value >>> 0);
  return high ? (half << 32n) | (old & 0xffff_ffffn) : (old & 0xffff_ffff_0000_0000n) | half;
}
