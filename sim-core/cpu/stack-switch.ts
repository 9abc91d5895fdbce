/** Stacks of inner privilege levels, as call gates and interrupt gates take them from the TSS. */

import { exception, type Fault, VECTOR } from '../mmu/fault.ts';
import { RIGHTS, SYSTEM_TYPE } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import { inLongMode } from './modes.ts';
import {
  type Descriptor,
  descriptorBase,
  descriptorLimit,
  isFault,
  isNull,
  isPresent,
  isWritableData,
  markAccessed,
  privilegeOf,
  readDescriptor,
  setNullSegment,
  setSegmentFrom,
  systemType,
} from './segments.ts';
import { readTss } from './stack.ts';

/** The stack that an inner level starts with. */
export interface InnerStack {
  readonly pointer: bigint;
  readonly selector: number;
  /** Undefined in IA-32e mode, where SS becomes null. */
  readonly descriptor: Descriptor | undefined;
}

/** Offset of RSP0, ISTs, SS0:ESP0 and SS0:SP0 in the TSS (SDM Vol. 3A, "Task Management"). */
const TSS64_RSP0 = 4;
const TSS64_IST1 = 0x24;

/**
 * The stack for privilege level `cpl` from the current TSS.
 * @param ist 1…7 for an interrupt-stack-table entry, 0 for the level's own stack
 * @param external EXT bit of error codes
 */
export function innerStack(cpu: Cpu, cpl: number, ist: number, external: number): InnerStack | Fault {
  if (inLongMode(cpu.state)) {
    const offset = ist > 0 ? TSS64_IST1 + 8 * (ist - 1) : TSS64_RSP0 + 8 * cpl;
    const pointer = readTss(cpu, offset, 8, external);
    if (typeof pointer === 'object') return pointer;
    return { pointer, selector: cpl, descriptor: undefined };
  }
  const type = systemType(cpu.state.get32('segmentRights', SEGMENT.tr));
  const wide = type === SYSTEM_TYPE.tss32 || type === SYSTEM_TYPE.busyTss32;
  const pointer = readTss(cpu, wide ? 4 + 8 * cpl : 2 + 4 * cpl, wide ? 4 : 2, external);
  if (typeof pointer === 'object') return pointer;
  const selector = readTss(cpu, wide ? 8 + 8 * cpl : 4 + 4 * cpl, 2, external);
  if (typeof selector === 'object') return selector;
  const descriptor = stackDescriptor(cpu, Number(selector), cpl, external);
  return isFault(descriptor) ? descriptor : { pointer, selector: Number(selector), descriptor };
}

function stackDescriptor(cpu: Cpu, selector: number, cpl: number, external: number): Descriptor | Fault {
  if (isNull(selector)) return exception(VECTOR.ts, external);
  const wrong = exception(VECTOR.ts, (selector & 0xfffc) | external);
  const descriptor = readDescriptor(cpu, selector, VECTOR.ts, external);
  if (isFault(descriptor)) return descriptor;
  const { rights } = descriptor;
  if ((selector & 3) !== cpl || privilegeOf(rights) !== cpl || !isWritableData(rights)) return wrong;
  return isPresent(rights) ? descriptor : exception(VECTOR.ss, (selector & 0xfffc) | external);
}

/**
 * Linear address of a frame of `size` bytes that ends at the inner stack's pointer (64-bit: aligned down to 16 bytes by
 * the caller), after the limit check.
 */
export function innerFrameAddress(stack: InnerStack, size: number, external: number): bigint | Fault {
  const { descriptor } = stack;
  if (descriptor === undefined) return BigInt.asUintN(64, stack.pointer - BigInt(size));
  const wide = (descriptor.rights & RIGHTS.big) !== 0;
  const top = wide ? 0xffff_ffff : 0xffff;
  const offset = (Number(stack.pointer) - size) & top;
  const first = offset >>> 0;
  const last = first + size - 1;
  const limit = descriptorLimit(descriptor);
  const down = (descriptor.rights & RIGHTS.expandDown) !== 0;
  if (down ? first <= limit || last > top : last > limit) {
    return exception(VECTOR.ss, (stack.selector & 0xfffc) | external);
  }
  return BigInt.asUintN(32, BigInt(descriptorBase(descriptor) + first));
}

/** Makes the inner stack current, with `pointer` as the new stack pointer. CPL is the caller's. */
export function takeStack(cpu: Cpu, stack: InnerStack, pointer: bigint): Fault | undefined {
  const { state } = cpu;
  if (stack.descriptor === undefined) {
    setNullSegment(state, SEGMENT.ss, stack.selector);
    state.set64('gpr', BigInt.asUintN(64, pointer), GPR.rsp);
    return undefined;
  }
  const fault = markAccessed(cpu, stack.descriptor);
  if (fault) return fault;
  setSegmentFrom(state, SEGMENT.ss, stack.selector, stack.descriptor);
  const wide = (stack.descriptor.rights & RIGHTS.big) !== 0;
  const kept = wide ? 0n : state.get64('gpr', GPR.rsp) & 0xffff_0000n;
  state.set64('gpr', kept | BigInt.asUintN(wide ? 32 : 16, pointer), GPR.rsp);
  return undefined;
}
