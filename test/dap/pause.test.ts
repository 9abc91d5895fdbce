import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { useFolder } from '../support/folder.ts';
import { HALT, idleImage, TICK } from '../support/idle-guest.ts';
import { useAdapter } from './adapter.ts';
import { elf64, firstVmm } from './sample.ts';

/** What the issue promises for `pause`, in milliseconds. */
const PROMISE = 100;
const TRIES = 9;

/** Machine code that never ends, of different costs per instruction. */
const SPINNERS: Readonly<Record<string, readonly number[]>> = {
  'jmp to itself': [0xeb, 0xfe],
  // again: inc rax; mov [rsp-8], rax; jmp again
  'a loop that writes memory': [0x48, 0xff, 0xc0, 0x48, 0x89, 0x44, 0x24, 0xf8, 0xeb, 0xf6],
  // again: xor eax, eax; cpuid; jmp again
  'a loop of slow instructions': [0x31, 0xc0, 0x0f, 0xa2, 0xeb, 0xfa],
};

/** Other work on the computer may delay a single answer. */
const medianOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[(values.length - 1) / 2] ?? Number.NaN;
const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe('pause while the machine spins', () => {
  const adapter = useAdapter();
  const file = useFolder();

  for (const [name, code] of Object.entries(SPINNERS)) {
    it(`stops within ${PROMISE} ms in ${name}`, async () => {
      const program = file('spin.elf');
      writeFileSync(program, elf64(code));
      const client = await adapter.launch({ program, stopOn: 'none' });
      await client.request('configurationDone');
      const latencies: number[] = [];
      for (let round = 0; round < TRIES; round++) {
        await wait(60);
        const begun = performance.now();
        const stop = await client.run('pause');
        latencies.push(performance.now() - begun);
        assert.equal(stop.body.reason, 'pause');
        await client.request('continue', { threadId: 1 });
      }
      client.close();
      assert.ok(
        medianOf(latencies) < PROMISE,
        `latencies in ms: ${latencies.map((value) => value.toFixed(1)).join(' ')}`,
      );
    });
  }

  it(`stops within ${PROMISE} ms when a guest spins under EPT`, async () => {
    const client = await adapter.launch(firstVmm({ stopOn: 'vmlaunch' }));
    await client.run('configurationDone', {});
    const jumpToItself = Buffer.from([0xeb, 0xfe]).toString('base64');
    const rip = await client.value('rip');
    const written = await client.request('writeMemory', { memoryReference: `guest:${rip}`, data: jumpToItself });
    assert.equal(written.success, true, written.message);
    const latencies: number[] = [];
    for (let round = 0; round < TRIES; round++) {
      await client.request('continue', { threadId: 1 });
      await wait(60);
      const begun = performance.now();
      await client.run('pause');
      latencies.push(performance.now() - begun);
      const stack = await client.request('stackTrace', { threadId: 1, levels: 1 });
      assert.equal(stack.body.stackFrames[0]?.instructionPointerReference, `guest:${rip}`);
    }
    client.close();
    assert.ok(
      medianOf(latencies) < PROMISE,
      `latencies in ms: ${latencies.map((value) => value.toFixed(1)).join(' ')}`,
    );
  });

  it('answers other requests while the machine runs', async () => {
    const program = file('spin.elf');
    writeFileSync(program, elf64([0xeb, 0xfe]));
    const client = await adapter.launch({ program, stopOn: 'none' });
    await client.request('configurationDone');
    assert.equal((await client.request('threads')).success, true);
    const stack = await client.request('stackTrace', { threadId: 1 });
    assert.equal(stack.success, false);
    assert.match(stack.message ?? '', /needs a stopped machine. Send 'pause' first/);
    // A breakpoint set while it runs is hit.
    const stop = client.event('stopped');
    const reference = { instructionReference: '0x100078' };
    await client.request('setInstructionBreakpoints', { breakpoints: [reference] });
    assert.equal((await stop).body.reason, 'breakpoint');
  });

  it('stops an idle guest, whose clock has not run ahead of the computer’s by more than the second that flies', async () => {
    const program = file('idle.bin');
    writeFileSync(program, idleImage(HALT));
    const client = await adapter.launch({ program, format: 'flat', stopOn: 'none' });
    const begun = performance.now();
    await client.request('configurationDone');
    await wait(400);
    const stop = await client.run('pause');
    const elapsed = performance.now() - begun;
    assert.equal(stop.body.reason, 'pause');
    const guest = Number(await client.value('cycles')) / 1e6;
    assert.ok(guest > 1000 && guest < 1000 + elapsed + 3 * TICK, `the guest is at ${guest} ms after ${elapsed} ms`);
  });
});
