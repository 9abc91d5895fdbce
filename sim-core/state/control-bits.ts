/**
 * Bits of the control registers, RFLAGS, EFER and segment access rights, by the manual's names. All lie in the low
 * half.
 */

export const CR0 = {
  pe: 0x1, mp: 0x2, em: 0x4, ts: 0x8, et: 0x10, ne: 0x20, wp: 0x1_0000, am: 0x4_0000, nw: 0x2000_0000, cd: 0x4000_0000,
  pg: 0x8000_0000,
} as const; // biome-ignore format: a table reads better in rows

export const CR4 = {
  vme: 0x1, pvi: 0x2, tsd: 0x4, de: 0x8, pse: 0x10, pae: 0x20, mce: 0x40, pge: 0x80, pce: 0x100, osfxsr: 0x200,
  osxmmexcpt: 0x400, umip: 0x800, la57: 0x1000, vmxe: 0x2000, smxe: 0x4000, fsgsbase: 0x1_0000, pcide: 0x2_0000,
  osxsave: 0x4_0000, smep: 0x10_0000, smap: 0x20_0000, pke: 0x40_0000,
} as const; // biome-ignore format: a table reads better in rows

export const EFER = { sce: 0x1, lme: 0x100, lma: 0x400, nxe: 0x800 } as const;

export const RFLAGS = {
  cf: 0x1, pf: 0x4, af: 0x10, zf: 0x40, sf: 0x80, tf: 0x100, if: 0x200, df: 0x400, of: 0x800, iopl: 0x3000, nt: 0x4000,
  rf: 0x1_0000, vm: 0x2_0000, ac: 0x4_0000, vif: 0x8_0000, vip: 0x10_0000, id: 0x20_0000,
} as const; // biome-ignore format: a table reads better in rows

/** Segment access rights in the VMCS format: bits 15:8 of a descriptor's second half moved to 7:0, 23:20 to 15:12. */
export const RIGHTS = {
  accessed: 0x1,
  /** Data segments: writable. Code segments: readable. */
  writable: 0x2,
  readable: 0x2,
  /** Data segments: expand-down. Code segments: conforming. */
  expandDown: 0x4,
  conforming: 0x4,
  code: 0x8,
  /** Code or data segment (S). */
  codeOrData: 0x10,
  dpl: 0x60,
  present: 0x80,
  long: 0x2000,
  /** D/B: 32-bit default sizes. */
  big: 0x4000,
  granularity: 0x8000,
  unusable: 0x1_0000,
} as const;

/** Types of system segments and gates (SDM Vol. 3A, "System Descriptor Types"). */
export const SYSTEM_TYPE = {
  tss16: 1, ldt: 2, busyTss16: 3, callGate16: 4, taskGate: 5, interruptGate16: 6, trapGate16: 7, tss32: 9, busyTss32:
  11,
  callGate32: 12, interruptGate32: 14, trapGate32: 15,
} as const; // biome-ignore format: a table reads better in rows

/** Interruptibility state in the VMCS format. */
export const BLOCKING = { bySti: 0x1, byMovSs: 0x2, byNmi: 0x8 } as const;

/** DR6 bits, and pending debug exceptions in the same places. */
export const DR6 = { bd: 0x2000, bs: 0x4000, bt: 0x8000 } as const;
export const DR7_GD = 0x2000;
