/**
 * The adapter and the machine in a worker of Node or of a browser, away from the editor's thread. The owner posts
 * ToWorker messages and gets FromWorker messages (protocol.ts).
 */

import type { DebugProtocol } from '@vscode/debugprotocol';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { FileReader, FromWorker, ToWorker } from '../protocol.ts';
import type { MachineFactory } from '../running/target.ts';
import { Session } from '../session.ts';

/** This side of the channel. */
interface Channel {
  post(message: FromWorker): void;
  listen(listener: (message: ToWorker) => void): void;
  /** Files that are at hand here. */
  readonly files: Omit<FileReader, 'readFile'>;
  readonly createMachine: MachineFactory;
}

interface PendingFile {
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

function serve(channel: Channel): void {
  const pending = new Map<number, PendingFile>();
  let nextFile = 1;
  const readFile = (path: string): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      const id = nextFile++;
      pending.set(id, { resolve, reject });
      channel.post({ type: 'readFile', id, path });
    });
  const send = (message: DebugProtocol.ProtocolMessage): void => channel.post({ type: 'dap', message });
  const session = new Session({ ...channel.files, readFile, send }, channel.createMachine);
  channel.listen((message) => {
    if (message.type === 'dap') {
      session.handleMessage(message.message);
      return;
    }
    const waiting = pending.get(message.id);
    pending.delete(message.id);
    if (message.type === 'file') waiting?.resolve(message.bytes);
    else waiting?.reject(new Error(message.message));
  });
}

/** What a browser's worker has as its global scope. */
interface BrowserScope {
  postMessage(message: unknown): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
}

function serveBrowser(scope: BrowserScope): void {
  serve({
    post: (message) => scope.postMessage(message),
    listen: (listener) => scope.addEventListener('message', (event) => listener(event.data as ToWorker)),
    files: {},
    createMachine,
  });
}

async function serveNode(): Promise<void> {
  const { parentPort } = await import('node:worker_threads');
  if (!parentPort) throw new Error('worker.ts must be started as a worker');
  const { NODE_FILES } = await import('./node-file.ts');
  const { createThreadedMachine } = await import('../compiling/thread.ts');
  serve({
    post: (message) => parentPort.postMessage(message),
    listen: (listener) => parentPort.on('message', listener),
    files: NODE_FILES,
    createMachine: createThreadedMachine,
  });
}

// Node keeps messages until somebody listens; a browser's worker must listen before its script ends.
if (typeof process === 'object' && process.versions?.node !== undefined) serveNode();
else serveBrowser(globalThis as unknown as BrowserScope);
