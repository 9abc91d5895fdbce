/** Devices of a session that lead outside: disk images, the second serial port. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listen, type TcpAdapter } from '../../debug-adapter/connection/tcp.ts';
import type { CustomEvents, LaunchArguments } from '../../debug-adapter/protocol.ts';
import { assemble } from '../support/nasm.ts';
import { type EventBody, PlainClient } from './plain-client.ts';

type SerialOutput = CustomEvents['vmxray/serialOutput'];

const MIB = 2 ** 20;
/** Large enough to be read where the guest asks for it. */
const IMAGE_SIZE = 40 * MIB;
const LATE_SECTOR = (30 * MIB) / 512;

/** Reads two sectors by READ SECTOR(S), as ATA lays the registers out, and reports the drive's status behind them. */
const READS_TWICE = `bits 32
org 0x100000
        xor     ebx, ebx
        call    read
        cmp     al, 0x58
        jne     end
        mov     dx, 0x1f0
        mov     edi, 0x200000
        mov     ecx, 256
        rep     insw
        mov     ebx, ${LATE_SECTOR}
        call    read
end:    out     0xf4, al
read:   mov     dx, 0x1f2
        mov     al, 1
        out     dx, al
        mov     ecx, 3
.next:  inc     edx
        mov     al, bl
        out     dx, al
        shr     ebx, 8
        loop    .next
        inc     edx
        mov     al, 0xe0
        out     dx, al
        inc     edx
        mov     al, 0x20
        out     dx, al
        in      al, dx
        ret
`;

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
  let adapter: TcpAdapter;
  let folder: string;
  let client: PlainClient;
  const file = (name: string): string => join(folder, name);

  before(async () => {
    adapter = await listen(0);
    folder = mkdtempSync(join(tmpdir(), 'vmxray-devices-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    await adapter.close();
  });
  afterEach(() => client.close());

  async function launch(source: string, more: Partial<LaunchArguments>): Promise<void> {
    writeFileSync(file('program.bin'), assemble(source));
    client = await PlainClient.launch(adapter.port, { program: file('program.bin'), format: 'flat', ...more });
  }
  const printed = (category: string): string =>
    client.received
      .map(({ event, body }) => (event === 'output' ? (body as EventBody<'output'>) : undefined))
      .map((body) => (body?.category === category ? body.output : ''))
      .join('');
  const status = async (): Promise<number> => Number(await client.value('al')) & 0xff;

  describe('a large disk image', () => {
    const READY = 0x58;
    const FAILED = 0x51;
    async function read(change: (image: string) => void): Promise<number> {
      const image = file('disk.img');
      writeFileSync(image, '');
      truncateSync(image, IMAGE_SIZE);
      await launch(READS_TWICE, {
        stopOn: 'entry',
        stopAtEnd: 'always',
        machine: { memory: '16M', devices: [`ide-hd,file=${image}`] },
      });
      await client.run('configurationDone', {});
      change(image);
      await client.run('continue');
      return await status();
    }

    it('is read where the guest reads, and stays there when its name goes', async () => {
      assert.equal(await read((image) => rmSync(image)), READY);
      assert.equal(printed('stderr'), '');
    });

    it('that becomes shorter gives the guest an I/O error, and the person a message', async () => {
      assert.equal(await read((image) => truncateSync(image, MIB)), FAILED);
      assert.match(
        printed('stderr'),
        /^The disk image .*disk\.img: .* become shorter .*; the guest sees I\/O errors\.\n$/,
      );
    });
  });

  describe('COM2', () => {
    const said = (): string =>
      client.received
        .map(({ event, body }) => (event === 'vmxray/serialOutput' ? (body as SerialOutput) : undefined))
        .map((body) => (body?.console === 'COM2' ? body.data : ''))
        .join('');
    const stopAtEnd = 'always';

    it('is a console of its own, to which something can be said, and which follows time travel', async () => {
      await launch(TALKS, { stopOn: 'none', stopAtEnd });
      await client.body('configurationDone', {});
      await client.event('vmxray/serialOutput');
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
      await assert.rejects(launch(TALKS, { consoles: { COM2: folder } }), /consoles.*EISDIR/);
      await launch(TALKS, { stopOn: 'none' });
      const { success, message } = await client.request('vmxray/serialInput', { data: '', console: 'COM9' });
      assert.deepEqual([success, message], [false, "There is no console 'COM9'. There is COM2."]);
    });
  });
});
