import {
  countOf,
  MOST_PROCESSORS,
  OFFSET,
  PARKING,
  REGION,
  type SegmentIndex,
  type StateField,
  widthOf,
} from './layout.ts';

const PAGE = 0x1_0000;

/** OFFSET as a hash table: what look-ups by computed key are quick in. `OFFSET.x` is quicker where the key is fixed. */
const OFFSETS: Readonly<Record<StateField, number>> = Object.assign(Object.create(null), OFFSET);

/**
 * The machine's linear memory with typed views: processor state, engine tables and guest RAM.
 *
 * Addresses given to the accessors are byte addresses in linear memory (`OFFSET.x`, a record, RAM). Linear memory never
 * grows after construction, so the views stay valid for the machine's life.
 */
export class State {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Views for hot TypeScript: index = address >>> 1 or 2. */
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  /** 64-bit view: index = address >>> 3. */
  readonly u64: BigUint64Array;
  /** Numbers kept as doubles (retired, extraCycles, preemptionDeadline): index = address >>> 3. */
  readonly f64: Float64Array;
  /** Size of guest RAM in bytes, a multiple of 64 KiB. */
  readonly ramSize: number;
  /** Number of processors, 1…MOST_PROCESSORS. */
  readonly processors: number;

  /** @param ramSize guest RAM in bytes, a positive multiple of 64 KiB, at most 3 GiB. */
  constructor(ramSize: number, processors = 1) {
    if (!Number.isInteger(ramSize) || ramSize <= 0 || ramSize % PAGE !== 0 || ramSize > 3 * 2 ** 30) {
      throw new RangeError(`RAM size ${ramSize} is not a multiple of 64 KiB between 64 KiB and 3 GiB`);
    }
    if (!Number.isInteger(processors) || processors < 1 || processors > MOST_PROCESSORS) {
      throw new RangeError(`${processors} processors; there may be 1 to ${MOST_PROCESSORS}`);
    }
    const parking = processors === 1 ? 0 : processors * PARKING.size;
    const pages = Math.ceil((REGION.ram.start + ramSize + parking) / PAGE);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const buffer = this.memory.buffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.ramSize = ramSize;
    this.processors = processors;
  }

  /** Field as an unsigned number: fields of 4 bytes only. */
  get32(field: StateField, index = 0): number {
    return this.u32[(OFFSETS[field] >>> 2) + index] as number;
  }
  set32(field: StateField, value: number, index = 0): void {
    this.u32[(OFFSETS[field] >>> 2) + index] = value;
  }
  /** Field as an unsigned BigInt: fields of 8 bytes only. */
  get64(field: StateField, index = 0): bigint {
    return this.u64[(OFFSETS[field] >>> 3) + index] as bigint;
  }
  set64(field: StateField, value: bigint, index = 0): void {
    this.u64[(OFFSETS[field] >>> 3) + index] = value;
  }
  /** Low and high half of an 8-byte field without BigInt. */
  low(field: StateField, index = 0): number {
    return this.u32[(OFFSETS[field] >>> 2) + 2 * index] as number;
  }
  high(field: StateField, index = 0): number {
    return this.u32[(OFFSETS[field] >>> 2) + 2 * index + 1] as number;
  }
  /** Fields stored as f64 (cycle counts). */
  getFloat(field: StateField, index = 0): number {
    return this.f64[(OFFSETS[field] >>> 3) + index] as number;
  }
  setFloat(field: StateField, value: number, index = 0): void {
    this.f64[(OFFSETS[field] >>> 3) + index] = value;
  }

  /** All elements of a field, as BigInt, for tables, tests and dumps. */
  elements(field: StateField): bigint[] {
    const read =
      widthOf(field) === 8 ? (i: number) => this.get64(field, i) : (i: number) => BigInt(this.get32(field, i));
    return Array.from({ length: countOf(field) }, (_, i) => read(i));
  }

  segment(index: SegmentIndex): { selector: number; base: bigint; limit: number; rights: number } {
    return {
      selector: this.get32('segmentSelector', index),
      base: this.get64('segmentBase', index),
      limit: this.get32('segmentLimit', index),
      rights: this.get32('segmentRights', index),
    };
  }
}
