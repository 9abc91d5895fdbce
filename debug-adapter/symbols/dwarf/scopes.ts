/** What a name means at a place of the program: functions, blocks, and the variables and types that they declare. */

import { Recent } from '../recent.ts';
import { AT, TAG } from './constants.ts';
import type { DebugInformation } from './debug-information.ts';
import { covers, entryPoint, rangesOf } from './lists.ts';
import { unitsNaming } from './name-search.ts';
import { canMean, lastName } from './qualified-names.ts';
import { isTypeTag, qualified, strip, type Type, TypeReader } from './types.ts';
import type { Entry, Unit } from './unit.ts';

/** A function as it runs at an address: by itself, or inlined into the next one of the list. */
export interface Activation {
  /** DW_TAG_subprogram, or DW_TAG_inlined_subroutine. */
  readonly entry: Entry;
  /** The function's outermost block, and those inside it that cover the address. */
  readonly blocks: readonly Entry[];
  readonly name: string;
  /** Where it was inlined: line and column, and the file's number in the unit's line table. */
  readonly call: { readonly file: number; readonly line: number; readonly column: number } | undefined;
  /** Its first instruction. */
  readonly start: bigint | undefined;
}

export interface VariableEntry {
  readonly name: string;
  readonly entry: Entry;
  readonly isParameter: boolean;
}

interface FunctionEntry {
  readonly start: bigint;
  readonly end: bigint;
  readonly entry: Entry;
}

/** Addresses of which it is kept what is under way there. */
const MOST_ACTIVATIONS = 10_000;
const BLOCKS: readonly number[] = [TAG.lexicalBlock, TAG.inlinedSubroutine];

export class Scopes {
  readonly info: DebugInformation;
  readonly types: TypeReader;
  private readonly functions = new WeakMap<Unit, readonly FunctionEntry[]>();
  private readonly globalsByUnit = new WeakMap<Unit, readonly VariableEntry[]>();
  private readonly enumerators = new WeakMap<Unit, ReadonlyMap<string, readonly Entry[]>>();
  private readonly found = new Map<string, Entry | undefined>();
  private readonly activations = new Recent<bigint, readonly Activation[]>(MOST_ACTIVATIONS);
  private readonly variables = new WeakMap<Activation, readonly VariableEntry[]>();

  constructor(info: DebugInformation) {
    this.info = info;
    this.types = new TypeReader((entry) => this.definitionOf(entry));
  }

  /** Functions of a unit with code. */
  private functionsOf(unit: Unit): readonly FunctionEntry[] {
    const known = this.functions.get(unit);
    if (known) return known;
    const functions: FunctionEntry[] = [];
    for (let index = 0; index < unit.length; index++) {
      if (unit.abbreviation(index).tag !== TAG.subprogram) continue;
      const entry = unit.entry(index);
      functions.push(...rangesOf(entry).map((range) => ({ ...range, entry })));
    }
    this.functions.set(unit, functions);
    return functions;
  }

  functionAt(address: bigint): Entry | undefined {
    const unit = this.info.unitAt(address);
    if (!unit) return undefined;
    // Of functions inside functions the inner one follows the outer one.
    return this.functionsOf(unit).findLast(({ start, end }) => address >= start && address < end)?.entry;
  }

  /** The functions that are under way at an address, the innermost inlined one first; none where nothing is known. */
  activationsAt(address: bigint): readonly Activation[] {
    return this.activations.get(address, () => this.findActivations(address));
  }

  private findActivations(address: bigint): readonly Activation[] {
    const home = this.functionAt(address);
    if (!home) return [];
    const chain: Entry[][] = [[home]];
    for (let at: Entry | undefined = home; at; ) {
      at = at.children.find((child) => BLOCKS.includes(child.tag) && covers(child, address));
      if (at?.tag === TAG.inlinedSubroutine) chain.push([at]);
      else if (at) chain.at(-1)?.push(at);
    }
    return chain.reverse().flatMap((blocks) => (blocks[0] ? [activation(blocks[0], blocks)] : []));
  }

  /** Variables of an activation, those of inner blocks first; of equal names the innermost one only. */
  variablesOf(activation: Activation): readonly VariableEntry[] {
    const known = this.variables.get(activation);
    if (known) return known;
    const variables = visibleIn(activation);
    this.variables.set(activation, variables);
    return variables;
  }

  /** Variables that a unit defines outside of functions. */
  globalsOf(unit: Unit): readonly VariableEntry[] {
    const known = this.globalsByUnit.get(unit);
    if (known) return known;
    const globals = topLevel(unit.root)
      .filter((entry) => entry.tag === TAG.variable && hasPlace(entry))
      .map((entry) => ({ name: qualified(entry), entry, isParameter: false }));
    this.globalsByUnit.set(unit, globals);
    return globals;
  }

  /** A variable outside of functions: of the unit that covers an address, else of any other. */
  globalNamed(name: string, address: bigint): Entry | undefined {
    const unit = this.info.unitAt(address);
    const own = unit && this.globalsOf(unit).find((global) => canMean(global.name, name));
    return own?.entry ?? this.search(name, 'variable', (entry) => entry.tag === TAG.variable && hasPlace(entry));
  }

  /** A constant of an enumeration: of the unit that covers an address, of another one only by a name with `::`. */
  enumeratorNamed(name: string, address: bigint): { readonly type: Type; readonly value: bigint } | undefined {
    const entry = this.enumerator(name, this.info.unitAt(address));
    const parent = entry?.parent;
    const type = parent && this.types.type(parent);
    const plain = type && strip(type);
    const found = plain?.kind === 'enumeration' && plain.values.find((constant) => constant.name === entry?.name);
    return type && found ? { type, value: found.value } : undefined;
  }

  private enumerator(name: string, unit: Unit | undefined): Entry | undefined {
    const plain = lastName(name);
    const isMeant = (entry: Entry): boolean => enumeratorNames(entry).some((whole) => canMean(whole, name));
    const own = unit && this.enumeratorsOf(unit).get(plain)?.find(isMeant);
    if (own || !name.includes('::')) return own;
    const key = `enumerator ${name}`;
    if (!this.found.has(key)) {
      const units = [...unitsNaming(this.info, plain)];
      this.found.set(key, units.flatMap((other) => this.enumeratorsOf(other).get(plain) ?? []).find(isMeant));
    }
    return this.found.get(key);
  }

  /** Constants of all enumerations of a unit, by the last part of their names. */
  private enumeratorsOf(unit: Unit): ReadonlyMap<string, readonly Entry[]> {
    const known = this.enumerators.get(unit);
    if (known) return known;
    const found = new Map<string, Entry[]>();
    for (let index = 0; index < unit.length; index++) {
      if (unit.abbreviation(index).tag !== TAG.enumerator) continue;
      const entry = unit.entry(index);
      const { name = '' } = entry;
      found.set(name, [...(found.get(name) ?? []), entry]);
    }
    this.enumerators.set(unit, found);
    return found;
  }

  /** The first instruction of a function of the unit that covers an address. */
  functionNear(name: string, address: bigint): bigint | undefined {
    const unit = this.info.unitAt(address);
    const found = unit && this.functionsOf(unit).find(({ entry }) => canMean(functionName(entry), name));
    return found && (entryPoint(found.entry) ?? found.start);
  }

  /** First instructions of functions by name, with the namespaces and classes around it or without any. */
  functionsNamed(name: string): readonly bigint[] {
    const plain = lastName(name);
    const found: bigint[] = [];
    for (const unit of unitsNaming(this.info, plain)) {
      for (const { entry, start } of this.functionsOf(unit)) {
        if (entry.name !== plain || (plain !== name && !canMean(functionName(entry), name))) continue;
        found.push(entryPoint(entry) ?? start);
      }
    }
    return [...new Set(found)];
  }

  /** A type by its name with or without 'struct', 'union', 'enum' or 'class' in front of it. */
  typeNamed(text: string, address: bigint): Type | undefined {
    const [, keyword, name = ''] = /^(?:(struct|union|enum|class)\s+)?(.+)$/.exec(text) ?? [];
    const fits = (entry: Entry): boolean =>
      isTypeTag(entry.tag) &&
      (!entry.own(AT.declaration) || entry.own(AT.signature) !== undefined) &&
      (keyword === undefined || (KEYWORD_TAGS[keyword] ?? []).includes(entry.tag)) &&
      names(entry, name);
    const unit = this.info.unitAt(address);
    const entry = (unit && declaredIn(unit.root, name).find(fits)) ?? this.search(name, keyword ?? 'type', fits);
    return entry && this.types.type(entry);
  }

  private definitionOf(entry: Entry): Entry | undefined {
    const { name } = entry;
    if (name === undefined) return undefined;
    return this.search(
      name,
      `definition ${entry.tag}`,
      (other) => other.tag === entry.tag && !other.own(AT.declaration),
    );
  }

  /** @param kind what is looked for: the answer is remembered by kind and name. */
  private search(name: string, kind: string, fits: (entry: Entry) => boolean): Entry | undefined {
    const key = `${kind} ${name}`;
    if (this.found.has(key)) return this.found.get(key);
    const plain = lastName(name);
    let found: Entry | undefined;
    for (const unit of unitsNaming(this.info, plain)) {
      found = declaredIn(unit.root, name).find((entry) => fits(entry) && names(entry, name));
      if (found) break;
    }
    this.found.set(key, found);
    return found;
  }
}

/** Whether an entry has a name; most have another last part, which is quickly seen. */
function names(entry: Entry, name: string): boolean {
  const plain = lastName(name);
  return entry.name === plain && (plain === name || canMean(qualified(entry), name));
}

const KEYWORD_TAGS: Readonly<Record<string, readonly number[]>> = {
  struct: [TAG.structureType, TAG.classType],
  class: [TAG.structureType, TAG.classType],
  union: [TAG.unionType],
  enum: [TAG.enumerationType],
};
const NAMESPACES: readonly number[] = [TAG.namespace];
const NAMESPACES_AND_TYPES: readonly number[] = [
  TAG.namespace,
  TAG.structureType,
  TAG.classType,
  TAG.unionType,
  TAG.enumerationType,
];

/** Entries outside of functions: of the unit and of the namespaces in it. @param containers whose entries count, too */
function topLevel(root: Entry, containers = NAMESPACES): Entry[] {
  return root.children.flatMap((entry) =>
    containers.includes(entry.tag) ? [entry, ...topLevel(entry, containers)] : [entry],
  );
}

/** What a name can mean: with `::`, also what is inside of types. */
const declaredIn = (root: Entry, name: string): Entry[] =>
  topLevel(root, name.includes('::') ? NAMESPACES_AND_TYPES : NAMESPACES);

/** What sources write for a constant: with the enumeration's name, and where that has no scope of its own without. */
function enumeratorNames({ name = '', parent }: Entry): string[] {
  const around = [parent, parent?.parent].map((outer) => (outer ? qualified(outer) : ''));
  return around.map((outer) => (outer === '' ? name : `${outer}::${name}`));
}

/** Whether an entry defines a variable, and does not only declare it. */
const hasPlace = (entry: Entry): boolean =>
  entry.own(AT.location) !== undefined || entry.own(AT.constantValue) !== undefined;

function activation(entry: Entry, blocks: readonly Entry[]): Activation {
  const line = entry.own(AT.callLine)?.raw;
  const number = (name: number): number => {
    const raw = entry.own(name)?.raw;
    return typeof raw === 'bigint' ? Number(raw) : 0;
  };
  const call =
    typeof line === 'bigint'
      ? { file: number(AT.callFile), line: Number(line), column: number(AT.callColumn) }
      : undefined;
  return { entry, blocks, name: functionName(entry), call, start: entryPoint(entry) };
}

/** With the namespaces and classes around its declaration, and before them the function that a local class is in. */
function functionName({ origin }: Entry): string {
  let outer = origin.parent;
  while (outer && outer.tag !== TAG.subprogram) outer = outer.parent;
  const name = qualified(origin);
  if (!outer) return name;
  const outerName = functionName(outer);
  const namespace = outerName.slice(0, outerName.lastIndexOf('::') + 2);
  return `${outerName}::${namespace !== '' && name.startsWith(namespace) ? name.slice(namespace.length) : name}`;
}

function variablesIn(block: Entry): VariableEntry[] {
  const own = block.children;
  const variables = own.filter(isVariable);
  const origin = block.reference(AT.abstractOrigin);
  const abstract = origin ? leftOut(origin, own) : [];
  return [...variables, ...abstract].flatMap((entry) => {
    const { name } = entry;
    return name === undefined ? [] : [{ name, entry, isParameter: entry.tag === TAG.formalParameter }];
  });
}

const isVariable = (entry: Entry): boolean =>
  entry.tag === TAG.formalParameter || (entry.tag === TAG.variable && !entry.flag(AT.declaration));

/** Variables of the abstract function that this instance of it does not mention: they have been optimised out. */
function leftOut(origin: Entry, concrete: readonly Entry[]): Entry[] {
  const mentioned = new Set(concrete.map((entry) => entry.reference(AT.abstractOrigin)?.offset));
  return origin.children.filter((entry) => isVariable(entry) && !mentioned.has(entry.offset));
}

function visibleIn({ blocks }: Activation): VariableEntry[] {
  const byName = new Map<string, VariableEntry>();
  for (const block of blocks.toReversed()) {
    for (const variable of variablesIn(block)) {
      if (!byName.has(variable.name)) byName.set(variable.name, variable);
    }
  }
  return [...byName.values()];
}
