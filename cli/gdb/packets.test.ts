import assert from 'node:assert/strict';
import { encodePacket, fromLittleEndian, type Incoming, littleEndian, PACKET_SIZE, PacketReader } from './packets.ts';

const take = (text: string, reader = new PacketReader()): Incoming[] => reader.take(Buffer.from(text, 'latin1'));
const packet = (data: string): Incoming => ({ kind: 'packet', data });

// Packets and checksums as GDB's manual and its `set debug remote 1` print them.
describe('GDB packets', () => {
  it('are cut out of the stream by $, # and a checksum', () => {
    assert.deepEqual(take('+$g#67$?#3f'), [{ kind: 'ack' }, packet('g'), packet('?')]);
    assert.equal(encodePacket('OK').toString(), '$OK#9a');
    assert.equal(encodePacket('').toString(), '$#00');
  });

  it('may come in pieces', () => {
    const reader = new PacketReader();
    assert.deepEqual(take('$vCont', reader), []);
    assert.deepEqual(take('?#4', reader), []);
    assert.deepEqual(take('9', reader), [packet('vCont?')]);
  });

  it('are corrupted when the checksum is wrong or no number', () => {
    assert.deepEqual(take('$g#68'), [{ kind: 'corrupted' }]);
    assert.deepEqual(take('$g#zz$g#67'), [{ kind: 'corrupted' }, packet('g')]);
  });

  it('are corrupted when they do not end', () => {
    assert.deepEqual(take(`$${'m'.repeat(2 * PACKET_SIZE + 1)}`), [{ kind: 'corrupted' }]);
  });

  it('escape what would end or stretch them', () => {
    const escaped = '}\x03}\x04}]}\n';
    const sum = [...escaped].reduce((all, character) => all + character.charCodeAt(0), 0) & 0xff;
    assert.equal(encodePacket('#$}*').toString('latin1'), `$${escaped}#${sum.toString(16).padStart(2, '0')}`);
    assert.deepEqual(take(encodePacket('X#$}*').toString('latin1')), [packet('X#$}*')]);
  });

  it('are told from the interrupt and from what acknowledges', () => {
    const interrupt = { kind: 'interrupt' };
    assert.deepEqual(take('\x03-x+'), [interrupt, { kind: 'nak' }, { kind: 'ack' }]);
    // Inside a packet the byte is data.
    assert.deepEqual(take('$\x03#03'), [packet('\x03')]);
  });

  it('hold numbers with the lowest byte first', () => {
    assert.deepEqual(littleEndian(0x1234n, 4), Uint8Array.of(0x34, 0x12, 0, 0));
    assert.equal(fromLittleEndian(Uint8Array.of(0x34, 0x12, 0, 0)), 0x1234n);
  });
});
