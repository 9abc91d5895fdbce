/** The adapter that a suite's tests talk to, and the clients by which they do. */

import { listen, type TcpAdapter } from '../../debug-adapter/connection/tcp.ts';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { PlainClient } from './plain-client.ts';

export class SuiteAdapter {
  private adapter: TcpAdapter | undefined;
  private readonly clients: PlainClient[] = [];
  /** How many of the clients are the suite's, not the running test's. */
  private lasting = 0;

  /** Registers the hooks of the suite that is being declared. */
  constructor() {
    before(async () => {
      this.adapter = await listen(0);
    });
    beforeEach(() => {
      this.lasting = this.clients.length;
    });
    afterEach(() => this.closeClients(this.lasting));
    after(async () => {
      this.closeClients(0);
      await this.adapter?.close();
    });
  }

  get port(): number {
    if (!this.adapter) throw new Error('the adapter listens while tests run, not while they are declared');
    return this.adapter.port;
  }

  /** A client that has said nothing yet. */
  async connect(): Promise<PlainClient> {
    const client = await PlainClient.connect(this.port);
    this.clients.push(client);
    return client;
  }

  /** As `PlainClient.launch`. */
  async launch(args: LaunchArguments, more: object = {}): Promise<PlainClient> {
    const client = await PlainClient.launch(this.port, args, more);
    this.clients.push(client);
    return client;
  }

  private closeClients(from: number): void {
    for (const client of this.clients.splice(from)) client.close();
  }
}

/**
 * Call it where a suite is declared. The adapter listens while the suite's tests and hooks run; clients are closed
 * after the test that they were made for, or with the suite when a hook made them before all tests.
 */
export const useAdapter = (): SuiteAdapter => new SuiteAdapter();
