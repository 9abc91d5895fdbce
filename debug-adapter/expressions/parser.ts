/**
 * The expression language of watches, hovers, conditions, log points and the debug console.
 *
 *   expression  a || b, a && b, a | b, a ^ b, a & b, == !=, < <= > >=, << >>, + -, * / %, with C's precedence
 *   unary       -a, ~a, !a; *a, &a and (type)a as in C
 *   primary     numbers (0x1F, 0b101, 42, 1_000, 'A'), names (rax, $rax, cs.base, vmcs.GUEST_RIP, guest.rip, a variable,
 *               a symbol, ns::Class::member; in quotes any: 'ns::Ring<int, 4>::push'), (a), [a] (a word in memory),
 *               u8(a) u16(a) u32(a) u64(a) s8(a) … s64(a) (memory), signed(a), sizeof(a), sizeof(type)
 *   postfix     a.member, a->member, a[b], of variables of the program
 *   place       gpa:a, hpa:a, guest:a, vmm:a, linear:a name the address space in which [ ] and u32( ) read
 *   assignment  name = a, [a] = b, u32(a) = b, *p = a, p->member = a   (debug console only)
 *
 * Numbers are whole numbers of any size, registers unsigned; == and != compare modulo 2^64. With a floating-point
 * operand (a variable, 1.5, 2e9, a cast) + - * / and comparisons are those of doubles. A name is a local variable or
 * a member of the object whose method runs before it is a register ($rax is the register always), and a register
 * before it is a variable outside of functions. A name with a dot is the machine's where the variable in front has no
 * such member: guest.cr3. Inside [ ] and u32( ) variables outside of functions stand for their addresses, as in
 * assembly language.
 */

import { errors } from '../errors.ts';
import { SPACES, type Space } from '../worlds/memory-reference.ts';

export type Node =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'float'; readonly value: number; readonly at: number }
  | { readonly kind: 'name'; readonly name: string; readonly at: number }
  | { readonly kind: 'unary'; readonly operator: string; readonly operand: Node; readonly at: number }
  | {
      readonly kind: 'binary';
      readonly operator: string;
      readonly left: Node;
      readonly right: Node;
      readonly at: number;
    }
  | { readonly kind: 'space'; readonly space: Space; readonly operand: Node }
  | { readonly kind: 'signed'; readonly operand: Node }
  | MemoryNode
  | ProgramNode;

/** What has a meaning by the types of the program. */
export type ProgramNode =
  | {
      readonly kind: 'member';
      readonly object: Node;
      readonly name: string;
      readonly arrow: boolean;
      readonly at: number;
    }
  | { readonly kind: 'index'; readonly object: Node; readonly index: Node; readonly at: number }
  | { readonly kind: 'dereference'; readonly operand: Node; readonly at: number }
  | { readonly kind: 'address'; readonly operand: Node; readonly at: number }
  | { readonly kind: 'cast'; readonly type: string; readonly operand: Node; readonly at: number }
  /** Of an expression or of a type: which of them a name is, the program knows. */
  | {
      readonly kind: 'sizeof';
      readonly type: string | undefined;
      readonly operand: Node | undefined;
      readonly at: number;
    };

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
  readonly target: AssignableNode;
  readonly value: Node;
}
export type AssignableNode = Extract<Node, { kind: (typeof ASSIGNABLE)[number] }>;
const ASSIGNABLE = ['name', 'memory', 'member', 'index', 'dereference'] as const;
export const isAssignable = (node: Node): node is AssignableNode => ASSIGNABLE.some((kind) => kind === node.kind);

interface Token {
  readonly kind: 'number' | 'name' | 'operator' | 'end';
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /\s*(?:('(?:[^'\\]|\\x[0-9a-fA-F]{1,2}|\\.)+')|(0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)|([A-Za-z_$@](?:[\w.$@]|::)*)|(\|\||&&|==|!=|<=|>=|<<|>>|->|[-+*/%&|^~!<>()[\]:=.])|$)/y;

/** @param offset of the text in what the user has written: columns of errors count from there */
function tokenize(text: string, offset: number): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (;;) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (!match) {
      const at = from + (/^\s*/.exec(text.slice(from))?.[0].length ?? 0);
      throw errors.badExpression(`'${text[at]}' is not understood`, at + offset);
    }
    const [whole, quoted, number, name, operator] = match;
    const token = quoted ?? number ?? name ?? operator;
    const at = offset + from + whole.length - (token?.length ?? 0);
    if (quoted !== undefined) tokens.push(quotedToken(quoted.slice(1, -1), at));
    else {
      const kind = number !== undefined ? 'number' : name !== undefined ? 'name' : operator ? 'operator' : 'end';
      tokens.push({ kind, text: token ?? '', at });
      if (kind === 'end') return tokens;
    }
  }
}

/** Of C, with the numbers that they stand for. */
const ESCAPES: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, '0': 0, a: 7, b: 8, f: 12, v: 11, e: 27 };

/** Between quotes: a character, as in C; or a name that could not be written without, as in gdb. */
function quotedToken(text: string, at: number): Token {
  const code = characterCode(text);
  return code === undefined ? { kind: 'name', text, at } : { kind: 'number', text: String(code), at };
}

function characterCode(text: string): number | undefined {
  const [, hex, escaped] = /^\\(?:x(.{1,2})|(.))$/s.exec(text) ?? [];
  if (hex !== undefined) return Number.parseInt(hex, 16);
  if (escaped !== undefined) return ESCAPES[escaped] ?? escaped.codePointAt(0);
  return [...text].length === 1 ? text.codePointAt(0) : undefined;
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
const IS_FLOAT = /^\d+(\.|e)/i;
const MEMORY_FUNCTION = /^([us])(8|16|32|64)$/;
/** Conditions come from files: nesting deeper than this is no expression that a person wrote. */
const DEEPEST = 200;

class Parser {
  private readonly tokens: readonly Token[];
  private index = 0;
  private depth = 0;

  constructor(text: string, offset = 0) {
    this.tokens = tokenize(text, offset);
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
    if (!isAssignable(target)) {
      throw errors.badExpression('Only registers, VMCS fields, variables and memory can be assigned', at);
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
      return { kind: 'unary', operator: token.text, operand: this.unary(), at: token.at };
    }
    if (this.accept('*')) return { kind: 'dereference', operand: this.unary(), at: token.at };
    if (this.accept('&')) return { kind: 'address', operand: this.unary(), at: token.at };
    const type = this.castType();
    if (type !== undefined) return { kind: 'cast', type, operand: this.unary(), at: token.at };
    return this.postfix(this.primary());
  }

  /** The type in parentheses of a cast, which is taken; undefined when there is none. */
  private castType(): string | undefined {
    const from = this.index;
    if (!this.accept('(')) return undefined;
    const type = this.typeName();
    const isCast = type !== undefined && this.accept(')') && this.beginsOperand(type);
    if (!isCast) this.index = from;
    return isCast ? type : undefined;
  }

  /** Behind (name) only what cannot go on as (name) - 1 makes a cast of it. */
  private beginsOperand(type: string): boolean {
    const { kind, text } = this.token;
    if (kind === 'name' || kind === 'number') return true;
    if (kind !== 'operator') return false;
    return CERTAIN_TYPE.test(type) ? '(*&-~!['.includes(text) : '(~!'.includes(text);
  }

  /** Names and asterisks, as in 'struct vcpu *' and 'unsigned long'. */
  private typeName(): string | undefined {
    const words: string[] = [];
    while (this.token.kind === 'name') words.push(this.take().text);
    if (words.length === 0) return undefined;
    if (words.length > 1 && !words.slice(0, -1).every((word) => TYPE_KEYWORD.test(word))) return undefined;
    let stars = '';
    while (this.accept('*')) stars += '*';
    return words.join(' ') + (stars === '' ? '' : ` ${stars}`);
  }

  private postfix(primary: Node): Node {
    let node = primary;
    for (;;) {
      const { at } = this.token;
      if (this.accept('[')) {
        const index = this.expression();
        this.expect(']');
        node = { kind: 'index', object: node, index, at };
      } else if (this.accept('->')) node = this.member(node, true, at);
      else if (this.accept('.')) node = this.member(node, false, at);
      else return node;
    }
  }

  /** Dots inside a name belong to it: those of 'p->a.b' make two members. */
  private member(object: Node, arrow: boolean, at: number): Node {
    if (this.token.kind !== 'name') throw this.unexpected('The name of a member is expected');
    const [first = '', ...others] = this.take().text.split('.');
    const start: Node = { kind: 'member', object, name: first, arrow, at };
    return others.reduce<Node>((inner, name) => ({ kind: 'member', object: inner, name, arrow: false, at }), start);
  }

  private primary(): Node {
    const { token } = this;
    if (token.kind === 'name') return this.nameOrCall();
    if (token.kind === 'number') {
      const text = this.take().text.replaceAll('_', '');
      if (IS_FLOAT.test(text)) return { kind: 'float', value: Number(text), at: token.at };
      return { kind: 'number', value: BigInt(text) };
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

  private sizeOf(at: number): Node {
    const from = this.index;
    const type = this.typeName();
    if (type !== undefined && this.accept(')')) {
      const operand: Node | undefined = /^[\w.$@:]+$/.test(type) ? { kind: 'name', name: type, at } : undefined;
      return { kind: 'sizeof', type, operand, at };
    }
    this.index = from;
    const operand = this.expression();
    this.expect(')');
    return { kind: 'sizeof', type: undefined, operand, at };
  }

  private nameOrCall(): Node {
    const { text, at } = this.take();
    const space = SPACES.find((candidate) => candidate === text.toLowerCase());
    if (space && this.accept(':')) return { kind: 'space', space, operand: this.unary() };
    if (!this.accept('(')) return { kind: 'name', name: text, at };
    if (text === 'sizeof') return this.sizeOf(at);
    const operand = this.expression();
    this.expect(')');
    if (text === 'signed') return { kind: 'signed', operand };
    const call = MEMORY_FUNCTION.exec(text);
    if (!call)
      throw errors.badExpression(`There is no function '${text}'; there are u8 … u64, s8 … s64, signed and sizeof`, at);
    const bytes = (Number(call[2]) / 8) as 1 | 2 | 4 | 8;
    return { kind: 'memory', bytes, signed: call[1] === 's', address: operand, at };
  }
}

/** Words that only types begin with. */
const TYPE_KEYWORD =
  /^(struct|union|enum|class|const|volatile|unsigned|signed|short|long|int|char|float|double|void|_?[Bb]ool)$/;
const CERTAIN_TYPE = new RegExp(`\\*$|${TYPE_KEYWORD.source.slice(0, -1)}\\b`);

/** @param offset of the text in what the user has written. @throws badExpression with the place of the problem. */
export function parseExpression(text: string, offset = 0): Node {
  const parser = new Parser(text, offset);
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
export function parseTemplate(text: string, offset = 0): TemplatePart[] {
  const parts: TemplatePart[] = [];
  for (const { 0: piece, index } of text.matchAll(/\{\{|\}\}|\{[^{}]*\}|[^{}]+|[{}]/g)) {
    if (piece === '{{' || piece === '}}') parts.push(piece[0] ?? '');
    else if (piece.length > 1 && piece.startsWith('{'))
      parts.push(parseExpression(piece.slice(1, -1), offset + index + 1));
    else if (piece === '{' || piece === '}') throw errors.badExpression(`A '${piece}' has no partner`, offset + index);
    else parts.push(piece);
  }
  return parts;
}
