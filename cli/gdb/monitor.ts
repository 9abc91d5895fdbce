/** gdb's `monitor` commands: what VMXray knows and the protocol has no packet for. */

import { decodeStep, describeFault } from '../../debug-adapter/views/translation-views.ts';
import type { Machine } from '../../sim-core/machine/api.ts';
import { MACHINE_REGISTERS } from '../../sim-core/machine/registers.ts';
import type { Translation } from '../../sim-core/mmu/translation.ts';
import { describeBits } from '../../sim-core/vmx/bits.ts';
import { describeField } from '../../sim-core/vmx/describe.ts';
import { EXIT_REASONS, exitReasonByName, exitTitle } from '../../sim-core/vmx/exit-reasons.ts';
import { FIELD_GROUPS, fieldByName, VMCS_FIELDS, type VmcsField } from '../../sim-core/vmx/fields.ts';
import { translate } from '../memory.ts';
import { type Debuggee, describeExit } from './debuggee.ts';
import { restore, save } from './snapshots.ts';

interface MonitorCommand {
  readonly usage: string;
  readonly meaning: string;
  /** @returns lines for the user. @throws MonitorError */
  run(debuggee: Debuggee, words: readonly string[]): readonly string[] | Promise<readonly string[]>;
}

/** A command that cannot be done: the message is for the user. */
class MonitorError extends Error {}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function parseNumber(text: string | undefined): bigint {
  if (text !== undefined && /^(0x[0-9a-f]+|\d+)$/i.test(text)) return BigInt(text);
  throw new MonitorError(text === undefined ? 'a number is missing' : `'${text}' is no number such as 0x1000`);
}

function fieldLine(machine: Machine, field: VmcsField): string {
  const value = machine.vmx.read(field.encoding);
  if (value === undefined) return `${field.name} does not exist on this processor`;
  const words = describeField(field.name, value);
  return `${field.name} = ${hex(value)}${words === '' ? '' : `  ${words}`}`;
}

/** All groups, one group by a word of its name, or one field. */
function showVmcs({ machine }: Debuggee, [word]: readonly string[]): readonly string[] {
  const { currentVmcs, launchState } = machine.vmx;
  if (currentVmcs === undefined) throw new MonitorError('there is no current VMCS');
  const one = word === undefined ? undefined : fieldByName(word);
  if (one) return [fieldLine(machine, one)];
  const groups = Object.entries(FIELD_GROUPS).filter(
    ([, title]) => word === undefined || title.toLowerCase().includes(word.toLowerCase()),
  );
  if (groups.length === 0) {
    throw new MonitorError(`no field '${word}', and no group: there are ${Object.values(FIELD_GROUPS).join(', ')}`);
  }
  return [
    `VMCS at ${hex(currentVmcs)}, ${launchState}`,
    ...groups.flatMap(([group, title]) => [
      `${title}:`,
      ...VMCS_FIELDS.filter((field) => field.group === group && machine.vmx.read(field.encoding) !== undefined).map(
        (field) => `  ${fieldLine(machine, field)}`,
      ),
    ]),
  ];
}

function walkLines({ steps, physical, fault }: Translation): string[] {
  const lines = steps.map((step) => {
    const words = decodeStep(step);
    const problem = step.problem === undefined ? '' : `: ${step.problem}`;
    return `${step.table} at ${hex(step.entryAddress)} = ${hex(step.value)}${words === '' ? '' : `  ${words}`}${problem}`;
  });
  if (physical !== undefined) lines.push(`host-physical ${hex(physical)}`);
  return fault ? [...lines, describeFault(fault)] : lines;
}

/** The EPTP in force, or that of the guest in the current VMCS. */
function eptPointer({ world, state, vmx }: Machine): bigint {
  const field = fieldByName('EPT_POINTER');
  const eptp = world === 'guest' ? state.get64('eptp') : field && vmx.read(field.encoding);
  if (!eptp) throw new MonitorError('there is no guest with EPT');
  return eptp;
}

function showEpt({ machine }: Debuggee, [address]: readonly string[]): readonly string[] {
  const eptp = eptPointer(machine);
  const guestPhysical = Number(parseNumber(address));
  return [`EPTP ${hex(eptp)}`, ...walkLines(machine.mmu.explainEpt(guestPhysical, 'read', eptp))];
}

function showExits({ machine }: Debuggee): readonly string[] {
  const { exitCounts, entries, lastExit } = machine.vmx;
  const counts = [...exitCounts].sort(([, a], [, b]) => b - a);
  return [
    `${entries} VM entries`,
    ...counts.map(([reason, count]) => `${String(count).padStart(8)}  ${exitTitle(reason)}`),
    ...(lastExit ? [`the last one: ${describeExit(lastExit).trimEnd()}`] : []),
  ];
}

function stopOnExit(debuggee: Debuggee, words: readonly string[]): readonly string[] {
  const [first] = words;
  if (first === undefined) throw new MonitorError("which? 'all', 'none', or names of exit reasons");
  const reasons = new Set<number>();
  for (const word of first === 'all' || first === 'none' ? [] : words) {
    const reason = exitReasonByName(word.toUpperCase());
    if (!reason) {
      throw new MonitorError(`no VM exit '${word}': there are ${EXIT_REASONS.map(({ name }) => name).join(', ')}`);
    }
    reasons.add(reason.number);
  }
  debuggee.stopsAtExit = (reason) => first === 'all' || reasons.has(reason);
  return [first === 'none' ? 'VM exits do not stop the machine' : `stops at VM exits: ${words.join(', ')}`];
}

function showPosition({ history, machine }: Debuggee): readonly string[] {
  const { instructions } = history.position;
  const past = history.isInPast ? `, in the past: it has been as far as ${history.present.instructions}` : '';
  const world = machine.world === 'guest' ? 'VMX non-root operation' : 'VMX root operation, or outside of it';
  return [`instruction ${instructions}, cycle ${machine.cycles}${past}`, `processor ${machine.selected}: ${world}`];
}

/** gdb shows them by name only: it has no groups of its own for x86. */
function showRegisters({ machine }: Debuggee, [word = '']: readonly string[]): readonly string[] {
  const registers = MACHINE_REGISTERS.filter(
    ({ name, group, partOf }) => partOf === undefined && group !== 'vector' && name.includes(word.toLowerCase()),
  );
  if (registers.length === 0) throw new MonitorError(`no register has '${word}' in its name`);
  return registers.map(({ name, layout, read }) => {
    const value = read(machine.state);
    const words = describeBits(layout, value);
    return `${name} = ${hex(value)}${words === '' ? '' : `  ${words}`}`;
  });
}

/** @param work on the file that the words name: a path with spaces is several of them */
const withFile =
  (work: (debuggee: Debuggee, file: string) => Promise<readonly string[]>): MonitorCommand['run'] =>
  async (debuggee, words) => {
    if (words.length === 0) throw new MonitorError('a file is missing');
    try {
      return await work(debuggee, words.join(' '));
    } catch (error) {
      throw new MonitorError(error instanceof Error ? error.message : String(error));
    }
  };

const COMMANDS: Readonly<Record<string, MonitorCommand>> = {
  vmcs: { usage: 'vmcs [GROUP|FIELD]', meaning: 'the current VMCS, in words', run: showVmcs },
  ept: { usage: 'ept ADDRESS', meaning: "walk the guest's EPT for a guest-physical address", run: showEpt },
  translate: {
    usage: 'translate ADDRESS',
    meaning: 'walk the page tables, and EPT under them, for a linear address',
    run: ({ machine }, [address]) => walkLines(translate(machine, parseNumber(address), 'read')),
  },
  registers: {
    usage: 'registers [NAME]',
    meaning: 'registers with their bits in words: all, or those with NAME in their names',
    run: showRegisters,
  },
  exits: { usage: 'exits', meaning: 'VM exits so far, and the last one', run: showExits },
  'stop-on-exit': {
    usage: 'stop-on-exit all|none|NAME…',
    meaning: 'let VM exits stop the machine, as CPUID or EPT_VIOLATION',
    run: stopOnExit,
  },
  position: { usage: 'position', meaning: 'how far the machine is, and in which world', run: showPosition },
  snapshot: { usage: 'snapshot FILE', meaning: 'save the whole machine', run: withFile(save) },
  restore: { usage: 'restore FILE', meaning: 'go on from a snapshot; the past is forgotten', run: withFile(restore) },
  help: {
    usage: 'help',
    meaning: 'this list',
    run: () => Object.values(COMMANDS).map(({ usage, meaning }) => `${usage.padEnd(30)}${meaning}`),
  },
};

/** What the user reads for a command line; some commands take their time. */
export function monitor(debuggee: Debuggee, line: string): string | Promise<string> {
  const [name = '', ...words] = line.trim().split(/\s+/);
  const command = COMMANDS[name];
  if (!command) return `no command '${name}'; monitor help lists them\n`;
  const text = (lines: readonly string[]): string => `${lines.join('\n')}\n`;
  const problem = (error: unknown): string => {
    if (error instanceof MonitorError) return `${command.usage}: ${error.message}\n`;
    throw error;
  };
  try {
    const lines = command.run(debuggee, words);
    return lines instanceof Promise ? lines.then(text, problem) : text(lines);
  } catch (error) {
    return problem(error);
  }
}
