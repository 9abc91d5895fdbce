/**
 * Random bytes executed in every mode. Whatever they do is the guest's business; what is looked for is a JavaScript
 * exception, a run that does not come back, and processor state that no processor can have. A case depends on its seed
 * alone.
 */

import { writeRflags } from '../../sim-core/cpu/rflags.ts';
import { setSegment } from '../../sim-core/cpu/segments.ts';
import { ENTRY_GDT, enterLongMode, enterProtectedMode } from '../../sim-core/loaders/entry-state.ts';
import type { Machine } from '../../sim-core/machine/api.ts';
import { createMachine } from '../../sim-core/machine/machine.ts';
import type { StopReason } from '../../sim-core/machine/stop-reason.ts';
import { CR0, CR4, EFER, RFLAGS, RIGHTS } from '../../sim-core/state/control-bits.ts';
import { GPR, OFFSET, SEGMENT, type SegmentIndex } from '../../sim-core/state/layout.ts';
import { NO_VMCS } from '../../sim-core/vmx/vmcs.ts';
import { AT, CODE_SIZE, DATA_SIZE } from './places.ts';
import { Random } from './random.ts';
import { enterVmx } from './vmx.ts';

const MEMORY = 4 * 2 ** 20;
/** Instructions of one case at most. */
const STEPS = 250;
/** Cases after which a machine with fresh devices is made. */
const CASES_PER_MACHINE = 500;

const { present, codeOrData, writable, accessed, code, long, big, granularity } = RIGHTS;
const DATA = present | codeOrData | writable | accessed;
const SIX = [SEGMENT.es, SEGMENT.cs, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs] as const;

function setAll(machine: Machine, indices: readonly SegmentIndex[], base: bigint, limit: number, rights: number): void {
  for (const index of indices) setSegment(machine.state, index, 0x10, base, limit, rights);
}

function setRing3(machine: Machine): void {
  for (const index of SIX) {
    const rights = machine.state.get32('segmentRights', index) | RIGHTS.dpl;
    const base = machine.state.get64('segmentBase', index);
    const limit = machine.state.get32('segmentLimit', index);
    setSegment(machine.state, index, 0x1b, base, limit, rights);
  }
  machine.state.set32('cpl', 3);
}

const start = { entry: AT.code, registers: { rsp: AT.data + 0x800 } };

function protectedMode(machine: Machine): void {
  enterProtectedMode(machine.cpu, start);
}

function longMode(machine: Machine): void {
  enterLongMode(machine.cpu, start, AT.tables, { address: AT.gdt, entries: ENTRY_GDT.length });
  machine.state.set64('cr4', machine.state.get64('cr4') | BigInt(CR4.osxsave));
}

function realMode(machine: Machine): void {
  protectedMode(machine);
  machine.state.set64('cr0', 0x10n);
  setAll(machine, SIX, BigInt(AT.code), 0xffff, DATA);
  machine.state.set64('rip', 0n);
}

/** Ways into each mode, from any state. */
const MODES: Readonly<Record<string, (machine: Machine) => void>> = {
  'real-address': realMode,
  'virtual-8086': (machine) => {
    realMode(machine);
    machine.state.set64('cr0', 0x11n);
    setAll(machine, SIX, BigInt(AT.code), 0xffff, DATA | RIGHTS.dpl);
    machine.state.set32('cpl', 3);
  },
  'protected 16-bit': (machine) => {
    protectedMode(machine);
    setAll(machine, SIX, BigInt(AT.code), 0xffff, DATA);
    setAll(machine, [SEGMENT.cs], BigInt(AT.code), 0xffff, DATA | code);
    machine.state.set64('rip', 0n);
  },
  'protected 32-bit': protectedMode,
  'protected 32-bit, ring 3': (machine) => {
    protectedMode(machine);
    setRing3(machine);
  },
  compatibility: (machine) => {
    longMode(machine);
    setAll(machine, [SEGMENT.cs], 0n, 0xffff_ffff, DATA | code | big | granularity);
  },
  '64-bit': longMode,
  '64-bit, ring 3': (machine) => {
    longMode(machine);
    setAll(machine, [SEGMENT.cs], 0n, 0xffff_ffff, DATA | code | long | granularity);
    setRing3(machine);
  },
  'VMX root operation': longMode,
  'VMX non-root operation': longMode,
};

const LONG_MODES: ReadonlySet<string> = new Set([
  'compatibility', '64-bit', '64-bit, ring 3', 'VMX root operation', 'VMX non-root operation',
]); // biome-ignore format: one line says it

/** Modes in which the case begins with VMX turned on by instructions; their machines serve one case. */
const VMX_MODES: ReadonlyMap<string, (machine: Machine, random: Random) => void> = new Map([
  ['VMX root operation', (machine, random) => enterVmx(machine, random, false)],
  ['VMX non-root operation', (machine, random) => enterVmx(machine, random, true)],
]);

const INTERESTING = [0n, 1n, 0x7fn, 0x80n, 0xffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 63n, 2n ** 64n - 1n];

function randomRegister(random: Random): bigint {
  switch (random.below(4)) {
    case 0:
      return random.pick(INTERESTING);
    case 1:
      return (BigInt(random.next()) << 32n) | BigInt(random.next());
    case 2:
      return BigInt(random.below(0x100));
    default:
      return BigInt(AT.data + random.below(DATA_SIZE));
  }
}

/** Bytes with more prefixes and two-byte opcodes than chance would give. */
function fillCode(machine: Machine, random: Random): void {
  const bytes = randomBytes(random, CODE_SIZE);
  for (let at = 0; at < CODE_SIZE; at += 1 + random.below(16)) bytes[at] = random.pick(LIKELY_BYTES);
  machine.physical.poke(AT.code, bytes);
}

const LIKELY_BYTES = [0x0f, 0x66, 0xf2, 0xf3, 0x48, 0xc5, 0xc4, 0xdb];

/** @param length a multiple of 4 */
function randomBytes(random: Random, length: number): Uint8Array {
  const words = new Uint32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = random.next();
  return new Uint8Array(words.buffer);
}

/** Tables with something in them: gates into the code, descriptors of random types, a TSS, identity paging. */
function fillTables(machine: Machine, random: Random, gateSize: number): void {
  machine.physical.poke(AT.data, randomBytes(random, DATA_SIZE));
  machine.physical.poke(AT.tss, randomBytes(random, 0x100));
  const { physical } = machine;
  for (let vector = 0; vector < 256; vector++) {
    const target = AT.code + random.below(CODE_SIZE);
    const selector = gateSize === 16 ? 0x18 : 0x08;
    const gate = AT.idt + gateSize * vector;
    physical.write(gate, 4, (selector << 16) | (target & 0xffff));
    physical.write(gate + 4, 4, ((target & 0xffff_0000) | 0x8e00 | (random.below(4) << 13)) >>> 0);
    if (gateSize === 16) physical.write64(gate + 8, 0n);
  }
  for (let i = 1; i < 64; i++) {
    physical.write(AT.gdt + 8 * i, 4, 0xffff);
    physical.write(AT.gdt + 8 * i + 4, 4, (0x00c0_0000 | (random.below(256) << 8) | 0xf_0000) >>> 0);
  }
  physical.write(AT.gdt + 8 + 4, 4, 0x00cf_9b00);
  physical.write(AT.gdt + 16 + 4, 4, 0x00cf_9300);
  physical.write(AT.gdt + 24 + 4, 4, 0x00af_9b00);
  physical.write64(AT.tables, BigInt(AT.tables + 0x1000) | 7n);
  physical.write64(AT.tables + 0x1000, BigInt(AT.tables + 0x2000) | 7n);
  for (let i = 0; i < 512; i++) physical.write64(AT.tables + 0x2000 + 8 * i, BigInt(i * 0x20_0000) | 0x87n);
}

function prepare(machine: Machine, mode: string, random: Random): void {
  const { state, mmu } = machine;
  state.set32('nonRoot', 0);
  state.set32('vmxOn', 0);
  state.set32('activity', 0);
  state.set32('interruptibility', 0);
  state.set32('nmiRequest', 0);
  state.set64('pendingDebug', 0n);
  state.set64('vmcsPointer', NO_VMCS);
  state.set64('eptp', 0n);
  state.set32('vpid', 0);
  state.set64('tscOffset', 0n);
  state.setFloat('preemptionDeadline', Number.POSITIVE_INFINITY);
  state.set64('dr', 0x400n, 7);
  state.set64('xcr0', 3n);
  fillTables(machine, random, LONG_MODES.has(mode) ? 16 : 8);
  fillCode(machine, random);
  (MODES[mode] as (machine: Machine) => void)(machine);
  if (random.below(4) !== 0) state.set64('cr0', state.get64('cr0') | BigInt(CR0.ne));
  for (let i = 0; i < 16; i++) if (i !== GPR.rsp) state.set64('gpr', randomRegister(random), i);
  for (let i = 0; i < 16 * 32; i += 4) state.view.setUint32(OFFSET.ymm + i, random.next(), true);
  const narrow = state.get32('codeMode') !== 4;
  if (narrow) for (let i = 0; i < 16; i++) state.set64('gpr', state.get64('gpr', i) & 0xffff_ffffn, i);
  setSegment(state, SEGMENT.tr, 0x28, BigInt(AT.tss), 0xff, 0x8b);
  setSegment(state, SEGMENT.ldtr, 0x30, BigInt(AT.gdt), 0x1ff, 0x82);
  state.set64('gdtrBase', BigInt(AT.gdt));
  state.set32('gdtrLimit', 0x1ff);
  state.set64('idtrBase', BigInt(AT.idt));
  state.set32('idtrLimit', 0xfff);
  const flags = random.next() & (0x8d5 | RFLAGS.df | RFLAGS.ac | (random.below(16) === 0 ? RFLAGS.tf : 0));
  writeRflags(state, flags | (mode === 'virtual-8086' ? RFLAGS.vm | (random.below(2) * RFLAGS.iopl) : 0));
  mmu.tlb.invalidateAll();
  mmu.forgetFastTranslations();
}

const RFLAGS_DEFINED = 0x3f_7fd7;

/** What is wrong with the processor's state; undefined when a processor can be in it. */
function problemOf({ state, cpu }: Machine): string | undefined {
  const flags = state.get32('rflagsSystem');
  if ((flags & ~RFLAGS_DEFINED) !== 0 || (flags & 2) === 0) return `RFLAGS ${flags.toString(16)}`;
  if (state.get32('codeMode') !== 4 && state.high('rip') !== 0) return `RIP ${state.get64('rip').toString(16)}`;
  if (state.get32('cpl') > 3) return `CPL ${state.get32('cpl')}`;
  if (state.get32('activity') > 3) return `activity state ${state.get32('activity')}`;
  if (state.get32('nonRoot') > state.get32('vmxOn')) return 'VMX non-root operation without VMXON';
  const cr0 = state.low('cr0');
  if (state.high('cr0') !== 0 || (cr0 >>> 31 === 1 && (cr0 & 1) === 0)) return `CR0 ${cr0.toString(16)}`;
  const cr4 = state.get64('cr4');
  if ((cr4 & ~BigInt(cpu.model.cr4Bits)) !== 0n) return `CR4 ${cr4.toString(16)}`;
  const efer = state.low('efer');
  const isLong = (efer & EFER.lma) !== 0;
  if (isLong !== ((efer & EFER.lme) !== 0 && (cr0 & CR0.pg) !== 0)) return `EFER ${efer.toString(16)}`;
  if (state.get32('mxcsr') > 0xffff) return `MXCSR ${state.get32('mxcsr').toString(16)}`;
  if ((state.low('xcr0') & 1) === 0) return `XCR0 ${state.low('xcr0').toString(16)}`;
  if (state.high('dr', 6) !== 0 || state.high('dr', 7) !== 0) return 'DR6 or DR7 of more than 32 bits';
  if (SIX.some((index) => state.get32('segmentSelector', index) > 0xffff)) return 'a selector of more than 16 bits';
  return undefined;
}

export interface FuzzResult {
  readonly cases: number;
  readonly instructions: number;
  /** How cases ended: kind → number; for what is not simulated its name. */
  readonly endings: ReadonlyMap<string, number>;
  /** A line each: mode, seed, what happened. */
  readonly problems: readonly string[];
}

const nameOf = (stop: StopReason): string =>
  stop.kind === 'unimplemented' ? `not simulated: ${stop.what}` : stop.kind;

/** Runs one case. @returns how it ended, and what was wrong */
function runCase(machine: Machine, mode: string, seed: number): { ending: string; problem?: string } {
  try {
    const random = new Random(seed);
    prepare(machine, mode, random);
    VMX_MODES.get(mode)?.(machine, random);
    const stop = machine.run(STEPS);
    const problem = problemOf(machine);
    return { ending: nameOf(stop), ...(problem === undefined ? {} : { problem }) };
  } catch (error) {
    const text =
      error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 4).join(' | ') : `${error}`;
    return { ending: 'exception', problem: text };
  }
}

const newMachine = (): Machine => createMachine({ memory: MEMORY, cpuModel: 'max' });

/** Runs cases with consecutive seeds until the machines have executed `instructions`. */
export function fuzz(instructions: number, seed: number, report?: (line: string) => void): FuzzResult {
  const names = Object.keys(MODES);
  const endings = new Map<string, number>();
  const problems: string[] = [];
  let machine = newMachine();
  let casesOfMachine = 0;
  let executed = 0;
  let cases = 0;
  for (; executed < instructions; cases++) {
    const mode = names[cases % names.length] as string;
    const before = machine.instructions;
    const { ending, problem } = runCase(machine, mode, seed + cases);
    // Cases that end with their first instruction count, too: the loop must come to its end.
    executed += Math.max(1, machine.instructions - before);
    endings.set(ending, (endings.get(ending) ?? 0) + 1);
    if (VMX_MODES.has(mode) || ++casesOfMachine === CASES_PER_MACHINE) {
      machine = newMachine();
      casesOfMachine = 0;
    }
    if (problem !== undefined) {
      problems.push(`${mode}, seed ${seed + cases}: ${problem}`);
      report?.(problems.at(-1) as string);
      machine = newMachine();
    }
  }
  return { cases, instructions: executed, endings, problems };
}
