/**
 * What a disk and a CD-ROM drive have in common: the registers that a program sees of a drive (the task file), data
 * blocks, and interrupts (ATA8-ACS; ATA8-APT for the order of things). A command takes no time.
 */

/** Offsets of the command block's registers. */
export const REGISTER = {
  data: 0, error: 1, features: 1, count: 2, low: 3, mid: 4, high: 5, device: 6, status: 7, command: 7,
} as const; // biome-ignore format: a table reads better in rows

export const STATUS = { busy: 0x80, ready: 0x40, seekComplete: 0x10, dataRequest: 0x08, error: 0x01 } as const;
export const IDLE = STATUS.ready | STATUS.seekComplete;
export const ERROR = { uncorrectable: 0x40, notFound: 0x10, abort: 0x04 } as const;
/** Of the device register: LBA addressing, and which drive of the channel is meant. */
export const DEVICE = { lba: 0x40, second: 0x10, lowBits: 0x0f } as const;
/** The error register after a reset or EXECUTE DEVICE DIAGNOSTIC: the drive is good. */
const DIAGNOSTIC_PASSED = 1;

export type Direction = 'in' | 'out';

/** A block of data that the host reads or writes through the data register, or by DMA. */
interface Block {
  direction: Direction;
  /** By DMA: no interrupts between blocks. */
  byDma: boolean;
  bytes: Uint8Array;
  position: number;
}

export interface DriveState {
  error: number;
  /** Each has what was written last in bits 7:0, and what was written before that in bits 15:8 (48-bit commands). */
  features: number;
  count: number;
  low: number;
  mid: number;
  high: number;
  device: number;
  status: number;
  /** INTRQ, if the host lets it through. */
  interrupt: boolean;
  block: Block | undefined;
}

/** Registers of two bytes, one behind the other. */
const QUEUED = { 1: 'features', 2: 'count', 3: 'low', 4: 'mid', 5: 'high' } as const;
const isQueued = (register: number): register is keyof typeof QUEUED => register in QUEUED;

/** What a kind of drive says it is, in the registers, after a reset. */
export interface Signature {
  readonly mid: number;
  readonly high: number;
  readonly status: number;
}

export abstract class Drive {
  state: DriveState = {
    ...{ error: DIAGNOSTIC_PASSED, features: 0, count: 1, low: 1, mid: 0, high: 0, device: 0 },
    ...{ status: IDLE, interrupt: false, block: undefined },
  };
  /** Told that `state.interrupt` may have changed. */
  onInterrupt: () => void = () => {};

  protected abstract readonly signature: Signature;
  /** Does a command. Its registers are in `state`. */
  protected abstract execute(command: number): void;
  /** The host has read or written a whole block. */
  protected abstract blockDone(bytes: Uint8Array): void;
  /** Contents of the registers that the host has not set itself, and of what goes on inside. */
  abstract snapshot(): unknown;
  abstract restore(saved: unknown): void;

  // Registers

  /** @param previous device control's HOB bit: the bytes that were written before the last ones */
  read(register: number, previous: boolean): number {
    const { state } = this;
    if (register === REGISTER.error) return state.error;
    if (register === REGISTER.device) return state.device;
    if (isQueued(register)) return previous ? state[QUEUED[register]] >> 8 : state[QUEUED[register]] & 0xff;
    return state.status;
  }

  /** Every drive of a channel hears what is written to these. */
  write(register: number, value: number): void {
    const { state } = this;
    if (isQueued(register)) state[QUEUED[register]] = ((state[QUEUED[register]] << 8) | value) & 0xffff;
    else if (register === REGISTER.device) state.device = value;
  }

  /** The status register was read: the host knows of the interrupt. */
  acknowledge(): void {
    this.setInterrupt(false);
  }

  command(code: number): void {
    this.state.block = undefined;
    this.setInterrupt(false);
    this.state.error = 0;
    this.execute(code);
  }

  protected setInterrupt(asserted: boolean): void {
    this.state.interrupt = asserted;
    this.onInterrupt();
  }

  /** The registers say what kind of drive this is. */
  protected sign(): void {
    const { mid, high } = this.signature;
    Object.assign(this.state, { count: 1, low: 1, mid, high });
    this.state.device &= DEVICE.second;
  }

  /** By the host's reset bit, or a command. */
  reset(): void {
    this.state.block = undefined;
    this.state.error = DIAGNOSTIC_PASSED;
    this.state.features = 0;
    this.state.status = this.signature.status;
    this.state.device = 0;
    this.sign();
    this.setInterrupt(false);
  }

  /** EXECUTE DEVICE DIAGNOSTIC, which all drives of a channel do at once. */
  diagnose(): void {
    this.reset();
    this.setInterrupt(true);
  }

  // The ends of a command

  protected succeed(): void {
    this.state.status = IDLE;
    this.setInterrupt(true);
  }

  protected fail(error: number): void {
    this.state.block = undefined;
    this.state.error = error;
    this.state.status = IDLE | STATUS.error;
    this.setInterrupt(true);
  }

  // Data

  /** Whether a command waits for the bus master. */
  get dma(): Direction | undefined {
    const { block } = this.state;
    return block?.byDma ? block.direction : undefined;
  }

  /** Offers a block to the host, or asks it for one. @param quiet without an interrupt: the host looks by itself */
  protected begin(direction: Direction, bytes: Uint8Array, byDma: boolean, quiet = false): void {
    this.state.block = { direction, byDma, bytes, position: 0 };
    this.state.status = IDLE | STATUS.dataRequest;
    if (!(quiet || byDma)) this.setInterrupt(true);
  }

  /** The data register. @param size 2 or 4 bytes */
  readData(size: number): number {
    const { block } = this.state;
    if (block?.direction !== 'in' || block.byDma) return 0;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (block.bytes[block.position + i] ?? 0);
    this.advance(block, size);
    return value;
  }

  writeData(size: number, value: number): void {
    const { block } = this.state;
    if (block?.direction !== 'out' || block.byDma) return;
    for (let i = 0; i < size; i++) {
      const at = block.position + i;
      if (at < block.bytes.length) block.bytes[at] = (value >>> (8 * i)) & 0xff;
    }
    this.advance(block, size);
  }

  /** By DMA: at most so many bytes for the host; fewer when the command ends. */
  giveBytes(most: number): Uint8Array {
    const out = new Uint8Array(most);
    let length = 0;
    while (length < most && this.dma === 'in' && this.state.block) {
      const { block } = this.state;
      const part = block.bytes.subarray(block.position, block.position + most - length);
      out.set(part, length);
      length += part.length;
      this.advance(block, part.length);
    }
    return out.subarray(0, length);
  }

  /** By DMA: bytes from the host. @returns how many the drive has taken */
  takeBytes(bytes: Uint8Array): number {
    let taken = 0;
    while (taken < bytes.length && this.dma === 'out' && this.state.block) {
      const { block } = this.state;
      const part = bytes.subarray(taken, taken + block.bytes.length - block.position);
      block.bytes.set(part, block.position);
      taken += part.length;
      this.advance(block, part.length);
    }
    return taken;
  }

  private advance(block: Block, count: number): void {
    block.position += count;
    if (block.position < block.bytes.length) return;
    this.state.block = undefined;
    this.state.status = IDLE;
    this.blockDone(block.bytes);
  }
}

/** Text in words as IDENTIFY data has it: padded with spaces, the first character of a word in its upper byte. */
export function putText(words: Uint16Array, first: number, length: number, text: string): void {
  const padded = text.padEnd(2 * length);
  for (let i = 0; i < length; i++) words[first + i] = (padded.charCodeAt(2 * i) << 8) | padded.charCodeAt(2 * i + 1);
}

/** Words as the data register gives them: the lower byte first. */
export function bytesOf(words: Uint16Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(words.byteLength));
  words.forEach((word, i) => {
    view.setUint16(2 * i, word, true);
  });
  return new Uint8Array(view.buffer);
}
