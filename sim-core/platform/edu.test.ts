import assert from 'node:assert/strict';
import { Edu } from './edu.ts';
import { TestBus } from './pci/test-bus.ts';

/** The device behind its first region, as its documentation describes it. */
function plugged(dmaMask?: bigint): {
  readonly test: TestBus;
  readonly edu: Edu;
  readonly read: (offset: number, size?: number) => number;
  readonly write: (offset: number, value: number) => void;
} {
  const test = new TestBus();
  const edu = new Edu({ device: 4, ...(dmaMask === undefined ? {} : { dmaMask }) }, test.environment);
  const base = test.plug(edu);
  return {
    test,
    edu,
    read: (offset, size = 4) => test.physical.read(base + offset, size),
    write: (offset, value) => test.physical.write(base + offset, 4, value),
  };
}

const wait = ({ test, edu }: { readonly test: TestBus; readonly edu: Edu }): void => test.run(edu, 1_000_000);

describe('edu', () => {
  it('identifies itself, on the bus and by its register', () => {
    const { edu, read } = plugged();
    assert.equal(edu.function.read(0, 4), 0x11e8_1234);
    assert.equal(read(0), 0x0100_00ed);
  });

  it('inverts the liveness value', () => {
    const { read, write } = plugged();
    write(4, 0x1234_5678);
    assert.equal(read(4), 0xedcb_a987);
  });

  it('computes factorials in its own time, modulo 2^32', () => {
    const device = plugged();
    for (const [n, factorial] of [
      [0, 1],
      [5, 120],
      [12, 479_001_600],
      [13, 1_932_053_504],
      [40, 0],
    ] as const) {
      device.write(8, n);
      assert.equal(device.read(0x20) & 1, 1, 'computing');
      device.write(8, 99);
      wait(device);
      assert.equal(device.read(0x20) & 1, 0);
      assert.equal(device.read(8), factorial, `${n}!`);
    }
  });

  it('takes only accesses of 4 bytes', () => {
    const { read } = plugged();
    assert.equal(read(0, 1), 0xff);
    assert.equal(read(0, 2), 0xffff);
  });

  it('interrupts by INTx until it is acknowledged', () => {
    const device = plugged();
    device.write(0x60, 0x11);
    assert.equal(device.read(0x24), 0x11);
    assert.equal(device.test.pirqs[0], true);
    device.write(0x64, 0x10);
    assert.equal(device.test.pirqs[0], true);
    device.write(0x64, 0x01);
    assert.equal(device.test.pirqs[0], false);
    device.write(0x20, 0x80);
    device.write(8, 3);
    wait(device);
    assert.equal(device.read(0x24), 1, 'factorial done');
  });

  it('interrupts by MSI once it is enabled', () => {
    const device = plugged();
    const at = device.edu.function.read(0x34, 1);
    device.edu.function.write(at + 4, 4, 0xfee0_0000);
    device.edu.function.write(at + 12, 2, 0x33);
    device.edu.function.write(at + 2, 2, 1);
    device.write(0x60, 2);
    assert.deepEqual(
      device.test.messages.map(({ vector }) => vector),
      [0x33],
    );
    assert.equal(device.test.pirqs[0], false);
  });

  it('moves memory to its buffer and back', () => {
    const device = plugged();
    device.test.physical.poke(
      0x5ff0,
      Uint8Array.from({ length: 32 }, (_, i) => i),
    );
    device.write(0x80, 0x5ff0);
    device.write(0x88, 0x4_0100);
    device.write(0x90, 32);
    device.write(0x98, 1);
    assert.equal(device.read(0x98), 1, 'running');
    device.write(0x90, 1);
    wait(device);
    assert.equal(device.read(0x98), 0);
    device.write(0x80, 0x4_0104);
    device.write(0x88, 0x8000);
    device.write(0x90, 8);
    device.write(0x98, 7);
    wait(device);
    assert.deepEqual([...device.test.physical.peek(0x8000, 10)], [4, 5, 6, 7, 8, 9, 10, 11, 0, 0]);
    assert.equal(device.read(0x24), 0x100, 'interrupt of the DMA engine');
  });

  it('has 28 address bits for DMA unless told otherwise', () => {
    for (const [mask, reads] of [
      [undefined, 0xab],
      [0xffff_ffffn, 0],
    ] as const) {
      const device = plugged(mask);
      device.test.physical.poke(0x3000, Uint8Array.of(0xab));
      device.write(0x80, 0x1000_3000);
      device.write(0x88, 0x4_0000);
      device.write(0x90, 1);
      device.write(0x98, 1);
      wait(device);
      device.write(0x80, 0x4_0000);
      device.write(0x88, 0x4000);
      device.write(0x98, 3);
      wait(device);
      assert.equal(device.test.physical.peek(0x4000, 1)[0], reads);
    }
  });

  it('moves nothing outside its buffer, and nothing without bus mastering', () => {
    const device = plugged();
    device.test.physical.poke(0x2000, Uint8Array.of(1));
    const transfer = (): void => {
      device.write(0x88, 0x2000);
      device.write(0x98, 3);
      wait(device);
    };
    device.write(0x80, 0x4_0fff);
    device.write(0x90, 2);
    transfer();
    assert.equal(device.test.physical.peek(0x2000, 1)[0], 1);
    device.write(0x80, 0x4_0000);
    device.edu.function.write(4, 2, 2);
    transfer();
    assert.equal(device.test.physical.peek(0x2000, 1)[0], 1);
    assert.equal(device.read(0x98) & 1, 0, 'it ends all the same');
  });

  it('tells the debugger, and its status register, of DMA to nowhere', () => {
    const device = plugged();
    device.write(0x80, 0x0abc_0000);
    device.write(0x88, 0x4_0000);
    device.write(0x90, 4);
    device.write(0x98, 1);
    wait(device);
    assert.deepEqual(
      device.test.faults.map(({ requester, access, address }) => [requester, access, address]),
      [[0x20, 'read', 0x0abc_0000n]],
    );
    assert.equal(device.edu.function.read(6, 2) & 0x2000, 0x2000, 'received master abort');
    device.edu.function.write(6, 2, 0x2000);
    assert.equal(device.edu.function.read(6, 2) & 0x2000, 0);
  });

  it('goes on from a snapshot', () => {
    const device = plugged();
    device.write(8, 6);
    const saved = device.edu.snapshot();
    wait(device);
    device.write(4, 1);
    device.edu.restore(saved);
    assert.equal(device.read(4), 0);
    wait(device);
    assert.equal(device.read(8), 720);
  });
});
