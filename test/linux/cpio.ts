/** Writes cpio archives in the "newc" format, which Linux unpacks as its initial RAM file system. */

export interface CpioEntry {
  readonly path: string;
  /** File type and permissions as in stat(2): 0o100755 is an executable, 0o040755 a folder, 0o020600 a device. */
  readonly mode: number;
  readonly bytes?: Uint8Array;
  /** Of a device: major and minor number. */
  readonly device?: readonly [number, number];
}

const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';

const padded = (length: number): number => Math.ceil(length / 4) * 4;

/** Thirteen numbers of eight hexadecimal digits, the name, the contents; both padded to a multiple of four bytes. */
function encode({ path, mode, bytes = new Uint8Array(), device = [0, 0] }: CpioEntry, inode: number): Uint8Array {
  const name = new TextEncoder().encode(`${path}\0`);
  const links = 1;
  const numbers = [inode, mode, 0, 0, links, 0, bytes.length, 0, 0, ...device, name.length, 0];
  const header = new TextEncoder().encode(
    MAGIC + numbers.map((value) => value.toString(16).padStart(8, '0').toUpperCase()).join(''),
  );
  const start = padded(header.length + name.length);
  const entry = new Uint8Array(start + padded(bytes.length));
  entry.set(header);
  entry.set(name, header.length);
  entry.set(bytes, start);
  return entry;
}

export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  return Buffer.concat([...entries, { path: TRAILER, mode: 0 }].map((entry, i) => encode(entry, i + 1)));
}
