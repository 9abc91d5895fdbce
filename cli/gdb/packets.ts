/** Packets of GDB's remote serial protocol: `$data#checksum`, with `}` before bytes that would end or stretch one. */

const DOLLAR = 0x24;
const HASH = 0x23;
const ESCAPE = 0x7d;
const STAR = 0x2a;
const ESCAPE_XOR = 0x20;
const INTERRUPT = 0x03;
const PLUS = 0x2b;
const MINUS = 0x2d;
/** Data of a packet that a client may send; told in `qSupported`, and twice that is what is kept of one. */
export const PACKET_SIZE = 0x4000;

/** A packet's data is Latin-1: a character is a byte. */
export type Incoming =
  | { readonly kind: 'packet'; readonly data: string }
  /** Checksum wrong, or too long. */
  | { readonly kind: 'corrupted' }
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nak' };

const BETWEEN: Readonly<Record<number, Incoming>> = {
  [INTERRUPT]: { kind: 'interrupt' },
  [PLUS]: { kind: 'ack' },
  [MINUS]: { kind: 'nak' },
};

const checksum = (bytes: Iterable<number>): number => {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
};

/** Cuts a stream of bytes into packets. */
export class PacketReader {
  /** Bytes of the packet that has begun, the two digits of its checksum included; undefined between packets. */
  private packet: number[] | undefined;
  /** Where in `packet` the `#` is. */
  private end = -1;

  take(chunk: Uint8Array): Incoming[] {
    const found: Incoming[] = [];
    for (const byte of chunk) {
      const incoming = this.packet ? this.inside(this.packet, byte) : this.between(byte);
      if (incoming) found.push(incoming);
    }
    return found;
  }

  private between(byte: number): Incoming | undefined {
    if (byte === DOLLAR) this.begin();
    // Other bytes between packets are noise on the line.
    return BETWEEN[byte];
  }

  private begin(): undefined {
    this.packet = [];
    this.end = -1;
  }

  private inside(packet: number[], byte: number): Incoming | undefined {
    // A packet that begins inside another one: the first was cut off.
    if (byte === DOLLAR) return this.begin();
    if (byte === HASH && this.end < 0) this.end = packet.length;
    packet.push(byte);
    const isDone = this.end >= 0 && packet.length === this.end + 3;
    if (!isDone && packet.length <= 2 * PACKET_SIZE) return undefined;
    this.packet = undefined;
    if (!isDone) return { kind: 'corrupted' };
    const data = packet.slice(0, this.end);
    const digits = String.fromCharCode(...packet.slice(this.end + 1));
    const isRight = /^[0-9a-f]{2}$/i.test(digits) && Number.parseInt(digits, 16) === checksum(data);
    return isRight ? { kind: 'packet', data: unescaped(data) } : { kind: 'corrupted' };
  }
}

function unescaped(data: readonly number[]): string {
  let text = '';
  for (let i = 0; i < data.length; i++) {
    const byte = data[i] as number;
    text += String.fromCharCode(byte === ESCAPE ? (data[++i] ?? 0) ^ ESCAPE_XOR : byte);
  }
  return text;
}

/** @param data Latin-1 */
export function encodePacket(data: string): Buffer {
  const bytes: number[] = [];
  for (const byte of Buffer.from(data, 'latin1')) {
    if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === STAR) bytes.push(ESCAPE, byte ^ ESCAPE_XOR);
    else bytes.push(byte);
  }
  const digits = checksum(bytes).toString(16).padStart(2, '0');
  return Buffer.from([DOLLAR, ...bytes, HASH, ...Buffer.from(digits)]);
}

// ---- hexadecimal numbers and bytes in packets

export const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Two digits for each byte; undefined when it is no such text. */
export function parseHexBytes(text: string): Uint8Array | undefined {
  return /^([0-9a-f]{2})*$/i.test(text) ? Uint8Array.from(Buffer.from(text, 'hex')) : undefined;
}

/** A value as so many bytes, the lowest first. */
export function littleEndian(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

export function fromLittleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
