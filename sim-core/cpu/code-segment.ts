/** Loading CS: the checks and effects that far jumps, calls and returns share. */

import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { RIGHTS } from '../state/control-bits.ts';
import { SEGMENT } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import { inLongMode, isCanonical } from './modes.ts';
import {
  type Descriptor,
  descriptorLimit,
  isCode,
  isConforming,
  isFault,
  isNull,
  isPresent,
  isWritableData,
  markAccessed,
  privilegeOf,
  readDescriptor,
  setNullSegment,
  setPrivilege,
  setSegmentFrom,
} from './segments.ts';

/** Whether a code descriptor has both L and D set, which IA-32e mode does not allow. */
export const isInvalidLong = (cpu: Cpu, rights: number): boolean =>
  inLongMode(cpu.state) && (rights & RIGHTS.long) !== 0 && (rights & RIGHTS.big) !== 0;

/** Whether code of this descriptor runs in 64-bit mode. */
export const isLongCode = (cpu: Cpu, descriptor: Descriptor): boolean =>
  inLongMode(cpu.state) && (descriptor.rights & RIGHTS.long) !== 0;

/** Checks an offset in a code segment: canonical in 64-bit mode, within the limit elsewhere. */
export function checkCodeOffset(cpu: Cpu, descriptor: Descriptor, offset: bigint): Fault | undefined {
  const good = isLongCode(cpu, descriptor)
    ? isCanonical(cpu.state, offset)
    : offset <= BigInt(descriptorLimit(descriptor));
  return good ? undefined : generalProtection();
}

/** Loads CS and RIP; the checks have been made. CPL becomes `cpl`, which stands in the selector's RPL, too. */
export function enterCode(cpu: Cpu, descriptor: Descriptor, cpl: number, offset: bigint): Fault | undefined {
  const fault = markAccessed(cpu, descriptor);
  if (fault) return fault;
  setSegmentFrom(cpu.state, SEGMENT.cs, (descriptor.selector & 0xfffc) | cpl, descriptor);
  cpu.state.set64('rip', offset);
  setPrivilege(cpu, cpl);
  return undefined;
}

/** The code descriptor that a far return or IRET goes to, checked against the RPL in its selector. */
export function returnCode(cpu: Cpu, selector: number): Descriptor | Fault {
  if (isNull(selector)) return generalProtection();
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  const { rights } = descriptor;
  const rpl = selector & 3;
  const dpl = privilegeOf(rights);
  const level = isConforming(rights) ? dpl <= rpl : dpl === rpl;
  if (!isCode(rights) || !level || rpl < cpu.state.get32('cpl') || isInvalidLong(cpu, rights)) {
    return generalProtection(selector & 0xfffc);
  }
  return isPresent(rights) ? descriptor : exception(VECTOR.np, selector & 0xfffc);
}

/** The stack segment that a return to level `cpl` restores; undefined for a null one, which 64-bit code may have. */
export function returnStack(
  cpu: Cpu,
  selector: number,
  cpl: number,
  toLongCode: boolean,
): Descriptor | undefined | Fault {
  if (isNull(selector)) {
    return toLongCode && cpl !== 3 && (selector & 3) === cpl ? undefined : generalProtection();
  }
  const descriptor = readDescriptor(cpu, selector);
  if (isFault(descriptor)) return descriptor;
  const { rights } = descriptor;
  if ((selector & 3) !== cpl || !isWritableData(rights) || privilegeOf(rights) !== cpl) {
    return generalProtection(selector & 0xfffc);
  }
  return isPresent(rights) ? descriptor : exception(VECTOR.ss, selector & 0xfffc);
}

/** Loads SS with what `returnStack` gave. */
export function enterStack(cpu: Cpu, selector: number, descriptor: Descriptor | undefined): Fault | undefined {
  if (descriptor === undefined) {
    setNullSegment(cpu.state, SEGMENT.ss, selector);
    return undefined;
  }
  const fault = markAccessed(cpu, descriptor);
  if (fault) return fault;
  setSegmentFrom(cpu.state, SEGMENT.ss, selector, descriptor);
  return undefined;
}
