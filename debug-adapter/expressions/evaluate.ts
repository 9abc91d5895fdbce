import { errors, RequestError } from '../errors.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import { strip, type Type } from '../symbols/dwarf/types.ts';
import { referred, type TypedValue } from '../symbols/typed-value.ts';
import { type Place, type Space, wrap64 } from '../worlds/memory-reference.ts';
import type { AssignableNode, Assignment, MemoryNode, Node, TemplatePart } from './parser.ts';
import { evaluateProgramNode, hasMember, memberChain, pointerSum } from './program-values.ts';

/** A number, and the address space that it is an address of when the expression says one. */
export interface Value {
  /** @throws RequestError when it is a value of the program that is no whole number. */
  readonly number: bigint;
  /** Of a computation with floating-point numbers; `number` throws then. */
  readonly float?: number | undefined;
  readonly space?: Space | undefined;
  /** A value of the program. */
  readonly typed?: TypedValue | undefined;
}

/** What names mean by the debug information of the program. */
export interface ProgramNames {
  /** A variable of the program that has this name here. */
  variable(name: string): TypedValue | undefined;
  /** A type of the program, without asterisks behind it. */
  type(name: string): Type | undefined;
  /** A value of a type that lies in memory. */
  valueAt(type: Type, place: Place): TypedValue;
}

/** What names and memory stand for while an expression is evaluated. */
export interface Environment {
  /** 4 or 8: what [a] reads. */
  readonly wordBytes: 4 | 8;
  /** The value of a name; undefined when nothing is called that. @throws RequestError that says why it has none now. */
  lookup(name: string): bigint | undefined;
  /** @returns why it cannot be assigned, or undefined when it was. */
  assign(name: string, value: bigint): string | undefined;
  /** Absent where there is no program with types. */
  readonly program?: ProgramNames;
  /** Little-endian bytes. @throws unreadable. */
  readMemory(place: Place, bytes: number): Uint8Array;
  /** @throws notWritable. */
  writeMemory(place: Place, bytes: Uint8Array): void;
}

const truth = (value: boolean): bigint => (value ? 1n : 0n);
/** Shifts beyond 64 bits give what an endless register would: nothing. */
const shifted = (count: bigint, go: () => bigint): bigint => (count < 0n || count > 64n ? 0n : go());
const equal = (a: bigint, b: bigint): boolean => wrap64(a) === wrap64(b);

const BINARY: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '&': (a, b) => a & b,
  '==': (a, b) => truth(equal(a, b)),
  '!=': (a, b) => truth(!equal(a, b)),
  '<': (a, b) => truth(a < b),
  '<=': (a, b) => truth(a <= b),
  '>': (a, b) => truth(a > b),
  '>=': (a, b) => truth(a >= b),
  '<<': (a, b) => shifted(b, () => wrap64(a << b)),
  '>>': (a, b) => shifted(b, () => a >> b),
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
};
const UNARY: Readonly<Record<string, (a: bigint) => bigint>> = {
  '-': (a) => -a,
  '~': (a) => ~a,
};

/** A value of the program as one of an expression. A reference of C++ stands for what it refers to. */
export function ofProgram(value: TypedValue, at: number): Value {
  const typed = referred(value);
  return {
    typed,
    get number() {
      try {
        return typed.number();
      } catch (error) {
        if (error instanceof Unavailable)
          throw errors.badExpression(`'${typed.expression ?? 'It'}': ${error.message}`, at);
        throw error instanceof RequestError ? error.at(at) : error;
      }
    },
  };
}

/** A floating-point number. */
export const ofFloat = (float: number, at: number): Value => ({
  float,
  get number(): bigint {
    throw errors.badExpression(`A whole number is needed, not ${float}: cast it, as in (long)`, at);
  },
});

/** The value as a double where it is of a floating-point type. @throws RequestError where it is not there */
export function floatIn({ float, typed }: Value, at: number): number | undefined {
  if (float !== undefined || !typed?.isFloat) return float;
  try {
    return typed.float();
  } catch (error) {
    if (error instanceof Unavailable) throw errors.badExpression(`'${typed.expression ?? 'It'}': ${error.message}`, at);
    throw error;
  }
}

/** What a condition asks of a value. */
export function isTrue(value: Value): boolean {
  const float = floatIn(value, 0);
  return float === undefined ? value.number !== 0n : float !== 0;
}

const FLOAT_ARITHMETIC: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
};
const FLOAT_COMPARISON: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
};

/** An operation of which one operand is a floating-point number; undefined when none is. */
function floatBinary(operator: string, left: Value, right: Value, at: number): Value | undefined {
  const [a, b] = [floatIn(left, at), floatIn(right, at)];
  if (a === undefined && b === undefined) return undefined;
  const operands = [a ?? Number(left.number), b ?? Number(right.number)] as const;
  const compare = FLOAT_COMPARISON[operator];
  if (compare) return { number: truth(compare(...operands)) };
  const compute = FLOAT_ARITHMETIC[operator];
  if (!compute) throw errors.badExpression(`'${operator}' needs whole numbers`, at);
  return ofFloat(compute(...operands), at);
}

function evaluateUnary({ operator, operand, at }: Extract<Node, { kind: 'unary' }>, environment: Environment): Value {
  const value = evaluate(operand, environment);
  if (operator === '!') return { number: truth(!isTrue(value)) };
  const float = floatIn(value, at);
  if (float !== undefined && operator === '-') return ofFloat(-float, at);
  if (float !== undefined) throw errors.badExpression(`'${operator}' needs a whole number`, at);
  return { number: UNARY[operator]?.(value.number) ?? 0n };
}

/** Inside [ ] and u32( ) names of the program's global variables are addresses, but where a member of one is meant. */
function forAddresses(environment: Environment): Environment {
  const { program } = environment;
  if (!program) return environment;
  const variable = (name: string): TypedValue | undefined => {
    const found = program.variable(name);
    const isAddress = found?.isGlobal && strip(found.type).kind !== 'record';
    // Of what each thread has a copy there is no symbol.
    return isAddress && environment.lookup(name) !== undefined ? undefined : found;
  };
  return {
    wordBytes: environment.wordBytes,
    program: { variable, type: (name) => program.type(name), valueAt: (type, place) => program.valueAt(type, place) },
    lookup: (name) => environment.lookup(name),
    assign: (name, value) => environment.assign(name, value),
    readMemory: (place, bytes) => environment.readMemory(place, bytes),
    writeMemory: (place, bytes) => environment.writeMemory(place, bytes),
  };
}

function evaluateName({ name, at }: Extract<Node, { kind: 'name' }>, environment: Environment): Value {
  const [first = '', ...members] = name.split('.');
  const variable = name.startsWith('$') ? undefined : environment.program?.variable(first);
  const isMachine = variable && !hasMember(variable, members[0]) && environment.lookup(name) !== undefined;
  if (variable && !isMachine) return ofProgram(memberChain(variable, members, at), at);
  const number = environment.lookup(name);
  if (number === undefined) throw errors.badExpression(`'${name}' is no register, field, variable or symbol`, at);
  return { number };
}

function evaluateBinary(node: Extract<Node, { kind: 'binary' }>, environment: Environment): Value {
  const left = evaluate(node.left, environment);
  if (node.operator === '&&' && !isTrue(left)) return { number: 0n };
  if (node.operator === '||' && isTrue(left)) return { number: 1n };
  const right = evaluate(node.right, environment);
  if (node.operator === '&&' || node.operator === '||') return { number: truth(isTrue(right)) };
  const floating = floatBinary(node.operator, left, right, node.at);
  if (floating) return floating;
  if ((node.operator === '/' || node.operator === '%') && right.number === 0n) {
    throw errors.badExpression('Division by zero', node.at);
  }
  const sum = pointerSum(node.operator, left, right);
  if (sum) return sum;
  const number = BINARY[node.operator]?.(left.number, right.number) ?? 0n;
  const keepsSpace = node.operator === '+' || node.operator === '-' || node.operator === '&';
  return { number, space: keepsSpace ? (left.space ?? right.space) : undefined };
}

function placeOf(node: MemoryNode, environment: Environment): Place {
  const address = evaluate(node.address, forAddresses(environment));
  return { space: address.space ?? 'linear', address: wrap64(address.number) };
}

function readMemory(node: MemoryNode, environment: Environment): bigint {
  const bytes = environment.readMemory(placeOf(node, environment), node.bytes ?? environment.wordBytes);
  const number = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  return node.signed ? BigInt.asIntN(8 * bytes.length, number) : number;
}

/** What goes wrong is told with its place, the innermost one. */
function placed<T>(at: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof RequestError ? error.at(at) : error;
  }
}

/** @throws RequestError for unknown names, unreadable memory and division by zero. */
export function evaluate(node: Node, environment: Environment): Value {
  return 'at' in node ? placed(node.at, () => evaluateNode(node, environment)) : evaluateNode(node, environment);
}

function evaluateNode(node: Node, environment: Environment): Value {
  switch (node.kind) {
    case 'number':
      return { number: node.value };
    case 'name':
      return evaluateName(node, environment);
    case 'unary':
      return evaluateUnary(node, environment);
    case 'float':
      return ofFloat(node.value, node.at);
    case 'binary':
      return evaluateBinary(node, environment);
    case 'space':
      return { number: evaluate(node.operand, environment).number, space: node.space };
    case 'signed':
      return { number: BigInt.asIntN(64, evaluate(node.operand, environment).number) };
    case 'memory':
      return { number: readMemory(node, environment) };
    default:
      return evaluateProgramNode(node, environment);
  }
}

/** Changes a variable of the program; a floating-point number goes into a whole one as C does it. */
export function assignValue(variable: TypedValue, value: Value): void {
  const float = floatIn(value, 0);
  if (float === undefined) variable.assign(value.number);
  else variable.assignFloat(float);
}

/** Carries out an assignment. @returns the value assigned. @throws RequestError when it is not possible. */
export function assign({ target, value }: Assignment, environment: Environment): Value {
  const given = evaluate(value, environment);
  return placed(target.at, () => assignGiven(target, given, environment));
}

function assignGiven(target: AssignableNode, given: Value, environment: Environment): Value {
  const typed = variableOf(target, environment);
  if (typed) {
    assignValue(typed, given);
    return given;
  }
  const { number } = given;
  if (target.kind === 'memory') {
    const size = target.bytes ?? environment.wordBytes;
    const bytes = Uint8Array.from({ length: size }, (_, index) =>
      Number((wrap64(number) >> BigInt(8 * index)) & 0xffn),
    );
    environment.writeMemory(placeOf(target, environment), bytes);
    return given;
  }
  if (target.kind !== 'name') throw errors.badExpression('This cannot be assigned', target.at);
  const problem = environment.assign(target.name, number);
  if (problem !== undefined) throw errors.notWritable(target.name, problem);
  return given;
}

/** The variable of the program that is to be assigned; undefined for registers, VMCS fields and memory. */
export function variableOf(target: AssignableNode, environment: Environment): TypedValue | undefined {
  if (target.kind === 'memory') return undefined;
  if (target.kind !== 'name') return evaluate(target, environment).typed;
  const [first = '', ...members] = target.name.split('.');
  const variable = target.name.startsWith('$') ? undefined : environment.program?.variable(first);
  if (!variable || (!hasMember(variable, members[0]) && environment.lookup(target.name) !== undefined))
    return undefined;
  return referred(memberChain(variable, members, target.at));
}

/** Text of a log message. */
export function renderTemplate(parts: readonly TemplatePart[], environment: Environment): string {
  return parts.map((part) => (typeof part === 'string' ? part : formatValue(evaluate(part, environment)))).join('');
}

/** A number of either kind. */
export function formatValue(value: Value): string {
  const float = floatIn(value, 0);
  return float === undefined ? formatNumber(value.number) : String(float);
}

/** Small numbers in decimal, others in hexadecimal. */
export function formatNumber(number: bigint): string {
  if (number > -10n && number < 10n) return number.toString();
  return number < 0n && number >= -0x8000_0000n ? number.toString() : `0x${wrap64(number).toString(16)}`;
}
