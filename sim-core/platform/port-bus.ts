import type { PortBus } from '../cpu/cpu.ts';
import type { PortDevice } from './device.ts';

/** How a device takes accesses that are wider than a byte. */
export type PortWidth =
  /** An 8-bit device: the bus splits a wider access into bytes at consecutive ports, low byte first, as ISA does. */
  | 'bytes'
  /** The device sees the access as it is. */
  | 'any';

interface Registration {
  readonly device: PortDevice;
  readonly width: PortWidth;
}

/** I/O address space: 64 Ki ports. Reads of nothing give all ones, writes to nothing vanish, as on a PC. */
export class PortMap implements PortBus {
  private readonly ports = new Map<number, Registration>();
  /** Answers at ports that no device has; undefined: nothing does. */
  others: PortDevice | undefined;

  /** @throws RangeError when another device has one of the ports. */
  map(first: number, count: number, device: PortDevice, width: PortWidth = 'bytes'): void {
    for (let port = first; port < first + count; port++) {
      const other = this.ports.get(port);
      if (other) throw new RangeError(`${device.name}: port 0x${port.toString(16)} belongs to ${other.device.name}`);
      this.ports.set(port, { device, width });
    }
  }

  read(port: number, size: 1 | 2 | 4): number {
    const found = this.ports.get(port);
    if (found && (size === 1 || found.width === 'any')) return found.device.read(port, size) >>> 0;
    if (!found && this.others) return this.others.read(port, size);
    if (size === 1) return 0xff;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + this.readByte((port + i) & 0xffff);
    return value;
  }

  write(port: number, size: 1 | 2 | 4, value: number): void {
    const found = this.ports.get(port);
    if (found && (size === 1 || found.width === 'any')) {
      found.device.write(port, size, value >>> 0);
      return;
    }
    if (!found && this.others) {
      this.others.write(port, size, value >>> 0);
      return;
    }
    if (size === 1) return;
    for (let i = 0; i < size; i++) this.writeByte((port + i) & 0xffff, (value >>> (8 * i)) & 0xff);
  }

  /** One byte of a split access: a device that wants whole accesses does not answer in the middle of another's. */
  private readByte(port: number): number {
    const found = this.ports.get(port);
    return found?.width === 'bytes' ? found.device.read(port, 1) & 0xff : 0xff;
  }

  private writeByte(port: number, value: number): void {
    const found = this.ports.get(port);
    if (found?.width === 'bytes') found.device.write(port, 1, value);
  }
}
