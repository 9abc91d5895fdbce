/** Holds what the debugger shows of variables against what gdb shows of the same program at the same instructions. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadTarget, type Target } from '../../debug-adapter/running/target.ts';
import { OPTIMISED_OUT, Unavailable } from '../../debug-adapter/symbols/dwarf/location-expressions.ts';
import type { TypedValue } from '../../debug-adapter/symbols/typed-value.ts';
import { FrameScope, inlineFrames } from '../../debug-adapter/views/frame-scope.ts';
import { NoStorage } from '../../debug-adapter/worlds/storage.ts';
import { withTailCalls } from '../../debug-adapter/worlds/tail-calls.ts';
import { type Frame, unwind } from '../../debug-adapter/worlds/unwind.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { registerByName } from '../../sim-core/machine/registers.ts';

type ShownParts = { readonly [name: string]: Shown };
type Shown = string | readonly Shown[] | ShownParts;

interface ShownFrame {
  readonly name: string;
  readonly pc: string;
  readonly variables: ShownParts;
}
export interface ShownStop {
  readonly pc: string;
  readonly frames: readonly ShownFrame[];
}

/** @param steps instructions to the first stop, from there to the second one, and so on. */
export function gdbStops(program: string, steps: readonly number[], output: string): ShownStop[] {
  const script = join(import.meta.dirname, 'dump.py');
  const settings = ['set backtrace past-main off', 'set disable-randomization on', 'set max-completions 0'];
  const options = settings.flatMap((setting) => ['-ex', setting]);
  execFileSync('gdb', ['-nx', '-batch', ...options, '-x', script, program], {
    env: { ...process.env, STEPS: steps.join(','), OUTPUT: output },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 120_000,
  });
  return readFileSync(output, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** SSE needs CR4.OSFXSR and OSXMMEXCPT, which Linux sets for its programs. */
const SSE = 0x600n;

export async function ownStops(program: string, steps: readonly number[]): Promise<ShownStop[]> {
  const readFile = async (path: string): Promise<Uint8Array> => readFileSync(path);
  const launch = { program, machine: { memory: '16M' }, noDebug: true };
  const target = await loadTarget({ readFile }, createMachine, launch);
  const cr4 = registerByName('cr4');
  cr4?.write?.(target.machine.cpu, cr4.read(target.machine.state) | SSE);
  return steps.map((count) => {
    target.machine.run(count);
    return stopOf(target);
  });
}

function stopOf(target: Target): ShownStop {
  const view = target.view();
  const frames: ShownFrame[] = [];
  // Behind stepi gdb shows an inlined function from its first instruction on.
  const all = (frame: Frame): Frame[] =>
    inlineFrames(target, frame, target.programAt(view.world, frame.lookupPc)?.activationsAt(frame.lookupPc));
  for (const frame of [...withTailCalls(target, unwind(target, view))].flatMap(all)) {
    const scope = new FrameScope(target, frame);
    const variables = scope.variables.map(({ name, entry }) => [name, shown(scope.value(entry, name))]);
    const name = frame.activation?.name ?? target.functionAt(view.world, frame.lookupPc)?.name ?? '';
    frames.push({ name, pc: frame.pc.toString(), variables: Object.fromEntries(variables) });
    if (/(^|::)main$/.test(name)) break;
  }
  return { pc: view.pc.toString(), frames };
}

/** A value as dump.py writes it. */
function shown(value: TypedValue): Shown {
  const { plain } = value;
  try {
    if (plain.kind === 'record') {
      const members = value
        .members(plain)
        .map((member, index) => [member.name ?? `#${index}`, shown(value.member(member))]);
      return Object.fromEntries(members);
    }
    if (plain.kind === 'array') {
      return Array.from({ length: plain.count ?? 0 }, (_, index) => {
        const element = value.element(plain.lower + index);
        return element ? shown(element) : '';
      });
    }
    if (plain.kind === 'reference') {
      const target = value.target();
      return target ? shown(target) : '';
    }
    const { storage } = value;
    if (storage instanceof NoStorage && storage.pointee) {
      const target = value.target();
      return { '*': target ? shown(target) : '' };
    }
    if (value.isFloat) return pythonFloat(value.float());
    return value.number().toString();
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return error.message === OPTIMISED_OUT ? '<optimised out>' : `<${error.message}>`;
  }
}

/** As Python's repr: 1.0, 1e+16. Both write the fewest digits that tell the value. */
function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  return Object.is(value, -0) ? '-0' : String(value);
}

/** Linux gives its programs no memory at 0; the bare machine has some there. */
const NO_MEMORY = '<Cannot access memory at address 0x';

/**
 * What gdb shows as we would: numbers of Python's as ours (1.0 is 1, 1e+16 is 10000000000000000).
 * @param own taken where gdb has no memory
 */
function normal(value: Shown, own: Shown | undefined): Shown {
  if (typeof value === 'string') {
    if (value.startsWith(NO_MEMORY)) return own ?? value;
    return /^-?\d+(\.\d+)?(e[+-]\d+)?$/.test(value) && /[.e]/.test(value) ? pythonFloat(Number(value)) : value;
  }
  if (isList(value)) return value.map((part, index) => normal(part, isList(own) ? own[index] : own));
  return normalEach(value, typeof own === 'object' && !isList(own) ? own : {});
}

/** The same for members and variables. */
export function normalEach(values: ShownParts, own: ShownParts): ShownParts {
  return Object.fromEntries(Object.entries(values).map(([name, part]) => [name, normal(part, own[name])]));
}

const isList = (value: Shown | undefined): value is readonly Shown[] => Array.isArray(value);
