/** What differs between two processors' states and RAM: for comparing compiled code with the interpreter. */

import { readRflags } from '../cpu/rflags.ts';
import { TLB_HITS } from '../mmu/tlb.ts';
import { countOf, GPR, OFFSET, REGION, SEGMENT, type StateField, widthOf } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { VMCS_FIELDS, VMCS_REGION } from '../vmx/fields.ts';

export interface Difference {
  /** A register, an element of a state field ('msrMtrrPhys[3]'), a VMCS field, or a place in RAM. */
  readonly name: string;
  /** In the first and in the second state. */
  readonly values: readonly [bigint, bigint];
}

/** Fields that say how the engine got here, or hold values in passing; the status flags are compared as RFLAGS. */
const ENGINE_FIELDS: ReadonlySet<StateField> = new Set([
  'zero', 'codeBase', 'codeTable', 'flagResult', 'flagCarry', 'flagMisc', 'rflagsSystem', 'budget', 'exitCode',
  'exitRecord', 'codeDropped', 'scratch', 'bounce', 'tlbContext', 'tlbOffset',
]); // biome-ignore format: a list reads better in rows

export const COMPARED_FIELDS = (Object.keys(OFFSET) as StateField[]).filter((field) => !ENGINE_FIELDS.has(field));

const byNumber = (names: Readonly<Record<string, number>>): ReadonlyMap<number, string> =>
  new Map(Object.entries(names).map(([name, number]) => [number, name]));
const GPR_NAMES = byNumber(GPR);
const SEGMENT_NAMES = byNumber(SEGMENT);

function nameOf(field: StateField, index: number): string {
  if (field === 'gpr') return GPR_NAMES.get(index) ?? '';
  if (field === 'ymm') return `ymm${index}`;
  if (field.startsWith('segment')) return `${SEGMENT_NAMES.get(index)}.${field.slice('segment'.length).toLowerCase()}`;
  return countOf(field) === 1 ? field : `${field}[${index}]`;
}

const bytesAt = (state: State, at: number, width: number): bigint => {
  let value = 0n;
  for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(state.bytes[at + i] as number);
  return value;
};

const VMCS_PARTS: readonly { readonly name: string; readonly offset: number }[] = [
  { name: 'VMCS revision and abort indicator', offset: VMCS_REGION.revision },
  { name: 'VMCS launch state', offset: VMCS_REGION.launchState },
  ...VMCS_FIELDS,
];

function vmcsDifferences(a: State, b: State): Difference[] {
  return VMCS_PARTS.map(({ name, offset }) => {
    const at = OFFSET.vmcs + offset;
    return { name, values: [bytesAt(a, at, 8), bytesAt(b, at, 8)] as const };
  }).filter(({ values: [first, second] }) => first !== second);
}

function fieldDifferences(a: State, b: State, field: StateField): Difference[] {
  const width = widthOf(field);
  return Array.from({ length: countOf(field) }, (_, index) => {
    const at = OFFSET[field] + index * width;
    return { name: nameOf(field, index), values: [bytesAt(a, at, width), bytesAt(b, at, width)] as const };
  }).filter(({ values: [first, second] }) => first !== second);
}

/** Whether two states have the same bytes from `start` on; multiples of 4. */
function sameBytes(a: State, b: State, start: number, bytes: number): boolean {
  const [x, y] = [a.i32, b.i32];
  const end = (start + bytes) >>> 2;
  for (let i = start >>> 2; i < end; i++) if (x[i] !== y[i]) return false;
  return true;
}

/** Whether `processorDifferences` finds nothing, without making anything. */
function sameProcessor(a: State, b: State): boolean {
  for (const field of COMPARED_FIELDS) {
    if (!sameBytes(a, b, OFFSET[field], widthOf(field) * countOf(field))) return false;
  }
  return readRflags(a) === readRflags(b);
}

/** All architectural differences outside memory: registers, MSRs, VMX state, the current VMCS, and counts. */
export function processorDifferences(a: State, b: State): readonly Difference[] {
  if (sameProcessor(a, b)) return [];
  const flags = [BigInt(readRflags(a)), BigInt(readRflags(b))] as const;
  return [
    ...(flags[0] === flags[1] ? [] : [{ name: 'rflags', values: flags }]),
    ...COMPARED_FIELDS.filter((field) => field !== 'vmcs').flatMap((field) => fieldDifferences(a, b, field)),
    ...vmcsDifferences(a, b),
  ];
}

/** A stretch of linear memory: a page of RAM, or of the architectural TLB all but its counts of hits. */
export interface Stretch {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

const HITS_END = TLB_HITS.offset + TLB_HITS.size;
const TLB: readonly Stretch[] = [
  { name: 'TLB', start: REGION.tlb.start, size: TLB_HITS.offset },
  { name: 'TLB behind its hits', start: REGION.tlb.start + HITS_END, size: REGION.tlb.size - HITS_END },
];
const PAGE = 4096;
const pageOfRam = (physical: number): Stretch => ({
  name: `RAM 0x${physical.toString(16)}`,
  start: REGION.ram.start + physical,
  size: PAGE,
});

/** The first stretches of memory that differ, at most `most`. Takes some tenths of a second for 512 MiB. */
export function differentStretches(a: State, b: State, most = 8): readonly Stretch[] {
  const found = TLB.filter(({ start, size }) => !sameBytes(a, b, start, size));
  for (let physical = 0; physical < a.ramSize && found.length < most; physical += PAGE) {
    if (!sameBytes(a, b, REGION.ram.start + physical, PAGE)) found.push(pageOfRam(physical));
  }
  return found;
}

/** The first 8 bytes that differ in each of some stretches. */
export function stretchDifferences(a: State, b: State, stretches: readonly Stretch[]): readonly Difference[] {
  return stretches.flatMap(({ name, start, size }) => {
    for (let at = start; at < start + size; at += 8) {
      if (sameBytes(a, b, at, 8)) continue;
      const place = `${name}${at === start ? '' : `+0x${(at - start).toString(16)}`}`;
      return [{ name: place, values: [bytesAt(a, at, 8), bytesAt(b, at, 8)] as const }];
    }
    return [];
  });
}
