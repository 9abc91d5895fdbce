import { serveStream } from './stream.ts';

/** Serves the DAP client that started this process. Nothing else may write to standard output. */
export const serveStdio = (): Promise<void> => serveStream(process.stdin, process.stdout);
