import type { EptTableBody, TranslateArguments, TranslateBody } from '../../debug-adapter/protocol.ts';
import { byteSize } from './hex.ts';
import { note, type ViewNode } from './node.ts';

export interface AskedAddress extends TranslateArguments {
  /** As it was asked for, when that was not a number. */
  readonly expression?: string;
}

const SPACES: Readonly<Record<TranslateArguments['space'], string>> = {
  linear: 'Linear address',
  guestLinear: 'Guest-linear address',
  guestPhysical: 'Guest-physical address',
  iova: 'Device address',
};

type Step = TranslateBody['steps'][number];
/** Fetches one EPT table; the root without arguments. */
export type FetchEptTable = (args: { table?: string; level?: number; base?: string }) => Promise<EptTableBody>;

/** The translation view: the address asked for with every entry read on the way, then the whole EPT. */
export function translationNodes(
  asked: { readonly address: AskedAddress; readonly answer: TranslateBody } | undefined,
  fetchEptTable: FetchEptTable,
): ViewNode[] {
  const first = asked
    ? walkNode(asked.address, asked.answer)
    : { ...note('ask', 'Translate an address…', 'search'), command: 'vmxray.translateAddress' };
  return [first, eptRootNode(fetchEptTable)];
}

function walkNode(asked: AskedAddress, answer: TranslateBody): ViewNode {
  const name = asked.expression === undefined ? asked.address : `${asked.expression} = ${asked.address}`;
  const outcome = answer.fault ?? (answer.physical === undefined ? 'not translated' : `→ ${answer.physical}`);
  return {
    id: 'walk',
    label: `${SPACES[asked.space]} ${name}`,
    description: outcome,
    ...problemIcon(answer.fault, 'arrow-right'),
    expanded: true,
    value: answer.physical ?? asked.address,
    children: () => [...walkSteps(asked.space, answer.steps), ...resultNodes(answer)],
  };
}

const problemIcon = (problem: string | undefined, otherwise: string): Pick<ViewNode, 'icon' | 'iconColor'> =>
  problem === undefined ? { icon: otherwise } : { icon: 'error', iconColor: 'errorForeground' };

/**
 * The entries in the order in which the processor reads them. Under nested paging each entry of the guest's tables, and
 * the page itself, lies behind a walk through the EPT: such a walk is one node.
 */
function walkSteps(space: TranslateArguments['space'], steps: readonly Step[]): ViewNode[] {
  if (space === 'guestPhysical' || space === 'iova') return steps.map(stepNode);
  const nodes: ViewNode[] = [];
  let eptSteps: ViewNode[] = [];
  let problem: string | undefined;
  const closeWalk = (what: string) => {
    if (eptSteps.length > 0) nodes.push(eptWalkNode(what, eptSteps, problem));
    eptSteps = [];
    problem = undefined;
  };
  for (const [index, step] of steps.entries()) {
    if (step.level === 'ept') {
      eptSteps.push(stepNode(step, index));
      problem ??= step.problem;
    } else {
      closeWalk(step.table);
      nodes.push(stepNode(step, index));
    }
  }
  closeWalk(problem === undefined ? 'page' : 'next access');
  return nodes;
}

function eptWalkNode(what: string, steps: readonly ViewNode[], problem: string | undefined): ViewNode {
  return {
    id: `ept walk before ${steps[0]?.id}`,
    label: `EPT walk for the ${what}`,
    description: problem ?? (steps.length === 1 ? '1 entry' : `${steps.length} entries`),
    ...problemIcon(problem, 'layers'),
    expanded: problem !== undefined,
    children: () => steps,
  };
}

function stepNode(step: Step, index: number): ViewNode {
  const meaning = step.problem ?? step.decoded;
  return {
    id: `step ${index}`,
    label: step.table,
    description: meaning === '' ? step.value : `${step.value}  ${meaning}`,
    tooltip: [
      `**${step.table}** at \`${step.address}\` is \`${step.value}\``,
      ...(step.decoded === '' ? [] : [step.decoded]),
      ...(step.problem === undefined ? [] : [`**${step.problem}**`]),
    ].join('\n\n'),
    accessibleLabel: [
      `${step.table} at ${step.address} is ${step.value}`,
      ...(step.decoded === '' ? [] : [step.decoded]),
      ...(step.problem === undefined ? [] : [step.problem]),
    ].join(', '),
    ...problemIcon(step.problem, step.level === 'ept' ? 'layers' : 'symbol-array'),
    value: step.value,
    changes: `u64(hpa:${step.address})`,
    children: () => stepDetails(step, index),
  };
}

function stepDetails(step: Step, index: number): ViewNode[] {
  const numbers: [string, string][] = [
    ['Entry at', step.address],
    ['Value', step.value],
  ];
  const words = step.decoded.split(/,\s*/).filter((word) => word !== '');
  return [
    ...numbers.map(([label, text]) => ({
      id: `step ${index} ${label}`,
      label,
      description: text,
      icon: 'symbol-numeric',
      value: text,
    })),
    ...words.map((word, at) => ({ id: `step ${index} bit ${at}`, label: word, icon: 'circle-filled' })),
    ...(step.problem === undefined ? [] : [note(`step ${index} problem`, step.problem, 'error')]),
  ];
}

function resultNodes({ guestPhysical, physical, pageSize, fault }: TranslateBody): ViewNode[] {
  const rows: [string, string | undefined][] = [
    ['Guest-physical address', guestPhysical],
    ['Physical address', physical],
    ['Page size', pageSize === undefined ? undefined : byteSize(BigInt(pageSize))],
  ];
  const results = rows.flatMap(([label, value]) =>
    value === undefined ? [] : [{ id: `result ${label}`, label, description: value, icon: 'target', value }],
  );
  return fault === undefined
    ? results
    : [...results, { ...note('result fault', fault, 'error'), iconColor: 'errorForeground' }];
}

function eptRootNode(fetchEptTable: FetchEptTable): ViewNode {
  return {
    id: 'ept',
    label: 'EPT',
    description: 'the tables that EPTP points to',
    icon: 'layers',
    children: async () => {
      const root = await fetchEptTable({});
      return root.table === undefined
        ? [note('ept none', 'EPT is not in use in the current VMCS')]
        : tableNodes(root, 'ept', fetchEptTable);
    },
  };
}

/** Entry names by level, as the manual writes them. */
const ENTRY_NAMES: Readonly<Record<number, string>> = { 5: 'PML5E', 4: 'PML4E', 3: 'PDPTE', 2: 'PDE', 1: 'PTE' };

function tableNodes(table: EptTableBody, path: string, fetchEptTable: FetchEptTable): ViewNode[] {
  if (table.entries.length === 0) return [note(`${path} empty`, 'Every entry of this table is zero')];
  return table.entries.map((entry) => {
    const id = `${path}/${entry.index}`;
    const name = ENTRY_NAMES[table.level] ?? `level-${table.level} entry`;
    const size = byteSize(BigInt(entry.size));
    const what = entry.leaf
      ? `→ ${entry.target}  ${entry.rights}${entry.memoryType ? ` ${entry.memoryType}` : ''}  ${size}`
      : `${entry.rights}  ${size}`;
    return {
      id,
      label: `${name} ${entry.index}  ${entry.base}`,
      description: what,
      tooltip: `**EPT ${name}** number ${entry.index} of the table at \`${table.table ?? '?'}\`: \`${entry.value}\`\n\nGuest-physical addresses from \`${entry.base}\`, ${size}`,
      accessibleLabel: `EPT ${name} ${entry.index}, guest-physical ${entry.base}, ${entry.leaf ? `maps to ${entry.target}` : `table at ${entry.target}`}, rights ${entry.rights}`,
      icon: entry.leaf ? 'file-binary' : 'folder',
      value: entry.value,
      address: { address: entry.base, space: 'guestPhysical' },
      ...(entry.leaf
        ? {}
        : {
            children: async () =>
              tableNodes(
                await fetchEptTable({ table: entry.target, level: table.level - 1, base: entry.base }),
                id,
                fetchEptTable,
              ),
          }),
    };
  });
}
