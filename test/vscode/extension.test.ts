/**
 * The suite inside VS Code (suite/), run once; each of its tests becomes one here. VMXRAY_VSCODE names a desktop one
 * to run it in; without it the VS Code server stands in.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runTests } from '@vscode/test-electron';
import { ROOT } from '../project-files.ts';
import type { TestResult } from './host.ts';

async function runSuite(): Promise<TestResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-results-'));
  const file = join(folder, 'results.json');
  try {
    await runTests({
      vscodeExecutablePath: process.env.VMXRAY_VSCODE ?? join(import.meta.dirname, 'launcher.ts'),
      extensionDevelopmentPath: ROOT,
      extensionTestsPath: join(ROOT, 'dist/test/host.cjs'),
      extensionTestsEnv: { VMXRAY_RESULTS: file },
      launchArgs: [join(ROOT, 'examples/first-vmm')],
    }).catch(() => console.error('The tests in VS Code failed; its console is in test/artifacts/vscode-console.log.'));
    return JSON.parse(readFileSync(file, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const results = await runSuite();

describe('inside VS Code', () => {
  for (const { title, state, error } of results) {
    it(title, function () {
      if (state === 'pending') this.skip();
      if (error) throw new Error(error);
    });
  }
});
