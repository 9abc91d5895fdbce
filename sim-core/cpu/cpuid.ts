/** CPUID (SDM Vol. 2A, "CPUID—CPU Identification"), from the model's tables. */

import { CR4 } from '../state/control-bits.ts';
import type { Cpu, Topology } from './cpu.ts';
import { areaSize, componentsOf, xcr0Bits } from './extended-state.ts';
import { type FeatureRegister, featureBits } from './features.ts';
import { PERFORMANCE_LEAF } from './performance-counters.ts';

/** EAX, EBX, ECX, EDX. */
export type CpuidResult = readonly [number, number, number, number];

const VENDOR = 'GenuineIntel';
const lastBasic = ({ model }: Cpu): number => (model.features.has('xsave') ? 0xd : 0xb);
const LAST_EXTENDED = 0x8000_0008;
const OSXSAVE = 1 << 27;
const OSPKE = 1 << 4;
const APIC = 1 << 9;
/** IA32_APIC_BASE.EN. */
const APIC_ENABLED = 1n << 11n;
/** CLFLUSH line of 64 bytes, in units of 8. */
const LINE = 8 << 8;
/** CPUID.1:EDX.HTT: bits 23:16 of EBX say how many APIC IDs the package has. */
const HTT = 1 << 28;

const word = (text: string, at: number): number =>
  [0, 1, 2, 3].reduce((value, i) => value | ((text.charCodeAt(at + i) || 0) << (8 * i)), 0) >>> 0;

type Leaf = (cpu: Cpu, subleaf: number) => CpuidResult;

const bitsOf = (cpu: Cpu, leaf: number, register: FeatureRegister): number =>
  featureBits(cpu.model.features, leaf, register);

/** 16 bytes of the brand string, which fills three leaves and is padded with zeros. */
const brand =
  (part: number): Leaf =>
  (cpu) => {
    const at = (i: number): number => word(cpu.model.brand, 16 * part + 4 * i);
    return [at(0), at(1), at(2), at(3)];
  };

const LEAVES = new Map<number, Leaf>([
  [0, (cpu) => [lastBasic(cpu), word(VENDOR, 0), word(VENDOR, 8), word(VENDOR, 4)]],
  [1, featureLeaf],
  // MONITOR and MWAIT: lines of 64 bytes, no extensions.
  [5, (cpu) => (cpu.model.features.has('monitor') ? [64, 64, 0, 0] : [0, 0, 0, 0])],
  [
    7,
    (cpu, subleaf) =>
      subleaf === 0 ? [0, bitsOf(cpu, 7, 'ebx'), bitsOf(cpu, 7, 'ecx') | ospke(cpu), bitsOf(cpu, 7, 'edx')] : NONE,
  ],
  [0xa, () => PERFORMANCE_LEAF],
  [0xb, topology],
  [0xd, extendedState],
  [0x8000_0000, () => [LAST_EXTENDED, 0, 0, 0]],
  [0x8000_0001, (cpu) => [0, 0, bitsOf(cpu, 0x8000_0001, 'ecx'), bitsOf(cpu, 0x8000_0001, 'edx')]],
  [0x8000_0002, brand(0)],
  [0x8000_0003, brand(1)],
  [0x8000_0004, brand(2)],
  [0x8000_0007, (cpu) => [0, 0, 0, bitsOf(cpu, 0x8000_0007, 'edx')]],
  [0x8000_0008, ({ model }) => [model.physicalAddressBits | (model.linearAddressBits << 8), 0, 0, 0]],
]);

const NONE: CpuidResult = [0, 0, 0, 0];

function featureLeaf(cpu: Cpu): CpuidResult {
  const osxsave = (cpu.state.low('cr4') & CR4.osxsave) !== 0 ? OSXSAVE : 0;
  // The feature flag of the local APIC follows its global enable bit.
  const hidden = (cpu.state.get64('msrApicBase') & APIC_ENABLED) === 0n ? APIC : 0;
  const { number, processors } = topologyOf(cpu);
  const several = processors > 1 ? HTT : 0;
  const ebx = ((number << 24) | (processors << 16) | LINE) >>> 0;
  return [cpu.model.signature, ebx, bitsOf(cpu, 1, 'ecx') | osxsave, (bitsOf(cpu, 1, 'edx') | several) & ~hidden];
}

const ospke = (cpu: Cpu): number => ((cpu.state.low('cr4') & CR4.pke) !== 0 ? OSPKE : 0);

/** Sizes and places of the XSAVE-managed components. No component is managed by IA32_XSS. */
function extendedState(cpu: Cpu, subleaf: number): CpuidResult {
  const { model, state } = cpu;
  if (!model.features.has('xsave')) return NONE;
  const all = xcr0Bits(model);
  const enabled = state.get64('xcr0');
  if (subleaf === 0) return [Number(all), areaSize(model, enabled, false), areaSize(model, all, false), 0];
  if (subleaf === 1) return [bitsOf(cpu, 0xd, 'eax'), areaSize(model, enabled, true), 0, 0];
  const component = componentsOf(model).find(({ number }) => number === subleaf);
  return component ? [component.size, component.offset, 0, 0] : NONE;
}

const topologyOf = ({ topology: own }: Cpu): Topology => own ?? { number: 0, processors: 1 };

/** Extended topology: every core has one thread; EAX is the shift of the x2APIC ID (EDX) to the next level's. */
function topology(cpu: Cpu, subleaf: number): CpuidResult {
  const { number, processors } = topologyOf(cpu);
  if (subleaf > 1) return [0, 0, subleaf & 0xff, number];
  const [shift, within] = subleaf === 0 ? [0, 1] : [Math.ceil(Math.log2(processors)), processors];
  return [shift, within, ((subleaf + 1) << 8) | subleaf, number];
}

/** Leaves beyond the last basic one answer as that one does. */
export function cpuid(cpu: Cpu, leaf: number, subleaf: number): CpuidResult {
  const known = LEAVES.get(leaf);
  if (known) return known(cpu, subleaf);
  const beyond = (leaf > lastBasic(cpu) && leaf < 0x8000_0000) || leaf > LAST_EXTENDED;
  return beyond ? topology(cpu, subleaf) : NONE;
}
