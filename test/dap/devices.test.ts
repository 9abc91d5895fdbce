/** Devices of a session that lead outside: the second serial port. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import type { CustomEvents, LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { assemble } from '../support/nasm.ts';
import { useAdapter } from './adapter.ts';
import type { EventBody, PlainClient } from './plain-client.ts';

type SerialOutput = CustomEvents['vmxray/serialOutput'];

/** Says 'ready' on COM2, waits for a byte there, says it back, and ends. */
const TALKS = `bits 32
org 0x100000
        mov     edx, 0x2f8
        mov     esi, text
        mov     ecx, 5
        rep     outsb
again:  mov     dx, 0x2fd
        in      al, dx
        test    al, 1
        jz      again
        mov     dx, 0x2f8
        in      al, dx
        out     dx, al
        mov     al, 0
        out     0xf4, al
text:   db      'ready'
`;

describe('devices of a session', () => {
  const adapter = useAdapter();
  const file = useFolder();
  let client: PlainClient;

  async function launch(source: string, more: Partial<LaunchArguments>): Promise<void> {
    writeFileSync(file('program.bin'), assemble(source));
    client = await adapter.launch({ program: file('program.bin'), format: 'flat', ...more });
  }
  const printed = (category: string): string =>
    client.received
      .map(({ event, body }) => (event === 'output' ? (body as EventBody<'output'>) : undefined))
      .map((body) => (body?.category === category ? body.output : ''))
      .join('');

  describe('COM2', () => {
    const said = (): string =>
      client.received
        .map(({ event, body }) => (event === 'vmxray/serialOutput' ? (body as SerialOutput) : undefined))
        .map((body) => (body?.console === 'COM2' ? body.data : ''))
        .join('');
    const stopAtEnd = 'always';

    it('is a console of its own, to which something can be said, and which follows time travel', async () => {
      await launch(TALKS, { stopOn: 'none', stopAtEnd });
      const ready = client.event('vmxray/serialOutput');
      await client.body('configurationDone', {});
      await ready;
      assert.equal(said(), 'ready');
      const ended = client.event('stopped');
      await client.body('vmxray/serialInput', { data: 'x', console: 'COM2' });
      await ended;
      assert.equal(said(), 'readyx');
      const travelled = client.event('vmxray/timeTravel');
      await client.run('vmxray/travel', { threadId: 1, to: 'start' });
      assert.deepEqual(((await travelled).body as CustomEvents['vmxray/timeTravel']).consoleBytes, { COM2: 0 });
      await client.run('continue');
      assert.equal(said(), 'readyx', 'nothing is said twice');
      assert.equal(printed('stdout'), '', 'it is not COM1');
    });

    it('leads to a file, or nowhere, as the launch configuration says', async () => {
      for (const to of [file('com2.log'), 'none']) {
        await launch(TALKS, { stopOn: 'none', stopAtEnd, consoles: { COM2: to } });
        const ended = client.event('stopped');
        await client.body('configurationDone', {});
        await client.body('vmxray/serialInput', { data: '!', console: 'COM2' });
        await ended;
        assert.equal(said(), '');
        client.close();
      }
      assert.equal(readFileSync(file('com2.log'), 'latin1'), 'ready!');
    });

    it('is refused by a wrong name, and where its file cannot be made', async () => {
      await assert.rejects(launch(TALKS, { consoles: { COM3: 'terminal' } }), /no console 'COM3'; there is COM2/);
      await assert.rejects(launch(TALKS, { consoles: { COM2: file() } }), /consoles.*EISDIR/);
      await launch(TALKS, { stopOn: 'none' });
      const { success, message } = await client.request('vmxray/serialInput', { data: '', console: 'COM9' });
      assert.deepEqual([success, message], [false, "There is no console 'COM9'. There is COM2."]);
    });
  });
});
