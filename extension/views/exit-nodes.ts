import type { VmExitsBody } from '../../debug-adapter/protocol.ts';
import { note, type ViewNode } from './node.ts';

type Reason = VmExitsBody['reasons'][number];

/** The VM-exit view: the totals, the last exit in words, and every reason with its count and its checkbox. */
export function exitNodes(body: VmExitsBody): ViewNode[] {
  const shown = body.reasons.filter((reason) => reason.count > 0 || reason.stop).sort(byCount);
  const others = body.reasons.filter((reason) => reason.count === 0 && !reason.stop);
  return [
    {
      id: 'totals',
      label: 'Transitions',
      description: `${body.total} VM exits, ${body.entries} VM entries`,
      icon: 'arrow-swap',
    },
    ...(body.tlb ? [tlbNode(body.tlb)] : []),
    lastExitNode(body.last),
    ...shown.map(reasonNode),
    ...(others.length > 0 ? [othersNode(others)] : []),
  ];
}

/** The reasons that stop after the checkboxes in `changes` were set. */
export function stopsAfter(body: VmExitsBody, changes: ReadonlyMap<number, boolean>): number[] {
  return body.reasons.filter(({ reason, stop }) => changes.get(reason) ?? stop).map(({ reason }) => reason);
}

const byCount = (a: Reason, b: Reason): number => b.count - a.count || a.reason - b.reason;

/** What the TLB counts, by the names that it gives, with what they mean. */
const COUNTERS: Readonly<Record<string, readonly [label: string, meaning: string]>> = {
  linearHits: ['Linear mappings: hits', 'look-ups that found an entry; the engine’s own copies are asked first'],
  linearMisses: ['Linear mappings: misses', 'walks of the paging structures without EPT'],
  combinedHits: ['Combined mappings: hits', 'look-ups of the guest’s linear addresses that found an entry'],
  combinedMisses: ['Combined mappings: misses', 'walks of the guest’s paging structures and EPT'],
  guestPhysicalHits: ['Guest-physical mappings: hits', 'translations by EPT that found an entry'],
  guestPhysicalMisses: ['Guest-physical mappings: misses', 'walks of EPT'],
  pagingReferences: ['Paging-structure entries read', 'by walks; each costs cycles'],
  eptReferences: ['EPT entries read', 'by walks; each costs cycles'],
};

function tlbNode(counters: NonNullable<VmExitsBody['tlb']>): ViewNode {
  const sum = (ending: string): number =>
    Object.entries(counters).reduce((total, [name, count]) => total + (name.endsWith(ending) ? count : 0), 0);
  return {
    id: 'tlb',
    label: 'TLB',
    description: `${sum('Hits')} hits, ${sum('Misses')} misses, ${sum('References')} table entries read`,
    icon: 'graph',
    children: () =>
      Object.entries(counters).map(([name, count]) => {
        const [label, meaning] = COUNTERS[name] ?? [name, ''];
        return { id: `tlb ${name}`, label, description: `${count}`, tooltip: `${label}: ${meaning}`, icon: 'dash' };
      }),
  };
}

function lastExitNode(last: VmExitsBody['last']): ViewNode {
  if (!last) return note('last', 'No VM exit yet');
  return {
    id: 'last',
    label: `Last: ${last.name}`,
    description: `at ${last.guestRip}`,
    tooltip: `**${last.name}** (basic exit reason ${last.reason})\n\n${last.cause}`,
    accessibleLabel: `Last VM exit: ${last.name} at guest address ${last.guestRip}. ${last.cause}`,
    icon: 'debug-step-out',
    children: () => [
      { id: 'last cause', label: 'Cause', description: last.cause, tooltip: last.cause, icon: 'lightbulb' },
      {
        id: 'last rip',
        label: 'Guest RIP',
        description: last.guestRip,
        icon: 'symbol-numeric',
        value: last.guestRip,
        address: { address: last.guestRip, space: 'guestLinear' },
      },
      {
        id: 'last qualification',
        label: 'Exit qualification',
        description: last.qualification,
        icon: 'symbol-numeric',
        value: last.qualification,
      },
      ...last.decoded.map((line, index) => ({ id: `last decoded ${index}`, label: line, icon: 'dash' })),
    ],
  };
}

function othersNode(others: readonly Reason[]): ViewNode {
  return {
    id: 'others',
    label: 'Other reasons',
    description: `${others.length} without a VM exit yet`,
    icon: 'list-unordered',
    children: () => others.map(reasonNode),
  };
}

function reasonNode({ reason, name, count, cycles, stop }: Reason): ViewNode {
  const cost = cycles === undefined ? '' : `, ${cycles} cycles up to the VM entries that followed`;
  const times = (count === 1 ? 'once' : `${count} times`) + cost;
  return {
    id: `reason ${reason}`,
    label: name,
    description: count > 0 ? `${count}×${cycles === undefined ? '' : ` · ${cycles} cycles`}` : `reason ${reason}`,
    tooltip: `**${name}** · basic exit reason ${reason} · ${times}\n\nTick it to stop after every such VM exit.`,
    accessibleLabel: `${name}, basic exit reason ${reason}, ${times}${stop ? ', stops' : ''}`,
    checked: stop,
    exitReason: reason,
  };
}
