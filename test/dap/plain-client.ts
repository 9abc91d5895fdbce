/** A DAP client of its own, with nothing but a pair of streams: what an editor other than VS Code would do. */

import { connect } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import type { CustomRequests, LaunchArguments } from '../../debug-adapter/protocol.ts';

/** Bodies of the responses that the tests look into, by command. */
interface Bodies extends CustomBodies {
  initialize: DebugProtocol.Capabilities;
  threads: DebugProtocol.ThreadsResponse['body'];
  modules: DebugProtocol.ModulesResponse['body'];
  stackTrace: DebugProtocol.StackTraceResponse['body'];
  scopes: DebugProtocol.ScopesResponse['body'];
  variables: DebugProtocol.VariablesResponse['body'];
  evaluate: DebugProtocol.EvaluateResponse['body'];
  setBreakpoints: DebugProtocol.SetBreakpointsResponse['body'];
  readMemory: { address: string; data?: string };
  disassemble: { instructions: DebugProtocol.DisassembledInstruction[] };
}
type CustomBodies = { [Name in keyof CustomRequests]: CustomRequests[Name][1] };

interface EventBodies {
  stopped: DebugProtocol.StoppedEvent['body'];
  output: DebugProtocol.OutputEvent['body'];
}

/** Every body may be one of a failure, too. */
interface Failure {
  readonly error?: DebugProtocol.Message;
}

export interface Message<Body = object> {
  readonly seq: number;
  readonly type: 'request' | 'response' | 'event';
  readonly command?: string;
  readonly event?: string;
  readonly success?: boolean;
  readonly message?: string;
  readonly request_seq?: number;
  readonly body: Body;
}

export type BodyOf<Command extends string> = Failure & (Command extends keyof Bodies ? Bodies[Command] : object);
export type EventBody<Name extends string> = Name extends keyof EventBodies ? EventBodies[Name] : object;

const HEADER = /^Content-Length: (\d+)\r\n\r\n/;

export class PlainClient {
  /** Everything received, in order. */
  readonly received: Message[] = [];
  /** What every client of this process has received. */
  static readonly sessions: (readonly Message[])[] = [];
  private readonly output: Writable;
  private buffer = Buffer.alloc(0);
  private sequence = 1;
  private waiting: { matches: (message: Message) => boolean; resolve: (message: Message) => void }[] = [];

  /** @param input from the adapter @param output to the adapter */
  constructor(input: Readable, output: Writable) {
    this.output = output;
    PlainClient.sessions.push(this.received);
    input.on('data', (chunk: Buffer) => this.take(chunk));
  }

  static connect(port: number): Promise<PlainClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new PlainClient(socket, socket)));
      socket.once('error', reject);
    });
  }

  /**
   * A session to configure, which begins with the answer to `configurationDone`.
   * @param more what the client says of itself in `initialize` @throws when the adapter refuses
   */
  static async launch(port: number, args: LaunchArguments, more: object = {}): Promise<PlainClient> {
    const client = await PlainClient.connect(port);
    const initialized = client.event('initialized');
    try {
      await client.body('initialize', { adapterID: 'vmxray', ...more });
      await client.body('launch', args);
    } catch (error) {
      client.close();
      throw error;
    }
    await initialized;
    return client;
  }

  private take(chunk: Buffer): void {
    this.buffer = Buffer.concat([this.buffer, chunk]);
    for (;;) {
      const header = HEADER.exec(this.buffer.subarray(0, 100).toString('latin1'));
      const length = Number(header?.[1]);
      const start = header?.[0].length ?? 0;
      if (!header || this.buffer.length < start + length) return;
      const message: Message = JSON.parse(this.buffer.subarray(start, start + length).toString());
      this.buffer = this.buffer.subarray(start + length);
      this.received.push(message);
      const waiters = this.waiting.filter(({ matches }) => matches(message));
      this.waiting = this.waiting.filter((waiter) => !waiters.includes(waiter));
      for (const { resolve } of waiters) resolve(message);
    }
  }

  /** Sends any bytes, also such as no client should. */
  raw(text: string): void {
    this.output.write(text);
  }

  send(message: object): void {
    const json = JSON.stringify(message);
    this.raw(`Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
  }

  private next(matches: (message: Message) => boolean): Promise<Message> {
    return new Promise((resolve) => this.waiting.push({ matches, resolve }));
  }

  /** @returns the response, successful or not. */
  request<Command extends string>(command: Command, args?: object): Promise<Message<BodyOf<Command>>> {
    const seq = this.sequence++;
    const response = this.next((message) => message.type === 'response' && message.request_seq === seq);
    this.send({ seq, type: 'request', command, ...(args ? { arguments: args } : {}) });
    return response as Promise<Message<BodyOf<Command>>>;
  }

  /** The body of the answer. @throws when the request is refused */
  async body<Command extends string>(command: Command, args?: object): Promise<BodyOf<Command>> {
    const { success, message, body } = await this.request(command, args);
    if (!success) throw new Error(`${command}: ${message}`);
    return body;
  }

  /** A value as a watch shows it, without what follows its first word (other notations, a name). */
  async value(expression: string, frameId?: number): Promise<string> {
    const { result } = await this.body('evaluate', { expression, frameId, context: 'watch' });
    return result.split(' ')[0] ?? '';
  }

  /** The next event of a name that comes from now on. */
  event<Name extends string>(name: Name): Promise<Message<EventBody<Name>>> {
    const event = this.next((message) => message.type === 'event' && message.event === name);
    return event as Promise<Message<EventBody<Name>>>;
  }

  /** A request that makes the machine run, and the stop or end that follows. */
  async run(command: string, args: object = { threadId: 1 }): Promise<Message<EventBody<'stopped'>>> {
    const stop = this.next((message) => message.event === 'stopped' || message.event === 'terminated');
    await this.body(command, args);
    return stop as Promise<Message<EventBody<'stopped'>>>;
  }

  close(): void {
    this.output.destroy();
  }
}
