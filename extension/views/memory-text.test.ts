import assert from 'node:assert/strict';
import { memoryText } from './memory-text.ts';

const bytes = Uint8Array.from({ length: 20 }, (_, i) => 0x41 + i);

describe('memory as text', () => {
  it('has 16 bytes a line, with the address, and the characters that can be printed', () => {
    assert.equal(
      memoryText('gpa:0x1ff0', Uint8Array.of(...bytes.subarray(0, 17), 0, 0x7f, 10), 20),
      [
        '  00001ff0  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP',
        '  00002000  51 00 7f 0a                                       Q···',
        '',
      ].join('\n'),
    );
  });

  it('marks the lines that have changed', () => {
    const after = Uint8Array.from(bytes);
    after[18] = 0;
    assert.deepEqual(
      memoryText('0xffff_8000_0000_0000'.replaceAll('_', ''), after, 20, bytes)
        .split('\n')
        .map((line) => line.slice(0, 18)),
      ['  ffff800000000000', '* ffff800000000010', ''],
    );
  });

  it('says where nothing can be read', () => {
    assert.match(memoryText('iova:00:01.0:0x800000', new Uint8Array(), 16), /^ {2}00800000 {2}nothing can be read/);
  });
});
