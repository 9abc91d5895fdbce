/**
 * One program on two machines, one with compiled code and one that only interprets: both must be in the same state
 * after every slice. The first difference is located to the instruction by running fresh machines through the same
 * slices again, the last one cut shorter and shorter: what is compiled depends on the slices.
 */

import { CODE_MODE, SEGMENT } from '../state/layout.ts';
import type { Machine, MachineConfig } from './api.ts';
import {
  type Difference,
  differentStretches,
  processorDifferences,
  type Stretch,
  stretchDifferences,
} from './state-differences.ts';
import type { StopReason } from './stop-reason.ts';

/** Makes a machine and boots it; called for both machines, and again to locate a difference. */
export type StartMachine = (config: Pick<MachineConfig, 'compile' | 'blockStarts'>) => Machine;

export interface VerifyOptions {
  /** Stop reason `limit` after as many instructions. Default: no limit. */
  readonly maxInstructions?: number;
  /** Instructions of a slice, on average. Default 20,000. */
  readonly slice?: number;
  /** Gets what the guest sends on COM1. */
  readonly onOutput?: (byte: number) => void;
  /** Instructions between comparisons of all RAM, which take longer than those of registers. Default 16 million. */
  readonly ramInterval?: number;
}

/** Where the compiled machine's way parts from the interpreter's. */
export interface Discrepancy {
  readonly kind: 'discrepancy';
  /** Instructions that both executed with the same outcome. */
  readonly instructions: number;
  /**
   * False: the difference vanishes when compiled blocks are cut short, so that it is known only to arise in the block
   * that ends with this instruction.
   */
  readonly isExact: boolean;
  /** The instruction that came next, in the interpreter: its linear address and, if it can be fetched, its bytes. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly bitness: 16 | 32 | 64;
  /** What differed after it; values of the compiled machine come first. */
  readonly differences: readonly Difference[];
}

/** A stop as a text, for comparing and for people; without what may be large. */
const describe = (stop: StopReason): string => ('value' in stop ? `${stop.kind} ${stop.value}` : stop.kind);

const uniqueByName = (differences: readonly Difference[]): Difference[] => [
  ...new Map(differences.map((difference) => [difference.name, difference])).values(),
];

/** Width of the code that a machine executes. */
function bitnessOf({ state }: Machine): 16 | 32 | 64 {
  const mode = state.get32('codeMode');
  if (mode === CODE_MODE.code64) return 64;
  return mode === CODE_MODE.code16stack16 || mode === CODE_MODE.code16stack32 ? 16 : 32;
}

function linearRip(machine: Machine): bigint {
  const rip = machine.state.get64('rip');
  if (bitnessOf(machine) === 64) return rip;
  return BigInt.asUintN(32, rip + machine.state.get64('segmentBase', SEGMENT.cs));
}

/** The two machines at the same place of their runs. */
class Pair {
  readonly compiled: Machine;
  readonly interpreted: Machine;
  private readonly output: [number[], number[]] = [[], []];

  /** @param onOutput gets what the interpreting machine sends. */
  constructor(start: StartMachine, blockStarts: readonly number[] = [], onOutput?: (byte: number) => void) {
    this.compiled = start({ compile: true, blockStarts });
    this.interpreted = start({ compile: false });
    this.compiled.serial.onOutput = (byte) => this.output[0].push(byte);
    this.interpreted.serial.onOutput = (byte) => {
      this.output[1].push(byte);
      onOutput?.(byte);
    };
  }

  /** Runs both. @returns the interpreter's stop, and what differs; RAM is compared in `stretches` only. */
  run(instructions: number, stretches: readonly Stretch[]): { stop: StopReason; differences: Difference[] } {
    const compiledStop = this.compiled.run(instructions);
    const stop = this.interpreted.run(instructions);
    const [a, b] = [this.compiled.state, this.interpreted.state];
    const differences = [...processorDifferences(a, b), ...stretchDifferences(a, b, stretches)];
    const [first, second] = [describe(compiledStop), describe(stop)];
    if (first !== second) differences.push({ name: `stop (${first}, ${second})`, values: [0n, 0n] });
    return { stop, differences: [...differences, ...this.outputDifference()] };
  }

  /** The first byte of serial output that differs; what is the same is forgotten. */
  private outputDifference(): Difference[] {
    const [a, b] = this.output;
    const at = a.findIndex((byte, i) => byte !== b[i]);
    if (at < 0 && a.length === b.length) {
      this.output[0].length = 0;
      this.output[1].length = 0;
      return [];
    }
    const index = at < 0 ? a.length : at;
    return [{ name: 'serial output', values: [BigInt(a[index] ?? -1), BigInt(b[index] ?? -1)] }];
  }

  differentStretches(): readonly Stretch[] {
    return differentStretches(this.compiled.state, this.interpreted.state);
  }
}

export class Verification {
  private readonly start: StartMachine;
  private readonly options: Required<Omit<VerifyOptions, 'onOutput'>>;
  private readonly pair: Pair;
  /** Slices run so far. */
  private slices = 0;
  private ramComparedAt = 0;
  /** Slices after which RAM was the same. */
  private ramComparedSlices = 0;

  constructor(start: StartMachine, options: VerifyOptions = {}) {
    this.start = start;
    this.options = { maxInstructions: Infinity, slice: 20_000, ramInterval: 2 ** 24, ...options };
    this.pair = new Pair(start, [], options.onOutput);
  }

  /** The interpreting machine. */
  get machine(): Machine {
    return this.pair.interpreted;
  }

  /** Runs one slice. @returns how the run ended or where the machines part; undefined when it goes on */
  advance(): StopReason | Discrepancy | undefined {
    const length = Math.min(this.lengthOf(this.slices), this.options.maxInstructions - this.machine.instructions);
    if (length <= 0) return this.compareRam() ?? { kind: 'limit' };
    const { stop, differences } = this.pair.run(length, []);
    this.slices++;
    if (differences.length > 0) return this.locate(this.slices - 1, length, []);
    const goesOn = stop.kind === 'limit' || stop.kind === 'paused';
    const due = this.machine.instructions - this.ramComparedAt >= this.options.ramInterval;
    if (!due && goesOn) return undefined;
    return this.compareRam() ?? (goesOn ? undefined : stop);
  }

  /** Irregular, so that slices end everywhere in the guest's loops. */
  private lengthOf(slice: number): number {
    return 1 + Math.floor((2 * this.options.slice * ((slice * 7919) % 10_007)) / 10_007);
  }

  private compareRam(): Discrepancy | undefined {
    const stretches = this.pair.differentStretches();
    if (stretches.length > 0) return this.findSlice(stretches);
    this.ramComparedAt = this.machine.instructions;
    this.ramComparedSlices = this.slices;
    return undefined;
  }

  /** Runs again up to the slice after which these stretches of memory differ first. */
  private findSlice(stretches: readonly Stretch[]): Discrepancy {
    const pair = new Pair(this.start);
    for (let slice = 0; ; slice++) {
      const left = this.options.maxInstructions - pair.interpreted.instructions;
      const length = Math.min(this.lengthOf(slice), left);
      const { differences } = pair.run(length, slice < this.ramComparedSlices ? [] : stretches);
      if (differences.length > 0) return this.locate(slice, length, stretches);
      if (slice >= this.slices) throw new Error('a difference in RAM did not come again in a second run');
    }
  }

  // ---- locating

  /** Fresh machines after the whole slices before this place, and a last slice of `length` instructions. */
  private replay({ slice, stretches, blockStarts }: Place, length: number) {
    const pair = new Pair(this.start, blockStarts);
    for (let i = 0; i < slice; i++) pair.run(this.lengthOf(i), []);
    return { pair, ...pair.run(length, stretches) };
  }

  /** Length of the shortest last slice after which something differs; undefined: nothing does after `longest`. */
  private shortest(place: Place, longest: number): number | undefined {
    const differs = (length: number): boolean => this.replay(place, length).differences.length > 0;
    if (!differs(longest)) return undefined;
    let same = 0;
    let different = longest;
    while (different - same > 1) {
      const middle = same + Math.floor((different - same) / 2);
      if (differs(middle)) different = middle;
      else same = middle;
    }
    return different;
  }

  /**
   * A block of compiled code is executed as a whole or not at all, so that the difference shows at its end first. Then
   * the block is cut into its instructions.
   *
   * @param slice the one after which something differs, in a last slice of `length`.
   */
  private locate(slice: number, length: number, stretches: readonly Stretch[]): Discrepancy {
    const place: Place = { slice, stretches, blockStarts: [] };
    const end = this.shortest(place, length);
    if (end === undefined) throw new Error('a difference did not come again in a second run');
    const cut: Place = { ...place, blockStarts: this.offsetsBefore(place, end) };
    const exact = this.shortest(cut, end);
    return this.discrepancy(exact === undefined ? place : cut, exact ?? end, exact !== undefined);
  }

  /** Page offsets of the instructions executed before the end of a last slice of `length`. */
  private offsetsBefore(place: Place, length: number): number[] {
    const from = Math.max(0, length - LONGEST_BLOCK);
    const { interpreted } = this.replay(place, from).pair;
    const offsets = new Set<number>();
    for (let i = from; i < length; i++) {
      offsets.add(Number(linearRip(interpreted) & 0xfffn));
      interpreted.run(1);
    }
    return [...offsets];
  }

  private discrepancy(place: Place, length: number, isExact: boolean): Discrepancy {
    const { differences, pair: after } = this.replay(place, length);
    const inMemory = stretchDifferences(after.compiled.state, after.interpreted.state, after.differentStretches());
    const { interpreted } = this.replay(place, length - 1).pair;
    const address = linearRip(interpreted);
    return {
      kind: 'discrepancy',
      instructions: interpreted.instructions,
      isExact,
      address,
      bytes: interpreted.decodeAt(address)?.bytes ?? new Uint8Array(),
      bitness: bitnessOf(interpreted),
      differences: uniqueByName([...differences, ...inMemory]),
    };
  }
}

/** Instructions in which a block that went wrong is looked for. */
const LONGEST_BLOCK = 200;

/** Where in a run: after so many whole slices; what memory is looked at, and where compiled blocks are cut. */
interface Place {
  readonly slice: number;
  readonly stretches: readonly Stretch[];
  readonly blockStarts: readonly number[];
}
