/** Types of C, C++ and Rust as debug information describes them. */

import { FormatError } from '../byte-reader.ts';
import { AT, ENCODING, TAG } from './constants.ts';
import type { Entry } from './unit.ts';

export interface Member {
  /** Undefined for anonymous structures and unions, whose members count as the outer one's. */
  readonly name: string | undefined;
  readonly type: Type;
  /** Bytes from the beginning; an expression for virtual bases gives none. */
  readonly offset: number | undefined;
  /** Of a bit field: bits from the beginning of the structure, and how many. */
  readonly bits: { readonly offset: number; readonly size: number } | undefined;
  readonly isBase: boolean;
}

/** Rust's enumerations: which of the members is there, by the value of one. */
export interface Variants {
  readonly discriminant: Member | undefined;
  /** @property value undefined: when no other one matches. */
  readonly variants: readonly { readonly value: bigint | undefined; readonly member: Member }[];
}

interface Common {
  /** As a program writes it. */
  readonly name: string;
  /** Bytes; undefined when the type is incomplete. */
  readonly size: number | undefined;
}

export type Type = Common &
  (
    | { readonly kind: 'base'; readonly encoding: number }
    | { readonly kind: 'pointer' | 'reference'; readonly target: Type }
    | { readonly kind: 'array'; readonly element: Type; readonly count: number | undefined; readonly lower: number }
    | { readonly kind: 'record'; readonly members: readonly Member[]; readonly variants: Variants | undefined }
    | { readonly kind: 'enumeration'; readonly values: readonly Enumerator[]; readonly signed: boolean }
    | { readonly kind: 'function' }
    | { readonly kind: 'void' }
    | { readonly kind: 'alias'; readonly target: Type }
  );
export type TypeOfKind<Kind extends Type['kind']> = Extract<Type, { kind: Kind }>;

export interface Enumerator {
  readonly name: string;
  readonly value: bigint;
}

/** Types nest less deeply than this: a deeper one contains itself. */
const DEEPEST = 100;

export const VOID: Type = { kind: 'void', name: 'void', size: undefined };
/** What C code that nobody described is built of. */
export const baseType = (name: string, size: number, encoding: number): Type => ({
  kind: 'base',
  name,
  size,
  encoding,
});

/** Without typedef, const and volatile. */
export function strip(type: Type): Exclude<Type, { kind: 'alias' }> {
  let plain = type;
  for (let depth = 0; plain.kind === 'alias'; depth++) {
    if (depth > DEEPEST) throw new FormatError(`type ${type.name} is an alias of itself`);
    plain = plain.target;
  }
  return plain;
}

export function pointerTo(target: Type, size: number): Type {
  return {
    kind: 'pointer',
    size,
    target,
    get name() {
      return declare(target.name, '*');
    },
  };
}

/**
 * Adds to a declarator, whose place is behind the name of a plain type: of 'int (*)[3]' inside the parentheses, of
 * 'int [3]' before the bracket.
 */
function declare(name: string, declarator: string): string {
  const inner = name.indexOf('(*');
  if (inner >= 0 && !name.includes('<')) {
    const at = name.indexOf(')', inner);
    return name.slice(0, at) + declarator + name.slice(at);
  }
  const suffix = /\s?(\[[^\]]*\]|\()/.exec(name.includes('<') ? '' : name);
  if (declarator.startsWith('[')) {
    return suffix
      ? `${name.slice(0, suffix.index)} ${declarator}${name.slice(suffix.index).trimStart()}`
      : `${name} ${declarator}`;
  }
  if (suffix) return `${name.slice(0, suffix.index)} (${declarator})${name.slice(suffix.index).trimStart()}`;
  return name.endsWith('*') || name.endsWith('&') ? `${name}${declarator}` : `${name} ${declarator}`;
}

/** Types are read when they are looked at: they refer to each other in circles. */
class LazyType {
  private readonly entry: Entry;
  private readonly reader: TypeReader;
  constructor(reader: TypeReader, entry: Entry) {
    this.reader = reader;
    this.entry = entry;
  }
  protected of(entry: Entry | undefined = this.entry.reference(AT.type)): Type {
    return this.reader.type(entry);
  }
  get own(): Entry {
    return this.entry;
  }
  protected nested<T>(work: () => T): T {
    return this.reader.nested(work);
  }
  get size(): number | undefined {
    return this.entry.number(AT.byteSize);
  }
}

class PointerType extends LazyType {
  readonly kind: 'pointer' | 'reference';
  readonly sign: string;
  constructor(reader: TypeReader, entry: Entry, kind: 'pointer' | 'reference', sign: string) {
    super(reader, entry);
    this.kind = kind;
    this.sign = sign;
  }
  get target(): Type {
    return this.of();
  }
  get name(): string {
    return this.own.name ?? this.nested(() => declare(this.target.name, this.sign));
  }
  override get size(): number {
    return super.size ?? this.own.unit.header.sizes.addressSize;
  }
}

class AliasType extends LazyType {
  readonly kind = 'alias';
  readonly qualifier: string | undefined;
  constructor(reader: TypeReader, entry: Entry, qualifier: string | undefined) {
    super(reader, entry);
    this.qualifier = qualifier;
  }
  get target(): Type {
    return this.of();
  }
  get name(): string {
    if (this.qualifier === undefined) return qualified(this.own);
    const name = this.nested(() => this.target.name);
    return strip(this.target).kind === 'pointer' && this.target.kind !== 'alias'
      ? `${name} ${this.qualifier}`
      : `${this.qualifier} ${name}`;
  }
  override get size(): number | undefined {
    return this.nested(() => this.target.size);
  }
}

/** Bytes of an array; undefined when its length or its elements' size is not known. */
const arraySize = (element: Type, count: number | undefined): number | undefined =>
  count === undefined || element.size === undefined ? undefined : count * element.size;

function arrayType(element: Type, count: number | undefined, lower: number): TypeOfKind<'array'> {
  return {
    kind: 'array',
    element,
    count,
    lower,
    get size() {
      return arraySize(element, count);
    },
    get name() {
      return declare(element.name, `[${count ?? ''}]`);
    },
  };
}

class RecordType extends LazyType {
  readonly kind = 'record';
  readonly keyword: string;
  private readonly types: TypeReader;
  private known: readonly Member[] | undefined;

  constructor(reader: TypeReader, entry: Entry, keyword: string) {
    super(reader, entry);
    this.keyword = keyword;
    this.types = reader;
  }
  get name(): string {
    const { own } = this;
    if (own.name === undefined) return `${this.keyword} {...}`;
    const prefix = this.types.usesKeywords(own) ? `${this.keyword} ` : '';
    return `${prefix}${qualified(own)}`;
  }
  get members(): readonly Member[] {
    this.known ??= this.own.children
      .filter(({ tag }) => tag === TAG.member || tag === TAG.inheritance)
      .filter((entry) => !entry.flag(AT.external) && !entry.flag(AT.declaration))
      .map((entry) => readMember(this.types, entry));
    return this.known;
  }
  get variants(): Variants | undefined {
    const part = this.own.children.find(({ tag }) => tag === TAG.variantPart);
    if (!part) return undefined;
    const discriminant = part.reference(AT.discriminant);
    const variants = part.children.flatMap((variant) => {
      const member = variant.children.find(({ tag }) => tag === TAG.member);
      return member ? [{ value: variant.constant(AT.discriminantValue), member: readMember(this.types, member) }] : [];
    });
    return { discriminant: discriminant && readMember(this.types, discriminant), variants };
  }
}

function readMember(types: TypeReader, entry: Entry): Member {
  const type = types.type(entry.reference(AT.type));
  const location = entry.find(AT.memberLocation)?.value;
  const offset = location === undefined ? 0 : memberOffset(location.raw);
  return {
    name: entry.name,
    type,
    offset,
    bits: bitsOf(entry, type, offset ?? 0),
    isBase: entry.tag === TAG.inheritance,
  };
}

/** A constant, or as DWARF 2 has it the expression DW_OP_plus_uconst. */
function memberOffset(raw: bigint | string | Uint8Array): number | undefined {
  if (typeof raw === 'bigint') return Number(raw);
  if (typeof raw === 'string' || raw[0] !== PLUS_CONSTANT) return undefined;
  let [value, factor] = [0, 1];
  for (const byte of raw.subarray(1)) {
    value += (byte & 0x7f) * factor;
    factor *= 128;
  }
  return value;
}
const PLUS_CONSTANT = 0x23;

/** DWARF 4 counts bits from the beginning of the structure; before, from the storage unit's most significant bit. */
function bitsOf(entry: Entry, type: Type, offset: number): Member['bits'] {
  const size = entry.number(AT.bitSize);
  if (size === undefined) return undefined;
  const position = entry.number(AT.dataBitOffset);
  if (position !== undefined) return { offset: position, size };
  const fromTop = entry.number(AT.bitOffset) ?? 0;
  const storage = entry.number(AT.byteSize) ?? type.size ?? 0;
  return { offset: 8 * offset + 8 * storage - fromTop - size, size };
}

class EnumerationType extends LazyType {
  readonly kind = 'enumeration';
  private readonly types: TypeReader;
  constructor(reader: TypeReader, entry: Entry) {
    super(reader, entry);
    this.types = reader;
  }
  get name(): string {
    if (this.own.name === undefined) return 'enum {...}';
    return `${this.types.usesKeywords(this.own) ? 'enum ' : ''}${qualified(this.own)}`;
  }
  override get size(): number {
    return super.size ?? this.nested(() => this.of().size) ?? 4;
  }
  get signed(): boolean {
    return this.values.some(({ value }) => value < 0n);
  }
  get values(): readonly Enumerator[] {
    return this.own.children
      .filter(({ tag }) => tag === TAG.enumerator)
      .map((entry) => ({ name: entry.name ?? '', value: this.constantOf(entry) }));
  }
  /** Of an enumeration over an unsigned type the constant's fixed size holds no sign. */
  private constantOf(entry: Entry): bigint {
    const under = this.own.reference(AT.type);
    const base = under && strip(this.types.type(under));
    const unsigned =
      base?.kind === 'base' && base.encoding !== ENCODING.signed && base.encoding !== ENCODING.signedChar;
    return (unsigned ? entry.constant(AT.constantValue) : entry.signedConstant(AT.constantValue)) ?? 0n;
  }
}

class FunctionType extends LazyType {
  readonly kind = 'function';
  override get size(): undefined {
    return undefined;
  }
  get name(): string {
    const parameters = this.own.children.map((entry) =>
      entry.tag === TAG.unspecifiedParameters ? '...' : this.nested(() => this.of(entry.reference(AT.type)).name),
    );
    return `${this.nested(() => this.of().name)} (${parameters.join(', ') || 'void'})`;
  }
}

/** With the namespaces and classes around it: C++ and Rust. */
export function qualified(entry: Entry): string {
  const names: string[] = [];
  for (let at: Entry | undefined = entry; at; at = at.parent) {
    const isScope = at.tag === TAG.namespace || RECORDS[at.tag] !== undefined || at.index === entry.index;
    if (!isScope) continue;
    const origin = at.origin;
    if (at.index === entry.index && origin.offset !== at.offset && isAround(origin.parent)) {
      return qualified(origin);
    }
    const name = at.name ?? (at.tag === TAG.namespace ? '(anonymous namespace)' : undefined);
    if (name !== undefined) names.unshift(name);
  }
  return names.join('::');
}

const isAround = (parent: Entry | undefined): boolean =>
  parent !== undefined && (parent.tag === TAG.namespace || parent.tag in RECORDS);

const RECORDS: Readonly<Record<number, string>> = {
  [TAG.structureType]: 'struct',
  [TAG.classType]: 'class',
  [TAG.unionType]: 'union',
};
const POINTERS: Readonly<Record<number, readonly ['pointer' | 'reference', string]>> = {
  [TAG.pointerType]: ['pointer', '*'],
  [TAG.referenceType]: ['reference', '&'],
  [TAG.rvalueReferenceType]: ['reference', '&&'],
};
const ALIASES: Readonly<Record<number, string | undefined>> = {
  [TAG.typedef]: undefined,
  [TAG.constType]: 'const',
  [TAG.volatileType]: 'volatile',
  [TAG.restrictType]: 'restrict',
  [TAG.atomicType]: '_Atomic',
};
export const isTypeTag = (tag: number): boolean =>
  tag in RECORDS || tag === TAG.typedef || tag === TAG.baseType || tag === TAG.enumerationType;

/** DW_LANG codes of C: their structures are called 'struct name'. */
const C_LANGUAGES: readonly number[] = [0x01, 0x02, 0x0c, 0x1d, 0x2c];
const MOST_TYPES = 20_000;

/** Makes types of entries; each entry is one type, so that equal objects are the same type. */
export class TypeReader {
  private readonly types = new Map<number, Type>();
  private depth = 0;
  /** Definitions of types that a unit only declares, found by name. */
  private readonly findDefinition: (entry: Entry) => Entry | undefined;

  constructor(findDefinition: (entry: Entry) => Entry | undefined) {
    this.findDefinition = findDefinition;
  }

  /** @param entry undefined: void, as attributes that are absent mean. */
  type(entry: Entry | undefined): Type {
    if (!entry) return VOID;
    const known = this.types.get(entry.offset);
    if (known) return known;
    if (this.types.size > MOST_TYPES) this.types.clear();
    const type = this.nested(() => this.read(entry));
    this.types.set(entry.offset, type);
    return type;
  }

  /** @throws FormatError for types that contain themselves. */
  nested<T>(work: () => T): T {
    if (++this.depth > DEEPEST) {
      this.depth = 0;
      throw new FormatError('a type contains itself');
    }
    const result = work();
    this.depth--;
    return result;
  }

  usesKeywords(entry: Entry): boolean {
    return C_LANGUAGES.includes(entry.unit.root.number(AT.language) ?? 0);
  }

  private read(entry: Entry): Type {
    const { tag } = entry;
    const record = RECORDS[tag];
    if (record) {
      const isDeclared = entry.own(AT.declaration) !== undefined;
      // A type unit has what an entry with its signature leaves out, whether or not that says so.
      const definition = entry.reference(AT.signature) ?? (isDeclared ? this.findDefinition(entry) : undefined);
      return new RecordType(this, definition ?? entry, record);
    }
    const pointer = POINTERS[tag];
    if (pointer) return new PointerType(this, entry, ...pointer);
    if (tag in ALIASES) return new AliasType(this, entry, ALIASES[tag]);
    if (tag === TAG.baseType) {
      return baseType(entry.name ?? '', entry.number(AT.byteSize) ?? 0, entry.number(AT.encoding) ?? 0);
    }
    if (tag === TAG.enumerationType) return new EnumerationType(this, entry.reference(AT.signature) ?? entry);
    if (tag === TAG.subroutineType) return new FunctionType(this, entry);
    if (tag === TAG.arrayType) return this.array(entry);
    if (tag === TAG.subrangeType) return this.type(entry.reference(AT.type));
    return { kind: 'void', name: entry.name ?? 'void', size: entry.number(AT.byteSize) };
  }

  /** An array of several dimensions is an array of arrays: the last dimension is the innermost. */
  private array(entry: Entry): Type {
    const dimensions = entry.children.filter(({ tag }) => tag === TAG.subrangeType);
    let type = this.type(entry.reference(AT.type));
    for (const dimension of dimensions.reverse()) {
      const lower = Number(dimension.signedConstant(AT.lowerBound) ?? 0n);
      const upper = dimension.signedConstant(AT.upperBound);
      const counted = dimension.number(AT.count) ?? (upper === undefined ? undefined : Number(upper) - lower + 1);
      type = arrayType(type, counted === undefined ? undefined : Math.max(counted, 0), lower);
    }
    return type;
  }
}
