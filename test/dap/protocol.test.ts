import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { type Message, PlainClient } from './plain-client.ts';
import { protocolErrors } from './protocol-types.ts';
import { firstVmm, lineWith, ROOT } from './sample.ts';

/** Numbers count up by one, and each request has one answer. */
function sequenceErrors(messages: readonly Message[], requests: number): string[] {
  const errors = messages.filter(({ seq }, i) => seq !== i + 1).map(({ seq }) => `message ${seq} is out of order`);
  const answered = messages.flatMap(({ request_seq }) => (request_seq === undefined ? [] : [request_seq]));
  if (answered.length !== requests || new Set(answered).size !== requests) {
    errors.push(`${requests} requests, and answers to ${answered.join(', ')}`);
  }
  return errors;
}

describe('the protocol', function () {
  this.timeout(60_000);

  it('is kept to in a whole session on standard input and output', async () => {
    const adapter = spawn(process.execPath, [join(ROOT, 'cli/main.ts'), 'dap'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise<number | null>((resolve) => adapter.on('exit', resolve));
    const client = new PlainClient(adapter.stdout, adapter.stdin);
    let requests = 0;
    const request: PlainClient['request'] = (command, args) => {
      requests++;
      return client.request(command, args);
    };
    const run = (command: string, args?: object): Promise<Message> => {
      requests++;
      return client.run(command, args);
    };
    await request('initialize', { adapterID: 'vmxray', supportsMemoryEvent: true, supportsInvalidatedEvent: true });
    const initialized = client.event('initialized');
    await request('launch', firstVmm());
    await initialized;
    const { path, line } = lineWith('exits.c', 'uint32_t leaf');
    await request('setBreakpoints', { source: { path }, breakpoints: [{ line }] });
    await request('setExceptionBreakpoints', { filters: [] });
    await run('configurationDone', {});
    await run('continue');
    for (const command of ['threads', 'modules', 'loadedSources', 'vmxray/vmcs', 'vmxray/vmExits', 'vmxray/tlb']) {
      await request(command);
    }
    const { stackFrames } = (await request('stackTrace', { threadId: 1 })).body;
    for (const { id: frameId } of stackFrames) {
      const { scopes } = (await request('scopes', { frameId })).body;
      for (const { variablesReference } of scopes) await request('variables', { variablesReference });
      await request('evaluate', { expression: 'vmcs.GUEST_RIP + rax', frameId, context: 'watch' });
    }
    const memoryReference = stackFrames[0]?.instructionPointerReference ?? '';
    await request('readMemory', { memoryReference, count: 64 });
    await request('disassemble', { memoryReference, instructionCount: 20, instructionOffset: -5 });
    for (const command of ['next', 'stepIn', 'stepOut']) await run(command);
    await request('nothing at all');
    await run('vmxray/runTo', { threadId: 1, event: 'vmExit' });
    await request('disconnect');
    assert.deepEqual(sequenceErrors(client.received, requests), []);
    assert.deepEqual(protocolErrors(client.received), []);
    assert.equal(await ended, 0);
  });

  it('is what the check finds violated', () => {
    const event = { seq: 1, type: 'event', event: 'stopped', body: { reason: 'step', threadId: '1' } } as const;
    const response = { seq: 2, type: 'response', command: 'threads', request_seq: 1, success: true } as const;
    const wrong: readonly [Message, RegExp][] = [
      [event, /'string' is not assignable to type 'number'/],
      [{ ...event, body: { reason: 'step', thread: 1 } }, /'"thread"' does not exist/],
      [{ ...event, body: {} }, /'reason' is missing/],
      [{ ...event, event: 'halted' }, /no exported member 'HaltedEvent'/],
      [{ ...response, body: { threads: [{ id: 1.5, name: 'x' }] } }, /threads\.0\.id is 1\.5/],
      [{ ...response, body: { threads: [{ id: 1 }] } }, /'name' is missing/],
      [{ ...response, command: 'vmxray/vmcs', body: { groups: 1 } }, /not assignable to type 'Own<"vmxray\/vmcs"/],
    ];
    const errors = protocolErrors(wrong.map(([message]) => message));
    assert.equal(errors.length, wrong.length, errors.join('\n'));
    const missed = wrong.filter(([, pattern]) => !errors.some((error) => pattern.test(error)));
    assert.deepEqual(missed, [], errors.join('\n'));
  });
});

after('every message to any client in the tests before keeps to the protocol', function () {
  this.timeout(60_000);
  assert.deepEqual(protocolErrors(PlainClient.sessions.flat()), []);
});
