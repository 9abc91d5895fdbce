import type { DebugProtocol } from '@vscode/debugprotocol';
import { Decoder, DecoderError, FlowControl, Formatter, FormatterSyntax, type Instruction } from 'iced-x86';
import { LONGEST_INSTRUCTION } from '../../sim-core/engine/form.ts';
import type { World } from '../../sim-core/machine/api.ts';
import { readPlace, viewOfPlace } from '../expressions/environment.ts';
import { type HandlerTable, handler } from '../handler.ts';
import type { Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import { describeForecast, type Forecast, forecastNext } from '../views/forecast.ts';
import { hex, type Place, parsePlace, wrap64 } from '../worlds/memory-reference.ts';
import type { WorldView } from '../worlds/world-view.ts';
import { sourceOf } from './stack.ts';

const LARGEST_COUNT = 10_000;
/** So many instructions behind a place are looked through for CALLs to functions before it. */
const LINES_BEHIND = 200;
/** Decoding from an arbitrary byte falls in step with the true instructions well before this many bytes. */
const SYNCHRONISATION = 64;

interface Line {
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly text: string;
  /** Not an instruction: unreadable, or bytes that decode to nothing. */
  readonly invalid: boolean;
  /** What a CALL calls. */
  readonly calls?: bigint;
}

/** Instructions of one world at the places where its symbols and line tables say that they begin. */
class Disassembler {
  private readonly target: Target;
  private readonly place: Place;
  private readonly view: WorldView;
  private readonly bitness: 16 | 32 | 64;
  private readonly formatter: Formatter;
  private next: Forecast | undefined;

  constructor(target: Target, place: Place) {
    this.target = target;
    this.place = place;
    this.view = viewOfPlace(target, place);
    this.bitness = this.view.bitness;
    this.formatter = new Formatter(FormatterSyntax.Intel);
    this.formatter.hexPrefix = '0x';
    this.formatter.hexSuffix = '';
    this.formatter.uppercaseHex = false;
    this.formatter.spaceAfterOperandSeparator = true;
    this.formatter.branchLeadingZeros = false;
  }

  free(): void {
    this.formatter.free();
  }

  private read(address: bigint, length: number): Uint8Array {
    if (this.isLinear && this.view.exists) return this.view.read(address, length);
    return readPlace(this.target, { ...this.place, address }, length);
  }

  /** `count` lines from `address` on. */
  forward(address: bigint, count: number): Line[] {
    const lines: Line[] = [];
    let at = address;
    while (lines.length < count) {
      const line = this.lineAt(at, this.read(at, LONGEST_INSTRUCTION));
      lines.push(line);
      at = wrap64(at + BigInt(Math.max(line.bytes.length, 1)));
    }
    return lines;
  }

  /** `count` lines that end right before `address`. */
  backward(address: bigint, count: number): Line[] {
    const reach = BigInt(count * LONGEST_INSTRUCTION + SYNCHRONISATION);
    const lowest = address > reach ? address - reach : 0n;
    const start = this.firstReadable(lowest, address);
    const lines = this.alignedSweep(start, address).slice(-count);
    const first = lines[0]?.address ?? address;
    const missing = Array.from({ length: count - lines.length }, (_, index) =>
      unreadable(wrap64(first - BigInt(count - lines.length - index))),
    );
    return [...missing, ...lines];
  }

  /** The lowest address from which on all bytes up to `end` can be read. */
  private firstReadable(lowest: bigint, end: bigint): bigint {
    let start = end;
    while (start > lowest) {
      const page = (start - 1n) & ~0xfffn;
      const from = page > lowest ? page : lowest;
      if (this.read(from, Number(start - from)).length < Number(start - from)) break;
      start = from;
    }
    return start;
  }

  /** Where no symbols tell, functions begin where CALLs near by lead to. */
  private alignedSweep(start: bigint, end: bigint): Line[] {
    const known = this.knownBoundaries(start, end);
    const lines = this.sweep(start, end, known);
    if (known.length > 0) return lines;
    const called = callTargets([...lines, ...this.forward(end, LINES_BEHIND)]);
    const inside = [...called].filter((address) => address > start && address < end).sort(ascending);
    return inside.length > 0 ? this.sweep(start, end, inside) : lines;
  }

  /** Decodes [start, end) so that lines begin at every known boundary and at `end`. */
  private sweep(start: bigint, end: bigint, known: readonly bigint[]): Line[] {
    const bytes = this.read(start, Number(end - start));
    const boundaries = [...known, end];
    const lines: Line[] = [];
    let at = start;
    let next = 0;
    while (at < end) {
      while ((boundaries[next] ?? end) <= at) next++;
      const limit = boundaries[next] ?? end;
      const offset = Number(at - start);
      const line = this.lineAt(at, bytes.subarray(offset, offset + LONGEST_INSTRUCTION));
      const fits = !line.invalid && at + BigInt(line.bytes.length) <= limit;
      lines.push(fits ? line : dataByte(at, bytes.subarray(offset, offset + 1)));
      at += BigInt(fits ? line.bytes.length : 1);
    }
    return lines;
  }

  /** Symbols are linear addresses. */
  private get isLinear(): boolean {
    return !['gpa', 'hpa', 'iova'].includes(this.place.space);
  }

  private knownBoundaries(start: bigint, end: bigint): bigint[] {
    if (!this.isLinear) return [];
    return this.target
      .programsIn(this.view)
      .flatMap((program) => program.instructionStarts(start, end))
      .sort(ascending);
  }

  private lineAt(address: bigint, bytes: Uint8Array): Line {
    if (bytes.length === 0) return unreadable(address);
    const decoder = new Decoder(this.bitness, bytes, 0);
    decoder.ip = address;
    const instruction = decoder.decode();
    try {
      if (decoder.lastError !== DecoderError.None) return dataByte(address, bytes.subarray(0, 1));
      const text = this.formatter.format(instruction) + this.branchTarget(instruction);
      const calls = instruction.isCallNear ? { calls: instruction.nearBranchTarget } : {};
      return { address, bytes: bytes.subarray(0, instruction.length), text, invalid: false, ...calls };
    } finally {
      instruction.free();
      decoder.free();
    }
  }

  private branchTarget(instruction: Instruction): string {
    const near = [FlowControl.Call, FlowControl.ConditionalBranch, FlowControl.UnconditionalBranch];
    if (!near.includes(instruction.flowControl) || instruction.nearBranchTarget === 0n) return '';
    const name = this.target.symbolName(this.view, instruction.nearBranchTarget);
    return name === undefined ? '' : ` <${name}>`;
  }

  /** What is said behind the guest's next instruction: whether it exits, where a control decides that. */
  private comment(address: bigint): string {
    const isNext = this.view.world === 'guest' && !this.view.suspended;
    this.next ??= isNext ? forecastNext(this.target) : undefined;
    return this.next?.address === address && this.next.forecast ? `  ; ${describeForecast(this.next)}` : '';
  }

  /** @param called addresses that CALLs in the lines shown lead to */
  describe(
    session: Session,
    line: Line,
    showSymbols: boolean,
    called: ReadonlySet<bigint>,
  ): DebugProtocol.DisassembledInstruction {
    const { address, bytes, text, invalid } = line;
    const source = this.target.lineAt(this.view, address);
    const known =
      this.target.symbolName(this.view, address) ?? (called.has(address) ? unnamedFunction(address) : undefined);
    const name = showSymbols ? known : undefined;
    return {
      address: hex(address),
      instructionBytes: [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' '),
      instruction: text + this.comment(address),
      ...(name !== undefined && !name.includes('+0x') ? { symbol: name } : {}),
      ...(source ? { location: sourceOf(source.file), line: session.clientLine(source.line) } : {}),
      ...(invalid ? { presentationHint: 'invalid' } : {}),
    };
  }
}

const ascending = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
const callTargets = (lines: readonly Line[]): ReadonlySet<bigint> =>
  new Set(lines.flatMap(({ calls }) => (calls === undefined ? [] : [calls])));
/** The name of a function of which nothing is known but that it is called. */
const unnamedFunction = (address: bigint): string => `sub_${address.toString(16)}`;

/** One instruction of a world, in words; undefined where none can be read. */
export function instructionText(target: Target, world: World, address: bigint): string | undefined {
  const disassembler = new Disassembler(target, { space: world, address });
  try {
    const [line] = disassembler.forward(address, 1);
    return line === undefined || line.invalid ? undefined : line.text;
  } finally {
    disassembler.free();
  }
}

const unreadable = (address: bigint): Line => ({ address, bytes: new Uint8Array(), text: '??', invalid: true });
const dataByte = (address: bigint, bytes: Uint8Array): Line => ({
  address,
  bytes,
  text: `db ${hex(bytes[0] ?? 0)}`,
  invalid: true,
});

/** Exactly `count` lines, the first one `instructionOffset` instructions away from the address. */
function disassemble(disassembler: Disassembler, address: bigint, instructionOffset: number, count: number): Line[] {
  if (instructionOffset >= 0) return disassembler.forward(address, instructionOffset + count).slice(instructionOffset);
  const before = disassembler.backward(address, -instructionOffset).slice(0, count);
  return [...before, ...disassembler.forward(address, count - before.length)];
}

export const disassemblyRequests: HandlerTable = {
  disassemble: handler(
    {
      memoryReference: 'string',
      offset: 'number?',
      instructionOffset: 'number?',
      instructionCount: 'number',
      resolveSymbols: 'boolean?',
    },
    (session, args, command) => {
      const place = parsePlace(args.memoryReference);
      const disassembler = new Disassembler(session.target(command), place);
      try {
        const address = wrap64(place.address + BigInt(Math.trunc(args.offset ?? 0)));
        const count = Math.min(Math.max(Math.trunc(args.instructionCount), 0), LARGEST_COUNT);
        const skip = Math.max(Math.min(Math.trunc(args.instructionOffset ?? 0), LARGEST_COUNT), -LARGEST_COUNT);
        const lines = disassemble(disassembler, address, skip, count);
        const called = callTargets(lines);
        const showSymbols = args.resolveSymbols ?? true;
        return { instructions: lines.map((line) => disassembler.describe(session, line, showSymbols, called)) };
      } finally {
        disassembler.free();
      }
    },
  ),
};
