/** The local APIC's timer (SDM Vol. 3A, "APIC Timer"): by a count, once or again and again, or by the TSC. */

import type { Clock } from '../cpu/cpu.ts';
import type { StateFields } from '../state/processor-state.ts';

/** Bit 16 of every entry of the local vector table. */
export const LVT_MASKED = 0x1_0000;
/** The timer's entry in `ApicTimerState.lvt`. */
export const TIMER_ENTRY = 0;
/** Bits 18:17 of the timer's entry. */
const MODE = { oneShot: 0, periodic: 1, tscDeadline: 2 } as const;
const modeOf = (entry: number): number => (entry >> 17) & 3;

/** What of the local APIC's state is the timer's. */
export interface ApicTimerState {
  /** The local vector table. */
  lvt: number[];
  divide: number;
  initialCount: number;
  /** Cycle at which the timer's count was `initialCount`. */
  timerStart: number;
  /** The count reached zero in one-shot mode: it stays there until the initial count is written. */
  timerEnded: boolean;
  /** Cycle up to which expiries of the timer have been delivered. */
  serviced: number;
}

export class ApicTimer {
  private readonly current: () => ApicTimerState;
  private readonly processor: StateFields;
  private readonly clock: Clock;

  /** @param current the local APIC's state, which a reset replaces @param processor has IA32_TSC_DEADLINE */
  constructor(current: () => ApicTimerState, processor: StateFields, clock: Clock) {
    this.current = current;
    this.processor = processor;
    this.clock = clock;
  }

  private get entry(): number {
    return this.current().lvt[TIMER_ENTRY] ?? LVT_MASKED;
  }

  private get mode(): number {
    return modeOf(this.entry);
  }

  /** Whether it expires by the TSC, and has no count. */
  get isOfDeadline(): boolean {
    return this.mode === MODE.tscDeadline;
  }

  /** IA32_TSC_DEADLINE; 0 when it is not armed. */
  get deadline(): bigint {
    return this.processor.get64('msrTscDeadline');
  }
  set deadline(value: bigint) {
    this.processor.set64('msrTscDeadline', value);
  }

  /** Cycles per timer count: divide configuration bits 3, 1, 0 are the power of two less one, 111 is 1. */
  private get divisor(): number {
    const { divide } = this.current();
    return 1 << ((((divide & 3) | ((divide >> 1) & 4)) + 1) & 7);
  }

  private get period(): number {
    return this.current().initialCount * this.divisor;
  }

  /** The current count. */
  get count(): number {
    return this.countAt(this.clock.cycles());
  }

  private countAt(now: number): number {
    const { initialCount, timerStart, timerEnded } = this.current();
    if (initialCount === 0 || timerEnded || this.isOfDeadline) return 0;
    const counted = Math.floor((now - timerStart) / this.divisor);
    return this.mode === MODE.periodic ? initialCount - (counted % initialCount) : Math.max(0, initialCount - counted);
  }

  /** The initial count is written, which starts the timer where it has one. */
  setCount(initialCount: number): void {
    if (!this.isOfDeadline) this.start(initialCount);
  }

  private start(initialCount: number): void {
    const now = this.clock.cycles();
    Object.assign(this.current(), { initialCount, timerStart: now, timerEnded: false, serviced: now });
  }

  setDivide(value: number): void {
    this.keepingCount(() => {
      this.current().divide = value & 0xb;
    });
  }

  /** Makes a change of the timer's mode or rate, with the count going on from where it is. */
  private keepingCount(change: () => void): void {
    const now = this.clock.cycles();
    const count = this.countAt(now);
    change();
    const state = this.current();
    state.timerEnded = count === 0;
    state.timerStart = now - (state.initialCount - count) * this.divisor;
  }

  /** The timer's entry in the local vector table is written. */
  setEntry(value: number): void {
    const state = this.current();
    const now = this.clock.cycles();
    const wasOfDeadline = this.isOfDeadline;
    const change = (): void => {
      state.lvt[TIMER_ENTRY] = value;
    };
    if (modeOf(value) === this.mode) change();
    else this.keepingCount(change);
    if (wasOfDeadline !== this.isOfDeadline) {
      // Entering or leaving TSC-deadline mode disarms the timer.
      this.start(0);
      this.deadline = 0n;
    }
    // What expired while the entry was masked is lost.
    state.serviced = Math.max(state.serviced, now);
  }

  /** The cycle of the next expiry after `serviced`, masked or not. */
  private nextExpiry(): number {
    const { initialCount, timerStart, timerEnded, serviced } = this.current();
    if (this.isOfDeadline) {
      const { deadline } = this;
      if (deadline === 0n) return Number.POSITIVE_INFINITY;
      return Math.max(0, Number(BigInt.asIntN(64, deadline - this.processor.get64('tscAdjustment'))));
    }
    if (initialCount === 0 || timerEnded) return Number.POSITIVE_INFINITY;
    const first = timerStart + this.period;
    if (serviced < first) return first;
    if (this.mode !== MODE.periodic) return Number.POSITIVE_INFINITY;
    return timerStart + (Math.floor((serviced - timerStart) / this.period) + 1) * this.period;
  }

  /** The cycle of the next expiry that is not masked; one by the TSC disarms the timer also when it is. */
  nextDeadline(): number {
    const isMasked = (this.entry & LVT_MASKED) !== 0;
    return isMasked && !this.isOfDeadline ? Number.POSITIVE_INFINITY : this.nextExpiry();
  }

  /** @returns whether it has expired since it was asked last */
  expires(now: number): boolean {
    if (this.nextExpiry() > now) return false;
    this.current().serviced = now;
    if (this.isOfDeadline) this.deadline = 0n;
    return true;
  }
}
