import assert from 'node:assert/strict';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { withSourceUris } from './source-paths.ts';

describe('sources of a virtual workspace', () => {
  const handled: DebugProtocol.ProtocolMessage[] = [];
  let send: (message: DebugProtocol.ProtocolMessage) => unknown = () => undefined;
  const adapter = withSourceUris(
    {
      onDidSendMessage: (listener) => {
        send = listener;
        return { dispose: () => undefined };
      },
      handleMessage: (message) => handled.push(message),
      dispose: () => undefined,
    },
    (path) => `memfs:${path}`,
    (uri) => uri.replace(/^memfs:/, ''),
  );

  it('go out as URIs, in frames, lists and instructions', () => {
    const seen: unknown[] = [];
    adapter.onDidSendMessage((message) => seen.push(message));
    const body = (path: string) => ({
      stackFrames: [{ id: 1, source: { name: 'a.c', path } }],
      sources: [{ path }],
      instructions: [{ address: '0x0', location: { path } }],
      // No source: stays.
      path: '/w/a.c',
      program: { path: '/w/a.elf' },
    });
    const response = { seq: 1, type: 'response' };
    send({ ...response, body: body('/w/a.c') } as DebugProtocol.ProtocolMessage);
    assert.deepEqual(seen, [{ ...response, body: body('memfs:/w/a.c') }]);
  });

  it('come in as paths', () => {
    const request = (path: string) =>
      ({
        seq: 2,
        type: 'request',
        arguments: { source: { path }, breakpoints: [{ line: 3 }] },
      }) as DebugProtocol.ProtocolMessage;
    adapter.handleMessage(request('memfs:/w/a.c'));
    assert.deepEqual(handled, [request('/w/a.c')]);
  });
});
