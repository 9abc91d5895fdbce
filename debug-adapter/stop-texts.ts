import type { DebugProtocol } from '@vscode/debugprotocol';
import { decodeQualification, describeQualification, exitReason, exitTitle } from '../sim-core/vmx/exit-reasons.ts';
import { INSTRUCTION_ERRORS } from '../sim-core/vmx/layouts.ts';
import type { VmEntryFailure, VmExitRecord } from '../sim-core/vmx/records.ts';
import { hex } from './memory-reference.ts';
import type { Stop } from './runner.ts';

type StoppedBody = Pick<DebugProtocol.StoppedEvent['body'], 'reason' | 'description' | 'text' | 'hitBreakpointIds'>;
type Running = Exclude<Stop, { kind: 'ended' }>;

/** What the client shows when the machine stops. */
export function stoppedBody(stop: Running): StoppedBody {
  switch (stop.kind) {
    case 'entry':
      return { reason: 'entry', description: 'Stopped at the first instruction' };
    case 'step':
    case 'goto':
      return { reason: stop.kind };
    case 'paused':
      return { reason: 'pause' };
    case 'halted':
      return { reason: 'pause', description: 'Halted', text: 'HLT, and nothing can wake the processor any more' };
    case 'breakpoint':
      return { reason: 'breakpoint', hitBreakpointIds: [...stop.ids] };
    case 'vmEntry':
      return { reason: 'entry', description: 'Stopped after VM entry' };
    default: {
      const { id, title, text } = explainStop(stop);
      return { reason: 'exception', description: title, text: text === '' ? id : text };
    }
  }
}

export interface Explanation {
  readonly id: string;
  readonly title: string;
  /** One line. */
  readonly text: string;
  /** More lines: decoded bits, other checks, the manual's section. */
  readonly details: readonly string[];
}

type Explained = Extract<Stop, { kind: 'vmExit' | 'vmEntryFailure' | 'tripleFault' | 'unimplemented' }>;

export const isExplained = (stop: Stop): stop is Explained =>
  stop.kind === 'vmExit' ||
  stop.kind === 'vmEntryFailure' ||
  stop.kind === 'tripleFault' ||
  stop.kind === 'unimplemented';

/** Everything that is known of why the machine stopped. */
export function explainStop(stop: Explained): Explanation {
  switch (stop.kind) {
    case 'vmExit':
      return explainExit(stop.exit);
    case 'vmEntryFailure':
      return explainEntryFailure(stop.failure);
    case 'tripleFault':
      return {
        id: 'TRIPLE_FAULT',
        title: 'Triple fault',
        text: stop.story.at(-1)?.description ?? '',
        details: stop.story.map((step, index) => `${index + 1}. at ${hex(step.rip)}: ${step.description}`),
      };
    case 'unimplemented':
      return {
        id: 'UNIMPLEMENTED',
        title: 'Not simulated',
        text: stop.what,
        details: ['This version of VMXray cannot execute it; docs/limits.md lists what is missing.'],
      };
  }
}

/** The exit qualification as lines of words. */
export const qualificationLines = (exit: VmExitRecord): string[] =>
  decodeQualification(exit.reason, exit.qualification, exit.interruptionInformation).map(
    (part) => `${part.name} (bit ${part.bits}): ${part.meaning}`,
  );

function explainExit(exit: VmExitRecord): Explanation {
  const reason = exitReason(exit.reason);
  const words = describeQualification(exit.reason, exit.qualification, exit.interruptionInformation);
  return {
    id: reason?.name ?? `EXIT_REASON_${exit.reason}`,
    title: `VM exit: ${exitTitle(exit.reason)}`,
    text: words === '' ? exit.cause : words,
    details: [
      ...(reason ? [reason.documentation] : []),
      `Cause: ${exit.cause}`,
      `Guest RIP ${hex(exit.guestRip)}, instruction length ${exit.instructionLength}`,
      `Exit qualification ${hex(exit.qualification)}`,
      ...qualificationLines(exit),
    ],
  };
}

function explainEntryFailure({ outcome, checks }: VmEntryFailure): Explanation {
  const title =
    'exitReason' in outcome
      ? `${exitTitle(outcome.exitReason)} (exit reason ${outcome.exitReason})`
      : `VM entry failed: ${INSTRUCTION_ERRORS[outcome.vmInstructionError]} (error ${outcome.vmInstructionError})`;
  const lines = checks.flatMap((check, index) => [
    `${index === 0 ? 'Failed check' : 'Would fail too'}: ${check.explanation} [${check.section}]`,
    ...check.fields.map((field) => `    ${field.name} = ${hex(field.value)}`),
  ]);
  return { id: checks[0]?.id ?? 'VM_ENTRY_FAILURE', title, text: checks[0]?.explanation ?? '', details: lines };
}
