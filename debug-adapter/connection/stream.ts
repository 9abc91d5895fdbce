import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { frame, MessageReader } from './framing.ts';
import { startNodeAdapter } from './node-host.ts';

/**
 * Serves one DAP client over a pair of streams, with the adapter in a thread of its own.
 * @returns a promise that resolves when the client has gone or has disconnected.
 */
export function serveStream(input: Readable, output: Writable): Promise<void> {
  return new Promise((resolve) => {
    const adapter = startNodeAdapter();
    const close = (): void => {
      adapter.dispose();
      output.end();
      resolve();
    };
    adapter.onDidSendMessage((message) => {
      output.write(frame(message));
      if (isDisconnected(message)) close();
    });
    const reader = new MessageReader(
      (message) => adapter.handleMessage(message as DebugProtocol.ProtocolMessage),
      (problem) => output.write(frame(complaint(problem))),
    );
    input.on('data', (chunk: Uint8Array) => reader.push(chunk));
    input.on('end', close);
    input.on('error', close);
    output.on('error', close);
  });
}

/** Serves the DAP client that started this process. Nothing else may write to standard output. */
export const serveStdio = (): Promise<void> => serveStream(process.stdin, process.stdout);

const isDisconnected = (message: DebugProtocol.ProtocolMessage): boolean =>
  message.type === 'response' && (message as DebugProtocol.Response).command === 'disconnect';

const complaint = (problem: string): DebugProtocol.OutputEvent => ({
  seq: 0,
  type: 'event',
  event: 'output',
  body: { category: 'stderr', output: `VMXray ignored what it got: ${problem}.\n` },
});
