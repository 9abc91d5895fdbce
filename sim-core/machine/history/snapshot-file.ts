/**
 * Snapshots as files (`*.vmxsnap`, docs/snapshots.md): a preamble, a header of JSON that people can read, and the
 * compressed contents. Numbers are little-endian.
 */

import { Hash } from './hash.ts';
import { decodePlain, encodePlain } from './plain-values.ts';
import { isRecordedBoot, type RecordedBoot } from './recording.ts';
import { layoutHash, PAGE, type Snapshot, SnapshotError } from './snapshot.ts';

const MAGIC = 'vmxsnap\n';
const SNAPSHOT_VERSION = 1;
/** Where the preamble's parts are; all of them but the checksum have 4 bytes or, the sizes of the contents, 8. */
const PREAMBLE = { version: 8, headerSize: 12, contentsSize: 16, checksum: 24, size: 40 } as const;

interface Header {
  readonly boot: RecordedBoot;
  readonly instructions: number;
  readonly hash: string;
  /** Hash of the layout of state in memory: it changes from version to version of VMXray. */
  readonly layout: string;
}

/** What the contents begin with; byte numbers count from its end. */
interface Contents {
  /** First page, number of pages, and where their bytes are. */
  readonly pages: readonly (readonly [number, number, number])[];
  readonly outside: unknown;
}

type Bytes = Uint8Array<ArrayBuffer>;

async function through(bytes: Blob, transform: CompressionStream | DecompressionStream): Promise<Bytes> {
  return new Uint8Array(await new Response(bytes.stream().pipeThrough(transform)).arrayBuffer());
}

function checksum(header: Uint8Array, contents: Uint8Array): string {
  const hash = new Hash();
  hash.bytes(header);
  hash.bytes(contents);
  return hash.digest();
}

/** The parts are copied before it returns: the machine may go on while they are compressed. */
export async function formatSnapshot({ boot, instructions, hash, pages, outside }: Snapshot): Promise<Bytes> {
  const parts: Bytes[] = [];
  let size = 0;
  const keep = (bytes: Uint8Array): number => {
    parts.push(bytes as Bytes);
    size += bytes.length;
    return size - bytes.length;
  };
  const text = new TextEncoder();
  const contents: Contents = {
    pages: pages.map(({ first, bytes }) => [first, bytes.length / PAGE, keep(bytes)]),
    outside: encodePlain(outside, keep),
  };
  const table = text.encode(JSON.stringify(contents));
  const raw = new Blob([Uint32Array.of(table.length), table, ...parts]);
  const header: Header = { boot, instructions, hash, layout: layoutHash() };
  const head = text.encode(`${JSON.stringify(header)}\n`);
  const packed = await through(raw, new CompressionStream('gzip'));
  const file = new Uint8Array(PREAMBLE.size + head.length + packed.length);
  const view = new DataView(file.buffer);
  file.set(text.encode(MAGIC));
  view.setUint32(PREAMBLE.version, SNAPSHOT_VERSION, true);
  view.setUint32(PREAMBLE.headerSize, head.length, true);
  view.setBigUint64(PREAMBLE.contentsSize, BigInt(packed.length), true);
  file.set(text.encode(checksum(head, packed)), PREAMBLE.checksum);
  file.set(head, PREAMBLE.size);
  file.set(packed, PREAMBLE.size + head.length);
  return file;
}

/** @throws SnapshotError that says what is wrong with the file, and what to do */
export async function parseSnapshot(file: Uint8Array): Promise<Snapshot> {
  const { header, packed } = split(file);
  let raw: Bytes;
  try {
    raw = await through(new Blob([packed]), new DecompressionStream('gzip'));
  } catch {
    throw damaged('its contents cannot be unpacked');
  }
  const tableEnd = 4 + new DataView(raw.buffer).getUint32(0, true);
  const { pages, outside } = JSON.parse(new TextDecoder().decode(raw.subarray(4, tableEnd))) as Contents;
  const bytes = raw.subarray(tableEnd);
  return {
    boot: header.boot,
    instructions: header.instructions,
    hash: header.hash,
    pages: pages.map(([first, count, at]) => ({ first, bytes: bytes.subarray(at, at + count * PAGE) })),
    outside: decodePlain(outside, bytes),
  };
}

const damaged = (what: string): SnapshotError =>
  new SnapshotError(`the file is damaged: ${what}; copy it again, or make the snapshot again`);

function split(file: Uint8Array): { header: Header; packed: Bytes } {
  const text = new TextDecoder();
  if (text.decode(file.subarray(0, MAGIC.length)) !== MAGIC) {
    throw new SnapshotError('it is no snapshot of VMXray; make one with vmxray snapshot or VMXray: Save Snapshot');
  }
  if (file.length < PREAMBLE.size) throw damaged(`it ends after ${file.length} bytes, within its preamble`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const version = view.getUint32(PREAMBLE.version, true);
  if (version !== SNAPSHOT_VERSION) {
    throw new SnapshotError(
      `its version is ${version}, and this VMXray reads ${SNAPSHOT_VERSION}; use the VMXray that made it`,
    );
  }
  const headerEnd = PREAMBLE.size + view.getUint32(PREAMBLE.headerSize, true);
  const end = headerEnd + Number(view.getBigUint64(PREAMBLE.contentsSize, true));
  if (file.length !== end) throw damaged(`it has ${file.length} bytes, and should have ${end}`);
  const head = file.subarray(PREAMBLE.size, headerEnd);
  const packed = file.slice(headerEnd);
  if (text.decode(file.subarray(PREAMBLE.checksum, PREAMBLE.size)) !== checksum(head, packed)) {
    throw damaged('its checksum is another one');
  }
  return { header: readHeader(text.decode(head)), packed };
}

function readHeader(text: string): Header {
  const header = JSON.parse(text) as Header;
  if (!isRecordedBoot(header.boot)) throw damaged('parts of its header are missing');
  if (header.layout !== layoutHash()) {
    throw new SnapshotError(
      'it was made by another version of VMXray, which kept state elsewhere; use that one, or make the snapshot again',
    );
  }
  return header;
}
