import type { CpuModel } from './cpu.ts';
import { cr4BitsOf, eferBitsOf, type FeatureName } from './features.ts';

interface ModelRow {
  readonly name: string;
  readonly signature: number;
  readonly brand: string;
  readonly physicalAddressBits: number;
  readonly features: readonly FeatureName[];
}

const WESTMERE: readonly FeatureName[] = [
  'fpu', 'de', 'pse', 'tsc', 'msr', 'pae', 'mce', 'cx8', 'apic', 'sep', 'mtrr', 'pge', 'mca', 'cmov', 'pat', 'pse36',
  'clflush', 'mmx', 'fxsr', 'sse', 'sse2', 'sse3', 'ssse3', 'sse41', 'sse42', 'aes', 'pclmulqdq', 'monitor', 'vmx',
  'cx16', 'pdcm', 'pcid', 'x2apic', 'popcnt', 'lahf', 'syscall', 'nx', 'gigabytePages', 'rdtscp', 'longMode', 'invariantTsc',
  'archCapabilities',
]; // biome-ignore format: a table reads better in rows

const SKYLAKE: readonly FeatureName[] = [
  ...WESTMERE, 'avx', 'avx2', 'fma', 'f16c', 'bmi1', 'bmi2', 'adx', 'movbe', 'lzcnt', 'tscDeadline', 'fsgsbase', 'smep',
  'smap', 'erms', 'invpcid', 'xsave', 'xsaveopt', 'xsavec', 'xgetbv1', 'xsaves', 'rdrand', 'rdseed', 'clflushopt', 'tscAdjust',
]; // biome-ignore format: a table reads better in rows

const ICE_LAKE: readonly FeatureName[] = [
  ...SKYLAKE,
  'sha',
  'vaes',
  'vpclmulqdq',
  'umip',
  'pku',
  'rdpid',
  'clwb',
  'la57',
];

const ALL: readonly FeatureName[] = [...ICE_LAKE, 'serialize', 'waitpkg'];

/** Every model by name; the first is the default. */
const MODELS: readonly ModelRow[] = [
  {
    name: 'westmere',
    signature: 0x206c2,
    brand: 'VMXray simulated processor (Westmere class)',
    physicalAddressBits: 40,
    features: WESTMERE,
  },
  {
    name: 'skylake',
    signature: 0x506e3,
    brand: 'VMXray simulated processor (Skylake class)',
    physicalAddressBits: 39,
    features: SKYLAKE,
  },
  {
    name: 'icelake',
    signature: 0x606a6,
    brand: 'VMXray simulated processor (Ice Lake class)',
    physicalAddressBits: 46,
    features: ICE_LAKE,
  },
  {
    name: 'max',
    signature: 0x306c3,
    brand: 'VMXray simulated processor (all features)',
    physicalAddressBits: 46,
    features: ALL,
  },
];

export const MODEL_NAMES: readonly string[] = MODELS.map((model) => model.name);

/** Hertz of the time-stamp counter: one cycle of the model is one nanosecond. */
const FREQUENCY = 1_000_000_000;

/**
 * @param name one of MODEL_NAMES; undefined for the default @param vmx false hides VMX
 * @throws RangeError for a name that no model has
 */
export function findModel(name: string | undefined, vmx = true): CpuModel {
  const found = name === undefined ? MODELS[0] : MODELS.find((model) => model.name === name);
  if (found === undefined) throw new RangeError(`no CPU model '${name}'; there are ${MODEL_NAMES.join(', ')}`);
  const features = new Set(found.features.filter((feature) => vmx || feature !== 'vmx'));
  return {
    name: found.name,
    physicalAddressBits: found.physicalAddressBits,
    linearAddressBits: features.has('la57') ? 57 : 48,
    frequency: FREQUENCY,
    signature: found.signature,
    brand: found.brand,
    features,
    cr4Bits: cr4BitsOf(features),
    eferBits: eferBitsOf(features),
  };
}
