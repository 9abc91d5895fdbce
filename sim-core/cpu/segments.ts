/** Segment registers: descriptors, loading with all checks, and the address check of the slow paths. */

import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { checkSegmentAccess } from '../mmu/segmentation.ts';
import { RIGHTS } from '../state/control-bits.ts';
import { OFFSET, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { hasRealSegments, in64BitMode, inLongMode, inVirtual8086, isCanonical, updateCodeMode } from './modes.ts';

/** A descriptor of GDT or LDT. `low` and `high` are its first and second doubleword as they stand in memory. */
export interface Descriptor {
  readonly selector: number;
  /** Linear address of the descriptor. */
  readonly at: bigint;
  readonly low: number;
  readonly high: number;
  /** Access rights in the VMCS format. */
  readonly rights: number;
}

export const isFault = <T>(value: T | Fault): value is Fault =>
  typeof value === 'object' && value !== null && 'kind' in value;

export const isNull = (selector: number): boolean => (selector & ~3) === 0;
export const privilegeOf = (rights: number): number => (rights & RIGHTS.dpl) >>> 5;
export const isPresent = (rights: number): boolean => (rights & RIGHTS.present) !== 0;
export const isCode = (rights: number): boolean =>
  (rights & (RIGHTS.codeOrData | RIGHTS.code)) === (RIGHTS.codeOrData | RIGHTS.code);
export const isConforming = (rights: number): boolean => (rights & RIGHTS.conforming) !== 0;
export const isWritableData = (rights: number): boolean =>
  (rights & (RIGHTS.codeOrData | RIGHTS.code | RIGHTS.writable)) === (RIGHTS.codeOrData | RIGHTS.writable);
/** System-segment or gate type; -1 for code and data. */
export const systemType = (rights: number): number => ((rights & RIGHTS.codeOrData) !== 0 ? -1 : rights & 0xf);

export const descriptorBase = (descriptor: Descriptor): number =>
  ((descriptor.high & 0xff00_0000) | ((descriptor.high & 0xff) << 16) | (descriptor.low >>> 16)) >>> 0;

/** The limit in bytes, granularity applied. */
export function descriptorLimit(descriptor: Descriptor): number {
  const limit = (descriptor.high & 0xf_0000) | (descriptor.low & 0xffff);
  return (descriptor.rights & RIGHTS.granularity) !== 0 ? ((limit << 12) | 0xfff) >>> 0 : limit;
}

/**
 * Reads a descriptor that is not null.
 * @param fault vector raised with the selector when it lies outside its table: #GP, or #TS for a TSS's stack segments
 * @param external EXT bit of the error code
 */
export function readDescriptor(
  cpu: Cpu,
  selector: number,
  vector: number = VECTOR.gp,
  external = 0,
): Descriptor | Fault {
  const { state, mmu } = cpu;
  const outside = exception(vector, (selector & 0xfffc) | external);
  const local = (selector & 4) !== 0;
  if (local && (state.get32('segmentRights', SEGMENT.ldtr) & RIGHTS.unusable) !== 0) return outside;
  const limit = local ? state.get32('segmentLimit', SEGMENT.ldtr) : state.get32('gdtrLimit');
  if ((selector | 7) > limit) return outside;
  const table = local ? state.get64('segmentBase', SEGMENT.ldtr) : state.get64('gdtrBase');
  const at = toLinear(state, table + BigInt(selector & 0xfff8));
  const value = mmu.read(at, 8, true);
  if (typeof value === 'object') return value;
  const high = Number(value >> 32n);
  return { selector, at, low: Number(value & 0xffff_ffffn), high, rights: (high >>> 8) & 0xf0ff };
}

/** Truncates to 32 bits outside IA-32e mode. */
export const toLinear = (state: State, address: bigint): bigint => BigInt.asUintN(inLongMode(state) ? 64 : 32, address);

/** Sets the descriptor's accessed flag in memory, as loading it does. */
export function markAccessed(cpu: Cpu, descriptor: Descriptor): Fault | undefined {
  if ((descriptor.rights & RIGHTS.accessed) !== 0) return undefined;
  return cpu.mmu.write(descriptor.at + 5n, 1, BigInt(((descriptor.high >>> 8) & 0xff) | RIGHTS.accessed), true);
}

/** Writes a segment register as a whole and recomputes what is derived from it. CPL and paging stay the caller's. */
export function setSegment(
  state: State,
  index: SegmentIndex,
  selector: number,
  base: bigint,
  limit: number,
  rights: number,
): void {
  state.set32('segmentSelector', selector, index);
  state.set64('segmentBase', base, index);
  state.set32('segmentLimit', limit, index);
  state.set32('segmentRights', rights, index);
  updateSegmentTops(state, index);
  if (index === SEGMENT.cs || index === SEGMENT.ss) updateCodeMode(state);
}

/** Loads a segment register from a code or data descriptor that has passed its checks. */
export function setSegmentFrom(state: State, index: SegmentIndex, selector: number, descriptor: Descriptor): void {
  const rights = descriptor.rights | RIGHTS.accessed;
  setSegment(state, index, selector, BigInt(descriptorBase(descriptor)), descriptorLimit(descriptor), rights);
}

/** A null selector: the register becomes unusable. SS keeps the CPL in its DPL. */
export function setNullSegment(state: State, index: SegmentIndex, selector: number): void {
  const dpl = index === SEGMENT.ss ? (selector & 3) << 5 : 0;
  setSegment(state, index, selector, 0n, 0, RIGHTS.unusable | dpl);
}

/** Recomputes the fast limit checks of one segment: limit + 1 for expand-up segments that allow the access, else 0. */
export function updateSegmentTops(state: State, index: SegmentIndex): void {
  const rights = state.get32('segmentRights', index);
  const limit = state.get32('segmentLimit', index);
  const usable =
    (rights & (RIGHTS.unusable | RIGHTS.codeOrData | RIGHTS.present)) === (RIGHTS.codeOrData | RIGHTS.present);
  const code = (rights & RIGHTS.code) !== 0;
  const up = code || (rights & RIGHTS.expandDown) === 0;
  setTop(state, OFFSET.segmentReadTop, index, usable && up && (!code || (rights & RIGHTS.readable) !== 0), limit);
  setTop(state, OFFSET.segmentWriteTop, index, usable && up && !code && (rights & RIGHTS.writable) !== 0, limit);
}

function setTop(state: State, field: number, index: number, allowed: boolean, limit: number): void {
  const at = (field >>> 2) + 2 * index;
  state.u32[at] = allowed ? limit + 1 : 0;
  state.u32[at + 1] = allowed && limit === 0xffff_ffff ? 1 : 0;
}

const generalOrStack = (segment: number): Fault => exception(segment === SEGMENT.ss ? VECTOR.ss : VECTOR.gp, 0);

/**
 * Linear address of an offset in a segment, after all checks of the segment.
 * @param size bytes that will be accessed, at least 1
 */
export function segmentAddress(
  state: State,
  segment: number,
  offset: bigint,
  size: number,
  write: boolean,
): bigint | Fault {
  if (in64BitMode(state)) {
    const based = segment === SEGMENT.fs || segment === SEGMENT.gs;
    const linear = BigInt.asUintN(64, offset + (based ? state.get64('segmentBase', segment) : 0n));
    if (isCanonical(state, linear) && isCanonical(state, linear + BigInt(size - 1))) return linear;
    return generalOrStack(segment);
  }
  const fault = checkSegmentAccess(state, segment, Number(offset & 0xffff_ffffn), size, write);
  if (fault) return fault;
  return BigInt.asUintN(32, offset + state.get64('segmentBase', segment));
}

/** Loads ES, SS, DS, FS or GS as MOV, POP and LxS do. On a fault nothing has changed. */
export function loadSegment(cpu: Cpu, index: SegmentIndex, selector: number): Fault | undefined {
  const { state } = cpu;
  if (hasRealSegments(state)) {
    loadRealSegment(state, index, selector);
    return undefined;
  }
  if (isNull(selector)) return loadNull(state, index, selector);
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  const problem = index === SEGMENT.ss ? stackProblem(state, descriptor) : dataProblem(state, descriptor);
  if (problem) return problem;
  const fault = markAccessed(cpu, descriptor);
  if (fault) return fault;
  setSegmentFrom(state, index, selector, descriptor);
  return undefined;
}

function loadNull(state: State, index: SegmentIndex, selector: number): Fault | undefined {
  if (index === SEGMENT.ss) {
    const cpl = state.get32('cpl');
    // 64-bit mode runs on a null SS, except at CPL 3 (SDM Vol. 2, "MOV").
    if (!in64BitMode(state) || cpl === 3 || (selector & 3) !== cpl) return generalProtection();
  }
  setNullSegment(state, index, selector);
  return undefined;
}

function stackProblem(state: State, descriptor: Descriptor): Fault | undefined {
  const { selector, rights } = descriptor;
  const cpl = state.get32('cpl');
  if ((selector & 3) !== cpl || !isWritableData(rights) || privilegeOf(rights) !== cpl) {
    return generalProtection(selector & 0xfffc);
  }
  return isPresent(rights) ? undefined : exception(VECTOR.ss, selector & 0xfffc);
}

function dataProblem(state: State, descriptor: Descriptor): Fault | undefined {
  const { selector, rights } = descriptor;
  const code = isCode(rights);
  const readable = (rights & RIGHTS.codeOrData) !== 0 && (!code || (rights & RIGHTS.readable) !== 0);
  const dpl = privilegeOf(rights);
  const checked = !(code && isConforming(rights));
  if (!readable || (checked && ((selector & 3) > dpl || state.get32('cpl') > dpl))) {
    return generalProtection(selector & 0xfffc);
  }
  return isPresent(rights) ? undefined : exception(VECTOR.np, selector & 0xfffc);
}

/** What every segment register is outside protected mode, CS too: writable data. */
const REAL_RIGHTS = RIGHTS.present | RIGHTS.codeOrData | RIGHTS.writable | RIGHTS.accessed;

/** Real-address and virtual-8086 mode: base = selector × 16. */
export function loadRealSegment(state: State, index: SegmentIndex, selector: number): void {
  const base = BigInt(selector) << 4n;
  if (inVirtual8086(state)) {
    setSegment(state, index, selector, base, 0xffff, REAL_RIGHTS | RIGHTS.dpl);
    return;
  }
  // The limit and the default sizes stay as protected mode has left them ("unreal" mode).
  const rights = state.get32('segmentRights', index);
  const unusable = (rights & RIGHTS.unusable) !== 0;
  const limit = unusable ? 0xffff : state.get32('segmentLimit', index);
  const kept = unusable ? 0 : rights & (RIGHTS.big | RIGHTS.granularity);
  setSegment(state, index, selector, base, limit, REAL_RIGHTS | kept);
}

/** Sets CPL, which translations depend on. */
export function setPrivilege(cpu: Cpu, cpl: number): void {
  if (cpu.state.get32('cpl') === cpl) return;
  cpu.state.set32('cpl', cpl);
  cpu.mmu.updateContext();
}

/** After a return to an outer level: data segments that the new CPL may not use become null (SDM Vol. 2, "RET"). */
export function dropInnerSegments(state: State): void {
  const cpl = state.get32('cpl');
  for (const index of [SEGMENT.es, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs]) {
    const rights = state.get32('segmentRights', index);
    if ((rights & RIGHTS.unusable) !== 0 || (isCode(rights) && isConforming(rights))) continue;
    if (privilegeOf(rights) >= cpl) continue;
    // FS and GS keep their bases, which 64-bit mode uses in spite of the null selector.
    setSegment(state, index, 0, state.get64('segmentBase', index), 0, RIGHTS.unusable);
  }
}
