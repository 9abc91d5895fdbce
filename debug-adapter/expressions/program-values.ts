/** The part of the language that works with values and types of the program: members, indices, pointers, casts. */

import { errors } from '../errors.ts';
import { ENCODING } from '../symbols/dwarf/constants.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import { baseType, pointerTo, strip, type Type, VOID } from '../symbols/dwarf/types.ts';
import { madeValue, TypedValue } from '../symbols/typed-value.ts';
import { type Space, wrap64 } from '../worlds/memory-reference.ts';
import type { Storage } from '../worlds/storage.ts';
import { type Environment, evaluate, floatIn, ofFloat, ofProgram, type Value } from './evaluate.ts';
import type { ProgramNode } from './parser.ts';

/** Members of members: 'a.b.c' behind a variable. */
export function memberChain(value: TypedValue, names: readonly string[], at: number): TypedValue {
  return names.reduce((object, name) => memberOf(object, name, at), value);
}

/** Whether a name with a dot can be a member of a variable; without a dot it is the variable itself. */
export function hasMember(variable: TypedValue, name: string | undefined): boolean {
  if (name === undefined) return true;
  const { plain } = variable;
  const record =
    plain.kind === 'pointer' || plain.kind === 'reference' ? reached(() => variable.target(), 0) : variable;
  return record !== undefined && reached(() => record.memberNamed(name), 0) !== undefined;
}

/** With '.' and '->' alike: which one C wants, the type tells. */
function memberOf(object: TypedValue, name: string, at: number): TypedValue {
  const kind = strip(object.type).kind;
  const record = kind === 'pointer' || kind === 'reference' ? reached(() => object.target(), at) : object;
  const member = record && reached(() => record.memberNamed(name), at);
  if (!member) throw errors.badExpression(`${object.type.name} has no member '${name}'`, at);
  return member;
}

/** @throws badExpression where the value is not there. */
function reached<T>(work: () => T, at: number): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Unavailable) throw errors.badExpression(`The value is not there: ${error.message}`, at);
    throw error;
  }
}

function typedOperand(value: Value, what: string, at: number): TypedValue {
  if (!value.typed)
    throw errors.badExpression(`${what} needs a variable of the program, or a cast: (type *)address`, at);
  return value.typed;
}

/** A pointer and a number, with the number counting elements; undefined when the operands are others. */
export function pointerSum(operator: string, left: Value, right: Value): Value | undefined {
  if (operator !== '+' && operator !== '-') return undefined;
  const step = left.typed && elementSize(left.typed);
  const other = right.typed && elementSize(right.typed);
  if (step !== undefined && other !== undefined) {
    return operator === '-' ? { number: (left.number - right.number) / BigInt(step) } : undefined;
  }
  if (step !== undefined && left.typed) return moved(left.typed, operator === '+' ? right.number : -right.number, step);
  return other !== undefined && right.typed && operator === '+' ? moved(right.typed, left.number, other) : undefined;
}

/** Bytes that adding 1 moves; undefined for what is neither pointer nor array. */
function elementSize(value: TypedValue): number | undefined {
  const { plain } = value;
  if (plain.kind === 'pointer') return strip(plain.target).size ?? 1;
  return plain.kind === 'array' ? (strip(plain.element).size ?? 1) : undefined;
}

function moved(value: TypedValue, count: bigint, step: number): Value {
  const { plain } = value;
  const type = plain.kind === 'array' ? pointerTo(plain.element, 8) : value.type;
  return ofProgram(madeValue(type, wrap64(value.number() + count * BigInt(step)), value.storage), 0);
}

/** Types that need no program: [bytes, DW_ATE]. */
const BUILT_IN: Readonly<Record<string, readonly [number, number]>> = {
  char: [1, ENCODING.signedChar],
  'signed char': [1, ENCODING.signedChar],
  'unsigned char': [1, ENCODING.unsignedChar],
  short: [2, ENCODING.signed],
  'unsigned short': [2, ENCODING.unsigned],
  int: [4, ENCODING.signed],
  unsigned: [4, ENCODING.unsigned],
  'unsigned int': [4, ENCODING.unsigned],
  long: [8, ENCODING.signed],
  'unsigned long': [8, ENCODING.unsigned],
  'long long': [8, ENCODING.signed],
  'unsigned long long': [8, ENCODING.unsigned],
  float: [4, ENCODING.float],
  double: [8, ENCODING.float],
  bool: [1, ENCODING.boolean],
  u8: [1, ENCODING.unsigned],
  u16: [2, ENCODING.unsigned],
  u32: [4, ENCODING.unsigned],
  u64: [8, ENCODING.unsigned],
  s8: [1, ENCODING.signed],
  s16: [2, ENCODING.signed],
  s32: [4, ENCODING.signed],
  s64: [8, ENCODING.signed],
};

/** @returns undefined when there is no such type. */
function typeNamed(text: string, environment: Environment): Type | undefined {
  const [, words = '', stars = ''] = /^(.*?)\s*(\**)$/.exec(text) ?? [];
  const name = words.replace(/\b(const|volatile)\s+/g, '');
  const builtIn = Object.hasOwn(BUILT_IN, name) ? BUILT_IN[name] : undefined;
  const base = name === 'void' ? VOID : (environment.program?.type(name) ?? (builtIn && baseType(name, ...builtIn)));
  return base && [...stars].reduce((type) => pointerTo(type, environment.wordBytes), base);
}

function cast({ type: text, operand, at }: Extract<ProgramNode, { kind: 'cast' }>, environment: Environment): Value {
  const type = typeNamed(text, environment);
  if (!type) throw errors.badExpression(`There is no type '${text}' in the program`, at);
  const value = evaluate(operand, environment);
  const plain = strip(type);
  if (plain.kind === 'record' || plain.kind === 'array') {
    const typed = typedOperand(value, `A cast to ${text}`, at);
    return ofProgram(new TypedValue(type, typed.storage, { offset: typed.offset, expression: typed.expression }), at);
  }
  const float = floatIn(value, at);
  if (plain.kind === 'base' && plain.encoding === ENCODING.float) {
    const number = float ?? Number(value.number);
    return ofFloat(plain.size === 4 ? Math.fround(number) : number, at);
  }
  if (float !== undefined) return castFloat(float, type, environment, at);
  const from = value.space === undefined ? value.typed?.storage : undefined;
  return ofProgram(madeValue(type, value.number, from ?? storageIn(environment, value.space, type, at)), at);
}

/** Whose memory pointers lead to that are made of numbers. */
function storageIn(environment: Environment, space: Space | undefined, type: Type, at: number): Storage {
  const { program } = environment;
  if (!program) throw errors.badExpression('There is no program with types here', at);
  return program.valueAt(type, { space: space ?? 'linear', address: 0n }).storage;
}

function castFloat(number: number, type: Type, environment: Environment, at: number): Value {
  if (strip(type).kind !== 'base' || !Number.isFinite(number)) {
    throw errors.badExpression(`${number} cannot be cast to ${type.name}`, at);
  }
  return ofProgram(madeValue(type, BigInt(Math.trunc(number)), storageIn(environment, undefined, type, at)), at);
}

function addressOf({ operand, at }: Extract<ProgramNode, { kind: 'address' }>, environment: Environment): Value {
  const value = evaluate(operand, environment);
  const { typed } = value;
  if (typed)
    return ofProgram(
      reached(() => typed.pointer(), at),
      at,
    );
  // The value of a symbol without a type is its address.
  if (operand.kind === 'name' && environment.program?.type(operand.name) === undefined) return { number: value.number };
  throw errors.badExpression('Only variables and symbols have an address', at);
}

export function evaluateProgramNode(node: ProgramNode, environment: Environment): Value {
  const { at } = node;
  switch (node.kind) {
    case 'member': {
      const object = typedOperand(evaluate(node.object, environment), 'A member', at);
      return ofProgram(memberOf(object, node.name, at), at);
    }
    case 'index': {
      const object = typedOperand(evaluate(node.object, environment), 'An index', at);
      const index = Number(evaluate(node.index, environment).number);
      const element = reached(() => object.element(index), at);
      if (!element) throw errors.badExpression(`${object.type.name} has no elements`, at);
      return ofProgram(element, at);
    }
    case 'dereference': {
      const value = typedOperand(evaluate(node.operand, environment), '*', at);
      const { plain } = value;
      const target = reached(() => (plain.kind === 'array' ? value.element(plain.lower) : value.target()), at);
      if (!target) throw errors.badExpression(`${value.type.name} is no pointer`, at);
      return ofProgram(target, at);
    }
    case 'address':
      return addressOf(node, environment);
    case 'cast':
      return cast(node, environment);
    case 'sizeof': {
      const variable = node.operand && (node.type === undefined || isVariable(node.operand, environment));
      const type = variable && node.operand ? evaluate(node.operand, environment).typed?.type : undefined;
      const size = (type ?? (node.type === undefined ? undefined : typeNamed(node.type, environment)))?.size;
      if (size === undefined) throw errors.badExpression('Its size is not known', at);
      return { number: BigInt(size) };
    }
  }
}

const isVariable = (node: { readonly kind: string; readonly name?: string }, environment: Environment): boolean =>
  node.kind === 'name' && environment.program?.variable(node.name?.split('.')[0] ?? '') !== undefined;
