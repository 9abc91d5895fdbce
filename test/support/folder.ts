import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * A folder that is there while the suite's tests and hooks run, and empty in the beginning.
 * @returns the path of a file in it; of the folder itself without a name
 */
export function useFolder(): (...names: readonly string[]) => string {
  let folder: string | undefined;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmxray-suite-'));
  });
  after(() => {
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });
  return (...names) => {
    if (folder === undefined) throw new Error('the folder is there while tests run, not while they are declared');
    return join(folder, ...names);
  };
}
