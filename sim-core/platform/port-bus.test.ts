import assert from 'node:assert/strict';
import type { PortDevice } from './device.ts';
import { PortMap } from './port-bus.ts';

/** Answers each port with its low byte and notes what is written. */
class Recorder implements PortDevice {
  readonly name = 'recorder';
  readonly writes: string[] = [];
  read(port: number, size: number): number {
    return size === 1 ? port & 0xff : 0x1_0000_0000 + port;
  }
  write(port: number, size: number, value: number): void {
    this.writes.push(`${port.toString(16)}/${size}=${value.toString(16)}`);
  }
}

describe('port bus', () => {
  it('reads all ones from ports of nothing, in each size, and lets writes vanish', () => {
    const bus = new PortMap();
    bus.write(0x1234, 4, 5);
    assert.deepEqual(
      ([1, 2, 4] as const).map((size) => bus.read(0x1234, size)),
      [0xff, 0xffff, 0xffff_ffff],
    );
  });

  it('splits wide accesses of an 8-bit device into bytes, low byte at the low port', () => {
    const bus = new PortMap();
    const device = new Recorder();
    bus.map(0x40, 3, device);
    assert.equal(bus.read(0x40, 4), 0xff42_4140);
    bus.write(0x41, 2, 0xbeef);
    assert.deepEqual(device.writes, ['41/1=ef', '42/1=be']);
  });

  it('hands whole accesses to a device that wants them', () => {
    const bus = new PortMap();
    const device = new Recorder();
    bus.map(0xf4, 4, device, 'any');
    bus.write(0xf4, 4, 0x8000_0001);
    assert.deepEqual(device.writes, ['f4/4=80000001']);
    assert.equal(bus.read(0xf4, 2), 0xf4);
  });

  it('refuses two devices at one port', () => {
    const bus = new PortMap();
    bus.map(0x20, 2, new Recorder());
    assert.throws(() => bus.map(0x21, 1, new Recorder()), /0x21 belongs to recorder/);
  });
});
