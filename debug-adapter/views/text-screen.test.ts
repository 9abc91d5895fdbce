// Expected values: code page 437 as the IBM PC Technical Reference tabulates it; the text that the test wrote.
import assert from 'node:assert/strict';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { textScreen } from './text-screen.ts';

const ATTRIBUTE = 0x07;
const cells = (codes: readonly number[]): Uint8Array => Uint8Array.from(codes.flatMap((code) => [code, ATTRIBUTE]));

describe('The text screen', () => {
  it('shows 25 rows of 80 characters, without what is empty at the end', () => {
    const { physical } = createMachine({ memory: 1 << 20 });
    assert.deepEqual(textScreen(physical), []);
    physical.poke(0xb8000, cells([...'Hello'].map((letter) => letter.charCodeAt(0))));
    physical.poke(0xb8000 + 2 * (80 * 2 + 79), cells([0x21]));
    assert.deepEqual(textScreen(physical), ['Hello', '', `${' '.repeat(79)}!`]);
    physical.poke(0xb8000 + 2 * 80 * 25, cells([0x58]));
    assert.equal(textScreen(physical).length, 3);
  });

  it('has the characters of code page 437', () => {
    const { physical } = createMachine({ memory: 1 << 20 });
    physical.poke(0xb8000, cells([0x80, 0x9f, 0xb0, 0xc9, 0xdb, 0xe1, 0xf1, 0xfe, 0x01, 0x7e]));
    assert.deepEqual(textScreen(physical), ['Çƒ░╔█ß±■ ~']);
  });
});
