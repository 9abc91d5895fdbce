/** `vmxray dap`: the debug adapter for any client. */

import { serveStdio } from '../debug-adapter/stream.ts';
import { listen } from '../debug-adapter/tcp.ts';
import { type DapOptions, UsageError } from './options.ts';

/** Serves one client on standard input and output, or clients on a port until a signal ends the process. */
export async function dap({ port }: DapOptions): Promise<number> {
  if (port === undefined) {
    await serveStdio();
    // A client may disconnect and leave the pipe open.
    process.stdin.destroy();
    return 0;
  }
  const adapter = await listen(port).catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const reason = code === 'EADDRINUSE' ? 'another program has that port' : code;
    throw new UsageError(`--port ${port}: cannot listen there: ${reason}; --port 0 takes any free port`);
  });
  // On standard output, so that a program that started this one can read the port.
  process.stdout.write(`DAP server listening on 127.0.0.1:${adapter.port}\n`);
  return new Promise(() => {});
}
