/** What a translation depends on besides memory: the paging mode, the protection bits and the TLB tags. */

import { CR0, CR4, EFER, RFLAGS } from '../state/control-bits.ts';
import { countOf, EPT_CONTROL, OFFSET, widthOf } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { TlbTags } from './tlb.ts';
import type { TranslationContext } from './translation.ts';

/** Paging modes (SDM Vol. 3A, "Paging Modes and Control Bits"). `World.topLevel` tells 4-level and 5-level paging apart. */
export const PAGING = { none: 0, bits32: 1, pae: 2, ia32e: 3 } as const;
export type PagingMode = (typeof PAGING)[keyof typeof PAGING];

/** Kinds of access as numbers, for hot paths. */
export const ACCESS = { read: 0, write: 1, execute: 2 } as const;
export type AccessCode = (typeof ACCESS)[keyof typeof ACCESS];

const EPTP_ACCESSED_DIRTY = 1 << 6;
/** EPTP bits 5:3 are the number of levels less one. */
const EPTP_LEVELS_SHIFT = 3;
/** Places in `modeBits`. */
const FIVE_LEVEL_MODE = 1 << 13;
const EPT_FIVE_LEVEL_MODE = 1 << 29;
const EPT_ACCESSED_DIRTY_MODE = 1 << 30;

/** Indices in `State.u32` of everything that `World.loadCurrent` reads. */
const INPUTS = Int32Array.from(
  (
    [
      'cr0',
      'cr3',
      'cr4',
      'efer',
      'cpl',
      'rflagsSystem',
      'pkru',
      'pdpte',
      'eptControls',
      'eptp',
      'subPageTable',
      'vpid',
    ] as const
  ).flatMap((field) => {
    const words = (widthOf(field) * countOf(field)) / 4;
    return Array.from({ length: words }, (_, i) => (OFFSET[field] >>> 2) + i);
  }),
);

/** No register of INPUTS has all bits set at once with the others. */
const NEVER = 0xffff_ffff;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** One world's translation rules. Reused and overwritten by `load`, so that switching worlds allocates nothing. */
export class World implements TlbTags {
  paging: PagingMode = PAGING.none;
  /** Level of the table that CR3 (under PAE a PDPTE) points to, 0 being a page table. */
  topLevel: 1 | 3 | 4 = 1;
  /** Canonical are linear addresses whose upper half is sign-extended from 32 less this many bits; 0: all are. */
  canonicalShift: 0 | 7 | 16 = 0;
  /** CPL = 3. */
  user = false;
  writeProtect = false;
  smep = false;
  smap = false;
  /** RFLAGS.AC: lets explicit supervisor accesses reach user pages in spite of SMAP. */
  alignmentFlag = false;
  /** Misaligned user data accesses raise #AC (CR0.AM and RFLAGS.AC at CPL 3). */
  alignmentChecks = false;
  noExecute = false;
  pageSizeExtension = false;
  /** CR4.PKE in IA-32e mode. */
  protectionKeys = false;
  /** 0 while protection keys are off. */
  pkru = 0;
  globalPages = false;
  /** All of the above as one number, for comparison (mmu/fast-tlb.ts). */
  modeBits = 0;
  /** Physical address of the top paging structure; under PAE of the table that the PDPTE registers came from. */
  root = 0;
  /** PDPTE registers, low and high halves in turn. */
  readonly pdpte = new Uint32Array(8);
  eptOn = false;
  /** Physical address of the EPT table at `eptTopLevel`. */
  eptRoot = 0;
  /** 3: EPT PML4 table, 4: EPT PML5 table. */
  eptTopLevel: 3 | 4 = 3;
  eptAccessedDirty = false;
  /** “Mode-based execute control for EPT”. */
  eptModeBasedExecute = false;
  /** “Sub-page write permissions for EPT”, and the physical address of the SPPT’s top table. */
  subPageWrites = false;
  subPageRoot = 0;
  tags = 0;
  eptLow = 0;
  eptHigh = 0;
  /** Tags of guest-physical mappings: EP4TA alone. */
  readonly guestPhysicalTags: Mutable<TlbTags> = { tags: 0, eptLow: 0, eptHigh: 0 };

  /** log2 of the size of a large page that is not a gigabyte page. */
  get largeOrder(): number {
    return this.paging === PAGING.bits32 ? 22 : 21;
  }

  /** The state that the world was last loaded from, in the order of INPUTS. */
  private readonly inputs = new Uint32Array(INPUTS.length).fill(NEVER);

  /** Whether the processor's state asks for this world as it was last loaded. */
  private isLoaded({ u32 }: State): boolean {
    const { inputs } = this;
    for (let i = 0; i < INPUTS.length; i++) if (u32[INPUTS[i] as number] !== inputs[i]) return false;
    return true;
  }

  /** Takes over the processor's current world. */
  loadCurrent(state: State): void {
    if (this.isLoaded(state)) return;
    for (let i = 0; i < INPUTS.length; i++) this.inputs[i] = state.u32[INPUTS[i] as number] as number;
    const cr3Low = state.low('cr3');
    const cr4 = state.low('cr4');
    const user = state.get32('cpl') === 3;
    this.setModes(state.low('cr0'), cr4, state.low('efer'), user, (state.get32('rflagsSystem') & RFLAGS.ac) !== 0);
    this.pkru = this.protectionKeys ? state.get32('pkru') : 0;
    this.setRoot(cr3Low, state.high('cr3'));
    if (this.paging === PAGING.pae) {
      for (let i = 0; i < countOf('pdpte'); i++) {
        this.pdpte[2 * i] = state.low('pdpte', i);
        this.pdpte[2 * i + 1] = state.high('pdpte', i);
      }
    }
    const eptControls = state.get32('eptControls');
    this.eptModeBasedExecute = (eptControls & EPT_CONTROL.modeBasedExecute) !== 0;
    this.subPageWrites = (eptControls & EPT_CONTROL.subPageWrite) !== 0;
    this.subPageRoot = state.high('subPageTable') * 2 ** 32 + state.low('subPageTable');
    this.setEpt(state.low('eptp'), state.high('eptp'));
    this.tags = ((state.get32('vpid') << 16) | ((cr4 & CR4.pcide) !== 0 ? cr3Low & 0xfff : 0)) >>> 0;
  }

  /** Whether a linear address with this upper half is canonical, where that matters. */
  isCanonical(high: number): boolean {
    const shift = this.canonicalShift;
    return (high << shift) >> shift === (high | 0);
  }

  /** Whether PKRU forbids a data access to a user page with this key (SDM Vol. 3A, "Protection Keys"). */
  refusesKey(key: number, write: boolean, user: boolean): boolean {
    const bits = (this.pkru >>> (2 * key)) & 3;
    return (bits & 1) !== 0 || ((bits & 2) !== 0 && write && (user || this.writeProtect));
  }

  /** Takes over a world described by its roots. RFLAGS.AC and PKRU count as 0. */
  loadContext(context: TranslationContext): void {
    this.inputs.fill(NEVER);
    const low = (value: bigint): number => Number(value & 0xffff_ffffn);
    const high = (value: bigint): number => Number((value >> 32n) & 0xffff_ffffn);
    this.setModes(low(context.cr0), low(context.cr4), low(context.efer), context.cpl === 3, false);
    this.setRoot(low(context.cr3), high(context.cr3));
    context.pdpte.slice(0, 4).forEach((entry, i) => {
      this.pdpte[2 * i] = low(entry);
      this.pdpte[2 * i + 1] = high(entry);
    });
    this.setEpt(low(context.eptp), high(context.eptp));
    this.tags = (low(context.cr4) & CR4.pcide) !== 0 ? low(context.cr3) & 0xfff : 0;
  }

  /** Takes over the rules that a TLB entry was filled by, for a supervisor whom nothing but the tables hinders. */
  loadFill(root: number, modeBits: number, pdpte: readonly bigint[], eptRoot: number): void {
    this.inputs.fill(NEVER);
    const cr4 = (modeBits & (CR4.pse | CR4.pke)) | ((modeBits >>> 1) & (CR4.pge | CR4.la57));
    const paging = (modeBits & 3) as PagingMode;
    const pae = paging === PAGING.pae || paging === PAGING.ia32e ? CR4.pae : 0;
    const efer = ((modeBits >>> 1) & EFER.nxe) | (paging === PAGING.ia32e ? EFER.lma : 0);
    this.setModes(paging === PAGING.none ? 0 : CR0.pg, cr4 | pae, efer, false, false);
    this.root = root;
    pdpte.forEach((entry, i) => {
      this.pdpte[2 * i] = Number(entry & 0xffff_ffffn);
      this.pdpte[2 * i + 1] = Number(entry >> 32n);
    });
    const accessedDirty = (modeBits & EPT_ACCESSED_DIRTY_MODE) !== 0 ? EPTP_ACCESSED_DIRTY : 0;
    const levels = (modeBits & EPT_FIVE_LEVEL_MODE) !== 0 ? 4 << EPTP_LEVELS_SHIFT : 0;
    this.setEpt((eptRoot % 2 ** 32) | levels | accessedDirty, Math.floor(eptRoot / 2 ** 32));
  }

  private setModes(cr0: number, cr4: number, efer: number, user: boolean, alignmentFlag: boolean): void {
    this.paging =
      (cr0 & CR0.pg) === 0
        ? PAGING.none
        : (cr4 & CR4.pae) === 0
          ? PAGING.bits32
          : (efer & EFER.lma) === 0
            ? PAGING.pae
            : PAGING.ia32e;
    const fiveLevel = this.paging === PAGING.ia32e && (cr4 & CR4.la57) !== 0;
    this.topLevel = this.paging === PAGING.ia32e ? (fiveLevel ? 4 : 3) : 1;
    this.canonicalShift = this.paging === PAGING.ia32e ? (fiveLevel ? 7 : 16) : 0;
    this.user = user;
    this.writeProtect = (cr0 & CR0.wp) !== 0;
    this.smep = (cr4 & CR4.smep) !== 0;
    this.smap = (cr4 & CR4.smap) !== 0;
    this.alignmentFlag = alignmentFlag;
    this.alignmentChecks = user && alignmentFlag && (cr0 & CR0.am) !== 0;
    this.noExecute = (efer & EFER.nxe) !== 0 && (cr4 & CR4.pae) !== 0;
    this.pageSizeExtension = (cr4 & CR4.pse) !== 0;
    this.globalPages = (cr4 & CR4.pge) !== 0;
    this.protectionKeys = this.paging === PAGING.ia32e && (cr4 & CR4.pke) !== 0;
    this.modeBits =
      this.paging |
      (fiveLevel ? FIVE_LEVEL_MODE : 0) |
      ((user ? 1 : 0) << 2) |
      ((alignmentFlag ? 1 : 0) << 3) |
      (cr0 & (CR0.wp | CR0.am)) |
      (cr4 & (CR4.smep | CR4.smap | CR4.pse | CR4.pke)) |
      ((cr4 & CR4.pge) << 1) |
      ((efer & EFER.nxe) << 1);
  }

  private setRoot(cr3Low: number, cr3High: number): void {
    if (this.paging === PAGING.pae) this.root = (cr3Low & ~0x1f) >>> 0;
    else if (this.paging === PAGING.ia32e) this.root = (cr3High & 0xf_ffff) * 2 ** 32 + ((cr3Low & ~0xfff) >>> 0);
    else this.root = (cr3Low & ~0xfff) >>> 0;
  }

  private setEpt(low: number, high: number): void {
    this.eptOn = low !== 0 || high !== 0;
    this.eptLow = (low & ~0xfff) >>> 0;
    this.eptHigh = high & 0xf_ffff;
    this.eptRoot = this.eptHigh * 2 ** 32 + this.eptLow;
    this.eptAccessedDirty = (low & EPTP_ACCESSED_DIRTY) !== 0;
    this.eptTopLevel = ((low >>> EPTP_LEVELS_SHIFT) & 7) === 4 ? 4 : 3;
    this.modeBits =
      (this.modeBits & ~(EPT_ACCESSED_DIRTY_MODE | EPT_FIVE_LEVEL_MODE)) |
      (this.eptAccessedDirty ? EPT_ACCESSED_DIRTY_MODE : 0) |
      (this.eptTopLevel === 4 ? EPT_FIVE_LEVEL_MODE : 0);
    this.guestPhysicalTags.eptLow = this.eptLow;
    this.guestPhysicalTags.eptHigh = this.eptHigh;
  }
}
