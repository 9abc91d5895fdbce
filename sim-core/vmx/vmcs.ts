/** The current VMCS: cached in linear memory, kept in the VMCS region of guest memory while another one is current. */

import type { Cpu } from '../cpu/cpu.ts';
import { OFFSET } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { EntryCheckCache } from './entry-checks.ts';
import { LAUNCH_STATE, VMCS_FIELDS, VMCS_REGION } from './fields.ts';
import { buildTransfer, type Transfer } from './transfer.ts';
import { type FieldValues, vmcsValues } from './values.ts';

/** No VMCS is current, as VMPTRST shows it. */
export const NO_VMCS = 0xffff_ffff_ffff_ffffn;
/** Shadow-VMCS indicator beside the revision identifier. */
const SHADOW = 0x8000_0000 | 0;
/** Bytes of the region that this machine's format uses. */
const USED = VMCS_REGION.firstField + 8 * VMCS_FIELDS.length;
const BASE_WORD = OFFSET.vmcs >>> 2;

/** Index in `State.u32` of the low half of the field at `offset`. */
export const wordOf = (offset: number): number => BASE_WORD + (offset >>> 2);
/** Index in VMCS_FIELDS of the field at `offset`. */
const positionOf = (offset: number): number => (offset - VMCS_REGION.firstField) >>> 3;

/** Fields by their offset (FIELD_OFFSET in fields.ts). Writes tell the entry checks which field changed. */
export class CurrentVmcs {
  /** Fields as properties, for checks. */
  readonly values: FieldValues;
  readonly checks = new EntryCheckCache();
  private copies: Transfer | undefined;
  private readonly cpu: Cpu;
  private readonly state: State;

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    this.state = cpu.state;
    this.values = vmcsValues(cpu.state);
  }

  /** Copies between its fields and the processor's state; built when VMX is first used. */
  get transfer(): Transfer {
    this.copies ??= buildTransfer(this.state);
    return this.copies;
  }

  get exists(): boolean {
    const { u32 } = this.state;
    const at = OFFSET.vmcsPointer >>> 2;
    return ((u32[at] as number) & (u32[at + 1] as number)) >>> 0 !== 0xffff_ffff;
  }
  get pointer(): bigint {
    return this.state.u64[OFFSET.vmcsPointer >>> 3] as bigint;
  }

  /** The low 32 bits of a field, unsigned. */
  get32(offset: number): number {
    return this.state.u32[wordOf(offset)] as number;
  }
  /** Writes a field of at most 32 bits. */
  set32(offset: number, value: number): void {
    this.setHalves(offset, value, 0);
  }
  get64(offset: number): bigint {
    return this.state.u64[(OFFSET.vmcs + offset) >>> 3] as bigint;
  }
  set64(offset: number, value: bigint): void {
    this.setHalves(offset, Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn));
  }
  setHalves(offset: number, low: number, high: number): void {
    const { u32 } = this.state;
    const word = wordOf(offset);
    if (u32[word] === low >>> 0 && u32[word + 1] === high >>> 0) return;
    u32[word] = low;
    u32[word + 1] = high;
    this.checks.fieldWritten(positionOf(offset));
  }

  /** Everything of it, by offset / 8. */
  copy(): BigUint64Array {
    const at = OFFSET.vmcs >>> 3;
    return this.state.u64.slice(at, at + (USED >>> 3));
  }

  get launchState(): 'clear' | 'launched' {
    return this.get32(VMCS_REGION.launchState) === LAUNCH_STATE.launched ? 'launched' : 'clear';
  }
  setLaunched(): void {
    this.state.u32[wordOf(VMCS_REGION.launchState)] = LAUNCH_STATE.launched;
  }

  /** Tells the entry checks what staged VMWRITEs have written (vmx/staged.ts). */
  noteStagedWrites(): void {
    const { u32 } = this.state;
    const count = u32[OFFSET.vmcsWriteCount >>> 2] as number;
    for (let i = 0; i < count; i++) {
      this.checks.fieldWritten(positionOf(u32[(OFFSET.vmcsWrites >>> 2) + i] as number));
    }
    u32[OFFSET.vmcsWriteCount >>> 2] = 0;
  }

  /** Makes the VMCS at `pointer` current; the one that was goes back into its region. */
  load(pointer: bigint): void {
    if (pointer === this.pointer) return;
    this.store();
    const { bytes } = this.state;
    bytes.set(this.cpu.mmu.physical.peek(Number(pointer), USED), OFFSET.vmcs);
    this.state.set64('vmcsPointer', pointer);
    this.checks.everythingChanged();
  }

  /** Writes the current VMCS back into its region. */
  store(): void {
    if (!this.exists) return;
    const { physical } = this.cpu.mmu;
    const at = Number(this.pointer);
    if (!physical.isRam(at, USED)) return;
    // The revision identifier stays as software wrote it.
    const from = OFFSET.vmcs + VMCS_REGION.abort;
    physical.poke(at + VMCS_REGION.abort, this.state.bytes.slice(from, OFFSET.vmcs + USED));
  }

  /** VMCLEAR: launch state clear, data in the region; not current any more if it was. */
  clear(pointer: bigint): void {
    if (pointer !== this.pointer) {
      this.cpu.mmu.physical.write(Number(pointer) + VMCS_REGION.launchState, 4, LAUNCH_STATE.clear);
      return;
    }
    this.state.u32[wordOf(VMCS_REGION.launchState)] = LAUNCH_STATE.clear;
    this.forget();
  }

  /** Stores the current VMCS; afterwards none is current. */
  forget(): void {
    this.store();
    this.state.set64('vmcsPointer', NO_VMCS);
    this.checks.everythingChanged();
  }

  /** Whether the 32 bits at a physical address are this machine's revision identifier, or (on demand) a shadow VMCS's. */
  hasRevision(pointer: bigint, mayBeShadow = false): boolean {
    const identifier = this.cpu.mmu.physical.read(Number(pointer), 4);
    return (mayBeShadow ? identifier & ~SHADOW : identifier) === VMCS_REVISION;
  }

  /** Whether the current VMCS is a shadow VMCS, which no VM entry can use. */
  get isShadow(): boolean {
    return (this.get32(VMCS_REGION.revision) & SHADOW) !== 0;
  }
}
