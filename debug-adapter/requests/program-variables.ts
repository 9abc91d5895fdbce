/** Variables of C, C++ and Rust programs as clients see them. */

import type { DebugProtocol } from '@vscode/debugprotocol';
import { errors } from '../errors.ts';
import { TargetEnvironment } from '../expressions/environment.ts';
import { assignValue, evaluate } from '../expressions/evaluate.ts';
import { parseExpression } from '../expressions/parser.ts';
import type { References, VariableList } from '../references.ts';
import type { Target } from '../running/target.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import type { VariableEntry } from '../symbols/dwarf/scopes.ts';
import { strip, type Type } from '../symbols/dwarf/types.ts';
import { referred, type TypedValue } from '../symbols/typed-value.ts';
import { isCharacter, valueText } from '../symbols/value-text.ts';
import type { FrameScope } from '../views/frame-scope.ts';
import { hex } from '../worlds/memory-reference.ts';
import { withoutWords } from './edited-value.ts';

/** Where the variables are shown, and what changes them. */
export interface VariableContext {
  readonly target: Target;
  readonly references: References;
  readonly scope: FrameScope;
}

/** A value with its name in the list that shows it. */
interface Named {
  readonly name: string;
  readonly value: TypedValue;
}

/** How a value is shown: its text, its type, and what opens below it. */
export type Presentation = Pick<
  DebugProtocol.Variable,
  'value' | 'type' | 'variablesReference' | 'namedVariables' | 'indexedVariables' | 'memoryReference'
>;

/** More elements than a list shows that was not asked for a part of it. */
const MOST_ELEMENTS = 1000;
/** Elements of one answer at most: other requests wait for it. */
const MOST_AT_ONCE = 10_000;

export function present(context: VariableContext, value: TypedValue): Presentation {
  const symbolName = (address: bigint): string | undefined =>
    context.target.symbolName(context.scope.frame.view, address);
  const shape = shapeOf(value);
  const opened = shape && new PartList(context, value, shape);
  const reference = memoryReference(value);
  return {
    value: valueText(value, symbolName),
    type: value.type.name,
    variablesReference: opened ? context.references.add(opened) : 0,
    ...(shape === undefined ? {} : { namedVariables: shape.named.length, indexedVariables: shape.count }),
    ...(reference === undefined ? {} : { memoryReference: reference }),
  };
}

/** Of pointers where they lead to, of others where they are. */
function memoryReference(value: TypedValue): string | undefined {
  const kind = value.plain.kind;
  const isPointer = kind === 'pointer' || kind === 'reference';
  const address = isPointer ? available(() => value.number()) : value.address;
  return address === undefined || (isPointer && address === 0n)
    ? undefined
    : `${value.storage.memory.space}:${hex(address)}`;
}

function available<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof Unavailable) return undefined;
    throw error;
  }
}

/** What lies inside a value. */
interface Shape {
  readonly named: readonly Named[];
  readonly count: number;
}

const isOpaque = (type: Type): boolean => {
  const { kind } = strip(type);
  return kind === 'void' || kind === 'function';
};

function shapeOf(value: TypedValue): Shape | undefined {
  const { plain } = value;
  if (plain.kind === 'array') return { named: [], count: plain.count ?? 0 };
  if (plain.kind === 'record') return { named: available(() => membersOf(value)) ?? [], count: 0 };
  if (plain.kind !== 'pointer' && plain.kind !== 'reference') return undefined;
  if (isOpaque(plain.target)) return undefined;
  const target = available(() => value.target());
  const isNull = available(() => value.number()) === 0n;
  if (!target || isNull) return undefined;
  if (target.plain.kind === 'record') return { named: available(() => membersOf(target)) ?? [], count: 0 };
  if (isCharacter(target.type)) return undefined;
  return { named: [{ name: `*${value.expression ?? ''}`, value: target }], count: 0 };
}

function membersOf(record: TypedValue): Named[] {
  const { plain } = record;
  if (plain.kind !== 'record') return [];
  return record.members(plain).map((member) => {
    const value = record.member(member);
    return { name: member.isBase ? value.type.name : (member.name ?? '(anonymous)'), value };
  });
}

const setNumber = (context: VariableContext, value: TypedValue, expression: string): void => {
  const float = /^\s*[-+]?(\d+\.\d*|\.\d+|\d+|inf|nan)(e[-+]?\d+)?\s*$/i.exec(expression);
  const constant = enumerator(value, expression.trim());
  if (value.isFloat && float) value.assignFloat(floatNamed(expression));
  else if (constant !== undefined) value.assign(constant);
  else {
    const environment = new TargetEnvironment(context.target, context.scope.frame);
    assignValue(value, evaluate(parseExpression(expression), environment));
  }
};

/** A number as values are shown: 'inf' and 'nan' too. */
const floatNamed = (text: string): number =>
  Number(
    text
      .trim()
      .replace(/inf/i, 'Infinity')
      .replace(/^[-+]?nan$/i, 'NaN'),
  );

/** A constant of the enumeration that the value is of. */
function enumerator({ plain }: TypedValue, name: string): bigint | undefined {
  return plain.kind === 'enumeration' ? plain.values.find((constant) => constant.name === name)?.value : undefined;
}

/** Changes a value. @throws RequestError. @returns what it is now. */
export function setValue(context: VariableContext, name: string, value: TypedValue, expression: string): Presentation {
  try {
    setNumber(context, referred(value), withoutWords(present(context, value).value, expression));
  } catch (error) {
    if (error instanceof Unavailable) throw errors.notWritable(name, error.message);
    throw error;
  }
  return present(context, value);
}

abstract class ValueList implements VariableList {
  protected readonly context: VariableContext;
  constructor(context: VariableContext) {
    this.context = context;
  }
  protected abstract get named(): readonly Named[];

  variables(): DebugProtocol.Variable[] {
    return this.named.map((part) => this.describe(part));
  }
  protected describe({ name, value }: Named): DebugProtocol.Variable {
    const { expression } = value;
    return { name, ...present(this.context, value), ...(expression === undefined ? {} : { evaluateName: expression }) };
  }
  find(name: string): TypedValue | undefined {
    return this.named.find((part) => part.name === name)?.value;
  }
  set(name: string, expression: string): Presentation {
    const value = this.find(name);
    if (!value) throw errors.unknownVariable(name);
    return setValue(this.context, name, value, expression);
  }
}

/** Members or elements of a value. */
class PartList extends ValueList {
  private readonly value: TypedValue;
  private readonly shape: Shape;

  constructor(context: VariableContext, value: TypedValue, shape: Shape) {
    super(context);
    this.value = value;
    this.shape = shape;
  }
  protected get named(): readonly Named[] {
    return this.shape.named;
  }
  /** Elements [start, start + count) of an array. */
  indexed(start: number, count: number): DebugProtocol.Variable[] {
    const { plain } = this.value;
    if (plain.kind !== 'array') return [];
    const wanted = Math.max(0, Math.min(count > 0 ? count : MOST_ELEMENTS, this.shape.count - start));
    const shown = Math.min(wanted, MOST_AT_ONCE);
    const elements = Array.from({ length: shown }, (_, i) => plain.lower + start + i).flatMap((index) => {
      const value = this.value.element(index);
      return value ? [this.describe({ name: `[${index}]`, value })] : [];
    });
    if (shown === wanted) return elements;
    const value = `${wanted - shown} more: ask for them with start ${start + shown}, ${MOST_AT_ONCE} at most at a time`;
    return [...elements, { name: '…', value, variablesReference: 0 }];
  }
  override find(name: string): TypedValue | undefined {
    const [, index] = /^\[(-?\d+)\]$/.exec(name) ?? [];
    return index === undefined ? super.find(name) : this.value.element(Number(index));
  }
}

/** Variables of a frame: its parameters, its locals, or those of its source file. */
export class ScopeList extends ValueList {
  private readonly entries: readonly VariableEntry[];

  constructor(context: VariableContext, entries: readonly VariableEntry[]) {
    super(context);
    this.entries = entries;
  }
  protected get named(): readonly Named[] {
    return this.entries.map(({ name, entry }) => ({ name, value: this.context.scope.value(entry, name) }));
  }
}
