/** Several programs in several worlds: two guests at the same linear addresses, and what is known of who waits. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { ROOT, twoGuests } from './sample.ts';

const SOURCES = join(ROOT, 'examples/two-guests');

describe('two guests on one processor', () => {
  const adapter = useAdapter();

  /** Launched with function breakpoints, and stopped at the first that is hit. */
  async function stoppedAt(...names: string[]): Promise<PlainClient> {
    const client = await adapter.launch(twoGuests());
    await client.request('setFunctionBreakpoints', { breakpoints: names.map((name) => ({ name })) });
    await client.run('configurationDone', {});
    return client;
  }

  const threads = async (client: PlainClient): Promise<string[]> =>
    (await client.request('threads')).body.threads.map(({ name }) => name.replace(/\+0x\w+$/, '+…'));
  const stack = async (client: PlainClient, threadId: number) =>
    (await client.request('stackTrace', { threadId })).body.stackFrames;
  const names = async (client: PlainClient, threadId: number): Promise<string[]> =>
    (await stack(client, threadId)).map(({ name }) => name);

  it('stops in the guest whose program has the breakpoint, though the other has code at the address', async () => {
    const client = await stoppedAt('steps_from');
    assert.deepEqual((await names(client, 1)).slice(0, 4), [
      'steps_from',
      'longest_start',
      'guest_main',
      'guest_start',
    ]);
    assert.equal(await client.value('vmcs.VIRTUAL_PROCESSOR_ID'), '2');
  });

  it('shows the guest that waits as a thread with its stack, registers, memory and code', async () => {
    const client = await stoppedAt('steps_from');
    assert.deepEqual(await threads(client), ['Processor 0', 'vCPU 1 (VPID 1), suspended at is_prime+…']);
    const frames = await stack(client, 1001);
    assert.deepEqual(
      frames.map(({ name, source }) => [name, source?.path]),
      [
        ['is_prime', join(SOURCES, 'primes.c')],
        ['count_primes', join(SOURCES, 'primes.c')],
        ['guest_main', join(SOURCES, 'primes.c')],
        ['guest_start', join(ROOT, 'examples/first-vmm/guest/entry.S')],
      ],
    );
    const frameId = frames[0]?.id;
    const reference = frames[0]?.instructionPointerReference ?? '';
    assert.match(reference, /^vcpu1:0x400\w+$/);
    const value = async (expression: string): Promise<bigint> => BigInt(await client.value(expression, frameId));
    assert.equal(await value('rip'), BigInt(reference.replace('vcpu1:', '')));
    // is_prime divides by ECX as long as that is below EDI, its argument.
    assert.ok((await value('rdi')) > 2n && (await value('rdi')) < 2000n);
    // Its own memory: `cmp` and so on of is_prime, where the guest that runs has other code.
    const read = async (memoryReference: string): Promise<string> =>
      (await client.request('readMemory', { memoryReference, count: 64 })).body.data ?? '';
    const { body } = await client.request('disassemble', { memoryReference: reference, instructionCount: 1 });
    assert.notEqual(body.instructions[0]?.presentationHint, 'invalid');
    assert.equal(body.instructions[0]?.location?.path, join(SOURCES, 'primes.c'));
    const address = '0x40001000';
    assert.notEqual(await read('vcpu1:0x40204000'), undefined);
    assert.equal(await read(`vcpu1:${address}`), await read(`guest:${address}`), 'page tables are the same');
  });

  it('knows both when the hypervisor runs, and a guest that has not begun', async () => {
    const client = await stoppedAt('take_turn');
    assert.deepEqual(await threads(client), [
      'Processor 0',
      'vCPU 1 (VPID 1), not started yet, to begin at guest_start',
      'vCPU 2 (VPID 2), not started yet, to begin at guest_start',
    ]);
    await client.run('continue', { threadId: 1 });
    const [, first, second] = await threads(client);
    assert.match(first ?? '', /^vCPU 1 \(VPID 1\), suspended at \w+/);
    assert.match(second ?? '', /^vCPU 2 \(VPID 2\), not started yet/);
    await client.run('continue', { threadId: 1 });
    assert.match((await threads(client))[2] ?? '', /^vCPU 2 \(VPID 2\), suspended at \w+/);
    assert.deepEqual(await names(client, 1002).then((list) => list.slice(-2)), ['guest_main', 'guest_start']);
  });

  it('does not step what does not run, and goes on when asked to from there', async () => {
    const client = await stoppedAt('steps_from');
    for (const command of ['next', 'stepIn', 'stepOut', 'stepBack']) {
      const answer = await client.request(command, { threadId: 1001 });
      assert.equal(answer.success, false);
      assert.match(answer.message ?? '', /vCPU 1 \(VPID 1\), suspended at is_prime.*step the processor/);
    }
    assert.equal((await client.request('stackTrace', { threadId: 1007 })).success, false);
    assert.equal((await client.request('setVariable', {})).success, false);
    await client.run('continue', { threadId: 1001 });
    assert.equal((await names(client, 1))[0], 'steps_from');
  });

  it('steps over a call in one guest while the other takes its turns', async () => {
    const client = await stoppedAt('count_primes');
    await client.request('setFunctionBreakpoints', { breakpoints: [] });
    await client.run('stepOut', { threadId: 1 });
    assert.equal((await names(client, 1))[0], 'guest_main');
    assert.equal(await client.value('vmcs.VIRTUAL_PROCESSOR_ID'), '1');
    assert.equal(await client.value('rax'), '0x12f');
  });

  it('leads the stack at a VM exit in the middle of a function on to its callers, and then to the guest', async () => {
    const client = await stoppedAt('steps_from');
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'vm_exit_entry' }] });
    await client.run('continue', { threadId: 1 });
    assert.deepEqual(await names(client, 1), [
      'run_vcpu',
      'take_turn',
      'schedule',
      'vmm_main',
      'start_64',
      'VM exit: VMX-preemption timer',
      ...(await names(client, 1002)),
    ]);
  });

  it('lists the programs with where their symbols hold', async () => {
    const client = await stoppedAt('take_turn');
    const { body } = await client.request('modules', {});
    assert.deepEqual(
      body.modules.map(({ name, version }) => [name, version]),
      [
        ['primes', 'guest, VPID 1'],
        ['collatz', 'guest, VPID 2'],
        ['two-guests.elf', 'VMM'],
      ],
    );
  });
});
