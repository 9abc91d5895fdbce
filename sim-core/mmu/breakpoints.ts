/** Breakpoints that DR7 enables (SDM Vol. 3B, "Debug Registers"), as accesses are compared with them. */

import { CR4 } from '../state/control-bits.ts';
import type { State } from '../state/state.ts';

/** R/W fields of DR7. */
const ON = { execute: 0, write: 1, io: 2, readWrite: 3 } as const;
/** Bytes by LEN field. */
const LENGTHS = [1, 2, 8, 4] as const;
const HALF = 2 ** 32;
/** Pending debug exceptions: a data or I/O breakpoint that was enabled (SDM Vol. 3C, "Guest Non-Register State"). */
export const ENABLED_BREAKPOINT = 0x1000;

interface Breakpoint {
  /** Its bit in DR6. */
  readonly bit: number;
  readonly address: bigint;
  /** Halves of the address, aligned to the length. */
  readonly low: number;
  readonly high: number;
  readonly length: number;
  readonly reads: boolean;
}

/** The breakpoints in force, sorted by what triggers them. Nothing is compared while a list is empty. */
export class Breakpoints {
  code: readonly Breakpoint[] = [];
  data: readonly Breakpoint[] = [];
  io: readonly Breakpoint[] = [];
  private dr7 = 0;

  /** Whether DR7 is not the one of the last `update`. */
  isStale(state: State): boolean {
    return state.low('dr', 7) !== this.dr7;
  }

  /** Takes DR0…DR3 and DR7 over. */
  update(state: State): void {
    const dr7 = state.low('dr', 7);
    this.dr7 = dr7;
    const of = (...kinds: readonly number[]): Breakpoint[] =>
      [0, 1, 2, 3]
        .filter((i) => ((dr7 >>> (2 * i)) & 3) !== 0 && kinds.includes((dr7 >>> (16 + 4 * i)) & 3))
        .map((i) => breakpoint(state, i, dr7 >>> (16 + 4 * i)));
    this.code = of(ON.execute);
    this.data = of(ON.write, ON.readWrite);
    this.io = of(ON.io);
  }

  /** Whether a 4-KiB page holds bytes of a data breakpoint: its accesses must not take the fast path. */
  watchesPage(low: number, high: number): boolean {
    return this.data.some((point) => ((point.low ^ low) & ~0xfff) === 0 && point.high === high);
  }

  /** DR6 bits of the data breakpoints that an access touches. */
  matchData(low: number, high: number, size: number, write: boolean): number {
    return this.data.reduce((bits, point) => {
      const distance = (point.high - high) * HALF + point.low - low;
      const touches = distance < size && distance + point.length > 0;
      return touches && (write || point.reads) ? bits | point.bit : bits;
    }, 0);
  }

  /** DR6 bits of the instruction breakpoints at a linear address. */
  matchCode(linear: bigint): number {
    return this.code.reduce((bits, point) => (point.address === linear ? bits | point.bit : bits), 0);
  }

  /** DR6 bits of the I/O breakpoints that an access to `size` ports touches. They need CR4.DE. */
  matchIo(state: State, port: number, size: number): number {
    if (this.io.length === 0 || (state.low('cr4') & CR4.de) === 0) return 0;
    return this.io.reduce(
      (bits, { low, length, bit }) => (low < port + size && port < low + length ? bits | bit : bits),
      0,
    );
  }
}

function breakpoint(state: State, i: number, control: number): Breakpoint {
  const length = LENGTHS[(control >>> 2) & 3] as number;
  return {
    bit: 1 << i,
    address: state.get64('dr', i),
    low: (state.low('dr', i) & ~(length - 1)) >>> 0,
    high: state.high('dr', i),
    length,
    reads: (control & 3) === ON.readWrite,
  };
}

/** Makes the #DB trap of these DR6 bits pending: it comes after the instruction in hand. */
export function notePending(state: State, bits: number): void {
  if (bits === 0) return;
  state.set64('pendingDebug', state.get64('pendingDebug') | BigInt(bits | ENABLED_BREAKPOINT));
  state.set32('attention', 1);
}
