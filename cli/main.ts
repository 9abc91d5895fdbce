/** The `vmxray` command. */

import { readFileSync } from 'node:fs';
import { ImageError } from '../sim-core/loaders/image-error.ts';
import { EXIT_STATUS } from './exit-status.ts';
import {
  HELP,
  parseDap,
  parseGdb,
  parseReplay,
  parseRun,
  parseSnapshotCommand,
  parseTrace,
  UsageError,
} from './options.ts';

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

/** Each command takes its arguments and gives the exit status; its parts are loaded when it is the one. */
const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  run: async (args) => {
    const options = parseRun(args);
    if (options.verify) return (await import('./verify.ts')).verify(options);
    const { run } = await import('./run.ts');
    return run(options);
  },
  replay: async (args) => {
    const file = parseReplay(args);
    const { replay } = await import('./replay.ts');
    return replay(file);
  },
  dap: async (args) => {
    const options = parseDap(args);
    const { dap } = await import('./dap.ts');
    return dap(options);
  },
  trace: async (args) => {
    const options = parseTrace(args);
    const { trace } = await import('./trace.ts');
    return trace(options);
  },
  gdb: async (args) => {
    const options = parseGdb(args);
    const { gdb } = await import('./gdb.ts');
    return gdb(options);
  },
  snapshot: async (args) => {
    const options = parseSnapshotCommand(args);
    const { saveSnapshot } = await import('./run.ts');
    return saveSnapshot(options);
  },
};

async function main(args: readonly string[]): Promise<number> {
  const [command = '--help', ...rest] = args;
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (command === '--version') {
    process.stdout.write(`vmxray ${version()}\n`);
    return 0;
  }
  const action = COMMANDS[command];
  if (action) return action(rest);
  const problem = command === '--help' ? 'no command is given' : `there is no command '${command}'`;
  throw new UsageError(`${problem}; choose from ${Object.keys(COMMANDS).join(', ')}, or see vmxray --help`);
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    const expected = error instanceof UsageError || error instanceof ImageError;
    // Errors of the simulator itself are for its authors: the whole story.
    const text = error instanceof Error ? ((expected ? error.message : error.stack) ?? error.message) : String(error);
    process.stderr.write(`vmxray: ${text}\n`);
    process.exitCode = expected ? EXIT_STATUS.usage.status : EXIT_STATUS.internal.status;
  },
);
