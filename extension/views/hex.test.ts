import assert from 'node:assert/strict';
import { byteSize, padded, parseNumber } from './hex.ts';

describe('numbers for people', () => {
  const NUMBERS: readonly [string, bigint | undefined][] = [
    ['4096', 4096n],
    ['0x1000', 0x1000n],
    ['1000h', 0x1000n],
    ['0xffff_8000_0000_0000', 0xffff_8000_0000_0000n],
    ["0xffff`80000000'0000", 0xffff_8000_0000_0000n],
    [' 0x7 ', 7n],
    ['rip', undefined],
    ['', undefined],
    ['0x', undefined],
    ['-1', undefined],
    ['abch', undefined],
  ];
  for (const [text, value] of NUMBERS) {
    it(`are read: ${JSON.stringify(text)}`, () => assert.equal(parseNumber(text), value));
  }

  it('are padded to their width', () => {
    assert.equal(padded('0x10', 16), '0x0010');
    assert.equal(padded('0x10', 64), '0x0000000000000010');
    assert.equal(padded('?', 64), '?');
  });

  it('are given in the largest unit that fits', () => {
    assert.deepEqual([4096n, 2097152n, 1n << 30n, 1n << 39n, 5000n].map(byteSize), [
      '4 KiB',
      '2 MiB',
      '1 GiB',
      '512 GiB',
      '5000 bytes',
    ]);
  });
});
