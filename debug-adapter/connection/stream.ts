import type { Readable, Writable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { STREAM_WORKER, type StreamOutput } from '../protocol.ts';
import { frame } from './framing.ts';
import { lastWords } from './inline.ts';

/** The worker's file: beside this module as source, beside the bundle in dist/. */
const workerFile = (): URL =>
  new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './adapter-worker.cjs', import.meta.url);

/**
 * Serves one DAP client over a pair of streams, with the adapter in a thread of its own.
 * @returns a promise that resolves when the client has gone or has disconnected, and the thread has ended.
 */
export function serveStream(input: Readable, output: Writable): Promise<void> {
  const worker = new Worker(workerFile(), { workerData: STREAM_WORKER });
  return new Promise((resolve) => {
    const close = (): void => {
      input.removeAllListeners('data').resume();
      if (!output.writableEnded) output.end();
      worker.terminate().then(() => resolve());
    };
    worker.on('message', ({ bytes, isLast }: StreamOutput) => {
      output.write(bytes);
      if (isLast) close();
    });
    worker.on('error', (error) => {
      for (const message of lastWords(error.message)) output.write(frame(message));
      close();
    });
    input.on('data', (chunk: Uint8Array) => {
      const bytes = new Uint8Array(chunk);
      worker.postMessage(bytes, [bytes.buffer]);
    });
    input.on('end', close);
    input.on('error', close);
    output.on('error', close);
  });
}

/** Serves the DAP client that started this process. Nothing else may write to standard output. */
export const serveStdio = (): Promise<void> => serveStream(process.stdin, process.stdout);
