/**
 * MOVS, STOS, LODS, CMPS, SCAS with and without REP. Elements that lie within a page are handled in bulk, so this file
 * keeps to Numbers and 32-bit halves. Registers are updated after each bulk: a fault leaves the architectural state.
 */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, VECTOR } from '../mmu/fault.ts';
import type { Mmu } from '../mmu/mmu.ts';
import { checkSegmentAccess } from '../mmu/segmentation.ts';
import { RFLAGS } from '../state/control-bits.ts';
import { GPR, OFFSET, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { in64BitMode } from './modes.ts';
import { setResumeFlag, writeStatusFlags } from './rflags.ts';
import type { NamedInstructions } from './table.ts';

type ElementSize = 1 | 2 | 4 | 8;

/** Bytes that one execution handles before it lets interrupts in. */
const BYTES_PER_ROUND = 0x1_0000;

const GPR_WORD = OFFSET.gpr >>> 2;

/** One of the two memory operands: where its next element is, and where a bulk of them can be accessed. */
class Cursor {
  private readonly register: number;
  private readonly write: boolean;
  /** Linear address of the element at hand. */
  low = 0;
  high = 0;
  /** Linear-memory address of the element at hand. */
  host = 0;

  constructor(register: number, write: boolean) {
    this.register = register;
    this.write = write;
  }

  /**
   * Locates the element at hand and how many of the next ones, at most `wanted`, lie on the same page of RAM. 0 with
   * `fault` set when it faults; a bounced element (device, page crossing, decoded code) stands alone.
   */
  locate(cpu: Cpu, segment: number, addressSize: number, size: ElementSize, wanted: number): number {
    const { state, mmu } = cpu;
    const count = this.setLinear(cpu, segment, addressSize, size, wanted);
    if (count === 0) return 0;
    const within = this.elementsOnPage(state, size, count);
    const fast = mmu.tlb.fast;
    if (within > 0) {
      this.host = fast.probe(this.low, this.high, this.write);
      if (this.host !== 0) return within;
    }
    this.host = mmu.access(this.low, this.high, size, this.write);
    if (this.host === 0) {
      fault = mmu.lastFault();
      return 0;
    }
    return within > 1 && fast.probe(this.low, this.high, this.write) !== 0 ? within : 1;
  }

  /**
   * Computes the linear address after the segment's checks. @returns elements that the segment allows; 0 for a fault.
   */
  private setLinear(cpu: Cpu, segment: number, addressSize: number, size: ElementSize, wanted: number): number {
    const { state, mmu } = cpu;
    const { u32 } = state;
    const mask = addressSize === 2 ? 0xffff : 0xffff_ffff;
    const offset = ((u32[GPR_WORD + 2 * this.register] as number) & mask) >>> 0;
    const base = (OFFSET.segmentBase >>> 2) + 2 * segment;
    if (in64BitMode(state)) {
      const high = addressSize === 8 ? (u32[GPR_WORD + 2 * this.register + 1] as number) : 0;
      const based = segment === SEGMENT.fs || segment === SEGMENT.gs;
      const sum = offset + (based ? (u32[base] as number) : 0);
      this.low = sum >>> 0;
      this.high = (high + (based ? (u32[base + 1] as number) : 0) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
      // Pages are either canonical or not: elements on the same page need no check of their own.
      if (mmu.canReach(this.high)) return wanted;
      fault = exception(segment === SEGMENT.ss ? VECTOR.ss : VECTOR.gp, 0);
      return 0;
    }
    this.low = (offset + (u32[base] as number)) >>> 0;
    this.high = 0;
    return this.allowed(state, segment, offset, mask, size, wanted);
  }

  /** How many elements from `offset` on the segment's limit and the address size allow: all of `wanted`, 1 or none. */
  private allowed(
    state: State,
    segment: number,
    offset: number,
    mask: number,
    size: ElementSize,
    wanted: number,
  ): number {
    const bytes = wanted * size;
    const first = state.get32('stringStep') === 1 ? offset : offset - bytes + size;
    if (first >= 0 && first + bytes - 1 <= mask) {
      if (checkSegmentAccess(state, segment, first, bytes, this.write) === undefined) return wanted;
    }
    fault = checkSegmentAccess(state, segment, offset, size, this.write);
    return fault === undefined ? 1 : 0;
  }

  /**
   * Elements, this one included, between it and the end of its page in the direction of the string; 0 if it crosses.
   */
  private elementsOnPage(state: State, size: ElementSize, wanted: number): number {
    const at = this.low & 0xfff;
    if (at + size > 4096) return 0;
    const up = state.get32('stringStep') === 1;
    return Math.min(wanted, up ? Math.floor((4096 - at) / size) : Math.floor(at / size) + 1);
  }

  /** Moves the register by `count` elements. */
  advance(state: State, addressSize: number, bytes: number): void {
    addToRegister(state, this.register, addressSize, state.get32('stringStep') === 1 ? bytes : -bytes);
  }
}

/** Why `Cursor.locate` returned 0. */
let fault: Fault | undefined;

const source = new Cursor(GPR.rsi, false);
const destination = new Cursor(GPR.rdi, true);
const compared = new Cursor(GPR.rdi, false);

function addToRegister(state: State, register: number, addressSize: number, amount: number): void {
  const { u32 } = state;
  const at = GPR_WORD + 2 * register;
  const low = u32[at] as number;
  if (addressSize === 2) {
    u32[at] = (low & 0xffff_0000) | ((low + amount) & 0xffff);
    return;
  }
  const sum = low + amount;
  u32[at] = sum;
  if (addressSize === 4) u32[at + 1] = 0;
  else if (sum < 0) u32[at + 1] = (u32[at + 1] as number) - 1;
  else if (sum > 0xffff_ffff) u32[at + 1] = (u32[at + 1] as number) + 1;
}

/** The repeat count, or Infinity above 2^53 (a Number that big is never used up). */
function readCount(state: State, addressSize: number): number {
  const low = state.low('gpr', GPR.rcx);
  if (addressSize === 2) return low & 0xffff;
  return addressSize === 4 ? low : state.high('gpr', GPR.rcx) * 2 ** 32 + low;
}

/** Elements until the instruction looks up again: with RFLAGS.TF every iteration traps. */
const roundOf = (state: State, count: number, size: ElementSize): number =>
  Math.min(count, (state.get32('rflagsSystem') & RFLAGS.tf) !== 0 ? 1 : BYTES_PER_ROUND / size);

const lastFault = (): Fault => {
  if (fault === undefined) throw new Error('no string element has faulted');
  return fault;
};

/** Segment of the source, which is operand `index`: DS or the override. */
function sourceSegment(instruction: DecodedInstruction, index: number): number {
  const operand = instruction.operands[index];
  return operand?.kind === 'memory' ? operand.memory.segment : SEGMENT.ds;
}

/** Handles up to `wanted` elements. @returns how many, or 0 with `fault` set. */
type Bulk = (cpu: Cpu, instruction: DecodedInstruction, wanted: number) => number;

/** MOVS, STOS and LODS: repeats until the count is used up. */
const repeated =
  (bulk: Bulk, size: ElementSize): SlowInstruction =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    if (!instruction.rep && !instruction.repne) return bulk(cpu, instruction, 1) === 1 ? NEXT.sequential : lastFault();
    const { addressSize } = instruction;
    const count = readCount(state, addressSize);
    const round = roundOf(state, count, size);
    for (let done = 0; done < round; ) {
      const handled = bulk(cpu, instruction, round - done);
      if (handled === 0) return lastFault();
      addToRegister(state, GPR.rcx, addressSize, -handled);
      done += handled;
      if (state.get32('attention') !== 0 && done < count) return again(state);
    }
    return round === count ? finished(state) : again(state);
  };

/** The instruction begins once more, with what its registers say is left. */
function again(state: State): Next {
  setResumeFlag(state, true);
  return NEXT.jumped;
}

function finished(state: State): Next {
  setResumeFlag(state, false);
  return NEXT.sequential;
}

const movs =
  (size: ElementSize): Bulk =>
  (cpu, instruction, wanted) => {
    const { state, mmu } = cpu;
    const { addressSize } = instruction;
    const readable = source.locate(cpu, sourceSegment(instruction, 1), addressSize, size, wanted);
    if (readable === 0) return 0;
    // A bounced source must be taken before the destination uses the buffer.
    const bounced = source.host === OFFSET.bounce;
    const { view } = state;
    const low =
      size >= 4
        ? view.getUint32(source.host, true)
        : size === 2
          ? view.getUint16(source.host, true)
          : view.getUint8(source.host);
    const high = size === 8 ? view.getUint32(source.host + 4, true) : 0;
    const writable = destination.locate(cpu, SEGMENT.es, addressSize, size, bounced ? 1 : readable);
    if (writable === 0) return 0;
    if (writable === 1) storeElement(mmu, state, size, low, high);
    else copyElements(state, source.host, destination.host, size, writable);
    source.advance(state, addressSize, writable * size);
    destination.advance(state, addressSize, writable * size);
    return writable;
  };

/** Writes one element at the destination, through the bounce buffer if need be. */
function storeElement(mmu: Mmu, state: State, size: ElementSize, low: number, high: number): void {
  const at = destination.host;
  if (size >= 4) state.view.setUint32(at, low, true);
  else if (size === 2) state.view.setUint16(at, low, true);
  else state.view.setUint8(at, low);
  if (size === 8) state.view.setUint32(at + 4, high, true);
  if (at === OFFSET.bounce) mmu.commit();
}

/** Copies as a loop over elements does: where source and destination overlap, elements written are read again. */
function copyElements(state: State, from: number, to: number, size: ElementSize, count: number): void {
  const { bytes } = state;
  const length = count * size;
  if (state.get32('stringStep') === 1) {
    if (to <= from || to >= from + length) bytes.copyWithin(to, from, from + length);
    else for (let i = 0; i < length; i += size) bytes.copyWithin(to + i, from + i, from + i + size);
    return;
  }
  const first = from - length + size;
  const target = to - length + size;
  if (target >= first || target + length <= first) bytes.copyWithin(target, first, first + length);
  else for (let i = 0; i < length; i += size) bytes.copyWithin(to - i, from - i, from - i + size);
}

const stos =
  (size: ElementSize): Bulk =>
  (cpu, instruction, wanted) => {
    const { state, mmu } = cpu;
    const { addressSize } = instruction;
    const count = destination.locate(cpu, SEGMENT.es, addressSize, size, wanted);
    if (count === 0) return 0;
    const low = state.low('gpr', GPR.rax);
    const high = state.high('gpr', GPR.rax);
    if (count === 1) storeElement(mmu, state, size, low, high);
    else {
      const up = state.get32('stringStep') === 1;
      fillElements(state, up ? destination.host : destination.host - (count - 1) * size, size, count, low, high);
    }
    destination.advance(state, addressSize, count * size);
    return count;
  };

function fillElements(state: State, at: number, size: ElementSize, count: number, low: number, high: number): void {
  const end = at + count * size;
  if (size === 1) state.bytes.fill(low, at, end);
  else if (size === 4 && at % 4 === 0) state.u32.fill(low, at >>> 2, end >>> 2);
  else if (size === 8 && at % 8 === 0) state.u64.fill((BigInt(high) << 32n) | BigInt(low), at >>> 3, end >>> 3);
  else {
    for (let to = at; to < end; to += size) {
      if (size === 2) state.view.setUint16(to, low, true);
      else state.view.setUint32(to, low, true);
      if (size === 8) state.view.setUint32(to + 4, high, true);
    }
  }
}

/** LODS keeps only the last element, but reads all. */
const lods =
  (size: ElementSize): Bulk =>
  (cpu, instruction, _wanted) => {
    const { state } = cpu;
    const count = source.locate(cpu, sourceSegment(instruction, 1), instruction.addressSize, size, 1);
    if (count === 0) return 0;
    const { view } = state;
    const rax = OFFSET.gpr + 8 * GPR.rax;
    if (size === 1) view.setUint8(rax, view.getUint8(source.host));
    else if (size === 2) view.setUint16(rax, view.getUint16(source.host, true), true);
    else {
      view.setUint32(rax + 4, size === 8 ? view.getUint32(source.host + 4, true) : 0, true);
      view.setUint32(rax, view.getUint32(source.host, true), true);
    }
    source.advance(state, instruction.addressSize, size);
    return 1;
  };

/** The operands of the last comparison, in halves. */
const left = { low: 0, high: 0 };
const right = { low: 0, high: 0 };

function readElement(state: State, host: number, size: ElementSize, into: { low: number; high: number }): void {
  const { view } = state;
  into.high = size === 8 ? view.getUint32(host + 4, true) : 0;
  into.low = size >= 4 ? view.getUint32(host, true) : size === 2 ? view.getUint16(host, true) : view.getUint8(host);
}

const isEqual = (): boolean => left.low === right.low && left.high === right.high;

/** RFLAGS of left - right. */
function setCompareFlags(state: State, size: ElementSize): void {
  const bits = BigInt(8 * size);
  const value = ({ low, high }: { low: number; high: number }): bigint => (BigInt(high) << 32n) | BigInt(low);
  writeStatusFlags(state, subtractionFlags(value(left), value(right), bits));
}

/** CF, PF, AF, ZF, SF, OF of a - b, for operands of `bits` bits. */
function subtractionFlags(a: bigint, b: bigint, bits: bigint): number {
  const result = BigInt.asUintN(Number(bits), a - b);
  let ones = 0;
  for (let rest = Number(result & 0xffn); rest !== 0; rest >>>= 1) ones += rest & 1;
  const top = bits - 1n;
  return (
    (a < b ? 0x1 : 0) |
    (ones % 2 === 0 ? 0x4 : 0) |
    Number((a ^ b ^ result) & 0x10n) |
    (result === 0n ? 0x40 : 0) |
    (Number((result >> top) & 1n) << 7) |
    (Number((((a ^ b) & (a ^ result)) >> top) & 1n) << 11)
  );
}

/** Compares elements until the repeat condition fails or `wanted` are used up. Leaves the last pair in left, right. */
const compareBulk =
  (size: ElementSize, withSource: boolean): Bulk =>
  (cpu, instruction, wanted) => {
    const { state } = cpu;
    const { addressSize } = instruction;
    const step = state.get32('stringStep') === 1 ? size : -size;
    let count = wanted;
    if (withSource) {
      count = source.locate(cpu, sourceSegment(instruction, 0), addressSize, size, count);
      if (count === 0) return 0;
      readElement(state, source.host, size, left);
      if (source.host === OFFSET.bounce) count = 1;
    } else {
      readElement(state, OFFSET.gpr + 8 * GPR.rax, size, left);
    }
    count = compared.locate(cpu, SEGMENT.es, addressSize, size, count);
    if (count === 0) return 0;
    let handled = 0;
    for (;;) {
      if (withSource && handled > 0) readElement(state, source.host + handled * step, size, left);
      readElement(state, compared.host + handled * step, size, right);
      handled++;
      if (handled === count || isEqual() !== instruction.rep) break;
    }
    if (withSource) source.advance(state, addressSize, handled * size);
    compared.advance(state, addressSize, handled * size);
    return handled;
  };

/** CMPS and SCAS: REP (REPE) goes on while equal, REPNE while not. */
const comparison = (size: ElementSize, withSource: boolean): SlowInstruction => {
  const bulk = compareBulk(size, withSource);
  return (cpu, instruction) => {
    const { state } = cpu;
    const { addressSize } = instruction;
    const repeats = instruction.rep || instruction.repne;
    const count = repeats ? readCount(state, addressSize) : 1;
    const round = roundOf(state, count, size);
    for (let done = 0; done < round; ) {
      const handled = bulk(cpu, instruction, round - done);
      if (handled === 0) return lastFault();
      if (repeats) addToRegister(state, GPR.rcx, addressSize, -handled);
      done += handled;
      setCompareFlags(state, size);
      if (isEqual() !== instruction.rep) return finished(state);
      if (state.get32('attention') !== 0 && done < count) return again(state);
    }
    return round === count ? finished(state) : again(state);
  };
};

export const STRING_INSTRUCTIONS: NamedInstructions = {
  Movsb: repeated(movs(1), 1),
  Movsw: repeated(movs(2), 2),
  Movsd: repeated(movs(4), 4),
  Movsq: repeated(movs(8), 8),
  Stosb: repeated(stos(1), 1),
  Stosw: repeated(stos(2), 2),
  Stosd: repeated(stos(4), 4),
  Stosq: repeated(stos(8), 8),
  Lodsb: repeated(lods(1), 1),
  Lodsw: repeated(lods(2), 2),
  Lodsd: repeated(lods(4), 4),
  Lodsq: repeated(lods(8), 8),
  Cmpsb: comparison(1, true),
  Cmpsw: comparison(2, true),
  Cmpsd: comparison(4, true),
  Cmpsq: comparison(8, true),
  Scasb: comparison(1, false),
  Scasw: comparison(2, false),
  Scasd: comparison(4, false),
  Scasq: comparison(8, false),
};
