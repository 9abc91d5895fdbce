import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { EventBody, Message, PlainClient } from './plain-client.ts';
import { elf64 } from './sample.ts';

/** Machine code, by what becomes of it. */
const CODE = {
  // lidt [rip+2]; ud2; dw 0; dq 0
  tripleFault: [0x0f, 0x01, 0x1d, 2, 0, 0, 0, 0x0f, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  // cli; hlt
  halt: [0xfa, 0xf4],
  // vaddps zmm0, zmm0, zmm0: AVX-512 is not simulated (docs/limits.md)
  notSimulated: [0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0],
  // mov al, 5; out 0xf4, al
  debugExit: [0xb0, 0x05, 0xe6, 0xf4],
  // jmp $
  spin: [0xeb, 0xfe],
} as const;

describe('how a machine can end', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  async function run(
    code: readonly number[],
    filters?: readonly string[],
    more: Partial<LaunchArguments> = {},
    filterOptions: readonly object[] = [],
  ): Promise<Message<EventBody<'stopped'>>> {
    const program = file('program.elf');
    writeFileSync(program, elf64(code));
    client = await adapter.launch({ program, stopOn: 'none', ...more });
    if (filters) await client.request('setExceptionBreakpoints', { filters, filterOptions });
    return client.run('configurationDone', {});
  }
  const received = (event: string): Message | undefined => client.received.find((message) => message.event === event);

  it('a triple fault stops and tells its story', async () => {
    const stop = await run(CODE.tripleFault);
    assert.equal(stop.body.reason, 'exception');
    assert.equal(stop.body.description, 'Triple fault');
    const info = await client.request('exceptionInfo', { threadId: 1 });
    const story = JSON.stringify(info.body);
    // SDM Vol. 3A 6.15: #UD, then the fault of its delivery, then that of the double fault's.
    assert.match(story, /1\. at 0x[0-9a-f]+:.*#UD.*2\. at.*3\. at/);
    // IDT entries take 16 bytes (SDM Vol. 3A 6.14.1); the IDT at 0 has no bytes beyond its limit 0.
    assert.match(story, /IDT entry 6 at 0x60: not read: it lies beyond the IDT limit 0x0/);
    assert.match(story, /IDT entry 13 at 0xd0: not read/);
    assert.match(story, /IDT entry 8 at 0x80: not read/);
    // Error code of the third fault: index 8, IDT and EXT bits.
    assert.match(story, /error code 0x43.*error code: IDT entry 8, during the delivery of an event/);
    await client.value('rip');
    assert.equal((await client.run('continue')).body.description, 'Triple fault');
  });

  it('a triple fault whose filter is off ends the session', async () => {
    assert.equal((await run(CODE.tripleFault, [])).event, 'terminated');
    assert.deepEqual(received('exited')?.body, { exitCode: 3 });
  });

  it('the condition of the triple-fault filter decides', async () => {
    const endsWith = (condition: string) =>
      run(CODE.tripleFault, [], {}, [{ filterId: 'tripleFault', condition }]).then(async (end) => {
        const texts = client.received.flatMap(({ event, body }) =>
          event === 'output' ? [(body as EventBody<'output'>).output] : [],
        );
        if (end.event === 'stopped') assert.equal(end.body.description, 'Triple fault');
        client.close();
        return { event: end.event, said: texts.join('') };
      });
    // LIDT has loaded a limit of 0 (SDM Vol. 2, LIDT), and no page fault has set CR2.
    assert.equal((await endsWith('idtr.limit == 0 && cr2 == 0')).event, 'stopped');
    assert.equal((await endsWith('hits == 1')).event, 'stopped');
    for (const condition of ['idtr.limit != 0', 'hits > 1']) {
      assert.equal((await endsWith(condition)).event, 'terminated', condition);
    }
    const logged = await endsWith('log: no IDT at {idtr.base}');
    assert.equal(logged.event, 'terminated');
    assert.match(logged.said, /^no IDT at 0\n/m);
    const wrong = await endsWith('nonsense == 1');
    assert.equal(wrong.event, 'stopped');
    assert.match(wrong.said, /'nonsense' is no register/);
  });

  it('HLT that nothing can end stops and says so', async () => {
    const stop = await run(CODE.halt);
    assert.equal(stop.body.description, 'Halted');
    assert.match(stop.body.text ?? '', /nothing can wake the processor/);
  });

  it('an instruction that is not simulated stops with its bytes, address and name', async () => {
    const stop = await run(CODE.notSimulated);
    assert.equal(stop.body.reason, 'exception');
    assert.match(stop.body.text ?? '', /vaddps \(62 f1 7c 48 58 c0\) at 0x100078/i);
  });

  it('the debug-exit port gives the exit code that QEMU gives', async () => {
    assert.equal((await run(CODE.debugExit, undefined, { stopAtEnd: 'never' })).event, 'terminated');
    assert.deepEqual(received('exited')?.body, { exitCode: (5 << 1) | 1 });
    const again = await client.request('continue', { threadId: 1 });
    assert.match(again.message ?? '', /the machine has ended. Use 'restart'/);
    assert.equal((await client.run('restart', {})).event, 'terminated');
  });

  it('an end that reports an error is where the session stays, and goes back from', async () => {
    const stop = await run(CODE.debugExit);
    assert.equal(stop.event, 'stopped');
    assert.deepEqual(
      [stop.body.reason, stop.body.description, stop.body.text],
      ['exit', 'The machine has ended', 'The guest wrote 5 to the debug-exit port'],
    );
    const end = await client.value('rip');
    for (const command of ['continue', 'next', 'stepIn', 'stepOut']) {
      const { success, message } = await client.request(command, { threadId: 1 });
      assert.equal(success, false);
      assert.match(
        message ?? '',
        /the machine has ended \(The guest wrote 5 .*\). Step back, restart, or end the session/,
      );
    }
    const step = { threadId: 1, granularity: 'instruction' };
    await client.run('stepBack', step);
    // mov al, 5 is behind, out 0xf4, al (2 bytes) is next.
    assert.equal(await client.value('rip'), `0x${(Number(end) - 2).toString(16)}`);
    assert.equal(Number(await client.value('al')), 5);
    await client.run('stepBack', step);
    assert.equal((await client.run('continue')).body.reason, 'exit');
    assert.equal(await client.value('rip'), end);
    assert.match((await client.run('reverseContinue')).body.description ?? '', /^Start of the history/);
    await client.run('vmxray/travel', { threadId: 1, to: 'present' });
    assert.match((await client.request('continue', { threadId: 1 })).message ?? '', /the machine has ended/);
    const terminated = client.event('terminated');
    await client.request('terminate');
    await terminated;
    assert.deepEqual(received('exited')?.body, { exitCode: (5 << 1) | 1 });
  });

  it('a change in the past makes another future, in which the machine has not ended', async () => {
    await run(CODE.debugExit);
    const step = { threadId: 1, granularity: 'instruction' };
    await client.run('stepBack', step);
    const change = { expression: 'al', value: '7' };
    assert.equal((await client.request('setExpression', change)).success, false);
    assert.equal((await client.request('setExpression', change)).success, true);
    assert.equal((await client.run('stepIn', step)).body.text, 'The guest wrote 7 to the debug-exit port');
  });

  it('a clean end is where the session stays when it shall always, and ends with it otherwise', async () => {
    const clean = [0xb0, 0x00, 0xe6, 0xf4];
    assert.equal((await run(clean)).event, 'terminated');
    assert.deepEqual(received('exited')?.body, { exitCode: 1 });
    client.close();
    assert.equal((await run(clean, undefined, { stopAtEnd: 'always' })).body.reason, 'exit');
    assert.equal(received('exited'), undefined);
    await client.run('stepBack', { threadId: 1, granularity: 'instruction' });
    assert.equal((await client.run('restart', {})).body.reason, 'exit');
    client.close();
    assert.equal((await run(clean, undefined, { stopAtEnd: 'always', history: { enabled: false } })).event, 'stopped');
    client.close();
    assert.equal((await run(CODE.debugExit, undefined, { noDebug: true })).event, 'terminated');
  });

  it('a triple fault whose filter is on can be gone back from', async () => {
    await run(CODE.tripleFault);
    const step = { threadId: 1, granularity: 'instruction' };
    assert.match((await client.run('stepBack', step)).body.description ?? '', /in the past/);
    assert.equal((await client.run('continue')).body.description, 'Triple fault');
  });

  it('maxInstructions ends what never ends', async () => {
    assert.equal((await run(CODE.spin, undefined, { maxInstructions: 100_000 })).event, 'terminated');
    assert.deepEqual(received('exited')?.body, { exitCode: 124 });
  });

  it('terminate ends a machine that runs', async () => {
    const previous = client;
    const stopping = run(CODE.spin).catch(() => undefined);
    const isRunning = (): boolean =>
      client !== previous && client.received.some(({ command }) => command === 'configurationDone');
    while (!isRunning()) await new Promise((resolve) => setTimeout(resolve, 50));
    const terminated = client.event('terminated');
    const { success, message } = await client.request('terminate');
    assert.ok(success, message);
    await terminated;
    await stopping;
    assert.equal((await client.request('disconnect')).success, true);
  });
});
