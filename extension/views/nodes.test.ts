import assert from 'node:assert/strict';
import type { TimelineBody, TlbBody, VmcsFieldBody, VmExitsBody } from '../../debug-adapter/protocol.ts';
import { Tlb } from '../../sim-core/mmu/tlb.ts';
import { State } from '../../sim-core/state/state.ts';
import { exitNodes, stopsAfter } from './exit-nodes.ts';
import { contextValue, type ViewNode } from './node.ts';
import { timelineNodes } from './timeline-nodes.ts';
import { tlbNodes } from './tlb-nodes.ts';
import { translationNodes } from './translation-nodes.ts';
import { vmcsNodes } from './vmcs-nodes.ts';

const childrenOf = async (node: ViewNode | undefined): Promise<readonly ViewNode[]> => (await node?.children?.()) ?? [];
const lines = (nodes: readonly ViewNode[]) => nodes.map(({ label, description }) => `${label} | ${description ?? ''}`);

/** Every node below, expanded. */
async function everyNode(nodes: readonly ViewNode[]): Promise<ViewNode[]> {
  const found = await Promise.all(nodes.map(async (node) => [node, ...(await everyNode(await childrenOf(node)))]));
  return found.flat();
}

async function assertUniqueIds(nodes: readonly ViewNode[]): Promise<void> {
  const ids = (await everyNode(nodes)).map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length, `ids repeat: ${ids.filter((id, at) => ids.indexOf(id) !== at)}`);
}

describe('the VMCS tree', () => {
  const rip: VmcsFieldBody = {
    name: 'GUEST_RIP',
    encoding: '0x681e',
    value: '0x401000',
    width: 64,
    readOnly: false,
    changed: true,
    section: 'SDM Vol. 3C 25.4.1',
  };
  const reason: VmcsFieldBody = {
    ...rip,
    name: 'EXIT_REASON',
    encoding: '0x4402',
    value: '0xa',
    width: 32,
    readOnly: true,
    changed: false,
    text: 'CPUID',
    bits: [{ name: 'VM-entry failure', value: '0', set: false, documentation: 'The entry failed.' }],
  };
  const nodes = vmcsNodes({
    address: '0x5000',
    launchState: 'launched',
    groups: [
      { name: 'Guest state', fields: [rip] },
      { name: 'VM-exit information', fields: [reason] },
    ],
  });

  it('shows groups with the number of changed fields', () => {
    assert.deepEqual(lines(nodes), ['VMCS | 0x5000 · launched', 'Guest state | 1 changed', 'VM-exit information | ']);
  });

  it('marks changed fields for the eye and for screen readers, and lets writable ones be edited', async () => {
    const [field] = await childrenOf(nodes[1]);
    assert.equal(field?.description, '0x401000');
    assert.match(field?.tooltip ?? '', /`0x0000000000401000`/);
    assert.equal(field?.icon, 'diff-modified');
    assert.equal(field?.accessibleLabel, 'GUEST_RIP 0x401000, changed since the previous stop');
    assert.equal(field && contextValue(field), 'editable value changes');
  });

  it('shows read-only fields in words and bits, without an edit', async () => {
    const [field] = await childrenOf(nodes[2]);
    assert.equal(field?.description, '0xa  CPUID');
    assert.equal(field && contextValue(field), 'value changes');
    const bits = await childrenOf(field);
    assert.deepEqual(lines(bits), ['VM-entry failure | 0']);
    assert.equal(bits[0]?.tooltip, 'The entry failed.');
  });

  it('has ids that do not repeat', () => assertUniqueIds(nodes));

  it('says when there is no VMCS', () => {
    assert.match(vmcsNodes({ groups: [] })[0]?.label ?? '', /^No current VMCS/);
  });
});

describe('the VM-exit tree', () => {
  const body: VmExitsBody = {
    total: 5,
    entries: 6,
    reasons: [
      { reason: 1, name: 'External interrupt', count: 0, stop: false },
      { reason: 10, name: 'CPUID', count: 2, stop: false },
      { reason: 12, name: 'HLT', count: 0, stop: true },
      { reason: 48, name: 'EPT violation', count: 3, stop: true },
    ],
    last: {
      reason: 48,
      name: 'EPT violation',
      guestRip: '0x7c00',
      qualification: '0x182',
      decoded: ['Data write'],
      cause: 'PTE not present',
      why: [],
    },
  };

  it('shows what happened or stops by count, the rest folded away', async () => {
    const nodes = exitNodes(body);
    assert.deepEqual(lines(nodes), [
      'Transitions | 5 VM exits, 6 VM entries',
      'Last: EPT violation | at 0x7c00',
      'EPT violation | 3×',
      'CPUID | 2×',
      'HLT | reason 12',
      'Other reasons | 1 without a VM exit yet',
    ]);
    assert.deepEqual(
      nodes.map(({ checked }) => checked),
      [undefined, undefined, true, false, true, undefined],
    );
    await assertUniqueIds(nodes);
  });

  it('puts the last exit into words', async () => {
    assert.deepEqual(lines(await childrenOf(exitNodes(body)[1])), [
      'Cause | PTE not present',
      'Guest RIP | 0x7c00',
      'Exit qualification | 0x182',
      'Data write | ',
    ]);
  });

  it('shows what the TLB counts, every counter with its label', async () => {
    const names = Object.keys(new Tlb(new State(2 ** 20)).counters);
    const tlb = Object.fromEntries(names.map((name, index) => [name, index + 1]));
    const node = exitNodes({ ...body, tlb })[1];
    // Three kinds of hits (1 + 2 + 3) and misses (4 + 5 + 6), references by paging and EPT (7 + 8).
    assert.equal(`${node?.label}: ${node?.description}`, 'TLB: 6 hits, 15 misses, 15 table entries read');
    const counters = await childrenOf(node);
    assert.equal(counters.length, names.length);
    assert.ok(counters.every(({ label }) => !names.includes(label)));
    await assertUniqueIds(exitNodes({ ...body, tlb }));
  });

  it('turns checkboxes into the set of exits that stop', () => {
    assert.deepEqual(
      stopsAfter(
        body,
        new Map([
          [10, true],
          [48, false],
        ]),
      ),
      [10, 12],
    );
  });
});

describe('the translation tree', () => {
  const eptEntry = {
    table: 'EPT PML4E',
    level: 'ept' as const,
    address: '0x5000',
    value: '0x6007',
    decoded: 'R, W, X',
  };
  const paging = { level: 'linear' as const, address: '0x9008', value: '0x3', decoded: 'P, W' };
  const answer = {
    steps: [
      eptEntry,
      { ...eptEntry, table: 'EPT PDPTE' },
      { ...paging, table: 'PML4E' },
      eptEntry,
      { ...paging, table: 'PDPTE', value: '0x0', decoded: '', problem: 'not present' },
    ],
    guestPhysical: '0x2000',
    fault: '#PF: page not present',
  };
  const fetched: unknown[] = [];
  const nodes = (walk?: Parameters<typeof translationNodes>[0]) =>
    translationNodes(walk, async (args) => {
      fetched.push(args);
      const leaf = args.level === 3;
      return {
        table: args.table ?? '0x5000',
        level: args.level ?? 4,
        entries: [
          {
            index: 1,
            value: '0x6007',
            base: leaf ? '0x40000000' : '0x8000000000',
            size: leaf ? '0x40000000' : '0x8000000000',
            leaf,
            rights: 'RWX',
            target: '0x6000',
            ...(leaf ? { memoryType: 'WB' } : {}),
          },
        ],
      };
    });

  it('shows every entry read, with the problem where it is', async () => {
    const [walk] = nodes({ address: { address: '0x7000', space: 'guestLinear', expression: 'rsp' }, answer });
    assert.ok(walk);
    assert.deepEqual(lines([walk]), ['Guest-linear address rsp = 0x7000 | #PF: page not present']);
    const steps = await childrenOf(walk);
    assert.deepEqual(lines(steps), [
      'EPT walk for the PML4E | 2 entries',
      'PML4E | 0x3  P, W',
      'EPT walk for the PDPTE | 1 entry',
      'PDPTE | 0x0  not present',
      'Guest-physical address | 0x2000',
      '#PF: page not present | ',
    ]);
    assert.deepEqual(lines(await childrenOf(steps[0])), ['EPT PML4E | 0x6007  R, W, X', 'EPT PDPTE | 0x6007  R, W, X']);
    assert.deepEqual(lines(await childrenOf(steps[1])), ['Entry at | 0x9008', 'Value | 0x3', 'P | ', 'W | ']);
    await assertUniqueIds([walk]);
  });

  it('opens the EPT walk that fails, and shows a guest-physical walk flat', async () => {
    const steps = [{ ...eptEntry, value: '0x0', decoded: '', problem: 'not present' }];
    const walkOf = (space: 'guestLinear' | 'guestPhysical') =>
      childrenOf(nodes({ address: { address: '0x7000', space }, answer: { steps, fault: 'EPT violation' } })[0]);
    const [failed] = await walkOf('guestLinear');
    assert.equal(failed?.expanded, true);
    assert.deepEqual(failed && lines([failed]), ['EPT walk for the next access | not present']);
    assert.deepEqual(lines(await walkOf('guestPhysical'))[0], 'EPT PML4E | 0x0  not present');
  });

  it('asks for EPT tables only when they are expanded', async () => {
    const ept = nodes()[1];
    assert.deepEqual(fetched, []);
    const [entry] = await childrenOf(ept);
    assert.deepEqual(fetched, [{}]);
    assert.equal(entry?.label, 'PML4E 1  0x8000000000');
    const [page] = await childrenOf(entry);
    assert.deepEqual(fetched, [{}, { table: '0x6000', level: 3, base: '0x8000000000' }]);
    assert.deepEqual(page && lines([page]), ['PDPTE 1  0x40000000 | → 0x6000  RWX WB  1 GiB']);
    assert.equal(page?.children, undefined);
  });
});

describe('the TLB tree', () => {
  const entry: TlbBody['entries'][number] = {
    kind: 'combined',
    vpid: 1,
    pcid: 0,
    eptRoot: '0x5000',
    global: false,
    page: '0x400000',
    pageSize: 4096,
    target: '0x9000',
    rights: 'RX',
  };
  const nodes = tlbNodes({
    entries: [
      { ...entry, kind: 'linear', vpid: 0, eptRoot: '0x0', global: true, pageSize: 2097152 },
      entry,
      { ...entry, kind: 'guest-physical', page: '0x2000' },
      { ...entry, page: '0x401000' },
    ],
  });

  it('groups entries by the tags that the kind of mapping has', () => {
    assert.deepEqual(lines(nodes), ['EP4TA 0x5000 | 1 entry', 'VPID 0 | 1 entry', 'VPID 1 · EP4TA 0x5000 | 2 entries']);
  });

  it('shows target, rights, size, kind and PCID', async () => {
    assert.deepEqual(lines(await childrenOf(nodes[1])), ['0x400000 | → 0x9000  RX  2 MiB  linear  global']);
    assert.deepEqual(lines(await childrenOf(nodes[2]))[1], '0x401000 | → 0x9000  RX  4 KiB  combined  PCID 0');
    await assertUniqueIds(nodes);
  });

  it('marks stale entries, and says what is wrong and what would remove them', async () => {
    const stale = {
      address: '0x400000',
      difference: 'the entry gives 0x9000',
      story: ['Made stale by the write'],
      invalidations: ['INVLPG 0x400000'],
    };
    const [group] = tlbNodes({ entries: [entry, { ...entry, page: '0x401000', stale }] });
    assert.equal(group?.description, '2 entries · 1 stale');
    const [fresh, marked] = await childrenOf(group);
    assert.deepEqual([fresh?.icon, marked?.icon], ['arrow-right', 'warning']);
    assert.match(marked?.description ?? '', /^stale {2}→ 0x9000/);
    assert.match(marked?.tooltip ?? '', /\*\*Stale\*\* at `0x400000`: the entry gives 0x9000.*- INVLPG 0x400000/s);
    assert.match(marked?.accessibleLabel ?? '', /stale: the entry gives 0x9000$/);
    const lines = await marked?.children?.();
    assert.deepEqual(
      lines?.map(({ label, description = '' }) => `${label} ${description}`.trim()),
      ['At 0x400000 the entry gives 0x9000', 'Made stale by the write', 'Would remove it INVLPG 0x400000'],
    );
    assert.match(marked?.tooltip ?? '', /Made stale by the write\n\nWould remove it:\n\n- INVLPG/);
  });
});

describe('the timeline', () => {
  const exit = (number: number): TimelineBody['exits'][number] => ({
    number,
    to: `${1000 + number}:0`,
    instructions: 1000 + number,
    reason: 10,
    name: 'CPUID',
    processor: 0,
    guestRip: '0x40005000',
  });
  const body: TimelineBody = {
    start: 0,
    here: 1120,
    present: 2000,
    inPast: true,
    total: 250,
    first: 30,
    hereExit: 121,
    exits: [],
  };
  const ask = async ({ from, to }: { from: number; to: number }): Promise<TimelineBody> => ({
    ...body,
    exits: Array.from({ length: to - from }, (_, index) => exit(from + index)),
  });

  it('shows VM exits in groups, the latest first, and where the machine is among them', async () => {
    const nodes = timelineNodes(body, ask);
    assert.deepEqual(lines(nodes), [
      'In the past | instruction 1120 of 2000',
      'Go to the present | instruction 2000',
      'VM exits 201 to 250 | ',
      'VM exits 101 to 200 | the machine is here',
      'VM exits 31 to 100 | ',
      'Start of the history | instruction 0',
    ]);
    await assertUniqueIds(nodes);
    const exits = await childrenOf(nodes[3]);
    assert.equal(exits.length, 100);
    const last = exits.find(({ icon }) => icon === 'arrow-right');
    assert.deepEqual([last?.label, last?.place], ['121. CPUID', '1120:0']);
    assert.equal(last && contextValue(last), 'value place');
  });

  it('has no groups before the first VM exit', () => {
    const nodes = timelineNodes({ ...body, inPast: false, total: 0, first: 0, hereExit: 0 }, ask);
    assert.deepEqual(lines(nodes), [
      'Present | instruction 1120',
      'No VM exit yet | ',
      'Start of the history | instruction 0',
    ]);
  });
});
