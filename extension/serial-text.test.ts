import assert from 'node:assert/strict';
import { encodeSerial, SerialDecoder } from './serial-text.ts';

describe('serial text', () => {
  it('puts a carriage return before bare line feeds only, also across messages', () => {
    const decoder = new SerialDecoder();
    assert.equal(decoder.decode('a\nb\r\nc\r'), 'a\r\nb\r\nc\r');
    assert.equal(decoder.decode('\nd'), '\nd');
  });

  it('joins a UTF-8 character that two messages share', () => {
    const bytes = encodeSerial('→');
    assert.deepEqual(
      [...bytes].map((character) => character.charCodeAt(0)),
      [0xe2, 0x86, 0x92],
    );
    const decoder = new SerialDecoder();
    assert.equal(decoder.decode(bytes.slice(0, 1)) + decoder.decode(bytes.slice(1)), '→');
  });
});
