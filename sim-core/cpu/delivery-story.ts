/**
 * What the delivery of an event reads, told after it has failed: the IDT entry, the handler's descriptor, the stack. A
 * failed delivery changes nothing, so it can be read again, without side effects.
 */

import { SYSTEM_TYPE } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import type { Cpu } from './cpu.ts';
import type { DeliveryRead } from './fault-step.ts';
import type { VectoredEvent } from './intercepts.ts';
import { hasRealSegments, inLongMode } from './modes.ts';
import { toLinear } from './segments.ts';

const TSS_IST1 = 0x24;
const TSS_RSP0 = 4;
/** SS, RSP, RFLAGS, CS, RIP, and the error code where there is one. */
const FRAME_VALUES = 5;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Everything that delivery reads up to where it stops, in order. */
export function deliveryReads(cpu: Cpu, event: VectoredEvent): DeliveryRead[] {
  return hasRealSegments(cpu.state) ? realReads(cpu, event) : protectedReads(cpu, event);
}

function realReads(cpu: Cpu, event: VectoredEvent): DeliveryRead[] {
  const { state } = cpu;
  const at = BigInt.asUintN(32, state.get64('idtrBase') + BigInt(event.vector * 4));
  const limit = state.get32('idtrLimit');
  if (event.vector * 4 + 3 > limit) return [beyond('interrupt-vector-table entry', event.vector, at, limit)];
  const entry = read(cpu, `interrupt-vector-table entry ${event.vector}`, at, 4);
  const { value } = entry;
  if (value === undefined) return [entry];
  return [{ ...entry, note: `handler ${hex(value >> 16n)}:${hex(value & 0xffffn)}` }];
}

function protectedReads(cpu: Cpu, event: VectoredEvent): DeliveryRead[] {
  const { state } = cpu;
  const size = inLongMode(state) ? 16 : 8;
  const at = toLinear(state, state.get64('idtrBase') + BigInt(event.vector * size));
  const limit = state.get32('idtrLimit');
  if (event.vector * size + size - 1 > limit) return [beyond('IDT entry', event.vector, at, limit)];
  const entry = read(cpu, `IDT entry ${event.vector}`, at, 8);
  if (entry.value === undefined) return [entry];
  const gate = { ...entry, note: describeGate(entry.value, inLongMode(state)) };
  if (!isUsableGate(entry.value, inLongMode(state))) return [gate];
  const selector = Number((entry.value >> 16n) & 0xffffn);
  return [gate, ...descriptorReads(cpu, selector), ...stackReads(cpu, event, entry.value)];
}

function beyond(what: string, vector: number, address: bigint, limit: number): DeliveryRead {
  return { what: `${what} ${vector}`, address, note: `not read: it lies beyond the IDT limit ${hex(limit)}` };
}

const GATES: Readonly<Record<number, string>> = {
  [SYSTEM_TYPE.taskGate]: 'task gate',
  [SYSTEM_TYPE.interruptGate16]: '16-bit interrupt gate',
  [SYSTEM_TYPE.trapGate16]: '16-bit trap gate',
  [SYSTEM_TYPE.interruptGate32]: 'interrupt gate',
  [SYSTEM_TYPE.trapGate32]: 'trap gate',
};

/** Bits 44:40 of a gate: its type with the S bit. */
const gateType = (value: bigint): number => Number((value >> 40n) & 0x1fn);

function describeGate(value: bigint, long: boolean): string {
  const name = GATES[gateType(value)] ?? `type ${hex(gateType(value))}, which is no gate`;
  const ist = long && (value >> 32n) & 7n ? `, IST ${(value >> 32n) & 7n}` : '';
  const present = isPresentGate(value) ? '' : ', not present';
  return `${name}${present}, selector ${hex((value >> 16n) & 0xffffn)}, DPL ${(value >> 45n) & 3n}${ist}`;
}

const isPresentGate = (value: bigint): boolean => ((value >> 47n) & 1n) === 1n;

function isUsableGate(value: bigint, long: boolean): boolean {
  const type = gateType(value);
  const wide = type === SYSTEM_TYPE.interruptGate32 || type === SYSTEM_TYPE.trapGate32;
  const narrow = type === SYSTEM_TYPE.interruptGate16 || type === SYSTEM_TYPE.trapGate16;
  return isPresentGate(value) && (wide || (!long && narrow));
}

function descriptorReads(cpu: Cpu, selector: number): DeliveryRead[] {
  const { state } = cpu;
  const what = `descriptor ${hex(selector)} of the handler’s code segment`;
  if ((selector & ~3) === 0) return [{ what, address: 0n, note: 'not read: the selector is null' }];
  const local = (selector & 4) !== 0;
  const base = local ? state.get64('segmentBase', SEGMENT.ldtr) : state.get64('gdtrBase');
  const limit = local ? state.get32('segmentLimit', SEGMENT.ldtr) : state.get32('gdtrLimit');
  const at = toLinear(state, base + BigInt(selector & 0xfff8));
  if ((selector | 7) > limit) {
    return [{ what, address: at, note: `not read: beyond the ${local ? 'LDT' : 'GDT'} limit ${hex(limit)}` }];
  }
  const entry = read(cpu, what, at, 8);
  return [entry.value === undefined ? entry : { ...entry, note: describeDescriptor(entry.value) }];
}

function describeDescriptor(value: bigint): string {
  const bit = (n: bigint): boolean => ((value >> n) & 1n) === 1n;
  const kind = !bit(44n) ? 'system descriptor' : bit(43n) ? (bit(53n) ? '64-bit code' : 'code') : 'data';
  return `${kind}${bit(47n) ? '' : ', not present'}, DPL ${(value >> 45n) & 3n}`;
}

/** Where the frame goes: an IST or inner stack from the TSS, or the stack in use. */
function stackReads(cpu: Cpu, event: VectoredEvent, gate: bigint): DeliveryRead[] {
  const { state } = cpu;
  if (!inLongMode(state)) return [];
  const ist = Number((gate >> 32n) & 7n);
  const inner = ist > 0 || state.get32('cpl') !== 0;
  const offset = ist > 0 ? TSS_IST1 + 8 * (ist - 1) : TSS_RSP0;
  const tss = toLinear(state, state.get64('segmentBase', SEGMENT.tr) + BigInt(offset));
  const pointer = inner ? read(cpu, ist > 0 ? `IST ${ist} of the TSS` : 'RSP0 of the TSS', tss, 8) : undefined;
  const top = pointer ? pointer.value : state.get64('gpr', GPR.rsp);
  if (top === undefined) return pointer ? [pointer] : [];
  const values = FRAME_VALUES + (event.errorCode === undefined ? 0 : 1);
  const frame = BigInt.asUintN(64, (top & ~0xfn) - BigInt(8 * values));
  const { fault } = cpu.mmu.explain(frame, 'write', { ...cpu.mmu.context(), cpl: 0 });
  const note = fault ? `cannot be written: ${fault.kind === 'exception' ? 'it faults' : fault.kind}` : 'can be written';
  return [...(pointer ? [pointer] : []), { what: `stack frame of ${values} values`, address: frame, note }];
}

/** @param size 4 or 8 bytes, as a supervisor access */
function read(cpu: Cpu, what: string, address: bigint, size: 4 | 8): DeliveryRead {
  const bytes = new Uint8Array(8);
  for (let i = 0; i < size; i++) {
    const { physical } = cpu.mmu.explain(address + BigInt(i), 'read', { ...cpu.mmu.context(), cpl: 0 });
    if (physical === undefined) return { what, address, note: 'cannot be read: no translation of its address' };
    bytes.set(cpu.mmu.physical.peek(physical, 1), i);
  }
  return { what, address, value: new DataView(bytes.buffer).getBigUint64(0, true), note: '' };
}

/** Error codes that name a table entry (SDM Vol. 3A, "Error Code"). */
const SELECTOR_ERRORS: ReadonlySet<number> = new Set([10, 11, 12, 13]);

/** The error code of an exception in words; empty when it says nothing. */
export function describeErrorCode(vector: number, code: number | undefined): string {
  if (code === undefined) return '';
  if (vector === 14) {
    const access = code & 16 ? 'instruction fetch' : code & 2 ? 'write' : 'read';
    const why =
      code & 8 ? 'a reserved bit is set' : code & 1 ? 'the access rights refuse it' : 'the page is not present';
    return `${code & 4 ? 'user' : 'supervisor'} ${access}, ${why}`;
  }
  if (!SELECTOR_ERRORS.has(vector) || code === 0) return '';
  const external = code & 1 ? ', during the delivery of an event' : '';
  if (code & 2) return `IDT entry ${code >>> 3}${external}`;
  return `${code & 4 ? 'LDT' : 'GDT'} entry ${code >>> 3} (selector ${hex(code & 0xfffc)})${external}`;
}
