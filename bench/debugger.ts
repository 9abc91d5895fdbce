/** `npm run bench -- --debugger`: how long a person waits for the debugger, through the adapter over TCP. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type BodyOf, PlainClient } from '../test/dap/plain-client.ts';

const ROOT = path.join(import.meta.dirname, '..');
const SAMPLE = path.join(ROOT, 'examples/first-vmm');
const LAUNCH = {
  program: path.join(SAMPLE, 'first-vmm.elf'),
  modules: [path.join(SAMPLE, 'guest.elf')],
  guests: [{ name: 'guest', program: path.join(SAMPLE, 'guest.elf') }],
};
const THREAD = 1;
const LAUNCHES = 5;
/** Steps before those that are measured: compilers warm up. */
const WARM_UP = 30;
const STEPS = 500;

/** Milliseconds. */
type Times = readonly number[];

interface Row {
  readonly what: string;
  readonly result: string;
}

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const before = performance.now();
  await work();
  return performance.now() - before;
};

/** The time that so many of a hundred do not exceed. */
function percentile(times: Times, percent: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN;
}

const milliseconds = (time: number): string => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;
const spread = (times: Times): string =>
  `p50 ${milliseconds(percentile(times, 50))}, p99 ${milliseconds(percentile(times, 99))} (${times.length})`;

function startAdapter(): Promise<{ process: ChildProcess; port: number }> {
  const server = spawn(process.execPath, [path.join(ROOT, 'cli/main.ts'), 'dap', '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    let text = '';
    server.once('exit', (status) => reject(new Error(`the adapter ended with ${status}`)));
    server.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const found = /listening on 127\.0\.0\.1:(\d+)/.exec(text);
      if (found) resolve({ process: server, port: Number(found[1]) });
    });
  });
}

/** A session at its first stop. */
async function launch(port: number, breakpoint?: string): Promise<PlainClient> {
  const client = await PlainClient.connect(port);
  await client.request('initialize', { adapterID: 'vmxray' });
  const initialized = client.event('initialized');
  const response = await client.request('launch', LAUNCH);
  if (!response.success) throw new Error(response.message);
  await initialized;
  if (breakpoint !== undefined) await client.request('setFunctionBreakpoints', { breakpoints: [{ name: breakpoint }] });
  await client.run('configurationDone', {});
  return client;
}

type Reading = (client: PlainClient) => Promise<number>;

/** What an editor asks for at a stop: the stack, and every variable of the first frame's scopes. @returns how many */
async function readStop(client: PlainClient): Promise<number> {
  let count = 0;
  for (const { variablesReference } of await scopesOf(client)) {
    count += (await client.request('variables', { variablesReference })).body.variables.length;
  }
  return count;
}

/** The same with all scopes asked for at once, as VS Code does, in place of one after the other. */
async function readTogether(client: PlainClient): Promise<number> {
  const asked = (await scopesOf(client)).map(({ variablesReference }) =>
    client.request('variables', { variablesReference }),
  );
  return (await Promise.all(asked)).reduce((sum, { body }) => sum + body.variables.length, 0);
}

async function scopesOf(client: PlainClient): Promise<BodyOf<'scopes'>['scopes']> {
  const { stackFrames } = (await client.request('stackTrace', { threadId: THREAD })).body;
  return (await client.request('scopes', { frameId: stackFrames[0]?.id })).body.scopes;
}

interface StepTimes {
  readonly alone: number[];
  readonly withScopes: number[];
}

async function steps(client: PlainClient, command: string, number: number, read: Reading): Promise<StepTimes> {
  const times: StepTimes = { alone: [], withScopes: [] };
  for (let i = 0; i < number; i++) {
    const before = performance.now();
    const stop = await client.run(command, { threadId: THREAD, granularity: 'instruction' });
    times.alone.push(performance.now() - before);
    if (stop.event !== 'stopped') throw new Error(`${command} ended the session`);
    await read(client);
    times.withScopes.push(performance.now() - before);
    // Messages that are kept would have the client's own garbage collector in the times.
    client.received.length = 0;
  }
  return times;
}

/** Of a process in MiB: the largest that it ever was. Linux only. */
function memory(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) / 1024);
}

/** The process that has the session which is open. Linux only. */
function sessionProcess(listener: number | undefined): number {
  const children = readFileSync(`/proc/${listener}/task/${listener}/children`, 'utf8').trim().split(' ');
  return Number(children.at(-1));
}

/** Processor time in milliseconds that a process's threads have had, but for those that have ended. Linux only. */
function processorTime(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/schedstat`);
  const nanoseconds = threads.map((file) => Number(readFileSync(file, 'utf8').split(' ')[0]));
  return nanoseconds.reduce((sum, time) => sum + time, 0) / 1e6;
}

async function measure(port: number, listener: number | undefined): Promise<Row[]> {
  const launches: number[] = [];
  for (let i = 0; i < LAUNCHES; i++) {
    const time = await timed(async () => (await launch(port)).close());
    launches.push(time);
  }
  const client = await launch(port, 'handle_cpuid');
  await client.run('continue');
  await steps(client, 'stepIn', WARM_UP, readStop);
  const pid = sessionProcess(listener);
  const before = processorTime(pid);
  const forwards = await steps(client, 'stepIn', STEPS, readStop);
  const processor = (processorTime(pid) - before) / STEPS;
  const together = await steps(client, 'stepIn', STEPS, readTogether);
  const variables = await readStop(client);
  const reads: number[] = [];
  for (let i = 0; i < STEPS; i++) reads.push(await timed(() => readStop(client)));
  const lines: number[] = [];
  for (let i = 0; i < STEPS / 5; i++) lines.push(await timed(() => client.run('stepIn', { threadId: THREAD })));
  const rows: Row[] = [
    { what: `connecting to first stop (${LAUNCHES} sessions)`, result: milliseconds(percentile(launches, 50)) },
    { what: 'instruction step, request to `stopped`', result: spread(forwards.alone) },
    { what: 'instruction step, then stack and all scopes read', result: spread(forwards.withScopes) },
    { what: 'the same, processor time of the adapter', result: milliseconds(processor) },
    { what: 'instruction step, then the stack, and all scopes at once', result: spread(together.withScopes) },
    { what: `stack and all scopes of a stop (${variables} variables)`, result: spread(reads) },
    { what: 'step into by line, request to `stopped`', result: spread(lines) },
  ];
  const beforeBack = processorTime(pid);
  const backwards = await steps(client, 'stepBack', STEPS / 5, readStop);
  const processorBack = ((processorTime(pid) - beforeBack) / STEPS) * 5;
  rows.push(
    { what: 'an instruction step backwards with all scopes, processor time', result: milliseconds(processorBack) },
    { what: 'instruction step backwards, request to `stopped`', result: spread(backwards.alone) },
    { what: 'instruction step backwards, then stack and all scopes read', result: spread(backwards.withScopes) },
    { what: 'largest memory of the process that listens', result: `${memory(listener)} MiB` },
    { what: 'of a session with 256 MiB of guest RAM, in its own process', result: `${memory(pid)} MiB` },
  );
  await client.request('disconnect');
  return rows;
}

/** @returns a Markdown table */
export async function measureDebugger(): Promise<string> {
  const started = performance.now();
  const adapter = await startAdapter();
  const start = performance.now() - started;
  try {
    const rows = [
      { what: 'start of `vmxray dap` until it listens', result: milliseconds(start) },
      ...(await measure(adapter.port, adapter.process.pid)),
    ];
    const body = rows.map(({ what, result }) => `| ${what} | ${result} |\n`);
    return `| what | time |\n| --- | --- |\n${body.join('')}`;
  } finally {
    adapter.process.removeAllListeners('exit').kill();
  }
}
