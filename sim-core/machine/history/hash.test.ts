import assert from 'node:assert/strict';
import { Hash, hashOf, hashOfParts } from './hash.ts';

const ofValue = (value: unknown): string => {
  const hash = new Hash();
  hash.value(value);
  return hash.digest();
};

describe('state hashes', () => {
  it('depend on every bit and place of the bytes, and on their number', () => {
    const base = new Uint8Array(64);
    const seen = new Set([hashOf(base), hashOf(new Uint8Array(60)), hashOf(new Uint8Array(61))]);
    for (let bit = 0; bit < 512; bit++) {
      const changed = base.slice();
      changed[bit >> 3] = 1 << (bit & 7);
      seen.add(hashOf(changed));
    }
    assert.equal(seen.size, 515);
  });

  it('of files in parts depend on every part and on their order; a small one is hashed as its bytes', () => {
    const PART = 16 << 20;
    const file = (bytes: Uint8Array) => ({
      size: bytes.length,
      read: (offset: number, length: number) => {
        assert.ok(length <= PART && offset + length <= bytes.length);
        return bytes.subarray(offset, offset + length);
      },
    });
    for (const size of [0, 5, 4096]) {
      const bytes = new Uint8Array(size).fill(3);
      assert.equal(hashOfParts(file(bytes)), hashOf(bytes));
    }
    const large = new Uint8Array(2 * PART + 3);
    const seen = new Set([hashOfParts(file(large)), hashOfParts(file(large.subarray(1)))]);
    for (const at of [0, PART - 1, PART, 2 * PART - 1, 2 * PART, 2 * PART + 2]) {
      large[at] = 1;
      seen.add(hashOfParts(file(large)));
      large[at] = 0;
    }
    assert.equal(seen.size, 8);
  });

  it('do not depend on where the bytes lie', () => {
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i * 7);
    const shifted = new Uint8Array(103);
    shifted.set(bytes, 3);
    assert.equal(hashOf(shifted.subarray(3)), hashOf(bytes));
    // What Node reads files into.
    assert.equal(hashOf(Buffer.from(shifted.buffer, 3)), hashOf(bytes));
  });

  it('tell values apart by type and shape, but not by the order of keys', () => {
    const values = [
      0,
      '0',
      0n,
      null,
      undefined,
      [],
      [0],
      [[0]],
      { a: 0 },
      { b: 0 },
      new Map([[0, 1]]),
      Uint8Array.of(0),
    ];
    assert.equal(new Set(values.map(ofValue)).size, values.length);
    assert.equal(ofValue({ a: 1, b: 2 }), ofValue({ b: 2, a: 1 }));
  });
});
