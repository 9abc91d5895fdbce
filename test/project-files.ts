import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');

/** Paths, relative to the top, of the project's own files: those in git and those that could be added. */
export function projectFiles(): string[] {
  const list = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: ROOT });
  return list
    .toString()
    .split('\n')
    .filter((path) => path !== '' && existsSync(join(ROOT, path)));
}

/** @param path relative to the top */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/**
 * Source without its comments, so that rules about code do not see prose. Strings keep their text: one that holds `//`
 * loses its end, which no rule here minds.
 */
export function stripComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}

/** Fails with one line for each thing that breaks a rule. */
export function assertNone(found: readonly string[]): void {
  if (found.length > 0) assert.fail(`\n${found.join('\n')}\n`);
}

/** Path of a file among the test artefacts (screenshots, logs), which stay after the run. */
export function artifact(name: string): string {
  const folder = join(ROOT, 'test/artifacts');
  mkdirSync(folder, { recursive: true });
  return join(folder, name);
}
