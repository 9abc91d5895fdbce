/** The exit statuses of `vmxray run`, once: the help text and the documentation derive from this table. */

import type { StopReason } from '../sim-core/machine/stop-reason.ts';

export const EXIT_STATUS = {
  powerOff: { status: 0, meaning: 'the guest powered the machine off' },
  usage: { status: 2, meaning: 'wrong arguments, or an image that cannot be loaded' },
  tripleFault: { status: 3, meaning: 'triple fault' },
  halted: { status: 4, meaning: 'the processor halted and nothing can ever wake it' },
  unimplemented: { status: 6, meaning: 'an instruction or feature that is not simulated' },
  vmEntryFailure: { status: 8, meaning: 'a VM entry failed and the hypervisor did not recover from it' },
  reset: { status: 10, meaning: 'the guest reset the machine' },
  staleUse: { status: 12, meaning: 'a stale translation was used (--stop-on-stale)' },
  vmxAbort: { status: 14, meaning: 'a VMX abort: a VM exit could not be completed' },
  discrepancy: { status: 16, meaning: 'compiled code and the interpreter disagree (--verify)' },
  otherState: { status: 18, meaning: 'a replay ended in another state than the recorded one' },
  internal: { status: 70, meaning: 'an error in VMXray itself' },
  limit: { status: 124, meaning: '--max-instructions or --timeout was reached' },
  interrupted: { status: 130, meaning: 'interrupted from the terminal' },
} as const;

/** isa-debug-exit: what QEMU's process ends with; 8 bits as for every process. */
export const debugExitStatus = (value: number): number => ((value << 1) | 1) & 0xff;

/** The kinds of stops that end a run; the others are for debuggers. */
export type FinalStop = Extract<
  StopReason,
  {
    kind:
      | 'limit'
      | 'tripleFault'
      | 'unimplemented'
      | 'debugExit'
      | 'powerOff'
      | 'halted'
      | 'reset'
      | 'vmEntryFailure'
      | 'staleUse'
      | 'vmxAbort';
  }
>;

export function exitStatus(stop: FinalStop): number {
  return stop.kind === 'debugExit' ? debugExitStatus(stop.value) : EXIT_STATUS[stop.kind].status;
}

export function exitStatusHelp(): string {
  const rows = Object.values(EXIT_STATUS).map(({ status, meaning }) => `  ${String(status).padStart(3)}  ${meaning}`);
  return [...rows, '  odd  the guest wrote v to isa-debug-exit (port 0xF4): (v << 1) | 1, 8 bits'].join('\n');
}
