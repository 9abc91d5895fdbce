/**
 * The performance-monitoring unit, architectural version 2 (SDM Vol. 3B, chapter "Performance Monitoring"). Nothing is
 * done for an instruction: counters are brought up to date from the instruction and cycle counts whenever somebody
 * looks at them, when the privilege level changes that a counter is limited to, and at the latest when one that
 * interrupts may overflow. A cycle is one for core and reference cycles alike; in HLT none pass.
 */

import { OFFSET, type StateField } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { Cpu } from './cpu.ts';

const GENERAL = 4;
const FIXED = 3;
const WIDTH = 48;
const MODULUS = 2 ** WIDTH;

/** IA32_PERFEVTSELx. AnyThread (bit 21) came with version 3. */
const SELECT = { event: 0xffff, user: 1 << 16, os: 1 << 17, interrupt: 1 << 20, enable: 1 << 22 } as const;
const SELECT_WRITABLE = 0xffdf_ffffn;
/** Edge detection, inversion and counter masks ask how often something happens in a cycle: such counters stay still. */
const SELECT_PER_CYCLE = 0xff84_0000;
/** Each counter's part of IA32_FIXED_CTR_CTRL. */
const FIXED_CONTROL = { bits: 4, os: 1, user: 2, interrupt: 8 } as const;
const FIXED_CONTROL_WRITABLE = 0xbbbn;
/** Bit of fixed counter 0 in IA32_PERF_GLOBAL_CTRL and IA32_PERF_GLOBAL_STATUS. */
const FIRST_FIXED_BIT = 32n;
/** Of IA32_PERF_GLOBAL_OVF_CTRL: ClrOvfBuf and ClrCondChgd, which never are 1 in the status. */
const CLEAR_BUFFER_AND_CONDITION = 3n << 62n;
/** IA32_DEBUGCTL: a PMI clears IA32_PERF_GLOBAL_CTRL. */
export const FREEZE_ON_PMI = 1n << 12n;
/** IA32_PERF_CAPABILITIES: IA32_A_PMCx can be written in full width. */
const FULL_WIDTH_WRITES = 1n << 13n;

type Source = 'instructions' | 'cycles';
/** Rings as bits: 0 = CPL 0, 1 = CPL 1 to 3. */
const RING = { os: 1, user: 2 } as const;

/** Architectural events by number in CPUID.0AH:EBX (a bit that is 1 there says that the event is missing). */
const EVENTS: readonly (readonly [select: number, source: Source | undefined])[] = [
  [0x003c, 'cycles'],
  [0x00c0, 'instructions'],
  [0x013c, 'cycles'],
  [0x4f2e, undefined],
  [0x412e, undefined],
  [0x00c4, undefined],
  [0x00c5, undefined],
];
const SOURCES: ReadonlyMap<number, Source | undefined> = new Map(EVENTS);
const FIXED_SOURCES: readonly Source[] = ['instructions', 'cycles', 'cycles'];

/** CPUID leaf 0AH: EAX, EBX, ECX, EDX. */
export const PERFORMANCE_LEAF: readonly [number, number, number, number] = [
  2 | (GENERAL << 8) | (WIDTH << 16) | (EVENTS.length << 24),
  EVENTS.reduce((missing, [, source], i) => (source === undefined ? missing | (1 << i) : missing), 0),
  0,
  FIXED | (WIDTH << 5),
];

/** Bits of IA32_PERF_GLOBAL_CTRL that are not reserved. */
export const PERF_GLOBAL_CTRL_BITS = ((1n << BigInt(GENERAL)) - 1n) | (((1n << BigInt(FIXED)) - 1n) << FIRST_FIXED_BIT);
/** After power-up: all general counters. */
export const PERF_GLOBAL_CTRL_RESET = (1n << BigInt(GENERAL)) - 1n;

/** How a counter is set up; counters are numbered from the general ones to the fixed ones. */
interface Setting {
  readonly source: Source;
  readonly rings: number;
  readonly interrupts: boolean;
}

const globalBit = (counter: number): bigint =>
  1n << (counter < GENERAL ? BigInt(counter) : FIRST_FIXED_BIT + BigInt(counter - GENERAL));

/** What an enabled counter counts; undefined when it stands still. */
function settingOf(state: State, counter: number): Setting | undefined {
  if ((state.get64('msrPerfGlobalCtrl') & globalBit(counter)) === 0n) return undefined;
  if (counter >= GENERAL) return fixedSetting(state, counter - GENERAL);
  const select = state.low('perfEventSelect', counter);
  const source = SOURCES.get(select & SELECT.event);
  if ((select & SELECT.enable) === 0 || (select & SELECT_PER_CYCLE) !== 0 || source === undefined) return undefined;
  const rings = ((select & SELECT.os) !== 0 ? RING.os : 0) | ((select & SELECT.user) !== 0 ? RING.user : 0);
  return { source, rings, interrupts: (select & SELECT.interrupt) !== 0 };
}

function fixedSetting(state: State, index: number): Setting | undefined {
  const control = state.low('msrFixedCtrCtrl') >>> (FIXED_CONTROL.bits * index);
  const rings =
    ((control & FIXED_CONTROL.os) !== 0 ? RING.os : 0) | ((control & FIXED_CONTROL.user) !== 0 ? RING.user : 0);
  return { source: FIXED_SOURCES[index] as Source, rings, interrupts: (control & FIXED_CONTROL.interrupt) !== 0 };
}

const ALL_COUNTERS = Array.from({ length: GENERAL + FIXED }, (_, counter) => counter);

/** Adds what has happened since the last time to the counters, by the settings until now, and raises a due PMI. */
function count(cpu: Cpu): void {
  const { state } = cpu;
  const now = presentOf(cpu);
  const passed = {
    instructions: now.instructions - state.getFloat('perfCounted', 0),
    cycles: now.cycles - state.getFloat('perfCounted', 1),
  };
  noteCounted(state, now);
  let interrupt = false;
  for (const counter of ALL_COUNTERS) {
    const setting = settingOf(state, counter);
    if (!setting || (setting.rings & state.get32('perfRing')) === 0) continue;
    const value = Number(state.get64('perfCounters', counter)) + passed[setting.source];
    state.set64('perfCounters', BigInt(value % MODULUS), counter);
    if (value < MODULUS) continue;
    state.set64('msrPerfGlobalStatus', state.get64('msrPerfGlobalStatus') | globalBit(counter));
    interrupt ||= setting.interrupts;
  }
  if (interrupt) raiseInterrupt(cpu);
}

interface Present {
  readonly instructions: number;
  readonly cycles: number;
}

/** Waits in HLT may have fractions of cycles. */
function presentOf({ state, clock }: Cpu): Present {
  const cycles = clock.cycles();
  return {
    instructions: Math.round(cycles - state.getFloat('extraCycles')),
    cycles: Math.floor(cycles - state.getFloat('haltedCycles')),
  };
}

function noteCounted(state: State, { instructions, cycles }: Present): void {
  state.setFloat('perfCounted', instructions, 0);
  state.setFloat('perfCounted', cycles, 1);
}

function raiseInterrupt({ state, interrupts }: Cpu): void {
  if ((state.get64('msrDebugctl') & FREEZE_ON_PMI) !== 0n) state.set64('msrPerfGlobalCtrl', 0n);
  interrupts.performanceMonitoringInterrupt();
  state.set32('attention', 1);
}

/** Notes what the settings ask of the machine from now on: the next overflow, and whether rings matter. */
function plan(cpu: Cpu): void {
  const { state } = cpu;
  const ring = state.get32('cpl') === 0 ? RING.os : RING.user;
  state.set32('perfRing', ring);
  let least = Number.POSITIVE_INFINITY;
  let limited = false;
  for (const counter of ALL_COUNTERS) {
    const setting = settingOf(state, counter);
    if (!setting) continue;
    limited ||= setting.rings === RING.os || setting.rings === RING.user;
    if (setting.interrupts && (setting.rings & ring) !== 0) {
      least = Math.min(least, MODULUS - Number(state.get64('perfCounters', counter)));
    }
  }
  state.set32('perfByRing', limited ? 1 : 0);
  // No instruction takes less than a cycle: a counter of instructions overflows no sooner.
  state.setFloat('perfDeadline', cpu.clock.cycles() + least);
}

/** After power-up no counter counts. */
export function resetCounters(state: State): void {
  state.set32('perfByRing', 0);
  state.set32('perfRing', RING.os);
  state.setFloat('perfDeadline', Number.POSITIVE_INFINITY);
}

/** Brings all counters up to date. */
export function updateCounters(cpu: Cpu): void {
  count(cpu);
  plan(cpu);
}

/** Whether a counter may be enabled: asked whenever processors take turns. */
function mayCount({ u32 }: State): boolean {
  let enabled = u32[OFFSET.msrFixedCtrCtrl >>> 2] as number;
  for (let i = 0; i < GENERAL; i++) enabled |= (u32[(OFFSET.perfEventSelect >>> 2) + 2 * i] as number) & SELECT.enable;
  return enabled !== 0;
}

/** Others are about to run. */
export function suspendCounters(cpu: Cpu): void {
  if (mayCount(cpu.state)) updateCounters(cpu);
}

/** The processor runs again after others have run: what they did does not count. */
export function resumeCounters(cpu: Cpu): void {
  if (!mayCount(cpu.state)) return;
  noteCounted(cpu.state, presentOf(cpu));
  plan(cpu);
}

/** To be called when CPL may have changed: counters may be limited to rings. */
export function noteRing(cpu: Cpu): void {
  const { u32 } = cpu.state;
  if (u32[OFFSET.perfByRing >>> 2] === 0) return;
  const ring = u32[OFFSET.cpl >>> 2] === 0 ? RING.os : RING.user;
  if (ring !== u32[OFFSET.perfRing >>> 2]) updateCounters(cpu);
}

/** IA32_PERF_GLOBAL_CTRL as VM entries and VM exits load it: its reserved bits have been checked. */
export function loadGlobalControl(cpu: Cpu, value: bigint): void {
  if (cpu.state.get64('msrPerfGlobalCtrl') !== value) change(cpu, 'msrPerfGlobalCtrl', 0, value);
}

function change(cpu: Cpu, field: StateField, index: number, value: bigint): true {
  count(cpu);
  cpu.state.set64(field, value, index);
  plan(cpu);
  cpu.state.set32('attention', 1);
  return true;
}

/** RDPMC. @param index ECX @returns undefined for a counter that does not exist */
export function readCounter(cpu: Cpu, index: number): bigint | undefined {
  const fixed = index >>> 30 === 1;
  const number = fixed ? index & 0x3fff_ffff : index;
  if (number >= (fixed ? FIXED : GENERAL)) return undefined;
  updateCounters(cpu);
  return cpu.state.get64('perfCounters', fixed ? GENERAL + number : number);
}

/** A row of cpu/msrs.ts. */
interface PerformanceMsr {
  readonly name: string;
  readonly read: (cpu: Cpu) => bigint;
  readonly write?: (cpu: Cpu, value: bigint) => boolean;
}

const setting = (name: string, field: StateField, index: number, writable: bigint): PerformanceMsr => ({
  name,
  read: ({ state }) => state.get64(field, index),
  write: (cpu, value) => (value & ~writable) === 0n && change(cpu, field, index, value),
});

/** @param stored the value that WRMSR leaves in the counter; undefined for #GP */
const counterMsr = (name: string, counter: number, stored: (value: bigint) => bigint | undefined): PerformanceMsr => ({
  name,
  read: (cpu) => {
    updateCounters(cpu);
    return cpu.state.get64('perfCounters', counter);
  },
  write: (cpu, value) => {
    const kept = stored(value);
    return kept !== undefined && change(cpu, 'perfCounters', counter, kept);
  },
});

const fullWidth = (value: bigint): bigint | undefined => (value >> BigInt(WIDTH) === 0n ? value : undefined);
/** WRMSR of IA32_PMCx takes 32 bits and extends their sign. */
const extended = (value: bigint): bigint => BigInt.asUintN(WIDTH, BigInt.asIntN(32, value));

const numbered = (number: number, first: number, row: (i: number) => PerformanceMsr): [number, PerformanceMsr][] =>
  Array.from({ length: number }, (_, i) => [first + i, row(i)]);

/** MSRs of every model. */
export const PERFORMANCE_MSRS: readonly (readonly [number, PerformanceMsr])[] = [
  ...numbered(GENERAL, 0xc1, (i) => counterMsr(`IA32_PMC${i}`, i, extended)),
  ...numbered(GENERAL, 0x186, (i) => setting(`IA32_PERFEVTSEL${i}`, 'perfEventSelect', i, SELECT_WRITABLE)),
  ...numbered(FIXED, 0x309, (i) => counterMsr(`IA32_FIXED_CTR${i}`, GENERAL + i, fullWidth)),
  [0x38d, setting('IA32_FIXED_CTR_CTRL', 'msrFixedCtrCtrl', 0, FIXED_CONTROL_WRITABLE)],
  [
    0x38e,
    {
      name: 'IA32_PERF_GLOBAL_STATUS',
      read: (cpu) => {
        updateCounters(cpu);
        return cpu.state.get64('msrPerfGlobalStatus');
      },
    },
  ],
  [0x38f, setting('IA32_PERF_GLOBAL_CTRL', 'msrPerfGlobalCtrl', 0, PERF_GLOBAL_CTRL_BITS)],
  [
    0x390,
    {
      name: 'IA32_PERF_GLOBAL_OVF_CTRL',
      read: () => 0n,
      write: (cpu, value) => {
        if ((value & ~(PERF_GLOBAL_CTRL_BITS | CLEAR_BUFFER_AND_CONDITION)) !== 0n) return false;
        updateCounters(cpu);
        cpu.state.set64('msrPerfGlobalStatus', cpu.state.get64('msrPerfGlobalStatus') & ~value);
        return true;
      },
    },
  ],
];

/** MSRs of models with CPUID.1:ECX.PDCM. */
export const CAPABILITY_MSRS: readonly (readonly [number, PerformanceMsr])[] = [
  [0x345, { name: 'IA32_PERF_CAPABILITIES', read: () => FULL_WIDTH_WRITES }],
  ...numbered(GENERAL, 0x4c1, (i) => counterMsr(`IA32_A_PMC${i}`, i, fullWidth)),
];
