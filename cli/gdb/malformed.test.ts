import assert from 'node:assert/strict';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { Debuggee } from './debuggee.ts';
import { HostFiles } from './host-files.ts';
import { encodePacket, PACKET_SIZE, PacketReader } from './packets.ts';
import { GdbStub } from './stub.ts';

const SEED = Number(process.env.SEED ?? 20_26);
const ROUNDS = 20_000;

/** One of each kind, as gdb sends them. */
const SOUND = [
  '?',
  'qSupported:multiprocess+;swbreak+;hwbreak+',
  'qXfer:features:read:target.xml:0,ffb',
  'qXfer:threads:read::0,1000',
  'qXfer:exec-file:read::0,1000',
  'vFile:open:2f696d616765,0,0',
  'vFile:pread:3,1000,0',
  'vFile:fstat:3',
  'vFile:close:3',
  'g',
  'p10',
  'P0=0102030405060708',
  'm100000,10',
  'x100000,10',
  'M200000,2:0102',
  'X200000,2:ab',
  'Z0,100000,1',
  'z0,100000,1',
  'Z2,200000,8',
  'z2,200000,8',
  'Hg1',
  'T1',
  'qThreadExtraInfo,1',
  'qRcmd,7265676973746572732063723',
  'qRcmd,656e74',
  'vCont;s:1;c',
  'vCont;r100000,100010:1',
  'QStartNoAckMode',
  'D',
];

describe(`malformed GDB packets (seed ${SEED})`, () => {
  let state = SEED;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
  const text = (length: number): string => String.fromCharCode(...Array.from({ length }, () => random(256)));

  function damaged(): string {
    const sound = SOUND[random(SOUND.length)] ?? '';
    const at = random(sound.length + 1);
    const ways = [
      () => sound.slice(0, at),
      () => sound.slice(0, at) + text(1 + random(4)) + sound.slice(at),
      () => sound.slice(0, at) + text(1) + sound.slice(at + 1),
      () => sound.replace(/[0-9a-f]+/, 'f'.repeat(1 + random(40))),
      () => sound + sound,
      () => text(random(60)),
    ];
    return (ways[random(ways.length)] ?? (() => ''))();
  }

  it(`get an answer each, and leave the stub in order: ${ROUNDS} of them`, () => {
    const machine = createMachine({ memory: 4 * 2 ** 20 });
    const image = Uint8Array.of(0xeb, 0xfe);
    machine.boot({ name: 'code', image, commandLine: '', modules: [], format: 'flat' });
    const debuggee = new Debuggee(machine, () => {}, new HostFiles(new Map([['/image', image]]), '/image'));
    const stub = new GdbStub(debuggee);
    const kinds = new Map<string, number>();
    for (let round = 0; round < ROUNDS; round++) {
      const packet = damaged();
      try {
        const answer = stub.answer(packet);
        kinds.set(answer.kind, (kinds.get(answer.kind) ?? 0) + 1);
        if (answer.kind === 'reply') assert.ok(encodePacket(answer.data).length <= 2 * PACKET_SIZE + 4);
      } catch (error) {
        throw new Error(`seed ${SEED}, round ${round}, packet ${JSON.stringify(packet)}`, { cause: error });
      }
    }
    for (const kind of ['reply', 'resume', 'console', 'detach']) assert.ok((kinds.get(kind) ?? 0) > 0, kind);
    assert.equal(stub.answer('M300000,2:a55a').kind, 'reply');
    assert.deepEqual(stub.answer('m300000,2'), { kind: 'reply', data: 'a55a' });
  });

  it('are cut out of any bytes, whatever pieces those come in', () => {
    const reader = new PacketReader();
    for (let round = 0; round < 2000; round++) {
      const bytes = Buffer.from(`${text(random(40))}$${damaged()}#${text(2)}`, 'latin1');
      for (let at = 0; at < bytes.length; ) {
        const length = 1 + random(16);
        for (const { kind } of reader.take(bytes.subarray(at, at + length))) {
          assert.match(kind, /^(packet|corrupted|interrupt|ack|nak)$/);
        }
        at += length;
      }
    }
    const found = reader.take(Buffer.from('$#00$g#67', 'latin1')).at(-1);
    assert.deepEqual(found, { kind: 'packet', data: 'g' });
  });
});
