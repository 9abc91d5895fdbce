import assert from 'node:assert/strict';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { FileReader, FromWorker, ToWorker } from '../protocol.ts';
import { workerAdapter } from './inline.ts';

const NO_FILES: FileReader = { readFile: () => Promise.reject(new Error('none')) };

describe('an adapter whose worker dies', () => {
  it('refuses what the worker has not answered and what comes later, once each', () => {
    const posted: ToWorker[] = [];
    let answer: (message: FromWorker) => void = () => undefined;
    let fail: (reason: string) => void = () => undefined;
    const port = {
      post: (message: ToWorker) => posted.push(message),
      listen: (listener: typeof answer) => {
        answer = listener;
      },
      onFailure: (listener: typeof fail) => {
        fail = listener;
      },
      terminate: () => undefined,
    };
    const adapter = workerAdapter(port, NO_FILES);
    const received: DebugProtocol.Response[] = [];
    adapter.onDidSendMessage((message) => received.push(message as DebugProtocol.Response));
    const request = (seq: number, command: string): void =>
      adapter.handleMessage({ seq, type: 'request', command } as DebugProtocol.Request);
    request(1, 'threads');
    request(2, 'continue');
    const answered = { seq: 1, type: 'response', request_seq: 1, command: 'threads', success: true };
    answer({ type: 'dap', message: answered });
    fail('out of memory');
    request(3, 'pause');
    const responses = received.filter(({ type }) => type === 'response');
    assert.deepEqual(
      responses.map(({ request_seq, command, success }) => [request_seq, command, success]),
      [
        [1, 'threads', true],
        [2, 'continue', false],
        [3, 'pause', false],
      ],
    );
    assert.match(responses[2]?.message ?? '', /out of memory/);
    assert.equal(posted.length, 2);
  });
});
