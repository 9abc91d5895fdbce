import { errors } from '../errors.ts';
import { MemoryStorage, NoStorage, readBits, type Storage, ValueStorage, writeBits } from '../worlds/storage.ts';
import { ENCODING } from './dwarf/constants.ts';
import { bitsOfFloat, floatOf } from './dwarf/float.ts';
import { bytesOf, numberOf, Unavailable } from './dwarf/location-expressions.ts';
import { type Member, pointerTo, strip, type Type, type TypeOfKind } from './dwarf/types.ts';

const SIGNED: readonly number[] = [ENCODING.signed, ENCODING.signedChar];

/** How a compiler-made pointer's target is found: by its entry in the debug information. */
type FindPointee = (entry: number) => TypedValue | undefined;

interface Options {
  /** Bytes into the storage. */
  readonly offset?: number;
  /** Of a bit field: from the storage's beginning. */
  readonly bits?: Member['bits'];
  /** An expression that gives this value again. */
  readonly expression?: string | undefined;
  readonly findPointee?: FindPointee | undefined;
  /** A variable outside of functions, which a symbol names. */
  readonly isGlobal?: boolean;
}

/** A value of a C, C++ or Rust program: a type, and where its bytes are. */
export class TypedValue {
  readonly type: Type;
  readonly storage: Storage;
  readonly offset: number;
  readonly bits: Member['bits'];
  readonly expression: string | undefined;
  readonly isGlobal: boolean;
  private readonly findPointee: FindPointee | undefined;

  constructor(type: Type, storage: Storage, options: Options = {}) {
    this.type = type;
    this.storage = storage;
    this.offset = options.offset ?? 0;
    this.bits = options.bits;
    this.expression = options.expression;
    this.isGlobal = options.isGlobal ?? false;
    this.findPointee = options.findPointee;
  }

  /** Without typedef, const and volatile. */
  get plain(): ReturnType<typeof strip> {
    return strip(this.type);
  }

  /** Undefined when it is not in memory, and for bit fields. */
  get address(): bigint | undefined {
    const { address } = this.storage;
    return address === undefined || this.bits ? undefined : BigInt.asUintN(64, address + BigInt(this.offset));
  }

  /** Bytes; 0 for incomplete types. */
  get size(): number {
    return this.plain.size ?? 0;
  }

  bytes(): Uint8Array {
    return this.storage.read(this.offset, this.size);
  }

  private rawNumber(): bigint {
    if (!this.bits) return numberOf(this.bytes());
    return readBits(this.storage, this.bits.offset, this.bits.size);
  }

  /** Whether arithmetic can be done with it, as with an integer. */
  get isScalar(): boolean {
    const { plain } = this;
    return (
      plain.kind === 'pointer' ||
      plain.kind === 'reference' ||
      plain.kind === 'enumeration' ||
      (plain.kind === 'base' && plain.encoding !== ENCODING.float && plain.size !== undefined && plain.size <= 16)
    );
  }

  get isSigned(): boolean {
    const { plain } = this;
    return (plain.kind === 'base' && SIGNED.includes(plain.encoding)) || (plain.kind === 'enumeration' && plain.signed);
  }

  /**
   * An integer, pointer or enumeration as a number; of arrays, structures and functions the address.
   * @throws Unavailable; RequestError for floating-point values.
   */
  number(): bigint {
    const { plain, bits } = this;
    if (!this.isScalar) {
      if (plain.kind === 'base') throw errors.badExpression(`Nothing is computed with values of type ${plain.name}`);
      if (this.address === undefined) throw new Unavailable('it is not in memory');
      return this.address;
    }
    const raw = this.rawNumber();
    return this.isSigned ? BigInt.asIntN(bits?.size ?? 8 * this.size, raw) : raw;
  }

  /** The value of a floating-point type. */
  float(): number {
    return floatOf(numberOf(this.bytes()), this.size);
  }
  get isFloat(): boolean {
    const { plain } = this;
    return plain.kind === 'base' && plain.encoding === ENCODING.float;
  }

  private part(type: Type, options: Options): TypedValue {
    return new TypedValue(type, this.storage, { findPointee: this.findPointee, ...options });
  }

  member(member: Member, expression = this.memberExpression(member)): TypedValue {
    const { type, bits, offset } = member;
    if (offset === undefined) return new TypedValue(type, new NoStorage(this.storage.memory, 'in a virtual base'));
    const own = bits && { offset: bits.offset + 8 * this.offset, size: bits.size };
    return this.part(type, { offset: this.offset + offset, bits: own, expression });
  }

  private memberExpression({ name, isBase }: Member): string | undefined {
    if (this.expression === undefined || name === undefined || isBase) return this.expression;
    const arrow = /^\*([\w.:]+|[\w.:]+->.*)$/.exec(this.expression);
    return arrow ? `${arrow[1]}->${name}` : `${enclose(this.expression)}.${name}`;
  }

  /** A member by its name, also one of an anonymous structure, of a base class or of the variant that is there. */
  memberNamed(name: string): TypedValue | undefined {
    const { plain } = this;
    if (plain.kind !== 'record') return undefined;
    for (const member of this.members(plain)) {
      if (member.name === name && !member.isBase) return this.member(member, this.memberExpression(member));
      if (member.name !== undefined && !member.isBase) continue;
      const inner = this.member(member, this.expression).memberNamed(name);
      if (inner) return inner;
    }
    return undefined;
  }

  /** Members that are there: of Rust's enumerations the ones of the variant that the discriminant tells. */
  members(record: TypeOfKind<'record'>): readonly Member[] {
    const { variants } = record;
    if (!variants) return record.members;
    const tag = variants.discriminant && this.member(variants.discriminant).rawNumber();
    const size = variants.discriminant?.type.size ?? 8;
    const found =
      variants.variants.find(({ value }) => value !== undefined && BigInt.asUintN(8 * size, value) === tag) ??
      variants.variants.find(({ value }) => value === undefined);
    return found ? [...record.members, found.member] : record.members;
  }

  /** An element of an array, or what lies behind a pointer. */
  element(index: number): TypedValue | undefined {
    const { plain } = this;
    const expression = this.expression === undefined ? undefined : `${enclose(this.expression)}[${index}]`;
    if (plain.kind === 'array') {
      const offset = (index - plain.lower) * (plain.element.size ?? 0);
      return this.part(plain.element, { offset: this.offset + offset, expression });
    }
    const target = index === 0 ? this.target() : undefined;
    if (target) return target;
    if (plain.kind !== 'pointer') return undefined;
    const at = this.number() + BigInt(index * (plain.target.size ?? 1));
    return new TypedValue(plain.target, new MemoryStorage(this.storage.memory, at), { expression });
  }

  /** What a pointer or reference leads to. */
  target(): TypedValue | undefined {
    const { plain, storage, findPointee } = this;
    if (plain.kind !== 'pointer' && plain.kind !== 'reference') return undefined;
    if (storage instanceof NoStorage && storage.pointee) {
      const whole = findPointee?.(storage.pointee.entry);
      return whole && new TypedValue(plain.target, whole.storage, { offset: whole.offset + storage.pointee.offset });
    }
    const expression = this.expression === undefined ? undefined : `*${enclose(this.expression)}`;
    return new TypedValue(plain.target, new MemoryStorage(storage.memory, this.number()), { expression, findPointee });
  }

  /** Its address as a pointer. @throws Unavailable when it has none. */
  pointer(): TypedValue {
    const { address } = this;
    if (address === undefined) throw new Unavailable(this.bits ? 'a bit field' : 'not in memory');
    return madeValue(pointerTo(this.type, 8), address, this.storage);
  }

  /** @throws RequestError, Unavailable. */
  assign(number: bigint): void {
    if (this.isFloat) {
      this.assignFloat(Number(number));
      return;
    }
    if (!this.isScalar) throw errors.notWritable('The value', `it is of type ${this.type.name}; change its parts`);
    if (!this.bits) {
      this.storage.write(this.offset, bytesOf(BigInt.asUintN(8 * this.size, number), this.size));
      return;
    }
    writeBits(this.storage, this.bits.offset, this.bits.size, number);
  }

  /** @param value a floating-point number. */
  assignFloat(value: number): void {
    if (this.isFloat) {
      // Of an extended number only 10 bytes are used.
      const size = Math.min(this.size, 10);
      this.storage.write(this.offset, bytesOf(bitsOfFloat(value, size), size));
    } else if (Number.isFinite(value)) this.assign(BigInt(Math.trunc(value)));
    else throw errors.notWritable('The value', `${value} is no whole number`);
  }
}

/** Parentheses around an expression that a member, index or dereference follows, unless it needs none. */
const enclose = (expression: string): string =>
  /^[\w.:$]+(\[[^\]]*\]|->[\w.]+|\.[\w.]+)*$/.test(expression) ? expression : `(${expression})`;

/** What a reference of C++ refers to, where that is known; other values themselves. */
export function referred(value: TypedValue): TypedValue {
  if (value.plain.kind !== 'reference') return value;
  try {
    return value.target() ?? value;
  } catch (error) {
    if (error instanceof Unavailable) return value;
    throw error;
  }
}

/** A value that is nowhere but in an expression. @param like whose memory its pointers lead to. */
export function madeValue(type: Type, number: bigint, like: Pick<Storage, 'memory'>): TypedValue {
  const size = strip(type).size ?? 8;
  return new TypedValue(type, new ValueStorage(like.memory, bytesOf(BigInt.asUintN(8 * size, number), size)));
}

/** What stands in the place of a value that is not there. */
export const missing = (why: string): string => `<${why}>`;
