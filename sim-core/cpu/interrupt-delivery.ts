/** One event through the IDT (SDM Vol. 3A, "Interrupt and Exception Handling"), or the fault that stops it. */

import { exception, type Fault, generalProtection, VECTOR } from '../mmu/fault.ts';
import { BLOCKING, RFLAGS, RIGHTS, SYSTEM_TYPE } from '../state/control-bits.ts';
import { ACTIVITY, GPR, SEGMENT } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import type { VectoredEvent } from './intercepts.ts';
import { inLongMode, inProtectedMode, inVirtual8086, isCanonical } from './modes.ts';
import { readRflags, writeSystemFlags } from './rflags.ts';
import {
  type Descriptor,
  descriptorLimit,
  isCode,
  isConforming,
  isFault,
  isNull,
  isPresent,
  loadRealSegment,
  markAccessed,
  privilegeOf,
  readDescriptor,
  setNullSegment,
  setPrivilege,
  setSegmentFrom,
  toLinear,
} from './segments.ts';
import { pushFrame, stackPointer, writeFrame } from './stack.ts';
import { type InnerStack, innerFrameAddress, innerStack, takeStack } from './stack-switch.ts';
import { switchTask, TASK_SWITCH } from './task-switch.ts';

interface Gate {
  readonly selector: number;
  readonly offset: bigint;
  /** Operand size of the gate in bytes: what one pushed value takes. */
  readonly width: 2 | 4 | 8;
  readonly isInterruptGate: boolean;
  readonly isTaskGate: boolean;
  readonly ist: number;
}

/** Error codes that name an IDT entry (SDM Vol. 3A, "Error Code"). */
const idtError = (vector: number, external: number): number => vector * 8 + 2 + external;

/** Exceptions of the fault class: RF is set in the RFLAGS image that they save. #DB is left out: it may be a trap. */
const SETS_RESUME_FLAG: ReadonlySet<number> = new Set([
  VECTOR.de, VECTOR.br, VECTOR.ud, VECTOR.nm, VECTOR.ts, VECTOR.np, VECTOR.ss, VECTOR.gp, VECTOR.pf, VECTOR.mf,
  VECTOR.ac, VECTOR.xm, VECTOR.ve, VECTOR.cp,
]); // biome-ignore format: a table reads better in rows

/** Software interrupts and exceptions: INT n (4), INT3 and INTO (6). INT1 (5) counts as external to the program. */
const isSoftware = (event: VectoredEvent): boolean => event.type === 4 || event.type === 6;

/** Where the handler returns to. */
function returnAddress(cpu: Cpu, event: VectoredEvent): bigint {
  const rip = cpu.state.get64('rip') + BigInt(event.instructionLength ?? 0);
  return BigInt.asUintN(inLongMode(cpu.state) ? 64 : 32, rip);
}

/** The RFLAGS image that delivery saves. */
function savedFlags(cpu: Cpu, event: VectoredEvent): bigint {
  const resume = event.type === 3 && SETS_RESUME_FLAG.has(event.vector) ? RFLAGS.rf : 0;
  return BigInt((readRflags(cpu.state) | resume) >>> 0);
}

/** Delivers the event. On a fault nothing has changed but accessed flags. CR2 and DR6 are the caller's. */
export function deliverThroughIdt(cpu: Cpu, event: VectoredEvent): Fault | undefined {
  const { state } = cpu;
  const fault = inProtectedMode(state) ? deliverProtected(cpu, event) : deliverReal(cpu, event);
  if (fault) return fault;
  state.set32('interruptibility', state.get32('interruptibility') & ~(BLOCKING.bySti | BLOCKING.byMovSs));
  state.set32('activity', ACTIVITY.active);
  state.set32('monitorArmed', 0);
  return undefined;
}

function deliverReal(cpu: Cpu, event: VectoredEvent): Fault | undefined {
  const { state } = cpu;
  if (event.vector * 4 + 3 > state.get32('idtrLimit')) return generalProtection();
  const entry = cpu.mmu.read(BigInt.asUintN(32, state.get64('idtrBase') + BigInt(event.vector * 4)), 4, true);
  if (typeof entry === 'object') return entry;
  const cs = BigInt(state.get32('segmentSelector', SEGMENT.cs));
  const fault = pushFrame(cpu, [returnAddress(cpu, event), cs, savedFlags(cpu, event)], 2);
  if (fault) return fault;
  writeSystemFlags(state, state.get32('rflagsSystem') & ~(RFLAGS.if | RFLAGS.tf | RFLAGS.rf | RFLAGS.ac));
  cpu.mmu.updateContext();
  loadRealSegment(state, SEGMENT.cs, Number(entry >> 16n));
  state.set64('rip', entry & 0xffffn);
  return undefined;
}

function deliverProtected(cpu: Cpu, event: VectoredEvent): Fault | undefined {
  const external = isSoftware(event) ? 0 : 1;
  const gate = readGate(cpu, event, external);
  if (isFault(gate)) return gate;
  if (gate.isTaskGate) return deliverByTask(cpu, event, gate, external);
  const code = handlerSegment(cpu, gate, external);
  if (isFault(code)) return code;
  if (!inLongMode(cpu.state) && gate.offset > BigInt(descriptorLimit(code))) return generalProtection(external);
  if (inLongMode(cpu.state) && !isCanonical(cpu.state, gate.offset)) return generalProtection(external);
  const cpl = cpu.state.get32('cpl');
  const newCpl = isConforming(code.rights) ? cpl : privilegeOf(code.rights);
  const virtual8086 = inVirtual8086(cpu.state);
  if (virtual8086 && newCpl !== 0) return generalProtection((gate.selector & 0xfffc) | external);
  const switched = newCpl !== cpl || (inLongMode(cpu.state) && gate.ist > 0);
  const fault =
    switched || inLongMode(cpu.state)
      ? pushOnNewStack(cpu, event, gate, newCpl, switched, external)
      : pushFrame(cpu, frame(cpu, event), gate.width);
  if (fault) return fault;
  if (virtual8086) for (const segment of SAVED_BY_VIRTUAL_8086) setNullSegment(cpu.state, segment, 0);
  return enterHandler(cpu, gate, code, newCpl);
}

/** Segment registers that leaving virtual-8086 mode pushes above SS, the last one highest, and makes null. */
const SAVED_BY_VIRTUAL_8086 = [SEGMENT.es, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const;

/** A task gate: the old task saves what a frame would have held. */
function deliverByTask(cpu: Cpu, event: VectoredEvent, gate: Gate, external: number): Fault | undefined {
  return switchTask(cpu, {
    selector: gate.selector,
    source: TASK_SWITCH.gate,
    instructionPointer: returnAddress(cpu, event),
    flags: Number(savedFlags(cpu, event)),
    external,
    errorCode: event.errorCode,
  });
}

/** RIP, CS, RFLAGS with the error code below them: lowest address first. */
function frame(cpu: Cpu, event: VectoredEvent): bigint[] {
  const cs = BigInt(cpu.state.get32('segmentSelector', SEGMENT.cs));
  const values = [returnAddress(cpu, event), cs, savedFlags(cpu, event)];
  if (event.errorCode !== undefined) values.unshift(BigInt(event.errorCode));
  return values;
}

function readGate(cpu: Cpu, event: VectoredEvent, external: number): Gate | Fault {
  const { state } = cpu;
  const long = inLongMode(state);
  const size = long ? 16 : 8;
  const wrong = generalProtection(idtError(event.vector, external));
  if (event.vector * size + size - 1 > state.get32('idtrLimit')) return wrong;
  const at = toLinear(state, state.get64('idtrBase') + BigInt(event.vector * size));
  const value = cpu.mmu.read(at, 8, true);
  if (typeof value === 'object') return value;
  const upper = long ? cpu.mmu.read(at + 8n, 8, true) : 0n;
  if (typeof upper === 'object') return upper;
  const rights = Number((value >> 40n) & 0xffn);
  const type = rights & 0x1f;
  const wide = type === SYSTEM_TYPE.interruptGate32 || type === SYSTEM_TYPE.trapGate32;
  const narrow = type === SYSTEM_TYPE.interruptGate16 || type === SYSTEM_TYPE.trapGate16;
  const isTaskGate = type === SYSTEM_TYPE.taskGate && !long;
  if (!wide && !isTaskGate && (long || !narrow)) return wrong;
  if (isSoftware(event) && privilegeOf(rights) < state.get32('cpl')) return wrong;
  if (!isPresent(rights)) return exception(VECTOR.np, idtError(event.vector, external));
  const low = (value & 0xffffn) | (wide ? (value >> 32n) & 0xffff_0000n : 0n);
  return {
    selector: Number((value >> 16n) & 0xffffn),
    offset: low | ((upper & 0xffff_ffffn) << 32n),
    width: long ? 8 : wide ? 4 : 2,
    isTaskGate,
    isInterruptGate: type === SYSTEM_TYPE.interruptGate32 || type === SYSTEM_TYPE.interruptGate16,
    ist: long ? Number((value >> 32n) & 7n) : 0,
  };
}

function handlerSegment(cpu: Cpu, gate: Gate, external: number): Descriptor | Fault {
  const { selector } = gate;
  if (isNull(selector)) return generalProtection(external);
  const descriptor = readDescriptor(cpu, selector, VECTOR.gp, external);
  if (isFault(descriptor)) return descriptor;
  const wrong = generalProtection((selector & 0xfffc) | external);
  const { rights } = descriptor;
  if (!isCode(rights) || privilegeOf(rights) > cpu.state.get32('cpl')) return wrong;
  if (inLongMode(cpu.state) && (rights & (RIGHTS.long | RIGHTS.big)) !== RIGHTS.long) return wrong;
  return isPresent(rights) ? descriptor : exception(VECTOR.np, (selector & 0xfffc) | external);
}

/** Pushes the frame with the old SS:RSP, on the stack of the new level or, in IA-32e mode, on any. */
function pushOnNewStack(
  cpu: Cpu,
  event: VectoredEvent,
  gate: Gate,
  newCpl: number,
  switched: boolean,
  external: number,
): Fault | undefined {
  const { state } = cpu;
  const long = inLongMode(state);
  let stack: InnerStack | undefined;
  if (switched) {
    const found = innerStack(cpu, newCpl, gate.ist, external);
    if (isFault(found)) return found;
    stack = found;
  }
  const values = frame(cpu, event);
  values.push(state.get64('gpr', GPR.rsp), BigInt(state.get32('segmentSelector', SEGMENT.ss)));
  if (inVirtual8086(state)) {
    values.push(...SAVED_BY_VIRTUAL_8086.map((segment) => BigInt(state.get32('segmentSelector', segment))));
  }
  const size = values.length * gate.width;
  const source = stack?.pointer ?? stackPointer(state);
  const pointer = long ? source & ~0xfn : source;
  const address = innerFrameAddress(
    { selector: stack?.selector ?? 0, descriptor: stack?.descriptor, pointer },
    size,
    external,
  );
  if (typeof address === 'object') return address;
  if (long && !(isCanonical(state, address) && isCanonical(state, pointer - 1n))) return exception(VECTOR.ss, external);
  const fault = writeFrame(cpu, address, values, gate.width, newCpl);
  if (fault) return fault;
  const top = pointer - BigInt(size);
  // An IST switch at the same level keeps SS (SDM Vol. 3A, "Stack Switching in IA-32e Mode").
  if (stack !== undefined && newCpl !== state.get32('cpl')) return takeStack(cpu, stack, top);
  state.set64('gpr', BigInt.asUintN(64, top), GPR.rsp);
  return undefined;
}

function enterHandler(cpu: Cpu, gate: Gate, code: Descriptor, newCpl: number): Fault | undefined {
  const { state } = cpu;
  const fault = markAccessed(cpu, code);
  if (fault) return fault;
  setSegmentFrom(state, SEGMENT.cs, (gate.selector & 0xfffc) | newCpl, code);
  state.set64('rip', gate.offset);
  const cleared = RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm | (gate.isInterruptGate ? RFLAGS.if : 0);
  writeSystemFlags(state, state.get32('rflagsSystem') & ~cleared);
  setPrivilege(cpu, newCpl);
  return undefined;
}
