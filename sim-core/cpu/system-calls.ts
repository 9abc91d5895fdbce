/** SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, and the software interrupts. */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { EFER, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { in64BitMode, inLongMode, inProtectedMode, inVirtual8086, isCanonical } from './modes.ts';
import { operandAddress, readOperand, sizeOf } from './operands.ts';
import { ioPrivilegeLevel, readRflags, writeRflags } from './rflags.ts';
import { setPrivilege, setSegment } from './segments.ts';
import type { NamedInstructions } from './table.ts';

const FLAT = RIGHTS.codeOrData | RIGHTS.present | RIGHTS.accessed | RIGHTS.writable | RIGHTS.granularity;

/** The flat code and stack segments that these instructions load without reading descriptors. */
function loadFixedSegments(cpu: Cpu, cs: number, ss: number, cpl: number, long: boolean): void {
  const { state } = cpu;
  const dpl = cpl << 5;
  const code = FLAT | RIGHTS.code | dpl | (long ? RIGHTS.long : RIGHTS.big);
  setSegment(state, SEGMENT.cs, cs | cpl, 0n, 0xffff_ffff, code);
  setSegment(state, SEGMENT.ss, ss | cpl, 0n, 0xffff_ffff, FLAT | RIGHTS.big | dpl);
  setPrivilege(cpu, cpl);
}

const selectorAt = (msr: bigint, shift: bigint): number => Number((msr >> shift) & 0xfffcn);

const syscallAllowed = (state: State): boolean => in64BitMode(state) && (state.low('efer') & EFER.sce) !== 0;

function syscall(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  if (!syscallAllowed(state)) return undefinedOpcode();
  const flags = readRflags(state);
  state.set64('gpr', BigInt.asUintN(64, state.get64('rip') + BigInt(instruction.length)), GPR.rcx);
  state.set64('gpr', BigInt(flags), GPR.r11);
  state.set64('rip', state.get64('msrLstar'));
  writeRflags(state, flags & ~state.low('msrFmask') & ~RFLAGS.rf);
  const cs = selectorAt(state.get64('msrStar'), 32n);
  loadFixedSegments(cpu, cs, cs + 8, 0, true);
  cpu.mmu.updateContext();
  return NEXT.jumped;
}

/** RFLAGS bits that SYSRET takes from R11: all but RF and VM. */
const SYSRET_FLAGS = 0x3c_7fd7;

const sysret =
  (toLong: boolean) =>
  (cpu: Cpu): Next | Fault => {
    const { state } = cpu;
    if (!syscallAllowed(state)) return undefinedOpcode();
    if (state.get32('cpl') !== 0) return generalProtection();
    const target = state.get64('gpr', GPR.rcx);
    if (toLong && !isCanonical(state, target)) return generalProtection();
    state.set64('rip', toLong ? target : BigInt.asUintN(32, target));
    writeRflags(state, Number(state.get64('gpr', GPR.r11) & BigInt(SYSRET_FLAGS)));
    const base = selectorAt(state.get64('msrStar'), 48n);
    loadFixedSegments(cpu, toLong ? base + 16 : base, base + 8, 3, toLong);
    state.set32('attention', 1);
    cpu.mmu.updateContext();
    return NEXT.jumped;
  };

function sysenter(cpu: Cpu): Next | Fault {
  const { state } = cpu;
  const cs = selectorAt(state.get64('msrSysenterCs'), 0n);
  if (!inProtectedMode(state) || cs === 0) return generalProtection();
  const long = inLongMode(state);
  const width = long ? 64 : 32;
  writeRflags(state, readRflags(state) & ~(RFLAGS.vm | RFLAGS.if | RFLAGS.rf));
  state.set64('gpr', BigInt.asUintN(width, state.get64('msrSysenterEsp')), GPR.rsp);
  state.set64('rip', BigInt.asUintN(width, state.get64('msrSysenterEip')));
  loadFixedSegments(cpu, cs, cs + 8, 0, long);
  return NEXT.jumped;
}

const sysexit =
  (toLong: boolean) =>
  (cpu: Cpu): Next | Fault => {
    const { state } = cpu;
    const base = selectorAt(state.get64('msrSysenterCs'), 0n);
    if (!inProtectedMode(state) || base === 0 || state.get32('cpl') !== 0) return generalProtection();
    const rip = state.get64('gpr', GPR.rdx);
    const rsp = state.get64('gpr', GPR.rcx);
    if (toLong && !(isCanonical(state, rip) && isCanonical(state, rsp))) return generalProtection();
    const width = toLong ? 64 : 32;
    state.set64('rip', BigInt.asUintN(width, rip));
    state.set64('gpr', BigInt.asUintN(width, rsp), GPR.rsp);
    const cs = base + (toLong ? 32 : 16);
    loadFixedSegments(cpu, cs, cs + 8, 3, toLong);
    return NEXT.jumped;
  };

function swapgs({ state }: Cpu): Next | Fault {
  if (!in64BitMode(state)) return undefinedOpcode();
  if (state.get32('cpl') !== 0) return generalProtection();
  const base = state.get64('segmentBase', SEGMENT.gs);
  state.set64('segmentBase', state.get64('msrKernelGsBase'), SEGMENT.gs);
  state.set64('msrKernelGsBase', base);
  return NEXT.sequential;
}

/** The events that software raises are delivered by whoever handles faults: see `deliverFault`. */
const softwareInterrupt = (vector: number, type: 4 | 5 | 6, instruction: DecodedInstruction): Fault => ({
  kind: 'softwareInterrupt',
  vector,
  type,
  instructionLength: instruction.length,
});

function intN(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  if (inVirtual8086(cpu.state) && ioPrivilegeLevel(cpu.state) < 3) return generalProtection();
  const vector = readOperand(cpu, instruction, 0);
  return typeof vector === 'object' ? vector : softwareInterrupt(Number(vector & 0xffn), 4, instruction);
}

function into({ state }: Cpu, instruction: DecodedInstruction): Next | Fault {
  if ((readRflags(state) & RFLAGS.of) === 0) return NEXT.sequential;
  return softwareInterrupt(VECTOR.of, 6, instruction);
}

/** BOUND: the signed index in a register against the pair of bounds in memory. */
function bound(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const size = instruction.operandSize;
  const index = readOperand(cpu, instruction, 0);
  const pair = operandAddress(cpu, instruction, 1, 2 * size, false);
  if (typeof index === 'object') return index;
  if (typeof pair === 'object') return pair;
  const lower = cpu.mmu.read(pair, size);
  if (typeof lower === 'object') return lower;
  const upper = cpu.mmu.read(pair + BigInt(size), size);
  if (typeof upper === 'object') return upper;
  const signed = (value: bigint): bigint => BigInt.asIntN(8 * sizeOf(instruction, 0), value);
  const inside = signed(index) >= signed(lower) && signed(index) <= signed(upper);
  return inside ? NEXT.sequential : exception(VECTOR.br);
}

export const SYSTEM_CALLS: NamedInstructions = {
  Syscall: syscall,
  Sysret: sysret(false),
  Sysretq: sysret(true),
  Sysenter: sysenter,
  Sysexit: sysexit(false),
  Sysexitq: sysexit(true),
  Swapgs: swapgs,
  Int: intN,
  Int3: (_cpu, instruction) => softwareInterrupt(VECTOR.bp, 6, instruction),
  Int1: (_cpu, instruction) => softwareInterrupt(VECTOR.db, 5, instruction),
  Into: into,
  Bound: bound,
  Ud0: undefinedOpcode,
  Ud1: undefinedOpcode,
  Ud2: undefinedOpcode,
};
