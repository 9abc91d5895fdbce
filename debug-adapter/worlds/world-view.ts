import type { Machine, World } from '../../sim-core/machine/api.ts';
import type { OutsideEvent } from '../../sim-core/machine/history/outside-event.ts';
import { fieldOfRegister } from '../../sim-core/machine/register-fields.ts';
import { registerByName } from '../../sim-core/machine/registers.ts';
import {
  eptpOf,
  hasBit,
  hasSecondary,
  isLongGuest,
  suspendedContext,
  type VmcsFields,
} from '../../sim-core/machine/world-context.ts';
import type { Translation, TranslationContext } from '../../sim-core/mmu/translation.ts';
import { CODE_MODE, GPR } from '../../sim-core/state/layout.ts';
import { EXIT_CONTROL, SECONDARY } from '../../sim-core/vmx/controls.ts';
import { ENCODING, type FieldName } from '../../sim-core/vmx/fields.ts';
import type { KnownVmcs, VmcsAccess } from '../../sim-core/vmx/known-vmcses.ts';
import { wrap64 } from './memory-reference.ts';

const PAGE_BITS = 12;
const PAGE = 1n << BigInt(PAGE_BITS);
const CR4_SMAP = 1n << 21n;
const RIGHTS_LONG = 1n << 13n;
const RIGHTS_DEFAULT_BIG = 1n << 14n;

export const vmcsField = (machine: Machine, name: FieldName): bigint | undefined => machine.vmx.read(ENCODING[name]);

/** VPID of a VMCS's guest; 0 when its controls do not enable VPIDs. */
const vpidOf = (vmcs: VmcsFields): number =>
  hasSecondary(vmcs, SECONDARY.ENABLE_VPID) ? Number(vmcs.read(ENCODING.VIRTUAL_PROCESSOR_ID) ?? 0n) : 0;

/** EPTP of the current VMCS's guest; 0 when its controls do not enable EPT. */
export const guestEptp = ({ vmx }: Machine): bigint => eptpOf(vmx);

/** Whether a guest is suspended in the current VMCS while the VMM runs. */
export const guestSuspended = (machine: Machine): boolean =>
  machine.world === 'vmm' && machine.vmx.currentVmcs !== undefined && machine.vmx.launchState === 'launched';

/** Changes the machine by hand, in a way that its history knows of. */
export type Apply = (change: OutsideEvent) => void;

/** A state of the machine while the debugger works with it. */
interface Moment {
  readonly instructions: number;
  readonly cycles: number;
  readonly selected: number;
  readonly changes: number;
}

/** What changes the machine by hand, and how often that has been done. */
export interface Hand {
  readonly apply: Apply;
  readonly changes: number;
}

/** A virtual processor that does not run: its VMCS, and what no field holds. */
export interface SuspendedGuest extends VmcsAccess, KnownVmcs {
  /** Its number among those that this session has seen, from 1. */
  readonly number: number;
}

/**
 * The processor as one world has it: the running one from its state, the other one from the current VMCS; or a virtual
 * processor that does not run, from its own.
 */
export class WorldView {
  readonly machine: Machine;
  readonly world: World;
  private readonly hand: Hand;
  /** Physical addresses of pages by linear page, of the state that `translatedAt` names; undefined: not mapped. */
  private readonly pages = new Map<bigint, number | undefined>();
  private translatedAt: Moment | undefined;
  /** Set in views of a virtual processor whose VMCS need not be current. */
  readonly suspended: SuspendedGuest | undefined;

  constructor(machine: Machine, world: World, hand: Hand, suspended?: SuspendedGuest) {
    this.machine = machine;
    this.world = world;
    this.hand = hand;
    this.suspended = suspended;
  }

  /** Whether this world is the one that runs. */
  get current(): boolean {
    return this.suspended === undefined && this.machine.world === this.world;
  }

  /** The VMCS that holds this world, or what of the guest the processor does not hold itself. */
  private get vmcs(): VmcsFields {
    return this.suspended ?? this.machine.vmx;
  }

  private field(name: FieldName): bigint | undefined {
    return this.vmcs.read(ENCODING[name]);
  }

  /** How memory references name its linear addresses. */
  get space(): string {
    return this.suspended ? `vcpu${this.suspended.number}` : this.world;
  }

  /** The guest's VPID; 0 in the VMM. */
  get vpid(): number {
    return this.world === 'guest' ? vpidOf(this.vmcs) : 0;
  }

  /** The guest's EPT pointer; 0 in the VMM and without EPT. */
  get eptp(): bigint {
    if (this.world === 'vmm') return 0n;
    return this.current ? this.machine.state.get64('eptp') : eptpOf(this.vmcs);
  }

  get cr3(): bigint {
    return this.register('cr3') ?? 0n;
  }

  /** Whether anything is known of this world. */
  get exists(): boolean {
    return this.current || this.suspended !== undefined || this.machine.vmx.currentVmcs !== undefined;
  }

  /** By debugger name; undefined when there is no such register or its value is not known in this world. */
  register(name: string): bigint | undefined {
    const register = registerByName(name);
    if (!register) return undefined;
    if (this.current) return register.read(this.machine.state);
    if (register.partOf !== undefined) return this.partOfSuspended(register.name, register.partOf, register.bits);
    const field = this.fieldOf(register.name);
    if (field !== undefined) return this.field(field);
    const encoding = (GPR as Readonly<Record<string, number>>)[register.name];
    if (encoding === undefined) return undefined;
    if (this.suspended) return this.suspended.registers?.[encoding];
    return this.world === 'guest' ? this.machine.vmx.guestRegister(encoding) : undefined;
  }

  private partOfSuspended(name: string, whole: string, bits: number): bigint | undefined {
    const value = this.register(whole);
    if (value === undefined) return undefined;
    return BigInt.asUintN(bits, /^[abcd]h$/.test(name) ? value >> 8n : value);
  }

  /** @returns why it cannot be changed, or undefined when it was. */
  setRegister(name: string, value: bigint): string | undefined {
    const register = registerByName(name);
    if (!register) return 'there is no such register';
    if (this.current) {
      if (!register.write) return 'it can only be read here';
      this.hand.apply({ kind: 'register', name: register.name, value, processor: this.machine.selected });
      return undefined;
    }
    if (this.suspended) return 'its virtual processor does not run, and its VMCS is not current';
    const field = this.fieldOf(register.name);
    if (field === undefined) return 'it is not held in the VMCS, and this world does not run';
    if (this.machine.vmx.currentVmcs === undefined) return 'there is no current VMCS';
    const cut = BigInt.asUintN(register.bits, value);
    this.hand.apply({ kind: 'field', encoding: ENCODING[field], value: cut, processor: this.machine.selected });
    return undefined;
  }

  /** The VMCS field that holds a register of this world while it does not run. */
  private fieldOf(register: string): FieldName | undefined {
    return fieldOfRegister(this.world, register);
  }

  /** What the world's own accesses are translated by. */
  context(): TranslationContext {
    return this.current
      ? this.machine.mmu.context()
      : suspendedContext(this.vmcs, this.world, this.machine.state.get64('efer'));
  }

  /** For reading memory as a debugger: no privilege checks stand in the way. */
  translation(): TranslationContext {
    const context = this.context();
    return { ...context, cpl: 0, cr4: context.cr4 & ~CR4_SMAP };
  }

  /** How code is decoded there. */
  get bitness(): 16 | 32 | 64 {
    if (this.current) {
      const mode = this.machine.state.get32('codeMode');
      if (mode === CODE_MODE.code64) return 64;
      return mode === CODE_MODE.code32stack16 || mode === CODE_MODE.code32stack32 ? 32 : 16;
    }
    if (this.world === 'vmm') {
      return hasBit(this.vmcs, 'PRIMARY_VM_EXIT_CONTROLS', EXIT_CONTROL.HOST_ADDRESS_SPACE_SIZE) ? 64 : 32;
    }
    const rights = this.field('GUEST_CS_ACCESS_RIGHTS') ?? 0n;
    if (isLongGuest(this.vmcs) && rights & RIGHTS_LONG) return 64;
    return rights & RIGHTS_DEFAULT_BIG ? 32 : 16;
  }

  /** Linear address of an offset in the code segment. */
  codeAddress(offset: bigint): bigint {
    if (this.bitness === 64) return offset;
    return BigInt.asUintN(32, (this.register('cs.base') ?? 0n) + offset);
  }

  /** Linear address of the next instruction. */
  get pc(): bigint {
    return this.codeAddress(this.register('rip') ?? 0n);
  }

  /** Linear address of the top of the stack. */
  get sp(): bigint {
    const rsp = this.register('rsp') ?? 0n;
    if (this.bitness === 64) return rsp;
    const big = (this.register('ss.rights') ?? 0n) & RIGHTS_DEFAULT_BIG;
    return BigInt.asUintN(32, (this.register('ss.base') ?? 0n) + BigInt.asUintN(big ? 32 : 16, rsp));
  }

  explain(linear: bigint): Translation {
    const context = this.translation();
    const read = this.machine.mmu.explain(linear, 'read', context);
    return read.physical === undefined ? this.machine.mmu.explain(linear, 'execute', context) : read;
  }

  /** Physical address of a byte; remembered by page as long as the machine stands still. */
  physical(linear: bigint): number | undefined {
    this.forgetOldPages();
    const offset = linear % PAGE;
    const page = linear - offset;
    if (!this.pages.has(page)) this.pages.set(page, this.explain(page).physical);
    const base = this.pages.get(page);
    return base === undefined ? undefined : base + Number(offset);
  }

  private forgetOldPages(): void {
    const { instructions, cycles, selected } = this.machine;
    const { changes } = this.hand;
    const known = this.translatedAt;
    const isNow =
      known?.instructions === instructions &&
      known.cycles === cycles &&
      known.selected === selected &&
      known.changes === changes;
    if (isNow) return;
    this.pages.clear();
    this.translatedAt = { instructions, cycles, selected, changes };
  }

  /** Up to `length` bytes at a linear address, fewer where memory ends; nothing changes by reading. */
  read(linear: bigint, length: number): Uint8Array {
    return readPages(linear, length, (address) => this.physical(address), this.machine);
  }

  /** @returns how many bytes were written; writes go through read-only pages, as debuggers do. */
  write(linear: bigint, bytes: Uint8Array): number {
    return writePages(linear, bytes, (address) => this.physical(address), this.machine, this.hand.apply);
  }
}

/** Physical address of the first byte of a page, or undefined. */
type PageTranslation = (address: bigint) => number | undefined;

export function readPages(address: bigint, length: number, translate: PageTranslation, machine: Machine): Uint8Array {
  if (Number(BigInt.asUintN(PAGE_BITS, address)) + length <= Number(PAGE))
    return readInPage(address, length, translate, machine);
  const out = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const at = wrap64(address + BigInt(done));
    const size = Math.min(length - done, Number(PAGE - (at % PAGE)));
    const physical = translate(at);
    if (physical === undefined || !machine.physical.isRam(physical, size)) break;
    out.set(machine.physical.peek(physical, size), done);
    done += size;
  }
  return out.subarray(0, done);
}

function readInPage(address: bigint, length: number, translate: PageTranslation, machine: Machine): Uint8Array {
  const physical = translate(wrap64(address));
  const isThere = physical !== undefined && machine.physical.isRam(physical, length);
  return isThere ? machine.physical.peek(physical, length) : new Uint8Array(0);
}

export function writePages(
  address: bigint,
  bytes: Uint8Array,
  translate: PageTranslation,
  machine: Machine,
  apply: Apply,
): number {
  let done = 0;
  while (done < bytes.length) {
    const at = wrap64(address + BigInt(done));
    const size = Math.min(bytes.length - done, Number(PAGE - (at % PAGE)));
    const physical = translate(at);
    if (physical === undefined || !machine.physical.isRam(physical, size)) break;
    apply({ kind: 'memory', physical, bytes: bytes.slice(done, done + size) });
    done += size;
  }
  return done;
}
