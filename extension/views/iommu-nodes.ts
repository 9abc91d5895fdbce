import type { IommuBody } from '../../debug-adapter/protocol.ts';
import { byteSize } from './hex.ts';
import { note, type ViewNode } from './node.ts';

const HOW_TO_HAVE_ONE = {
  description: '"machine": { "iommu": true }',
  tooltip: 'In the launch configuration, `"machine": { "devices": ["edu"], "iommu": true }` puts devices behind VT-d.',
};

type Device = IommuBody['devices'][number];

/** The IOMMU: what is on, the devices with their tables, what is remembered, and the faults. */
export function iommuNodes(body: IommuBody): ViewNode[] {
  if (!body.present) return [{ ...note('none', 'No IOMMU'), ...HOW_TO_HAVE_ONE }];
  return [
    ...body.state.map(({ name, value }) => ({
      id: `state ${name}`,
      label: name,
      description: value,
      icon: 'info',
      value,
    })),
    group('devices', 'Devices', body.devices.map(deviceNode), true),
    group('iotlb', 'IOTLB', body.iotlb.map(iotlbNode), true),
    group('interrupts', 'Interrupt entry cache', body.interrupts.map(interruptNode)),
    group('faults', 'Recorded faults', body.faults.map(faultNode), true),
    group('registers', 'Registers', body.registers.map(registerNode)),
  ];
}

/** The editor keeps a node as closed as it was: an empty group has another id, so that its first child opens it. */
function group(id: string, label: string, nodes: readonly ViewNode[], expanded = false): ViewNode {
  return nodes.length === 0
    ? { id: `${id} none`, label, description: 'none', icon: 'list-tree' }
    : { id, label, description: String(nodes.length), icon: 'list-tree', expanded, children: () => nodes };
}

const warning = { icon: 'warning', iconColor: 'list.warningForeground' } as const;

function deviceNode({ name, requester, ids, summary, steps, pages, stale }: Device): ViewNode {
  const id = `device ${name}`;
  const children: ViewNode[] = [
    ...(stale === undefined
      ? []
      : [{ id: `${id} stale`, label: 'Stale', description: stale, tooltip: stale, ...warning }]),
    ...steps.map((step, index) => ({ id: `${id} step ${index}`, label: step, tooltip: step, icon: 'table' })),
    ...pages.map((page) => ({
      id: `${id} page ${page.address}`,
      label: page.address,
      description: `→ ${page.target}  ${page.rights}  ${byteSize(BigInt(page.size))}`,
      icon: 'arrow-right',
      value: page.target,
      address: { address: page.address, space: 'iova' as const, requester },
    })),
  ];
  const node = {
    id,
    label: name,
    description: `${ids}  ${summary}${stale === undefined ? '' : ' · stale'}`,
    tooltip: `PCI function ${name} (${ids}): ${summary}`,
    ...(stale === undefined ? { icon: 'circuit-board' } : warning),
  };
  return children.length === 0 ? node : { ...node, children: () => children };
}

function iotlbNode({ domain, page, size, target, rights, stale }: IommuBody['iotlb'][number]): ViewNode {
  return {
    id: `iotlb ${domain} ${page} ${size}`,
    label: page,
    description: `${stale ? 'stale  ' : ''}→ ${target}  ${rights}  ${byteSize(BigInt(size))}  domain ${domain}`,
    tooltip: `Domain ${domain}: \`${page}\` to \`${target}\`${stale ? `\n\n**Stale**: ${stale}` : ''}`,
    ...(stale === undefined ? { icon: 'arrow-right' } : warning),
    value: target,
  };
}

const interruptNode = ({ index, text }: IommuBody['interrupts'][number]): ViewNode => ({
  id: `interrupt ${index}`,
  label: `Index ${index}`,
  description: text,
  icon: 'bell',
});

const faultNode = ({ name, kind, address, text }: IommuBody['faults'][number], index: number): ViewNode => ({
  id: `fault ${index}`,
  label: name,
  description: `${kind} ${address}`,
  tooltip: text,
  icon: 'error',
  value: address,
});

const registerNode = ({ name, address, value, text }: IommuBody['registers'][number]): ViewNode => ({
  id: `register ${name}`,
  label: name,
  description: `${value}  ${text}`,
  tooltip: `\`${name}\` at \`${address}\`: ${text}`,
  icon: 'symbol-field',
  value,
});
