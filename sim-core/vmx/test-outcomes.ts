/** For tests: runs a guest and tells in one word what came of it. */

import { exitReason } from './exit-reasons.ts';
import type { FieldName } from './fields.ts';
import { CODE, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

/** What a guest does once it runs. @returns an observation of its own, where the way it ends says too little */
export type Act = (processor: TestProcessor) => unknown;

export interface Guest {
  readonly changes?: FieldChanges;
  /** In root operation, before VMLAUNCH. */
  readonly before?: (processor: TestProcessor) => void;
  readonly act: Act;
}

const EXCEPTION_OR_NMI = 0;

/** 'HLT' for a VM exit, 'exception 6' for one due to an exception or NMI, 'stays' when the guest runs on. */
function ending(processor: TestProcessor): string {
  const exit = processor.exits.at(-1);
  if (!exit) return processor.aborts.length === 0 ? 'stays' : 'VMX abort';
  if (exit.reason === EXCEPTION_OR_NMI) return `exception ${exit.interruptionInformation & 0xff}`;
  return exitReason(exit.reason)?.name ?? `exit ${exit.reason}`;
}

/** Runs a guest: 'entry fails', what `act` returns when that is a string, or how it ended. */
export function outcomeOf({ changes, before, act }: Guest): string {
  const processor = new TestProcessor();
  processor.prepare(changes);
  before?.(processor);
  processor.execute(CODE.vmlaunch);
  if (processor.failures.length !== 0) return processor.exits.length === 0 ? 'entry fails' : ending(processor);
  const seen = act(processor);
  return typeof seen === 'string' ? seen : ending(processor);
}

/** Executes one instruction. */
export const code =
  (...bytes: readonly number[]): Act =>
  (processor) => {
    processor.execute(bytes);
  };

export const boundary: Act = (processor) => {
  processor.boundary();
};

/** Takes a fault of a memory access to its end. */
export function access(processor: TestProcessor, address: number, kind: 'read' | 'write' | 'fetch', size = 4): void {
  const { mmu } = processor;
  const linear = BigInt(address);
  if (kind === 'fetch') {
    if (mmu.fetch(linear) < 0) processor.fault(mmu.lastFault());
    return;
  }
  const fault = kind === 'read' ? mmu.read(linear, size) : mmu.write(linear, size, 0n);
  if (typeof fault === 'object') processor.fault(fault);
}

const base = vmcsWith({});
/** More bits in control fields, beside those of test-vmcs.ts. */
export const controls = (more: { readonly [Name in ControlName]?: number }): FieldChanges =>
  Object.fromEntries(
    Object.entries(more).map(([name, mask]) => [
      FIELD[name as ControlName],
      (base[FIELD[name as ControlName]] | mask) >>> 0,
    ]),
  );

const FIELD = {
  pin: 'PIN_BASED_VM_EXECUTION_CONTROLS',
  primary: 'PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
  secondary: 'SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS',
  exit: 'PRIMARY_VM_EXIT_CONTROLS',
  entry: 'VM_ENTRY_CONTROLS',
} as const satisfies Record<string, FieldName>;
export type ControlName = keyof typeof FIELD;
export const CONTROL_FIELD: Readonly<Record<ControlName, (typeof FIELD)[ControlName]>> = FIELD;
