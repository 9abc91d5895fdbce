// Expected values: what was written, little-endian; line numbers are those of the ports from 2000h on.
import assert from 'node:assert/strict';
import { TEST_MEMORY, TestDevice } from './test-device.ts';

describe('pc-testdev', () => {
  const lines: [number, boolean][] = [];
  const device = new TestDevice((line, asserted) => lines.push([line, asserted]));

  it('remembers what is written to its port, and its memory', () => {
    device.write(0xe0, 4, 0x1234_5678);
    assert.deepEqual([device.read(0xe0, 4), device.read(0xe0, 1)], [0x1234_5678, 0x78]);
    device.memory.write(TEST_MEMORY.size - 4, 4, 0x89ab_cdef);
    assert.deepEqual(
      [device.memory.read(TEST_MEMORY.size - 4, 4), device.memory.read(TEST_MEMORY.size - 3, 1)],
      [0x89ab_cdef, 0xcd],
    );
    assert.deepEqual(lines, []);
  });

  it('drives the interrupt lines', () => {
    device.write(0x2005, 1, 1);
    device.write(0x2017, 1, 0);
    assert.deepEqual(lines, [
      [5, true],
      [23, false],
    ]);
  });

  it('is restored from a snapshot', () => {
    const saved = device.snapshot();
    device.write(0xe0, 4, 0);
    device.memory.write(TEST_MEMORY.size - 4, 4, 0);
    device.restore(saved);
    assert.deepEqual([device.read(0xe0, 4), device.memory.read(TEST_MEMORY.size - 4, 4)], [0x1234_5678, 0x89ab_cdef]);
  });
});
