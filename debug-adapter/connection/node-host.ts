import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { FileReader } from '../protocol.ts';
import { type InlineAdapter, nodeWorkerPort, workerAdapter } from './inline.ts';

/** Files for adapters that run on this computer. */
export const NODE_FILES: FileReader = {
  readFile: async (path) => {
    try {
      return new Uint8Array(await readFile(path));
    } catch (error) {
      throw new Error(FILE_PROBLEMS[(error as NodeJS.ErrnoException).code ?? ''] ?? String(error));
    }
  },
};

const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'access is denied',
  EISDIR: 'it is a folder',
};

/** The worker's file: beside this module as source, beside the bundle in dist/. */
const workerFile = (): URL =>
  new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './adapter-worker.cjs', import.meta.url);

/** A debug adapter in a thread of its own. */
export function startNodeAdapter(files: FileReader = NODE_FILES): InlineAdapter {
  return workerAdapter(nodeWorkerPort(new Worker(workerFile())), files);
}
