import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { createThreadedMachine } from '../compiling/thread.ts';
import { Session } from '../session.ts';
import { frame, MessageReader } from './framing.ts';
import { lastWords } from './inline.ts';
import { NODE_FILES } from './node-file.ts';

const isDisconnected = (message: DebugProtocol.ProtocolMessage): boolean =>
  message.type === 'response' && (message as DebugProtocol.Response).command === 'disconnect';

/**
 * Serves one DAP client over a pair of streams, in this thread: the machine runs in slices, between which it is read.
 * A mistake of this program that nothing has caught is told to the client, and ends the session.
 * @returns a promise that resolves when the client has gone or has disconnected, and has got all that it was sent.
 */
export function serveStream(input: Readable, output: Writable): Promise<void> {
  return new Promise((resolve) => {
    const close = (): void => {
      session.dispose();
      input.removeAllListeners('data').resume();
      if (output.destroyed) resolve();
      else if (!output.writableEnded) output.end(() => resolve());
    };
    // What is said in one go is written at once: a write that wakes the client up takes longer than most answers.
    const send = (message: DebugProtocol.ProtocolMessage): void => {
      if (output.writableCorked === 0) {
        output.cork();
        process.nextTick(() => output.uncork());
      }
      output.write(frame(message));
      if (isDisconnected(message)) close();
    };
    const session = new Session({ ...NODE_FILES, send }, createThreadedMachine);
    const reader = new MessageReader(
      (message) => session.handleMessage(message),
      (problem) => session.output(`VMXray ignored what it got: ${problem}.\n`, 'stderr'),
    );
    process.once('uncaughtException', (error) => {
      for (const message of lastWords(error.message)) output.write(frame(message));
      close();
    });
    input.on('data', (chunk: Uint8Array) => reader.push(chunk));
    input.on('end', close);
    input.on('error', close);
    output.on('error', close);
  });
}

/** Serves the DAP client that started this process. Nothing else may write to standard output. */
export const serveStdio = (): Promise<void> => serveStream(process.stdin, process.stdout);
