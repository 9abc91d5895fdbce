import type { DebugProtocol } from '@vscode/debugprotocol';
import { nameOf } from '../../sim-core/vmx/bits.ts';
import { EXIT_GROUPS, EXIT_REASONS, exitReasonByName } from '../../sim-core/vmx/exit-reasons.ts';
import type { VmExitRecord } from '../../sim-core/vmx/records.ts';
import { errors } from '../errors.ts';
import type { Environment } from '../expressions/evaluate.ts';
import { Trigger, type Verdict } from './trigger.ts';

export const FAILED_ENTRY_FILTER = 'vmEntryFailure';
export const TRIPLE_FAULT_FILTER = 'tripleFault';
export const DMA_FAULT_FILTER = 'dmaFault';
export const STALE_USE_FILTER = 'staleTranslation';
const EXIT_PREFIX = 'exit:';
const GROUP_PREFIX = 'exits:';
/** `exits:` alone stands for every VM exit. */
const EVERY_EXIT = GROUP_PREFIX;

const CONDITION_HELP = 'qualification & 0x80 && guest.rip >= 0x1000, hits % 10 == 0';

/** Every filter there is: clients learn them once, so the list does not depend on the program. */
export const EXCEPTION_FILTERS: readonly DebugProtocol.ExceptionBreakpointsFilter[] = [
  {
    filter: FAILED_ENTRY_FILTER,
    label: 'VM-entry failure',
    description: 'Stops when VMLAUNCH or VMRESUME fails its checks, and names the check, the fields and their values.',
    default: true,
    supportsCondition: true,
    conditionDescription: 'Expression that must hold, e.g. error == 7, vpid == 2 && hits > 1',
  },
  {
    filter: TRIPLE_FAULT_FILTER,
    label: 'Triple fault',
    description: 'Stops at a triple fault outside VMX non-root operation and tells how it came about.',
    default: true,
    supportsCondition: true,
    conditionDescription: 'Expression that must hold, e.g. cr2 < 0x1000',
  },
  {
    filter: STALE_USE_FILTER,
    label: 'Use of a stale translation',
    description:
      'Stops at the first access through a TLB entry that the tables in memory no longer bear out, and tells which ' +
      'write made it stale and what would have removed it.',
    default: false,
    supportsCondition: true,
    conditionDescription: 'Expression that must hold, e.g. address >= 0x400000 && vpid == 1, hits == 2',
  },
  {
    filter: DMA_FAULT_FILTER,
    label: 'DMA fault',
    description:
      'Stops when the IOMMU refuses an access or interrupt of a device, or a device accesses addresses without memory.',
    default: false,
    supportsCondition: true,
    conditionDescription: 'Expression that must hold, e.g. address >= 0x200000 && requester == 8, hits == 2',
  },
  exitFilter(EVERY_EXIT, 'VM exits: all', 'Stops after every VM exit.'),
  ...Object.entries(EXIT_GROUPS).map(([group, title]) =>
    exitFilter(GROUP_PREFIX + group, `VM exits: ${title}`, `Stops after every VM exit of the group “${title}”.`),
  ),
  ...EXIT_REASONS.map((reason) =>
    exitFilter(EXIT_PREFIX + reason.name, `VM exit: ${reason.title}`, reason.documentation),
  ),
];

function exitFilter(filter: string, label: string, description: string): DebugProtocol.ExceptionBreakpointsFilter {
  return {
    filter,
    label,
    description,
    default: false,
    supportsCondition: true,
    conditionDescription: `Expression that must hold, e.g. ${CONDITION_HELP}`,
  };
}

const AT_FIRST = new Set(EXCEPTION_FILTERS.filter((each) => each.default).map(({ filter }) => filter));
const KNOWN = new Set(EXCEPTION_FILTERS.map(({ filter }) => filter));

/** Which VM exits, failed entries and faults stop the machine. */
export class ExceptionFilters {
  private active: ReadonlyMap<string, Trigger> = new Map(
    EXCEPTION_FILTERS.filter((filter) => filter.default).map(({ filter }) => [filter, new Trigger({})]),
  );
  /** The triggers of the active filters that cover an exit reason. */
  private exitTriggers: ReadonlyMap<number, readonly Trigger[]> = new Map();
  /** Exit reasons whose checkbox is set in the tree of VM exits, or that the launch configuration names. */
  private stops = new Set<number>();

  /** Replaces the filters. @throws unknownFilter, and changes nothing then. */
  replace(
    requests: readonly { readonly filter: string; readonly condition?: string | undefined }[],
    now = 0,
  ): Trigger[] {
    const next = new Map<string, Trigger>();
    for (const { filter, condition } of requests) {
      if (!KNOWN.has(filter)) throw errors.unknownFilter(filter);
      const known = this.active.get(filter);
      next.set(filter, known && known.options.condition === condition ? known : new Trigger({ condition }, now));
    }
    this.active = next;
    this.exitTriggers = new Map(
      EXIT_REASONS.map(({ number, name, group }) => {
        const ids = [EXIT_PREFIX + name, GROUP_PREFIX + group, EVERY_EXIT];
        return [number, ids.flatMap((id) => next.get(id) ?? [])];
      }),
    );
    return requests.map(({ filter }) => next.get(filter) ?? new Trigger({}));
  }

  setStops(reasons: Iterable<number>): void {
    this.stops = new Set(reasons);
  }
  /** @param names of exit reasons as in the table or as titles, or '*'. */
  setStopsByName(names: readonly string[]): void {
    const reasons = names.includes('*')
      ? EXIT_REASONS.map((reason) => reason.number)
      : names.flatMap((name) => exitReasonByName(nameOf(name))?.number ?? []);
    this.setStops(reasons);
  }
  /** Whether anything but what always stops at first does. */
  get hasStops(): boolean {
    return this.stops.size > 0 || [...this.active.keys()].some((filter) => !AT_FIRST.has(filter));
  }
  stopsAt(reason: number): boolean {
    return this.stops.has(reason);
  }

  get triggers(): Trigger[] {
    return [...this.active.values()];
  }

  has(filter: string): boolean {
    return this.active.has(filter);
  }

  /** Whether something that a filter of its own is for stops the machine. */
  judge(filter: string, environment: (extra: Readonly<Record<string, bigint>>) => Environment, now: number): Verdict {
    return this.active.get(filter)?.judge(environment, now) ?? { stop: false };
  }

  /** Whether a VM exit stops the machine. Asked right after every exit: it must be quick. */
  judgeExit(
    exit: VmExitRecord,
    environment: (extra: Readonly<Record<string, bigint>>) => Environment,
    now: number,
  ): Verdict {
    let stop = this.stops.has(exit.reason);
    let output: string | undefined;
    for (const trigger of this.exitTriggers.get(exit.reason) ?? []) {
      const verdict = trigger.judge(environment, now);
      stop ||= verdict.stop;
      output ??= verdict.output;
    }
    return output === undefined ? { stop } : { stop, output };
  }
}
