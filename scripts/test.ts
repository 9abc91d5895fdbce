/**
 * The whole check of the project: `npm test`. Options: `--only STEP[,STEP…]`, and words that a test file's path must
 * contain, as in `npm test -- --only unit mmu`. Ends with one line: N passed, N failed, N skipped.
 */
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Counts } from '../test/reporter.ts';

interface Step {
  readonly name: string;
  readonly about: string;
  /** A program that passes or fails as one test… */
  readonly program?: readonly string[];
  /** …or mocha over the files of these patterns. */
  readonly files?: readonly string[];
  /** Folders whose files are another step's. */
  readonly except?: readonly string[];
  /** Extra arguments of mocha. */
  readonly mocha?: readonly string[];
  /** It tests what `build` made, which is made first even when only this step is asked for. */
  readonly bundles?: boolean;
}

const LAYERS = '{sim-core,debug-adapter,extension,language-server,cli,bench,syntaxes,scripts}';

const STEPS: readonly Step[] = [
  { name: 'lint', about: 'formatting and lint (Biome)', program: ['biome', 'check', '.'] },
  { name: 'types', about: 'types (TypeScript)', program: ['tsc', '--noEmit'] },
  { name: 'build', about: 'bundles (esbuild)', program: ['node', 'esbuild.mjs'] },
  {
    name: 'unit',
    about: 'unit tests beside the sources',
    files: [`${LAYERS}/**/*.test.ts`],
    mocha: ['--parallel', '--jobs', '2'],
  },
  {
    name: 'integration',
    about: 'house rules, examples and guest programs on the whole machine',
    files: ['test/*.test.ts', 'test/{system,variables}/**/*.test.ts', 'test/{silicon,fuzz}/*.test.ts'],
    mocha: ['--parallel', '--jobs', '2'],
  },
  { name: 'linux', about: "Debian's kernel, from its loader to power-off", files: ['test/linux/*.test.ts'] },
  // One at a time: these measure latencies.
  { name: 'dap', about: 'debug adapter through its protocol', files: ['test/dap/**/*.test.ts'], bundles: true },
  { name: 'vscode', about: 'extension in a real VS Code', files: ['test/vscode/*.test.ts'], bundles: true },
  { name: 'ui', about: 'workbench driven as a person would', files: ['test/vscode/ui/*.test.ts'], bundles: true },
];

const FAILED: Counts = { passed: 0, failed: 1, skipped: 0 };

function run([command = '', ...args]: readonly string[], env: NodeJS.ProcessEnv): boolean {
  const result = spawnSync(command, args, { stdio: 'inherit', env });
  if (result.error) console.error(`${command}: ${result.error.message}`);
  return result.status === 0;
}

/** Mocha reports its counts in a file; without one it did not come to its end, which is one failure. */
function runMocha(step: Step, files: readonly string[], folder: string): Counts {
  const counts = join(folder, `${step.name}.json`);
  // A failed test may leave a session or a server behind, which must not keep the run from ending.
  const mocha = [
    'node',
    'node_modules/mocha/bin/mocha.js',
    '--reporter',
    'test/reporter.ts',
    '--forbid-only',
    '--exit',
  ];
  const ok = run([...mocha, ...(step.mocha ?? []), ...files], { ...process.env, VMXRAY_COUNTS: counts });
  try {
    const result: Counts = JSON.parse(readFileSync(counts, 'utf8'));
    return ok || result.failed > 0 ? result : { ...result, failed: 1 };
  } catch {
    return FAILED;
  }
}

function runStep(step: Step, words: readonly string[], folder: string): Counts {
  if (step.program) return run(step.program, process.env) ? { passed: 1, failed: 0, skipped: 0 } : FAILED;
  const files = globSync([...(step.files ?? [])], { exclude: [...(step.except ?? [])] }).filter((file) =>
    words.every((word) => file.includes(word)),
  );
  if (files.length === 0) {
    console.log('no test files');
    return { passed: 0, failed: 0, skipped: 0 };
  }
  return runMocha(step, files.sort(), folder);
}

function selectSteps(only: string | undefined): readonly Step[] {
  if (!only) return STEPS;
  const names = only.split(',');
  const unknown = names.find((name) => !STEPS.some((step) => step.name === name));
  if (unknown) throw new Error(`No step "${unknown}". There are: ${STEPS.map((step) => step.name).join(', ')}.`);
  const chosen = STEPS.filter((step) => names.includes(step.name));
  const build = chosen.some((step) => step.bundles) ? ['build'] : [];
  return STEPS.filter((step) => [...build, ...names].includes(step.name));
}

function runAll(steps: readonly Step[], words: readonly string[]): Counts {
  const folder = mkdtempSync(join(tmpdir(), 'vmxray-test-'));
  const total = { passed: 0, failed: 0, skipped: 0 };
  const lines = steps.map((step) => {
    console.log(`\n=== ${step.name}: ${step.about}`);
    const start = performance.now();
    const counts = runStep(step, words, folder);
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    return [step.name.padEnd(12), `${counts.failed === 0 ? 'ok  ' : 'FAIL'}`, `${seconds} s`].join(' ');
  });
  rmSync(folder, { recursive: true });
  console.log(`\n${lines.join('\n')}\n`);
  return total;
}

const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true });
const { passed, failed, skipped } = runAll(selectSteps(values.only), positionals);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
