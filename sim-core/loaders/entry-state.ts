/** The processor's state at an image's first instruction. */

import { CODE_MODE, GPR, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import type { State } from '../state/state.ts';

/** Access rights in the VMCS format. */
const RIGHTS = { code32: 0xc09b, code64: 0xa09b, data: 0xc093 } as const;
const FLAT_LIMIT = 0xffff_ffff;

/** Descriptors of the table that direct images find loaded; selectors are 8 × index. */
export const ENTRY_GDT = [0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn, 0x00af_9b00_0000_ffffn] as const;
const SELECTOR = { code32: 0x08, data: 0x10, code64: 0x18 } as const;

const CR0 = { protection: 1n, monitorCoprocessor: 2n, extensionType: 0x10n, numericError: 0x20n, paging: 1n << 31n };
const CR4 = { physicalAddressExtension: 0x20n, osFxsr: 0x200n, osXmmExceptions: 0x400n };
const EFER = { longModeEnable: 0x100n, longModeActive: 0x400n };

export interface EntryState {
  readonly entry: number;
  /** EAX, EBX (and EDI): multiboot's magic number and the information's address. */
  readonly magic: number;
  readonly information: number;
  readonly stack: number;
}

function setFlatSegment(state: State, index: SegmentIndex, selector: number, rights: number): void {
  state.set32('segmentSelector', selector, index);
  state.set64('segmentBase', 0n, index);
  state.set32('segmentLimit', FLAT_LIMIT, index);
  state.set32('segmentRights', rights, index);
  // One past the last byte that an access may reach; code segments take the slow path, which knows their rights.
  const top = index === SEGMENT.cs ? 0n : BigInt(FLAT_LIMIT) + 1n;
  state.set64('segmentReadTop', top, index);
  state.set64('segmentWriteTop', top, index);
}

function setCommon(state: State, { entry, magic, information, stack }: EntryState): void {
  for (const register of Object.values(GPR)) state.set64('gpr', 0n, register);
  state.set64('gpr', BigInt(magic), GPR.rax);
  state.set64('gpr', BigInt(information), GPR.rbx);
  state.set64('gpr', BigInt(information), GPR.rdi);
  state.set64('gpr', BigInt(stack), GPR.rsp);
  state.set64('rip', BigInt(entry));
  // All flags clear; ZF is "the result is zero", so the lazy result is not.
  state.set32('rflagsSystem', 2);
  state.set32('stringStep', 1);
  state.set64('flagResult', 1n);
  state.set64('flagCarry', 0n);
  state.set32('flagMisc', 0);
  state.set32('cpl', 0);
  for (const index of [SEGMENT.es, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const) {
    setFlatSegment(state, index, SELECTOR.data, RIGHTS.data);
  }
  state.set64('idtrBase', 0n);
  state.set32('idtrLimit', 0);
}

/** Multiboot's machine state: protected mode, flat 32-bit segments, paging off, interrupts disabled, no usable GDT. */
export function enterProtectedMode(state: State, start: EntryState): void {
  setCommon(state, start);
  setFlatSegment(state, SEGMENT.cs, SELECTOR.code32, RIGHTS.code32);
  state.set64('gdtrBase', 0n);
  state.set32('gdtrLimit', 0);
  state.set64('cr0', CR0.protection | CR0.extensionType);
  state.set64('cr3', 0n);
  state.set64('cr4', 0n);
  state.set64('efer', 0n);
  state.set32('codeMode', CODE_MODE.code32stack32);
}

/** 64-bit mode with paging and SSE on. @param tables physical address of the PML4 @param gdt of ENTRY_GDT's copy */
export function enterLongMode(state: State, start: EntryState, tables: number, gdt: number): void {
  setCommon(state, start);
  setFlatSegment(state, SEGMENT.cs, SELECTOR.code64, RIGHTS.code64);
  state.set64('gdtrBase', BigInt(gdt));
  state.set32('gdtrLimit', 8 * ENTRY_GDT.length - 1);
  const cr0 = CR0.protection | CR0.monitorCoprocessor | CR0.extensionType | CR0.numericError | CR0.paging;
  state.set64('cr0', cr0);
  state.set64('cr3', BigInt(tables));
  state.set64('cr4', CR4.physicalAddressExtension | CR4.osFxsr | CR4.osXmmExceptions);
  state.set64('efer', EFER.longModeEnable | EFER.longModeActive);
  state.set32('codeMode', CODE_MODE.code64);
}
