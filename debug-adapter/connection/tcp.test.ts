import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { frame } from './framing.ts';
import { listen } from './tcp.ts';

describe('the adapter on a port', function () {
  this.timeout(30_000);

  it('can be closed after its clients’ processes have ended, and again', async () => {
    const adapter = await listen(0);
    const client = connect(adapter.port, '127.0.0.1');
    await once(client, 'connect');
    client.write(frame({ seq: 1, type: 'request' }));
    client.end();
    client.resume();
    await once(client, 'close');
    // The client's process has ended then.
    await setTimeout(1000);
    await adapter.close();
    await adapter.close();
    const late = connect(adapter.port, '127.0.0.1');
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNREFUSED');
  });
});
