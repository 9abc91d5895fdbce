/** Every register that a debugger shows or names, once: name, width, group, bits, and where it is in the state. */

import type { Cpu } from '../cpu/cpu.ts';
import { readRflags, writeRflags } from '../cpu/rflags.ts';
import { countOf, GPR, OFFSET, SEGMENT, type SegmentIndex, type StateField, widthOf } from '../state/layout.ts';
import type { State } from '../state/state.ts';
import type { BitField } from '../vmx/bits.ts';
import * as L from '../vmx/layouts.ts';
import { X87_REGISTERS } from './x87-registers.ts';

export const REGISTER_GROUPS = {
  general: 'General',
  segment: 'Segments',
  control: 'Control registers',
  debug: 'Debug registers',
  msr: 'Model-specific registers',
  vector: 'Vector registers',
  float: 'x87 registers',
} as const;
export type RegisterGroup = keyof typeof REGISTER_GROUPS;

export interface MachineRegister {
  /** In small letters: 'rax', 'cs.base', 'ia32_efer'. */
  readonly name: string;
  readonly group: RegisterGroup;
  readonly bits: number;
  /** Named bits; empty for plain numbers. */
  readonly layout: readonly BitField[];
  /** A part of another register (EAX of RAX): can be named, and is not listed. */
  readonly partOf?: string;
  read(state: State): bigint;
  /** Sets the value, cut to the register's width. Undefined: the debugger cannot change it. */
  readonly write: ((cpu: Cpu, value: bigint) => void) | undefined;
}

/** Tells the translation machinery that CR0, CR3, CR4 or EFER changed. */
const translationChanged = (cpu: Cpu): void => cpu.mmu.updateContext();

/** The guest's own breakpoints are derived from DR0–DR3 and DR7. */
const breakpointsChanged = (cpu: Cpu): void => cpu.mmu.updateBreakpoints();

interface Options {
  readonly layout?: readonly BitField[];
  readonly index?: number;
  readonly bits?: number;
  /** After a write. */
  readonly after?: (cpu: Cpu) => void;
  readonly readOnly?: boolean;
}

/** A register that is one element of a state field. */
function stored(name: string, group: RegisterGroup, field: StateField, options: Options = {}): MachineRegister {
  const { layout = [], index = 0, after, readOnly = false } = options;
  const width = widthOf(field);
  const bits = options.bits ?? 8 * width;
  const write = (cpu: Cpu, value: bigint): void => {
    const cut = BigInt.asUintN(bits, value);
    if (width === 8) cpu.state.set64(field, cut, index);
    else cpu.state.set32(field, Number(cut), index);
    after?.(cpu);
  };
  return {
    name,
    group,
    bits,
    layout,
    read: (state) => (width === 8 ? state.get64(field, index) : BigInt(state.get32(field, index))),
    write: readOnly ? undefined : write,
  };
}

/** Part of a general register: bits [shift, shift + bits). 32-bit writes clear the upper half, as instructions do. */
function part(name: string, number: number, bits: 8 | 16 | 32, shift: 0 | 8, whole: string): MachineRegister {
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(shift);
  const write = (cpu: Cpu, value: bigint): void => {
    const kept = bits === 32 ? 0n : cpu.state.get64('gpr', number) & ~mask;
    cpu.state.set64('gpr', kept | ((value << BigInt(shift)) & mask), number);
  };
  return {
    name,
    group: 'general',
    bits,
    layout: [],
    partOf: whole,
    read: (state) => (state.get64('gpr', number) & mask) >> BigInt(shift),
    write,
  };
}

function generalRegisters(): MachineRegister[] {
  return Object.entries(GPR).flatMap(([name, number]) => {
    const whole = stored(name, 'general', 'gpr', { index: number });
    const stem = name.slice(1);
    if (number >= 8) {
      return [
        whole,
        part(`${name}d`, number, 32, 0, name),
        part(`${name}w`, number, 16, 0, name),
        part(`${name}b`, number, 8, 0, name),
      ];
    }
    const low = stem.endsWith('x') ? `${stem[0]}l` : `${stem}l`;
    const parts = [
      part(`e${stem}`, number, 32, 0, name),
      part(stem, number, 16, 0, name),
      part(low, number, 8, 0, name),
    ];
    if (stem.endsWith('x')) parts.push(part(`${stem[0]}h`, number, 8, 8, name));
    return [whole, ...parts];
  });
}

const RFLAGS: MachineRegister = {
  name: 'rflags',
  group: 'general',
  bits: 64,
  layout: L.RFLAGS,
  read: (state) => BigInt(readRflags(state)),
  write: (cpu, value) => {
    writeRflags(cpu.state, Number(BigInt.asUintN(32, value)));
    // AC is part of what translations depend on; IF and TF count at the next instruction boundary.
    translationChanged(cpu);
    cpu.state.set32('attention', 1);
  },
};

/** Parts of segment registers are read-only where a change would need the checks that segment loads make. */
function segmentRegisters(): MachineRegister[] {
  const segments = Object.entries(SEGMENT).flatMap(([name, index]: [string, SegmentIndex]) => [
    stored(name, 'segment', 'segmentSelector', { index, bits: 16, layout: L.SELECTOR, readOnly: true }),
    stored(`${name}.base`, 'segment', 'segmentBase', { index, readOnly: name !== 'fs' && name !== 'gs' }),
    stored(`${name}.limit`, 'segment', 'segmentLimit', { index, readOnly: true }),
    stored(`${name}.rights`, 'segment', 'segmentRights', { index, layout: L.ACCESS_RIGHTS, readOnly: true }),
  ]);
  return [
    ...segments,
    stored('gdtr.base', 'segment', 'gdtrBase'),
    stored('gdtr.limit', 'segment', 'gdtrLimit', { bits: 16 }),
    stored('idtr.base', 'segment', 'idtrBase'),
    stored('idtr.limit', 'segment', 'idtrLimit', { bits: 16 }),
    stored('cpl', 'segment', 'cpl', { bits: 2, readOnly: true }),
  ];
}

const CONTROL_REGISTERS: readonly MachineRegister[] = [
  stored('cr0', 'control', 'cr0', { layout: L.CR0, after: translationChanged }),
  stored('cr2', 'control', 'cr2'),
  stored('cr3', 'control', 'cr3', { layout: L.CR3, after: translationChanged }),
  stored('cr4', 'control', 'cr4', { layout: L.CR4, after: translationChanged }),
  stored('cr8', 'control', 'cr8', { bits: 4 }),
  stored('xcr0', 'control', 'xcr0', { readOnly: true }),
  stored('efer', 'control', 'efer', { layout: L.EFER, after: translationChanged }),
];

function debugRegisters(): MachineRegister[] {
  return [0, 1, 2, 3, 6, 7].map((index) =>
    stored(`dr${index}`, 'debug', 'dr', {
      index,
      after: breakpointsChanged,
      ...(index === 7 ? { layout: L.DR7 } : {}),
    }),
  );
}

/** MSRs with a place of their own in the state, by the manual's names. */
const MSRS: readonly MachineRegister[] = [
  stored('ia32_star', 'msr', 'msrStar'),
  stored('ia32_lstar', 'msr', 'msrLstar'),
  stored('ia32_cstar', 'msr', 'msrCstar'),
  stored('ia32_fmask', 'msr', 'msrFmask'),
  stored('ia32_kernel_gs_base', 'msr', 'msrKernelGsBase'),
  stored('ia32_tsc_aux', 'msr', 'msrTscAux'),
  stored('ia32_umwait_control', 'msr', 'msrUmwaitControl'),
  stored('ia32_sysenter_cs', 'msr', 'msrSysenterCs'),
  stored('ia32_sysenter_esp', 'msr', 'msrSysenterEsp'),
  stored('ia32_sysenter_eip', 'msr', 'msrSysenterEip'),
  stored('ia32_pat', 'msr', 'msrPat', { layout: L.PAT }),
  stored('ia32_debugctl', 'msr', 'msrDebugctl', { layout: L.DEBUGCTL }),
  stored('ia32_feature_control', 'msr', 'msrFeatureControl'),
  stored('ia32_misc_enable', 'msr', 'msrMiscEnable'),
  stored('ia32_apic_base', 'msr', 'msrApicBase', { readOnly: true }),
  stored('ia32_mtrr_def_type', 'msr', 'msrMtrrDefType'),
  stored('ia32_xss', 'msr', 'msrXss'),
  stored('ia32_spec_ctrl', 'msr', 'msrSpecCtrl'),
];

/** @param bytes 16 or 32: both views are bytes of the same array element. */
function vectorRegister(name: string, index: number, bytes: 16 | 32): MachineRegister {
  const address = OFFSET.ymm + widthOf('ymm') * index;
  return {
    name,
    group: 'vector',
    bits: 8 * bytes,
    layout: [],
    ...(bytes === 32 ? { partOf: `xmm${index}` } : {}),
    read: (state) => {
      let value = 0n;
      for (let at = bytes - 8; at >= 0; at -= 8) value = (value << 64n) | state.view.getBigUint64(address + at, true);
      return value;
    },
    write: (cpu, value) => {
      for (let at = 0; at < bytes; at += 8) {
        cpu.state.view.setBigUint64(address + at, BigInt.asUintN(64, value >> BigInt(8 * at)), true);
      }
    },
  };
}

function vectorRegisters(): MachineRegister[] {
  const numbers = Array.from({ length: countOf('ymm') }, (_, index) => index);
  return [
    ...numbers.map((index) => vectorRegister(`xmm${index}`, index, 16)),
    stored('mxcsr', 'vector', 'mxcsr'),
    ...numbers.map((index) => vectorRegister(`ymm${index}`, index, 32)),
  ];
}

const narrow = (name: string, bits: 16 | 32, whole: MachineRegister): MachineRegister => ({
  ...whole,
  name,
  bits,
  partOf: whole.name,
  read: (state) => BigInt.asUintN(bits, whole.read(state)),
});
const RIP = stored('rip', 'general', 'rip');

/** All registers, in the order in which a debugger lists them. */
export const MACHINE_REGISTERS: readonly MachineRegister[] = [
  ...generalRegisters(),
  RIP,
  narrow('eip', 32, RIP),
  narrow('ip', 16, RIP),
  RFLAGS,
  narrow('eflags', 32, RFLAGS),
  ...segmentRegisters(),
  ...CONTROL_REGISTERS,
  ...debugRegisters(),
  ...MSRS,
  ...vectorRegisters(),
  ...X87_REGISTERS,
];

const BY_NAME = new Map(MACHINE_REGISTERS.map((register) => [register.name, register]));
/** The names that people also use. */
const ALIASES: Readonly<Record<string, string>> = {
  ia32_efer: 'efer',
  ia32_fs_base: 'fs.base',
  ia32_gs_base: 'gs.base',
  pc: 'rip',
  sp: 'rsp',
};

/** By name in any case; undefined when there is no such register. */
export function registerByName(name: string): MachineRegister | undefined {
  const lower = name.toLowerCase();
  return BY_NAME.get(lower) ?? BY_NAME.get(ALIASES[lower] ?? '');
}
