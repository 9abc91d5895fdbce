import type { VmcsBitBody, VmcsBody, VmcsFieldBody, VmcsGroup } from '../../debug-adapter/protocol.ts';
import { padded } from './hex.ts';
import { note, type ViewNode } from './node.ts';

/** The VMCS view: where the VMCS lies, then the manual's groups with their fields, then the bits of a field. */
export function vmcsNodes(body: VmcsBody): ViewNode[] {
  if (body.address === undefined) return [note('none', 'No current VMCS (VMPTRLD makes one current)')];
  return [
    {
      id: 'address',
      label: 'VMCS',
      description: `${body.address} · ${body.launchState === 'launched' ? 'launched' : 'clear'}`,
      accessibleLabel: `Current VMCS at ${body.address}, launch state ${body.launchState ?? 'unknown'}`,
      tooltip:
        body.launchState === 'launched'
          ? 'VMRESUME enters it.'
          : 'Launch state *clear*: VMLAUNCH enters it, VMRESUME fails.',
      icon: 'server-process',
      value: body.address,
    },
    ...body.groups.map(groupNode),
  ];
}

/** Marks what VM entry refuses. */
const WRONG = { icon: 'error', iconColor: 'list.errorForeground' } as const;

function groupNode(group: VmcsGroup): ViewNode {
  const changed = group.fields.filter((field) => field.changed).length;
  const failing = group.fields.filter((field) => field.failing).length;
  const notes = [
    ...(failing > 0 ? [`${failing} wrong for VM entry`] : []),
    ...(changed > 0 ? [`${changed} changed`] : []),
  ];
  const { icon, iconColor } = failing > 0 ? WRONG : { icon: 'symbol-namespace', iconColor: undefined };
  return {
    id: `group ${group.name}`,
    label: group.name,
    ...(notes.length > 0 ? { description: notes.join(' · ') } : {}),
    accessibleLabel:
      `${group.name}, ${group.fields.length} fields, ${changed} changed since the previous stop` +
      (failing > 0 ? `, ${failing} wrong for VM entry` : ''),
    icon,
    ...(iconColor ? { iconColor } : {}),
    children: () => group.fields.map(fieldNode),
  };
}

function fieldNode(field: VmcsFieldBody): ViewNode {
  const { bits, value } = field;
  return {
    id: `field ${field.name}`,
    label: field.name,
    description: field.text ? `${value}  ${field.text}` : value,
    accessibleLabel: [
      `${field.name} ${field.value}`,
      ...(field.text ? [field.text] : []),
      ...(field.failing ? ['wrong for VM entry'] : []),
      ...(field.changed ? ['changed since the previous stop'] : []),
      ...(field.readOnly ? ['read-only'] : []),
    ].join(', '),
    tooltip: fieldTooltip(field),
    ...fieldIcon(field),
    value,
    changes: `vmcs.${field.name}`,
    ...(field.readOnly ? {} : { vmcsField: { name: field.name, value, width: field.width } }),
    ...(bits && bits.length > 0 ? { children: () => bits.map((bit) => bitNode(field.name, bit)) } : {}),
  };
}

function fieldIcon(field: VmcsFieldBody): Pick<ViewNode, 'icon' | 'iconColor'> {
  if (field.failing) return WRONG;
  if (field.changed) return { icon: 'diff-modified', iconColor: 'gitDecoration.modifiedResourceForeground' };
  return { icon: field.readOnly ? 'lock-small' : 'symbol-field' };
}

function fieldTooltip(field: VmcsFieldBody): string {
  const lines = [
    `**${field.name}** · encoding \`${field.encoding}\` · ${field.width} bits${field.readOnly ? ' · read-only' : ''}`,
    `\`${padded(field.value, field.width)}\`${field.text ? ` ${field.text}` : ''}`,
    ...(field.failing ?? []).map((check) => `**VM entry would fail:** ${check}`),
    ...(field.documentation === undefined ? [] : [field.documentation]),
    ...(field.changed ? ['Changed since the previous stop.'] : []),
    field.section,
  ];
  return lines.join('\n\n');
}

function bitNode(fieldName: string, bit: VmcsBitBody): ViewNode {
  return {
    id: `bit ${fieldName} ${bit.name}`,
    label: bit.name,
    description: bit.value,
    accessibleLabel: `${bit.name} ${bit.value}`,
    icon: bit.set ? 'circle-filled' : 'circle-outline',
    ...(bit.documentation === undefined ? {} : { tooltip: bit.documentation }),
    value: bit.value,
  };
}
