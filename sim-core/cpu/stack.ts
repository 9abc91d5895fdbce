/** The stack as far transfers and event delivery use it: whole frames, all or nothing. */

import { exception, type Fault, VECTOR } from '../mmu/fault.ts';
import { GPR, OFFSET, SEGMENT } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { stackWidth } from './modes.ts';
import { readGpr, writeGpr } from './operands.ts';
import { segmentAddress, toLinear } from './segments.ts';

/** RSP, ESP or SP. */
export const stackPointer = (state: State): bigint => readGpr(state, GPR.rsp, stackWidth(state));
export const setStackPointer = (state: State, value: bigint): void =>
  writeGpr(state, GPR.rsp, stackWidth(state), value);

/** What one access of the memory management can take when it crosses a page. */
const LARGEST_ACCESS = 64;

/**
 * Writes `values` of `width` bytes each, the first at the lowest address.
 * @param cpl privilege of the access: the new CPL when the frame lies on another level's stack
 */
export function writeFrame(
  cpu: Cpu,
  linear: bigint,
  values: readonly bigint[],
  width: number,
  cpl: number,
): Fault | undefined {
  const { state, mmu } = cpu;
  const size = values.length * width;
  if (size > LARGEST_ACCESS) return writeLongFrame(cpu, linear, values, width, cpl);
  const low = Number(linear & 0xffff_ffffn);
  const high = Number((linear >> 32n) & 0xffff_ffffn);
  const inner = cpl < 3 && state.get32('cpl') === 3;
  const at = inner ? mmu.accessSystem(low, high, size, true) : mmu.locate(low, high, size, true);
  if (at === 0) return mmu.lastFault();
  values.forEach((value, i) => {
    const to = at + i * width;
    if (width === 8) state.view.setBigUint64(to, BigInt.asUintN(64, value), true);
    else if (width === 4) state.view.setUint32(to, Number(value & 0xffff_ffffn), true);
    else state.view.setUint16(to, Number(value & 0xffffn), true);
  });
  if (at === OFFSET.bounce) mmu.commit();
  return undefined;
}

/** A frame with a call gate's parameters: in parts, the highest first, so that the part that can fault is the first. */
function writeLongFrame(
  cpu: Cpu,
  linear: bigint,
  values: readonly bigint[],
  width: number,
  cpl: number,
): Fault | undefined {
  const step = LARGEST_ACCESS / width;
  for (let end = values.length; end > 0; end -= step) {
    const start = Math.max(0, end - step);
    const at = BigInt.asUintN(64, linear + BigInt(start * width));
    const fault = writeFrame(cpu, at, values.slice(start, end), width, cpl);
    if (fault) return fault;
  }
  return undefined;
}

/** Pushes values of `width` bytes on the current stack, the last one pushed first. */
export function pushFrame(cpu: Cpu, values: readonly bigint[], width: number): Fault | undefined {
  const { state } = cpu;
  const size = values.length * width;
  const top = BigInt.asUintN(8 * stackWidth(state), stackPointer(state) - BigInt(size));
  const linear = segmentAddress(state, SEGMENT.ss, top, size, true);
  if (typeof linear === 'object') return linear;
  const fault = writeFrame(cpu, linear, values, width, state.get32('cpl'));
  if (fault) return fault;
  setStackPointer(state, top);
  return undefined;
}

/** Reads `count` values of `width` bytes from the top of the stack, `skip` bytes above it; the pointer stays. */
export function peekFrame(cpu: Cpu, count: number, width: number, skip = 0): bigint[] | Fault {
  const { state } = cpu;
  const mask = 8 * stackWidth(state);
  const values: bigint[] = [];
  for (let i = 0; i < count; i++) {
    const offset = BigInt.asUintN(mask, stackPointer(state) + BigInt(skip + i * width));
    const linear = segmentAddress(state, SEGMENT.ss, offset, width, false);
    if (typeof linear === 'object') return linear;
    const value = cpu.mmu.read(linear, width);
    if (typeof value === 'object') return value;
    values.push(value);
  }
  return values;
}

/** Reads `size` bytes of the current TSS; #TS(TR) when its limit does not cover them. */
export function readTss(cpu: Cpu, offset: number, size: 2 | 4 | 8, external: number): bigint | Fault {
  const { state } = cpu;
  if (offset + size - 1 > state.get32('segmentLimit', SEGMENT.tr)) {
    return exception(VECTOR.ts, (state.get32('segmentSelector', SEGMENT.tr) & 0xfffc) | external);
  }
  return cpu.mmu.read(toLinear(state, state.get64('segmentBase', SEGMENT.tr) + BigInt(offset)), size, true);
}
