/**
 * Names of C++ from symbols (Itanium C++ ABI, 5.1), written as gdb and c++filt write them. What is too rare to be worth
 * its code (expressions in template arguments beyond literals and addresses, conversions to a template's parameter) is
 * left as it is mangled.
 */

import {
  BUILT_IN_TYPES,
  LITERAL_SUFFIXES,
  MORE_BUILT_IN_TYPES,
  OF_NAMES,
  OF_TYPES,
  OPERATORS,
  STANDARD,
} from './itanium-tables.ts';
import { MangledReader, NotMangled } from './mangled-reader.ts';

/** A type around the place of what is declared: `int (*` and `)(char)`. */
interface TypeText {
  readonly left: string;
  readonly right: string;
  /** What is declared needs parentheses in front of the rest. */
  readonly wrap?: 'function' | 'array';
  readonly reference?: '&' | '&&';
}
const plain = (left: string): TypeText => ({ left, right: '' });

/** An argument of a template: one, or a pack of some. */
type Argument = TypeText | readonly TypeText[];

interface NameText {
  /** With everything around it. */
  readonly text: string;
  /** The last part, without template arguments: what constructors are called. */
  readonly last: string;
  /** Behind the parameters: ` const`, ` &`. */
  readonly qualifiers: string;
  /** Of the last part. */
  readonly templateArguments?: readonly Argument[];
  /** A constructor, destructor or conversion: it has no type to return. */
  readonly returnsNothing?: true;
}

/** What parameters of templates stand for: these arguments, or the nameless types of a lambda's parameters. */
interface Scope {
  readonly templateArguments: readonly Argument[] | undefined;
  readonly inLambda: boolean;
}

/** What a number of a substitution stands for. */
interface Known {
  readonly type: TypeText;
  readonly name?: NameText;
  /** A part of a pack, of which the rest is lost. */
  readonly unsafe?: boolean;
  /** It holds parameters of a template. */
  readonly scope?: Scope;
  /** It is nothing but this parameter. */
  readonly parameter?: number | undefined;
}

/** Names nest no deeper than this. */
const DEEPEST = 200;

const isPack = (argument: Argument): argument is readonly TypeText[] => Array.isArray(argument);

const textOf = ({ left, right, wrap }: TypeText): string => (wrap ? `${left}${gapBehind(left)}${right}` : left + right);

/** What is declared as a pointer stands right behind the asterisk: `int (*f(char))()`. */
const gapBehind = (left: string): string => (/\([\w:]*[*&]+$/.test(left) ? '' : ' ');

/** A pointer or reference to a type. */
function pointing(type: TypeText, sign: string): TypeText {
  const { left, right, wrap } = type;
  if (!wrap) return { left: left + sign, right };
  return { left: `${left}${gapBehind(left)}(${sign}`, right: `)${wrap === 'array' ? ' ' : ''}${right}` };
}

/** References to references are references (C++, [dcl.ref]). */
function referring(type: TypeText, sign: '&' | '&&'): TypeText {
  if (type.reference === '&' || (type.reference && sign === '&&')) return type;
  const bare = type.reference ? { ...type, left: type.left.slice(0, -2) } : type;
  return { ...pointing(bare, sign), reference: sign };
}

function qualifiedBy(type: TypeText, qualifiers: string): TypeText {
  if (qualifiers === '') return type;
  const { left, right, wrap } = type;
  return wrap === 'function'
    ? { left, right: right + qualifiers, wrap }
    : { left: left + qualifiers, right, ...(wrap ? { wrap } : {}) };
}

const behindName = (parameters: readonly string[]): string =>
  `(${parameters.length === 1 && parameters[0] === 'void' ? '' : parameters.join(', ')})`;

class Demangler extends MangledReader {
  private known: Known[] = [];
  /** Of the function whose type is read. */
  private templateArguments: readonly Argument[] | undefined;
  /** Inside the parameters of a lambda, whose own parameters have no names. */
  private inLambda = false;
  /** Which one of a pack is written, and how many there are, once one was met. */
  private pack: { readonly index: number; count: number | undefined } | undefined;
  private depth = 0;
  private parametersMet = 0;

  /** <mangled-name> without its prefix. @returns the name alone, and with types. */
  whole(): { path: string; full: string } {
    const found = this.encoding(true);
    let clones = '';
    while (!this.done) {
      const clone = this.match(/\.(?:[a-zA-Z_]+(?:\.\d+)*|\d+)/y);
      if (clone === undefined) throw new NotMangled();
      clones += ` [clone ${clone}]`;
    }
    return { path: found.path, full: found.full + clones };
  }

  private nested<T>(work: () => T): T {
    if (++this.depth > DEEPEST) throw new NotMangled();
    const result = work();
    this.depth--;
    return result;
  }

  private encoding(withReturn: boolean): { path: string; full: string } {
    return this.nested(() => {
      if ('GT'.includes(this.next)) {
        const special = this.specialName();
        return { path: special, full: special };
      }
      const outer = this.templateArguments;
      const name = this.name();
      this.templateArguments = name.templateArguments ?? outer;
      const full = this.done || 'E.'.includes(this.next) ? name.text : this.functionType(name, withReturn);
      this.templateArguments = outer;
      return { path: name.text, full };
    });
  }

  private functionType(name: NameText, withReturn: boolean): string {
    const returned = name.templateArguments && !name.returnsNothing ? this.type() : undefined;
    const parameters = this.parameters();
    const text = `${name.text}${behindName(parameters)}${name.qualifiers}`;
    if (!returned || !withReturn) return text;
    return returned.right === '' ? `${returned.left} ${text}` : `${returned.left}${text}${returned.right}`;
  }

  /** Types up to the end of a function's type, or of the name. */
  private parameters(): string[] {
    const parameters: string[] = [];
    while (!this.done && !'E.'.includes(this.next) && !/^[RO]E/.test(this.text.slice(this.at, this.at + 2))) {
      parameters.push(...this.expanded().map(textOf));
    }
    return parameters;
  }

  /** A type; of a pack expansion as many as the pack has. */
  private expanded(): TypeText[] {
    if (!this.accept('Dp')) return [this.type()];
    const start = this.at;
    const before = this.known.length;
    const outer = this.pack;
    const pack: NonNullable<Demangler['pack']> = { index: 0, count: undefined };
    this.pack = pack;
    const types = [this.type()];
    const count = pack.count ?? 1;
    const after = this.known.map((known, index) => (index < before ? known : { ...known, unsafe: true }));
    for (let index = 1; index < count; index++) {
      this.at = start;
      this.known.length = before;
      this.pack = { index, count };
      types.push(this.type());
    }
    this.known = after;
    this.pack = outer;
    return count === 0 ? [] : types;
  }

  private specialName(): string {
    const code = this.take() + this.take();
    if (OF_TYPES[code]) return OF_TYPES[code] + textOf(this.type());
    if (OF_NAMES[code]) return OF_NAMES[code] + this.name().text;
    if (code === 'GR') {
      const { text } = this.name();
      return `reference temporary #${this.sequence()} for ${text}`;
    }
    if (code === 'TC') {
      const type = textOf(this.type());
      this.decimal();
      this.expect('_');
      return `construction vtable for ${textOf(this.type())}-in-${type}`;
    }
    if (code === 'GT') {
      const kind = this.take() === 'n' ? 'non-transaction clone' : 'transaction clone';
      return `${kind} for ${this.encoding(true).full}`;
    }
    if (code === 'Th' || code === 'Tv') return this.thunk(code[1] ?? '');
    if (code === 'Tc') {
      this.callOffset(this.take());
      this.callOffset(this.take());
      return `covariant return thunk to ${this.encoding(true).full}`;
    }
    throw new NotMangled();
  }

  private thunk(kind: string): string {
    this.callOffset(kind);
    return `${kind === 'h' ? 'non-virtual' : 'virtual'} thunk to ${this.encoding(true).full}`;
  }

  private callOffset(kind: string): void {
    this.match(/n?\d+/y);
    this.expect('_');
    if (kind !== 'v') return;
    this.match(/n?\d+/y);
    this.expect('_');
  }

  private name(): NameText {
    return this.nested(() => {
      if (this.next === 'N') return this.nestedName();
      if (this.next === 'Z') return this.localName();
      if (this.next === 'S' && this.text[this.at + 1] !== 't') {
        const { name } = this.substitution();
        if (!name) throw new NotMangled();
        return this.templateName(name);
      }
      const scope = this.accept('St') ? 'std::' : '';
      const part = this.unqualified(undefined);
      const name = { ...part, text: scope + part.text };
      if (this.next !== 'I') return name;
      this.remember(plain(name.text), name);
      return this.withTemplateArguments(name);
    });
  }

  private templateName(name: NameText): NameText {
    return this.next === 'I' ? this.withTemplateArguments(name) : name;
  }

  private withTemplateArguments(name: NameText): NameText {
    const list = this.templateArgumentList();
    const separator = name.text.endsWith('<') ? ' ' : '';
    return { ...name, text: `${name.text}${separator}${writtenArguments(list)}`, templateArguments: list };
  }

  private nestedName(): NameText {
    this.expect('N');
    const cv = this.qualifiers();
    const reference = this.accept('R') ? ' &' : this.accept('O') ? ' &&' : '';
    let name: NameText | undefined;
    const since = this.parametersMet;
    while (!this.accept('E')) {
      name = this.prefixPart(name);
      if (this.next !== 'E' && name.text !== 'std' && this.fresh) this.remember(plain(name.text), name, since);
    }
    if (!name) throw new NotMangled();
    return { ...name, qualifiers: cv + reference };
  }

  /** Whether what was read last gets a number: substitutions have theirs. */
  private fresh = true;

  private prefixPart(before: NameText | undefined): NameText {
    this.fresh = true;
    if (before && this.next === 'I') return this.withTemplateArguments(before);
    if (!before && this.next === 'S') {
      this.fresh = false;
      const { type, name } = this.substitution();
      return name ?? { text: textOf(type), last: textOf(type), qualifiers: '' };
    }
    if (!before && this.next === 'T') {
      const text = textOf(this.templateParameter());
      return { text, last: text, qualifiers: '' };
    }
    // A lambda of a member's initializer.
    if (before && this.accept('M')) {
      this.fresh = false;
      return before;
    }
    const part = this.unqualified(before);
    const { templateArguments: _, ...rest } = part;
    return { ...rest, text: before ? `${before.text}::${part.text}` : part.text };
  }

  private localName(): NameText {
    this.expect('Z');
    const outer = this.encoding(false);
    this.expect('E');
    if (this.accept('s')) {
      this.discriminator();
      return { text: `${outer.full}::string literal`, last: '', qualifiers: '' };
    }
    let argument = '';
    if (this.accept('d')) {
      const number = this.match(/\d+/y);
      this.expect('_');
      argument = `{default arg#${number === undefined ? 1 : Number(number) + 2}}::`;
    }
    const name = this.name();
    this.discriminator();
    return { ...name, text: `${outer.full}::${argument}${name.text}` };
  }

  private discriminator(): void {
    this.match(/__\d+_|_\d/y);
  }

  /** @param scope of a constructor */
  private unqualified(scope: NameText | undefined): NameText {
    this.accept('L');
    const name = this.unqualifiedWithoutTags(scope);
    let tags = '';
    while (this.accept('B')) tags += `[abi:${this.sourceName()}]`;
    return { ...name, text: name.text + tags };
  }

  private unqualifiedWithoutTags(scope: NameText | undefined): NameText {
    const named = (text: string): NameText => ({ text, last: text, qualifiers: '' });
    if (/\d/.test(this.next)) {
      const name = this.sourceName();
      return named(/^_GLOBAL_[._$]N/.test(name) ? '(anonymous namespace)' : name);
    }
    if (scope && this.match(/C[1-5]|CI[12]/y)) return { ...named(scope.last), returnsNothing: true };
    if (scope && this.match(/D[0-25]/y)) return { ...named(`~${scope.last}`), returnsNothing: true };
    if (this.accept('Ut')) return named(`{unnamed type#${this.ordinal()}}`);
    if (this.accept('Ul')) return named(this.lambda());
    if (this.accept('DC')) {
      const names: string[] = [];
      while (!this.accept('E')) names.push(this.sourceName());
      return named(`[${names.join(', ')}]`);
    }
    if (this.accept('cv')) return { ...named(`operator ${textOf(this.type())}`), returnsNothing: true };
    if (this.accept('li')) return named(`operator"" ${this.sourceName()}`);
    const operator = OPERATORS[this.text.slice(this.at, this.at + 2)];
    if (operator === undefined) throw new NotMangled();
    this.at += 2;
    return named(`operator${operator}`);
  }

  private lambda(): string {
    const outer = this.inLambda;
    this.inLambda = true;
    const parameters = this.parameters();
    this.inLambda = outer;
    this.expect('E');
    return `{lambda${behindName(parameters)}#${this.ordinal()}}`;
  }

  /** The number of an unnamed type of a scope: the first one has none. */
  private ordinal(): number {
    const number = this.match(/\d+/y);
    this.expect('_');
    return number === undefined ? 1 : Number(number) + 2;
  }

  private sourceName(): string {
    return this.characters(this.decimal());
  }

  private qualifiers(): string {
    const letters = this.match(/r?V?K?/y) ?? '';
    // As gdb orders them.
    return [...letters]
      .reverse()
      .map((letter) => QUALIFIERS[letter] ?? '')
      .join('');
  }

  /** <seq-id>: digits and capital letters, from 0 on. */
  private sequence(): number {
    const digits = this.match(/[0-9A-Z]*/y) ?? '';
    this.expect('_');
    return digits === '' ? 0 : Number.parseInt(digits, 36) + 1;
  }

  /** @param since how many parameters of templates had been met before it was read */
  private remember(type: TypeText, name?: NameText, since = this.parametersMet, parameter?: number): void {
    const { templateArguments, inLambda } = this;
    const depends = this.parametersMet > since ? { scope: { templateArguments, inLambda }, parameter } : {};
    this.known.push({ type, ...(name ? { name } : {}), ...depends });
  }

  private substitution(): Known {
    this.expect('S');
    const standard = STANDARD[this.next];
    if (standard) {
      const [text, last] = standard;
      this.take();
      const tagged = this.next === 'B' ? this.tagged(text) : text;
      return { type: plain(tagged), name: { text: tagged, last, qualifiers: '' } };
    }
    const known = this.known[this.sequence()];
    if (!known || known.unsafe) throw new NotMangled();
    const { scope } = known;
    if (!scope) return known;
    const isSame = scope.inLambda || scope.templateArguments === this.templateArguments;
    if (isSame && scope.inLambda === this.inLambda) return known;
    // It stands for what was written, which means something else for another template's arguments.
    if (known.parameter === undefined) throw new NotMangled();
    return { type: this.argumentNumber(known.parameter) };
  }

  private tagged(text: string): string {
    let result = text;
    while (this.accept('B')) result += `[abi:${this.sourceName()}]`;
    this.remember(plain(result));
    return result;
  }

  private templateArgumentList(): Argument[] {
    this.expect('I');
    const list: Argument[] = [];
    while (!this.accept('E')) list.push(this.templateArgument());
    return list;
  }

  private templateArgument(): Argument {
    if (this.accept('J')) {
      const pack: TypeText[] = [];
      while (!this.accept('E')) pack.push(...[this.templateArgument()].flat());
      return pack;
    }
    if (this.next === 'L') return plain(this.literal());
    if (this.accept('X')) {
      const text = this.expression();
      this.expect('E');
      return plain(text);
    }
    const types = this.expanded();
    return types.length === 1 ? (types[0] as TypeText) : types;
  }

  private literal(): string {
    this.expect('L');
    if (this.accept('_Z')) {
      const { full } = this.encoding(true);
      this.expect('E');
      return full;
    }
    const type = textOf(this.type());
    const digits = this.match(/n?[0-9]*/y) ?? '';
    this.expect('E');
    const number = digits.replace('n', '-');
    if (type === 'bool' && /^[01]$/.test(number)) return number === '1' ? 'true' : 'false';
    const suffix = LITERAL_SUFFIXES[type];
    return suffix === undefined ? `(${type})${number}` : number + suffix;
  }

  /** The few that are seen in the symbols of ordinary programs. */
  private expression(): string {
    if (this.next === 'L') return this.literal();
    if (this.next === 'T') return textOf(this.templateParameter());
    if (this.accept('adL_Z')) return this.addressOfFunction();
    throw new NotMangled();
  }

  private addressOfFunction(): string {
    const { path, full } = this.encoding(true);
    this.expect('E');
    const isPlain = path === full || (path.includes('::') && !path.endsWith('>'));
    return isPlain ? `&${path}` : `&(${full})`;
  }

  private templateParameter(): TypeText {
    this.expect('T');
    const number = this.sequence();
    this.parametersMet++;
    return this.argumentNumber(number);
  }

  private argumentNumber(number: number): TypeText {
    if (this.inLambda) return plain(`auto:${number + 1}`);
    const argument = this.templateArguments?.[number];
    if (!argument) throw new NotMangled();
    if (!isPack(argument)) return argument;
    if (!this.pack) return plain(argument.map(textOf).join(', '));
    this.pack.count = argument.length;
    return argument[this.pack.index] ?? plain('');
  }

  private type(): TypeText {
    return this.nested(() => {
      const start = this.next;
      const builtIn = BUILT_IN_TYPES[start];
      if (builtIn !== undefined) {
        this.take();
        return plain(builtIn);
      }
      const second = this.text[this.at + 1] ?? '';
      if (start === 'D' && MORE_BUILT_IN_TYPES[second] !== undefined) {
        this.at += 2;
        return plain(MORE_BUILT_IN_TYPES[second] ?? '');
      }
      if (start === 'S' && second !== 't') return this.substitutedType();
      const since = this.parametersMet;
      const parameter = start === 'T' ? /^T([0-9A-Z]*)_/.exec(this.text.slice(this.at))?.[1] : undefined;
      const type = this.compoundType(start);
      const number = parameter === undefined ? undefined : parameter === '' ? 0 : Number.parseInt(parameter, 36) + 1;
      this.remember(type, undefined, since, number);
      return type;
    });
  }

  private substitutedType(): TypeText {
    const known = this.substitution();
    if (this.next !== 'I' || !known.name) return known.type;
    const since = this.parametersMet;
    const name = this.withTemplateArguments(known.name);
    this.remember(plain(name.text), name, since);
    return plain(name.text);
  }

  private compoundType(start: string): TypeText {
    if (/[rVK]/.test(start)) {
      const qualifiers = this.qualifiers();
      return qualifiedBy(this.type(), qualifiers);
    }
    if (this.accept('P')) return pointing(this.type(), '*');
    if (this.accept('R')) return referring(this.type(), '&');
    if (this.accept('O')) return referring(this.type(), '&&');
    if (this.accept('C')) return plain(`${textOf(this.type())} _Complex`);
    if (start === 'F' || this.accept('Do')) return this.functionTypeOnly();
    if (start === 'A') return this.arrayType();
    if (this.accept('M')) {
      const owner = textOf(this.type());
      const member = this.type();
      return member.wrap ? pointing(member, `${owner}::*`) : plain(`${textOf(member)} ${owner}::*`);
    }
    if (this.accept('u')) return plain(this.sourceName());
    if (start === 'T' && /[0-9_]/.test(this.text[this.at + 1] ?? '')) return this.parameterType();
    this.match(/T[sue]/y);
    const name = this.name();
    return plain(name.text);
  }

  private parameterType(): TypeText {
    const type = this.templateParameter();
    if (this.next !== 'I') return type;
    // A template that is an argument of a template.
    this.remember(type);
    const text = textOf(type);
    return plain(this.withTemplateArguments({ text, last: text, qualifiers: '' }).text);
  }

  private functionTypeOnly(): TypeText {
    this.expect('F');
    this.accept('Y');
    const returned = this.type();
    const parameters = behindName(this.parameters());
    const reference = this.accept('R') ? ' &' : this.accept('O') ? ' &&' : '';
    this.expect('E');
    return { left: returned.left, right: `${parameters}${reference}${returned.right}`, wrap: 'function' };
  }

  private arrayType(): TypeText {
    this.expect('A');
    const count = this.match(/\d*/y) ?? '';
    this.expect('_');
    const element = this.type();
    const rest = element.wrap === 'array' ? element.right : '';
    return {
      left: element.wrap === 'array' ? element.left : textOf(element),
      right: `[${count}]${rest}`,
      wrap: 'array',
    };
  }
}

const QUALIFIERS: Readonly<Record<string, string>> = { r: ' restrict', V: ' volatile', K: ' const' };

function writtenArguments(list: readonly Argument[]): string {
  const text = list
    .flatMap((argument) => (isPack(argument) ? argument : [argument]))
    .map(textOf)
    .join(', ');
  return `<${text}${text.endsWith('>') ? ' ' : ''}>`;
}

/** @returns undefined when it is no name of C++, or one that is not understood */
export function demangleItanium(mangled: string): { readonly path: string; readonly full: string } | undefined {
  const prefix = /^_?_Z/.exec(mangled)?.[0];
  if (prefix === undefined) return undefined;
  try {
    return new Demangler(mangled, prefix.length).whole();
  } catch (error) {
    if (error instanceof NotMangled) return undefined;
    throw error;
  }
}
