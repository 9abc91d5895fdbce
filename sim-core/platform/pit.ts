/** The 8254 programmable interval timer (Intel 82C54 data sheet), with virtual time as its clock. */

import type { Clock } from '../cpu/cpu.ts';
import type { Line, PortDevice, Snapshotted, TimedDevice } from './device.ts';

/** Hertz of the PC's timer clock: 14.31818 MHz / 12. */
export const PIT_FREQUENCY = 1_193_182;

const CONTROL_PORT = 3;
const READ_BACK = 3;
const ACCESS = { latch: 0, low: 1, high: 2, both: 3 } as const;

/** What a counter keeps. Times are in timer-clock ticks since reset. */
export interface CounterState {
  /** 0…5 as in the control word (6 and 7 are 2 and 3). */
  mode: number;
  access: number;
  bcd: boolean;
  /** Initial count, 1…65536; 0 until one is written. */
  count: number;
  /** Tick at which `count` was loaded; undefined while nothing counts (no count written, or no trigger yet). */
  loaded: number | undefined;
  /** A count written while modes 2 and 3 are counting: it is loaded when the period ends. */
  next: number | undefined;
  gate: boolean;
  /** Tick at which a low gate stopped the counter. */
  stopped: number | undefined;
  /** The byte of a two-byte write that came first. */
  lowByte: number | undefined;
  /** Latched status and count bytes that reads return first. */
  latched: number[];
  statusLatched: number | undefined;
  /** The next read of a two-byte access gives the high byte. */
  readHigh: boolean;
}

const powerOn = (gate: boolean): CounterState => ({
  mode: 0,
  access: ACCESS.both,
  bcd: false,
  count: 0,
  loaded: undefined,
  next: undefined,
  gate,
  stopped: undefined,
  lowByte: undefined,
  latched: [],
  statusLatched: undefined,
  readHigh: false,
});

const fromBcd = (value: number): number => [12, 8, 4, 0].reduce((sum, shift) => sum * 10 + ((value >> shift) & 15), 0);
const toBcd = (value: number): number =>
  [1000, 100, 10, 1].reduce((digits, unit) => digits * 16 + (Math.floor(value / unit) % 10), 0);

const periodic = (mode: number): boolean => mode === 2 || mode === 3;
const triggeredByGate = (mode: number): boolean => mode === 1 || mode === 5;

/** One counter. Its methods take the present tick. */
class Counter {
  state: CounterState;

  constructor(gate: boolean) {
    this.state = powerOn(gate);
  }

  /** Ticks counted since loading; negative when nothing has been loaded yet. */
  private elapsed(now: number): number {
    const { loaded, stopped } = this.state;
    return loaded === undefined ? -1 : Math.min(now, stopped ?? now) - loaded;
  }

  /** Loads a count that waits for the end of the period, if that has come. */
  advance(now: number): void {
    const { state } = this;
    const elapsed = this.elapsed(now);
    if (state.next === undefined || state.loaded === undefined || elapsed < state.count) return;
    state.loaded += state.count;
    state.count = state.next;
    state.next = undefined;
  }

  control(word: number, now: number): void {
    const access = (word >> 4) & 3;
    if (access === ACCESS.latch) {
      this.latchCount(now);
      return;
    }
    const mode = (word >> 1) & 7;
    this.state = { ...powerOn(this.state.gate), mode: mode > 5 ? mode - 4 : mode, access, bcd: (word & 1) !== 0 };
  }

  write(value: number, now: number): void {
    const { state } = this;
    if (state.access === ACCESS.low) this.load(value, now);
    else if (state.access === ACCESS.high) this.load(value << 8, now);
    else if (state.lowByte === undefined) {
      state.lowByte = value;
      // The first byte of a new count stops mode 0 (data sheet, "Mode 0").
      if (state.mode === 0) state.loaded = undefined;
    } else {
      const low = state.lowByte;
      state.lowByte = undefined;
      this.load((value << 8) | low, now);
    }
  }

  private load(written: number, now: number): void {
    const { state } = this;
    const count = (state.bcd ? fromBcd(written) : written) || (state.bcd ? 10_000 : 65_536);
    if (periodic(state.mode) && state.loaded !== undefined) {
      // Bring `loaded` to the period in hand, so that its end is where the new count is taken.
      state.loaded += Math.floor(Math.max(0, this.elapsed(now)) / state.count) * state.count;
      state.next = count;
      return;
    }
    state.count = count;
    if (triggeredByGate(state.mode)) return;
    // The counter takes the count with the next clock.
    state.loaded = now + 1;
    state.stopped = state.gate ? undefined : state.loaded;
  }

  setGate(gate: boolean, now: number): void {
    const { state } = this;
    if (gate === state.gate) return;
    state.gate = gate;
    if (gate && (periodic(state.mode) || triggeredByGate(state.mode))) {
      // A rising gate loads the count anew in these modes.
      if (state.count > 0) state.loaded = now + 1;
      state.stopped = undefined;
    } else if (!triggeredByGate(state.mode) && state.loaded !== undefined) {
      if (!gate) {
        state.stopped = Math.max(now, state.loaded);
      } else if (state.stopped !== undefined) {
        state.loaded += Math.max(now, state.loaded) - state.stopped;
        state.stopped = undefined;
      }
    }
  }

  /** The OUT pin. */
  output(now: number): boolean {
    const { mode, count, gate } = this.state;
    const elapsed = this.elapsed(now);
    if (mode === 0) return elapsed >= count && count > 0;
    if (elapsed < 0) return true;
    if (mode === 1) return elapsed >= count;
    if (mode === 4 || mode === 5) return elapsed !== count;
    if (!gate) return true;
    const phase = elapsed % count;
    return mode === 2 ? phase !== count - 1 : phase < Math.ceil(count / 2);
  }

  /** The first tick after `tick` at which OUT rises; Infinity when it does not by itself. */
  nextRise(tick: number): number {
    const { mode, count, loaded, stopped, next } = this.state;
    if (loaded === undefined || stopped !== undefined) return Number.POSITIVE_INFINITY;
    if (!periodic(mode)) {
      // The strobe of modes 4 and 5 is low for one clock, when the count is 0.
      const rise = loaded + count + (mode === 4 || mode === 5 ? 1 : 0);
      return rise > tick ? rise : Number.POSITIVE_INFINITY;
    }
    const first = loaded + count;
    if (first > tick) return first;
    const period = next ?? count;
    return first + (Math.floor((tick - first) / period) + 1) * period;
  }

  /** The 16 bits of the counting element. */
  private value(now: number): number {
    const { mode, count, bcd } = this.state;
    const modulus = bcd ? 10_000 : 65_536;
    const elapsed = Math.max(0, this.elapsed(now));
    let value: number;
    if (mode === 2) value = count - (elapsed % count || 0);
    else if (mode === 3) value = this.squareWaveValue(elapsed);
    else value = count - elapsed;
    const wrapped = ((value % modulus) + modulus) % modulus;
    return bcd ? toBcd(wrapped) : wrapped;
  }

  /** Mode 3 counts down by two, from the even number at or below the count, once in each half of the period. */
  private squareWaveValue(elapsed: number): number {
    const { count } = this.state;
    const high = Math.ceil(count / 2);
    const phase = count > 0 ? elapsed % count : 0;
    return (count & ~1) - 2 * (phase < high ? phase : phase - high);
  }

  private bytes(now: number): number[] {
    const value = this.value(now);
    const { access } = this.state;
    if (access === ACCESS.low) return [value & 0xff];
    return access === ACCESS.high ? [value >> 8] : [value & 0xff, value >> 8];
  }

  latchCount(now: number): void {
    // A latch that has not been read yet is kept.
    if (this.state.latched.length === 0) this.state.latched = this.bytes(now);
  }

  latchStatus(now: number): void {
    const { state } = this;
    if (state.statusLatched !== undefined) return;
    const nullCount = state.next !== undefined || state.loaded === undefined || now < state.loaded;
    const bits = (this.output(now) ? 0x80 : 0) | (nullCount ? 0x40 : 0) | (state.bcd ? 1 : 0);
    state.statusLatched = bits | (state.access << 4) | (state.mode << 1);
  }

  read(now: number): number {
    const { state } = this;
    if (state.statusLatched !== undefined) {
      const status = state.statusLatched;
      state.statusLatched = undefined;
      return status;
    }
    const latched = state.latched.shift();
    if (latched !== undefined) return latched;
    const [first = 0, second] = this.bytes(now);
    if (second === undefined) return first;
    state.readHigh = !state.readHigh;
    return state.readHigh ? first : second;
  }
}

export interface PitState {
  readonly counters: readonly CounterState[];
  readonly serviced: number;
}

/** Ports 40h…43h. Counter 0 drives IRQ0; counter 2's gate and output are at port 61h. */
export class Pit implements PortDevice, TimedDevice, Snapshotted<PitState> {
  readonly name = '8254';
  private readonly clock: Clock;
  private readonly cyclesPerSecond: number;
  private readonly irq: Line;
  private readonly counters = [new Counter(true), new Counter(true), new Counter(false)] as const;
  /** The tick up to which IRQ0's edges have been delivered. */
  private serviced = 0;

  constructor(clock: Clock, cyclesPerSecond: number, irq: Line) {
    this.clock = clock;
    this.cyclesPerSecond = cyclesPerSecond;
    this.irq = irq;
  }

  /** Timer-clock ticks that have passed at a cycle. */
  private ticks(cycle: number): number {
    return Math.floor((cycle * PIT_FREQUENCY) / this.cyclesPerSecond);
  }

  private now(): number {
    return this.ticks(this.clock.cycles());
  }

  /** The first cycle at which `ticks` gives `tick`. */
  private cycleOf(tick: number): number {
    if (tick === Number.POSITIVE_INFINITY) return tick;
    let cycle = Math.ceil((tick * this.cyclesPerSecond) / PIT_FREQUENCY);
    // Division rounds: step over what it lost.
    while (this.ticks(cycle) < tick) cycle++;
    return cycle;
  }

  nextDeadline(): number {
    return this.cycleOf(this.counters[0].nextRise(this.serviced));
  }

  service(now: number): void {
    const tick = this.ticks(now);
    const counter = this.counters[0];
    const rises = counter.nextRise(this.serviced) <= tick;
    this.serviced = Math.max(this.serviced, tick);
    counter.advance(tick);
    // However many periods have passed, the interrupt controller latches one edge.
    if (rises) {
      this.irq(false);
      this.irq(true);
    }
    this.irq(counter.output(tick));
  }

  read(port: number): number {
    const index = port & 3;
    const counter = this.counters[index];
    if (!counter) return 0xff;
    const now = this.bringUpToDate(counter);
    return counter.read(now);
  }

  write(port: number, _size: number, value: number): void {
    this.service(this.clock.cycles());
    if ((port & 3) === CONTROL_PORT) this.control(value);
    else {
      const counter = this.counters[port & 3];
      counter?.write(value, counter ? this.bringUpToDate(counter) : 0);
    }
    this.service(this.clock.cycles());
  }

  private bringUpToDate(counter: Counter): number {
    const now = this.now();
    counter.advance(now);
    return now;
  }

  private control(word: number): void {
    const select = word >> 6;
    const now = this.now();
    if (select !== READ_BACK) {
      const counter = this.counters[select as 0 | 1 | 2];
      counter.advance(now);
      counter.control(word, now);
      return;
    }
    this.counters.forEach((counter, i) => {
      if ((word & (2 << i)) === 0) return;
      counter.advance(now);
      if ((word & 0x20) === 0) counter.latchCount(now);
      if ((word & 0x10) === 0) counter.latchStatus(now);
    });
  }

  /** Counter 2's gate, bit 0 of port 61h. */
  setSpeakerGate(gate: boolean): void {
    const counter = this.counters[2];
    counter.setGate(gate, this.bringUpToDate(counter));
  }

  /** Counter 2's output, bit 5 of port 61h. */
  speakerOutput(): boolean {
    const counter = this.counters[2];
    return counter.output(this.bringUpToDate(counter));
  }

  snapshot(): PitState {
    return structuredClone({ counters: this.counters.map((counter) => counter.state), serviced: this.serviced });
  }

  restore(saved: PitState): void {
    structuredClone(saved.counters).forEach((state, i) => {
      const counter = this.counters[i];
      if (counter) counter.state = state;
    });
    this.serviced = saved.serviced;
  }
}
