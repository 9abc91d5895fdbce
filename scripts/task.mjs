/** `node scripts/task.mjs TASK ARGUMENTS…`: installs what the task needs, then runs it under Node 24. */
import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { installNeeds, installPackages, node24, ROOT, SetupError, TEST_NEEDS } from './setup.mjs';

/** Task → the command that does it (a lone .ts or .mjs file is run by Node 24), and what must be installed for it. */
const TASKS = {
  start: { run: ['scripts/start.ts'], needs: [] },
  test: { run: ['scripts/test.ts'], needs: TEST_NEEDS },
  build: { run: ['esbuild.mjs'], needs: [] },
  'build:examples': { run: ['make', '-C', 'examples'], needs: ['gcc', 'make', 'nasm'] },
  oracle: { run: ['test/silicon/oracle.ts'], needs: ['gcc'] },
  bench: { run: ['bench/run.ts'], needs: [] },
};

function runTask(name, args) {
  const task = TASKS[name];
  if (!task) throw new SetupError(`No task "${name}". There are: ${Object.keys(TASKS).join(', ')}.`);
  installPackages();
  installNeeds(task.needs);
  const path = [join(ROOT, 'node_modules/.bin'), process.env.PATH].join(delimiter);
  const [command, ...own] = task.run.length === 1 ? [node24(), join(ROOT, task.run[0])] : task.run;
  const options = { cwd: ROOT, stdio: 'inherit', env: { ...process.env, PATH: path } };
  const result = spawnSync(command, [...own, ...args], options);
  if (result.error) throw new SetupError(`${command} cannot be started: ${result.error.message}`);
  return result.status ?? 1;
}

try {
  process.exitCode = runTask(process.argv[2], process.argv.slice(3));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
