import assert from 'node:assert/strict';
import { HostBridge, LpcBridge } from './chipset.ts';
import { type BarDevice, PciFunction } from './function.ts';
import { formatRequester, gsiOf, pirqOf } from './layout.ts';
import { TestBus } from './test-bus.ts';

const IDENTITY = { vendor: 0x1234, device: 0x5678, revision: 3, classCode: 0x02_0000 };
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;

/** A region of registers that remember. */
function memory(): BarDevice & { readonly words: Map<number, number> } {
  const words = new Map<number, number>();
  return { words, read: (offset) => words.get(offset) ?? 0, write: (offset, _size, value) => words.set(offset, value) };
}

function functionWith(kind: 'memory32' | 'memory64' | 'io', size: number, device = 3): PciFunction {
  const one = new PciFunction({ identity: IDENTITY, device, pin: 1 });
  one.addBar({ index: 0, kind, size, device: memory() });
  return one;
}

describe('PCI configuration space', () => {
  it('is reached by ports CF8h and CFCh', () => {
    const { bus } = new TestBus();
    bus.plug(functionWith('memory32', 4096));
    bus.configPorts.write(CONFIG_ADDRESS, 4, 0x8000_1800);
    assert.equal(bus.configPorts.read(CONFIG_DATA, 4), 0x5678_1234);
    assert.equal(bus.configPorts.read(CONFIG_DATA + 2, 2), 0x5678);
    assert.equal(bus.configPorts.read(CONFIG_ADDRESS, 4), 0x8000_1800);
    bus.configPorts.write(CONFIG_ADDRESS, 4, 0x8000_1808);
    assert.equal(bus.configPorts.read(CONFIG_DATA, 4), 0x0200_0003, 'class 02h, revision 3');
  });

  it('reads as ones where no function is, and while the address is not enabled', () => {
    const { bus } = new TestBus();
    bus.plug(functionWith('memory32', 4096));
    bus.configPorts.write(CONFIG_ADDRESS, 4, 0x8000_2000);
    assert.equal(bus.configPorts.read(CONFIG_DATA, 4), 0xffff_ffff);
    bus.configPorts.write(CONFIG_ADDRESS, 4, 0x0000_1800);
    assert.equal(bus.configPorts.read(CONFIG_DATA, 2), 0xffff);
  });

  it('is the same through ECAM, 4 KiB for each function', () => {
    const { bus } = new TestBus();
    bus.plug(functionWith('memory32', 4096));
    assert.equal(bus.ecam.read(0x1_8000, 2), 0x1234);
    assert.equal(bus.ecam.read(0x1_8100, 4), 0, 'no extended capabilities');
    assert.equal(bus.ecam.read(0x10_0000, 4), 0xffff_ffff, 'bus 1');
  });

  it('keeps identity and interrupt pin from being written', () => {
    const one = functionWith('memory32', 4096);
    one.write(0x00, 4, 0);
    one.write(0x3d, 1, 4);
    assert.equal(one.read(0x00, 4), 0x5678_1234);
    assert.equal(one.read(0x3d, 1), 1);
  });
});

describe('base address registers', () => {
  it('tell their size: the address bits that stay zero', () => {
    const small = functionWith('memory32', 0x10_0000);
    small.write(0x10, 4, 0xffff_ffff);
    assert.equal(small.read(0x10, 4), 0xfff0_0000);
    const io = functionWith('io', 32);
    io.write(0x10, 4, 0xffff_ffff);
    assert.equal(io.read(0x10, 4), 0xffff_ffe1);
    const wide = functionWith('memory64', 2 ** 33);
    wide.write(0x10, 4, 0xffff_ffff);
    wide.write(0x14, 4, 0xffff_ffff);
    assert.equal(wide.read(0x10, 4), 4, '64-bit, no bit of the lower half');
    assert.equal(wide.read(0x14, 4), 0xffff_fffe);
  });

  it('have sizes that are powers of two', () => {
    assert.throws(() => functionWith('memory32', 3000), RangeError);
  });

  it('answer in memory where they say, while the command register lets them', () => {
    const { bus, physical } = new TestBus();
    const one = functionWith('memory32', 4096);
    bus.plug(one);
    one.write(0x10, 4, 0xc001_0000);
    physical.write(0xc001_0008, 4, 5);
    assert.equal(physical.read(0xc001_0008, 4), 0xffff_ffff);
    one.write(0x04, 2, 2);
    physical.write(0xc001_0008, 4, 5);
    assert.equal(physical.read(0xc001_0008, 4), 5);
    one.write(0x10, 4, 0xc002_0000);
    assert.equal(physical.read(0xc001_0008, 4), 0xffff_ffff);
    assert.equal(physical.read(0xc002_0008, 4), 5);
  });

  it('answer above 4 GiB', () => {
    const { bus, physical } = new TestBus();
    const one = functionWith('memory64', 4096);
    bus.plug(one);
    bus.assign();
    assert.equal(one.read(0x14, 4), 8);
    physical.write(0x8_0000_0010, 4, 77);
    assert.equal(physical.read(0x8_0000_0010, 4), 77);
  });

  it('answer in I/O space', () => {
    const { bus } = new TestBus();
    const one = functionWith('io', 32);
    bus.plug(one);
    bus.assign();
    assert.equal(one.read(0x10, 4), 0xc001);
    bus.io.write(0xc004, 4, 9);
    assert.equal(bus.io.read(0xc004, 4), 9);
    assert.equal(bus.io.read(0xc020, 1), 0xff);
  });

  it('may overlap: the function with the lower number answers', () => {
    const { bus, physical } = new TestBus();
    const [a, b] = [functionWith('memory32', 4096, 5), functionWith('memory32', 4096, 4)];
    for (const one of [a, b]) {
      bus.plug(one);
      one.write(0x10, 4, 0xc000_0000);
      one.write(0x04, 2, 2);
    }
    physical.write(0xc000_0000, 4, 1);
    assert.equal(b.bars[0]?.device.read(0, 4), 1);
    assert.equal(a.bars[0]?.device.read(0, 4), 0);
  });
});

describe('INTx', () => {
  it('goes to a PIRQ by device and pin, which functions share', () => {
    const { bus, pirqs } = new TestBus();
    const [a, b] = [functionWith('io', 4, 1), functionWith('io', 4, 5)];
    bus.plug(a);
    bus.plug(b);
    a.setInterrupt(true);
    b.setInterrupt(true);
    a.setInterrupt(false);
    assert.deepEqual(pirqs, [false, true, false, false]);
    b.setInterrupt(false);
    assert.deepEqual(pirqs, [false, false, false, false]);
  });

  it('shows in the status register also while the command register blocks it', () => {
    const { bus, pirqs } = new TestBus();
    const one = functionWith('io', 4, 1);
    bus.plug(one);
    one.write(0x04, 2, 0x400);
    one.setInterrupt(true);
    assert.equal(one.read(0x06, 2) & 0x08, 0x08);
    assert.equal(one.read(0x04, 4) >>> 16, 0x08, 'read together with the command register');
    assert.equal(pirqs[1], false);
    one.write(0x04, 2, 0);
    assert.equal(pirqs[1], true);
  });

  it('is swizzled over the four PIRQs and the I/O APIC inputs 16 to 19', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((device) => pirqOf(device, 1)),
      [0, 1, 2, 3, 0],
    );
    assert.equal(gsiOf(3, 2), 16);
    assert.equal(formatRequester(0x00fa), '00:1f.2');
  });
});

describe('MSI', () => {
  function withMsi(): { readonly test: TestBus; readonly one: PciFunction; readonly at: number } {
    const test = new TestBus();
    const one = functionWith('io', 4);
    one.addMsi();
    test.bus.plug(one);
    const at = one.read(0x34, 1);
    one.write(0x04, 2, 4);
    one.write(at + 4, 4, 0xfee0_3000);
    one.write(at + 12, 2, 0x0041);
    return { test, one, at };
  }

  it('is found in the list of capabilities, and sends what software has set', () => {
    const { test, one, at } = withMsi();
    assert.equal(one.read(0x06, 2) & 0x10, 0x10);
    assert.equal(one.read(at, 1), 0x05);
    assert.equal(one.read(at + 2, 2), 0x0180, '64-bit, maskable, one vector');
    one.signal();
    assert.deepEqual(test.messages, [], 'not enabled');
    one.write(at + 2, 2, 1);
    one.signal();
    assert.deepEqual(test.messages, [{ destination: 3, logical: false, deliveryMode: 0, vector: 0x41, level: false }]);
  });

  it('keeps a masked message until it is unmasked', () => {
    const { test, one, at } = withMsi();
    one.write(at + 2, 2, 1);
    one.write(at + 16, 4, 1);
    one.signal();
    assert.equal(one.read(at + 20, 4), 1, 'pending');
    assert.equal(test.messages.length, 0);
    one.write(at + 16, 4, 0);
    assert.equal(one.read(at + 20, 4), 0);
    assert.equal(test.messages.length, 1);
  });

  it('needs bus mastering, and turns INTx off', () => {
    const { test, one, at } = withMsi();
    one.write(at + 2, 2, 1);
    one.write(0x04, 2, 0);
    one.signal();
    one.setInterrupt(true);
    assert.equal(test.messages.length, 0);
    assert.deepEqual(test.pirqs, [false, false, false, false]);
  });
});

describe('MSI-X', () => {
  it('sends by table entry, and keeps pending bits of masked ones', () => {
    const { bus, physical, messages } = new TestBus();
    const one = new PciFunction({ identity: IDENTITY, device: 2, pin: 1 });
    one.addMsix(3, 1);
    bus.plug(one);
    bus.assign();
    const at = one.read(0x34, 1);
    assert.equal(one.read(at, 1), 0x11);
    assert.equal(one.read(at + 2, 2), 2, 'three entries');
    const table = one.read(0x14, 4);
    const pending = table + (one.read(at + 8, 4) & ~7);
    one.write(0x04, 2, 6);
    one.write(at + 2, 2, 0x8000);
    physical.write(table + 16, 4, 0xfee0_1000);
    physical.write(table + 24, 4, 0x52);
    one.signal(1);
    assert.equal(physical.read(pending, 4), 2);
    physical.write(table + 28, 4, 0);
    assert.equal(physical.read(pending, 4), 0);
    assert.deepEqual(
      messages.map(({ destination, vector }) => [destination, vector]),
      [[1, 0x52]],
    );
    one.signal(7);
    assert.equal(messages.length, 1, 'there is no entry 7');
  });
});

describe('the chipset', () => {
  it('is a Q35 host bridge that says where ECAM is, and an ICH9 that routes PIRQs', () => {
    const bridge = new HostBridge();
    assert.equal(bridge.read(0, 4), 0x29c0_8086);
    assert.equal(bridge.read(0x60, 4), 0xe000_0001);
    const driven: [number, boolean][] = [];
    const lpc = new LpcBridge((input, asserted) => driven.push([input, asserted]));
    assert.equal(lpc.route(0), 10);
    lpc.setPirq(0, true);
    lpc.setPirq(1, true);
    lpc.write(0x60, 1, 0x80);
    assert.equal(lpc.route(0), undefined);
    lpc.setPirq(1, false);
    lpc.write(0x60, 1, 0x05);
    assert.equal(lpc.route(0), 5);
    assert.deepEqual(driven, [
      [10, true],
      [10, false],
      [5, true],
    ]);
  });

  it('is restored from a snapshot', () => {
    const { bus, physical, pirqs } = new TestBus();
    const one = functionWith('memory32', 4096, 1);
    bus.plug(one);
    bus.assign();
    one.setInterrupt(true);
    const saved = structuredClone(bus.snapshot());
    one.setInterrupt(false);
    one.write(0x04, 2, 0);
    bus.restore(saved);
    physical.write(0xc000_0000, 4, 3);
    assert.equal(physical.read(0xc000_0000, 4), 3);
    assert.deepEqual(pirqs, [false, true, false, false]);
  });
});
