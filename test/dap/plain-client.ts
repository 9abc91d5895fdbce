/** A DAP client of its own, with nothing but a TCP socket: what an editor other than VS Code would do. */

import { connect, type Socket } from 'node:net';

export interface Message {
  readonly seq: number;
  readonly type: 'request' | 'response' | 'event';
  readonly command?: string;
  readonly event?: string;
  readonly success?: boolean;
  readonly message?: string;
  readonly request_seq?: number;
  // biome-ignore lint/suspicious/noExplicitAny: bodies have the shape that each test expects of them
  readonly body?: any;
}

const HEADER = /^Content-Length: (\d+)\r\n\r\n/;

export class PlainClient {
  /** Everything received, in order. */
  readonly received: Message[] = [];
  private readonly socket: Socket;
  private buffer = Buffer.alloc(0);
  private sequence = 1;
  private waiting: { matches: (message: Message) => boolean; resolve: (message: Message) => void }[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => this.take(chunk));
  }

  static connect(port: number): Promise<PlainClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new PlainClient(socket)));
      socket.once('error', reject);
    });
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
    this.socket.write(text);
  }

  send(message: object): void {
    const json = JSON.stringify(message);
    this.raw(`Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
  }

  private next(matches: (message: Message) => boolean): Promise<Message> {
    return new Promise((resolve) => this.waiting.push({ matches, resolve }));
  }

  /** @returns the response, successful or not. */
  request(command: string, args?: object): Promise<Message> {
    const seq = this.sequence++;
    const response = this.next((message) => message.type === 'response' && message.request_seq === seq);
    this.send({ seq, type: 'request', command, ...(args ? { arguments: args } : {}) });
    return response;
  }

  /** The next event of a name that comes from now on. */
  event(name: string): Promise<Message> {
    return this.next((message) => message.type === 'event' && message.event === name);
  }

  /** A request that makes the machine run, and the stop or end that follows. */
  async run(command: string, args: object = { threadId: 1 }): Promise<Message> {
    const stop = this.next((message) => message.event === 'stopped' || message.event === 'terminated');
    const response = await this.request(command, args);
    if (!response.success) throw new Error(`${command}: ${response.message}`);
    return stop;
  }

  close(): void {
    this.socket.destroy();
  }
}
