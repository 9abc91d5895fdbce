/**
 * The files that gdb may read from here instead of having them itself (vFile packets): those that the machine was
 * started with, and no others. Each is read as it was at the start.
 */

/** Errors of GDB's file-I/O protocol. */
const ERRNO = { noEntry: 2, badFile: 9, invalid: 22 } as const;
const failed = (number: number): string => `F-1,${number.toString(16)}`;
const REGULAR_FILE_READABLE = 0o100_444;
/** Of the protocol's `struct stat`, whose numbers have their highest byte first. */
const STAT = { size: 64, mode: 8, links: 12, length: 28, blockSize: 36 } as const;
const BLOCK = 4096;

export class HostFiles {
  /** The path of the image that gdb asks for as the program; undefined when it is none that gdb reads. */
  readonly program: string | undefined;
  private readonly files: ReadonlyMap<string, Uint8Array>;
  private readonly open = new Map<number, Uint8Array>();
  private next = 3;

  /** @param files by absolute path @param image the path of the one that the machine boots */
  constructor(files: ReadonlyMap<string, Uint8Array> = new Map(), image = '') {
    this.files = files;
    this.program = isElf(files.get(image)) ? image : undefined;
  }

  /** @returns what `F` packets say. */
  openFile(path: string, flags: number): string {
    const bytes = this.files.get(path);
    if (!bytes) return failed(ERRNO.noEntry);
    // O_RDONLY is 0.
    if (flags !== 0) return failed(ERRNO.invalid);
    this.open.set(this.next, bytes);
    return `F${(this.next++).toString(16)}`;
  }

  closeFile(descriptor: number): string {
    return this.open.delete(descriptor) ? 'F0' : failed(ERRNO.badFile);
  }

  /** At most so many bytes as a packet may have. */
  read(descriptor: number, count: number, offset: number, most: number): string {
    const bytes = this.open.get(descriptor);
    if (!bytes) return failed(ERRNO.badFile);
    const piece = bytes.subarray(offset, offset + Math.min(count, most));
    return `F${piece.length.toString(16)};${Buffer.from(piece).toString('latin1')}`;
  }

  status(descriptor: number): string {
    const bytes = this.open.get(descriptor);
    if (!bytes) return failed(ERRNO.badFile);
    const stat = Buffer.alloc(STAT.size);
    stat.writeUInt32BE(REGULAR_FILE_READABLE, STAT.mode);
    stat.writeUInt32BE(1, STAT.links);
    stat.writeBigUInt64BE(BigInt(bytes.length), STAT.length);
    stat.writeBigUInt64BE(BigInt(BLOCK), STAT.blockSize);
    return `F${stat.length.toString(16)};${stat.toString('latin1')}`;
  }
}

const isElf = (bytes: Uint8Array | undefined): boolean =>
  bytes !== undefined && [0x7f, 0x45, 0x4c, 0x46].every((byte, index) => bytes[index] === byte);
