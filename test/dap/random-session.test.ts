import assert from 'node:assert/strict';
import { Random } from '../fuzz/random.ts';
import { useAdapter } from './adapter.ts';
import type { Message, PlainClient } from './plain-client.ts';
import { sendAtRandom, settle } from './random-session.ts';
import { firstVmm } from './sample.ts';

/** VMXRAY_SEED and VMXRAY_REQUESTS make it another, or a longer one. */
const { VMXRAY_SEED = '1', VMXRAY_REQUESTS = '250' } = process.env;
const SEED = Number(VMXRAY_SEED);
const REQUESTS = Number(VMXRAY_REQUESTS);
const CLIENTS = 3;
/** Id of answers that say that the adapter made a mistake. */
const INTERNAL = 1007;

const name = ({ command, message }: Message): string => `${command}: ${message}`;

describe(`clients that send any request at any time (seed ${SEED})`, function () {
  this.timeout(60_000);
  const adapter = useAdapter();

  async function start(): Promise<PlainClient> {
    const supported = { supportsMemoryEvent: true, supportsInvalidatedEvent: true };
    const client = await adapter.launch(firstVmm(), supported);
    await client.request('configurationDone');
    return client;
  }

  it('get exactly one answer to each, and can go on', async () => {
    const clients = await Promise.all(Array.from({ length: CLIENTS }, start));
    const sessions = clients.map((client, i) => sendAtRandom(client, new Random(SEED + i), REQUESTS));
    // Others come and go meanwhile, some in the middle of an answer.
    const leaving = await Promise.all(Array.from({ length: CLIENTS }, start));
    for (const [i, client] of leaving.entries()) {
      client.request('continue', { threadId: 1 });
      if (i > 0) client.request('disconnect');
      if (i < 2) client.close();
    }
    const answers = (await Promise.all(sessions)).flat();
    assert.deepEqual(answers.filter(({ body }) => internal(body)).map(name), []);
    for (const client of clients) {
      await settle(client);
      const numbers = client.received.flatMap(({ request_seq }) => (request_seq === undefined ? [] : [request_seq]));
      assert.equal(new Set(numbers).size, numbers.length, 'a request was answered twice');
      const complaints = client.received.filter(({ body }) =>
        /failed at|unexpectedly|ignored/.test((body as { output?: string })?.output ?? ''),
      );
      assert.deepEqual(complaints, []);
      assert.equal((await client.request('disconnect')).success, true);
    }
  });
});

const internal = (body: object): boolean => (body as { error?: { id: number } })?.error?.id === INTERNAL;
