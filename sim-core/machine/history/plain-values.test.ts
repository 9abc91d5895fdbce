import assert from 'node:assert/strict';
import { decodePlain, encodePlain } from './plain-values.ts';

function throughJson(value: unknown): unknown {
  const bytes: number[] = [];
  const json = encodePlain(value, (each) => bytes.push(...each) - each.length);
  return decodePlain(JSON.parse(JSON.stringify(json)), Uint8Array.from(bytes));
}

describe('plain values', () => {
  it('come back from JSON as they were', () => {
    const value = {
      nothing: undefined,
      none: null,
      numbers: [1.5, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
      big: 2n ** 64n - 1n,
      negative: -1n,
      text: '$bigint',
      map: new Map<unknown, unknown>([
        [1, Uint8Array.of(1, 2, 3)],
        ['a', new Map([[2n, undefined]])],
      ]),
      set: new Set([1n, 'b']),
      views: [new BigUint64Array([1n, 2n ** 63n]), Int32Array.of(-1, 7), new Float64Array([0.5])],
      // A view of a part of its buffer.
      part: new Uint8Array([9, 8, 7, 6]).subarray(1, 3),
    };
    assert.deepEqual(throughJson(value), { ...value, part: Uint8Array.of(8, 7) });
    assert.ok(Object.hasOwn(throughJson(value) as object, 'nothing'));
  });

  it('are refused where nothing plain would come back', () => {
    assert.throws(() => encodePlain({ run: () => 0 }, () => 0), /a function cannot be written down/);
    assert.throws(() => encodePlain([new Date(0)], () => 0), /an? object cannot be written down/);
    assert.throws(() => decodePlain({ $Uint8Array: [0, 5] }, Uint8Array.of(1)), /bytes are missing/);
    assert.throws(() => decodePlain({ $regexp: 'x' }, Uint8Array.of()), /no kind of value 'regexp'/);
  });
});
