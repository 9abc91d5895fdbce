/** Far JMP, CALL and RET, IRET (SDM Vol. 2). */

import type { DecodedInstruction } from '../isa/instruction.ts';
import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { BLOCKING, RFLAGS, RIGHTS, SYSTEM_TYPE } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import {
  checkCodeOffset,
  enterCode,
  enterStack,
  isInvalidLong,
  isLongCode,
  returnCode,
  returnStack,
} from './code-segment.ts';
import { type Cpu, NEXT, type Next } from './cpu.ts';
import { hasRealSegments, in64BitMode, inLongMode, inProtectedMode, inVirtual8086, isCanonical } from './modes.ts';
import { readMemoryOperand } from './operands.ts';
import { ioPrivilegeLevel, readRflags, writeRflags } from './rflags.ts';
import {
  type Descriptor,
  dropInnerSegments,
  isCode,
  isConforming,
  isFault,
  isNull,
  isPresent,
  loadRealSegment,
  privilegeOf,
  readDescriptor,
  setPrivilege,
  systemType,
} from './segments.ts';
import { peekFrame, pushFrame, readTss, setStackPointer, stackPointer, writeFrame } from './stack.ts';
import { innerFrameAddress, innerStack, takeStack } from './stack-switch.ts';
import type { NamedInstructions } from './table.ts';
import { switchTask, TASK_SWITCH, type TaskSwitchSource } from './task-switch.ts';

interface FarPointer {
  readonly selector: number;
  readonly offset: bigint;
}

/** The far pointer of the instruction: immediate, or in memory as offset then selector. */
function farPointer(cpu: Cpu, instruction: DecodedInstruction): FarPointer | Fault {
  const operand = instruction.operands[0];
  if (operand?.kind === 'far') return { selector: operand.selector, offset: BigInt(operand.offset) };
  const size = instruction.operandSize;
  const offset = readMemoryOperand(cpu, instruction, 0, size);
  if (typeof offset === 'object') return offset;
  const selector = readMemoryOperand(cpu, instruction, 0, 2, BigInt(size));
  return typeof selector === 'object' ? selector : { selector: Number(selector), offset };
}

/** What the pushed return address is: RIP after the instruction. */
const nextRip = (cpu: Cpu, instruction: DecodedInstruction): bigint =>
  BigInt.asUintN(in64BitMode(cpu.state) ? 64 : 32, cpu.state.get64('rip') + BigInt(instruction.length));

function farJump(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const pointer = farPointer(cpu, instruction);
  if (isFault(pointer)) return pointer;
  if (hasRealSegments(cpu.state)) return jumpReal(cpu, pointer);
  const target = farTarget(cpu, pointer);
  if (isFault(target)) return target;
  if ('task' in target) return switchByBranch(cpu, instruction, target.task, TASK_SWITCH.jump);
  const { code, offset } = target;
  // A jump keeps the CPL, even through a gate.
  if (!isConforming(code.rights) && privilegeOf(code.rights) !== cpu.state.get32('cpl')) {
    return generalProtection(code.selector & 0xfffc);
  }
  const fault = checkCodeOffset(cpu, code, offset) ?? enterCode(cpu, code, cpu.state.get32('cpl'), offset);
  return fault ?? NEXT.jumped;
}

function jumpReal(cpu: Cpu, { selector, offset }: FarPointer): Next | Fault {
  if (offset > BigInt(cpu.state.get32('segmentLimit', SEGMENT.cs))) return generalProtection();
  loadRealSegment(cpu.state, SEGMENT.cs, selector);
  cpu.state.set64('rip', offset);
  return NEXT.jumped;
}

/** A far jump or call to another task. */
interface TaskTarget {
  /** Selector of its TSS. */
  readonly task: number;
}

function switchByBranch(
  cpu: Cpu,
  instruction: DecodedInstruction,
  selector: number,
  source: TaskSwitchSource,
): Next | Fault {
  const instructionPointer = nextRip(cpu, instruction);
  const flags = readRflags(cpu.state);
  return switchTask(cpu, { selector, source, instructionPointer, flags, external: 0 }) ?? NEXT.jumped;
}

/** Where a far jump or call leads, through a call gate or not. */
interface FarTarget {
  readonly code: Descriptor;
  readonly offset: bigint;
  readonly gate: CallGate | undefined;
}

interface CallGate {
  /** Bytes of a pushed value. */
  readonly width: 2 | 4 | 8;
  readonly parameters: number;
}

function farTarget(cpu: Cpu, { selector, offset }: FarPointer): FarTarget | TaskTarget | Fault {
  if (isNull(selector)) return generalProtection();
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  if ((descriptor.rights & RIGHTS.codeOrData) === 0) return gateTarget(cpu, descriptor);
  const wrong = generalProtection(selector & 0xfffc);
  const { rights } = descriptor;
  const cpl = cpu.state.get32('cpl');
  const dpl = privilegeOf(rights);
  const level = isConforming(rights) ? dpl <= cpl : dpl === cpl && (selector & 3) <= cpl;
  if (!isCode(rights) || !level || isInvalidLong(cpu, rights)) return wrong;
  if (!isPresent(rights)) return exception(VECTOR.np, selector & 0xfffc);
  return { code: descriptor, offset, gate: undefined };
}

function gateTarget(cpu: Cpu, gate: Descriptor): FarTarget | TaskTarget | Fault {
  const long = inLongMode(cpu.state);
  const type = systemType(gate.rights);
  const wrong = generalProtection(gate.selector & 0xfffc);
  if (!long && (type === SYSTEM_TYPE.taskGate || type === SYSTEM_TYPE.tss16 || type === SYSTEM_TYPE.tss32)) {
    return taskTarget(cpu, gate, type);
  }
  if (type !== SYSTEM_TYPE.callGate32 && (long || type !== SYSTEM_TYPE.callGate16)) return wrong;
  const dpl = privilegeOf(gate.rights);
  if (dpl < cpu.state.get32('cpl') || dpl < (gate.selector & 3)) return wrong;
  if (!isPresent(gate.rights)) return exception(VECTOR.np, gate.selector & 0xfffc);
  const upper = long ? gateUpperHalf(cpu, gate) : 0n;
  if (typeof upper === 'object') return upper;
  const wide = type === SYSTEM_TYPE.callGate32;
  const offset = BigInt((gate.low & 0xffff) | (wide ? gate.high & 0xffff_0000 : 0)) & 0xffff_ffffn;
  const code = gateCode(cpu, gate.low >>> 16);
  if (isFault(code)) return code;
  const width = long ? 8 : wide ? 4 : 2;
  return { code, offset: offset | (upper << 32n), gate: { width, parameters: long ? 0 : gate.high & 0x1f } };
}

function taskTarget(cpu: Cpu, descriptor: Descriptor, type: number): TaskTarget | Fault {
  const dpl = privilegeOf(descriptor.rights);
  const { selector } = descriptor;
  if (dpl < cpu.state.get32('cpl') || dpl < (selector & 3)) return generalProtection(selector & 0xfffc);
  if (type !== SYSTEM_TYPE.taskGate) return { task: selector };
  return isPresent(descriptor.rights) ? { task: descriptor.low >>> 16 } : exception(VECTOR.np, selector & 0xfffc);
}

/** Offset bits 63:32 of a 64-bit call gate, which takes two descriptor slots. */
function gateUpperHalf(cpu: Cpu, gate: Descriptor): bigint | Fault {
  const upper = cpu.mmu.read(gate.at + 8n, 8, true);
  if (typeof upper === 'object') return upper;
  // The type field of the second slot must be 0.
  return (upper & 0x1f00_0000_0000n) !== 0n ? generalProtection(gate.selector & 0xfffc) : upper & 0xffff_ffffn;
}

function gateCode(cpu: Cpu, selector: number): Descriptor | Fault {
  if (isNull(selector)) return generalProtection();
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  const { rights } = descriptor;
  const long = inLongMode(cpu.state);
  const wrongLong = long && (rights & (RIGHTS.long | RIGHTS.big)) !== RIGHTS.long;
  if (!isCode(rights) || privilegeOf(rights) > cpu.state.get32('cpl') || wrongLong) {
    return generalProtection(selector & 0xfffc);
  }
  return isPresent(rights) ? descriptor : exception(VECTOR.np, selector & 0xfffc);
}

function farCall(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const pointer = farPointer(cpu, instruction);
  if (isFault(pointer)) return pointer;
  const back = nextRip(cpu, instruction);
  const cs = BigInt(state.get32('segmentSelector', SEGMENT.cs));
  if (hasRealSegments(state)) {
    if (pointer.offset > BigInt(state.get32('segmentLimit', SEGMENT.cs))) return generalProtection();
    return pushFrame(cpu, [back, cs], instruction.operandSize) ?? jumpReal(cpu, pointer);
  }
  const target = farTarget(cpu, pointer);
  if (isFault(target)) return target;
  if ('task' in target) return switchByBranch(cpu, instruction, target.task, TASK_SWITCH.call);
  const { code, offset, gate } = target;
  const problem = checkCodeOffset(cpu, code, offset);
  if (problem) return problem;
  const cpl = state.get32('cpl');
  const newCpl = isConforming(code.rights) ? cpl : privilegeOf(code.rights);
  const fault =
    gate && newCpl < cpl
      ? pushOnInnerStack(cpu, gate, newCpl, [back, cs])
      : pushFrame(cpu, [back, cs], gate?.width ?? instruction.operandSize);
  return fault ?? enterCode(cpu, code, newCpl, offset) ?? NEXT.jumped;
}

/** A call to an inner level: SS:RSP and the gate's parameters go below the return address on the TSS's stack. */
function pushOnInnerStack(cpu: Cpu, gate: CallGate, cpl: number, back: readonly bigint[]): Fault | undefined {
  const { state } = cpu;
  const { width } = gate;
  const stack = innerStack(cpu, cpl, 0, 0);
  if (isFault(stack)) return stack;
  const parameters = peekFrame(cpu, gate.parameters, width);
  if (isFault(parameters)) return parameters;
  const ss = BigInt(state.get32('segmentSelector', SEGMENT.ss));
  const values = [...back, ...parameters, stackPointer(state), ss];
  const size = values.length * width;
  const address = innerFrameAddress(stack, size, 0);
  if (typeof address === 'object') return address;
  if (inLongMode(state) && !isCanonical(state, address)) return exception(VECTOR.ss, 0);
  return writeFrame(cpu, address, values, width, cpl) ?? takeStack(cpu, stack, stack.pointer - BigInt(size));
}

/** RET far, with or without the number of parameter bytes to release. */
function farReturn(cpu: Cpu, instruction: DecodedInstruction): Next | Fault {
  const { state } = cpu;
  const width = instruction.operandSize;
  const operand = instruction.operands[0];
  const release = operand?.kind === 'immediate' ? Number(operand.value & 0xffffn) : 0;
  const frame = peekFrame(cpu, 2, width);
  if (isFault(frame)) return frame;
  const [rip, cs] = frame as [bigint, bigint];
  const popped = 2 * width + release;
  if (hasRealSegments(state)) {
    const outcome = jumpReal(cpu, { selector: Number(cs & 0xffffn), offset: rip });
    if (typeof outcome === 'number') setStackPointer(state, stackPointer(state) + BigInt(popped));
    return outcome;
  }
  const code = returnCode(cpu, Number(cs & 0xffffn));
  if (isFault(code)) return code;
  const outer = (Number(cs) & 3) > state.get32('cpl');
  const stack = outer ? peekFrame(cpu, 2, width, popped) : undefined;
  if (isFault(stack)) return stack;
  const pointers = stack as [bigint, bigint] | undefined;
  const newStack = pointers && { pointer: pointers[0] + BigInt(release), selector: Number(pointers[1] & 0xffffn) };
  return completeReturn(cpu, code, rip, newStack, popped) ?? NEXT.jumped;
}

/**
 * The common end of far returns and IRET: loads CS:RIP and, when it is given, SS:RSP, else pops `popped` bytes. Data
 * segments too privileged for the new level become null.
 */
function completeReturn(
  cpu: Cpu,
  code: Descriptor,
  rip: bigint,
  stack: { pointer: bigint; selector: number } | undefined,
  popped: number,
): Fault | undefined {
  const { state } = cpu;
  const cpl = code.selector & 3;
  const outer = cpl > state.get32('cpl');
  const problem = checkCodeOffset(cpu, code, rip);
  if (problem) return problem;
  if (stack === undefined) {
    const old = state.get64('gpr', GPR.rsp);
    setStackPointer(state, stackPointer(state) + BigInt(popped));
    const fault = enterCode(cpu, code, cpl, rip);
    if (fault) state.set64('gpr', old, GPR.rsp);
    return fault;
  }
  const descriptor = returnStack(cpu, stack.selector, cpl, isLongCode(cpu, code));
  if (isFault(descriptor)) return descriptor;
  const fault = enterCode(cpu, code, cpl, rip) ?? enterStack(cpu, stack.selector, descriptor);
  if (fault) return fault;
  setStackPointer(state, stack.pointer);
  if (outer) dropInnerSegments(state);
  return undefined;
}

/** IRET removes blocking by NMI even if it faults. @returns whether there was any to remove */
function unblockNmi({ state, intercepts }: Cpu): boolean {
  const blocking = state.get32('interruptibility');
  if ((blocking & BLOCKING.byNmi) === 0) return false;
  if (state.get32('nonRoot') !== 0 && !intercepts.iretUnblocksNmi()) return false;
  state.set32('interruptibility', blocking & ~BLOCKING.byNmi);
  return true;
}

/** Faults that no VM exit reports. */
const isOther = (fault: Fault): fault is Extract<Fault, { kind: 'softwareInterrupt' | 'unimplemented' }> =>
  fault.kind === 'softwareInterrupt' || fault.kind === 'unimplemented';

const iret =
  (width: 2 | 4 | 8) =>
  (cpu: Cpu, instruction: DecodedInstruction): Next | Fault => {
    const { state } = cpu;
    if (inVirtual8086(state) && ioPrivilegeLevel(state) < 3) return generalProtection();
    const fault = hasRealSegments(state) ? iretReal(cpu, width) : iretProtected(cpu, width, instruction);
    const unblocks = unblockNmi(cpu);
    if (fault) return unblocks && !isOther(fault) ? { ...fault, unblocksNmi: true } : fault;
    state.set32('attention', 1);
    cpu.mmu.updateContext();
    return NEXT.jumped;
  };

function iretReal(cpu: Cpu, width: number): Fault | undefined {
  const { state } = cpu;
  const frame = peekFrame(cpu, 3, width);
  if (isFault(frame)) return frame;
  const [rip, cs, flags] = frame as [bigint, bigint, bigint];
  const outcome = jumpReal(cpu, { selector: Number(cs & 0xffffn), offset: rip });
  if (typeof outcome === 'object') return outcome;
  setStackPointer(state, stackPointer(state) + BigInt(3 * width));
  // VM, VIF and VIP stay as they are, in virtual-8086 mode (CPL 3) IOPL, too.
  setReturnedFlags(cpu, Number(flags & 0xffff_ffffn), width, state.get32('cpl'));
  return undefined;
}

/** IRET with RFLAGS.NT: back to the task that the current TSS links to. */
function iretFromTask(cpu: Cpu, instruction: DecodedInstruction): Fault | undefined {
  const link = readTss(cpu, 0, 2, 0);
  if (typeof link === 'object') return link;
  return switchTask(cpu, {
    selector: Number(link),
    source: TASK_SWITCH.iret,
    instructionPointer: nextRip(cpu, instruction),
    flags: readRflags(cpu.state),
    external: 0,
  });
}

/** IRETD at CPL 0 with VM set in the flags that it pops. */
function iretToVirtual8086(cpu: Cpu, [rip, cs, flags]: readonly [bigint, bigint, bigint]): Fault | undefined {
  const { state } = cpu;
  const rest = peekFrame(cpu, 6, 4, 12);
  if (isFault(rest)) return rest;
  if (rip > 0xffffn) return generalProtection();
  writeRflags(state, Number(flags & 0xffff_ffffn));
  setPrivilege(cpu, 3);
  const [rsp = 0n, ...selectors] = rest;
  loadRealSegment(state, SEGMENT.cs, Number(cs & 0xffffn));
  const order = [SEGMENT.ss, SEGMENT.es, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const;
  order.forEach((segment, i) => {
    loadRealSegment(state, segment, Number((selectors[i] ?? 0n) & 0xffffn));
  });
  state.set64('gpr', rsp, GPR.rsp);
  state.set64('rip', rip);
  return undefined;
}

function iretProtected(cpu: Cpu, width: number, instruction: DecodedInstruction): Fault | undefined {
  const { state } = cpu;
  if ((state.get32('rflagsSystem') & RFLAGS.nt) !== 0) {
    return inLongMode(state) ? generalProtection() : iretFromTask(cpu, instruction);
  }
  const frame = peekFrame(cpu, 3, width);
  if (isFault(frame)) return frame;
  const [rip, cs, flags] = frame as [bigint, bigint, bigint];
  const oldCpl = state.get32('cpl');
  if (oldCpl === 0 && !inLongMode(state) && width === 4 && (flags & BigInt(RFLAGS.vm)) !== 0n) {
    return iretToVirtual8086(cpu, [rip, cs, flags]);
  }
  const code = returnCode(cpu, Number(cs & 0xffffn));
  if (isFault(code)) return code;
  // 64-bit mode restores SS:RSP always, other modes only when the level changes.
  const restoresStack = in64BitMode(state) || (Number(cs) & 3) > oldCpl;
  const stack = restoresStack ? peekFrame(cpu, 2, width, 3 * width) : undefined;
  if (isFault(stack)) return stack;
  const pointers = stack as [bigint, bigint] | undefined;
  const newStack = pointers && { pointer: pointers[0], selector: Number(pointers[1] & 0xffffn) };
  const fault = completeReturn(cpu, code, rip, newStack, 3 * width);
  if (fault) return fault;
  setReturnedFlags(cpu, Number(flags & 0xffff_ffffn), width, oldCpl);
  return undefined;
}

/** RFLAGS from an IRET frame: IF needs CPL ≤ IOPL, IOPL (and VIF, VIP with 32-bit frames) needs CPL 0. */
function setReturnedFlags(cpu: Cpu, flags: number, width: number, oldCpl: number): void {
  const { state } = cpu;
  let changed =
    RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.tf | RFLAGS.df | RFLAGS.of | RFLAGS.nt;
  if (width > 2) changed |= RFLAGS.rf | RFLAGS.ac | RFLAGS.id;
  if (oldCpl <= ioPrivilegeLevel(state)) changed |= RFLAGS.if;
  if (oldCpl === 0) changed |= RFLAGS.iopl;
  if (oldCpl === 0 && width > 2 && inProtectedMode(state)) changed |= RFLAGS.vif | RFLAGS.vip;
  writeRflags(state, (readRflags(state) & ~changed) | (flags & changed));
}

export const FAR_TRANSFERS: NamedInstructions = {
  Jmp: farJump,
  Call: farCall,
  Retf: farReturn,
  Iret: iret(2),
  Iretd: iret(4),
  Iretq: iret(8),
};
