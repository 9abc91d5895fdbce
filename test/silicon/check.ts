import { MXCSR_STATUS } from '../../sim-core/isa/sse-operands.ts';
import { RFLAGS } from '../../sim-core/state/control-bits.ts';
import { randomCase } from './cases.ts';
import type { TestForm } from './forms.ts';
import { ADDRESS, type Case, type MachineState, NO_EXCEPTION, type Outcome, type TestMode } from './layout.ts';
import type { Native } from './native.ts';
import { Random } from './random.ts';
import { randomSequence } from './sequences.ts';
import type { Simulated } from './simulated.ts';

const COMPARED_FLAGS = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of | RFLAGS.df;
const FLAG_NAMES = ['cf', 'pf', 'af', 'zf', 'sf', 'of', 'df'] as const;
const GPR_NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

export interface Report {
  readonly cases: number;
  /** One text a form that differed: the first case that did. */
  readonly mismatches: readonly string[];
  /** What the simulator does not simulate, by its own words. */
  readonly unimplemented: readonly string[];
}

/** `casesPerForm` random cases of each form. */
export const casesOfForms = (forms: readonly TestForm[], casesPerForm: number, seed: number): Case[] =>
  forms.flatMap((form) => {
    const random = new Random(seed + Math.imul(form.id, 0x9e37_79b1));
    return Array.from({ length: casesPerForm }, () => randomCase(form, random));
  });

/** Sequences that a run tests for each case of a form. */
export const SEQUENCES_PER_CASE = 200;

export function sequences(count: number, seed: number): Case[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => randomSequence(random));
}

/** Runs cases on silicon and in the simulator, and compares. */
export function check(cases: readonly Case[], native: Native, simulated: Simulated): Report {
  const expected = native.run(cases);
  const mismatches = new Map<string, string>();
  const unimplemented = new Set<string>();
  cases.forEach((test, i) => {
    const outcome = simulated.run(test);
    if ('unimplemented' in outcome) {
      unimplemented.add(`${outcome.unimplemented}: ${test.text}`);
      return;
    }
    const differences = compare(test, expected[i] as Outcome, outcome);
    if (differences.length > 0 && !mismatches.has(test.text)) mismatches.set(test.text, describe(test, differences));
  });
  return { cases: cases.length, mismatches: [...mismatches.values()], unimplemented: [...unimplemented] };
}

const hex = (value: number | bigint): string => value.toString(16);
const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Differences as texts `where: silicon ≠ simulator`. */
function compare(test: Case, silicon: Outcome, simulator: Outcome): string[] {
  const differences: string[] = [];
  const expect = (where: string, a: number | bigint, b: number | bigint) => {
    if (a !== b) differences.push(`${where}: silicon ${hex(a)}, simulator ${hex(b)}`);
  };
  expect('vector', silicon.vector, simulator.vector);
  if (differences.length > 0) return differences;
  const [a, b] = [silicon.after, simulator.after];
  expect('rip', a.rip, b.rip);
  const exact = silicon.vector !== NO_EXCEPTION;
  if (exact || !test.undefinedResult) compareResults(test.mode, a, b, differences);
  const flags = BigInt(COMPARED_FLAGS & ~(exact ? 0 : test.undefinedFlags));
  for (const name of FLAG_NAMES) {
    const mask = flags & BigInt(RFLAGS[name]);
    if ((a.rflags & mask) !== (b.rflags & mask))
      differences.push(`${name}: silicon ${(a.rflags & mask) === 0n ? 0 : 1}`);
  }
  // The simulator does not track MXCSR's status flags.
  expect('mxcsr', a.mxcsr & ~MXCSR_STATUS, b.mxcsr & ~MXCSR_STATUS);
  return differences;
}

function compareResults(mode: TestMode, a: MachineState, b: MachineState, differences: string[]): void {
  // Only 64-bit code sees upper halves; after 16-bit stacks Linux leaves its own there.
  const bits = mode === 'code64' ? 64 : 32;
  GPR_NAMES.forEach((name, i) => {
    const [x, y] = [a, b].map(({ gpr }) => BigInt.asUintN(bits, gpr[i] as bigint));
    if (x !== y) differences.push(`${name}: silicon ${x?.toString(16)}, simulator ${y?.toString(16)}`);
  });
  for (let i = 0; i < 16; i++) {
    const [x, y] = [a, b].map(({ xmm }) => hexBytes(xmm.subarray(16 * i, 16 * i + 16)));
    if (x !== y) differences.push(`xmm${i}: silicon ${x}, simulator ${y} (bytes from low to high)`);
  }
  for (let i = 0; i < a.memory.length; i += 8) {
    const [x, y] = [a, b].map(({ memory }) => hexBytes(memory.subarray(i, i + 8)));
    if (x !== y) differences.push(`memory ${hex(ADDRESS.WINDOW + i)}: silicon ${x}, simulator ${y}`);
  }
}

/** The case and its differences, in full: enough to follow it by hand. */
function describe(test: Case, differences: readonly string[]): string {
  const { text, code, before } = test;
  const registers = before.gpr.map((value, i) => `${GPR_NAMES[i]}=${hex(value)}`).join(' ');
  const vectors = Array.from({ length: 16 }, (_, i) => `xmm${i}=${hexBytes(before.xmm.subarray(16 * i, 16 * i + 16))}`);
  const usesVectors = text.includes('xmm');
  return [
    `${text} as ${hexBytes(code)} at ${hex(before.rip)}`,
    ...differences.map((difference) => `  ${difference}`),
    `  before: ${registers} rflags=${hex(before.rflags)}`,
    ...(usesVectors ? [`  ${vectors.join(' ')}`] : []),
  ].join('\n');
}
