/** Writes ACPI tables, remembering which fields are addresses and which tables have a checksum. */

/** Bytes that are put one after the other, little-endian. */
export class TableWriter {
  readonly bytes: number[] = [];

  /** @param size bytes */
  number(size: number, value: number): this {
    for (let i = 0; i < size; i++) this.bytes.push(Math.floor(value / 256 ** i) & 0xff);
    return this;
  }

  text(size: number, value: string): this {
    for (let i = 0; i < size; i++) this.bytes.push(value.charCodeAt(i) || 0);
    return this;
  }

  raw(bytes: readonly number[]): this {
    for (const byte of bytes) this.bytes.push(byte);
    return this;
  }

  /** Generic Address Structure. @param space 0 memory, 1 I/O @param access 1 byte, 2 word, 3 dword */
  address(space: 0 | 1, bits: number, access: number, value: number): this {
    return this.number(1, space).number(1, bits).number(1, 0).number(1, access).number(8, value);
  }
}

const HEADER_SIZE = 36;
const OFFSET = { length: 4, checksum: 9 } as const;

/** The common header in front of the body. The checksum is not there yet. */
export function withHeader(signature: string, revision: number, body: TableWriter): Uint8Array {
  const header = new TableWriter()
    .text(4, signature)
    .number(4, HEADER_SIZE + body.bytes.length)
    .number(1, revision)
    .number(1, 0)
    .text(6, 'VMXRAY')
    .text(8, `VMX${signature}`)
    .number(4, 1)
    .text(4, 'VMXR')
    .number(4, 1);
  return Uint8Array.from([...header.bytes, ...body.bytes]);
}

/** Makes the bytes from `start` on add up to zero. */
export function setChecksum(bytes: Uint8Array, start: number, length: number, at: number): void {
  bytes[at] = 0;
  const sum = bytes.subarray(start, start + length).reduce((total, byte) => total + byte, 0);
  bytes[at] = -sum & 0xff;
}

export const TABLE_OFFSET = OFFSET;
export const TABLE_HEADER_SIZE = HEADER_SIZE;
