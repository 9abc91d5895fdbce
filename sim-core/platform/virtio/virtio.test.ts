import assert from 'node:assert/strict';
import { TestBus } from '../pci/test-bus.ts';
import { VirtioBlock } from './block.ts';
import { ConsolePort, VirtioConsole } from './console.ts';
import { memoryImage } from './disk.ts';
import { NetworkSwitch, VirtioNet } from './net.ts';
import { VirtioRng } from './rng.ts';
import { type QueueUse, TestDriver } from './test-driver.ts';
import type { VirtioModel } from './transport.ts';

const HEADER = 0x4000;
const DATA = 0x5000;
const STATUS = 0x6000;
const SECTOR = 512;
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Writes descriptor 0 of queue 0. */
function describeFirst(driver: TestDriver, address: bigint, length: number, flags: number): void {
  const at = driver.ring(0, 0);
  driver.test.physical.write64(at, address);
  driver.test.physical.write(at + 8, 4, length);
  driver.test.physical.write(at + 12, 2, flags);
}

describe('virtio over PCI', () => {
  it('shows a modern device: ids, and capabilities of all five types', () => {
    const { device } = new TestDriver(new VirtioRng());
    assert.equal(device.function.read(0, 4), 0x1044_1af4);
    assert.equal(device.function.read(8, 1), 1, 'revision');
    const types: number[] = [];
    for (let at = device.function.read(0x34, 1); at !== 0; at = device.function.read(at + 1, 1)) {
      if (device.function.read(at, 1) === 9) types.push(device.function.read(at + 3, 1));
    }
    assert.deepEqual(types, [1, 2, 3, 4, 5]);
  });

  it('offers VERSION_1, ACCESS_PLATFORM and RING_PACKED, and takes no features that it did not offer', () => {
    const driver = new TestDriver(new VirtioRng());
    driver.set('featureSelect', 1);
    assert.equal(driver.get('feature'), 7);
    driver.set('driverFeatureSelect', 1);
    driver.set('driverFeature', 0x17);
    driver.set('status', 11);
    assert.equal(driver.get('status') & 8, 0);
    driver.set('driverFeature', 1);
    driver.set('status', 11);
    assert.equal(driver.get('status') & 8, 8);
  });

  it('refuses legacy drivers, which do not accept VERSION_1', () => {
    const driver = new TestDriver(new VirtioRng());
    driver.set('status', 11);
    assert.equal(driver.get('status'), 3);
  });

  it('can be reached through configuration space', () => {
    const { device } = new TestDriver(new VirtioRng());
    const { function: pci } = device;
    let at = pci.read(0x34, 1);
    while (pci.read(at, 1) !== 9 || pci.read(at + 3, 1) !== 5) at = pci.read(at + 1, 1);
    pci.write(at + 4, 1, 4);
    pci.write(at + 8, 4, 0x12);
    pci.write(at + 12, 4, 2);
    assert.equal(pci.read(at + 16, 4), 1, 'number of queues');
  });

  it('interrupts by INTx until ISR is read, or by MSI-X', () => {
    const driver = new TestDriver(new VirtioRng()).start();
    driver.send(0, { address: DATA, length: 4, write: true });
    assert.equal(driver.test.pirqs[0], true);
    assert.equal(driver.read(0x1000), 1);
    assert.equal(driver.test.pirqs[0], false);
    assert.equal(driver.read(0x1000), 0);

    const { function: pci } = driver.device;
    const table = pci.read(0x14, 4);
    driver.test.physical.write(table + 16, 4, 0xfee0_0000);
    driver.test.physical.write(table + 24, 4, 0x61);
    driver.test.physical.write(table + 28, 4, 0);
    const capability = pci.read(0x34, 1);
    assert.equal(pci.read(capability, 1), 0x11);
    pci.write(capability + 2, 2, 0x8000);
    driver.set('vector', 1);
    driver.send(0, { address: DATA, length: 4, write: true });
    assert.deepEqual(
      driver.test.messages.map(({ vector }) => vector),
      [0x61],
    );
  });

  it('keeps quiet when the driver wants no interrupt', () => {
    const driver = new TestDriver(new VirtioRng()).start();
    driver.test.physical.write(driver.ring(0, 1), 2, 1);
    driver.send(0, { address: DATA, length: 4, write: true });
    assert.deepEqual(driver.used(0), [1, 4]);
    assert.equal(driver.test.pirqs[0], false);
  });

  it('asks for a reset when a queue is garbage, and says why', () => {
    const cases: readonly (readonly [string, RegExp, (driver: TestDriver) => void])[] = [
      ['a loop', /it is a loop/, (driver) => describeFirst(driver, 0n, 0, 1)],
      ['an index beyond', /no descriptor 99/, (driver) => driver.test.physical.write(driver.ring(0, 1) + 4, 2, 99)],
      ['an indirect table', /was not negotiated/, (driver) => describeFirst(driver, 0n, 0, 4)],
      ['no memory', /0x70000000 cannot be written/, (driver) => describeFirst(driver, 0x7000_0000n, 16, 2)],
      ['a buffer of 4 GiB', /4294967295 bytes/, (driver) => describeFirst(driver, 0n, 0xffff_ffff, 2)],
    ];
    for (const [name, message, spoil] of cases) {
      const driver = new TestDriver(new VirtioRng()).start();
      spoil(driver);
      driver.test.physical.write(driver.ring(0, 1) + 2, 2, 1);
      driver.notify(0);
      assert.equal(driver.get('status') & 0x40, 0x40, name);
      assert.match(driver.test.complaints.join(), /^virtio-rng: queue 0: .*; the driver must reset the device$/);
      assert.match(driver.test.complaints.join(), message, name);
      driver.start();
      assert.equal(driver.get('status'), 15, `${name}: a reset makes it usable`);
    }
  });

  it('asks for a reset when more chains are available than there are descriptors', () => {
    const driver = new TestDriver(new VirtioRng()).start();
    driver.test.physical.write(driver.ring(0, 1) + 2, 2, 9);
    driver.notify(0);
    assert.match(driver.test.complaints.join(), /9 chains are available in a queue of 8/);
  });
});

const TABLE = 0x8000;

/** A descriptor of either format at an address. */
function putDescriptor(
  driver: TestDriver,
  at: number,
  packed: boolean,
  address: number,
  length: number,
  flags: number,
): void {
  const { physical } = driver.test;
  physical.write64(at, BigInt(address));
  physical.write(at + 8, 4, length);
  physical.write(at + (packed ? 14 : 12), 2, flags);
  physical.write(at + (packed ? 12 : 14), 2, 0);
}

describe('malformed descriptors', () => {
  const AVAILABLE = 0x80;
  const cases: readonly (readonly [string, RegExp, boolean, (driver: TestDriver, first: number) => void])[] = [
    [
      'split: a table that leads to itself',
      /inside an indirect table/,
      false,
      (driver, first) => {
        putDescriptor(driver, first, false, TABLE, 16, 4);
        putDescriptor(driver, TABLE, false, TABLE, 16, 4);
      },
    ],
    [
      'split: a loop in a table',
      /it is a loop/,
      false,
      (driver, first) => {
        putDescriptor(driver, first, false, TABLE, 32, 4);
        putDescriptor(driver, TABLE, false, DATA, 4, 1);
      },
    ],
    [
      'split: an indirect descriptor with a next one',
      /that has a next one/,
      false,
      (driver, first) => putDescriptor(driver, first, false, TABLE, 16, 5),
    ],
    [
      'split: a table of 20 bytes',
      /of 20 bytes/,
      false,
      (driver, first) => putDescriptor(driver, first, false, TABLE, 20, 4),
    ],
    ['split: an empty table', /of 0 bytes/, false, (driver, first) => putDescriptor(driver, first, false, TABLE, 0, 4)],
    [
      'split: a table outside memory',
      /0x70000000 cannot be read/,
      false,
      (driver, first) => putDescriptor(driver, first, false, 0x7000_0000, 16, 4),
    ],
    [
      'packed: a chain that goes on where nothing is available',
      /nothing is available/,
      true,
      (driver, first) => putDescriptor(driver, first, true, DATA, 4, AVAILABLE | 3),
    ],
    [
      'packed: a chain without an end',
      /longer than the queue/,
      true,
      (driver, first) => {
        for (let i = 0; i < 8; i++) putDescriptor(driver, first + 16 * i, true, DATA, 4, AVAILABLE | 3);
      },
    ],
    [
      'packed: a table in a table',
      /inside an indirect table/,
      true,
      (driver, first) => {
        putDescriptor(driver, first, true, TABLE, 16, AVAILABLE | 4);
        putDescriptor(driver, TABLE, true, TABLE, 16, 4);
      },
    ],
    [
      'packed: a buffer to be read behind one to be written',
      /to be read is behind/,
      true,
      (driver, first) => {
        putDescriptor(driver, first, true, DATA, 4, AVAILABLE | 3);
        putDescriptor(driver, first + 16, true, DATA, 4, AVAILABLE);
      },
    ],
    [
      'packed: a buffer outside memory',
      /0x70000000 cannot be written/,
      true,
      (driver, first) => putDescriptor(driver, first, true, 0x7000_0000, 4, AVAILABLE | 2),
    ],
  ];
  for (const [name, message, packed, spoil] of cases) {
    it(`${name}: the device needs a reset, and says why`, () => {
      const driver = new TestDriver(new VirtioRng(), new TestBus(), 4, { packed, indirect: true }).start();
      spoil(driver, driver.ring(0, 0));
      if (!packed) driver.test.physical.write(driver.ring(0, 1) + 2, 2, 1);
      driver.notify(0);
      assert.equal(driver.get('status') & 0x40, 0x40);
      assert.match(driver.test.complaints.join(), message);
    });
  }
});

describe('event indices', () => {
  it('split: interrupt only at the entry that the driver waits for; the device says what it has seen', () => {
    const driver = new TestDriver(new VirtioRng(), new TestBus(), 4, { eventIndex: true }).start();
    const { physical } = driver.test;
    const usedEvent = driver.ring(0, 1) + 4 + 2 * 8;
    const availableEvent = driver.ring(0, 2) + 4 + 8 * 8;
    physical.write(usedEvent, 2, 1);
    driver.send(0, { address: DATA, length: 4, write: true });
    assert.equal(driver.test.pirqs[0], false);
    assert.equal(physical.read(availableEvent, 2), 1);
    driver.send(0, { address: DATA, length: 4, write: true });
    assert.equal(driver.test.pirqs[0], true);
    assert.equal(physical.read(availableEvent, 2), 2);
  });

  it('packed: interrupt only at the descriptor and wrap counter that the driver waits for, or none, or all', () => {
    const driver = new TestDriver(new VirtioRng(), new TestBus(), 4, { packed: true, eventIndex: true }).start();
    const { physical } = driver.test;
    const interrupted = (place: number, flags: number): boolean => {
      physical.write(driver.ring(0, 1), 2, place);
      physical.write(driver.ring(0, 1) + 2, 2, flags);
      driver.send(0, { address: DATA, length: 4, write: true }, { address: DATA + 4, length: 4, write: true });
      return driver.read(0x1000) === 1;
    };
    const WRAP = 0x8000;
    assert.equal(interrupted(WRAP | 2, 2), false, 'places 0 and 1');
    assert.equal(interrupted(WRAP | 3, 2), true, 'places 2 and 3');
    assert.equal(interrupted(WRAP | 4, 1), false, 'disabled');
    assert.equal(interrupted(0, 0), true, 'enabled');
    assert.equal(interrupted(WRAP | 0, 2), false, 'the place of a round ago');
    assert.equal(interrupted(2, 2), true, 'the place of this round');
  });
});

function twoCards(use: QueueUse = {}): readonly [TestDriver, TestDriver] {
  const test = new TestBus();
  const network = new NetworkSwitch();
  const drivers = [4, 5].map((slot) => {
    const model = new VirtioNet(network);
    const driver = new TestDriver(model, test, slot, use);
    model.attach(driver.device);
    return driver;
  });
  const [a, b] = drivers;
  if (!a || !b) throw new Error('two cards');
  return [a, b];
}

const USES: readonly QueueUse[] = [
  {},
  { indirect: true },
  { eventIndex: true },
  { packed: true },
  { packed: true, indirect: true },
  { packed: true, indirect: true, eventIndex: true },
];

for (const use of USES) {
  const name = Object.keys(use).join(', ') || 'split';
  const start = (model: VirtioModel, test = new TestBus(), slot = 4): TestDriver =>
    new TestDriver(model, test, slot, use).start();
  describe(`rings in memory: ${name}`, () => {
    it('carry many more chains than they have room for, of one to three buffers', () => {
      const driver = start(new VirtioRng());
      const sizes = new Set<number>();
      for (let i = 0; i < 40; i++) {
        const buffers = Array.from({ length: 1 + (i % 3) }, (_, at) => ({
          address: DATA + 64 * at,
          length: 8 + i,
          write: true,
        }));
        driver.send(0, ...buffers);
        assert.deepEqual(driver.used(0), [i + 1, buffers.length * (8 + i)]);
        sizes.add(driver.used(0)[1]);
      }
      assert.ok(sizes.size > 30);
      assert.equal(driver.get('status'), 15, driver.test.complaints.join());
    });

    it('carry requests of a disk, and go on from a checkpoint', () => {
      const image = Uint8Array.from({ length: 16 * SECTOR }, (_, at) => Math.floor(at / SECTOR));
      const driver = start(new VirtioBlock({ disk: memoryImage(image) }));
      const { physical } = driver.test;
      const read = (sector: number): number => {
        physical.write64(HEADER, 0n);
        physical.write64(HEADER + 8, BigInt(sector));
        driver.send(
          0,
          { address: HEADER, length: 16 },
          { address: DATA, length: SECTOR, write: true },
          { address: STATUS, length: 1, write: true },
        );
        assert.deepEqual(driver.used(0), [sector + 1, SECTOR + 1]);
        return physical.read(DATA + SECTOR - 1, 1);
      };
      for (let sector = 0; sector < 7; sector++) assert.equal(read(sector), sector);
      const saved = driver.device.snapshot();
      driver.device.reset();
      driver.device.restore(saved);
      for (let sector = 7; sector < 16; sector++) assert.equal(read(sector), sector);
    });

    it('carry a console both ways', () => {
      const port = new ConsolePort();
      const sent: string[] = [];
      port.onOutput = (bytes) => sent.push(text(bytes));
      const model = new VirtioConsole(port);
      const driver = start(model);
      model.attach(driver.device);
      driver.test.physical.poke(DATA, new TextEncoder().encode('hello'));
      driver.send(1, { address: DATA, length: 2 }, { address: DATA + 2, length: 3 });
      assert.deepEqual(sent, ['hello']);
      driver.send(0, { address: TABLE, length: 8, write: true });
      port.input(new TextEncoder().encode('late'));
      driver.work();
      assert.equal(text(driver.test.physical.peek(TABLE, 4)), 'late');
      assert.deepEqual(driver.used(0), [1, 4]);
    });

    it('carry frames between network cards', () => {
      const [a, b] = twoCards(use);
      a.start();
      b.start();
      const frame = Uint8Array.from([0x52, 0x54, 0, 0x12, 0x34, 2, 0x52, 0x54, 0, 0x12, 0x34, 1, 8, 0, 0x77]);
      a.test.physical.poke(DATA + 12, frame);
      a.send(1, { address: DATA, length: 12 }, { address: DATA + 12, length: frame.length });
      b.work();
      b.send(0, { address: TABLE, length: 2048, write: true });
      assert.deepEqual(b.used(0), [1, 12 + frame.length]);
      assert.deepEqual([...b.test.physical.peek(TABLE + 12, frame.length)], [...frame]);
    });
  });
}

describe('virtio-blk', () => {
  const image = (): Uint8Array => Uint8Array.from({ length: 16 * SECTOR }, (_, at) => Math.floor(at / SECTOR));

  function request(driver: TestDriver, type: number, sector: number, length = SECTOR): number {
    const { physical } = driver.test;
    physical.write64(HEADER, BigInt(type));
    physical.write64(HEADER + 8, BigInt(sector));
    physical.write(STATUS, 1, 0xee);
    driver.send(
      0,
      { address: HEADER, length: 16 },
      { address: DATA, length, write: type !== 1 },
      { address: STATUS, length: 1, write: true },
    );
    return physical.read(STATUS, 1);
  }

  it('says its size in sectors', () => {
    const driver = new TestDriver(new VirtioBlock({ disk: memoryImage(image()) }));
    assert.equal(driver.read(0x2000, 4), 16);
  });

  it('reads and writes, and leaves the image as it is', () => {
    const bytes = image();
    const driver = new TestDriver(new VirtioBlock({ disk: memoryImage(bytes) })).start();
    assert.equal(request(driver, 0, 7), 0);
    assert.deepEqual(driver.used(0), [1, SECTOR + 1]);
    assert.equal(driver.test.physical.read(DATA + SECTOR - 1, 1), 7);
    driver.test.physical.poke(DATA, new Uint8Array(SECTOR).fill(0x5a));
    assert.equal(request(driver, 1, 7), 0);
    driver.test.physical.poke(DATA, new Uint8Array(SECTOR));
    request(driver, 0, 7);
    assert.equal(driver.test.physical.read(DATA, 1), 0x5a);
    assert.deepEqual(bytes, image());
  });

  it('writes into the image when asked', () => {
    const bytes = image();
    const disk = { ...memoryImage(bytes), write: (offset: number, data: Uint8Array) => bytes.set(data, offset) };
    const driver = new TestDriver(new VirtioBlock({ disk, writeThrough: true })).start();
    driver.test.physical.poke(DATA, new Uint8Array(SECTOR).fill(0x5a));
    assert.equal(request(driver, 1, 3), 0);
    assert.equal(bytes[3 * SECTOR], 0x5a);
  });

  it('answers with an error beyond its end, for parts of sectors, for what is read-only, and when the image fails', () => {
    const driver = new TestDriver(new VirtioBlock({ disk: memoryImage(image()) })).start();
    assert.equal(request(driver, 0, 16), 1);
    assert.equal(request(driver, 0, 0, 100), 1);
    assert.equal(request(driver, 99, 0), 2, 'unsupported');
    const readOnly = new TestDriver(new VirtioBlock({ disk: memoryImage(image()), readOnly: true })).start();
    assert.equal(request(readOnly, 1, 0), 1);
    const vanished = {
      size: 16 * SECTOR,
      read: (): Uint8Array => {
        throw new Error('the file is gone');
      },
    };
    assert.equal(request(new TestDriver(new VirtioBlock({ disk: vanished })).start(), 0, 0), 1);
  });

  it('is restored with what was written', () => {
    const driver = new TestDriver(new VirtioBlock({ disk: memoryImage(image()) })).start();
    driver.test.physical.poke(DATA, new Uint8Array(SECTOR).fill(1));
    request(driver, 1, 5);
    const saved = driver.device.snapshot();
    driver.test.physical.poke(DATA, new Uint8Array(SECTOR).fill(2));
    request(driver, 1, 5);
    driver.device.restore(saved);
    const ring = driver.test.physical.read(driver.ring(0, 1) + 2, 2);
    driver.test.physical.write(driver.ring(0, 1) + 2, 2, ring - 1);
    request(driver, 0, 5);
    assert.equal(driver.test.physical.read(DATA, 1), 1);
  });
});

describe('virtio-rng', () => {
  const numbers = (seed?: bigint): readonly number[] => {
    const driver = new TestDriver(new VirtioRng(seed)).start();
    driver.send(0, { address: DATA, length: 64, write: true });
    assert.deepEqual(driver.used(0), [1, 64]);
    return [...driver.test.physical.peek(DATA, 64)];
  };

  it('gives numbers that differ, the same ones for the same seed', () => {
    assert.ok(new Set(numbers()).size > 32);
    assert.deepEqual(numbers(), numbers());
    assert.notDeepEqual(numbers(1n), numbers(2n));
  });
});

describe('virtio-console', () => {
  it('sends to its port and receives from it, also what came before the driver gave room', () => {
    const port = new ConsolePort();
    let output = '';
    port.onOutput = (bytes) => {
      output += text(bytes);
    };
    const model = new VirtioConsole(port);
    const driver = new TestDriver(model);
    model.attach(driver.device);
    port.input(new TextEncoder().encode('early'));
    driver.start();
    driver.test.physical.poke(DATA, new TextEncoder().encode('hello'));
    const before = model.snapshot();
    driver.send(1, { address: DATA, length: 5 });
    assert.equal(output, 'hello');
    const after = model.snapshot();
    assert.equal(port.sent, 5);
    model.restore(before);
    assert.equal(port.sent, 0, 'in the past it has sent nothing yet');
    model.restore(after);
    driver.send(0, { address: 0x7000, length: 3, write: true });
    driver.send(0, { address: 0x7100, length: 8, write: true });
    assert.equal(text(driver.test.physical.peek(0x7000, 3)), 'ear');
    assert.deepEqual(driver.used(0), [2, 2]);
    driver.send(0, { address: 0x7200, length: 8, write: true });
    port.input(new TextEncoder().encode('late'));
    driver.work();
    assert.equal(text(driver.test.physical.peek(0x7200, 4)), 'late');
  });
});

describe('virtio-net', () => {
  it('carries a frame to the card that has its address', () => {
    const [a, b] = twoCards();
    assert.equal(a.read(0x2005), 1, 'last byte of the address');
    assert.equal(b.read(0x2005), 2);
    assert.equal(b.read(0x2006, 2), 1, 'link up');
    a.start();
    b.start();
    const frame = Uint8Array.from([0x52, 0x54, 0, 0x12, 0x34, 2, 0x52, 0x54, 0, 0x12, 0x34, 1, 8, 0, 0x77]);
    a.test.physical.poke(DATA, new Uint8Array(12));
    a.test.physical.poke(DATA + 12, frame);
    a.send(1, { address: DATA, length: 12 + frame.length });
    b.work();
    b.send(0, { address: 0x7000, length: 2048, write: true });
    assert.deepEqual(b.used(0), [1, 12 + frame.length]);
    assert.deepEqual([...b.test.physical.peek(0x700c, frame.length)], [...frame]);
    assert.equal(b.test.physical.read(0x700a, 2), 1, 'one buffer');
  });
});
