/** INIT signals and start-up IPIs (SDM Vol. 3A, "Multiple-Processor (MP) Initialization"). */

import { CR0 } from '../state/control-bits.ts';
import { ACTIVITY, countOf, GPR, OFFSET, SEGMENT, START_UP, type StateField } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';
import { resetSegments } from './reset.ts';
import { writeRflags } from './rflags.ts';
import { setSegment } from './segments.ts';

/** IA32_APIC_BASE.BSP. */
const BOOTSTRAP = 0x100n;
const CODE_RIGHTS = 0x9b;

/** What an INIT signal clears; x87, vector registers, XCR0, MSRs and TSC stay (SDM Vol. 3A, "Processor States…"). */
const CLEARED: readonly StateField[] = [
  'gpr', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'dr', 'pdpte', 'pendingDebug', 'gdtrBase', 'idtrBase',
]; // biome-ignore format: a table reads better in rows
const CLEARED32: readonly StateField[] = ['cpl', 'interruptibility', 'nmiRequest', 'pkru'];
const CR0_KEPT = BigInt(CR0.cd | CR0.nw) & 0xffff_ffffn;
const DR6_RESET = 0xffff_0ff0n;
const DR7_RESET = 0x400n;

/**
 * Does what latched signals ask for outside VMX non-root operation. VMX operation blocks INIT, which stays latched; a
 * start-up IPI counts only in the wait-for-SIPI state and is lost otherwise.
 * @returns 'reset' when the bootstrap processor gets an INIT signal: it starts all over again
 */
export function takeSignals(cpu: Cpu): 'started' | 'reset' | undefined {
  const { state } = cpu;
  const { u32 } = state;
  if (((u32[OFFSET.initRequest >>> 2] as number) | (u32[OFFSET.startUpRequest >>> 2] as number)) === 0)
    return undefined;
  if (state.get32('initRequest') !== 0 && state.get32('vmxOn') === 0) {
    state.set32('initRequest', 0);
    if ((state.get64('msrApicBase') & BOOTSTRAP) !== 0n) return 'reset';
    initialize(cpu);
  }
  const request = state.get32('startUpRequest');
  state.set32('startUpRequest', 0);
  if (request === 0 || state.get32('activity') !== ACTIVITY.waitForSipi) return undefined;
  startUp(state, request & START_UP.vector);
  cpu.mmu.updateContext();
  return 'started';
}

/** The state after an INIT signal: that of an application processor, which waits for a start-up IPI. */
function initialize(cpu: Cpu): void {
  const { state, mmu, model } = cpu;
  for (const field of CLEARED) for (let i = 0; i < countOf(field); i++) state.set64(field, 0n, i);
  for (const field of CLEARED32) state.set32(field, 0);
  state.set64('cr0', (state.get64('cr0') & CR0_KEPT) | BigInt(CR0.et));
  state.set64('dr', DR6_RESET, 6);
  state.set64('dr', DR7_RESET, 7);
  state.set64('rip', 0xfff0n);
  state.set64('gpr', BigInt(model.signature), GPR.rdx);
  state.set32('gdtrLimit', 0xffff);
  state.set32('idtrLimit', 0xffff);
  writeRflags(state, 0);
  resetSegments(state);
  mmu.tlb.invalidateAll();
  mmu.updateContext();
  cpu.interrupts.initialize();
  waitForStartUp(state);
}

/** How application processors are after power-up and INIT. */
export const waitForStartUp = (state: State): void => state.set32('activity', ACTIVITY.waitForSipi);

/** Real-address mode at the page that the vector numbers. */
function startUp(state: State, vector: number): void {
  setSegment(state, SEGMENT.cs, vector << 8, BigInt(vector << 12), 0xffff, CODE_RIGHTS);
  state.set64('rip', 0n);
  state.set32('activity', ACTIVITY.active);
}
