import type { DebugProtocol } from '@vscode/debugprotocol';
import { type FaultStep, stepLines } from '../../sim-core/cpu/fault-step.ts';
import type { WatchedEvent, WatchHit } from '../../sim-core/machine/watching/watch.ts';
import { explainStaleUse, type NameCode } from '../../sim-core/mmu/explain-stale.ts';
import type { TranslationStep } from '../../sim-core/mmu/translation.ts';
import type { DmaFault } from '../../sim-core/platform/dma.ts';
import { formatRequester } from '../../sim-core/platform/pci/layout.ts';
import {
  decodeInstructionInformation,
  decodeQualification,
  describeQualification,
  exitReason,
  exitTitle,
} from '../../sim-core/vmx/exit-reasons.ts';
import { inBits } from '../../sim-core/vmx/explain-entry.ts';
import { type EptStory, explainEptExit } from '../../sim-core/vmx/explain-exit.ts';
import type { FieldName } from '../../sim-core/vmx/fields.ts';
import { INSTRUCTION_ERRORS } from '../../sim-core/vmx/layouts.ts';
import type { VmEntryFailure, VmExitRecord } from '../../sim-core/vmx/records.ts';
import { instructionText } from '../requests/disassembly.ts';
import type { Stop } from '../running/runner.ts';
import type { Target } from '../running/target.ts';
import { decodeStep } from '../views/translation-views.ts';
import { hex } from '../worlds/memory-reference.ts';
import { describeHit, type WatchStop } from './watch-judge.ts';

type StoppedBody = Pick<DebugProtocol.StoppedEvent['body'], 'reason' | 'description' | 'text' | 'hitBreakpointIds'>;

const EVENT_TITLES: Readonly<Record<WatchedEvent, string>> = {
  ring3: 'Entry to ring 3',
  addressSpace: 'New address space',
};

/** What the client shows when the machine stops; in the past it says so. */
export function stoppedBody(stop: Stop, target: Target): StoppedBody {
  const body = presentBody(stop, target);
  if (!target.history?.isInPast) return body;
  const what = body.description ?? PLAIN_REASONS[body.reason] ?? 'Stopped';
  return { ...body, description: `${what} (in the past)` };
}

const PLAIN_REASONS: Readonly<Record<string, string>> = { step: 'Step', pause: 'Paused', breakpoint: 'Breakpoint' };

const NO_WATCH: WatchStop = { ids: [], hits: [] };
const describeHits = (target: Target, hits: readonly WatchHit[]): string =>
  hits.map((hit) => describeHit(target, hit)).join('\n');

function presentBody(stop: Stop, target: Target): StoppedBody {
  switch (stop.kind) {
    case 'entry':
      return { reason: 'entry', description: 'First instruction' };
    case 'step':
    case 'goto':
      return { reason: stop.kind };
    case 'paused':
      return { reason: 'pause', ...(stop.text === undefined ? {} : { description: stop.text }) };
    case 'start':
      return { reason: 'pause', description: 'Start of the history', text: 'Nothing is recorded before this place' };
    case 'travel':
      return { reason: 'goto', description: stop.text, ...(stop.detail === undefined ? {} : { text: stop.detail }) };
    case 'halted':
      return { reason: 'pause', description: 'Halted', text: 'HLT, and nothing can wake the processor any more' };
    case 'breakpoint':
      return { reason: 'breakpoint', hitBreakpointIds: [...stop.ids] };
    case 'dataBreakpoint': {
      const [hit] = stop.hits;
      const isEvent = hit?.watch.kind === 'event';
      return {
        reason: isEvent ? 'function breakpoint' : 'data breakpoint',
        description: isEvent ? EVENT_TITLES[hit.watch.event] : 'Data breakpoint',
        text: describeHits(target, stop.hits),
        hitBreakpointIds: [...stop.ids],
      };
    }
    case 'ended':
      return { reason: 'exit', description: 'The machine has ended', text: stop.text };
    case 'vmEntry':
      return { reason: 'entry', description: 'Stopped after VM entry' };
    default: {
      const { id, title, text } = explainStop(stop, target);
      const body = { reason: 'exception', description: title, text: text === '' ? id : text };
      const { ids, hits } = (stop.kind === 'vmExit' ? stop.watch : undefined) ?? NO_WATCH;
      if (hits.length === 0) return body;
      return { ...body, text: [body.text, describeHits(target, hits)].join('\n'), hitBreakpointIds: [...ids] };
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

type Explained = Extract<
  Stop,
  { kind: 'vmExit' | 'vmEntryFailure' | 'staleUse' | 'tripleFault' | 'dmaFault' | 'vmxAbort' | 'unimplemented' }
>;

export const isExplained = (stop: Stop): stop is Explained =>
  stop.kind === 'vmExit' ||
  stop.kind === 'vmEntryFailure' ||
  stop.kind === 'staleUse' ||
  stop.kind === 'tripleFault' ||
  stop.kind === 'dmaFault' ||
  stop.kind === 'vmxAbort' ||
  stop.kind === 'unimplemented';

/** Everything that is known of why the machine stopped. */
export function explainStop(stop: Explained, target: Target): Explanation {
  switch (stop.kind) {
    case 'vmExit':
      return explainExit(stop.exit, target);
    case 'vmEntryFailure':
      return explainEntryFailure(stop.failure, target);
    case 'staleUse':
      return {
        id: 'STALE_TRANSLATION',
        title: 'Use of a stale translation',
        ...explainStaleUse(stop.use, codeNames(target)),
      };
    case 'tripleFault':
      return {
        id: 'TRIPLE_FAULT',
        title: 'Triple fault',
        text: stop.story.at(-1)?.description ?? '',
        details: storyLines(stop.story),
      };
    case 'dmaFault':
      return explainDmaFault(stop.fault);
    case 'vmxAbort':
      return {
        id: 'VMX_ABORT',
        title: `VMX abort ${stop.abort.indicator}`,
        text: stop.abort.explanation,
        details: [
          `The indicator is in the VMCS region at ${hex(stop.abort.vmcs)}, offset 4.`,
          'The processor is in a shutdown that only a reset ends.',
        ],
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

function explainDmaFault({ requester, access, address, reason, text, steps }: DmaFault): Explanation {
  const what = access === 'interrupt' ? 'interrupt request' : `DMA ${access}`;
  return {
    id: 'DMA_FAULT',
    title: `DMA fault: ${formatRequester(requester)}`,
    text: `${what} at ${hex(address)}: ${text}`,
    details: [
      `Source ${formatRequester(requester)} (${hex(requester)}), ${what}, address ${hex(address)}`,
      reason === undefined ? 'Not recorded by an IOMMU' : `Fault reason ${hex(reason)}: ${text}`,
      ...steps.map((step) => `    ${step}`),
    ],
  };
}

/** Symbols for texts about code: ' <name+offset>'. */
export const codeNames =
  (target: Target): NameCode =>
  (world, address) => {
    const name = target.symbolName(world, address);
    return name === undefined ? '' : ` <${name}>`;
  };

/** The exit qualification as lines of words. */
export const qualificationLines = (exit: VmExitRecord): string[] =>
  decodeQualification(exit.reason, exit.qualification, exit.interruptionInformation).map(
    (part) => `${part.name} (bit ${part.bits}): ${part.meaning}`,
  );

/** A VM exit in a line. */
export function exitSummary(exit: VmExitRecord): Pick<Explanation, 'id' | 'text'> {
  const words = describeQualification(exit.reason, exit.qualification, exit.interruptionInformation);
  return {
    id: exitReason(exit.reason)?.name ?? `EXIT_REASON_${exit.reason}`,
    text: words === '' ? exit.cause : words,
  };
}

function explainExit(exit: VmExitRecord, target: Target): Explanation {
  const reason = exitReason(exit.reason);
  return {
    ...exitSummary(exit),
    title: `VM exit: ${exitTitle(exit.reason)}`,
    details: [
      ...(reason ? [reason.documentation] : []),
      ...causeLines(exit, target),
      `Guest RIP ${hex(exit.guestRip)}, instruction length ${exit.instructionLength}`,
      `Exit qualification ${hex(exit.qualification)}`,
      ...qualificationLines(exit),
      ...informationLines(exit),
    ],
  };
}

/** Why the VM exit happened: the instruction, the control or bit, and for EPT the walk with the entry that refused. */
export function causeLines(exit: VmExitRecord, target: Target): string[] {
  const instruction = exitedInstruction(exit, target);
  const story = explainEptExit(exit, target.machine.mmu, target.view('guest').context());
  return [
    `Cause: ${exit.cause}`,
    ...(instruction === undefined ? [] : [`Instruction: ${instruction}`]),
    ...(story ? eptLines(story) : []),
    ...(exit.story ? storyLines(exit.story) : []),
  ];
}

/** A triple fault, step by step, with what each delivery read. */
const storyLines = (story: readonly FaultStep[]): string[] =>
  story.flatMap((step, index) => stepLines(step).map((line, at) => (at === 0 ? `${index + 1}. ${line}` : line)));

function eptLines({ access, entry, reason, steps }: EptStory): string[] {
  const at = entry && `${entry.table} at ${hex(entry.entryAddress)} = ${hex(entry.value)}`;
  const decoded = entry && decodeStep(entry);
  return [
    `Access: ${access}`,
    ...(at ? [`EPT entry: ${at}${decoded ? ` (${decoded})` : ''}`] : []),
    `Reason: ${reason}`,
    'Nested walk:',
    ...steps.map((step) => `    ${walkLine(step)}`),
  ];
}

/** One table entry that a walk has read, in a line. */
function walkLine(step: TranslationStep): string {
  const guest = step.entryGuestPhysical === undefined ? '' : ` (guest-physical ${hex(step.entryGuestPhysical)})`;
  const decoded = decodeStep(step);
  const problem = step.problem === undefined ? '' : `: ${step.problem}`;
  return `${step.table} at ${hex(step.entryAddress)}${guest} = ${hex(step.value)}${decoded ? ` ${decoded}` : ''}${problem}`;
}

/** The guest's instruction, for VM exits that one caused; it is still in memory. */
function exitedInstruction(exit: VmExitRecord, target: Target): string | undefined {
  if (exit.instructionLength === 0 || exit.idtVectoringInformation !== 0) return undefined;
  const guest = target.view('guest');
  return guest.exists ? instructionText(target, 'guest', guest.codeAddress(exit.guestRip)) : undefined;
}

function informationLines(exit: VmExitRecord): string[] {
  const parts = decodeInstructionInformation(exit.reason, exit.instructionInformation);
  return parts.map((part) => `Instruction information, ${part.name} (bit ${part.bits}): ${part.meaning}`);
}

function explainEntryFailure({ outcome, checks }: VmEntryFailure, target: Target): Explanation {
  const title =
    'exitReason' in outcome
      ? `${exitTitle(outcome.exitReason)} (exit reason ${outcome.exitReason})`
      : `VM entry failed: ${INSTRUCTION_ERRORS[outcome.vmInstructionError]} (error ${outcome.vmInstructionError})`;
  const lines = checks.flatMap((check, index) => [
    `${index === 0 ? 'Failed check' : 'Would fail too'}: ${check.explanation} [${check.section}]`,
    ...check.fields.map(({ name, value }) => `    ${name} = ${inBits(name as FieldName, value)}`),
    ...target.machine.vmx.remedies(check).map(({ text }) => `    would satisfy it: ${text}`),
  ]);
  return { id: checks[0]?.id ?? 'VM_ENTRY_FAILURE', title, text: checks[0]?.explanation ?? '', details: lines };
}
