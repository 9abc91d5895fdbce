// Expected values: QEMU, "fw_cfg device specification".
import assert from 'node:assert/strict';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { State } from '../state/state.ts';
import { FwCfg } from './fw-cfg.ts';

function makeDevice() {
  const physical = new PhysicalMemory(new State(2 ** 20));
  const files = { 'etc/b': Uint8Array.of(9, 8, 7), 'etc/a': Uint8Array.of(1, 2, 3, 4, 5) };
  const device = new FwCfg(physical, { ramSize: 2 ** 20, processors: 2, files });
  const read = (count: number): number[] => Array.from({ length: count }, () => device.read(0x511, 1));
  const select = (key: number): void => device.write(0x510, 2, key);
  return { physical, device, read, select };
}

const text = (bytes: readonly number[]): string => String.fromCharCode(...bytes).replace(/\0.*/s, '');

describe('fw_cfg', () => {
  it('shows its signature, and zeros behind the end of an item', () => {
    const { read, select } = makeDevice();
    select(0);
    assert.deepEqual([text(read(4)), read(2)], ['QEMU', [0, 0]]);
    select(5);
    assert.deepEqual(read(2), [2, 0]);
  });

  it('lists its files, sorted by name', () => {
    const { read, select } = makeDevice();
    select(0x19);
    assert.deepEqual(read(4), [0, 0, 0, 2]);
    assert.deepEqual([read(8), text(read(56))], [[0, 0, 0, 5, 0, 0x20, 0, 0], 'etc/a']);
    assert.deepEqual([read(8), text(read(56))], [[0, 0, 0, 3, 0, 0x21, 0, 0], 'etc/b']);
    select(0x21);
    assert.deepEqual(read(3), [9, 8, 7]);
  });

  it('copies into memory by DMA, and clears the control word', () => {
    const { physical, device } = makeDevice();
    assert.equal(device.read(0x514, 4), 0x554d_4551, '"QEMU"');
    // Select item 20h, skip 2: then read 3 to 5000h. Big-endian words.
    physical.poke(0x4000, Uint8Array.of(0, 0x20, 0, 0x0c, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0));
    device.write(0x518, 4, 0x0040_0000);
    physical.poke(0x4010, Uint8Array.of(0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x50, 0));
    device.write(0x518, 4, 0x1040_0000);
    assert.deepEqual(physical.peek(0x5000, 4), Uint8Array.of(3, 4, 5, 0));
    assert.deepEqual([physical.read(0x4000, 4), physical.read(0x4010, 4)], [0, 0]);
  });

  it('reports an error for memory that is not there, and for writing', () => {
    const { physical, device } = makeDevice();
    for (const block of [
      [0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0xff, 0, 0, 0],
      [0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x50, 0],
    ]) {
      physical.poke(0x4000, Uint8Array.from(block));
      device.write(0x518, 4, 0x0040_0000);
      assert.deepEqual(physical.peek(0x4000, 4), Uint8Array.of(0, 0, 0, 1));
    }
    // A command block that is nowhere is ignored.
    device.write(0x514, 4, 0x0100_0000);
    device.write(0x518, 4, 0);
  });

  it('goes on from a snapshot', () => {
    const { device, read, select } = makeDevice();
    const initial = structuredClone(device.snapshot());
    select(0x20);
    read(2);
    const saved = structuredClone(device.snapshot());
    device.restore(initial);
    device.restore(saved);
    assert.deepEqual(read(2), [3, 4]);
  });
});
