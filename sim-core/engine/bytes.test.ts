import assert from 'node:assert/strict';
import { ByteWriter } from './bytes.ts';

const written = (write: (out: ByteWriter) => void): string => {
  const out = new ByteWriter();
  write(out);
  return Buffer.from(out.view()).toString('hex');
};

describe('ByteWriter', () => {
  it('writes unsigned LEB128', () => {
    // 127, 128 and 12857 are examples of DWARF 5, table 7.7; 3 is the WebAssembly specification's.
    const vectors: readonly (readonly [number, string])[] = [
      [624485, 'e58e26'],
      [0, '00'],
      [3, '03'],
      [127, '7f'],
      [128, '8001'],
      [12857, 'b964'],
      [0xffff_ffff, 'ffffffff0f'],
    ];
    for (const [value, bytes] of vectors)
      assert.equal(
        written((out) => out.unsigned(value)),
        bytes,
        `${value}`,
      );
  });

  it('writes a length in front of what comes after it, in five bytes of LEB128', () => {
    // 624485 is e5 8e 26: with two bytes more that say nothing the last of the three says that others follow.
    const sized = written((out) => {
      out.byte(1);
      out.sized(() => {
        for (let i = 0; i < 624485; i++) out.byte(7);
      });
      out.byte(2);
    });
    assert.equal(sized.slice(0, 14), '01e58ea6800007');
    assert.equal(sized.slice(-4), '0702');
    assert.equal(sized.length / 2, 1 + 5 + 624485 + 1);
  });

  it('writes into a buffer that another has given back as into a new one', () => {
    const first = new ByteWriter();
    for (let i = 0; i < 100; i++) first.byte(0xff);
    first.release();
    assert.equal(
      written((out) => out.sized(() => {})),
      '8080808000',
    );
  });

  it('writes signed LEB128 of 32 and 64 bits alike', () => {
    // 2, 127, 128, 129 and their negatives are the examples of DWARF 5, table 7.8.
    const vectors: readonly (readonly [number, string])[] = [
      [2, '02'],
      [-2, '7e'],
      [127, 'ff00'],
      [-127, '817f'],
      [128, '8001'],
      [-128, '807f'],
      [129, '8101'],
      [-129, 'ff7e'],
      [-123456, 'c0bb78'],
      [0x7fff_ffff, 'ffffffff07'],
      [-0x8000_0000, '8080808078'],
    ];
    for (const [value, bytes] of vectors) {
      assert.equal(
        written((out) => out.signed32(value)),
        bytes,
        `${value}`,
      );
      assert.equal(
        written((out) => out.signed64(BigInt(value))),
        bytes,
        `${value}`,
      );
    }
  });

  it('writes signed LEB128 at the ends of 64 bits', () => {
    assert.equal(
      written((out) => out.signed64(-(2n ** 63n))),
      '8080808080808080807f',
    );
    assert.equal(
      written((out) => out.signed64(2n ** 63n - 1n)),
      'ffffffffffffffffff00',
    );
  });

  it('keeps its bytes when it grows', () => {
    const out = new ByteWriter();
    for (let i = 0; i < 1000; i++) out.byte(i & 0xff);
    out.append(new Uint8Array(5000).fill(7));
    assert.equal(out.length, 6000);
    assert.deepEqual([...out.view().subarray(998, 1002)], [0xe6, 0xe7, 7, 7]);
  });
});
