/** Debugs a sample's launch configuration through the built adapter, as an editor would, and prints what happens. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { frame, MessageReader } from '../debug-adapter/connection/framing.ts';

const ADAPTER = join(import.meta.dirname, '../dist/adapter.cjs');
const THREAD = { threadId: 1 };

/** How long the adapter may stay silent before it counts as hung, in milliseconds. */
const SILENCE_LIMIT = 60_000;

type Adapter = ChildProcessByStdio<Writable, Readable, null>;

/** A client of the adapter's process: requests with their responses, and events in the order they come. */
class Client {
  /** Told of the events that nobody waits for. */
  private readonly onEvent: (event: DebugProtocol.Event) => void;
  private readonly adapter: Adapter;
  private readonly pending = new Map<number, PromiseWithResolvers<unknown>>();
  private readonly events: DebugProtocol.Event[] = [];
  private wake: () => void = () => {};
  private sequence = 0;

  constructor(onEvent: (event: DebugProtocol.Event) => void) {
    this.onEvent = onEvent;
    this.adapter = spawn(process.execPath, [ADAPTER], { stdio: ['pipe', 'pipe', 'inherit'] });
    const reader = new MessageReader(
      (message) => this.receive(message as DebugProtocol.ProtocolMessage),
      (problem) => console.error(`The adapter sent ${problem}.`),
    );
    this.adapter.once('exit', () => this.lose());
    this.adapter.stdout.on('data', (chunk: Buffer) => reader.push(chunk));
  }

  private receive(message: DebugProtocol.ProtocolMessage): void {
    if (message.type === 'event') {
      const event = message as DebugProtocol.Event;
      this.onEvent(event);
      this.events.push(event);
      this.wake();
    } else {
      this.settle(message as DebugProtocol.Response);
    }
  }

  private settle({ request_seq: seq, success, command, message, body }: DebugProtocol.Response): void {
    const request = this.pending.get(seq);
    this.pending.delete(seq);
    if (success) request?.resolve(body);
    else request?.reject(new Error(`${command}: ${message}`));
  }

  private lose(): void {
    for (const request of this.pending.values()) request.reject(new Error('The adapter ended without an answer.'));
  }

  /** @returns the response's body. @throws the adapter's message when the request failed. */
  request(command: string, args: object = {}): Promise<unknown> {
    const seq = ++this.sequence;
    const request = Promise.withResolvers<unknown>();
    this.pending.set(seq, request);
    this.adapter.stdin.write(frame({ seq, type: 'request', command, arguments: args }));
    return request.promise;
  }

  /** The next event of one of these names; those before it are dropped. */
  async next(...names: readonly string[]): Promise<DebugProtocol.Event> {
    for (;;) {
      const event = this.events.shift();
      if (event && names.includes(event.event)) return event;
      if (!event) await this.arrival();
    }
  }

  private arrival(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the adapter is silent')), SILENCE_LIMIT);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  close(): void {
    this.adapter.stdin.end();
    this.adapter.kill();
  }
}

/** The first launch configuration of a folder, with its paths resolved as VS Code resolves them. */
function launchConfiguration(folder: string): object {
  const text = readFileSync(join(folder, '.vscode/launch.json'), 'utf8').replace(/\$\{workspaceFolder\}/g, folder);
  const { configurations }: { configurations: object[] } = JSON.parse(text);
  return { ...configurations[0], breakOnVmExit: ['*'] };
}

/** Collects the guest's bytes and prints whole lines. */
class SerialLines {
  private line = '';

  add(data: string): void {
    const lines = (this.line + data).split('\n');
    this.line = lines.pop() ?? '';
    for (const line of lines) console.log(`  serial | ${line.replace('\r', '')}`);
  }
}

function placeOf({ name, source, line, presentationHint }: DebugProtocol.StackFrame): string {
  if (presentationHint === 'label') return `-- ${name}`;
  return source ? `${name} at ${source.name}:${line}` : name;
}

/** Prints stops: in full, or as one line when everything but its number is as at the stop before. */
class StopPrinter {
  private readonly client: Client;
  private number = 0;
  private last = '';

  constructor(client: Client) {
    this.client = client;
  }

  async print({ reason, description, text }: DebugProtocol.StoppedEvent['body']): Promise<void> {
    const details = reason === 'exception' ? await this.explanation() : [];
    const trace = (await this.client.request('stackTrace', THREAD)) as DebugProtocol.StackTraceResponse['body'];
    const lines = [...details, ...trace.stackFrames.map(placeOf)].map((line) => `  ${line}`).join('\n');
    const again = lines === this.last;
    const words = text === undefined || text === '' ? '' : `: ${text}`;
    console.log(`stop ${++this.number}: ${description ?? reason}${words}${again ? ' (the same place)' : `\n${lines}`}`);
    this.last = lines;
  }

  private async explanation(): Promise<string[]> {
    const info = (await this.client.request('exceptionInfo', THREAD)) as DebugProtocol.ExceptionInfoResponse['body'];
    return info.details?.stackTrace?.split('\n') ?? [];
  }
}

async function startSession(client: Client, folder: string): Promise<void> {
  await client.request('initialize', { adapterID: 'vmxray', clientID: 'headless', linesStartAt1: true });
  const launched = client.request('launch', launchConfiguration(folder));
  // A launch that is refused never says `initialized`.
  await Promise.race([client.next('initialized'), launched]);
  await client.request('setExceptionBreakpoints', { filters: ['vmEntryFailure', 'tripleFault'] });
  await client.request('configurationDone');
  await launched;
}

/** @returns the machine's exit status; undefined when it ended without one. */
async function runToEnd(client: Client): Promise<number | undefined> {
  const printer = new StopPrinter(client);
  let exitCode: number | undefined;
  for (;;) {
    const { event, body } = await client.next('stopped', 'exited', 'terminated');
    if (event === 'terminated') return exitCode;
    if (event === 'exited') {
      exitCode = body.exitCode;
    } else {
      await printer.print(body);
      await client.request('continue', THREAD);
    }
  }
}

/**
 * @param folder of the sample
 * @returns the status for this process: 0 when the machine came to its end
 */
export async function debugHeadless(folder: string): Promise<number> {
  const serial = new SerialLines();
  const client = new Client(({ event, body }) => {
    if (event === 'vmxray/serialOutput') serial.add(body.data);
    if (event === 'output' && body.category !== 'stdout') console.log(`  ${body.output.trimEnd()}`);
  });
  try {
    await startSession(client, folder);
    const exitCode = await runToEnd(client);
    console.log(exitCode === undefined ? 'end: the session broke off' : `end: exit status ${exitCode}`);
    return exitCode === undefined ? 1 : 0;
  } finally {
    client.close();
  }
}
