/** Which bytes of watched memory are told of an access. */

const PAGE = 4096n;
/** Watches up to this many bytes are shown as a whole. */
const SHOWN = 16;

interface Bytes {
  readonly address: bigint;
  readonly length: number;
}

const higher = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const lower = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/** What of a watch lies in an access. */
export function accessedPart(watch: Bytes, address: bigint, length: number): Bytes {
  const first = higher(watch.address, address);
  const last = lower(watch.address + BigInt(watch.length), address + BigInt(length));
  return { address: first, length: Number(last - first) };
}

/** What to show of a watch: what of it lies in the accessed page, or of that what was accessed if it is much. */
export function shownPart(watch: Bytes, address: bigint, length: number): Bytes {
  const page = address - (address % PAGE);
  const inPage = accessedPart(watch, page, Number(PAGE));
  return inPage.length <= SHOWN ? inPage : accessedPart(inPage, address, length);
}
