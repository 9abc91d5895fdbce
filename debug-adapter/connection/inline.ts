import type { DebugProtocol } from '@vscode/debugprotocol';
import type { FileReader, FromWorker, ToWorker } from '../protocol.ts';

/** The shape of vscode.DebugAdapter, without vscode. */
export interface InlineAdapter {
  readonly onDidSendMessage: (listener: (message: DebugProtocol.ProtocolMessage) => unknown) => { dispose(): void };
  handleMessage(message: DebugProtocol.ProtocolMessage): void;
  dispose(): void;
}

/** One end of a channel to a worker that runs worker.ts; Node's and the browser's workers are both adapted to it. */
export interface WorkerPort {
  post(message: ToWorker): void;
  /** Called with every message of the worker. */
  listen(listener: (message: FromWorker) => void): void;
  /** Called once when the worker has died by itself. */
  onFailure(listener: (reason: string) => void): void;
  terminate(): void;
}

/** What a Web Worker, and with `on` instead of `addEventListener` a Node worker, offers to its owner. */
interface WebWorkerLike {
  postMessage(message: unknown): void;
  terminate(): unknown;
  addEventListener(type: string, listener: (event: { data?: unknown; message?: string }) => void): void;
}
interface NodeWorkerLike {
  postMessage(message: unknown): void;
  terminate(): unknown;
  on(event: 'message', listener: (value: FromWorker) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

export function webWorkerPort(worker: WebWorkerLike): WorkerPort {
  return {
    post: (message) => worker.postMessage(message),
    listen: (listener) => worker.addEventListener('message', (event) => listener(event.data as FromWorker)),
    onFailure: (listener) => worker.addEventListener('error', (event) => listener(event.message ?? 'worker error')),
    terminate: () => worker.terminate(),
  };
}

export function nodeWorkerPort(worker: NodeWorkerLike): WorkerPort {
  return {
    post: (message) => worker.postMessage(message),
    listen: (listener) => worker.on('message', listener),
    onFailure: (listener) => worker.on('error', (error) => listener(error.message)),
    terminate: () => worker.terminate(),
  };
}

/** Listeners of DAP messages, as vscode.Event wants them. */
class Listeners {
  private readonly listeners = new Set<(message: DebugProtocol.ProtocolMessage) => unknown>();

  readonly event = (listener: (message: DebugProtocol.ProtocolMessage) => unknown): { dispose(): void } => {
    this.listeners.add(listener);
    return { dispose: () => this.listeners.delete(listener) };
  };

  fire(message: DebugProtocol.ProtocolMessage): void {
    for (const listener of this.listeners) listener(message);
  }
}

/**
 * A debug adapter in a worker, as an object that VS Code's DebugAdapterInlineImplementation takes. The worker asks for
 * files; `files` reads them where the owner lives. When the worker dies the client is told by `terminated`, and every
 * request that it has not answered is refused.
 */
export function workerAdapter(port: WorkerPort, files: FileReader): InlineAdapter {
  const listeners = new Listeners();
  /** Requests without an answer yet: command by number. */
  const open = new Map<number, string>();
  let problem: string | undefined;
  const refuseOpen = (): void => {
    for (const [seq, command] of open) listeners.fire(refusal(seq, command, problem ?? ''));
    open.clear();
  };
  port.listen((message) => {
    if (message.type === 'dap') {
      if (message.message.type === 'response') open.delete((message.message as DebugProtocol.Response).request_seq);
      listeners.fire(message.message);
    } else answerFile(port, files, message.id, message.path);
  });
  port.onFailure((reason) => {
    problem = `VMXray's debug adapter has ended: ${reason}`;
    refuseOpen();
    for (const message of lastWords(reason)) listeners.fire(message);
  });
  return {
    onDidSendMessage: listeners.event,
    handleMessage: (message) => {
      if (message.type === 'request') open.set(message.seq, (message as DebugProtocol.Request).command);
      if (problem === undefined) port.post({ type: 'dap', message });
      else refuseOpen();
    },
    dispose: () => port.terminate(),
  };
}

const refusal = (request: number, command: string, message: string): DebugProtocol.Response => ({
  seq: 0,
  type: 'response',
  request_seq: request,
  command,
  success: false,
  message,
});

function answerFile(port: WorkerPort, files: FileReader, id: number, path: string): void {
  files.readFile(path).then(
    (bytes) => port.post({ type: 'file', id, bytes }),
    (error: unknown) =>
      port.post({ type: 'fileError', id, message: error instanceof Error ? error.message : String(error) }),
  );
}

/** What the client is told when the worker has died. */
export const lastWords = (reason: string): DebugProtocol.Event[] => [
  event('output', { category: 'stderr', output: `VMXray's debug adapter ended unexpectedly: ${reason}\n` }),
  event('terminated', {}),
];

const event = (name: string, body: unknown): DebugProtocol.Event => ({ seq: 0, type: 'event', event: name, body });
