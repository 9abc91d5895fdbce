/** Debugs a sample's launch configuration through the built adapter, as an editor would, and prints what happens. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { frame, MessageReader } from '../debug-adapter/framing.ts';

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
  private readonly pending = new Map<number, (response: DebugProtocol.Response) => void>();
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
    this.adapter.stdout.on('data', (chunk: Buffer) => reader.push(chunk));
  }

  private receive(message: DebugProtocol.ProtocolMessage): void {
    if (message.type === 'event') {
      const event = message as DebugProtocol.Event;
      this.onEvent(event);
      this.events.push(event);
      this.wake();
    } else {
      const response = message as DebugProtocol.Response;
      this.pending.get(response.request_seq)?.(response);
    }
  }

  /** @returns the response's body. @throws the adapter's message when the request failed. */
  request(command: string, args: object = {}): Promise<unknown> {
    const seq = ++this.sequence;
    return new Promise((resolve, reject) => {
      this.pending.set(seq, (response) => {
        this.pending.delete(seq);
        if (response.success) resolve(response.body);
        else reject(new Error(`${command}: ${response.message}`));
      });
      this.adapter.stdin.write(frame({ seq, type: 'request', command, arguments: args }));
    });
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
  const text = readFileSync(join(folder, '.vscode/launch.json'), 'utf8').replaceAll('${workspaceFolder}', folder);
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

function placeOf({ name, source, line, instructionPointerReference: address }: DebugProtocol.StackFrame): string {
  return source ? `${name} at ${source.name}:${line}` : `${name} at ${address}`;
}

async function printStop(client: Client, number: number, body: DebugProtocol.StoppedEvent['body']): Promise<void> {
  console.log(`stop ${number}: ${body.description ?? body.reason}`);
  if (body.reason === 'exception') {
    const info = (await client.request('exceptionInfo', THREAD)) as DebugProtocol.ExceptionInfoResponse['body'];
    console.log(`  ${info.exceptionId}: ${info.details?.message ?? info.description ?? ''}`);
    for (const line of info.details?.stackTrace?.split('\n') ?? []) console.log(`    ${line}`);
  }
  const trace = (await client.request('stackTrace', THREAD)) as DebugProtocol.StackTraceResponse['body'];
  for (const frameOfStack of trace.stackFrames) console.log(`  ${placeOf(frameOfStack)}`);
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

async function runToEnd(client: Client): Promise<number> {
  let exitCode = 1;
  for (let number = 1; ; ) {
    const { event, body } = await client.next('stopped', 'exited', 'terminated');
    if (event === 'exited') exitCode = body.exitCode;
    if (event === 'terminated') return exitCode;
    if (event !== 'stopped') continue;
    await printStop(client, number++, body);
    await client.request('continue', THREAD);
  }
}

/**
 * @param folder of the sample
 * @returns the status for this process: the guest's exit status
 */
export async function debugHeadless(folder: string): Promise<number> {
  const serial = new SerialLines();
  const client = new Client(({ event, body }) => {
    if (event === 'vmxray/serialOutput') serial.add(body.data);
    if (event === 'output' && body.category !== 'telemetry') console.log(`  ${body.output.trimEnd()}`);
  });
  try {
    await startSession(client, folder);
    const exitCode = await runToEnd(client);
    console.log(`end: the machine ended with status ${exitCode}`);
    return exitCode;
  } finally {
    client.close();
  }
}
