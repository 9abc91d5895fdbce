/** Call stacks that cross exceptions, and code of which nothing is known. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { FIRST_VMM, firstVmm, ROOT } from './sample.ts';

const GUEST = join(FIRST_VMM, 'guest.elf');

describe('call stacks', () => {
  const adapter = useAdapter();
  const file = useFolder();

  const launched = (more: Partial<LaunchArguments>): Promise<PlainClient> => adapter.launch(firstVmm(more));

  /** Names in the guest's stack in its #GP handler. */
  async function inHandler(guest: string): Promise<string[]> {
    const client = await launched({ guests: [{ name: 'guest', program: guest }], stopOn: 'none' });
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'general_protection_handler' }] });
    await client.run('configurationDone', {});
    const { body } = await client.request('stackTrace', { threadId: 1 });
    client.close();
    const names = body.stackFrames.map(({ name }) => name);
    return names.slice(0, names.indexOf('VMM, entered by VM exits'));
  }

  const STACK = [
    'general_protection_handler',
    'Exception or interrupt',
    'rdmsr',
    'use_msrs',
    'guest_main',
    'guest_start',
  ];

  it('go on at the instruction that an exception has interrupted, by the handler’s call-frame information', async () => {
    assert.deepEqual(await inHandler(GUEST), STACK);
  });

  it('find what an exception has pushed without such information, by the handler’s IRETQ', async () => {
    const bare = file('bare.elf');
    execFileSync('objcopy', ['--remove-section=.debug_frame', GUEST, bare]);
    assert.deepEqual(await inHandler(bare), STACK);
  });

  it('have functions that have ended by calling another one, with what they were called with', async () => {
    const program = file('tails.elf');
    const sources = ['start.S', 'tail-calls.c'].map((file) => join(ROOT, 'test/variables', file));
    const options = ['-g', '-O2', '-fno-inline', '-fno-ipa-cp', '-ffreestanding', '-fno-stack-protector'];
    const link = ['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext-segment=0x200000,--build-id=none'];
    execFileSync('gcc', [...options, ...link, '-o', program, ...sources]);
    const client = await adapter.connect();
    await client.request('initialize', { adapterID: 'vmxray' });
    await client.request('launch', { program, stopOn: 'none' });
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'leaf' }] });
    await client.run('configurationDone', {});
    const { stackFrames } = (await client.request('stackTrace', { threadId: 1 })).body;
    assert.deepEqual(
      stackFrames.map(({ name }) => name),
      ['leaf', 'middle (tail call)', 'outer (tail call)', 'work', 'main', '_start'],
    );
    // The first round: outer is called with 0, and adds 1.
    const values = [1, 2].map(async (index) => {
      const { id: frameId } = stackFrames[index] ?? { id: 0 };
      return (await client.request('evaluate', { expression: 'x', frameId, context: 'watch' })).body.result;
    });
    assert.deepEqual(await Promise.all(values), ['1', '0']);
  });

  it('are names of functions that are called where there are no symbols', async () => {
    const client = await launched({ guests: [], stopOn: 'vmlaunch' });
    await client.run('configurationDone', {});
    const disassemble = async (memoryReference: string, instructionOffset: number, instructionCount: number) =>
      (await client.request('disassemble', { memoryReference, instructionOffset, instructionCount })).body.instructions;
    const lines = await disassemble('guest:0x40005000', 0, 40);
    const called = lines.flatMap(({ instruction }) => /^call 0x(\w+)/.exec(instruction)?.[1] ?? []);
    const named = lines.filter(({ symbol }) => symbol !== undefined);
    assert.ok(called.length >= 2, 'guest_start calls two functions');
    assert.deepEqual(
      named.map(({ address, symbol }) => [symbol, address]),
      named.map(({ address }) => [`sub_${address.slice(2)}`, address]),
    );
    assert.ok(named.some(({ address }) => called.includes(address.slice(2))));
    // The line before a called function ends where it begins.
    const [before, first] = await disassemble(`guest:0x${called[0]}`, -1, 2);
    assert.equal(first?.address, `0x${called[0]}`);
    const length = before?.instructionBytes?.split(' ').length ?? 0;
    assert.equal(BigInt(before?.address ?? 0) + BigInt(length), BigInt(first?.address ?? 0));
  });
});
