import { RFLAGS } from '../../sim-core/state/control-bits.ts';
import type { UndefinedParts } from './comparable.ts';
import { ADDRESS, type Case, type MachineState, type TestMode } from './layout.ts';
import { x87Parts } from './x87.ts';

/** How two machine states differ, in words. */

const FLAG_NAMES = ['cf', 'pf', 'af', 'zf', 'sf', 'of', 'df'] as const;
const GPR_NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

const hex = (value: number | bigint): string => value.toString(16);
const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ymmOf = ({ ymm }: MachineState, i: number): string => hexBytes(ymm.subarray(32 * i, 32 * i + 32));

/** Parts of a state by name, as text. */
function parts(
  mode: TestMode,
  state: MachineState,
  withResults: boolean,
  undefinedStatus: number,
): Map<string, string> {
  const all = new Map([['rip', hex(state.rip)]]);
  for (const name of FLAG_NAMES) all.set(name, (state.rflags & BigInt(RFLAGS[name])) === 0n ? '0' : '1');
  all.set('mxcsr', hex(state.mxcsr));
  if (!withResults) return all;
  // Only 64-bit code sees upper halves; after 16-bit stacks Linux leaves its own there.
  const bits = mode === 'code64' ? 64 : 32;
  GPR_NAMES.forEach((name, i) => {
    all.set(name, hex(BigInt.asUintN(bits, state.gpr[i] as bigint)));
  });
  for (let i = 0; i < 16; i++) all.set(`ymm${i}`, ymmOf(state, i));
  for (const [name, value] of x87Parts(state.x87, undefinedStatus)) all.set(name, value);
  for (let i = 0; i < state.memory.length; i += 8) {
    all.set(`bytes at ${hex(ADDRESS.WINDOW + i)}`, hexBytes(state.memory.subarray(i, i + 8)));
  }
  return all;
}

/** A state and who arrived at it. */
type Named = readonly [name: string, state: MachineState];

/**
 * Differences as texts. YMM registers and memory are given byte by byte from the lowest address.
 */
export function differences(
  mode: TestMode,
  [firstName, first]: Named,
  [secondName, second]: Named,
  masked: UndefinedParts = { flags: 0, results: false, status: 0 },
): string[] {
  const found: string[] = [];
  const others = parts(mode, second, !masked.results, masked.status);
  for (const [name, value] of parts(mode, first, !masked.results, masked.status)) {
    const flag = FLAG_NAMES.find((candidate) => candidate === name);
    const isDefined = flag === undefined || (masked.flags & RFLAGS[flag]) === 0;
    const other = others.get(name);
    if (isDefined && value !== other) found.push(`${name}: ${firstName} ${value}, ${secondName} ${other}`);
  }
  return found;
}

/** The case and its differences, in full: enough to follow it by hand. */
export function describeCase(test: Case, found: readonly string[]): string {
  const { text, code, before } = test;
  const registers = before.gpr.map((value, i) => `${GPR_NAMES[i]}=${hex(value)}`).join(' ');
  const vectors = Array.from({ length: 16 }, (_, i) => `ymm${i}=${ymmOf(before, i)}`).join(' ');
  return [
    `${text} as ${hexBytes(code)} at ${hex(before.rip)}`,
    ...found.map((difference) => `  ${difference}`),
    `  before: ${registers} rflags=${hex(before.rflags)}`,
    ...(/[xy]mm/i.test(text) ? [`  mxcsr=${hex(before.mxcsr)} ${vectors}`] : []),
    ...(/^f|mm,|mm$/i.test(text) ? [`  ${[...x87Parts(before.x87)].map((part) => part.join('=')).join(' ')}`] : []),
  ].join('\n');
}
