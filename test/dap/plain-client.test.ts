import assert from 'node:assert/strict';
import { useAdapter } from './adapter.ts';
import { firstVmm, lineWith } from './sample.ts';

describe('a DAP client that is no editor', () => {
  const adapter = useAdapter();

  it('debugs the sample over TCP from the first instruction to the end', async () => {
    const client = await adapter.connect();
    const capabilities = await client.request('initialize', { adapterID: 'vmxray', clientID: 'script' });
    assert.equal(capabilities.body.supportsDisassembleRequest, true);
    const initialized = client.event('initialized');
    assert.equal((await client.request('launch', firstVmm())).success, true);
    await initialized;
    const { path, line } = lineWith('exits.c', 'uint32_t leaf');
    const set = await client.request('setBreakpoints', { source: { path }, breakpoints: [{ line }] });
    assert.equal(set.body.breakpoints[0]?.verified, true);
    assert.equal((await client.run('configurationDone')).body.reason, 'entry');

    const stop = await client.run('continue');
    assert.deepEqual(stop.body.hitBreakpointIds, [set.body.breakpoints[0]?.id]);
    const stack = await client.request('stackTrace', { threadId: 1 });
    assert.equal(stack.body.stackFrames[0]?.name, 'handle_cpuid');
    const { result } = (await client.request('evaluate', { expression: 'vmcs.EXIT_REASON', context: 'repl' })).body;
    assert.match(result, /^0xa/);
    await client.request('setBreakpoints', { source: { path }, breakpoints: [] });
    assert.equal((await client.run('continue')).event, 'terminated');
    assert.equal((await client.request('disconnect')).success, true);
  });

  it('is told when memory that it shows has changed, by the reference that it used', async () => {
    const supported = { supportsMemoryEvent: true, supportsInvalidatedEvent: true };
    const client = await adapter.launch(firstVmm(), supported);
    await client.run('configurationDone', {});
    const memoryReference = 'hpa:0x200000';
    await client.request('readMemory', { memoryReference, offset: 16, count: 32 });
    const memory = client.event('memory');
    const invalidated = client.event('invalidated');
    await client.request('evaluate', { expression: 'u8(hpa:0x200014) = 0x5a', context: 'repl' });
    assert.deepEqual((await memory).body, { memoryReference, offset: 16, count: 32 });
    await invalidated;
    const { body } = await client.request('readMemory', { memoryReference, offset: 0x14, count: 1 });
    assert.equal(body.data, Buffer.from([0x5a]).toString('base64'));
    const afterStep = client.event('memory');
    await client.run('stepIn', { threadId: 1, granularity: 'instruction' });
    assert.deepEqual((await afterStep).body, { memoryReference, offset: 16, count: 32 });
  });

  it('serves several clients at once and one after another', async () => {
    const clients = await Promise.all([1, 2].map(() => adapter.launch(firstVmm())));
    const stops = await Promise.all(clients.map((client) => client.run('configurationDone')));
    const reasons = stops.map(({ body }) => body.reason);
    assert.deepEqual(reasons, ['entry', 'entry']);
    clients[0]?.close();
    assert.equal((await clients[1]?.request('threads'))?.success, true);
    clients[1]?.close();
  });
});
