import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { assemble, KERNELS, type Kernel } from '../system/kernels.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';

/** Where the kernel's start-up IPIs start processors 1 to 3: MOV AX, CS. */
const START = 0x8000;
const SECOND = START + 2;
/** Where processors wait for their start. */
const RESET = 0xffff_fff0;

describe('threads for processors', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  before(async () => {
    const program = file('smp.elf');
    writeFileSync(program, assemble(KERNELS.find(({ name }) => name === 'smp') as Kernel));
    const machine = { memory: '64M', cpus: 4 };
    client = await adapter.launch({ program, stopOn: 'none', machine });
    await client.request('setInstructionBreakpoints', { breakpoints: [{ instructionReference: `vmm:${START}` }] });
  });

  /** The top frame's address. */
  const addressOf = async (threadId: number): Promise<number> => {
    const { body } = await client.request('stackTrace', { threadId });
    return Number(body.stackFrames[0]?.instructionPointerReference?.replace(/^vmm:/, ''));
  };
  const frameOf = async (threadId: number): Promise<number> =>
    (await client.request('stackTrace', { threadId })).body.stackFrames[0]?.id ?? 0;
  const read = async (expression: string, frameId: number): Promise<number> =>
    Number(await client.value(expression, frameId));

  it('stop where a processor meets a breakpoint, all of them', async () => {
    const { body } = await client.run('configurationDone');
    assert.deepEqual([body.reason, body.threadId, body.allThreadsStopped], ['breakpoint', 2, true]);
    assert.equal(await addressOf(2), START);
  });

  it('are one for each processor', async () => {
    const { body } = await client.request('threads');
    assert.deepEqual(
      body.threads.map(({ id, name }: { id: number; name: string }) => `${id} ${name}`),
      ['1 Processor 0', '2 Processor 1', '3 Processor 2', '4 Processor 3'],
    );
    assert.ok((await addressOf(1)) > 0x10_0000);
    const unknown = await client.request('stackTrace', { threadId: 5 });
    assert.match(unknown.message ?? '', /no processor 5/);
  });

  it('have registers of their own, in whatever order they are asked', async () => {
    const [first, second] = [await frameOf(1), await frameOf(2)];
    assert.equal(await read('cs', second), START >> 4);
    assert.notEqual(await read('cs', first), START >> 4);
    assert.equal(await read('rip', second), 0);
  });

  it('are stepped one by one', async () => {
    const { body } = await client.run('stepIn', { threadId: 2, granularity: 'instruction' });
    assert.deepEqual([body.reason, body.threadId], ['step', 2]);
    assert.equal(await addressOf(2), SECOND);
    assert.equal(await addressOf(3), RESET, 'the other one that was started has not had its turn');
  });

  it('go on together', async () => {
    const { body } = await client.run('continue', { threadId: 2 });
    assert.deepEqual([body.reason, body.threadId], ['breakpoint', 3]);
  });
});
