/** Devices of a session that lead outside: disk images. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listen, type TcpAdapter } from '../../debug-adapter/connection/tcp.ts';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { assemble } from '../support/nasm.ts';
import { type EventBody, PlainClient } from './plain-client.ts';

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
    await client.run('configurationDone', {});
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
});
