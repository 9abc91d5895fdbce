/** Where a Linux kernel has put the sections of a module: in its list of modules, by its debug information. */

import { RequestError } from '../errors.ts';
import type { Target } from '../running/target.ts';
import { FormatError } from '../symbols/byte-reader.ts';
import { Unavailable } from '../symbols/dwarf/location-expressions.ts';
import { sectionNamed } from '../symbols/elf.ts';
import type { SectionPlaces } from '../symbols/object-file.ts';
import { baseName } from '../symbols/paths.ts';
import type { Program } from '../symbols/program.ts';
import { TypedValue } from '../symbols/typed-value.ts';
import { FrameScope, worldMemory } from '../views/frame-scope.ts';
import { MemoryStorage } from './storage.ts';
import { innermostFrame } from './unwind.ts';
import type { WorldView } from './world-view.ts';

/** A list that is longer is none. */
const MOST_MODULES = 1000;
const MOST_SECTIONS = 1000;
const LONGEST_NAME = 256;
/** The kernel frees these when a module's start function has returned (its state is then MODULE_STATE_LIVE). */
const ONLY_AT_START = /^\.init\./;
const MODULE_STATE_LIVE = 0n;

/** Undefined when the kernel, its debug information or the module is not there. */
export function findModule(target: Target, view: WorldView, module: Program): SectionPlaces | undefined {
  try {
    return findNamed(target, view, nameOf(module));
  } catch (error) {
    // What is looked at may be no such kernel, or in the middle of a change.
    if (error instanceof Unavailable || error instanceof RequestError || error instanceof FormatError) return undefined;
    throw error;
  }
}

const decoder = new TextDecoder();

/** As the module calls itself in .modinfo; kvm-intel.ko is kvm_intel. */
function nameOf({ elf, path }: Program): string {
  const information = sectionNamed(elf, '.modinfo');
  const lines = information ? decoder.decode(information.read(0, information.size)).split('\0') : [];
  const own = lines.find((line) => line.startsWith('name='))?.slice('name='.length);
  return own ?? baseName(path).replace(/\.ko$/, '').replaceAll('-', '_');
}

function findNamed(target: Target, view: WorldView, name: string): SectionPlaces | undefined {
  const scope = new FrameScope(target, innermostFrame(view));
  const head = scope.global('modules');
  const type = head && scope.type('struct module');
  if (head?.address === undefined || type?.kind !== 'record') return undefined;
  const linkOffset = type.members.find((member) => member.name === 'list')?.offset ?? 0;
  const memory = worldMemory(view);
  let link = part(head, 'next').number();
  for (let count = 0; link !== head.address && count < MOST_MODULES; count++) {
    const module = new TypedValue(type, new MemoryStorage(memory, link - BigInt(linkOffset)));
    if (textOf(part(module, 'name').bytes()) === name) return sectionsOf(module, view);
    link = part(part(module, 'list'), 'next').number();
  }
  return undefined;
}

function sectionsOf(module: TypedValue, view: WorldView): SectionPlaces | undefined {
  const isLive = part(module, 'state').number() === MODULE_STATE_LIVE;
  const pointer = part(module, 'sect_attrs');
  if (pointer.number() === 0n) return undefined;
  const attributes = pointer.target();
  if (!attributes) return undefined;
  const count = Math.min(Number(part(attributes, 'nsections').number()), MOST_SECTIONS);
  const places = new Map<string, bigint>();
  for (let index = 0; index < count; index++) {
    const attribute = part(attributes, 'attrs').element(index);
    if (!attribute) continue;
    const nameAt = part(part(part(attribute, 'battr'), 'attr'), 'name').number();
    const name = textOf(view.read(nameAt, LONGEST_NAME));
    if (!isLive || !ONLY_AT_START.test(name)) places.set(name, part(attribute, 'address').number());
  }
  return places;
}

/** @throws Unavailable: another version of the kernel may have other members. */
function part(value: TypedValue, name: string): TypedValue {
  const found = value.memberNamed(name);
  if (!found) throw new Unavailable(`${value.type.name} has no ${name}`);
  return found;
}

/** Up to the zero byte. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}
