import assert from 'node:assert/strict';
import { Recent } from './recent.ts';

describe('results that are kept', () => {
  it('are made once, also when they are undefined', () => {
    const recent = new Recent<string, number | undefined>(10);
    let made = 0;
    const get = (): number | undefined =>
      recent.get('a', () => {
        made++;
        return undefined;
      });
    assert.deepEqual([get(), get(), made], [undefined, undefined, 1]);
  });

  it('are no more than the limit', () => {
    const recent = new Recent<number, number>(10);
    let made = 0;
    const get = (key: number): number => recent.get(key, () => ++made);
    for (let key = 0; key < 10; key++) get(key);
    get(3);
    assert.equal(made, 10);
    get(10);
    get(3);
    assert.equal(made, 12);
  });

  it('are none where an error was thrown', () => {
    const recent = new Recent<string, number>(10);
    const failing = (): never => {
      throw new RangeError('no');
    };
    assert.throws(() => recent.get('a', failing), RangeError);
    assert.equal(
      recent.get('a', () => 5),
      5,
    );
  });
});
