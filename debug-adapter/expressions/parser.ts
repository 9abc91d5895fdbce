/**
 * The expression language of watches, hovers, conditions, log points and the debug console.
 *
 *   expression  a || b, a && b, a | b, a ^ b, a & b, == !=, < <= > >=, << >>, + -, * / %, with C's precedence
 *   unary       -a, ~a, !a
 *   primary     numbers (0x1F, 0b101, 42, 1_000), names (rax, $rax, cs.base, vmcs.GUEST_RIP, guest.rip, a symbol),
 *               (a), [a] (a word in memory), u8(a) u16(a) u32(a) u64(a) s8(a) … s64(a) (memory), signed(a)
 *   place       gpa:a, hpa:a, guest:a, vmm:a, linear:a name the address space in which [ ] and u32( ) read
 *   assignment  name = a, [a] = b, u32(a) = b   (debug console only)
 *
 * Numbers are whole numbers of any size, registers unsigned; == and != compare modulo 2^64.
 */

import { errors } from '../errors.ts';
import { SPACES, type Space } from '../memory-reference.ts';

export type Node =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'name'; readonly name: string; readonly at: number }
  | { readonly kind: 'unary'; readonly operator: string; readonly operand: Node }
  | {
      readonly kind: 'binary';
      readonly operator: string;
      readonly left: Node;
      readonly right: Node;
      readonly at: number;
    }
  | { readonly kind: 'space'; readonly space: Space; readonly operand: Node }
  | { readonly kind: 'signed'; readonly operand: Node }
  | MemoryNode;

/** @property bytes undefined: the word size of the code that runs. */
export interface MemoryNode {
  readonly kind: 'memory';
  readonly bytes: 1 | 2 | 4 | 8 | undefined;
  readonly signed: boolean;
  readonly address: Node;
  readonly at: number;
}

export interface Assignment {
  readonly kind: 'assignment';
  readonly target: Extract<Node, { kind: 'name' | 'memory' }>;
  readonly value: Node;
}

interface Token {
  readonly kind: 'number' | 'name' | 'operator' | 'end';
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /\s*(?:(0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*)|([A-Za-z_$@][\w.$@]*)|(\|\||&&|==|!=|<=|>=|<<|>>|[-+*/%&|^~!<>()[\]:=])|$)/y;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (;;) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match) {
      const at = from + (/^\s*/.exec(text.slice(from))?.[0].length ?? 0);
      throw errors.badExpression(`'${text[at]}' is not understood`, at);
    }
    const [whole, number, name, operator] = match;
    const token = number ?? name ?? operator;
    const at = from + whole.length - (token?.length ?? 0);
    const kind = number !== undefined ? 'number' : name !== undefined ? 'name' : operator ? 'operator' : 'end';
    tokens.push({ kind, text: token ?? '', at });
    if (kind === 'end') return tokens;
  }
}

/** Binary operators from the weakest to the strongest. */
const PRECEDENCE: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!='],
  ['<', '<=', '>', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%'],
];
const MEMORY_FUNCTION = /^([us])(8|16|32|64)$/;
/** Conditions come from files: nesting deeper than this is no expression that a person wrote. */
const DEEPEST = 200;

class Parser {
  private readonly tokens: readonly Token[];
  private index = 0;
  private depth = 0;

  constructor(text: string) {
    this.tokens = tokenize(text);
  }

  private get token(): Token {
    return this.tokens[this.index] as Token;
  }

  private take(): Token {
    const token = this.token;
    if (token.kind !== 'end') this.index++;
    return token;
  }

  private accept(operator: string): boolean {
    if (this.token.kind !== 'operator' || this.token.text !== operator) return false;
    this.index++;
    return true;
  }

  private expect(operator: string): void {
    if (!this.accept(operator)) throw this.unexpected(`'${operator}' is expected`);
  }

  private unexpected(wish: string): Error {
    const found = this.token.kind === 'end' ? 'the end' : `'${this.token.text}'`;
    return errors.badExpression(`${wish}, but ${found} is there`, this.token.at);
  }

  end(): void {
    if (this.token.kind !== 'end') throw this.unexpected('An operator or the end is expected');
  }

  assignment(): Node | Assignment {
    const target = this.expression();
    const { at } = this.token;
    if (!this.accept('=')) return target;
    if (target.kind !== 'name' && target.kind !== 'memory') {
      throw errors.badExpression('Only registers, VMCS fields and memory can be assigned', at);
    }
    return { kind: 'assignment', target, value: this.expression() };
  }

  expression(level = 0): Node {
    const operators = PRECEDENCE[level];
    if (!operators) return this.unary();
    let left = this.expression(level + 1);
    while (this.token.kind === 'operator' && operators.includes(this.token.text)) {
      const { text: operator, at } = this.take();
      left = { kind: 'binary', operator, left, right: this.expression(level + 1), at };
    }
    return left;
  }

  private unary(): Node {
    if (++this.depth > DEEPEST) throw errors.badExpression('The expression is nested too deeply', this.token.at);
    const node = this.unaryOrPrimary();
    this.depth--;
    return node;
  }

  private unaryOrPrimary(): Node {
    const { token } = this;
    if (token.kind === 'operator' && '-~!'.includes(token.text)) {
      this.take();
      return { kind: 'unary', operator: token.text, operand: this.unary() };
    }
    if (token.kind === 'name') return this.nameOrCall();
    if (token.kind === 'number') {
      this.take();
      return { kind: 'number', value: BigInt(token.text.replaceAll('_', '')) };
    }
    if (this.accept('(')) {
      const inner = this.expression();
      this.expect(')');
      return inner;
    }
    if (this.accept('[')) {
      const address = this.expression();
      this.expect(']');
      return { kind: 'memory', bytes: undefined, signed: false, address, at: token.at };
    }
    throw this.unexpected('A value is expected');
  }

  private nameOrCall(): Node {
    const { text, at } = this.take();
    const space = SPACES.find((candidate) => candidate === text.toLowerCase());
    if (space && this.accept(':')) return { kind: 'space', space, operand: this.unary() };
    if (!this.accept('(')) return { kind: 'name', name: text, at };
    const operand = this.expression();
    this.expect(')');
    if (text === 'signed') return { kind: 'signed', operand };
    const call = MEMORY_FUNCTION.exec(text);
    if (!call)
      throw errors.badExpression(`There is no function '${text}'; there are u8 … u64, s8 … s64 and signed`, at);
    const bytes = (Number(call[2]) / 8) as 1 | 2 | 4 | 8;
    return { kind: 'memory', bytes, signed: call[1] === 's', address: operand, at };
  }
}

/** @throws badExpression with the place of the problem. */
export function parseExpression(text: string): Node {
  const parser = new Parser(text);
  const node = parser.expression();
  parser.end();
  return node;
}

/** An expression or an assignment. @throws badExpression. */
export function parseStatement(text: string): Node | Assignment {
  const parser = new Parser(text);
  const node = parser.assignment();
  parser.end();
  return node;
}

export type TemplatePart = string | Node;

/** A log message: text with {expressions}; {{ and }} stand for braces. @throws badExpression. */
export function parseTemplate(text: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  for (const [piece] of text.matchAll(/\{\{|\}\}|\{[^{}]*\}|[^{}]+|[{}]/g)) {
    if (piece === '{{' || piece === '}}') parts.push(piece[0] ?? '');
    else if (piece.length > 1 && piece.startsWith('{')) parts.push(parseExpression(piece.slice(1, -1)));
    else if (piece === '{' || piece === '}')
      throw errors.badExpression(`A '${piece}' has no partner`, text.indexOf(piece));
    else parts.push(piece);
  }
  return parts;
}
