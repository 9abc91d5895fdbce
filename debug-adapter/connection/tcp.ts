import { createServer, type Server } from 'node:net';
import { serveStream } from './stream.ts';

export interface TcpAdapter {
  readonly port: number;
  /** Stops listening; sessions that are open go on. */
  close(): Promise<void>;
}

/** Only this computer may connect: a debug adapter reads any file that it is asked for. */
const LOOPBACK = '127.0.0.1';

/**
 * Serves DAP clients on a loopback port, each with an adapter of its own.
 * @param port 0 chooses a free one. @throws when the port is taken.
 */
export function listen(port: number): Promise<TcpAdapter> {
  const server: Server = createServer((socket) => {
    socket.setNoDelay(true);
    serveStream(socket, socket);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, LOOPBACK, () => {
      const address = server.address();
      const actual = typeof address === 'object' && address !== null ? address.port : port;
      const close = (): Promise<void> => new Promise((done) => server.close(() => done()));
      resolve({ port: actual, close });
    });
  });
}
