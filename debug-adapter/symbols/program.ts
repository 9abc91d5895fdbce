import { FormatError } from './byte-reader.ts';
import { type Companions, NO_COMPANIONS } from './companions.ts';
import { demangle, isMangled, readable } from './demangle/demangle.ts';
import { CallFrames, type FrameRules, type FrameSection } from './dwarf/call-frames.ts';
import { AT } from './dwarf/constants.ts';
import { DebugInformation } from './dwarf/debug-information.ts';
import { entryPoint } from './dwarf/lists.ts';
import { canMean } from './dwarf/qualified-names.ts';
import { type Activation, Scopes } from './dwarf/scopes.ts';
import { splitPackage } from './dwarf/split-package.ts';
import { type EndedCall, TailCalls } from './dwarf/tail-calls.ts';
import type { Entry } from './dwarf/unit.ts';
import { type ElfFile, type ElfSymbol, parseElf, sectionNamed } from './elf.ts';
import { type FileImage, memoryFile } from './file-image.ts';
import { LineIndex, type LineRange, lastAtOrBelow, type SourceLine } from './line-index.ts';
import type { SectionPlaces } from './object-file.ts';
import { OrcTable } from './orc.ts';
import { baseName, comparable, directoryOf, resolvePath } from './paths.ts';
import { Recent } from './recent.ts';
import { isSystemMap, parseSystemMap } from './system-map.ts';

export type { LineRange } from './line-index.ts';

export interface FunctionRange {
  /** As people write it. */
  readonly name: string;
  /** As the linker knows it. */
  readonly symbol: string;
  readonly start: bigint;
  readonly end: bigint;
}

export interface SymbolPlace {
  readonly symbol: ElfSymbol;
  /** With the load offset. */
  readonly address: bigint;
}

/**
 * Where a program is: the address of its lowest segment, of an object file that of `.text`; or those of an object
 * file's sections.
 */
export type Place = bigint | SectionPlaces;

/** One program's symbols, lines and call frames at the addresses where it runs. */
export class Program {
  readonly name: string;
  readonly path: string;
  readonly elf: ElfFile;
  /** Run-time address minus link-time address. */
  readonly offset: bigint;
  /** Parts of the debug information that could not be read, for people. */
  readonly problems: string[] = [];
  /** Functions by rising start; assembly labels reach to the next label. */
  readonly functions: readonly FunctionRange[];
  private readonly symbolsByName: ReadonlyMap<string, SymbolPlace>;
  private readonly symbolsByAddress: readonly SymbolPlace[];
  private readonly lines: LineIndex;
  private readonly debug: Scopes;
  private readonly tailCalls: TailCalls;
  private knownFrames: CallFrames | undefined;
  private knownMangled: ReadonlyMap<string, readonly SymbolPlace[]> | undefined;
  private readonly rules = new Recent<bigint, FrameRules | undefined>(MOST_RULES);

  /**
   * @param path of the file: relative names in its debug information are seen from its folder.
   * @param place undefined: where it was linked; an object file is nowhere then.
   * @param mapPath substitutes prefixes of source paths.
   * @param companions the other files with its debug information.
   * @throws FormatError when the file is neither a readable x86 ELF file nor a list of symbols (System.map).
   */
  constructor(
    name: string,
    path: string,
    file: Uint8Array | FileImage,
    place?: Place,
    mapPath: (path: string) => string = (unmapped) => unmapped,
    companions: Companions = NO_COMPANIONS,
  ) {
    this.name = name;
    this.path = path;
    const image = file instanceof Uint8Array ? memoryFile(file) : file;
    const sections = typeof place === 'bigint' ? new Map([['.text', place]]) : place;
    const separate = companions.separate && parseElf(companions.separate, sections);
    this.elf = withSymbolsOf(separate, isSystemMap(image) ? parseSystemMap(image) : parseElf(image, sections));
    this.problems.push(...companions.problems);
    const { lowestAddress } = this;
    const moved = typeof place === 'bigint' && lowestAddress !== undefined && !this.elf.isObject;
    this.offset = moved ? place - lowestAddress : 0n;
    this.symbolsByAddress = this.elf.symbols
      .map((symbol) => ({ symbol, address: this.placeOf(symbol.address) }))
      .sort(bySymbolAddress);
    this.symbolsByName = new Map(
      [...this.symbolsByAddress].sort(globalsLast).map((place) => [place.symbol.name, place]),
    );
    this.functions = functionRanges(this.symbolsByAddress, (address) => this.sectionEnd(address));
    const folder = directoryOf(path);
    const info = informationOf(this.elf, companions);
    this.lines = new LineIndex(info, (source) => mapPath(resolvePath(folder, source)), this.offset);
    this.debug = new Scopes(info);
    this.tailCalls = new TailCalls(this.debug, (called) => this.beginning(called));
    if (this.elf.isObject && place === undefined) return;
    // What can be read quickly is read at once, so that problems are told when the program is loaded.
    this.attempt('its call-frame information', undefined, () => this.frames);
    this.attempt(LINE_TABLE, undefined, () => !this.elf.isObject && this.lines.isSmall && this.lines.files);
  }

  /** Whether an address is an offset into each processor's own data. */
  isPerProcessor(linked: bigint): boolean {
    const { perProcessor } = this.elf;
    return perProcessor !== undefined && linked >= perProcessor.start && linked < perProcessor.end;
  }

  /** Run-time address of a linked one; offsets into each processor's own data stay what they are. */
  placeOf(linked: bigint): bigint {
    return this.isPerProcessor(linked) ? linked : linked + this.offset;
  }

  /** Where its lowest segment was linked. */
  get lowestAddress(): bigint | undefined {
    const addresses = this.elf.segments.map(({ address }) => address);
    return addresses.reduce<bigint | undefined>((low, at) => (low === undefined || at < low ? at : low), undefined);
  }

  /** Reads a part of the debug information; one that makes no sense is told of once, and does without. */
  attempt<T>(what: string, fallback: T, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      const problem = `${this.name}: ${what} cannot be used: ${error.message}`;
      if (!this.problems.includes(problem)) this.problems.push(problem);
      return fallback;
    }
  }

  private get frames(): CallFrames {
    if (!this.knownFrames) {
      this.knownFrames = new CallFrames([]);
      this.knownFrames = new CallFrames(frameSections(this.elf));
    }
    return this.knownFrames;
  }

  /** A Linux kernel's own table of frames; undefined when the file has none. */
  get orc(): OrcTable | undefined {
    const ips = this.elf.sections.find(({ name }) => name === '.orc_unwind_ip');
    const entries = sectionNamed(this.elf, '.orc_unwind');
    if (!ips || !entries) return undefined;
    const places = ips.content.read(0, ips.content.size);
    return new OrcTable(places, ips.address + this.offset, entries.read(0, entries.size));
  }

  /** The variables and types of its sources; what it gives throws FormatError where they make no sense. */
  get scopes(): Scopes {
    return this.debug;
  }

  /** The functions under way at an address, the innermost inlined one first; none without debug information. */
  activationsAt(address: bigint): readonly Activation[] {
    return this.attempt(VARIABLES, [], () => this.debug.activationsAt(address - this.offset));
  }

  /** Where a called function begins, as the debug information counts: a declaration tells by its name only. */
  beginning(called: Entry): bigint | undefined {
    const own = entryPoint(called);
    if (own !== undefined) return own;
    const name = called.text(AT.linkageName) ?? called.name;
    const symbol = name === undefined ? undefined : this.symbolNamed(name)?.address;
    return symbol === undefined ? undefined : symbol - this.offset;
  }

  /** Functions that have ended between a call and the function that runs, the innermost first. */
  endedBetween(returnAddress: bigint, address: bigint): readonly EndedCall[] {
    const { offset } = this;
    const ended = this.attempt(VARIABLES, [], () => {
      const home = this.debug.functionAt(address - offset);
      const start = home && entryPoint(home);
      return start === undefined ? [] : this.tailCalls.between(returnAddress - offset, start);
    });
    return ended.map(({ pc, inside }) => ({ pc: pc + offset, inside: inside + offset }));
  }

  /**
   * Whether what the caller of a function has passed tells nothing of its parameters, as tail calls lead to it
   * again.
   */
  mayReenter(linkedStart: bigint): boolean {
    return this.tailCalls.mayReenter(linkedStart);
  }

  /** Where the function that inlined an activation calls it. @param address inside the activation. */
  callLine({ call }: Activation, address: bigint): SourceLine | undefined {
    const file = call && this.attempt(LINE_TABLE, undefined, () => this.lines.fileAt(address, call.file));
    return call && file !== undefined ? { file, line: call.line, column: call.column } : undefined;
  }

  /** Where the section of an address ends, or in a list of symbols the segment: as far as its last label can reach. */
  private sectionEnd(address: bigint): bigint {
    const at = address - this.offset;
    const { sections, segments } = this.elf;
    const parts = [
      ...sections.map((section) => ({ start: section.address, end: section.address + BigInt(section.size) })),
      ...segments.map((segment) => ({ start: segment.address, end: segment.address + segment.memorySize })),
    ];
    return (parts.find(({ start, end }) => at >= start && at < end)?.end ?? at) + this.offset;
  }

  /** Source files with code, as the debug information names them. */
  get files(): string[] {
    return this.attempt(LINE_TABLE, [], () => this.lines.files);
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
    return this.attempt(LINE_TABLE, undefined, () => this.lines.rangeAt(address));
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
    const call = this.lines.emptyRangesAt(address).findLast((candidate) => candidate.file === ownFile);
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
    return place && { name: readable(place.symbol.name), offset: address - place.address };
  }

  /** Names of symbols as people write them: those of C++ and Rust with namespaces, without types. */
  get names(): Iterable<string> {
    return [...this.symbolsByName.keys()].filter((name) => !isMangled(name)).concat([...this.mangled.keys()]);
  }

  /** Symbols of C++ and Rust by what they are called, without types of parameters: they may be several. */
  private get mangled(): ReadonlyMap<string, readonly SymbolPlace[]> {
    if (this.knownMangled) return this.knownMangled;
    const found = new Map<string, SymbolPlace[]>();
    for (const place of this.symbolsByAddress) {
      const path = demangle(place.symbol.name)?.path;
      if (path !== undefined) found.set(path, [...(found.get(path) ?? []), place]);
    }
    this.knownMangled = found;
    return found;
  }

  symbolNamed(name: string): SymbolPlace | undefined {
    return this.symbolsByName.get(name);
  }

  /** Where functions of a name begin: a symbol's, or as C++ and Rust write it: `machine::Device::tick`. */
  functionsNamed(name: string): readonly bigint[] {
    const symbol = this.symbolNamed(name);
    if (symbol) return [symbol.address];
    const described = this.attempt(VARIABLES, [], () => this.debug.functionsNamed(name));
    if (described.length > 0) return described.map((start) => start + this.offset);
    const meant = [...this.mangled].filter(([path]) => canMean(path, name)).flatMap(([, places]) => places);
    return [...new Set(meant.filter((place) => place.symbol.code).map(({ address }) => address))];
  }

  /** Where a function begins that the source at an address knows by a name. */
  functionNear(name: string, address: bigint): bigint | undefined {
    const found = this.attempt(VARIABLES, undefined, () => this.debug.functionNear(name, address - this.offset));
    return found === undefined ? undefined : found + this.offset;
  }

  frameRules(address: bigint): FrameRules | undefined {
    return this.rules.get(address, () => this.readFrameRules(address));
  }

  private readFrameRules(address: bigint): FrameRules | undefined {
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
    const byFile = this.attempt(LINE_TABLE, NO_FILES, () => this.lines.filesNamed(baseName(wanted)));
    const exact = byFile.get(wanted);
    if (exact) return exact;
    const parts = wanted.split('/').reverse();
    const scored = [...byFile.entries()]
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
    const key = (range: FunctionRange): bigint => range.start;
    const functions = this.functions.slice(
      lastAtOrBelow(this.functions, start - 1n, key) + 1,
      lastAtOrBelow(this.functions, end - 1n, key) + 1,
    );
    const lines = this.attempt<readonly LineRange[]>(LINE_TABLE, [], () => this.lines.rangesIn(start, end));
    const entry = this.elf.entry + this.offset;
    return [...[...functions, ...lines].map((range) => range.start), ...(entry >= start && entry < end ? [entry] : [])];
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
    const first = this.lineAt(address);
    if (!first || first.assembly) return address;
    const next = this.attempt(LINE_TABLE, undefined, () => this.lines.rangeAfter(address));
    return next && next.start < home.end ? next.start : address;
  }
}

/** Addresses whose call-frame rules are kept. */
const MOST_RULES = 10_000;
/** Parts of the debug information as problems name them. */
const LINE_TABLE = 'its line table';
const VARIABLES = 'its description of variables';
const NO_FILES: ReadonlyMap<string, readonly LineRange[]> = new Map();

const bySymbolAddress = (a: SymbolPlace, b: SymbolPlace): number =>
  a.address < b.address ? -1 : a.address > b.address ? 1 : SYMBOL_RANK[a.symbol.kind] - SYMBOL_RANK[b.symbol.kind];
/** Of several symbols at one address the last one names it. */
const SYMBOL_RANK = { label: 0, object: 1, function: 2 } as const;
/** So that a map made of the list keeps the global one of equal names. */
const globalsLast = (a: SymbolPlace, b: SymbolPlace): number => Number(a.symbol.global) - Number(b.symbol.global);

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
    ranges.push(namedRange(symbol.name, address, end));
    if (sized) sizedEnd = end;
  }
  return ranges;
}

/** Most names are never asked for. */
const namedRange = (symbol: string, start: bigint, end: bigint): FunctionRange => ({
  get name() {
    return readable(symbol);
  },
  symbol,
  start,
  end,
});

function withSymbolsOf(separate: ElfFile | undefined, elf: ElfFile): ElfFile {
  if (!separate) return elf;
  return {
    ...elf,
    // Getters, since tables of symbols are read when they are needed.
    get symbols() {
      return elf.symbols.length > 0 ? elf.symbols : separate.symbols;
    },
    threadLocal: elf.threadLocal && {
      ...elf.threadLocal,
      names: () => (elf.symbols.length > 0 ? elf : separate).threadLocal?.names() ?? new Set(),
    },
    sections: [...elf.sections, ...separate.sections.filter(({ content }) => content.size > 0)],
  };
}

function informationOf(elf: ElfFile, { split, shared, package: packed }: Companions): DebugInformation {
  const inPackage = packed && splitPackage((section) => sectionNamed(packed, section));
  return new DebugInformation((section) => sectionNamed(elf, section), {
    split: (name, identifier) => {
      const file = split.get(name);
      return inPackage?.unit(identifier) ?? (file && ((section) => sectionNamed(file, section)));
    },
    packedType: (signature) => inPackage?.type(signature),
    shared: shared && ((section) => sectionNamed(shared, section)),
  });
}

function frameSections(elf: ElfFile): FrameSection[] {
  const kinds = [
    ['.debug_frame', 'debug'],
    ['.eh_frame', 'eh'],
  ] as const;
  return kinds.flatMap(([name, kind]): FrameSection[] => {
    const section = elf.sections.find((candidate) => candidate.name === name);
    const content = sectionNamed(elf, name);
    if (!section || !content) return [];
    return [{ bytes: content.read(0, content.size), address: section.address, kind }];
  });
}
