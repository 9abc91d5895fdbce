/** Snapshots over the protocol: saved in one session, gone on with in others. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { firstVmm } from './sample.ts';

const THREAD = { threadId: 1 } as const;

describe('snapshots in a session', function () {
  this.timeout(60_000);
  const adapter = useAdapter();
  let client: PlainClient;
  const file = useFolder();

  async function start(more: Partial<LaunchArguments> = {}): Promise<void> {
    client = await adapter.launch(firstVmm(more));
    await client.run('configurationDone', {});
  }
  const takeSnapshot = async () => (await client.request('vmxray/snapshot', {})).body;
  async function save(name: string): Promise<string> {
    const path = file(name);
    writeFileSync(path, Buffer.from((await takeSnapshot()).data, 'base64'));
    return path;
  }
  const outputs = (): string =>
    client.received
      .flatMap(({ event, body }) => (event === 'output' ? (body as { output: string }).output : []))
      .join('');

  it('are where another session goes on, to the same state', async () => {
    await start({ stopOn: 'firstExit' });
    const snapshot = await save('first-exit.vmxsnap');
    const here = await client.value('instructions');
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const { instructions, hash } = await takeSnapshot();
    client.close();
    await start({ snapshot, stopOn: 'entry' });
    assert.equal(await client.value('instructions'), here);
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const { data: _data, ...again } = await takeSnapshot();
    assert.deepEqual(again, { instructions, hash });
    const { body } = await client.run('reverseContinue');
    assert.match(body.description ?? '', /^Start of the history/);
    assert.equal(await client.value('instructions'), here);
  });

  it('are restored in a session, whose past is forgotten, and it says so', async () => {
    await start({ stopOn: 'vmlaunch' });
    await client.request('setExpression', { expression: 'r15', value: '99' });
    const saved = await takeSnapshot();
    const path = await save('r15.vmxsnap');
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const later = (await takeSnapshot()).hash;
    await client.run('vmxray/travel', { ...THREAD, to: 'start' });
    const { body } = await client.run('vmxray/restoreSnapshot', { ...THREAD, path });
    assert.equal(body.description, `Snapshot restored: instruction ${saved.instructions}`);
    assert.match(outputs(), /Restored .*r15.vmxsnap, instruction \d+. The session's past is forgotten/);
    assert.equal((await takeSnapshot()).hash, saved.hash);
    assert.equal(await client.value('r15'), '0x63');
    const { body: timeline } = await client.request('vmxray/timeline', {});
    assert.deepEqual([timeline.start, timeline.inPast, timeline.total], [saved.instructions, false, 0]);
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    assert.equal((await takeSnapshot()).hash, later);
  });

  it('are where recordings begin', async () => {
    await start({ stopOn: 'vmlaunch' });
    const snapshot = await save('vmlaunch.vmxsnap');
    client.close();
    await start({ snapshot });
    await client.run('vmxray/runTo', { ...THREAD, event: 'vmExit' });
    const replay = file('rest.vmxtrace');
    writeFileSync(replay, (await client.request('vmxray/recording', {})).body.text);
    client.close();
    await start({ replay });
    const { body } = await client.run('continue');
    assert.match(body.description ?? '', /^The recording ends here; the machine's state is the recorded one/);
    client.close();
    await assert.rejects(
      adapter.launch(firstVmm({ replay, snapshot: file('r15.vmxsnap') })),
      /r15.vmxsnap' cannot be restored: the recording began with the one at .*vmlaunch/,
    );
  });

  it('are refused with the reason', async () => {
    await start();
    const snapshot = await save('entry.vmxsnap');
    const restored = await client.request('vmxray/restoreSnapshot', { ...THREAD, path: firstVmm().program });
    assert.match(restored.message ?? '', /first-vmm.elf' cannot be restored: it is no snapshot of VMXray; make one/);
    client.close();
    const { program } = firstVmm();
    await assert.rejects(
      adapter.launch({ program: program.replace('first-vmm.elf', 'guest.elf'), snapshot }),
      /it is of another image: .*first-vmm.elf with the hash [0-9a-f]{16}, where .*guest/,
    );
    await assert.rejects(adapter.launch({ program, snapshot: file('none') }), /The snapshot '.*none' cannot be read/);
  });
});
