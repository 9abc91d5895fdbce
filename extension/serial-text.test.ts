import assert from 'node:assert/strict';
import { encodeSerial, SerialDecoder, withoutQuestions } from './serial-text.ts';

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

  // Sequences of ECMA-48 and of xterm's list of control sequences.
  it('leaves out what a terminal would answer, and nothing else, when it is shown again', () => {
    const questions = ['\x1b[6n', '\x1b[?6n', '\x1b[5n', '\x1b[c', '\x1b[0c', '\x1b[>c', '\x1bZ', '\x05'];
    const longer = ['\x1b[?25$p', '\x1bP$qm\x1b\\', '\x1b]10;?\x07', '\x1b]4;1;?\x1b\\'];
    for (const question of [...questions, ...longer]) assert.equal(withoutQuestions(`a${question}b`), 'ab');
    const shown = 'can\x1b[1mcan\x1b[0m\x1b[2J\x1b[1;1H\x1b]0;title?\x07\x1b[?25h [c 6n';
    assert.equal(withoutQuestions(shown), shown);
  });
});
