import { fork } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';

export interface TcpAdapter {
  readonly port: number;
  /** Stops listening; sessions that are open go on. */
  close(): Promise<void>;
}

/** Only this computer may connect: a debug adapter reads any file that it is asked for. */
const LOOPBACK = '127.0.0.1';

/** The adapter as a program: beside this module as source, beside the bundle in dist/. */
const programFile = (): string =>
  fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './program.ts' : './adapter.cjs', import.meta.url));

/** Gives a client to a process of its own: in a thread of this one every message would pass through this thread. */
function startSession(socket: Socket): void {
  const session = fork(programFile(), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  session.on('error', () => socket.destroy());
  session.send('client', socket);
}

/**
 * Serves DAP clients on a loopback port, each with an adapter of its own.
 * @param port 0 chooses a free one. @throws when the port is taken.
 */
export function listen(port: number): Promise<TcpAdapter> {
  const server: Server = createServer({ pauseOnConnect: true }, startSession);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, LOOPBACK, () => {
      const address = server.address();
      const actual = typeof address === 'object' && address !== null ? address.port : port;
      const close = (): Promise<void> => {
        // Its own notice of being closed waits for processes that were given sockets, and for good if they have ended.
        server.close();
        return new Promise((done) => setImmediate(done));
      };
      resolve({ port: actual, close });
    });
  });
}
