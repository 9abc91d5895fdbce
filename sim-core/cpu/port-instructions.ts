/** IN, OUT, INS, OUTS and the I/O permission bitmap (SDM Vol. 1, "I/O-Sensitive Instructions"). */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { notePending } from '../mmu/breakpoints.ts';
import { type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { SYSTEM_TYPE } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { DEVICE_CYCLES, spend } from '../state/time.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { in64BitMode, inProtectedMode, inVirtual8086 } from './modes.ts';
import { readGpr, readOperand, readRegister, writeGpr, writeRegister } from './operands.ts';
import { ioPrivilegeLevel, setResumeFlag } from './rflags.ts';
import { segmentAddress, systemType } from './segments.ts';
import { readTss } from './stack.ts';
import type { NamedInstructions } from './table.ts';

type PortSize = 1 | 2 | 4;

/** Offset of the I/O map base address in a TSS of 32 or 64 bits. */
const IO_MAP_BASE = 0x66;

/** #GP(0) unless IOPL or the TSS's bitmap permits all the ports. */
function checkPermission(cpu: Cpu, port: number, size: PortSize): Fault | undefined {
  const { state } = cpu;
  if (!inProtectedMode(state)) return undefined;
  if (!inVirtual8086(state) && state.get32('cpl') <= ioPrivilegeLevel(state)) return undefined;
  const type = systemType(state.get32('segmentRights', SEGMENT.tr));
  if (type !== SYSTEM_TYPE.busyTss32 && type !== SYSTEM_TYPE.tss32) return generalProtection();
  const base = readTss(cpu, IO_MAP_BASE, 2, 0);
  if (typeof base === 'object')
    return base.kind === 'exception' && base.vector === VECTOR.ts ? generalProtection() : base;
  // Two bytes are read always, so that ports may lie across a byte of the map.
  const at = Number(base) + (port >>> 3);
  if (at + 1 > state.get32('segmentLimit', SEGMENT.tr)) return generalProtection();
  const map = readTss(cpu, at, 2, 0);
  if (typeof map === 'object') return map;
  const wanted = ((1 << size) - 1) << (port & 7);
  return (Number(map) & wanted) !== 0 ? generalProtection() : undefined;
}

/** Permission and VM exit of IN and OUT. */
function checkIo(cpu: Cpu, instruction: DecodedInstruction, port: number, size: PortSize, input: boolean) {
  const denied = checkPermission(cpu, port, size);
  if (denied || cpu.state.get32('nonRoot') === 0) return denied;
  const immediate = instruction.operands.some((operand) => operand.kind === 'immediate');
  return cpu.intercepts.instruction({ kind: 'io', port, size, input, string: false, rep: false, immediate });
}

/** After an access: it has taken its time, and I/O breakpoints trap. */
function notePorts(cpu: Cpu, port: number, size: PortSize): void {
  const { state, mmu } = cpu;
  spend(state, DEVICE_CYCLES);
  notePending(state, mmu.breakpoints.matchIo(state, port, size));
}

function portOperand(cpu: Cpu, instruction: DecodedInstruction, index: number): number {
  const value = readOperand(cpu, instruction, index);
  return typeof value === 'object' ? 0 : Number(value & 0xffffn);
}

function portSize(instruction: DecodedInstruction, index: number): PortSize {
  const operand = instruction.operands[index];
  return operand?.kind === 'register' && (operand.size === 1 || operand.size === 2) ? operand.size : 4;
}

function input(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const port = portOperand(cpu, instruction, 1);
  const size = portSize(instruction, 0);
  const problem = checkIo(cpu, instruction, port, size, true);
  if (problem) return problem;
  const target = instruction.operands[0];
  const value = BigInt(cpu.ports.read(port, size) >>> 0);
  notePorts(cpu, port, size);
  if (target?.kind === 'register') writeRegister(cpu.state, target.register, value);
  return NEXT.sequential;
}

function output(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const port = portOperand(cpu, instruction, 0);
  const size = portSize(instruction, 1);
  const problem = checkIo(cpu, instruction, port, size, false);
  if (problem) return problem;
  const from = instruction.operands[1];
  const value = from?.kind === 'register' ? readRegister(cpu.state, from.register) : 0n;
  cpu.ports.write(port, size, Number(value & 0xffff_ffffn));
  notePorts(cpu, port, size);
  return NEXT.sequential;
}

/** Iterations of a repeated INS or OUTS before interrupts are let in. */
const ITERATIONS_PER_ROUND = 256;

/** INS and OUTS: permission once, then one element after the other, each with its own VM exit and faults. */
const stringIo =
  (size: PortSize, isInput: boolean) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    const { addressSize } = instruction;
    // Even when there is nothing to repeat.
    const denied = checkPermission(cpu, portInDx(state), size);
    if (denied) return denied;
    const repeats = instruction.rep || instruction.repne;
    let left = repeats ? readGpr(state, GPR.rcx, addressSize) : 1n;
    for (let i = 0; left > 0n; i++) {
      if (i === ITERATIONS_PER_ROUND || (i > 0 && state.get32('attention') !== 0)) {
        setResumeFlag(state, true);
        return NEXT.jumped;
      }
      const problem = transferElement(cpu, instruction, size, isInput);
      if (problem) return problem;
      left--;
      if (repeats) writeCount(cpu, addressSize, left);
    }
    setResumeFlag(state, false);
    return NEXT.sequential;
  };

const portInDx = (state: State): number => state.low('gpr', GPR.rdx) & 0xffff;

const writeCount = (cpu: Cpu, addressSize: 2 | 4 | 8, count: bigint): void =>
  writeGpr(cpu.state, GPR.rcx, addressSize, count);

function transferElement(
  cpu: Cpu,
  instruction: DecodedInstruction,
  size: PortSize,
  isInput: boolean,
): Fault | undefined {
  const { state, mmu } = cpu;
  const { addressSize } = instruction;
  const port = portInDx(state);
  const register = isInput ? GPR.rdi : GPR.rsi;
  const memory = instruction.operands.find((operand) => operand.kind === 'memory');
  const segment = memory?.kind === 'memory' ? memory.memory.segment : SEGMENT.ds;
  const offset = readGpr(state, register, addressSize);
  const exits = stringExit(cpu, instruction, port, size, isInput, segment, offset);
  if (exits) return exits;
  const linear = segmentAddress(state, segment, offset, size, isInput);
  if (typeof linear === 'object') return linear;
  if (isInput) {
    // The device is read only when the write cannot fault any more.
    const at = mmu.locate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), size, true);
    if (at === 0) return mmu.lastFault();
    const fault = mmu.write(linear, size, BigInt(cpu.ports.read(port, size) >>> 0));
    if (fault) return fault;
  } else {
    const value = mmu.read(linear, size);
    if (typeof value === 'object') return value;
    cpu.ports.write(port, size, Number(value));
  }
  notePorts(cpu, port, size);
  const step = BigInt(size) * BigInt(state.get32('stringStep') | 0);
  writeGpr(state, register, addressSize, BigInt.asUintN(8 * addressSize, offset + step));
  return undefined;
}

function stringExit(
  cpu: Cpu,
  instruction: DecodedInstruction,
  port: number,
  size: PortSize,
  isInput: boolean,
  segment: number,
  offset: bigint,
): Fault | undefined {
  const { state } = cpu;
  if (state.get32('nonRoot') === 0) return undefined;
  const long = in64BitMode(state);
  const based = !long || segment === SEGMENT.fs || segment === SEGMENT.gs;
  const base = based ? state.get64('segmentBase', segment) : 0n;
  return cpu.intercepts.instruction({
    kind: 'io',
    port,
    size,
    input: isInput,
    string: true,
    rep: instruction.rep || instruction.repne,
    immediate: false,
    addressSize: instruction.addressSize,
    segment,
    linearAddress: BigInt.asUintN(long ? 64 : 32, base + offset),
  });
}

export const PORT_INSTRUCTIONS: NamedInstructions = {
  In: input,
  Out: output,
  Insb: stringIo(1, true),
  Insw: stringIo(2, true),
  Insd: stringIo(4, true),
  Outsb: stringIo(1, false),
  Outsw: stringIo(2, false),
  Outsd: stringIo(4, false),
};
