/** MMX instructions that are not staged: conversions from and to floating-point numbers, MASKMOVQ and EMMS. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { REGISTERS } from '../isa/registers.ts';
import { exception, type Fault, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { GPR, OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next, type SlowInstruction } from './cpu.ts';
import { requireSse } from './fpu-instructions.ts';
import { memoryOperand, operandAddress, readGpr } from './operands.ts';
import { segmentAddress } from './segments.ts';
import type { NamedInstructions } from './table.ts';
import { Arithmetic, FLAG, ROUNDING, type Rounding } from './x87/float80.ts';
import { type FloatSize, fromMemoryFormat, fromMemoryInteger, toMemoryFormat, toMemoryInteger } from './x87/formats.ts';
import { pendingError } from './x87/instruction.ts';
import { ALL_EMPTY, setTop } from './x87/registers.ts';

/** #UD, #NM or #MF unless MMX instructions may execute. */
function requireMmx(state: State): Fault | undefined {
  const cr0 = state.low('cr0');
  if ((cr0 & CR0.em) !== 0) return undefinedOpcode();
  if ((cr0 & CR0.ts) !== 0) return exception(VECTOR.nm);
  return pendingError(state);
}

/** All registers become valid, and TOP 0; also in front of #XM. */
function enterMmx(state: State): void {
  state.set32('x87Tag', 0);
  setTop(state, 0);
}

function emms({ state }: Cpu): Next | Fault {
  const problem = requireMmx(state);
  if (problem) return problem;
  state.set32('x87Tag', ALL_EMPTY);
  setTop(state, 0);
  return NEXT.sequential;
}

// ---- operands

/** State address of a register operand. */
function registerAddress(instruction: DecodedInstruction, i: number): number {
  const operand = instruction.operands[i];
  const location = operand?.kind === 'register' ? REGISTERS.get(operand.register) : undefined;
  if (location === undefined) throw new RangeError(`operand ${i} is no register`);
  return location.address;
}

const isMemory = (instruction: DecodedInstruction, i: number): boolean => instruction.operands[i]?.kind === 'memory';

/** Linear-memory address of operand 1, which is a register or `size` bytes in memory, aligned when they are 16. */
function sourceAddress(cpu: Cpu, instruction: DecodedInstruction, size: 8 | 16): number | Fault {
  if (!isMemory(instruction, 1)) return registerAddress(instruction, 1);
  const linear = operandAddress(cpu, instruction, 1, size, false);
  if (typeof linear === 'object') return linear;
  if (size === 16 && (linear & 0xfn) !== 0n) return exception(VECTOR.gp, 0);
  const at = cpu.mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), size, false);
  return at === 0 ? cpu.mmu.lastFault() : at;
}

function writeMmx(state: State, instruction: DecodedInstruction, value: bigint): void {
  const at = registerAddress(instruction, 0);
  state.view.setBigUint64(at, value, true);
  state.view.setUint16(at + 8, 0xffff, true);
}

// ---- conversions

/** MXCSR has the exception masks and the rounding control of the x87 control word at other places. */
const controlOf = (mxcsr: number): number => ((mxcsr >>> 7) & 0x3f) | (((mxcsr >>> 13) & 3) << 10);

/**
 * Notes the exceptions in MXCSR; #XM, or #UD without CR4.OSXMMEXCPT, when one is unmasked. Nothing was rounded when an
 * operand is invalid and that is unmasked.
 */
function settle(state: State, { flags, masks, isPrevented }: Arithmetic): Fault | undefined {
  state.set32('mxcsr', state.get32('mxcsr') | (isPrevented ? FLAG.invalid : flags));
  if ((flags & ~masks) === 0) return undefined;
  return (state.low('cr4') & CR4.osxmmexcpt) === 0 ? undefinedOpcode() : exception(VECTOR.xm);
}

/** CVTPI2PS, CVTPI2PD: two doublewords to two numbers. Doublewords in memory do not touch the MMX registers. */
const fromIntegers =
  (size: FloatSize): SlowInstruction =>
  (cpu, instruction) => {
    const { state } = cpu;
    const { view } = state;
    const usesMmx = !isMemory(instruction, 1);
    const problem = requireSse(state) ?? (usesMmx ? requireMmx(state) : undefined);
    if (problem) return problem;
    const source = sourceAddress(cpu, instruction, 8);
    if (typeof source === 'object') return source;
    const arithmetic = new Arithmetic(controlOf(state.get32('mxcsr')));
    const convert = (i: number) => {
      const value = fromMemoryInteger(BigInt(view.getUint32(source + 4 * i, true)), 4);
      return toMemoryFormat(arithmetic, value, size);
    };
    const [low, high] = [convert(0), convert(1)];
    if (usesMmx) enterMmx(state);
    const fault = settle(state, arithmetic);
    if (fault) return fault;
    const target = registerAddress(instruction, 0);
    view.setBigUint64(target, size === 4 ? low | (high << 32n) : low, true);
    if (size === 8) view.setBigUint64(target + 8, high, true);
    return NEXT.sequential;
  };

const DENORMALS_ARE_ZEROS = 0x40;

/** CVT(T)PS2PI, CVT(T)PD2PI: two numbers to two doublewords. */
const toIntegers =
  (size: FloatSize, rounding?: Rounding): SlowInstruction =>
  (cpu, instruction) => {
    const { state } = cpu;
    const { view } = state;
    const problem = requireSse(state) ?? requireMmx(state);
    if (problem) return problem;
    const source = sourceAddress(cpu, instruction, size === 4 ? 8 : 16);
    if (typeof source === 'object') return source;
    const mxcsr = state.get32('mxcsr');
    const arithmetic = new Arithmetic(controlOf(mxcsr));
    const convert = (i: number): bigint => {
      const bits = size === 4 ? BigInt(view.getUint32(source + 4 * i, true)) : view.getBigUint64(source + 8 * i, true);
      const value = fromMemoryFormat(bits, size);
      if (value.wasDenormal && (mxcsr & DENORMALS_ARE_ZEROS) !== 0) return 0n;
      return toMemoryInteger(arithmetic, value, 4, rounding);
    };
    const result = convert(0) | (convert(1) << 32n);
    enterMmx(state);
    const fault = settle(state, arithmetic);
    if (fault) return fault;
    writeMmx(state, instruction, result);
    return NEXT.sequential;
  };

// ---- selective store

/** MASKMOVQ stores the bytes whose mask byte has its top bit set; bytes between them are written back as they are. */
function maskmovq(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state, mmu } = cpu;
  const problem = requireMmx(state);
  if (problem) return problem;
  const bytesOf = (i: number) => {
    const at = registerAddress(instruction, i);
    return state.bytes.slice(at, at + 8);
  };
  const source = bytesOf(1);
  const chosen = Array.from(bytesOf(2), (byte) => byte >= 0x80);
  const first = chosen.indexOf(true);
  if (first >= 0) {
    const length = chosen.lastIndexOf(true) + 1 - first;
    const { addressSize } = instruction;
    const offset = BigInt.asUintN(8 * addressSize, readGpr(state, GPR.rdi, addressSize) + BigInt(first));
    const linear = segmentAddress(state, memoryOperand(instruction, 0).segment, offset, length, true);
    if (typeof linear === 'object') return linear;
    const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), length, true);
    if (at === 0) return mmu.lastFault();
    for (let i = 0; i < length; i++) if (chosen[first + i]) state.bytes[at + i] = source[first + i] as number;
    if (at === OFFSET.bounce) mmu.commit();
  }
  enterMmx(state);
  return NEXT.sequential;
}

export const MMX_INSTRUCTIONS: NamedInstructions = {
  Cvtpi2ps: fromIntegers(4), Cvtpi2pd: fromIntegers(8),
  Cvtps2pi: toIntegers(4), Cvttps2pi: toIntegers(4, ROUNDING.zero),
  Cvtpd2pi: toIntegers(8), Cvttpd2pi: toIntegers(8, ROUNDING.zero),
  Maskmovq: maskmovq, Emms: emms,
}; // biome-ignore format: a table reads better in rows
