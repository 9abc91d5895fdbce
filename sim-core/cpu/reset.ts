/** The processor after power-up (SDM Vol. 3A, "Processor State After Reset"). */

import { countOf, GPR, SEGMENT, type StateField } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { PERF_GLOBAL_CTRL_RESET, resetCounters } from './performance-counters.ts';
import { writeRflags } from './rflags.ts';
import { setSegment } from './segments.ts';

const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** Where the numbers of RDRAND and RDSEED begin. */
const RANDOM_SEED = 0x766d_7872_6179n;
/** Access rights in the VMCS format. */
const AFTER_RESET = { code: 0x9b, data: 0x93, ldt: 0x82, tss: 0x8b } as const;

/** 8-byte fields that are not zero after power-up. */
const VALUES: readonly (readonly [StateField, bigint, number?])[] = [
  ['rip', 0xfff0n],
  ['cr0', 0x6000_0010n],
  ['dr', 0xffff_0ff0n, 6],
  ['dr', 0x400n, 7],
  ['xcr0', 1n],
  ['msrPerfGlobalCtrl', PERF_GLOBAL_CTRL_RESET],
  ['msrPat', 0x0007_0406_0007_0406n],
  ['randomState', RANDOM_SEED],
  ['vmxonPointer', ALL_ONES],
  ['vmcsPointer', ALL_ONES],
];
/** Fields that power-up clears: all 64-bit registers and MSRs that are not in VALUES. */
const CLEARED: readonly StateField[] = [
  'gpr', 'cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'dr', 'pdpte', 'msrStar', 'msrLstar', 'msrCstar', 'msrFmask',
  'msrKernelGsBase', 'msrTscAux', 'msrSysenterCs', 'msrSysenterEsp', 'msrSysenterEip', 'msrDebugctl',
  'msrFeatureControl', 'msrUmwaitControl', 'msrMtrrDefType', 'msrMtrrPhys', 'msrMtrrFixed', 'pendingDebug', 'eptp', 'tscOffset',
  'tscAdjustment', 'gdtrBase', 'idtrBase', 'perfEventSelect', 'perfCounters', 'msrFixedCtrCtrl',
  'msrPerfGlobalStatus',
]; // biome-ignore format: a table reads better in rows
const CLEARED32: readonly StateField[] = [
  'cpl', 'monitorArmed', 'activity', 'interruptibility', 'nmiRequest', 'initRequest', 'startUpRequest', 'vmxOn',
  'nonRoot', 'vpid', 'x87Status', 'x87Opcode', 'x87Cs', 'x87Ds', 'pkru',
]; // biome-ignore format: a table reads better in rows
const MISC_ENABLE = {
  fastStrings: 1n,
  performanceMonitoring: 1n << 7n,
  branchTraceUnavailable: 1n << 11n,
  pebsUnavailable: 1n << 12n,
  monitor: 1n << 18n,
};

/** Puts the processor into its state after power-up and empties the TLB. Memory and devices are not touched. */
export function resetCpu(cpu: Cpu): void {
  const { state, mmu, model } = cpu;
  mmu.features.physicalAddressBits = model.physicalAddressBits;
  mmu.features.gigabytePages = model.features.has('gigabytePages');
  for (const field of CLEARED) for (let i = 0; i < countOf(field); i++) state.set64(field, 0n, i);
  for (const field of CLEARED32) state.set32(field, 0);
  for (const [field, value, index] of VALUES) state.set64(field, value, index ?? 0);
  state.set64('gpr', BigInt(model.signature), GPR.rdx);
  const monitor = model.features.has('monitor') ? MISC_ENABLE.monitor : 0n;
  const { fastStrings, performanceMonitoring, branchTraceUnavailable, pebsUnavailable } = MISC_ENABLE;
  const always = fastStrings | performanceMonitoring | branchTraceUnavailable | pebsUnavailable;
  state.set64('msrMiscEnable', always | monitor);
  state.set32('gdtrLimit', 0xffff);
  state.set32('idtrLimit', 0xffff);
  state.set32('mxcsr', 0x1f80);
  state.set32('x87Control', 0x40);
  state.set32('x87Tag', 0x5555);
  state.setFloat('preemptionDeadline', Number.POSITIVE_INFINITY);
  state.setFloat('sliceEnd', Number.POSITIVE_INFINITY);
  writeRflags(state, 0);
  resetSegments(state);
  mmu.tlb.invalidateAll();
  mmu.updateContext();
  resetCounters(state);
}

/** Segment registers after power-up and INIT. */
export function resetSegments(state: State): void {
  setSegment(state, SEGMENT.cs, 0xf000, 0xffff_0000n, 0xffff, AFTER_RESET.code);
  for (const index of [SEGMENT.es, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs]) {
    setSegment(state, index, 0, 0n, 0xffff, AFTER_RESET.data);
  }
  setSegment(state, SEGMENT.ldtr, 0, 0n, 0xffff, AFTER_RESET.ldt);
  setSegment(state, SEGMENT.tr, 0, 0n, 0xffff, AFTER_RESET.tss);
}
