/** The sample whose guest moves: stops before the move and behind it, in the same program and other memory. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { useAdapter } from './adapter.ts';
import { ROOT } from './sample.ts';

const FOLDER = join(ROOT, 'examples/migration');

describe('sample migration', () => {
  const adapter = useAdapter();

  it('has its guest on both hosts when it moves, at the same place, and goes on with the same memory', async () => {
    const guest = join(FOLDER, 'guest.elf');
    const client = await adapter.launch({
      program: join(FOLDER, 'migration.elf'),
      modules: [guest],
      guests: [{ name: 'guest', program: guest }],
      stopOn: 'none',
    });
    const stopAt = (...names: string[]) =>
      client.request('setFunctionBreakpoints', { breakpoints: names.map((name) => ({ name })) });
    const stack = async (threadId: number) =>
      (await client.request('stackTrace', { threadId })).body.stackFrames.map(({ name }) => name);
    const hostOf = async (linear: string): Promise<string | undefined> =>
      (await client.request('vmxray/translate', { address: linear, space: 'guestLinear', access: 'read' })).body
        .physical;

    await stopAt('count_primes');
    await client.run('configurationDone', {});
    assert.deepEqual((await stack(1)).slice(0, 3), ['count_primes', 'guest_main', 'guest_start']);
    assert.equal(Number(await client.value('vmcs.VIRTUAL_PROCESSOR_ID')), 1);
    const table = await client.value('&is_composite[0]');
    const here = await hostOf(table);

    await stopAt('forget_guest');
    await client.run('continue');
    assert.deepEqual((await stack(1)).slice(0, 3), ['forget_guest', 'migrate', 'vmm_main']);
    const { threads } = (await client.request('threads')).body;
    const suspended = threads.filter(({ id }) => id !== 1).map(({ name }) => name.replace(/ at .*/, ''));
    assert.deepEqual(suspended, ['vCPU 1 (VPID 1), suspended', 'vCPU 2 (VPID 2), not started yet, to begin']);
    const [one, two] = await Promise.all([stack(1001), stack(1002)]);
    assert.deepEqual(one, two);

    await stopAt('count_primes');
    await client.run('continue');
    assert.equal(Number(await client.value('vmcs.VIRTUAL_PROCESSOR_ID')), 2);
    assert.notEqual(await hostOf(table), here);
    assert.equal(Number(await client.value('is_composite[91]')), 1);
    assert.equal(Number(await client.value('is_composite[97]')), 0);
    client.close();
  });
});
