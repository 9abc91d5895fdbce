/** Disk images of a session: what becomes of them while it runs, and in recordings and snapshots. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LaunchArguments } from '../../debug-adapter/protocol.ts';
import { useFolder } from '../support/folder.ts';
import { assemble } from '../support/nasm.ts';
import { useAdapter } from './adapter.ts';
import type { EventBody, PlainClient } from './plain-client.ts';

const MIB = 2 ** 20;
/** Read where the guest asks for it; smaller than 16 MiB: read at once. */
const [LARGE, SMALL] = [40 * MIB, 2 * MIB];

/** Reads a sector by READ SECTOR(S), as ATA lays the registers out. EBX = sector. AL = status. */
const READ_SECTOR = `
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
        ret`;

/** The same for a block of 2048 bytes by the packet READ(10). EBX = block. */
const READ_BLOCK = `
read:   mov     dx, 0x1f4
        mov     al, 0
        out     dx, al
        inc     edx
        mov     al, 8
        out     dx, al
        mov     dx, 0x1f7
        mov     al, 0xa0
        out     dx, al
        bswap   ebx
        mov     [packet + 2], ebx
        mov     dx, 0x1f0
        mov     esi, packet
        mov     ecx, 6
        rep     outsw
        mov     dx, 0x1f7
        in      al, dx
        ret
packet: db      0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0`;

/** Reads the first part and the last one, and tells the last status; the word behind it is in BX. */
const readsTwice = (read: string, words: number, last: number): string => `bits 32
org 0x100000
        xor     ebx, ebx
        call    read
        and     al, 0x89
        cmp     al, 8
        jne     end
        call    take
        mov     ebx, ${last}
        call    read
        and     al, 0x89
        cmp     al, 8
        jne     end
        call    take
        mov     bx, [0x200000]
end:    out     0xf4, al
take:   mov     dx, 0x1f0
        mov     edi, 0x200000
        mov     ecx, ${words}
        rep     insw
        mov     al, 8
        ret
${read}`;

/** Writes a sector full of the word 1234h to sector 5. */
const WRITES = `bits 32
org 0x100000
        mov     ebx, 5
        mov     dx, 0x1f2
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
        mov     al, 0x30
        out     dx, al
        mov     edi, 0x200000
        mov     ecx, 256
        mov     ax, 0x1234
        rep     stosw
        mov     dx, 0x1f0
        mov     esi, 0x200000
        mov     ecx, 256
        rep     outsw
        mov     dx, 0x1f7
        in      al, dx
        and     al, 0x89
        out     0xf4, al`;

const [DATA, FAILED] = [8, 1];
const MARK = 0x5aa5;

const KINDS = [
  { kind: 'ide-hd', read: READ_SECTOR, unit: 512 },
  { kind: 'ide-cd', read: READ_BLOCK, unit: 2048 },
] as const;

describe('disk images of a session', function () {
  this.timeout(30_000);
  const adapter = useAdapter();
  const pathOf = useFolder();
  /** Of the test that runs. */
  let folder: string;
  let client: PlainClient;
  const file = (name: string): string => join(folder, name);
  const image = (): string => file('disk.img');

  beforeEach(() => {
    folder = mkdtempSync(pathOf('test-'));
  });

  /** An image full of zeros, but for the first word of its last part. */
  function makeImage(size: number, unit = 512): void {
    const bytes = new Uint8Array(size);
    new DataView(bytes.buffer).setUint16(size - unit, MARK, true);
    writeFileSync(image(), bytes);
  }
  async function launch(source: string, more: Partial<LaunchArguments>): Promise<void> {
    writeFileSync(file('program.bin'), assemble(source));
    client = await adapter.launch({
      ...{ program: file('program.bin'), format: 'flat', stopOn: 'entry', stopAtEnd: 'always' },
      ...{ machine: { memory: '16M', devices: [`ide-hd,file=${image()}`] } },
      ...more,
    });
  }
  const outputs = (): EventBody<'output'>[] =>
    client.received.flatMap(({ event, body }) => (event === 'output' ? (body as EventBody<'output'>) : []));
  const printed = (): string =>
    outputs()
      .flatMap(({ category, output }) => (category === 'stderr' ? output : []))
      .join('');

  for (const { kind, read, unit } of KINDS) {
    describe(`read by ${kind}`, () => {
      /** @returns the last status, and the first word of the last part if it could be read */
      async function outcome(size: number, change: () => void): Promise<readonly number[]> {
        makeImage(size, unit);
        await launch(readsTwice(read, unit / 2, size / unit - 1), {
          machine: { memory: '16M', devices: [`${kind},file=${image()}`] },
        });
        await client.run('configurationDone', {});
        change();
        await client.run('continue');
        const status = Number(await client.value('al')) & 0xff;
        return status === DATA ? [status, Number(await client.value('bx')) & 0xffff] : [status];
      }

      it('are there, large and small, when their name goes', async () => {
        for (const size of [LARGE, SMALL]) {
          assert.deepEqual(await outcome(size, () => rmSync(image())), [DATA, MARK]);
          assert.equal(printed(), '');
          client.close();
        }
      });

      it('give the guest an error and the person a message where a large one becomes shorter', async () => {
        assert.deepEqual(await outcome(LARGE, () => truncateSync(image(), MIB)), [FAILED]);
        assert.match(printed(), /^The disk image .*disk\.img: .* become shorter .*; the guest sees I\/O errors\.\n$/);
      });

      it('stay as they were at the start where a small one becomes shorter', async () => {
        assert.deepEqual(await outcome(SMALL, () => truncateSync(image(), 512)), [DATA, MARK]);
        assert.equal(printed(), '');
      });
    });
  }

  it('that cannot be opened are told at the start: which one and why', async () => {
    await assert.rejects(launch(WRITES, {}), /The disk image '.*disk\.img' cannot be read: there is no such file/);
    mkdirSync(image());
    await assert.rejects(launch(WRITES, {}), /The disk image '.*disk\.img' cannot be read: it is a folder/);
    // Reading one's own memory at address 0 fails, for the superuser, too.
    const machine = { memory: '16M', devices: ['ide-hd,file=/proc/self/mem'] };
    await assert.rejects(launch(WRITES, { machine }), /The disk image '\/proc\/self\/mem' cannot be read: .*/);
  });

  describe('that the guest writes', () => {
    const written = { memory: '16M', devices: [] as string[] };
    beforeEach(() => {
      makeImage(SMALL);
      written.devices = [`ide-hd,file=${image()},write=on`];
    });
    const word = (): number => readFileSync(image()).readUInt16LE(5 * 512);

    it('stay as they are', async () => {
      await launch(WRITES, {});
      await client.run('configurationDone', {});
      await client.run('continue');
      assert.deepEqual([Number(await client.value('al')) & 0xff, word()], [0, 0]);
    });

    it('change with write=on, without time travel only, and there are no snapshots of that', async () => {
      await assert.rejects(launch(WRITES, { machine: written }), /'machine.devices' is not right: time travel cannot/);
      await launch(WRITES, { machine: written, history: { enabled: false } });
      await client.run('configurationDone', {});
      await client.run('continue');
      assert.deepEqual([Number(await client.value('al')) & 0xff, word()], [0, 0x1234]);
      const { message } = await client.request('vmxray/snapshot', {});
      assert.match(message ?? '', /the image of 'ide-hd,file=.*write=on' is another one by now. Leave out write=on/);
    });

    it('are refused where that is not possible', async () => {
      written.devices = [`ide-hd,file=${folder},write=on`];
      const launched = launch(WRITES, { machine: written, history: { enabled: false } });
      await assert.rejects(launched, /The disk image '.*' cannot be written: it is a folder/);
    });
  });

  describe('in recordings and snapshots', () => {
    const SIZE = LARGE;
    /** Records a run, or saves the machine behind it. @returns the file */
    async function save(command: 'vmxray/recording' | 'vmxray/snapshot'): Promise<string> {
      makeImage(SIZE);
      await launch(readsTwice(READ_SECTOR, 256, SIZE / 512 - 1), {});
      await client.run('configurationDone', {});
      if (command === 'vmxray/recording') await client.run('continue');
      const { body } = await client.request(command, {});
      const where = file('saved');
      writeFileSync(where, 'text' in body ? body.text : Buffer.from(body.data, 'base64'));
      client.close();
      return where;
    }
    const replay = async (more: Partial<LaunchArguments>): Promise<void> => {
      await launch(readsTwice(READ_SECTOR, 256, SIZE / 512 - 1), { machine: {}, ...more });
      await client.run('configurationDone', {});
    };

    it('are named with a hash, and found where they were, or beside the file', async () => {
      const trace = await save('vmxray/recording');
      const [disk] = JSON.parse(readFileSync(trace, 'utf8')).recording.disks;
      assert.equal(disk.path, image());
      assert.match(disk.hash, /^[0-9a-f]{16}$/);
      const moved = file('moved');
      mkdirSync(moved);
      for (const move of [() => {}, () => renameSync(image(), join(moved, 'disk.img'))]) {
        move();
        renameSync(trace, join(moved, 'saved'));
        await replay({ replay: join(moved, 'saved') });
        await client.run('continue');
        const told = outputs().map(({ output }) => output);
        assert.match(told.join(''), /The recording ends here; the machine's state is the recorded one/);
        assert.equal(Number(await client.value('bx')) & 0xffff, MARK);
        client.close();
        renameSync(join(moved, 'saved'), trace);
      }
    });

    for (const [command, attribute, refusal] of [
      ['vmxray/recording', 'replay', "'.*saved' cannot be replayed: "],
      ['vmxray/snapshot', 'snapshot', "The snapshot '.*saved' cannot be restored: "],
    ] as const) {
      it(`are missed, and not taken for others (${attribute})`, async () => {
        const saved = await save(command);
        writeFileSync(image(), new Uint8Array(SIZE));
        const changed = /the disk image is not the recorded one: .*disk.img had the hash \w{16}, this one has \w{16}/;
        await assert.rejects(replay({ [attribute]: saved }), new RegExp(refusal + changed.source));
        rmSync(image());
        const gone = /the disk image is neither .*disk.img nor .*disk.img: there is no such file/;
        await assert.rejects(replay({ [attribute]: saved }), new RegExp(refusal + gone.source));
      });
    }
  });
});
