/** TCP servers for programs on this computer. */

import type { Server } from 'node:net';
import { UsageError } from './options.ts';

/** Only this computer may connect: clients may read and change everything. */
export const LOOPBACK = '127.0.0.1';

/** What the user reads when a port cannot be had. */
export function listeningProblem(port: number, error: unknown): UsageError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  const reason = code === 'EADDRINUSE' ? 'another program has that port' : code;
  return new UsageError(`--port ${port}: cannot listen there: ${reason}; --port 0 takes any free port`);
}

/** @param port 0: any free one @returns the port. @throws UsageError when it cannot be had */
export function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listeningProblem(port, error)));
    server.listen(port, LOOPBACK, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}
