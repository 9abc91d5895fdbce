import type { DebugProtocol } from '@vscode/debugprotocol';
import { RequestError } from '../errors.ts';
import { type HandlerTable, handler, shapedPart } from '../handler.ts';
import type { LoadedProgram, Target } from '../running/target.ts';
import type { Session } from '../session.ts';
import type { Placement, ProgramLocation } from '../stops/breakpoint-store.ts';
import { isInstructionKind, parseInstructionKind } from '../stops/instruction-kinds.ts';
import { baseName } from '../symbols/paths.ts';
import { hex, parsePlace, wrap64 } from '../worlds/memory-reference.ts';

const OPTIONS = { condition: 'string?', hitCondition: 'string?', logMessage: 'string?' } as const;
const SOURCE_BREAKPOINT = { line: 'number', column: 'number?', ...OPTIONS } as const;
const FUNCTION_BREAKPOINT = { name: 'string', ...OPTIONS } as const;
const INSTRUCTION_BREAKPOINT = { instructionReference: 'string', offset: 'number?', ...OPTIONS } as const;

const at = ({ when }: LoadedProgram, address: bigint): ProgramLocation =>
  when.mode === undefined ? { address, when } : { address, world: when.mode, when };

/** A line of a source file, or the next one with code, in every program that has it. */
function placeLine(session: Session, target: Target, path: string, line: number): Placement {
  const found = target.placedPrograms.flatMap((loaded) => {
    const lines = loaded.program.addressesOfLine(path, line);
    return lines ? [{ line: lines.line, locations: lines.addresses.map((address) => at(loaded, address)) }] : [];
  });
  const actual = Math.min(...found.map((lines) => lines.line));
  const locations = found.filter((lines) => lines.line === actual).flatMap((lines) => lines.locations);
  if (locations.length === 0) {
    const known = target.programs.some(({ program }) => program.rangesOfFile(path).length > 0);
    const message = known
      ? 'There is no code at or after this line.'
      : `No program here was built from ${baseName(path)} with debug information (-g).`;
    return { locations, answer: { message, line: session.clientLine(line), source: { path } } };
  }
  const reference = locations[0] ? { instructionReference: hex(locations[0].address) } : {};
  return { locations, answer: { line: session.clientLine(actual), source: { path }, ...reference } };
}

/** A kind of instruction, or an event. */
function placeKind(name: string): Placement {
  const kind = parseInstructionKind(name);
  if (kind.kind === 'problem') return { locations: [], answer: { message: kind.problem } };
  const answer = { message: kind.what };
  return kind.kind === 'stop'
    ? { locations: [], stops: [kind.stop], answer }
    : { locations: [], watches: [kind.watch], answer };
}

function placeFunction(session: Session, target: Target, name: string): Placement {
  if (isInstructionKind(name)) return placeKind(name);
  const found = target.placedPrograms.flatMap((loaded) =>
    loaded.program.functionsNamed(name).map((address) => ({ loaded, address: loaded.program.afterPrologue(address) })),
  );
  const [first] = found;
  if (!first) return { locations: [], answer: { message: `No program here has a function '${name}'.` } };
  const line = first.loaded.program.lineAt(first.address);
  const place = line ? { line: session.clientLine(line.line), source: { path: line.file } } : {};
  const answer = { ...place, instructionReference: hex(first.address) };
  return { locations: found.map(({ loaded, address }) => at(loaded, address)), answer };
}

/** A reference into one world stops there only; plain linear addresses stop in any. */
function placeInstruction(reference: string, offset: number): Placement {
  try {
    const { space, address } = parsePlace(reference);
    if (space !== 'linear' && space !== 'vmm' && space !== 'guest') {
      return { locations: [], answer: { message: 'Instruction breakpoints need a linear address of what runs.' } };
    }
    const linear = wrap64(address + BigInt(offset));
    const location = space === 'linear' ? { address: linear } : { address: linear, world: space };
    return { locations: [location], answer: { instructionReference: reference, offset } };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return { locations: [], answer: { message: error.message } };
  }
}

function setSourceBreakpoints(session: Session, path: string, requests: readonly unknown[], command: string): object {
  const target = session.target(command);
  const parsed = requests.map((request) => shapedPart(command, 'breakpoints[]', request, SOURCE_BREAKPOINT));
  const breakpoints = session.breakpoints.replace(
    `source:${path}`,
    (now: Target) =>
      parsed.map((request) => ({
        ...request,
        placement: placeLine(session, now, path, session.ownLine(request.line)),
      })),
    target,
  );
  session.refreshBreakpoints();
  return { breakpoints };
}

/** Lines of a file, or of a part of it, where a breakpoint can be. */
function breakpointLocations(
  session: Session,
  path: string,
  first: number,
  last: number,
  command: string,
): DebugProtocol.BreakpointLocation[] {
  const lines = session
    .target(command)
    .programs.flatMap(({ program }) => program.codeLines(path, session.ownLine(first), session.ownLine(last)));
  return [...new Set(lines)].sort((a, b) => a - b).map((line) => ({ line: session.clientLine(line) }));
}

const pathOf = (command: string, source: unknown): string =>
  shapedPart(command, 'source', source, { path: 'string' }).path;

export const breakpointRequests: HandlerTable = {
  setBreakpoints: handler({ source: 'object', breakpoints: 'array?' }, (session, { source, breakpoints }, command) =>
    setSourceBreakpoints(session, pathOf(command, source), breakpoints ?? [], command),
  ),

  setFunctionBreakpoints: handler({ breakpoints: 'array' }, (session, { breakpoints }, command) => {
    const target = session.target(command);
    const parsed = breakpoints.map((request) => shapedPart(command, 'breakpoints[]', request, FUNCTION_BREAKPOINT));
    const answers = session.breakpoints.replace(
      'functions',
      (now) => parsed.map((request) => ({ ...request, placement: placeFunction(session, now, request.name) })),
      target,
    );
    session.refreshBreakpoints();
    return { breakpoints: answers };
  }),

  setInstructionBreakpoints: handler({ breakpoints: 'array' }, (session, { breakpoints }, command) => {
    const target = session.target(command);
    const parsed = breakpoints.map((request) => shapedPart(command, 'breakpoints[]', request, INSTRUCTION_BREAKPOINT));
    const answers = session.breakpoints.replace(
      'instructions',
      () =>
        parsed.map((request) => ({
          ...request,
          placement: placeInstruction(request.instructionReference, request.offset ?? 0),
        })),
      target,
    );
    session.refreshBreakpoints();
    return { breakpoints: answers };
  }),

  breakpointLocations: handler(
    { source: 'object', line: 'number', endLine: 'number?' },
    (session, { source, line, endLine }, command) => ({
      breakpoints: breakpointLocations(session, pathOf(command, source), line, endLine ?? line, command),
    }),
  ),
};
