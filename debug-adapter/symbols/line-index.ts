import { AT, LANGUAGE } from './dwarf/constants.ts';
import type { DebugInformation, UnitHeader } from './dwarf/debug-information.ts';
import { type LineRow, readLineFiles, readLineTable } from './dwarf/line-program.ts';
import type { Entry } from './dwarf/unit.ts';
import { baseName, comparable, resolvePath } from './paths.ts';

/** A place in a source file. */
export interface SourceLine {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Code between two rows of the line table: [start, end) belongs to `line`. */
export interface LineRange extends SourceLine {
  readonly start: bigint;
  readonly end: bigint;
  readonly isStatement: boolean;
  /** From assembly language: its functions have no prologue. */
  readonly assembly: boolean;
}

/** The line table of one unit, at the addresses where the program runs. */
interface UnitLines {
  /** By number. */
  readonly files: readonly string[];
  /** Ranges that hold code, by rising start. */
  readonly ranges: readonly LineRange[];
  /** Ranges without code, by start. */
  readonly emptyRanges: ReadonlyMap<bigint, readonly LineRange[]>;
  /** All ranges by file, also empty ones: a line whose code begins with that of a line inlined there. */
  readonly byFile: ReadonlyMap<string, readonly LineRange[]>;
}

/** A program whose line tables are smaller is read as a whole when that is easier. */
const SMALL = 4 << 20;
/** Ranges of the units used last: some 50 MB. */
const KEPT_RANGES = 300_000;

/** Line tables, each read when an address or a file of its unit is asked for. */
export class LineIndex {
  private readonly info: DebugInformation;
  private readonly place: (file: string) => string;
  private readonly offset: bigint;
  private readonly known = new Map<UnitHeader, UnitLines>();
  private knownRanges = 0;
  private knownNames: ReadonlyMap<string, ReadonlySet<UnitHeader>> | undefined;

  /**
   * @param place where a file of the table is for the user.
   * @param offset run-time address minus link-time address.
   */
  constructor(info: DebugInformation, place: (file: string) => string, offset: bigint) {
    this.info = info;
    this.place = place;
    this.offset = offset;
  }

  get isSmall(): boolean {
    return (this.info.find('.debug_line')?.size ?? 0) <= SMALL;
  }

  private lines(header: UnitHeader): UnitLines {
    const known = this.known.get(header);
    const lines = known ?? this.read(header);
    this.known.delete(header);
    this.known.set(header, lines);
    if (!known) this.knownRanges += lines.ranges.length;
    for (const [oldest, { ranges }] of this.known) {
      if (this.knownRanges <= KEPT_RANGES || oldest === header) break;
      this.known.delete(oldest);
      this.knownRanges -= ranges.length;
    }
    return lines;
  }

  private read(header: UnitHeader): UnitLines {
    const root = this.info.rootOf(header);
    const at = lineProgram(root);
    if (at === undefined) return { files: [], ranges: [], emptyRanges: new Map(), byFile: new Map() };
    const table = readLineTable(this.info.required('.debug_line'), at, (value) => root.unit.text(value));
    const directory = root.text(AT.directory) ?? '';
    const files = table.files.map((file) => this.place(resolvePath(directory, file)));
    const assembly = root.number(AT.language) === LANGUAGE.assembler;
    const all = rangesOfRows(table.rows, files, assembly, this.offset).sort(byStart);
    return {
      files,
      ranges: all.filter((range) => range.end > range.start),
      emptyRanges: groupBy(
        all.filter((range) => range.end === range.start && range.isStatement),
        (range) => range.start,
      ),
      byFile: groupBy(all, (range) => comparable(range.file)),
    };
  }

  /** Units with a line table of their own. */
  private get headers(): UnitHeader[] {
    const seen = new Set<number>();
    return this.info.headers.filter((header) => {
      const at = lineProgram(this.info.rootOf(header));
      if (at === undefined || seen.has(at)) return false;
      seen.add(at);
      return true;
    });
  }

  private linesAt(address: bigint): UnitLines | undefined {
    const { index } = this.info;
    const header = index.headerAt(address - this.offset);
    if (header) return this.lines(header);
    const covers = (placeless: UnitHeader): boolean => find(this.lines(placeless).ranges, address) !== undefined;
    const placeless = index.placeless.find(covers);
    return placeless && this.lines(placeless);
  }

  rangeAt(address: bigint): LineRange | undefined {
    const lines = this.linesAt(address);
    return lines && find(lines.ranges, address);
  }

  /** The range that follows that of an address. */
  rangeAfter(address: bigint): LineRange | undefined {
    const ranges = this.linesAt(address)?.ranges ?? [];
    return ranges[lastAtOrBelow(ranges, address, ({ start }) => start) + 1];
  }

  emptyRangesAt(address: bigint): readonly LineRange[] {
    return this.linesAt(address)?.emptyRanges.get(address) ?? [];
  }

  /** A file by its number in the table of the unit that covers an address. */
  fileAt(address: bigint, file: number): string | undefined {
    return this.linesAt(address)?.files[file];
  }

  /** Ranges that begin in [start, end). */
  rangesIn(start: bigint, end: bigint): LineRange[] {
    const { index } = this.info;
    const headers = [...index.headersIn(start - this.offset, end - this.offset), ...index.placeless];
    return headers.flatMap((header) => {
      const { ranges } = this.lines(header);
      const key = (range: LineRange): bigint => range.start;
      return ranges.slice(lastAtOrBelow(ranges, start - 1n, key) + 1, lastAtOrBelow(ranges, end - 1n, key) + 1);
    });
  }

  /** Files with code; of a large program only those that units are named after. */
  get files(): string[] {
    if (!this.isSmall) {
      const named = this.info.headers.map((header) => {
        const root = this.info.rootOf(header);
        return this.place(resolvePath(root.text(AT.directory) ?? '', root.name ?? ''));
      });
      return [...new Set(named)];
    }
    const found = new Map<string, string>();
    for (const header of this.headers) {
      for (const [key, ranges] of this.lines(header).byFile) if (ranges[0]) found.set(key, ranges[0].file);
    }
    return [...found.values()];
  }

  /** Ranges of every file with this base name, by comparable path and rising address. */
  filesNamed(name: string): ReadonlyMap<string, readonly LineRange[]> {
    const wanted = comparable(name);
    const found = new Map<string, LineRange[]>();
    for (const header of this.unitsByName.get(wanted) ?? []) {
      for (const [file, ranges] of this.lines(header).byFile) {
        if (baseName(file) !== wanted) continue;
        const list = found.get(file);
        if (list) list.push(...ranges);
        else found.set(file, [...ranges]);
      }
    }
    for (const list of found.values()) list.sort(byStart);
    return found;
  }

  /** Units whose line tables list a file, by the file's base name: from the tables' headers only. */
  private get unitsByName(): ReadonlyMap<string, ReadonlySet<UnitHeader>> {
    if (this.knownNames) return this.knownNames;
    const names = new Map<string, Set<UnitHeader>>();
    // Most units list the same headers.
    const known = new Map<string, readonly string[]>();
    const namesOf = (file: string): readonly string[] => {
      // A source map may give a file another name.
      const found = known.get(file) ?? [...new Set([file, this.place(file)].map((each) => comparable(baseName(each))))];
      known.set(file, found);
      return found;
    };
    for (const header of this.headers) {
      const root = this.info.rootOf(header);
      const files = readLineFiles(this.info.required('.debug_line'), lineProgram(root) ?? 0, (value) =>
        root.unit.text(value),
      );
      for (const file of files) {
        for (const name of namesOf(file)) {
          const units = names.get(name);
          if (units) units.add(header);
          else names.set(name, new Set([header]));
        }
      }
    }
    this.knownNames = names;
    return names;
  }
}

/** Offset of a unit's line program in .debug_line. */
function lineProgram(root: Entry): number | undefined {
  const raw = root.own(AT.lineProgram)?.raw;
  return typeof raw === 'bigint' ? Number(raw) : undefined;
}

const byStart = (a: LineRange, b: LineRange): number => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0);

function find(ranges: readonly LineRange[], address: bigint): LineRange | undefined {
  const range = ranges[lastAtOrBelow(ranges, address, ({ start }) => start)];
  return range && address < range.end ? range : undefined;
}

/** Index of the last element whose key is at or below `address`; -1 when all are above. */
export function lastAtOrBelow<T>(list: readonly T[], address: bigint, key: (element: T) => bigint): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (key(list[middle] as T) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * Of several rows at one address one gets the code, and as in gdb that is the last statement, or the last row when
 * none is a statement; the others become empty ranges.
 */
function rangesOfRows(
  rows: readonly LineRow[],
  files: readonly string[],
  assembly: boolean,
  offset: bigint,
): LineRange[] {
  const ranges: LineRange[] = [];
  for (let first = 0; first < rows.length; ) {
    const address = (rows[first] as LineRow).address;
    let next = first + 1;
    while (rows[next - 1]?.endSequence === false && rows[next]?.address === address) next++;
    const group = rows.slice(first, next).filter((row) => !row.endSequence && row.line !== 0);
    const owner = group.findLast((row) => row.isStatement) ?? group.at(-1);
    const end = rows[next - 1]?.endSequence ? address : (rows[next]?.address ?? address);
    for (const row of group) {
      const file = files[row.file];
      if (file === undefined) continue;
      ranges.push({
        start: address + offset,
        end: (row === owner && end > address ? end : address) + offset,
        file,
        line: row.line,
        column: row.column,
        isStatement: row.isStatement,
        assembly,
      });
    }
    first = next;
  }
  return ranges;
}

function groupBy<Key>(ranges: readonly LineRange[], key: (range: LineRange) => Key): Map<Key, LineRange[]> {
  const groups = new Map<Key, LineRange[]>();
  for (const range of ranges) {
    const group = groups.get(key(range));
    if (group) group.push(range);
    else groups.set(key(range), [range]);
  }
  return groups;
}
