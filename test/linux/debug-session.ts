/** A person who debugs Linux: a client of the debug adapter, and somebody at the guest's serial console. */

import assert from 'node:assert/strict';
import { listen, type TcpAdapter } from '../../debug-adapter/connection/tcp.ts';
import type { CustomEvents, LaunchArguments } from '../../debug-adapter/protocol.ts';
import { type EventBody, type Message, PlainClient } from '../dap/plain-client.ts';

const COM1 = 'COM1';

type Stop = EventBody<'stopped'>;

export class DebugSession {
  readonly client: PlainClient;
  private readonly adapter: TcpAdapter;
  /** Messages that have been looked through. */
  private read = 0;
  /** What the guest has printed in them, by console, and what of it earlier waits have seen. */
  private readonly printed = new Map<string, { output: string; seen: number }>();

  private constructor(adapter: TcpAdapter, client: PlainClient) {
    this.adapter = adapter;
    this.client = client;
  }

  /** Launches, and lets the machine run. */
  static async launch(launch: LaunchArguments): Promise<DebugSession> {
    const adapter = await listen(0);
    const client = await PlainClient.launch(adapter.port, launch);
    await client.body('configurationDone', {});
    return new DebugSession(adapter, client);
  }

  async close(): Promise<void> {
    this.client.close();
    await this.adapter.close();
  }

  private of(console: string): { output: string; seen: number } {
    const known = this.printed.get(console) ?? { output: '', seen: 0 };
    this.printed.set(console, known);
    return known;
  }

  /**
   * Waits until the guest has printed a text on a console.
   * @param console COM1 unless another is named @returns what it printed there up to it since the last wait
   */
  async waitFor(text: string, console: string = COM1): Promise<string> {
    const wanted = this.of(console);
    for (;;) {
      for (const { event, body } of this.client.received.slice(this.read)) {
        assert.notEqual(event, 'terminated', `the machine ended after ${wanted.output.slice(-1000)}`);
        if (event !== 'vmxray/serialOutput') continue;
        const { data, console: name = COM1 } = body as CustomEvents['vmxray/serialOutput'];
        this.of(name).output += data;
      }
      this.read = this.client.received.length;
      const at = wanted.output.indexOf(text, wanted.seen);
      if (at >= 0) {
        const found = wanted.output.slice(wanted.seen, at + text.length);
        wanted.seen = at + text.length;
        return found;
      }
      await this.client.event('vmxray/serialOutput');
    }
  }

  async type(line: string, console: string = COM1): Promise<void> {
    await this.client.request('vmxray/serialInput', { data: `${line}\n`, ...(console === COM1 ? {} : { console }) });
  }

  /** Types a command that leads to a stop. */
  async typeUntilStop(line: string): Promise<Stop> {
    const stopped = this.client.event('stopped');
    await this.type(line);
    return (await stopped).body;
  }

  async pause(): Promise<Stop> {
    const stopped = this.client.event('stopped');
    await this.client.request('pause', { threadId: 1 });
    return (await stopped).body;
  }

  async run(command: string, more: object = {}): Promise<Stop> {
    const { body }: Message<Stop> = await this.client.run(command, { threadId: 1, ...more });
    return body;
  }

  async frames(threadId = 1) {
    return (await this.client.request('stackTrace', { threadId })).body.stackFrames;
  }

  async names(threadId = 1): Promise<string[]> {
    return (await this.frames(threadId)).map(({ name }) => name);
  }

  /** The value as the console shows it, or why there is none. */
  async text(expression: string, frameId?: number): Promise<string> {
    const { success, message, body } = await this.client.request('evaluate', { expression, frameId, context: 'watch' });
    return success ? body.result : (message ?? '');
  }

  async number(expression: string, frameId?: number): Promise<number> {
    return Number((await this.text(expression, frameId)).split(' ')[0]);
  }
}
