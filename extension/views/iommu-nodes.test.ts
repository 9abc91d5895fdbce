import assert from 'node:assert/strict';
import type { IommuBody } from '../../debug-adapter/protocol.ts';
import { iommuNodes } from './iommu-nodes.ts';
import type { ViewNode } from './node.ts';

const BODY: IommuBody = {
  present: true,
  state: [{ name: 'DMA remapping', value: 'on, legacy mode' }],
  registers: [{ name: 'FSTS_REG', address: '0xfed90034', value: '0x2', text: 'PPF' }],
  devices: [
    {
      name: '00:01.0',
      requester: 8,
      ids: '1234:11e8',
      summary: 'domain 1',
      steps: ['root entry at 0x1000 = 0x2001 0x0 (P)'],
      pages: [{ address: '0x0', target: '0x200000', size: '0x200000', rights: 'RW' }],
      stale: 'remembered: domain 2; the tables now: domain 1',
    },
  ],
  iotlb: [{ domain: 1, page: '0x0', size: '0x1000', target: '0x200000', rights: 'R', stale: 'the tables now differ' }],
  interrupts: [],
  faults: [{ name: '00:01.0: no', kind: 'write', address: '0x800000', text: 'Fault reason 0x5' }],
};

const childrenOf = (node: ViewNode | undefined): readonly ViewNode[] => {
  const children = node?.children?.() ?? [];
  assert.ok(!(children instanceof Promise));
  return children;
};
const find = (id: string): ViewNode | undefined => iommuNodes(BODY).find((node) => node.id === id);

describe('the IOMMU tree', () => {
  it('says how to get an IOMMU when there is none', () => {
    const [only] = iommuNodes({ ...BODY, present: false });
    assert.equal(only?.label, 'No IOMMU');
    assert.match(only?.tooltip ?? '', /"iommu": true/);
  });

  it('shows devices with their tables and pages, which can be translated', () => {
    const [device] = childrenOf(find('devices'));
    assert.equal(device?.label, '00:01.0');
    assert.equal(device?.icon, 'warning', 'stale');
    const page = childrenOf(device).find(({ address }) => address !== undefined);
    assert.deepEqual(page?.address, { address: '0x0', space: 'iova', requester: 8 });
    assert.equal(page?.description, '→ 0x200000  RW  2 MiB');
  });

  it('marks stale entries, and shows faults and registers', () => {
    assert.equal(childrenOf(find('iotlb'))[0]?.icon, 'warning');
    assert.equal(childrenOf(find('faults'))[0]?.description, 'write 0x800000');
    assert.equal(childrenOf(find('registers'))[0]?.label, 'FSTS_REG');
    assert.equal(find('interrupts none')?.description, 'none');
  });

  it('opens a group with its first entry, though the editor had it closed', () => {
    const before = iommuNodes({ ...BODY, faults: [] }).find(({ label }) => label === 'Recorded faults');
    const after = iommuNodes(BODY).find(({ label }) => label === 'Recorded faults');
    assert.notEqual(before?.id, after?.id);
    assert.equal(after?.expanded, true);
  });

  it('gives every node an id of its own', () => {
    const all = (nodes: readonly ViewNode[]): string[] => nodes.flatMap((node) => [node.id, ...all(childrenOf(node))]);
    const ids = all(iommuNodes(BODY));
    assert.equal(new Set(ids).size, ids.length);
  });
});
