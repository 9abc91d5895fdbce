/** Which processor feature brings an instruction, and what its encoding means without it. */

import { CpuidFeature, Instruction, Mnemonic } from 'iced-x86';
import type { CpuModel } from './cpu.ts';
import type { FeatureName } from './features.ts';

/** iced-x86's names of features that models may lack. Encodings with features that have no row are on every model. */
const FEATURE_NAMES: ReadonlyMap<CpuidFeature, FeatureName> = new Map([
  [CpuidFeature.FPU, 'fpu'],
  [CpuidFeature.TSC, 'tsc'],
  [CpuidFeature.MSR, 'msr'],
  [CpuidFeature.CX8, 'cx8'],
  [CpuidFeature.SEP, 'sep'],
  [CpuidFeature.CMOV, 'cmov'],
  [CpuidFeature.CLFSH, 'clflush'],
  [CpuidFeature.MMX, 'mmx'],
  [CpuidFeature.FXSR, 'fxsr'],
  [CpuidFeature.SSE, 'sse'],
  [CpuidFeature.SSE2, 'sse2'],
  [CpuidFeature.SSE3, 'sse3'],
  [CpuidFeature.SSSE3, 'ssse3'],
  [CpuidFeature.SSE4_1, 'sse41'],
  [CpuidFeature.SSE4_2, 'sse42'],
  [CpuidFeature.AES, 'aes'],
  [CpuidFeature.PCLMULQDQ, 'pclmulqdq'],
  [CpuidFeature.POPCNT, 'popcnt'],
  [CpuidFeature.MONITOR, 'monitor'],
  [CpuidFeature.VMX, 'vmx'],
  [CpuidFeature.CMPXCHG16B, 'cx16'],
  [CpuidFeature.MOVBE, 'movbe'],
  [CpuidFeature.XSAVE, 'xsave'],
  [CpuidFeature.XSAVEOPT, 'xsaveopt'],
  [CpuidFeature.XSAVEC, 'xsavec'],
  [CpuidFeature.XSAVES, 'xsaves'],
  [CpuidFeature.AVX, 'avx'],
  [CpuidFeature.AVX2, 'avx2'],
  [CpuidFeature.FMA, 'fma'],
  [CpuidFeature.F16C, 'f16c'],
  [CpuidFeature.VAES, 'vaes'],
  [CpuidFeature.VPCLMULQDQ, 'vpclmulqdq'],
  [CpuidFeature.RDRAND, 'rdrand'],
  [CpuidFeature.RDSEED, 'rdseed'],
  [CpuidFeature.FSGSBASE, 'fsgsbase'],
  [CpuidFeature.BMI1, 'bmi1'],
  [CpuidFeature.BMI2, 'bmi2'],
  [CpuidFeature.LZCNT, 'lzcnt'],
  [CpuidFeature.INVPCID, 'invpcid'],
  [CpuidFeature.ADX, 'adx'],
  [CpuidFeature.SMAP, 'smap'],
  [CpuidFeature.CLFLUSHOPT, 'clflushopt'],
  [CpuidFeature.CLWB, 'clwb'],
  [CpuidFeature.SHA, 'sha'],
  [CpuidFeature.PKU, 'pku'],
  [CpuidFeature.WAITPKG, 'waitpkg'],
  [CpuidFeature.RDPID, 'rdpid'],
  [CpuidFeature.SERIALIZE, 'serialize'],
  [CpuidFeature.SYSCALL, 'syscall'],
  [CpuidFeature.RDTSCP, 'rdtscp'],
]);

/** Processors without the feature ignore the prefix F3H: another instruction (SDM Vol. 2, "LZCNT" and "TZCNT"). */
const WITHOUT_PREFIX: ReadonlyMap<number, Mnemonic> = new Map([
  [Mnemonic.Lzcnt, Mnemonic.Bsr],
  [Mnemonic.Tzcnt, Mnemonic.Bsf],
]);

const known: (readonly FeatureName[] | undefined)[] = [];

/** The features that an encoding needs. @param code iced-x86's Code */
export function featuresOf(code: number): readonly FeatureName[] {
  let features = known[code];
  if (!features) {
    const instruction = new Instruction();
    instruction.code = code;
    features = Array.from(instruction.cpuidFeatures()).flatMap((feature) => FEATURE_NAMES.get(feature) ?? []);
    instruction.free();
    known[code] = features;
  }
  return features;
}

/**
 * The mnemonic that an encoding has on this model: another one where a prefix is ignored, undefined for #UD.
 * @param code iced-x86's Code, of `mnemonic`
 */
export function meaningOn(model: CpuModel, code: number, mnemonic: Mnemonic): Mnemonic | undefined {
  if (featuresOf(code).every((feature) => model.features.has(feature))) return mnemonic;
  return WITHOUT_PREFIX.get(mnemonic);
}
