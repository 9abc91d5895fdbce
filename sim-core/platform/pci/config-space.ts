/** The configuration space of a PCI function: bytes, with which of their bits software can write or clear. */

import type { Snapshotted } from '../device.ts';

/** Registers of a type 0 header (PCI Local Bus Specification 3.0, section 6.1). */
export const HEADER = {
  vendor: 0x00, device: 0x02, command: 0x04, status: 0x06, revision: 0x08, classCode: 0x09, headerType: 0x0e,
  bar: 0x10, subsystemVendor: 0x2c, subsystem: 0x2e, capabilities: 0x34, interruptLine: 0x3c, interruptPin: 0x3d,
} as const; // biome-ignore format: a table reads better in rows

export const COMMAND = { io: 0x1, memory: 0x2, busMaster: 0x4, interruptDisable: 0x400 } as const;
export const STATUS = { interrupt: 0x08, capabilities: 0x10, receivedMasterAbort: 0x2000 } as const;
/** Command bits that software can set; SERR# and parity response have no effect. */
const COMMAND_WRITABLE = COMMAND.io | COMMAND.memory | COMMAND.busMaster | 0x140 | COMMAND.interruptDisable;
/** Status bits that are cleared by writing ones: aborts and errors. */
const STATUS_CLEARABLE = 0xf900;
const FIRST_CAPABILITY = 0x40;

const CONFIG_SIZE = 256;

export interface Identity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Base class, subclass and programming interface: 24 bits. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
}

export class ConfigSpace implements Snapshotted<readonly number[]> {
  private readonly bytes = new Uint8Array(CONFIG_SIZE);
  private readonly writable = new Uint8Array(CONFIG_SIZE);
  private readonly powerOn = new Uint8Array(CONFIG_SIZE);
  private readonly clearable = new Uint8Array(CONFIG_SIZE);
  /** Where the next capability goes, and the pointer that leads to it. */
  private free = FIRST_CAPABILITY;
  private link: number = HEADER.capabilities;

  constructor(identity: Identity) {
    this.define(HEADER.vendor, 2, identity.vendor);
    this.define(HEADER.device, 2, identity.device);
    this.define(HEADER.revision, 1, identity.revision);
    this.define(HEADER.classCode, 1, identity.classCode & 0xff);
    this.define(HEADER.classCode + 1, 2, identity.classCode >> 8);
    this.define(HEADER.subsystemVendor, 2, identity.subsystemVendor ?? 0);
    this.define(HEADER.subsystem, 2, identity.subsystem ?? 0);
    this.define(HEADER.command, 2, 0, COMMAND_WRITABLE);
    this.define(0x0c, 1, 0, 0xff);
    this.define(HEADER.interruptLine, 1, 0, 0xff);
    this.put(this.clearable, HEADER.status, 2, STATUS_CLEARABLE);
  }

  private put(to: Uint8Array, offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) to[offset + i] = (value >>> (8 * i)) & 0xff;
  }

  /** Gives a register its value at power-on and the bits of it that software can write. */
  define(offset: number, size: 1 | 2 | 4, value: number, writable = 0): void {
    this.put(this.bytes, offset, size, value);
    this.put(this.powerOn, offset, size, value);
    this.put(this.writable, offset, size, writable);
  }

  /** Room for a capability of `size` bytes at the end of the list. @returns its offset */
  addCapability(id: number, size: number): number {
    const at = this.free;
    this.free += (size + 3) & ~3;
    if (this.free > CONFIG_SIZE) throw new RangeError('capabilities do not fit configuration space');
    this.define(this.link, 1, at);
    this.define(at, 1, id);
    this.link = at + 1;
    this.define(HEADER.status, 2, STATUS.capabilities);
    return at;
  }

  /** A register, whoever may see it. @param size 1, 2 or 4 */
  get(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.bytes[offset + i] ?? 0);
    return value;
  }

  /** Sets a register as the device does: software's masks do not count. */
  set(offset: number, size: number, value: number): void {
    this.put(this.bytes, offset, size, value);
  }

  /** A write by software: only writable bits change, and clearable ones that it writes as 1 become 0. */
  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const writable = this.writable[at] ?? 0;
      const old = this.bytes[at] ?? 0;
      this.bytes[at] = (old & ~writable & ~(byte & (this.clearable[at] ?? 0))) | (byte & writable);
    }
  }

  /** Every register as it was defined. */
  reset(): void {
    this.bytes.set(this.powerOn);
  }

  snapshot(): readonly number[] {
    return [...this.bytes];
  }

  restore(saved: readonly number[]): void {
    this.bytes.set(saved);
  }
}
