/** The processor's state at an image's first instruction. */

import type { Cpu } from '../cpu/cpu.ts';
import { updateCodeMode } from '../cpu/modes.ts';
import { writeRflags } from '../cpu/rflags.ts';
import { setSegment } from '../cpu/segments.ts';
import { CR0, CR4, EFER, RIGHTS } from '../state/control-bits.ts';
import { GPR, SEGMENT } from '../state/layout.ts';

const FLAT_LIMIT = 0xffff_ffff;
const FLAT = RIGHTS.present | RIGHTS.codeOrData | RIGHTS.writable | RIGHTS.accessed | RIGHTS.granularity;
const FLAT_RIGHTS = {
  code32: FLAT | RIGHTS.code | RIGHTS.big,
  code64: FLAT | RIGHTS.code | RIGHTS.long,
  data: FLAT | RIGHTS.big,
} as const;

/** Selectors of the flat segments at entry, in the table that 64-bit images find loaded. */
export interface EntrySelectors {
  readonly code32?: number;
  readonly code64?: number;
  readonly data: number;
}

/** Descriptors of the table that direct images find loaded; selectors are 8 × index. */
export const ENTRY_GDT = [0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn, 0x00af_9b00_0000_ffffn] as const;
const ENTRY_SELECTORS = { code32: 0x08, data: 0x10, code64: 0x18 } as const;

export interface EntryState {
  readonly entry: number;
  /** General-purpose registers that are not zero. */
  readonly registers: Partial<Readonly<Record<keyof typeof GPR, number>>>;
  /** Default: those of ENTRY_GDT. */
  readonly selectors?: EntrySelectors;
}

export type CpuState = Pick<Cpu, 'state' | 'mmu'>;

function setCommon({ state }: CpuState, { entry, registers, selectors = ENTRY_SELECTORS }: EntryState): void {
  for (const [name, index] of Object.entries(GPR) as [keyof typeof GPR, number][]) {
    state.set64('gpr', BigInt(registers[name] ?? 0), index);
  }
  state.set64('rip', BigInt(entry));
  writeRflags(state, 0);
  state.set32('cpl', 0);
  for (const index of [SEGMENT.es, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const) {
    setSegment(state, index, selectors.data, 0n, FLAT_LIMIT, FLAT_RIGHTS.data);
  }
  state.set64('idtrBase', 0n);
  state.set32('idtrLimit', 0);
}

/** Multiboot's machine state: protected mode, flat 32-bit segments, paging off, interrupts disabled, no usable GDT. */
export function enterProtectedMode(cpu: CpuState, start: EntryState): void {
  const { state, mmu } = cpu;
  state.set64('cr0', BigInt(CR0.pe | CR0.et));
  state.set64('cr3', 0n);
  state.set64('cr4', 0n);
  state.set64('efer', 0n);
  state.set64('gdtrBase', 0n);
  state.set32('gdtrLimit', 0);
  setCommon(cpu, start);
  setSegment(state, SEGMENT.cs, start.selectors?.code32 ?? ENTRY_SELECTORS.code32, 0n, FLAT_LIMIT, FLAT_RIGHTS.code32);
  updateCodeMode(state);
  mmu.updateContext();
}

/** 64-bit mode with paging and SSE on. @param tables physical address of the PML4 */
export function enterLongMode(
  cpu: CpuState,
  start: EntryState,
  tables: number,
  gdt: { readonly address: number; readonly entries: number },
): void {
  const { state, mmu } = cpu;
  // Bit 31 makes a signed 32-bit number: back to unsigned.
  state.set64('cr0', BigInt((CR0.pe | CR0.mp | CR0.et | CR0.ne | CR0.pg) >>> 0));
  state.set64('cr3', BigInt(tables));
  state.set64('cr4', BigInt(CR4.pae | CR4.osfxsr | CR4.osxmmexcpt));
  state.set64('efer', BigInt(EFER.lme | EFER.lma));
  state.set64('gdtrBase', BigInt(gdt.address));
  state.set32('gdtrLimit', 8 * gdt.entries - 1);
  setCommon(cpu, start);
  setSegment(state, SEGMENT.cs, start.selectors?.code64 ?? ENTRY_SELECTORS.code64, 0n, FLAT_LIMIT, FLAT_RIGHTS.code64);
  updateCodeMode(state);
  mmu.updateContext();
}

const REAL_MODE_LIMIT = 0xffff;

/** Real-address mode, as after reset but for the code segment. */
export function enterRealMode({ state, mmu }: CpuState, segment: number, offset: number): void {
  state.set64('rip', BigInt(offset));
  const rights = RIGHTS.present | RIGHTS.codeOrData | RIGHTS.code | RIGHTS.writable | RIGHTS.accessed;
  setSegment(state, SEGMENT.cs, segment, BigInt(16 * segment), REAL_MODE_LIMIT, rights);
  updateCodeMode(state);
  mmu.updateContext();
}
