/** `vmxray dap`: the debug adapter for any client. */

import { serveStdio } from '../debug-adapter/connection/stream.ts';
import { listen } from '../debug-adapter/connection/tcp.ts';
import { listeningProblem } from './listening.ts';
import type { DapOptions } from './options.ts';

/** Serves one client on standard input and output, or clients on a port until a signal ends the process. */
export async function dap({ port }: DapOptions): Promise<number> {
  if (port === undefined) {
    await serveStdio();
    // A client may disconnect and leave the pipe open.
    process.stdin.destroy();
    return 0;
  }
  const adapter = await listen(port).catch((error: unknown) => {
    throw listeningProblem(port, error);
  });
  // On standard output, so that a program that started this one can read the port.
  process.stdout.write(`DAP server listening on 127.0.0.1:${adapter.port}\n`);
  return new Promise(() => {});
}
