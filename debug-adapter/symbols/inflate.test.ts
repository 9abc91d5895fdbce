// Expected values: what Node's zlib has compressed must come out as it went in.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { constants, deflateSync } from 'node:zlib';
import { FormatError } from './byte-reader.ts';
import { inflateZlib } from './inflate.ts';

const SEED = Number(process.env.SEED ?? 2024);

function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
}

describe(`zlib data (seed ${SEED})`, () => {
  const random = generator(SEED);
  const noise = Uint8Array.from({ length: 100_000 }, () => random(256));
  const skewed = Uint8Array.from({ length: 100_000 }, () => random(1 + random(200)));
  const inputs = {
    nothing: new Uint8Array(),
    zeros: new Uint8Array(70_000),
    noise,
    skewed,
    'a source file': new Uint8Array(readFileSync(import.meta.filename)),
    'a program': new Uint8Array(readFileSync(process.execPath).subarray(0, 2_000_000)),
  };
  const options = [
    { level: 0 },
    { level: 1 },
    { level: 9 },
    { strategy: constants.Z_FIXED },
    { strategy: constants.Z_RLE },
    { strategy: constants.Z_HUFFMAN_ONLY },
  ];
  for (const [name, bytes] of Object.entries(inputs)) {
    it(`is decompressed: ${name}`, () => {
      for (const option of options) {
        const packed = deflateSync(bytes, option);
        assert.ok(Buffer.from(bytes).equals(inflateZlib(packed, bytes.length)), JSON.stringify(option));
      }
    });
  }

  it('is refused with FormatError only where it is damaged, cut or of another size', () => {
    const whole = deflateSync(skewed);
    let refused = 0;
    for (let round = 0; round < 300; round++) {
      const damaged = Uint8Array.from(whole.subarray(0, round % 3 === 0 ? random(whole.length) : whole.length));
      for (let flip = 0; flip < round % 4; flip++) damaged[random(damaged.length)] = random(256);
      try {
        inflateZlib(damaged, skewed.length - (round % 5 === 0 ? 1 : 0));
      } catch (error) {
        assert.ok(error instanceof FormatError, `round ${round}: ${error}`);
        refused++;
      }
    }
    assert.ok(refused > 150, `${refused} of 300 were refused`);
  });
});
