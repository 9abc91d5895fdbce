import type { StaleBody, TlbBody } from '../../debug-adapter/protocol.ts';
import { byteSize } from './hex.ts';
import { note, type ViewNode } from './node.ts';

type Entry = TlbBody['entries'][number];

/** What an entry is tagged with decides who can use it: entries are shown by VPID and EP4TA. */
export function tlbNodes(body: TlbBody): ViewNode[] {
  if (body.entries.length === 0) return [note('empty', 'The TLB is empty')];
  const groups = new Map<string, Entry[]>();
  for (const entry of body.entries) {
    const tag = tagOf(entry);
    groups.set(tag, [...(groups.get(tag) ?? []), entry]);
  }
  return [...groups]
    .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
    .map(([tag, entries]) => ({
      id: tag,
      label: tag,
      description: (entries.length === 1 ? '1 entry' : `${entries.length} entries`) + staleCount(entries),
      icon: 'tag',
      expanded: true,
      children: () => entries.map((entry, index) => entryNode(tag, entry, index)),
    }));
}

function staleCount(entries: readonly Entry[]): string {
  const count = entries.filter(({ stale }) => stale !== undefined).length;
  return count > 0 ? ` · ${count} stale` : '';
}

/** Guest-physical mappings carry no VPID, linear mappings no EP4TA (SDM, "Caching Translation Information"). */
function tagOf(entry: Entry): string {
  if (entry.kind === 'guest-physical') return `EP4TA ${entry.eptRoot}`;
  return entry.kind === 'linear' ? `VPID ${entry.vpid}` : `VPID ${entry.vpid} · EP4TA ${entry.eptRoot}`;
}

function entryNode(tag: string, entry: Entry, index: number): ViewNode {
  const size = byteSize(BigInt(entry.pageSize));
  const pcid = entry.kind === 'guest-physical' ? '' : entry.global ? 'global' : `PCID ${entry.pcid}`;
  const { stale } = entry;
  const parts = [stale ? 'stale' : '', `→ ${entry.target}`, entry.rights, size, entry.kind, pcid].filter(
    (part) => part !== '',
  );
  // A page may be in the TLB twice, with different rights or sizes; the place tells them apart.
  const id = `${tag} ${entry.kind} ${entry.page} ${index}`;
  return {
    id,
    label: entry.page,
    description: parts.join('  '),
    accessibleLabel: `${entry.kind} mapping of page ${entry.page} to ${entry.target}, rights ${entry.rights}, ${size}, ${pcid}${stale ? `, stale: ${stale.difference}` : ''}`,
    tooltip: `**${entry.kind} mapping** of \`${entry.page}\` to \`${entry.target}\` (${size})\n\nRights ${entry.rights}\n\n${tag}${pcid ? ` · ${pcid}` : ''}${stale ? staleTooltip(stale) : ''}`,
    ...(stale
      ? { icon: 'warning', iconColor: 'list.warningForeground', children: () => staleNodes(id, stale) }
      : { icon: 'arrow-right' }),
    value: entry.target,
    address: { address: entry.page, space: entry.kind === 'guest-physical' ? 'guestPhysical' : 'linear' },
  };
}

/** What is wrong with an entry, who made it so, and what would remove it. */
function staleNodes(id: string, { address, difference, story = [], invalidations }: StaleBody): ViewNode[] {
  return [
    { id: `${id} difference`, label: `At ${address}`, description: difference, tooltip: difference, icon: 'diff' },
    ...story.map((line, index) => ({ id: `${id} story ${index}`, label: line, tooltip: line, icon: 'history' })),
    ...invalidations.map((line, index) => ({
      id: `${id} invalidation ${index}`,
      label: 'Would remove it',
      description: line,
      tooltip: line,
      icon: 'trash',
    })),
  ];
}

function staleTooltip({ address, difference, story = [], invalidations }: StaleBody): string {
  const past = story.map((line) => `\n\n${line}`).join('');
  const list = invalidations.map((invalidation) => `- ${invalidation}`).join('\n');
  return `\n\n**Stale** at \`${address}\`: ${difference}${past}\n\nWould remove it:\n\n${list}`;
}
