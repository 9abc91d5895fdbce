/** What `vmxray run` says when a run has ended. */

import { stepLines } from '../sim-core/cpu/fault-step.ts';
import type { Machine } from '../sim-core/machine/api.ts';
import { explainStaleUse } from '../sim-core/mmu/explain-stale.ts';
import { EXIT_REASONS } from '../sim-core/vmx/exit-reasons.ts';
import type { VmEntryFailure } from '../sim-core/vmx/records.ts';
import type { FinalStop } from './exit-status.ts';

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const bytesOf = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');

/** Where the processor is, in words. */
const place = (machine: Machine): string =>
  `at RIP ${hex(machine.state.get64('rip'))} in VMX ${machine.world === 'guest' ? 'non-root' : 'root or no'} operation`;

/** The failed check with the values found and what would satisfy it, then every other check that would fail. */
function describeEntryFailure({ outcome, checks }: VmEntryFailure, machine: Machine): string {
  const result =
    'vmInstructionError' in outcome
      ? `VM-instruction error ${outcome.vmInstructionError}`
      : `exit reason ${outcome.exitReason}`;
  const lines = checks.flatMap((check, index) => [
    ...(index === 1 ? ['  Other checks would fail, too:\n'] : []),
    `  ${check.explanation} (${check.section})\n`,
    ...machine.vmx.remedies(check).map(({ text }) => `    would satisfy it: ${text}\n`),
  ]);
  return `a VM entry failed with ${result}, and the hypervisor did not recover\n${lines.join('')}`;
}

const DESCRIPTIONS: {
  readonly [Kind in FinalStop['kind']]?: (stop: Extract<FinalStop, { kind: Kind }>, machine: Machine) => string;
} = {
  limit: (_stop, machine) => `stopped by a limit ${place(machine)}; raise --max-instructions or --timeout to go on\n`,
  tripleFault: ({ story }, machine) => {
    const steps = story.flatMap((step, index) =>
      stepLines(step).map((line, at) => (at === 0 ? `  ${index + 1}. ${line}\n` : `  ${line}\n`)),
    );
    return `triple fault ${place(machine)}\n${steps.join('')}`;
  },
  halted: (_stop, machine) => `halted for ever ${place(machine)}: no interrupt can wake the processor\n`,
  unimplemented: ({ address, bytes, mnemonic, what }) =>
    `not simulated: ${what} (${mnemonic || 'unknown instruction'}, bytes ${bytesOf(bytes)}, at ${hex(address)}); ` +
    'see docs/limits.md\n',
  reset: (_stop, machine) => `the guest reset the machine ${place(machine)}\n`,
  vmEntryFailure: ({ failure }, machine) => describeEntryFailure(failure, machine),
  vmxAbort: ({ abort }) =>
    `VMX abort ${abort.indicator}: ${abort.explanation} (VMCS at ${hex(abort.vmcs)}); only a reset could go on\n`,
  staleUse: ({ use }) => {
    const { text, details } = explainStaleUse(use);
    return `a stale translation was used: ${text}\n${details.map((line) => `  ${line}\n`).join('')}`;
  },
};

/** One or more lines for standard error; empty when the end was what the guest wanted. */
export function describeStop(stop: FinalStop, machine: Machine): string {
  const describe = DESCRIPTIONS[stop.kind] as ((stop: FinalStop, machine: Machine) => string) | undefined;
  return describe ? `vmxray: ${describe(stop, machine)}` : '';
}

/** Numbers by the name of the exit reason that vmx/exit-reasons.ts gives them. */
function byName(counts: ReadonlyMap<number, number>): Record<string, number> {
  const names = new Map(EXIT_REASONS.map(({ number, name }) => [number, name]));
  const entries = [...counts].map(([reason, count]) => [names.get(reason) ?? `REASON_${reason}`, count]);
  return Object.fromEntries(entries) as Record<string, number>;
}

export interface RunSummary {
  readonly stopReason: string;
  readonly exitStatus: number;
  /** isa-debug-exit's value. */
  readonly debugExit?: number;
  readonly instructions: number;
  readonly cycles: number;
  /** Real time, from the start of loading. */
  readonly seconds: number;
  /** Millions of instructions per second of real time. */
  readonly mips: number;
  readonly rip: string;
  readonly vmEntries: number;
  readonly vmExits: Readonly<Record<string, number>>;
  /** Cycles from the VM exits of each reason to the VM entries that followed. */
  readonly vmExitCycles: Readonly<Record<string, number>>;
  readonly tlb: Readonly<Record<string, number>>;
}

/** Sums of all processors' counts by exit reason. */
function total(counts: readonly ReadonlyMap<number, number>[]): ReadonlyMap<number, number> {
  const sums = new Map<number, number>();
  for (const [reason, count] of counts.flatMap((one) => [...one])) sums.set(reason, (sums.get(reason) ?? 0) + count);
  return sums;
}

export function summary(
  stop: FinalStop | 'interrupted',
  status: number,
  machine: Machine,
  seconds: number,
): RunSummary {
  const { instructions, cycles } = machine;
  const units = machine.processors.map(({ vmx }) => vmx);
  return {
    stopReason: stop === 'interrupted' ? stop : stop.kind,
    exitStatus: status,
    ...(stop !== 'interrupted' && stop.kind === 'debugExit' ? { debugExit: stop.value } : {}),
    instructions,
    cycles,
    seconds: Number(seconds.toFixed(6)),
    mips: Number((instructions / seconds / 1e6).toFixed(3)),
    rip: hex(machine.state.get64('rip')),
    vmEntries: units.reduce((sum, { entries }) => sum + entries, 0),
    vmExits: byName(total(units.map(({ exitCounts }) => exitCounts))),
    vmExitCycles: byName(total(units.map(({ exitCycles }) => exitCycles))),
    tlb: machine.mmu.tlb.counters,
  };
}
