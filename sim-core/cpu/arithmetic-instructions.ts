/**
 * Arithmetic that is too rare or too wide to be staged: DIV and IDIV, decimal adjustments, CMPXCHG8B/16B, ENTER, XLAT.
 */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { RFLAGS } from '../state/control-bits.ts';
import { GPR, OFFSET, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { stackWidth } from './modes.ts';
import { operandAddress, readGpr, readMemoryOperand, readOperand, sizeOf, writeGpr } from './operands.ts';
import { readStatusFlags, writeStatusFlags } from './rflags.ts';
import { segmentAddress } from './segments.ts';
import { setStackPointer, stackPointer } from './stack.ts';
import type { NamedInstructions } from './table.ts';

/** The double-width dividend: AX for bytes, else DX:AX, EDX:EAX or RDX:RAX. */
function dividend(state: State, size: 1 | 2 | 4 | 8): bigint {
  if (size === 1) return readGpr(state, GPR.rax, 2);
  return (readGpr(state, GPR.rdx, size) << BigInt(8 * size)) | readGpr(state, GPR.rax, size);
}

/** Quotient to AL, AX, EAX or RAX, remainder to AH, DX, EDX or RDX. */
function setQuotient(state: State, size: 1 | 2 | 4 | 8, quotient: bigint, remainder: bigint): void {
  if (size === 1) {
    writeGpr(state, GPR.rax, 2, (BigInt.asUintN(8, remainder) << 8n) | BigInt.asUintN(8, quotient));
    return;
  }
  writeGpr(state, GPR.rax, size, BigInt.asUintN(8 * size, quotient));
  writeGpr(state, GPR.rdx, size, BigInt.asUintN(8 * size, remainder));
}

/** DIV and IDIV: #DE for a zero divisor or a quotient that does not fit. The flags are undefined and stay. */
const divide =
  (signed: boolean) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    const size = sizeOf(instruction, 0) as 1 | 2 | 4 | 8;
    const operand = readOperand(cpu, instruction, 0);
    if (typeof operand === 'object') return operand;
    if (operand === 0n) return exception(VECTOR.de);
    const bits = 8 * size;
    const divisor = signed ? BigInt.asIntN(bits, operand) : operand;
    const whole = signed ? BigInt.asIntN(2 * bits, dividend(state, size)) : dividend(state, size);
    const quotient = whole / divisor;
    const fits = signed ? BigInt.asIntN(bits, quotient) === quotient : BigInt.asUintN(bits, quotient) === quotient;
    if (!fits) return exception(VECTOR.de);
    setQuotient(state, size, quotient, whole % divisor);
    return NEXT.sequential;
  };

/** SF, ZF and PF of a byte. */
function byteFlags(value: number): number {
  let ones = 0;
  for (let rest = value & 0xff; rest !== 0; rest >>>= 1) ones += rest & 1;
  return (value & 0x80) | ((value & 0xff) === 0 ? RFLAGS.zf : 0) | (ones % 2 === 0 ? RFLAGS.pf : 0);
}

const al = (state: State): number => state.low('gpr', GPR.rax) & 0xff;
const ah = (state: State): number => (state.low('gpr', GPR.rax) >>> 8) & 0xff;
const setAx = (state: State, value: number): void => {
  state.view.setUint16(OFFSET.gpr + 8 * GPR.rax, value & 0xffff, true);
};
const setAl = (state: State, value: number): void => setAx(state, (ah(state) << 8) | (value & 0xff));

/** DAA and DAS (SDM Vol. 2A): AL is corrected after an addition (sign 1) or subtraction (-1) of packed digits. */
const adjustPacked =
  (sign: 1 | -1) =>
  ({ state }: Cpu): Next => {
    const old = al(state);
    const flags = readStatusFlags(state);
    const oldCarry = (flags & RFLAGS.cf) !== 0;
    const low = (old & 0xf) > 9 || (flags & RFLAGS.af) !== 0;
    const high = old > 0x99 || oldCarry;
    const corrected = old + sign * ((low ? 6 : 0) + (high ? 0x60 : 0));
    // The borrow of the low digit alone sets CF, too (DAS).
    const lowBorrow = low && (sign === 1 ? old + 6 > 0xff : old < 6);
    setAl(state, corrected);
    const carry = high || (oldCarry && low) || lowBorrow;
    writeStatusFlags(state, byteFlags(corrected) | (low ? RFLAGS.af : 0) | (carry ? RFLAGS.cf : 0));
    return NEXT.sequential;
  };

/** AAA and AAS: unpacked digits. */
const adjustUnpacked =
  (sign: 1 | -1) =>
  ({ state }: Cpu): Next => {
    const needed = (al(state) & 0xf) > 9 || (readStatusFlags(state) & RFLAGS.af) !== 0;
    const ax = (ah(state) << 8) | al(state);
    // AX is adjusted as a whole: AL's overflow reaches AH.
    const corrected = needed ? ax + sign * 0x106 : ax;
    setAx(state, corrected & 0xff0f);
    const flags = needed ? RFLAGS.af | RFLAGS.cf : 0;
    writeStatusFlags(state, byteFlags(corrected & 0xf) | flags);
    return NEXT.sequential;
  };

function aam(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const base = readOperand(cpu, instruction, 0);
  if (typeof base === 'object') return base;
  const radix = Number(base & 0xffn);
  if (radix === 0) return exception(VECTOR.de);
  const value = al(state);
  setAx(state, (Math.floor(value / radix) << 8) | (value % radix));
  writeStatusFlags(state, byteFlags(value % radix));
  return NEXT.sequential;
}

function aad(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const base = readOperand(cpu, instruction, 0);
  if (typeof base === 'object') return base;
  const value = (al(state) + ah(state) * Number(base & 0xffn)) & 0xff;
  setAx(state, value);
  writeStatusFlags(state, byteFlags(value));
  return NEXT.sequential;
}

/** Sets ZF alone. */
function setZeroFlag(state: State, zero: boolean): void {
  const flags = readStatusFlags(state) & ~RFLAGS.zf;
  writeStatusFlags(state, zero ? flags | RFLAGS.zf : flags);
}

/** CMPXCHG8B and CMPXCHG16B: the memory is written in any case, as the locked bus cycle does. */
const compareExchange =
  (half: 4 | 8) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state, mmu } = cpu;
    const linear = operandAddress(cpu, instruction, 0, 2 * half, true);
    if (typeof linear === 'object') return linear;
    if (half === 8 && (linear & 0xfn) !== 0n) return generalProtection();
    const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), 2 * half, true);
    if (at === 0) return mmu.lastFault();
    const read = (offset: number): bigint =>
      half === 8 ? state.view.getBigUint64(at + offset, true) : BigInt(state.view.getUint32(at + offset, true));
    const low = read(0);
    const high = read(half);
    const equal = low === readGpr(state, GPR.rax, half) && high === readGpr(state, GPR.rdx, half);
    if (equal) {
      const write = (offset: number, value: bigint): void => {
        if (half === 8) state.view.setBigUint64(at + offset, value, true);
        else state.view.setUint32(at + offset, Number(value), true);
      };
      write(0, readGpr(state, GPR.rbx, half));
      write(half, readGpr(state, GPR.rcx, half));
    } else {
      writeGpr(state, GPR.rax, half, low);
      writeGpr(state, GPR.rdx, half, high);
    }
    if (at === OFFSET.bounce) mmu.commit();
    setZeroFlag(state, equal);
    return NEXT.sequential;
  };

/** ENTER: a stack frame with the frame pointers of up to 31 outer procedures. */
function enter(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, mmu } = cpu;
  const size = instruction.operandSize;
  const [bytes, nesting] = instruction.operands;
  const room = bytes?.kind === 'immediate' ? bytes.value & 0xffffn : 0n;
  const level = nesting?.kind === 'immediate' ? Number(nesting.value & 0x1fn) : 0;
  const width = 8 * stackWidth(state);
  const step = BigInt(size);
  const oldFrame = readGpr(state, GPR.rbp, size);
  const pushed: (() => bigint | Fault)[] = [() => oldFrame];
  const frame = BigInt.asUintN(width, stackPointer(state) - step);
  for (let i = 1; i < level; i++) {
    const offset = BigInt.asUintN(width, readGpr(state, GPR.rbp, stackWidth(state)) - BigInt(i) * step);
    const linear = segmentAddress(state, SEGMENT.ss, offset, size, false);
    if (typeof linear === 'object') return linear;
    const display = mmu.read(linear, size);
    if (typeof display === 'object') return display;
    // Read again when its turn comes: what is pushed before may overlap the outer frame.
    pushed.push(() => mmu.read(linear, size));
  }
  if (level > 0) pushed.push(() => frame);
  const top = BigInt.asUintN(width, stackPointer(state) - BigInt(pushed.length) * step - room);
  // The word at the new top is touched, so that a missing stack faults here.
  const probe = segmentAddress(state, SEGMENT.ss, top, size, true);
  if (typeof probe === 'object') return probe;
  if (mmu.locate(Number(probe & 0xffff_ffffn), Number(probe >> 32n), size, true) === 0) return mmu.lastFault();
  for (const [i, read] of pushed.entries()) {
    const at = BigInt.asUintN(width, stackPointer(state) - BigInt(i + 1) * step);
    const linear = segmentAddress(state, SEGMENT.ss, at, size, true);
    if (typeof linear === 'object') return linear;
    const value = read();
    if (typeof value === 'object') return value;
    const fault = mmu.write(linear, size, value);
    if (fault) return fault;
  }
  writeGpr(state, GPR.rbp, size, BigInt.asUintN(8 * size, frame));
  setStackPointer(state, top);
  return NEXT.sequential;
}

function xlat(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const value = readMemoryOperand(cpu, instruction, 0, 1);
  if (typeof value === 'object') return value;
  setAl(cpu.state, Number(value));
  return NEXT.sequential;
}

/** SALC: AL becomes all ones or zero by CF. */
function salc({ state }: Cpu): Next {
  setAl(state, (readStatusFlags(state) & RFLAGS.cf) !== 0 ? 0xff : 0);
  return NEXT.sequential;
}

export const ARITHMETIC_INSTRUCTIONS: NamedInstructions = {
  Div: divide(false),
  Idiv: divide(true),
  Daa: adjustPacked(1),
  Das: adjustPacked(-1),
  Aaa: adjustUnpacked(1),
  Aas: adjustUnpacked(-1),
  Aam: aam,
  Aad: aad,
  Cmpxchg8b: compareExchange(4),
  Cmpxchg16b: compareExchange(8),
  Enter: enter,
  Xlatb: xlat,
  Salc: salc,
};
