// Expected values: what Linux's own commands print; /proc/consoles as the kernel documents it (proc(5): flags E, C).
import assert from 'node:assert/strict';
import { ConsoleFiles } from './console-files.ts';
import { DebugSession } from './debug-session.ts';
import { filesOrSkip } from './sessions.ts';

const VIRTIO = 'virtio-console';

describe("Debian's kernel with three consoles, debugged", function () {
  this.timeout(400_000);
  let files: ConsoleFiles | undefined;
  let session: DebugSession;

  before(async function () {
    files = new ConsoleFiles(filesOrSkip(this));
    session = await DebugSession.launch(files.launch);
  });
  after(async () => {
    await session?.close();
    files?.remove();
  });

  it('prints what it has to say on hvc0, too, which is the console of its choice', async () => {
    await session.waitFor('hvc0# ', VIRTIO);
    await session.type('cat /proc/consoles', VIRTIO);
    assert.match(await session.waitFor('hvc0# ', VIRTIO), /\nhvc0 +-W- \(EC[ a-z]*\)/);
    await session.type('echo said to the kernel > /dev/kmsg', VIRTIO);
    assert.match(await session.waitFor('hvc0# ', VIRTIO), /\n\[ *\d+\.\d+\] said to the kernel\r\n/);
    const log = await session.waitFor('] said to the kernel\r\n');
    assert.match(log, /Linux version 6[\s\S]*com1# /);
  });

  it('has a shell on each, and mixes nothing up', async () => {
    await session.waitFor('com2# ', 'COM2');
    // On all at once, the answers in another order than the questions.
    await session.type('sleep 1; echo $((6 * 7)) $(tty)');
    await session.type('echo $((6 * 8)) $(tty)', 'COM2');
    await session.type('echo $((6 * 9)) $(tty)', VIRTIO);
    assert.match(await session.waitFor('hvc0# ', VIRTIO), /\n54 \/dev\/hvc0\r\nhvc0# $/);
    assert.match(await session.waitFor('com2# ', 'COM2'), /\n48 \/dev\/ttyS1\r\ncom2# $/);
    assert.match(await session.waitFor('com1# '), /\n42 \/dev\/ttyS0\r\ncom1# $/);
  });

  it('gets what is typed at hvc0 while it stands still when it goes on', async () => {
    await session.type('echo $((6 * 7)); cat > /dev/null', VIRTIO);
    await session.waitFor('\n42\r\n', VIRTIO);
    const stop = await session.pause();
    assert.equal(stop.reason, 'pause');
    const before = await session.number('instructions');
    await session.client.request('vmxray/serialInput', { data: 'typed while it stands still\n', console: VIRTIO });
    assert.equal(await session.number('instructions'), before);
    await session.client.request('continue', { threadId: 1 });
    await session.waitFor('typed while it stands still\r\n', VIRTIO);
    await session.client.request('vmxray/serialInput', { data: '\x04', console: VIRTIO });
    await session.waitFor('hvc0# ', VIRTIO);
  });
});
