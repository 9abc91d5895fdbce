/** Runs inside VS Code's extension host: mocha over the bundles of suite/, which are in dist/test/suite. */
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Mocha from 'mocha';

/** What the process outside learns about one test. */
export interface TestResult {
  readonly title: string;
  readonly state: 'passed' | 'failed' | 'pending';
  /** Why it failed. */
  readonly error?: string;
}

const SUITE = fileURLToPath(new URL('suite', import.meta.url));

/** VS Code calls this. The results go into the file that VMXRAY_RESULTS names. */
export async function run(): Promise<void> {
  const mocha = new Mocha({ ui: 'bdd', timeout: 60_000, reporter: Mocha.reporters.Base });
  for (const file of globSync('**/*.test.cjs', { cwd: SUITE }).sort()) mocha.addFile(join(SUITE, file));
  const results: TestResult[] = [];
  const failures = await new Promise<number>((resolve) => {
    const runner = mocha.run(resolve);
    const { EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING } = Mocha.Runner.constants;
    runner.on(EVENT_TEST_PASS, (test) => results.push({ title: test.fullTitle(), state: 'passed' }));
    runner.on(EVENT_TEST_PENDING, (test) => results.push({ title: test.fullTitle(), state: 'pending' }));
    runner.on(EVENT_TEST_FAIL, (test, error) => {
      results.push({ title: test.fullTitle(), state: 'failed', error: error.stack ?? error.message });
    });
  });
  const file = process.env.VMXRAY_RESULTS;
  if (file) writeFileSync(file, JSON.stringify(results));
  if (failures > 0) throw new Error(`${failures} tests failed`);
}
