import type { DebugProtocol } from '@vscode/debugprotocol';
import { note, type ViewNode } from './node.ts';

/** The programs whose symbols are known, and where each one's hold. */
export function moduleNodes({ modules }: DebugProtocol.ModulesResponse['body']): ViewNode[] {
  if (modules.length === 0) return [note('none', 'No program with symbols: name one in symbols or guests')];
  return modules.map(({ id, name, path, version = '', addressRange, symbolStatus = '' }) => ({
    id: `module ${id} ${path ?? ''}`,
    label: name,
    description: [version, addressRange].filter(Boolean).join('  '),
    tooltip: [path, symbolStatus].filter(Boolean).join('\n\n'),
    icon: 'file-binary',
    ...(addressRange === undefined ? {} : { value: addressRange }),
  }));
}
