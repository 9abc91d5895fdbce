/** Processor features: each once, with its CPUID bit and the control bits that come with it. */

import { CR4, EFER } from '../state/control-bits.ts';

export type FeatureRegister = 'eax' | 'ebx' | 'ecx' | 'edx';

interface FeatureRow {
  readonly leaf: number;
  readonly register: FeatureRegister;
  readonly bit: number;
  /** CR4 bits that may be set only with this feature. */
  readonly cr4?: number;
  /** EFER bits likewise. */
  readonly efer?: number;
}

const row = (leaf: number, register: FeatureRegister, bit: number, cr4 = 0, efer = 0): FeatureRow => ({
  leaf,
  register,
  bit,
  ...(cr4 === 0 ? {} : { cr4 }),
  ...(efer === 0 ? {} : { efer }),
});

/** SDM Vol. 2A, "CPUID—CPU Identification": feature flags. Only what is simulated has a row. */
export const FEATURES = {
  fpu: row(1, 'edx', 0),
  de: row(1, 'edx', 2, CR4.de),
  pse: row(1, 'edx', 3, CR4.pse),
  tsc: row(1, 'edx', 4, CR4.tsd),
  msr: row(1, 'edx', 5),
  pae: row(1, 'edx', 6, CR4.pae),
  mce: row(1, 'edx', 7, CR4.mce),
  cx8: row(1, 'edx', 8),
  apic: row(1, 'edx', 9),
  sep: row(1, 'edx', 11),
  mtrr: row(1, 'edx', 12),
  pge: row(1, 'edx', 13, CR4.pge),
  mca: row(1, 'edx', 14),
  cmov: row(1, 'edx', 15),
  pat: row(1, 'edx', 16),
  pse36: row(1, 'edx', 17),
  clflush: row(1, 'edx', 19),
  mmx: row(1, 'edx', 23),
  fxsr: row(1, 'edx', 24, CR4.osfxsr),
  sse: row(1, 'edx', 25, CR4.osxmmexcpt),
  sse2: row(1, 'edx', 26),
  sse3: row(1, 'ecx', 0),
  pclmulqdq: row(1, 'ecx', 1),
  monitor: row(1, 'ecx', 3),
  vmx: row(1, 'ecx', 5, CR4.vmxe),
  ssse3: row(1, 'ecx', 9),
  fma: row(1, 'ecx', 12),
  cx16: row(1, 'ecx', 13),
  pdcm: row(1, 'ecx', 15),
  pcid: row(1, 'ecx', 17, CR4.pcide),
  sse41: row(1, 'ecx', 19),
  sse42: row(1, 'ecx', 20),
  x2apic: row(1, 'ecx', 21),
  movbe: row(1, 'ecx', 22),
  popcnt: row(1, 'ecx', 23),
  tscDeadline: row(1, 'ecx', 24),
  aes: row(1, 'ecx', 25),
  xsave: row(1, 'ecx', 26, CR4.osxsave),
  avx: row(1, 'ecx', 28),
  f16c: row(1, 'ecx', 29),
  rdrand: row(1, 'ecx', 30),
  fsgsbase: row(7, 'ebx', 0, CR4.fsgsbase),
  tscAdjust: row(7, 'ebx', 1),
  bmi1: row(7, 'ebx', 3),
  avx2: row(7, 'ebx', 5),
  smep: row(7, 'ebx', 7, CR4.smep),
  bmi2: row(7, 'ebx', 8),
  erms: row(7, 'ebx', 9),
  invpcid: row(7, 'ebx', 10),
  rdseed: row(7, 'ebx', 18),
  adx: row(7, 'ebx', 19),
  smap: row(7, 'ebx', 20, CR4.smap),
  clflushopt: row(7, 'ebx', 23),
  clwb: row(7, 'ebx', 24),
  sha: row(7, 'ebx', 29),
  umip: row(7, 'ecx', 2, CR4.umip),
  pku: row(7, 'ecx', 3, CR4.pke),
  waitpkg: row(7, 'ecx', 5),
  vaes: row(7, 'ecx', 9),
  vpclmulqdq: row(7, 'ecx', 10),
  la57: row(7, 'ecx', 16, CR4.la57),
  rdpid: row(7, 'ecx', 22),
  serialize: row(7, 'edx', 14),
  archCapabilities: row(7, 'edx', 29),
  xsaveopt: row(0xd, 'eax', 0),
  xsavec: row(0xd, 'eax', 1),
  xgetbv1: row(0xd, 'eax', 2),
  xsaves: row(0xd, 'eax', 3),
  lahf: row(0x8000_0001, 'ecx', 0),
  lzcnt: row(0x8000_0001, 'ecx', 5),
  syscall: row(0x8000_0001, 'edx', 11, 0, EFER.sce),
  nx: row(0x8000_0001, 'edx', 20, 0, EFER.nxe),
  gigabytePages: row(0x8000_0001, 'edx', 26),
  rdtscp: row(0x8000_0001, 'edx', 27),
  longMode: row(0x8000_0001, 'edx', 29, 0, EFER.lme | EFER.lma),
  invariantTsc: row(0x8000_0007, 'edx', 8),
} as const satisfies Record<string, FeatureRow>;

export type FeatureName = keyof typeof FEATURES;

const rows = (names: ReadonlySet<FeatureName>): FeatureRow[] => [...names].map((name) => FEATURES[name]);

/** The feature bits of one CPUID register. */
export const featureBits = (names: ReadonlySet<FeatureName>, leaf: number, register: FeatureRegister): number =>
  rows(names).reduce((bits, r) => (r.leaf === leaf && r.register === register ? bits | (1 << r.bit) : bits), 0) >>> 0;

/** CR4 bits that a processor with these features lets be 1 (PCE belongs to every processor with RDPMC). */
export const cr4BitsOf = (names: ReadonlySet<FeatureName>): number =>
  rows(names).reduce((bits, r) => bits | (r.cr4 ?? 0), CR4.pce as number);

export const eferBitsOf = (names: ReadonlySet<FeatureName>): number =>
  rows(names).reduce((bits, r) => bits | (r.efer ?? 0), 0);
