/** Ways to places of the past that take long: the session answers meanwhile, and a pause prevents them. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { Message, PlainClient } from './plain-client.ts';
import { elf64 } from './sample.ts';

const THREAD = { threadId: 1 } as const;
/** again: inc rax; mov [rsp-8], rax; jmp again */
const LOOP = [0x48, 0xff, 0xc0, 0x48, 0x89, 0x44, 0x24, 0xf8, 0xeb, 0xf6];
/** Where the run ends, in instructions: some seconds. */
const END = 1_000_000_000;
/** What an answer may take, in milliseconds: other work on the computer delays single ones. */
const PROMISE = 50;
const ON_THE_WAY = 'Stopped on the way (in the past)';

const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));
const quantile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(part * (values.length - 1))] ?? Number.NaN;

describe('a long way to a place of the past', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;
  /** Where the session stands before each way. */
  let here: number;

  const instructions = async (): Promise<number> => Number(await client.value('instructions'));

  before(async () => {
    const program = file('loop.elf');
    writeFileSync(program, elf64(LOOP));
    // One checkpoint only, so that the way back to the present is all of the run.
    client = await adapter.launch({ program, stopOn: 'none', history: { maxMemoryMB: 1 } });
    await client.request('configurationDone');
    for (here = 0; here < END; ) {
      await wait(200);
      await client.run('pause');
      here = await instructions();
      if (here < END) await client.request('continue', THREAD);
    }
  });

  /** Goes somewhere; `meanwhile` is done until the session stops. @returns the stop */
  async function travel(to: string, meanwhile: () => Promise<unknown>): Promise<Message<{ reason: string }>> {
    const stopped = client.event('stopped');
    let isOver = false;
    const stop = stopped.finally(() => {
      isOver = true;
    });
    await client.request('vmxray/travel', { ...THREAD, to });
    while (!isOver) await meanwhile();
    return stop;
  }

  it(`answers requests within ${PROMISE} ms`, async () => {
    await travel('start', async () => client.request('threads'));
    const latencies: number[] = [];
    await travel('present', async () => {
      const begun = performance.now();
      assert.equal((await client.request('threads')).body.threads.length, 1);
      latencies.push(performance.now() - begun);
      const refused = await client.request('evaluate', { expression: 'rax' });
      if (!refused.success) assert.match(refused.message ?? '', /needs a stopped machine/);
    });
    assert.equal(await instructions(), here);
    assert.ok(latencies.length > 10, `${latencies.length} answers`);
    assert.ok(quantile(latencies, 0.9) < PROMISE, `nine of ten within ${quantile(latencies, 0.9)} ms`);
  });

  it('ends where it began when it is paused', async () => {
    await travel('start', async () => client.request('threads'));
    let asked = false;
    const stop = await travel('present', async () => {
      if (!asked) await client.request('pause', THREAD);
      asked = true;
      await client.request('threads');
    });
    assert.equal(stop.body.reason, 'pause');
    assert.equal(await instructions(), 0);
    assert.equal((await client.request('vmxray/timeline')).body.present, here);
  });

  /** Runs backwards, and pauses twice. @returns what is said of the stop, milliseconds after the second pause */
  async function pauseTwice(between = 0): Promise<{ description: string | undefined; took: number }> {
    const stopped = client.event('stopped');
    await client.request('reverseContinue', THREAD);
    await wait(100);
    await client.request('pause', THREAD);
    await wait(between);
    const begun = performance.now();
    await client.request('pause', THREAD);
    const { body } = await stopped;
    return { description: body.description, took: performance.now() - begun };
  }

  it('stops where it is when it is paused again on the way back', async () => {
    await travel('present', async () => client.request('threads'));
    // The way back may be over before the second pause, or the two may come as one.
    const waits = [50, 20, 100, 10, 200];
    let stop = await pauseTwice(waits.shift());
    while (stop.description !== ON_THE_WAY && waits.length > 0) stop = await pauseTwice(waits.shift());
    assert.equal(stop.description, ON_THE_WAY);
    assert.ok(stop.took < 4 * PROMISE, `${stop.took} ms`);
    const place = await instructions();
    assert.ok(place > 0 && place < here, `at ${place}`);
    assert.equal((await client.request('vmxray/timeline')).body.present, here);
    await travel('present', async () => client.request('threads'));
  });

  it('refuses input on the way, and goes on', async () => {
    await travel('start', async () => client.request('threads'));
    const answers = new Set<boolean | undefined>();
    await travel('present', async () => {
      answers.add((await client.request('vmxray/serialInput', { data: 'x' })).success);
      answers.add((await client.request('vmxray/serialInput', { data: 'y' })).success);
    });
    assert.ok(answers.has(false));
    assert.equal(await instructions(), here);
  });
});

/** A call that takes long, in one line with something behind it, and another line. */
const LONG_CALL = `__attribute__((noinline)) static unsigned spin(unsigned n)
{
  unsigned sum = 0;
  for (unsigned i = 0; i < n; i++) __asm__ volatile("add $3, %0" : "+r"(sum));
  return sum;
}
volatile unsigned result;
void _start(void)
{
  __asm__ volatile("mov $0x180000, %rsp");
  result = spin(400000000) * 5 + 1;
  result++;
  for (;;) {}
}
`;
const LINES = { call: 11, behind: 12 } as const;

describe('a step back over a long call', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  const instructions = async (): Promise<number> => Number(await client.value('instructions'));
  const line = async (): Promise<number | undefined> =>
    (await client.body('stackTrace', { ...THREAD, levels: 1 })).stackFrames[0]?.line;

  before(async () => {
    const [source, program] = [file('long.c'), file('long.elf')];
    writeFileSync(source, LONG_CALL);
    const link = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack'];
    execFileSync('gcc', ['-g', '-O1', '-ffreestanding', '-fcf-protection=none', ...link, '-o', program, source]);
    client = await adapter.launch({ program, stopOn: 'none', history: { maxMemoryMB: 1 } });
    await client.request('setBreakpoints', { source: { path: source }, breakpoints: [{ line: LINES.behind }] });
    await client.run('configurationDone');
    await client.request('setBreakpoints', { source: { path: source }, breakpoints: [] });
  });

  it('leads back to where it began when it is paused', async () => {
    const here = await instructions();
    assert.equal(await line(), LINES.behind);
    const stopped = client.event('stopped');
    await client.request('stepBack', THREAD);
    await wait(300);
    await client.request('pause', THREAD);
    const { body } = await stopped;
    assert.equal(body.reason, 'pause');
    assert.equal(body.description, 'Given up: back where the way began');
    assert.equal(await instructions(), here);
    assert.equal(await line(), LINES.behind);
  });

  it('ends in front of the call when nobody pauses it', async () => {
    const here = await instructions();
    assert.equal((await client.run('stepBack')).body.reason, 'step');
    assert.equal(await line(), LINES.call);
    assert.ok((await instructions()) < 100);
    await client.run('next');
    assert.equal(await line(), LINES.behind);
    assert.equal(await instructions(), here);
  });
});
