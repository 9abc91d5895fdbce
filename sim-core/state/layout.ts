/**
 * The one layout of the processor's architectural state in linear memory.
 *
 * Every field is declared once here; offsets follow from the order. WebAssembly code addresses fields by these
 * constants, TypeScript through `State`. Widths are in bytes; a count above 1 makes an array of that many elements.
 */

/** Segment registers in VMCS order (SDM Vol. 3C, "Guest Register State"), which is also iced-x86's order ES…GS. */
export const SEGMENT = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5, ldtr: 6, tr: 7 } as const;
export type SegmentIndex = (typeof SEGMENT)[keyof typeof SEGMENT];

/** General-purpose register numbers, as encoded in ModRM and in exit qualifications. */
export const GPR = {
  rax: 0, rcx: 1, rdx: 2, rbx: 3, rsp: 4, rbp: 5, rsi: 6, rdi: 7,
  r8: 8, r9: 9, r10: 10, r11: 11, r12: 12, r13: 13, r14: 14, r15: 15,
} as const; // biome-ignore format: a table reads better in rows

const STATE_BASE = 0x1000;

/** name: [element width in bytes, element count] */
const FIELDS = {
  /** Instructions that all processors together retired before this slice (Number, as f64). */
  retired: [8, 1],
  /** Instructions of the slice that runs: given to it so far, `budget` of them not begun yet (Number, as f64). */
  granted: [8, 1],
  /** Cycles beyond one per instruction: page-walk references, VM transitions, skipped halts (Number, as f64). */
  extraCycles: [8, 1],
  /** Absolute cycle (Number, as f64) at which something is due: the slice that runs ends there. */
  sliceEnd: [8, 1],
  /** Instructions begun when STI last set blocking without ending the slice (Number, as f64); see cpu/events.ts. */
  stiAt: [8, 1],
  /** What has happened between instructions so far: events delivered, waits in HLT (Number, as f64). */
  events: [8, 1],

  /** Number of the processor whose state is here, and of the one whose turn it is: debuggers may look at another. */
  loadedProcessor: [4, 1],
  turn: [4, 1],
  /** 1 when the processor whose turn it is gives up the rest of it. */
  turnYielded: [4, 1],
  /** Absolute cycle (Number, as f64) at which its turn ends. */
  turnEnd: [8, 1],
  /**
   * 0 when no other processor had anything to do when it was last looked at, and nothing has come for one since: a turn
   * does not end then, and PAUSE gives nothing away.
   */
  othersMayRun: [4, 1],

  /** RAX…R15. In 32-bit code the upper halves are kept zero by 32-bit writes. */
  gpr: [8, 16],
  /** Always zero: the base or index of an address that has none. */
  zero: [8, 1],
  /** Instruction pointer. Current only outside compiled code; there it is `codeBase` + the record's page offset. */
  rip: [8, 1],
  /** RIP of byte 0 of the code page that records are running from (modulo 2^64). */
  codeBase: [8, 1],
  /** Address of the table page offset → operation record of the code page that is running. */
  codeTable: [4, 1],
  /** One of CODE_MODE. */
  codeMode: [4, 1],
  /** Lazy status flags; see isa/flags.ts. ZF = (flagResult == 0). */
  flagResult: [8, 1],
  /** Bit 63 = CF, bit 63 xor bit 62 = OF. */
  flagCarry: [8, 1],
  /** Bit 4 = AF, bits 15:8 = xor into the parity byte, bit 31 = xor into SF. */
  flagMisc: [4, 1],
  /** RFLAGS without the status flags CF PF AF ZF SF OF (those are lazy); bit 1 is set. */
  rflagsSystem: [4, 1],
  /** 1 or -1: the step direction that RFLAGS.DF asks for, kept beside `rflagsSystem` for string instructions. */
  stringStep: [4, 1],
  /** Instructions left in this slice; handlers' dispatch loop counts down. */
  budget: [4, 1],
  /** Why the dispatch loop returned: one of EXIT in engine/dispatch.ts. */
  exitCode: [4, 1],
  /** The operation record whose instruction faulted last, for its length; 0 when it could not be fetched. */
  exitRecord: [4, 1],
  /** Set by slow paths that need the dispatch loop to return after the instruction in hand (see machine/run.ts). */
  attention: [4, 1],
  /**
   * Set when decoded code was dropped because its bytes were written; compiled code then leaves after its instruction.
   */
  codeDropped: [4, 1],
  /** Scratch for values that cross between WebAssembly and TypeScript without BigInt. */
  scratch: [8, 4],
  /** Added to cycles to give IA32_TIME_STAMP_COUNTER. */
  tscAdjustment: [8, 1],

  /** Segment registers and system segment registers, indexed by SEGMENT. */
  segmentSelector: [4, 8],
  segmentBase: [8, 8],
  segmentLimit: [4, 8],
  /** Access rights in the VMCS format (bit 16 = unusable). */
  segmentRights: [4, 8],
  /** Fast limit checks outside 64-bit mode: offset + size <= top, unsigned; 0 sends every access to the slow path. */
  segmentReadTop: [8, 8],
  segmentWriteTop: [8, 8],
  gdtrBase: [8, 1],
  gdtrLimit: [4, 1],
  idtrLimit: [4, 1],
  idtrBase: [8, 1],
  /** Current privilege level, 0…3. */
  cpl: [4, 1],

  cr0: [8, 1],
  cr2: [8, 1],
  cr3: [8, 1],
  cr4: [8, 1],
  cr8: [8, 1],
  xcr0: [8, 1],
  efer: [8, 1],
  /** DR0…DR7; indices 4 and 5 are unused. */
  dr: [8, 8],
  /** PAE page-directory-pointer-table entries, loaded by MOV to CR3 and VM entry. */
  pdpte: [8, 4],

  msrStar: [8, 1],
  msrLstar: [8, 1],
  msrCstar: [8, 1],
  msrFmask: [8, 1],
  msrKernelGsBase: [8, 1],
  msrTscAux: [8, 1],
  msrUmwaitControl: [8, 1],
  msrSysenterCs: [8, 1],
  msrSysenterEsp: [8, 1],
  msrSysenterEip: [8, 1],
  msrPat: [8, 1],
  msrDebugctl: [8, 1],
  msrFeatureControl: [8, 1],
  msrMiscEnable: [8, 1],
  msrApicBase: [8, 1],
  msrMtrrDefType: [8, 1],
  msrMtrrPhys: [8, 20],
  msrMtrrFixed: [8, 11],
  msrXss: [8, 1],
  msrSpecCtrl: [8, 1],
  msrPerfGlobalCtrl: [8, 1],
  msrPerfGlobalStatus: [8, 1],
  msrFixedCtrCtrl: [8, 1],
  perfEventSelect: [8, 4],
  /** General performance counters, then fixed ones, as they were when `perfCounted` was noted. */
  perfCounters: [8, 7],
  /** Instructions and cycles outside HLT (Numbers, as f64) up to which `perfCounters` have counted. */
  perfCounted: [8, 2],
  /** Absolute cycle (Number, as f64) before which no counter that interrupts overflows. */
  perfDeadline: [8, 1],
  /** The ring that counts: bit 0 for CPL 0, bit 1 for others. */
  perfRing: [4, 1],
  /** 1 while an enabled counter counts in one of these only. */
  perfByRing: [4, 1],
  /** Cycles that have passed in HLT (Number, as f64). */
  haltedCycles: [8, 1],
  msrPkrs: [8, 1],
  msrTscDeadline: [8, 1],
  pkru: [4, 1],
  /** State of the generator behind RDRAND and RDSEED: the same run gets the same numbers. */
  randomState: [8, 1],
  mxcsr: [4, 1],
  /** YMM0…YMM15, 32 bytes each; the low 16 bytes are XMM. */
  ymm: [32, 16],
  /**
   * x87 registers by physical number, 16 bytes each with 10 used, then control, status and tag words. Of the tag word
   * only which registers are empty (3) counts; instruction and data pointers have a selector outside 64-bit mode.
   */
  x87: [16, 8],
  x87Control: [4, 1],
  x87Status: [4, 1],
  x87Tag: [4, 1],
  x87Opcode: [4, 1],
  x87Ip: [8, 1],
  x87Dp: [8, 1],
  x87Cs: [4, 1],
  x87Ds: [4, 1],

  /** 1 from MONITOR to the next MWAIT, event or VM transition. */
  monitorArmed: [4, 1],
  /** Physical address (Number, as f64; -1: none) of the line that MONITOR watches, and what was in it. */
  monitorAddress: [8, 1],
  monitorLine: [4, 16],
  /** One of ACTIVITY. */
  activity: [4, 1],
  /** Interruptibility state in the VMCS format: bit 0 STI, bit 1 MOV SS, bit 3 NMI. */
  interruptibility: [4, 1],
  /** Pending debug exceptions in the VMCS format. */
  pendingDebug: [8, 1],
  /** 1 while the interrupt controller asks for an interrupt (the INTR line). */
  interruptRequest: [4, 1],
  /** 1 while an NMI is latched. */
  nmiRequest: [4, 1],
  /** 1 while an INIT signal is latched. */
  initRequest: [4, 1],
  /** START_UP.latched with the vector of a start-up IPI that has come; else 0. */
  startUpRequest: [4, 1],

  /** 1 after VMXON. */
  vmxOn: [4, 1],
  /** 1 in VMX non-root operation. */
  nonRoot: [4, 1],
  /** Physical address of the VMXON region; all ones when there is none. */
  vmxonPointer: [8, 1],
  /** Physical address of the current VMCS; all ones when there is none. */
  vmcsPointer: [8, 1],
  /** Current tags of the TLB: VPID (0 in root operation), EPTP in use (0 when EPT is off). */
  vpid: [4, 1],
  /** Context id compared by the engine's fast TLB (low 12 bits); chosen by mmu/context.ts. */
  tlbContext: [8, 1],
  /** What the context id adds to the address of a fast-TLB entry: FAST_TLB.contextStride entries for each id. */
  tlbOffset: [4, 1],
  eptp: [8, 1],
  /** EPT_CONTROL bits in force in non-root operation. */
  eptControls: [4, 1],
  /** SPPTP in force with EPT_CONTROL.subPageWrite. */
  subPageTable: [8, 1],
  /** TSC offset in force in non-root operation, else 0. */
  tscOffset: [8, 1],
  /** TSC multiplier in force in non-root operation (48 fraction bits); 0 means none. */
  tscMultiplier: [8, 1],
  /** One of MONITOR_TRAP: the monitor trap flag of the guest that runs. */
  monitorTrap: [4, 1],
  /** Absolute cycles (Numbers, as f64) of the first and the last PAUSE of the loop that PAUSE-loop exiting watches. */
  pauseLoop: [8, 2],
  /** Page offset + 1 of the write to the virtual-APIC page that is to be emulated at the next boundary; 0: none. */
  apicWrite: [4, 1],
  /** Absolute cycle (Number, as f64) at which the VMX preemption timer expires; Infinity when off. */
  preemptionDeadline: [8, 1],

  /** Data of an access that the fast TLB cannot serve (page crossing, MMIO). Writes are committed from here. */
  bounce: [64, 1],
  /** Offsets in `vmcs` of fields that staged VMWRITEs have written since VM entry last looked; see vmx/staged.ts. */
  vmcsWriteCount: [4, 1],
  vmcsWrites: [4, 64],
  /** The current VMCS's data, cached; laid out by vmx/fields.ts, stored back by VMCLEAR and VMPTRLD. */
  vmcs: [4096, 1],
} as const satisfies Record<string, readonly [number, number]>;

export type StateField = keyof typeof FIELDS;

function layOut(): { offsets: Record<StateField, number>; end: number } {
  const offsets = {} as Record<StateField, number>;
  let at = STATE_BASE;
  for (const [name, [width, count]] of Object.entries(FIELDS) as [StateField, readonly [number, number]][]) {
    const alignment = Math.min(width, 64);
    at = Math.ceil(at / alignment) * alignment;
    offsets[name] = at;
    at += width * count;
  }
  return { offsets, end: at };
}

const LAYOUT = layOut();

/**
 * Byte address of each field in linear memory. Element i of an array field is at OFFSET.x + i × width. The copy by
 * spread matters: JavaScript engines keep an object filled by computed keys as a hash table, ten times slower to read.
 */
export const OFFSET: Readonly<Record<StateField, number>> = { ...LAYOUT.offsets };
/** Bytes [STATE_START, STATE_END) hold the time and the whole state of the processor that runs. */
export const STATE_START = STATE_BASE;
export const STATE_END = LAYOUT.end;
/** Bytes [PROCESSOR_START, STATE_END) are the processor's own: copying them copies the processor. */
export const PROCESSOR_START = LAYOUT.offsets.gpr;

/** Element width in bytes of a field. */
export const widthOf = (field: StateField): number => FIELDS[field][0];
export const countOf = (field: StateField): number => FIELDS[field][1];

/** How code is decoded: operand/address size from CS, stack-pointer size from SS.B. */
export const CODE_MODE = { code16stack16: 0, code16stack32: 1, code32stack16: 2, code32stack32: 3, code64: 4 } as const;
export type CodeMode = (typeof CODE_MODE)[keyof typeof CODE_MODE];

/**
 * Activity states in the VMCS encoding (SDM Vol. 3C, "Guest Non-Register State"), and one that no VMCS can hold: the
 * shutdown after a VMX abort.
 */
export const ACTIVITY = { active: 0, hlt: 1, shutdown: 2, waitForSipi: 3, vmxAbort: 4 } as const;

/** In `startUpRequest`, beside the vector in bits 7:0. */
export const START_UP = { vector: 0xff, latched: 0x100 } as const;

/** What VM-execution controls add to EPT. */
export const EPT_CONTROL = { modeBasedExecute: 1, subPageWrite: 2 } as const;

/** Monitor trap flag: off; a VM exit pends after the next instruction or event; it pends now. */
export const MONITOR_TRAP = { off: 0, armed: 1, pending: 2 } as const;

/** The regions of linear memory after the processor state. Sizes in bytes. */
export const REGION = {
  /** VMCS encoding → field, 2 bytes each; see vmx/staged.ts. */
  vmcsFields: { start: 0x1_0000, size: 0x1_0000 },
  /** Direct-mapped code translations of the engine. 1024 entries of 16 bytes. */
  codeTlb: { start: 0x3_0000, size: 1024 * 16 },
  /** The architectural TLB (linear, guest-physical, combined mappings); see mmu/tlb.ts. */
  tlb: { start: 0x4_0000, size: 0xc_0000 },
  /** Direct-mapped data translations of the engine; see mmu/fast-tlb.ts. 16384 entries of 32 bytes. */
  fastTlb: { start: 0x10_0000, size: 16384 * 32 },
  /** Operation records and page tables of the decode cache; see engine/code-cache.ts. */
  code: { start: 0x18_0000, size: 0x3e8_0000 },
  /** Guest RAM: physical address p < RAM size is at ram.start + p. */
  ram: { start: 0x400_0000 },
} as const;

/** Most processors that a machine may have. */
export const MOST_PROCESSORS = 16;

/**
 * Behind RAM, for each processor of a machine with several: its state while it does not run, and its architectural TLB
 * (processor 0 has REGION.tlb). Sizes in bytes.
 */
export const PARKING = { state: 0x4000, tlb: REGION.tlb.size, size: 0x4000 + REGION.tlb.size } as const;
/** Address of a processor's part of the parking area. @param ramSize bytes of RAM */
export const parkingOf = (ramSize: number, processor: number): number =>
  REGION.ram.start + ramSize + processor * PARKING.size;

/**
 * Entry of the engine's data TLB: entry number = linear page number + context id × contextStride, modulo `entries`. A
 * tag is the linear page address with the low 12 bits replaced by the context id; all ones never matches. Host
 * address = linear address (low 32 bits) + addend, modulo 2^32. An access of size n probes with the page of its
 * *last* byte against the entry of its first, so that page-crossing accesses miss.
 */
export const FAST_TLB = {
  entries: 16_384, entryShift: 5, contextStride: 1021, readTag: 0, writeTag: 8, addend: 16,
} as const; // biome-ignore format: a row

/**
 * Entry of the engine's code TLB: a linear page address with the context id in its low 12 bits, the address of the
 * decode cache's offset → record table, and the CODE_MODE that the table is for. Entry number = linear page number +
 * context id × contextStride, modulo `entries`: VMM and guest often run the same linear pages.
 */
export const CODE_TLB = { entries: 1024, entryShift: 4, contextStride: 37, tag: 0, table: 8, mode: 12 } as const;
