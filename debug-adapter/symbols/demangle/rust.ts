/**
 * Names of Rust from symbols, written as gdb and c++filt write them: those that imitate C++ ("legacy", with a hash for
 * a last part), and those of RFC 2603 ("v0"). Hashes and numbers of crates are left out.
 */

import { MangledReader, NotMangled } from './mangled-reader.ts';

const HASH = /^h[0-9a-f]{16}$/;
/** What stands for characters that symbols cannot have. */
const ESCAPES: Readonly<Record<string, string>> = {
  SP: '@',
  BP: '*',
  RF: '&',
  LT: '<',
  GT: '>',
  LP: '(',
  RP: ')',
  C: ',',
};

/** @returns undefined when it is no name of this form */
export function demangleLegacyRust(mangled: string): string | undefined {
  const parts: string[] = [];
  const reader = new MangledReader(mangled);
  if (reader.match(/_?_ZN/y) === undefined) return undefined;
  try {
    while (!reader.accept('E')) parts.push(reader.characters(reader.decimal()));
  } catch (error) {
    if (error instanceof NotMangled) return undefined;
    throw error;
  }
  // What llvm adds to names of its own copies: .llvm.1234.
  if (!/^(\.[\w.@]+)?$/.test(mangled.slice(reader.at))) return undefined;
  return HASH.test(parts.pop() ?? '') ? parts.map(unescaped).join('::') : undefined;
}

function unescaped(part: string): string {
  const text = part.startsWith('_$') ? part.slice(1) : part;
  return text.replaceAll(/\$(?:u([0-9a-f]+)|([A-Z]+))\$|\.\.|\./g, (whole, code?: string, name?: string) => {
    if (code !== undefined) return String.fromCodePoint(Number.parseInt(code, 16));
    if (name !== undefined) return ESCAPES[name] ?? whole;
    return whole === '..' ? '::' : '.';
  });
}

/** <basic-type>, but for those of constants' values. */
const BASIC_TYPES: Readonly<Record<string, string>> = {
  a: 'i8',
  b: 'bool',
  c: 'char',
  d: 'f64',
  e: 'str',
  f: 'f32',
  h: 'u8',
  i: 'isize',
  j: 'usize',
  l: 'i32',
  m: 'u32',
  n: 'i128',
  o: 'u128',
  p: '_',
  s: 'i16',
  t: 'u16',
  u: '()',
  v: '...',
  x: 'i64',
  y: 'u64',
  z: '!',
};
/** Types whose constants are numbers. */
const SIGNED = 'ailnsx';
const NUMBERS = `${SIGNED}hjmoty`;
const POINTERS: Readonly<Record<string, string>> = { P: '*const ', O: '*mut ' };
/** Names nest no deeper, and are no longer, than this: references back can make them grow without end. */
const DEEPEST = 200;
const LONGEST = 200_000;

class Demangler extends MangledReader {
  private depth = 0;
  private written = 0;
  /** Lifetimes that `for<…>` has brought in. */
  private lifetimes = 0;

  whole(): string {
    const path = this.path(true);
    // The crate that the code was made for.
    if (!this.done && !'.@$'.includes(this.next)) this.path(false);
    if (!this.done && !'.@$'.includes(this.next)) throw new NotMangled();
    return path;
  }

  private nested(work: () => string): string {
    if (++this.depth > DEEPEST) throw new NotMangled();
    const text = work();
    this.depth--;
    this.written += text.length;
    if (this.written > LONGEST) throw new NotMangled();
    return text;
  }

  /** <base-62-number>: 0 when only its end is there. */
  private base62(): number {
    const digits = this.match(/[0-9a-zA-Z]*/y) ?? '';
    this.expect('_');
    let value = 0;
    for (const digit of digits) value = 62 * value + BASE_62.indexOf(digit);
    return digits === '' ? 0 : value + 1;
  }

  private numberBehind(letter: string): number {
    return this.accept(letter) ? this.base62() + 1 : 0;
  }

  /** Goes on at an earlier place for a while. */
  private back(read: () => string): string {
    const to = this.base62() + PREFIX;
    const from = this.at;
    if (to >= from) throw new NotMangled();
    this.at = to;
    const text = this.nested(read);
    this.at = from;
    return text;
  }

  private identifier(): string {
    const isPunycode = this.accept('u');
    const length = this.decimal();
    this.accept('_');
    const text = this.characters(length);
    return isPunycode ? decodePunycode(text) : text;
  }

  /** @param inValue: behind a name of a value generic arguments stand as in `f::<T>` */
  private path(inValue: boolean): string {
    return this.nested(() => {
      const kind = this.take();
      if (kind === 'C') {
        this.numberBehind('s');
        return this.identifier();
      }
      if (kind === 'N') return this.innerPath(inValue);
      if (kind === 'M' || kind === 'X') {
        this.numberBehind('s');
        this.path(false);
        return kind === 'M' ? `<${this.type()}>` : this.asTrait();
      }
      if (kind === 'Y') return this.asTrait();
      if (kind === 'I') {
        const path = this.path(inValue);
        return `${path}${inValue ? '::' : ''}<${this.list(() => this.genericArgument()).join(', ')}>`;
      }
      if (kind === 'B') return this.back(() => this.path(inValue));
      throw new NotMangled();
    });
  }

  private asTrait(): string {
    return `<${this.type()} as ${this.path(false)}>`;
  }

  private innerPath(inValue: boolean): string {
    const namespace = this.take();
    const path = this.path(inValue);
    const number = this.numberBehind('s');
    const name = this.identifier();
    if (/[a-z]/.test(namespace)) return name === '' ? path : `${path}::${name}`;
    const what = namespace === 'C' ? 'closure' : namespace === 'S' ? 'shim' : namespace;
    return `${path}::{${what}${name === '' ? '' : `:${name}`}#${number}}`;
  }

  /** Up to E. */
  private list(read: () => string): string[] {
    const items: string[] = [];
    while (!this.accept('E')) items.push(read());
    return items;
  }

  private genericArgument(): string {
    if (this.accept('L')) return this.lifetime();
    return this.accept('K') ? this.constant() : this.type();
  }

  private lifetime(): string {
    const number = this.base62();
    if (number === 0) return "'_";
    const index = this.lifetimes - number;
    if (index < 0) throw new NotMangled();
    return index < 26 ? `'${String.fromCharCode(97 + index)}` : `'_${index}`;
  }

  /** <binder>: lifetimes for what `read` reads. */
  private bound(read: () => string): string {
    const outer = this.lifetimes;
    const count = this.numberBehind('G');
    const names: string[] = [];
    for (let index = 0; index < count; index++) {
      if (index > DEEPEST) throw new NotMangled();
      this.lifetimes++;
      const at = this.lifetimes - 1;
      names.push(at < 26 ? `'${String.fromCharCode(97 + at)}` : `'_${at}`);
    }
    const text = read();
    this.lifetimes = outer;
    return count === 0 ? text : `for<${names.join(', ')}> ${text}`;
  }

  private type(): string {
    return this.nested(() => {
      const basic = BASIC_TYPES[this.next];
      if (basic !== undefined) {
        this.take();
        return basic;
      }
      if (/[CMXYNI]/.test(this.next)) return this.path(false);
      return this.compoundType(this.take());
    });
  }

  private compoundType(kind: string): string {
    if (kind === 'B') return this.back(() => this.type());
    if (kind === 'A') return `[${this.type()}; ${this.constant()}]`;
    if (kind === 'S') return `[${this.type()}]`;
    if (kind === 'T') {
      const types = this.list(() => this.type());
      return `(${types.join(', ')}${types.length === 1 ? ',' : ''})`;
    }
    if (kind === 'R' || kind === 'Q') {
      const lifetime = this.accept('L') ? this.lifetime() : "'_";
      return `&${lifetime === "'_" ? '' : `${lifetime} `}${kind === 'Q' ? 'mut ' : ''}${this.type()}`;
    }
    if (POINTERS[kind] !== undefined) return POINTERS[kind] + this.type();
    if (kind === 'F') return this.bound(() => this.functionType());
    if (kind === 'D') return this.traitObject();
    throw new NotMangled();
  }

  private functionType(): string {
    const unsafe = this.accept('U') ? 'unsafe ' : '';
    let abi = '';
    if (this.accept('K')) abi = `extern "${this.accept('C') ? 'C' : this.identifier().replaceAll('_', '-')}" `;
    const parameters = this.list(() => this.type());
    const returned = this.type();
    return `${unsafe}${abi}fn(${parameters.join(', ')})${returned === '()' ? '' : ` -> ${returned}`}`;
  }

  private traitObject(): string {
    const traits = this.bound(() => this.list(() => this.traitWithTypes()).join(' + '));
    this.expect('L');
    const lifetime = this.lifetime();
    return `dyn ${traits}${lifetime === "'_" ? '' : ` + ${lifetime}`}`;
  }

  private traitWithTypes(): string {
    const path = this.path(false);
    const types: string[] = [];
    while (this.accept('p')) types.push(`${this.identifier()} = ${this.type()}`);
    if (types.length === 0) return path;
    return path.endsWith('>') ? `${path.slice(0, -1)}, ${types.join(', ')}>` : `${path}<${types.join(', ')}>`;
  }

  private constant(): string {
    return this.nested(() => {
      const type = this.take();
      if (type === 'B') return this.back(() => this.constant());
      if (type === 'p') return '_';
      if (NUMBERS.includes(type)) {
        const sign = SIGNED.includes(type) && this.accept('n') ? '-' : '';
        return `${sign}${this.hexadecimal()}`;
      }
      if (type === 'b') return this.hexadecimal() === 0n ? 'false' : 'true';
      if (type === 'c') return `'${String.fromCodePoint(Number(this.hexadecimal()))}'`;
      throw new NotMangled();
    });
  }

  private hexadecimal(): bigint {
    const digits = this.match(/[0-9a-f]*/y) ?? '';
    this.expect('_');
    return digits === '' ? 0n : BigInt(`0x${digits}`);
  }
}

/** Places are counted from behind this: `_R`. */
const PREFIX = 2;
const BASE_62 = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** Parameters of RFC 3492, 5. */
const PUNYCODE = { base: 36, least: 1, most: 26, skew: 38, damp: 700, bias: 72, first: 128 } as const;

/** RFC 3492, 6.2, with `_` between the plain characters and the others. @throws NotMangled */
function decodePunycode(text: string): string {
  const border = text.lastIndexOf('_');
  const characters = [...text.slice(0, Math.max(border, 0))];
  const digits = text.slice(border + 1);
  let code: number = PUNYCODE.first;
  let bias: number = PUNYCODE.bias;
  for (let at = 0, index = 0; at < digits.length; index++) {
    const before = index;
    for (let weight = 1, place = PUNYCODE.base; ; place += PUNYCODE.base) {
      const digit = punycodeDigit(digits[at++]);
      index += digit * weight;
      const threshold = Math.min(Math.max(place - bias, PUNYCODE.least), PUNYCODE.most);
      if (digit < threshold) break;
      weight *= PUNYCODE.base - threshold;
    }
    const count = characters.length + 1;
    bias = adapted(index - before, count, before === 0);
    code += Math.floor(index / count);
    index %= count;
    if (code > 0x10ffff) throw new NotMangled();
    characters.splice(index, 0, String.fromCodePoint(code));
  }
  return characters.join('');
}

function punycodeDigit(character = ''): number {
  const digit = 'abcdefghijklmnopqrstuvwxyz0123456789'.indexOf(character);
  if (digit < 0 || character === '') throw new NotMangled();
  return digit;
}

function adapted(distance: number, count: number, isFirst: boolean): number {
  const { base, least, most, skew, damp } = PUNYCODE;
  let delta = Math.floor(distance / (isFirst ? damp : 2));
  delta += Math.floor(delta / count);
  let bias = 0;
  for (; delta > ((base - least) * most) / 2; bias += base) delta = Math.floor(delta / (base - least));
  return bias + Math.floor(((base - least + 1) * delta) / (delta + skew));
}

/** @returns undefined when it is no name of this form, or one that is not understood */
export function demangleRust(mangled: string): string | undefined {
  if (!/^_R[A-Z]/.test(mangled)) return undefined;
  try {
    return new Demangler(mangled, PREFIX).whole();
  } catch (error) {
    if (error instanceof NotMangled || error instanceof RangeError) return undefined;
    throw error;
  }
}
