import { ByteReader, FormatError } from '../byte-reader.ts';
import { AT } from './constants.ts';
import type { DebugInformation, UnitHeader } from './debug-information.ts';
import { rangesOf } from './lists.ts';

export interface AddressRange {
  readonly start: bigint;
  /** Exclusive. */
  readonly end: bigint;
}

interface UnitRange extends AddressRange {
  readonly header: UnitHeader;
}

/** Which unit covers an address: from .debug_aranges, and from the first entries of units that are not in it. */
export class AddressIndex {
  private readonly ranges: readonly UnitRange[];
  /** Units that tell no addresses. */
  readonly placeless: readonly UnitHeader[];

  constructor(info: DebugInformation) {
    const headers = new Map(info.headers.map((header) => [header.place, header]));
    const listed = readAranges(info);
    const ranges: UnitRange[] = [];
    const placeless: UnitHeader[] = [];
    for (const [place, header] of headers) {
      const known = listed.get(place) ?? rangesOfUnit(info, header);
      if (known.length === 0) placeless.push(header);
      for (const { start, end } of known) ranges.push({ start, end, header });
    }
    this.ranges = ranges.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    this.placeless = placeless;
  }

  headerAt(address: bigint): UnitHeader | undefined {
    let [low, high] = [0, this.ranges.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.ranges[middle] as UnitRange).start <= address) low = middle + 1;
      else high = middle;
    }
    const range = this.ranges[low - 1];
    return range && address < range.end ? range.header : undefined;
  }

  /** Units with code in [start, end), each once. */
  headersIn(start: bigint, end: bigint): UnitHeader[] {
    return [
      ...new Set(this.ranges.filter((range) => range.start < end && range.end > start).map(({ header }) => header)),
    ];
  }
}

function rangesOfUnit(info: DebugInformation, header: UnitHeader): readonly AddressRange[] {
  const root = info.rootOf(header);
  return root.own(AT.lowPc) || root.own(AT.ranges) ? rangesOf(root).filter(({ start, end }) => end > start) : [];
}

/** Ranges by the offset of their unit (DWARF 5, 6.1.2). A damaged table counts for nothing: units tell the same. */
function readAranges(info: DebugInformation): Map<number, AddressRange[]> {
  const found = new Map<number, AddressRange[]>();
  const section = info.find('.debug_aranges');
  if (!section) return found;
  const reader = new ByteReader(section.read(0, section.size));
  try {
    while (!reader.done) readSet(reader, found);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return new Map();
  }
  return found;
}

function readSet(reader: ByteReader, found: Map<number, AddressRange[]>): void {
  const start = reader.at;
  const { length, offsetSize } = reader.unitLength();
  const end = reader.at + length;
  const body = new ByteReader(reader.bytes, reader.at, end);
  body.skip(2);
  const unit = body.offset(offsetSize);
  const addressSize = body.u8();
  const pair = 2 * addressSize;
  if (body.u8() !== 0 || (addressSize !== 4 && addressSize !== 8)) throw new FormatError('addresses of .debug_aranges');
  body.skip((pair - ((body.at - start) % pair)) % pair);
  const ranges = found.get(unit) ?? [];
  while (end - body.at >= pair) {
    const address = body.unsigned(addressSize);
    const size = body.unsigned(addressSize);
    if (size > 0n) ranges.push({ start: address, end: address + size });
  }
  if (ranges.length > 0) found.set(unit, ranges);
  reader.at = end;
}
