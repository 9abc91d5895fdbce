/**
 * The plain case of IRETQ, by far the most frequent one in kernels (they return from interrupts, and serialize the
 * processor with it): 64-bit code at CPL 0 returns to the code and stack segments that it runs with, their
 * descriptors are what they were when they were loaded, and nothing waits for the flags that it restores.
 * Loading the segments again then changes nothing.
 */

import { BLOCKING, RFLAGS, RIGHTS } from '../state/control-bits.ts';
import { CODE_MODE, GPR, OFFSET, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { descriptorBase, descriptorLimit } from './segments.ts';

/** RIP, CS, RFLAGS, RSP and SS. */
const FRAME_SIZE = 40;
/** Flags that ask for more when they are set, before or after. */
const AWKWARD = RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm | RFLAGS.ac;
const RESTORED =
  RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of | RFLAGS.df | RFLAGS.if | RFLAGS.iopl |
  RFLAGS.id | RFLAGS.vif | RFLAGS.vip; // biome-ignore format: a list reads better in rows

/** @returns whether the return was of this kind, and is done; otherwise nothing has changed */
export function returnInPlace(cpu: Cpu): boolean {
  const { state, mmu } = cpu;
  const { u32, view } = state;
  const busy = state.get32('cpl') | state.get32('nonRoot') | (state.get32('interruptibility') & BLOCKING.byNmi);
  if (busy !== 0 || state.get32('codeMode') !== CODE_MODE.code64) return false;
  const rsp = (OFFSET.gpr >>> 2) + 2 * GPR.rsp;
  const low = u32[rsp] as number;
  if ((low & 0xfff) + FRAME_SIZE > 4096) return false;
  const frame = mmu.tlb.fast.probe(low, u32[rsp + 1] as number, false);
  if (frame === 0) return false;
  const flags = view.getUint32(frame + 16, true);
  if (((flags | state.get32('rflagsSystem')) & AWKWARD) !== 0) return false;
  const waits = state.get32('interruptRequest') | state.get32('nmiRequest');
  if ((flags & RFLAGS.if) !== 0 && waits !== 0) return false;
  const ripHigh = view.getUint32(frame + 4, true);
  if (ripHigh >>> 15 !== 0 && ripHigh >>> 15 !== 0x1_ffff) return false;
  if (!isLoaded(cpu, SEGMENT.cs, view.getUint16(frame + 8, true))) return false;
  const ss = view.getUint16(frame + 32, true);
  if (!(ss === 0 ? isNullStack(state) : isLoaded(cpu, SEGMENT.ss, ss))) return false;
  u32[OFFSET.rip >>> 2] = view.getUint32(frame, true);
  u32[(OFFSET.rip >>> 2) + 1] = ripHigh;
  u32[rsp] = view.getUint32(frame + 24, true);
  u32[rsp + 1] = view.getUint32(frame + 28, true);
  writeRflags(state, (readRflags(state) & ~RESTORED) | (flags & RESTORED));
  return true;
}

/** Whether SS is what returning to a null selector at CPL 0 makes of it. */
const isNullStack = (state: State): boolean =>
  state.get32('segmentSelector', SEGMENT.ss) === 0 &&
  state.get32('segmentRights', SEGMENT.ss) === RIGHTS.unusable &&
  state.get32('segmentLimit', SEGMENT.ss) === 0 &&
  state.get64('segmentBase', SEGMENT.ss) === 0n;

/** Whether the register holds this selector of the GDT, and exactly what its descriptor says. */
function isLoaded({ state, mmu }: Cpu, index: SegmentIndex, selector: number): boolean {
  if (state.get32('segmentSelector', index) !== selector || selector < 4 || (selector & 7) !== 0) return false;
  if ((selector | 7) > state.get32('gdtrLimit')) return false;
  const { u32, view } = state;
  const low = (u32[OFFSET.gdtrBase >>> 2] as number) + selector;
  // A table that crosses a page here, or 4 GiB, is left to the general case.
  if (low > 0xffff_ffff || (low & 0xfff) + 8 > 4096) return false;
  const tableHigh = u32[(OFFSET.gdtrBase >>> 2) + 1] as number;
  const at = mmu.tlb.fast.probe(low, tableHigh, false) || mmu.accessSystem(low, tableHigh, 8, false);
  if (at === 0 || at === OFFSET.bounce) return false;
  const high = view.getUint32(at + 4, true);
  const descriptor = { selector, at: 0n, low: view.getUint32(at, true), high, rights: (high >>> 8) & 0xf0ff };
  const base = (OFFSET.segmentBase >>> 2) + 2 * index;
  return (
    (descriptor.rights & RIGHTS.accessed) !== 0 &&
    descriptor.rights === state.get32('segmentRights', index) &&
    descriptorLimit(descriptor) === state.get32('segmentLimit', index) &&
    descriptorBase(descriptor) === u32[base] &&
    u32[base + 1] === 0
  );
}
