/** What can follow a text in the debug console: `completions`. */

import type { DebugProtocol } from '@vscode/debugprotocol';
import { MACHINE_REGISTERS } from '../../sim-core/machine/registers.ts';
import { EXIT_REASONS } from '../../sim-core/vmx/exit-reasons.ts';
import { VMCS_FIELDS } from '../../sim-core/vmx/fields.ts';
import { RequestError } from '../errors.ts';
import { SCOPE_NAMES, SPECIAL_NAMES, TargetEnvironment } from '../expressions/environment.ts';
import { evaluate } from '../expressions/evaluate.ts';
import { QUALIFICATION_PARTS } from '../expressions/exit-names.ts';
import { parseExpression } from '../expressions/parser.ts';
import type { Target } from '../running/target.ts';
import { argumentNames, KIND_NAMES, MSR_NAMES } from '../stops/instruction-kinds.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import type { TypedValue } from '../symbols/typed-value.ts';
import { FrameScope } from '../views/frame-scope.ts';
import { SPACES } from '../worlds/memory-reference.ts';
import { type Frame, innermostFrame } from '../worlds/unwind.ts';

interface Candidate {
  readonly label: string;
  readonly type: DebugProtocol.CompletionItemType;
}

const MOST_COMPLETIONS = 200;
const FUNCTIONS = ['u8(', 'u16(', 'u32(', 'u64(', 's8(', 's16(', 's32(', 's64(', 'signed(', 'sizeof('];
const item =
  (type: DebugProtocol.CompletionItemType) =>
  (label: string): Candidate => ({ label, type });

/** Everything that a name can be, variables of the frame first. */
function candidates(target: Target, frame: Frame | undefined, commands: readonly string[]): Candidate[] {
  const registers = MACHINE_REGISTERS.map((register) => register.name);
  const symbols = target.programs.flatMap(({ program }) => [...program.names]);
  const scope = new FrameScope(target, frame ?? innermostFrame(target.view()));
  const variables = [...scope.variables, ...scope.globals].map(({ name }) => name);
  return [
    ...[...new Set(variables)].map(item('variable')),
    ...registers.map(item('variable')),
    ...SPECIAL_NAMES.map(item('variable')),
    ...SCOPE_NAMES.flatMap((world) => registers.map((name) => `${world}.${name}`)).map(item('property')),
    ...VMCS_FIELDS.map(({ name }) => `vmcs.${name}`).map(item('field')),
    ...EXIT_REASONS.map(({ name }) => `exit.${name}`).map(item('enum')),
    ...QUALIFICATION_PARTS.map((name) => `qualification.${name}`).map(item('field')),
    ...MSR_NAMES.map((name) => `msr.${name}`).map(item('field')),
    ...SPACES.map((space) => `${space}:`).map(item('keyword')),
    ...FUNCTIONS.map(item('function')),
    ...commands.map(item('keyword')),
    ...KIND_NAMES.map(item('keyword')),
    ...[...new Set(symbols)].filter((name) => !variables.includes(name)).map(item('reference')),
  ];
}

/** An expression that a member follows: names, members, indices and parentheses in a row. */
const MEMBER = /((?:[A-Za-z_$][\w$]*(?:::\w+)*|\([^()]*\))(?:\[[^\][]*\]|(?:\.|->)[A-Za-z_]\w*)*)(?:\.|->)(\w*)$/;

/** Members of the variable that a text ends in. */
function members(target: Target, frame: Frame | undefined, object: string): Candidate[] {
  try {
    const { typed } = evaluate(parseExpression(object), new TargetEnvironment(target, frame));
    const record = typed && (typed.plain.kind === 'record' ? typed : typed.target());
    return record ? memberNames(record).map(item('property')) : [];
  } catch (error) {
    if (error instanceof RequestError || error instanceof Unavailable) return [];
    throw error;
  }
}

/** Those of base classes and anonymous structures, too. */
function memberNames(record: TypedValue): string[] {
  const { plain } = record;
  if (plain.kind !== 'record') return [];
  return record.members(plain).flatMap((member) => {
    const isNamed = member.name !== undefined && !member.isBase;
    return isNamed ? [member.name as string] : memberNames(record.member(member));
  });
}

/** The end of a text that a name, a kind of instruction or a command can complete. */
function begunName(before: string, commands: readonly string[]): string {
  const whole = before.trimStart();
  if (commands.some((command) => command.startsWith(whole))) return whole;
  return /@[\w-]*$/.exec(before)?.[0] ?? /(?:[\w.$]|::)*$/.exec(before)?.[0] ?? '';
}

/** What has been typed of a name, and the names that it can become. */
interface Begun {
  readonly typed: string;
  readonly all: readonly Candidate[];
}

/** The argument of a kind of instruction. */
function afterKind(before: string): Begun | undefined {
  const [, kind = '', typed = ''] = /^\s*@(\w+)\s+([\w.]*)$/.exec(before) ?? [];
  const all = argumentNames(kind.toLowerCase()).map(item('field'));
  return all.length > 0 ? { typed, all } : undefined;
}

/** A member of what stands in front of it. */
function afterObject(target: Target, frame: Frame | undefined, before: string): Begun | undefined {
  const [, object, typed = ''] = MEMBER.exec(before) ?? [];
  const all = object === undefined ? [] : members(target, frame, object);
  return all.length > 0 ? { typed, all } : undefined;
}

/**
 * @param column of the caret, from 0. @param first number of the client's first column
 * @param commands of the debug console
 */
export function complete(
  target: Target,
  frame: Frame | undefined,
  text: string,
  column: number,
  first: number,
  commands: readonly string[],
): DebugProtocol.CompletionItem[] {
  const before = text.slice(0, column);
  const { typed, all } = afterKind(before) ??
    afterObject(target, frame, before) ?? {
      typed: begunName(before, commands),
      all: candidates(target, frame, commands),
    };
  const found = all.filter(({ label }) => label.toLowerCase().startsWith(typed.toLowerCase()));
  return found
    .slice(0, MOST_COMPLETIONS)
    .map((candidate) => ({ ...candidate, start: before.length - typed.length + first, length: typed.length }));
}
