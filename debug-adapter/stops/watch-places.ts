/**
 * What a data breakpoint is on, as text. A data id is one of
 *
 *   linear:0x1000/8, vmm:…, guest:…, gpa:…, hpa:…, iova:00:01.0:0x1000/8    memory: address and bytes
 *   pte:0x1000, epte:0x1000       the entry that maps a linear (of one world: pte:guest:0x1000), guest-physical page
 *   vmcs:GUEST_RIP                a field of the current VMCS
 *   msr:IA32_LSTAR, msr:0x10      an MSR
 *   port:0x3f8, port:0x3f8/8      I/O ports
 *   register:rax, register:guest.cr3
 *
 * so that it means the same in another session. Names that a client gives may be expressions, too.
 */

import type { World } from '../../sim-core/machine/api.ts';
import { registerByName } from '../../sim-core/machine/registers.ts';
import { isWatchable } from '../../sim-core/machine/watching/register-use.ts';
import { tablePath } from '../../sim-core/machine/watching/table-path.ts';
import type { Watch } from '../../sim-core/machine/watching/watch.ts';
import { fieldByEncoding, fieldByName } from '../../sim-core/vmx/fields.ts';
import { TargetEnvironment, worldOfScope } from '../expressions/environment.ts';
import { type Environment, evaluate } from '../expressions/evaluate.ts';
import { parseExpression } from '../expressions/parser.ts';
import type { Target } from '../running/target.ts';
import type { TypedValue } from '../symbols/typed-value.ts';
import { formatPlace, hex, type Place, parsePlace, wrap64 } from '../worlds/memory-reference.ts';
import type { Frame } from '../worlds/unwind.ts';
import { msrName, msrNumber } from './instruction-kinds.ts';

/** What is watched, before it is known for which accesses. */
export type Watchable = Watch extends infer Each ? (Each extends Watch ? Omit<Each, 'access'> : never) : never;

/** Why something cannot be watched: a sentence. */
export class NotWatchable extends Error {}

const LARGEST = 2 ** 40;

function lengthOf(text: string | undefined, otherwise: number): number {
  const length = text === undefined ? otherwise : Number(text);
  if (!Number.isInteger(length) || length < 1 || length > LARGEST) {
    throw new NotWatchable(`${text ?? length} is no number of bytes between 1 and ${LARGEST}.`);
  }
  return length;
}

/** The watch on `length` bytes from a place on. */
function memoryWatch({ space, address, requester }: Place, length: number): Watchable {
  if (space === 'iova') return { kind: 'dma', requester: requester ?? 0, address, length };
  if (space === 'vmm' || space === 'guest') return { kind: 'memory', space: 'linear', world: space, address, length };
  if (space === 'linear' || space === 'gpa' || space === 'hpa') return { kind: 'memory', space, address, length };
  throw new NotWatchable(`Memory cannot be watched by ${space} addresses.`);
}

type Reader = (target: Target, rest: string, length: string | undefined) => Watchable;

/** The kinds that stand in front of a colon. */
const KINDS: Readonly<Record<string, Reader>> = {
  vmcs: (_target, rest) => {
    const field = fieldByName(rest);
    if (!field) throw new NotWatchable(`'${rest}' is no VMCS field: use the manual's name, e.g. GUEST_RIP.`);
    return { kind: 'field', encoding: field.encoding };
  },
  msr: (_target, rest) => {
    const index = msrNumber(rest);
    if (index === undefined) throw new NotWatchable(`'${rest}' is no MSR: use the manual's name or a number.`);
    return { kind: 'msr', index };
  },
  port: (_target, rest, length) => {
    const port = /^(0x[0-9a-f]+|\d+)$/i.test(rest) ? Number(rest) : Number.NaN;
    if (!(port <= 0xffff)) throw new NotWatchable(`'${rest}' is no I/O port.`);
    return { kind: 'port', port, ports: lengthOf(length, 1) };
  },
  register: (_target, rest) => registerWatch(rest),
  pte: (target, rest) => entryWatch(target, parsePlace(rest)),
  epte: (_target, rest) => eptEntryWatch(parsePlace(rest)),
};

/** Registers that are MSRs are watched as those. */
function registerWatch(name: string): Watchable {
  const dot = name.indexOf('.');
  const world: World | undefined = dot > 0 ? worldOfScope(name.slice(0, dot).toLowerCase()) : undefined;
  const register = registerByName(world ? name.slice(dot + 1) : name);
  if (!register) throw new NotWatchable(`There is no register '${name}'.`);
  const msr = msrNumber(register.name === 'efer' ? 'IA32_EFER' : register.name);
  if (msr !== undefined) return { kind: 'msr', index: msr, world };
  if (!isWatchable(register.name)) {
    throw new NotWatchable(`${register.name} cannot be watched: it changes without instructions that name it.`);
  }
  return { kind: 'register', name: register.name, world };
}

/** The entry of a world's own paging structures that ends the translation of an address. */
function entryWatch({ machine }: Target, { space, address }: Place): Watchable {
  if (space !== 'linear' && space !== 'vmm' && space !== 'guest') {
    throw new NotWatchable('A page-table entry is named by the linear address that it maps.');
  }
  return { kind: 'tableEntry', of: 'linear', address, world: space === 'linear' ? machine.world : space };
}

function eptEntryWatch({ space, address }: Place): Watchable {
  if (space !== 'gpa' && space !== 'linear') {
    throw new NotWatchable('An EPT entry is named by the guest-physical address that it maps.');
  }
  return { kind: 'tableEntry', of: 'gpa', address, world: 'guest' };
}

/** What a watch waits for before it can see anything; undefined: nothing. */
export function awaitedBy({ machine }: Target, watch: Watch): string | undefined {
  if (watch.kind !== 'tableEntry' || tablePath(watch, machine).last) return undefined;
  const { address, of, world } = watch;
  if (of === 'gpa') return 'No EPT translates guest-physical addresses now: it waits for that.';
  return `No page-table entry leads to ${hex(address)} of the ${world === 'vmm' ? 'VMM' : 'guest'} now: it waits for one.`;
}

/** @throws NotWatchable, or RequestError for a bad address */
export function parseDataId(target: Target, id: string): Watchable {
  const [, kind = '', rest = '', length] = /^\s*([a-z]+):(.*?)(?:\/(0x[0-9a-f]+|\d+))?\s*$/i.exec(id) ?? [];
  const reader = Object.hasOwn(KINDS, kind.toLowerCase()) ? KINDS[kind.toLowerCase()] : undefined;
  if (reader) return reader(target, rest.trim(), length);
  const slash = length === undefined ? id : id.slice(0, id.lastIndexOf('/'));
  return memoryWatch(parsePlace(slash), lengthOf(length, 1));
}

/** Whether a name is a data id already: with a kind in front, or an address of a device. */
const isDataId = (name: string): boolean => {
  const kind = /^\s*([a-z]+):/i.exec(name)?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(KINDS, kind) || kind === 'iova';
};

export interface DataIdRequest {
  /** An expression or a data id; with `asAddress` an address. */
  readonly name: string;
  readonly bytes?: number | undefined;
  readonly asAddress?: boolean | undefined;
  readonly frame?: Frame | undefined;
}

/** The data id that a name stands for now. @throws NotWatchable, or RequestError for what cannot be evaluated */
export function dataIdOf(target: Target, { name, bytes, asAddress, frame }: DataIdRequest): string {
  if (isDataId(name)) {
    const id = name.trim() + (bytes === undefined || /\/\w+\s*$/.test(name) ? '' : `/${bytes}`);
    parseDataId(target, id);
    return id;
  }
  if (asAddress)
    return `${formatPlace(parsePlace(/^[0-9a-f]+$/i.test(name.trim()) ? `0x${name.trim()}` : name))}/${bytes ?? 1}`;
  const node = parseExpression(name);
  const environment: Environment = new TargetEnvironment(target, frame);
  if (node.kind === 'name') {
    const known = nameOfMachine(node.name.replace(/^\$/, ''));
    // `guest.cr3` is the register even where a variable is called guest.
    if (known && (node.name.includes('.') || !environment.program?.variable(node.name))) return known;
  }
  const world = frame?.view.world ?? 'linear';
  const read = node.kind === 'memory' ? evaluate(node.address, environment) : evaluate(node, environment);
  if (read.typed && node.kind !== 'memory') return variableId(read.typed, bytes);
  const size = node.kind === 'memory' ? node.bytes : symbolSize(target, name);
  const length = bytes ?? size ?? environment.wordBytes;
  return `${formatPlace({ space: read.space ?? world, address: wrap64(read.number) })}/${length}`;
}

/** The data id of a field or register; undefined when nothing of the machine has the name. */
function nameOfMachine(name: string): string | undefined {
  const dot = name.indexOf('.');
  const [scope, rest] = [name.slice(0, Math.max(dot, 0)).toLowerCase(), name.slice(dot + 1)];
  if (scope === 'vmcs') return `vmcs:${fieldByName(rest)?.name ?? rest}`;
  if (scope === 'msr') return `msr:${rest.toUpperCase()}`;
  if (!registerByName(worldOfScope(scope) ? rest : name)) return undefined;
  registerWatch(name);
  return `register:${name.toLowerCase()}`;
}

/** The data id of a variable of the program. @throws NotWatchable when it is not in memory */
export function variableId(variable: TypedValue, bytes?: number): string {
  const { address, size, storage } = variable;
  if (address === undefined) throw new NotWatchable('It is in a register or optimised out: watch the register.');
  return `${storage.memory.space}:${hex(address)}/${bytes ?? Math.max(1, size)}`;
}

/** The size of a variable that the symbol table knows. */
function symbolSize(target: Target, name: string): number | undefined {
  for (const { program } of target.programs) {
    const size = program.symbolNamed(name.trim())?.symbol.size;
    if (size !== undefined && size > 0n) return Number(size);
  }
  return undefined;
}

/** What a watch is on, for people: 'GUEST_RIP', 'guest-linear 0x1000'. */
export function describeWatch(watch: Watch): string {
  switch (watch.kind) {
    case 'field':
      return fieldByEncoding(watch.encoding)?.field.name ?? hex(watch.encoding);
    case 'msr':
      return msrName(watch.index);
    case 'register':
      return watch.world ? `${watch.world}.${watch.name}` : watch.name;
    case 'port':
      return `port ${hex(watch.port)}`;
    case 'event':
      return watch.event === 'ring3' ? 'CPL' : 'CR3';
    case 'dma':
      return formatPlace({ space: 'iova', address: watch.address, requester: watch.requester });
    case 'tableEntry':
      return watch.of === 'gpa' ? `epte:${hex(watch.address)}` : `pte:${watch.world}:${hex(watch.address)}`;
    case 'memory':
      return formatPlace({ space: watch.world ?? watch.space, address: watch.address });
  }
}
