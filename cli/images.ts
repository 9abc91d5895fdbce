/** The files that a run boots from. */

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { BootModule, BootRequest } from '../sim-core/loaders/boot-request.ts';
import { type RunOptions, UsageError } from './options.ts';

/** Error codes of the operating system in words. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'that is a folder',
  EACCES: 'you have no permission to read it',
  EIO: 'reading it fails',
};

/** @throws UsageError that says which file and why. */
export function readInput(file: string, what: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new UsageError(`cannot read the ${what} ${file}: ${REASONS[reason] ?? reason}`);
  }
}

/** 'FILE args': the whole text is the module's command line, as QEMU's -initrd passes it. */
function readModule(text: string): BootModule {
  const file = existsSync(text) ? text : (text.split(' ')[0] ?? '');
  return { name: path.basename(file), bytes: readInput(file, 'module'), commandLine: text };
}

/** @throws UsageError for files that cannot be read */
export const bootRequestOf = (options: RunOptions): BootRequest => ({
  name: options.image,
  image: readInput(options.image, 'image'),
  commandLine: options.commandLine,
  modules: options.modules.map(readModule),
  format: options.format,
});
