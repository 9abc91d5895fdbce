/**
 * Sources in a virtual workspace. The adapter knows them by bare paths; VS Code would take those for files on a disk,
 * and finds them only by their whole URIs. Pure.
 */

import type { DebugProtocol } from '@vscode/debugprotocol';
import type { InlineAdapter } from '../debug-adapter/connection/inline.ts';

type ChangePath = (path: string) => string;

/** Properties of DAP messages that hold a Source or several. */
const SOURCE_KEYS: ReadonlySet<string> = new Set(['source', 'sources', 'location']);

/** An adapter whose client sees `toUri(path)` where it itself says `path`, and the other way round with `toPath`. */
export function withSourceUris(adapter: InlineAdapter, toUri: ChangePath, toPath: ChangePath): InlineAdapter {
  return {
    onDidSendMessage: (listener) => adapter.onDidSendMessage((message) => listener(withPaths(message, toUri))),
    handleMessage: (message) => adapter.handleMessage(withPaths(message, toPath)),
    dispose: () => adapter.dispose(),
  };
}

function withPaths(message: DebugProtocol.ProtocolMessage, change: ChangePath): DebugProtocol.ProtocolMessage {
  return mapSources(message, change, false) as DebugProtocol.ProtocolMessage;
}

function mapSources(value: unknown, change: ChangePath, isSource: boolean): unknown {
  if (Array.isArray(value)) return value.map((one) => mapSources(one, change, isSource));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => {
      if (isSource && key === 'path' && typeof part === 'string') return [key, change(part)];
      return [key, mapSources(part, change, SOURCE_KEYS.has(key))];
    }),
  );
}
