/** Reports in Markdown: the last VM exit, the checks that a VM entry would fail, stale translations. Pure. */

import type { CheckBody, TlbBody, VmExitsBody } from '../../debug-adapter/protocol.ts';

export function exitReport({ last, total, entries, reasons }: VmExitsBody): string {
  if (!last) return '# No VM exit yet\n\nThe guest has not left VMX non-root operation since the session began.\n';
  const count = reasons.find(({ reason }) => reason === last.reason)?.count ?? 0;
  return [
    `# VM exit: ${escaped(last.name)}`,
    escaped(last.cause),
    table(
      ['What', 'Value'],
      [
        ['Basic exit reason', `${last.reason} (${escaped(last.name)})`],
        ['Guest RIP', `\`${last.guestRip}\``],
        ['Exit qualification', `\`${last.qualification}\``],
        ['Exits with this reason', `${count} of ${total}`],
        ['VM entries', `${entries}`],
      ],
    ),
    ...(last.why.length > 0 ? ['## Why', ['```text', ...last.why, '```'].join('\n')] : []),
    ...(last.decoded.length > 0 ? ['## In words', last.decoded.map((line) => `- ${escaped(line)}`).join('\n')] : []),
    '',
  ].join('\n\n');
}

export function entryReport({ ok, checks }: { ok: boolean; checks: readonly CheckBody[] }): string {
  if (ok) return '# VM entry would succeed\n\nEvery check of the current VMCS passes.\n';
  const number = checks.length === 1 ? 'One check fails' : `${checks.length} checks fail`;
  return [
    '# VM entry would fail',
    `${number}. The processor reports the first one only.`,
    ...checks.map(checkSection),
    '',
  ].join('\n\n');
}

export function staleReport({ entries }: TlbBody): string {
  const stale = entries.flatMap((entry) => (entry.stale ? [{ ...entry, stale: entry.stale }] : []));
  if (stale.length === 0) return '# No stale translations\n\nEvery TLB entry agrees with the tables in memory.\n';
  const sections = stale.map(
    ({ kind, page, vpid, target, stale: { address, difference, story = [], invalidations } }) =>
      [
        `## ${kind} mapping of ${page}`,
        table(
          ['What', 'Value'],
          [
            ['Entry', `\`${page}\` → \`${target}\`, VPID ${vpid}`],
            ['First address that differs', `\`${address}\``],
            ['Difference', escaped(difference)],
          ],
        ),
        ...story.map(escaped),
        `Any of these would remove it:\n\n${invalidations.map((one) => `- ${escaped(one)}`).join('\n')}`,
      ].join('\n\n'),
  );
  const count = `${stale.length} of ${entries.length} TLB entries: what they give is not what the tables in memory say.`;
  return ['# Stale translations', count, ...sections, ''].join('\n\n');
}

function checkSection({ id, explanation, section, fields, remedies }: CheckBody, index: number): string {
  return [
    `## ${index + 1}. ${escaped(explanation)}`,
    table(
      ['Field', 'Value', 'In words'],
      fields.map(({ name, value, text = '' }) => [`\`${name}\``, `\`${value}\``, escaped(text)]),
    ),
    ...(remedies.length > 0
      ? [`Any of these would satisfy it:\n\n${remedies.map(({ text }) => `- ${escaped(text)}`).join('\n')}`]
      : []),
    `${escaped(section)} · check \`${id}\``,
  ].join('\n\n');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

const escaped = (text: string): string => text.replace(/[\\`*_[\]<>|#]/g, '\\$&');
