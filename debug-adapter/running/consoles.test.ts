// Expected values: the configuration's own order; what is sent is sent once.
import assert from 'node:assert/strict';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { Consoles } from './consoles.ts';

const FILES = { readFile: async () => new Uint8Array() };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('consoles', () => {
  async function connect(wanted: Record<string, string> = {}) {
    const consoles = new Consoles(['ide-hd,file=disk', 'virtio-console,packed=off', 'edu', 'virtio-console']);
    await consoles.connect(createMachine({ memory: 2 ** 20 }), wanted, FILES);
    return consoles;
  }
  /** The device has sent this, and counted it. */
  function send(consoles: Consoles, place: number, text: string, sent: number): void {
    const port = consoles.portOf(place);
    assert.ok(port);
    port.sent = sent;
    port.onOutput?.(bytes(text));
  }
  function flushed(consoles: Consoles): Record<string, string> {
    const shown: Record<string, string> = {};
    consoles.flush((name, sent) => {
      shown[name] = String.fromCharCode(...sent);
    });
    return shown;
  }

  it('are named in the order of the configuration, and reached by the machine’s numbers, which drives have not', async () => {
    const consoles = await connect();
    assert.deepEqual(Object.keys(consoles.sent), ['COM2', 'virtio-console', 'virtio-console 2']);
    assert.deepEqual(consoles.input('virtio-console', bytes('a')), { kind: 'device', device: 0, bytes: bytes('a') });
    assert.deepEqual(consoles.input('virtio-console 2', bytes('a')), { kind: 'device', device: 2, bytes: bytes('a') });
    assert.deepEqual(consoles.input('COM2', bytes('a')), { kind: 'input', port: 'COM2', bytes: bytes('a') });
    assert.deepEqual([consoles.portOf(0), consoles.portOf(2)], [undefined, undefined]);
  });

  it('hand on what is new when the past is repeated, also of a part that was sent at once', async () => {
    const consoles = await connect({ 'virtio-console 2': 'none' });
    send(consoles, 1, 'hello', 5);
    send(consoles, 3, 'nobody listens', 14);
    assert.deepEqual(flushed(consoles), { 'virtio-console': 'hello' });
    send(consoles, 1, 'hel', 3);
    send(consoles, 1, 'lo, you', 10);
    assert.deepEqual(flushed(consoles), { 'virtio-console': ', you' });
    assert.equal(consoles.sent['virtio-console'], 10);
  });

  it('hand on another future', async () => {
    const consoles = await connect();
    send(consoles, 1, 'hello', 5);
    flushed(consoles);
    const port = consoles.portOf(1);
    assert.ok(port);
    port.sent = 2;
    consoles.forgetFuture();
    send(consoles, 1, 'xy', 4);
    assert.deepEqual(flushed(consoles), { 'virtio-console': 'xy' });
  });

  it('lead to no file where none can be written', async () => {
    await assert.rejects(connect({ COM2: '/log' }), /\/log: files cannot be written here/);
  });
});
