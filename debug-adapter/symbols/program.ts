import { FormatError } from './byte-reader.ts';
import { CallFrames, type FrameRules, type FrameSection } from './call-frames.ts';
import type { StringSections } from './dwarf-forms.ts';
import { type LineRow, readLineTable } from './dwarf-lines.ts';
import { type CompilationUnit, LANGUAGE_ASSEMBLER, readCompilationUnits } from './dwarf-units.ts';
import { type ElfFile, type ElfSymbol, parseElf, sectionBytes } from './elf.ts';
import { comparable, directoryOf, resolvePath } from './paths.ts';
import { isSystemMap, parseSystemMap } from './system-map.ts';

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

export interface FunctionRange {
  readonly name: string;
  readonly start: bigint;
  readonly end: bigint;
}

export interface SymbolPlace {
  readonly symbol: ElfSymbol;
  /** With the load offset. */
  readonly address: bigint;
}

/** One program's symbols, lines and call frames at the addresses where it runs. */
export class Program {
  readonly name: string;
  readonly path: string;
  readonly elf: ElfFile;
  /** Run-time address minus link-time address. */
  readonly offset: bigint;
  /** Parts of the debug information that could not be read, for people. */
  readonly problems: readonly string[];
  /** Functions by rising start; assembly labels reach to the next label. */
  readonly functions: readonly FunctionRange[];
  private readonly symbolsByName: ReadonlyMap<string, SymbolPlace>;
  private readonly symbolsByAddress: readonly SymbolPlace[];
  /** Ranges that hold code, by rising start. */
  private readonly ranges: readonly LineRange[];
  /** Ranges without code, by start. */
  private readonly emptyRanges: ReadonlyMap<bigint, readonly LineRange[]>;
  /** All ranges by file, also empty ones: a line whose code begins with that of a line inlined there. */
  private readonly byFile: ReadonlyMap<string, readonly LineRange[]>;
  private readonly frames: CallFrames;

  /**
   * @param path of the file: relative names in its debug information are seen from its folder.
   * @param loadAddress where its lowest segment is; undefined: where it was linked.
   * @param mapPath substitutes prefixes of source paths.
   * @throws FormatError when the file is neither a readable x86 ELF file nor a list of symbols (System.map).
   */
  constructor(
    name: string,
    path: string,
    bytes: Uint8Array,
    loadAddress?: bigint,
    mapPath: (path: string) => string = (unmapped) => unmapped,
  ) {
    this.name = name;
    this.path = path;
    this.elf = isSystemMap(bytes) ? parseSystemMap(bytes) : parseElf(bytes);
    const lowest = this.elf.segments.reduce<bigint | undefined>(
      (low, { address }) => (low === undefined || address < low ? address : low),
      undefined,
    );
    this.offset = loadAddress === undefined || lowest === undefined ? 0n : loadAddress - lowest;
    const problems: string[] = [];
    const attempt = <T>(what: string, fallback: T, read: () => T): T => {
      try {
        return read();
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        problems.push(`${name}: ${what} cannot be used: ${error.message}`);
        return fallback;
      }
    };
    this.symbolsByAddress = this.elf.symbols
      .map((symbol) => ({ symbol, address: symbol.address + this.offset }))
      .sort(bySymbolAddress);
    this.symbolsByName = new Map(
      [...this.symbolsByAddress].sort(globalsLast).map((place) => [place.symbol.name, place]),
    );
    this.functions = functionRanges(this.symbolsByAddress, (address) => this.sectionEnd(address));
    const folder = directoryOf(path);
    const ranges = attempt<LineRange[]>('its line table', [], () =>
      readRanges(this.elf, (file) => mapPath(resolvePath(folder, file)), this.offset),
    );
    this.ranges = ranges.filter((range) => range.end > range.start);
    this.emptyRanges = groupBy(
      ranges.filter((range) => range.end === range.start && range.isStatement),
      (range) => range.start,
    );
    this.byFile = groupBy(ranges, (range) => comparable(range.file));
    const frames = attempt<FrameSection[]>('its call-frame information', [], () => frameSections(this.elf));
    this.frames = attempt('its call-frame information', new CallFrames([]), () => new CallFrames(frames));
    this.problems = problems;
  }

  /** Where the section of an address ends: as far as its last label can reach. */
  private sectionEnd(address: bigint): bigint {
    const at = address - this.offset;
    const ends = this.elf.sections.map((section) => ({
      start: section.address,
      end: section.address + BigInt(section.size),
    }));
    return (ends.find(({ start, end }) => at >= start && at < end)?.end ?? at) + this.offset;
  }

  /** Source files with code, as the debug information names them. */
  get files(): string[] {
    return [...this.byFile.values()].flatMap((ranges) => ranges[0]?.file ?? []);
  }

  /** Every symbol with a place, by rising address. */
  get symbols(): readonly SymbolPlace[] {
    return this.symbolsByAddress;
  }

  contains(address: bigint): boolean {
    const at = address - this.offset;
    return this.elf.segments.some((segment) => at >= segment.address && at < segment.address + segment.memorySize);
  }

  lineAt(address: bigint): LineRange | undefined {
    const range = this.ranges[lastAtOrBelow(this.ranges, address, (candidate) => candidate.start)];
    return range && address < range.end ? range : undefined;
  }

  /**
   * The line that a person sees at an instruction: at the first one of inlined code that is the line of the call, as
   * long as nothing of the inlined code has run.
   */
  statementAt(address: bigint): LineRange | undefined {
    const range = this.lineAt(address);
    const home = this.functionAt(address);
    if (range?.start !== address || !home) return range;
    const ownFile = this.lineAt(home.start)?.file;
    if (range.file === ownFile) return range;
    const call = this.emptyRanges.get(address)?.findLast((candidate) => candidate.file === ownFile);
    return call ? { ...range, file: call.file, line: call.line, column: call.column } : range;
  }

  functionAt(address: bigint): FunctionRange | undefined {
    const range = this.functions[lastAtOrBelow(this.functions, address, (candidate) => candidate.start)];
    return range && address < range.end ? range : undefined;
  }

  /** Name and distance of the nearest symbol at or below an address inside the program. */
  symbolAt(address: bigint): { name: string; offset: bigint } | undefined {
    if (!this.contains(address)) return undefined;
    const place =
      this.symbolsByAddress[lastAtOrBelow(this.symbolsByAddress, address, (candidate) => candidate.address)];
    return place && { name: place.symbol.name, offset: address - place.address };
  }

  symbolNamed(name: string): SymbolPlace | undefined {
    return this.symbolsByName.get(name);
  }

  frameRules(address: bigint): FrameRules | undefined {
    try {
      return this.frames.rules(address - this.offset);
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  }

  /** The ranges of the file that `path` names: exactly, or by the longest common ending when only one file has it. */
  rangesOfFile(path: string): readonly LineRange[] {
    const wanted = comparable(path);
    const exact = this.byFile.get(wanted);
    if (exact) return exact;
    const parts = wanted.split('/').reverse();
    const scored = [...this.byFile.entries()]
      .map(([file, ranges]) => ({ score: commonEnding(parts, file.split('/').reverse()), ranges }))
      .sort((a, b) => b.score - a.score);
    const [best, second] = scored;
    return best && best.score > 0 && best.score > (second?.score ?? 0) ? best.ranges : [];
  }

  /**
   * Where to stop for a line: the line itself or the next one with code. One place per function that has code for it;
   * at the start of a compiled function, behind its prologue.
   */
  addressesOfLine(path: string, line: number): { line: number; addresses: bigint[] } | undefined {
    const ranges = this.rangesOfFile(path).filter((range) => range.isStatement && range.line >= line);
    if (ranges.length === 0) return undefined;
    const actual = ranges.reduce((least, range) => Math.min(least, range.line), Number.MAX_SAFE_INTEGER);
    const lowest = new Map<bigint, LineRange>();
    for (const range of ranges) {
      if (range.line !== actual) continue;
      const home = this.functionAt(range.start)?.start ?? -1n;
      const known = lowest.get(home);
      if (known === undefined || range.start < known.start) lowest.set(home, range);
    }
    return { line: actual, addresses: [...lowest.values()].map((range) => this.afterPrologue(range.start)) };
  }

  /** Addresses in [start, end) where an instruction is known to begin: entry, functions, labels, statements. */
  instructionStarts(start: bigint, end: bigint): bigint[] {
    const within = <T extends { readonly start: bigint }>(list: readonly T[]): bigint[] =>
      list
        .slice(lastAtOrBelow(list, start - 1n, (entry) => entry.start) + 1, countBelow(list, end))
        .map((e) => e.start);
    const countBelow = <T extends { readonly start: bigint }>(list: readonly T[], bound: bigint): number =>
      lastAtOrBelow(list, bound - 1n, (entry) => entry.start) + 1;
    const entry = this.elf.entry + this.offset;
    return [...within(this.functions), ...within(this.ranges), ...(entry >= start && entry < end ? [entry] : [])];
  }

  /** Lines of a file between two lines (inclusive) that have code. */
  codeLines(path: string, first: number, last: number): number[] {
    const lines = this.rangesOfFile(path)
      .filter((range) => range.isStatement && range.line >= first && range.line <= last)
      .map((range) => range.line);
    return [...new Set(lines)].sort((a, b) => a - b);
  }

  /** For a compiled function's first address: the address of its second line, where its frame stands. */
  afterPrologue(address: bigint): bigint {
    const home = this.functionAt(address);
    if (home?.start !== address) return address;
    const index = lastAtOrBelow(this.ranges, address, (candidate) => candidate.start);
    const first = this.ranges[index];
    if (!first || first.assembly) return address;
    const next = this.ranges[index + 1];
    return next && next.start < home.end ? next.start : address;
  }
}

const bySymbolAddress = (a: SymbolPlace, b: SymbolPlace): number =>
  a.address < b.address ? -1 : a.address > b.address ? 1 : SYMBOL_RANK[a.symbol.kind] - SYMBOL_RANK[b.symbol.kind];
/** Of several symbols at one address the last one names it. */
const SYMBOL_RANK = { label: 0, object: 1, function: 2 } as const;
/** So that a map made of the list keeps the global one of equal names. */
const globalsLast = (a: SymbolPlace, b: SymbolPlace): number => Number(a.symbol.global) - Number(b.symbol.global);

/** Index of the last element whose key is at or below `address`; -1 when all are above. */
function lastAtOrBelow<T>(list: readonly T[], address: bigint, key: (element: T) => bigint): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (key(list[middle] as T) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function commonEnding(a: readonly string[], b: readonly string[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

/** nasm calls some labels of code objects: in an executable section every symbol is taken for code. */
function functionRanges(symbols: readonly SymbolPlace[], sectionEnd: (address: bigint) => bigint): FunctionRange[] {
  const code = symbols.filter(({ symbol }) => symbol.code);
  const ranges: FunctionRange[] = [];
  let sizedEnd = -1n;
  for (const [index, { symbol, address }] of code.entries()) {
    const sized = symbol.kind === 'function' && symbol.size > 0n;
    if (!sized && address < sizedEnd) continue;
    let next = index + 1;
    while (code[next]?.address === address) next++;
    const end = sized ? address + symbol.size : (code[next]?.address ?? sectionEnd(address));
    if (ranges.at(-1)?.start === address) ranges.pop();
    ranges.push({ name: symbol.name, start: address, end });
    if (sized) sizedEnd = end;
  }
  return ranges;
}

function readRanges(elf: ElfFile, place: (file: string) => string, offset: bigint): LineRange[] {
  const line = sectionBytes(elf, '.debug_line');
  const info = sectionBytes(elf, '.debug_info');
  const abbreviations = sectionBytes(elf, '.debug_abbrev');
  if (!line || !info || !abbreviations) return [];
  const strings: StringSections = {
    str: sectionBytes(elf, '.debug_str'),
    lineStr: sectionBytes(elf, '.debug_line_str'),
  };
  const ranges: LineRange[] = [];
  const seen = new Set<number>();
  for (const unit of readCompilationUnits(info, abbreviations, strings)) {
    if (unit.lineOffset === undefined || seen.has(unit.lineOffset)) continue;
    seen.add(unit.lineOffset);
    const table = readLineTable(line, unit.lineOffset, strings);
    const files = table.files.map((file) => place(resolvePath(unit.directory, file)));
    appendRanges(ranges, table.rows, files, unit, offset);
  }
  return ranges.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
}

/**
 * Of several rows at one address one gets the code, and as in gdb that is the last statement, or the last row when
 * none is a statement; the others become empty ranges.
 */
function appendRanges(
  ranges: LineRange[],
  rows: readonly LineRow[],
  files: readonly string[],
  unit: CompilationUnit,
  offset: bigint,
): void {
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
        assembly: unit.language === LANGUAGE_ASSEMBLER,
      });
    }
    first = next;
  }
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

function frameSections(elf: ElfFile): FrameSection[] {
  const kinds = [
    ['.debug_frame', 'debug'],
    ['.eh_frame', 'eh'],
  ] as const;
  return kinds.flatMap(([name, kind]): FrameSection[] => {
    const section = elf.sections.find((candidate) => candidate.name === name);
    const bytes = sectionBytes(elf, name);
    if (!section || !bytes) return [];
    return [{ bytes, address: section.address, kind }];
  });
}
