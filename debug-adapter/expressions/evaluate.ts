import { errors } from '../errors.ts';
import { type Place, type Space, wrap64 } from '../memory-reference.ts';
import type { Assignment, MemoryNode, Node, TemplatePart } from './parser.ts';

/** A number, and the address space that it is an address of when the expression says one. */
export interface Value {
  readonly number: bigint;
  readonly space?: Space | undefined;
}

/** What names and memory stand for while an expression is evaluated. */
export interface Environment {
  /** 4 or 8: what [a] reads. */
  readonly wordBytes: 4 | 8;
  /** The value of a name; undefined when nothing is called that. @throws RequestError that says why it has none now. */
  lookup(name: string): bigint | undefined;
  /** @returns why it cannot be assigned, or undefined when it was. */
  assign(name: string, value: bigint): string | undefined;
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
  '!': (a) => truth(a === 0n),
};

function evaluateBinary(node: Extract<Node, { kind: 'binary' }>, environment: Environment): Value {
  const left = evaluate(node.left, environment);
  if (node.operator === '&&' && left.number === 0n) return { number: 0n };
  if (node.operator === '||' && left.number !== 0n) return { number: 1n };
  const right = evaluate(node.right, environment);
  if (node.operator === '&&' || node.operator === '||') return { number: truth(right.number !== 0n) };
  if ((node.operator === '/' || node.operator === '%') && right.number === 0n) {
    throw errors.badExpression('Division by zero', node.at);
  }
  const number = BINARY[node.operator]?.(left.number, right.number) ?? 0n;
  const keepsSpace = node.operator === '+' || node.operator === '-' || node.operator === '&';
  return { number, space: keepsSpace ? (left.space ?? right.space) : undefined };
}

function placeOf(node: MemoryNode, environment: Environment): Place {
  const address = evaluate(node.address, environment);
  return { space: address.space ?? 'linear', address: wrap64(address.number) };
}

function readMemory(node: MemoryNode, environment: Environment): bigint {
  const bytes = environment.readMemory(placeOf(node, environment), node.bytes ?? environment.wordBytes);
  const number = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  return node.signed ? BigInt.asIntN(8 * bytes.length, number) : number;
}

/** @throws RequestError for unknown names, unreadable memory and division by zero. */
export function evaluate(node: Node, environment: Environment): Value {
  switch (node.kind) {
    case 'number':
      return { number: node.value };
    case 'name': {
      const number = environment.lookup(node.name);
      if (number === undefined) throw errors.badExpression(`'${node.name}' is no register, field or symbol`, node.at);
      return { number };
    }
    case 'unary':
      return { number: UNARY[node.operator]?.(evaluate(node.operand, environment).number) ?? 0n };
    case 'binary':
      return evaluateBinary(node, environment);
    case 'space':
      return { number: evaluate(node.operand, environment).number, space: node.space };
    case 'signed':
      return { number: BigInt.asIntN(64, evaluate(node.operand, environment).number) };
    case 'memory':
      return { number: readMemory(node, environment) };
  }
}

/** Carries out an assignment. @returns the value assigned. @throws RequestError when it is not possible. */
export function assign({ target, value }: Assignment, environment: Environment): bigint {
  const { number } = evaluate(value, environment);
  if (target.kind === 'memory') {
    const size = target.bytes ?? environment.wordBytes;
    const bytes = Uint8Array.from({ length: size }, (_, index) =>
      Number((wrap64(number) >> BigInt(8 * index)) & 0xffn),
    );
    environment.writeMemory(placeOf(target, environment), bytes);
    return number;
  }
  const problem = environment.assign(target.name, number);
  if (problem !== undefined) throw errors.notWritable(target.name, problem);
  return number;
}

/** Text of a log message. */
export function renderTemplate(parts: readonly TemplatePart[], environment: Environment): string {
  return parts
    .map((part) => (typeof part === 'string' ? part : formatNumber(evaluate(part, environment).number)))
    .join('');
}

/** Small numbers in decimal, others in hexadecimal. */
export function formatNumber(number: bigint): string {
  if (number > -10n && number < 10n) return number.toString();
  return number < 0n && number >= -0x8000_0000n ? number.toString() : `0x${wrap64(number).toString(16)}`;
}
