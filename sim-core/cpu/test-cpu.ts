/**
 * A processor for tests: real state, MMU and instructions; ports, interrupt controller and VMX are recorded stand-ins.
 */

import { InstructionDecoder } from '../isa/decoder.ts';
import { type Fault, undefinedOpcode } from '../mmu/fault.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CR0, CR4, EFER } from '../state/control-bits.ts';
import { type CodeMode, GPR, SEGMENT, type SegmentIndex } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { type Cpu, NEXT } from './cpu.ts';
import { meaningOn } from './instruction-features.ts';
import { CPU_INSTRUCTIONS } from './instructions.ts';
import type { InterceptQuery, Intercepts } from './intercepts.ts';
import { findModel } from './models.ts';
import { in64BitMode, updateCodeMode } from './modes.ts';
import { resetCpu } from './reset.ts';
import { setSegment } from './segments.ts';

export interface TestCpu extends Cpu {
  /** Every stand-in's calls, in order. */
  readonly log: string[];
  /** What the interrupt controller delivers next. */
  vector: number;
  cycles: number;
  taskPriority: number;
  /** What reads of ports answer. */
  portValue: number;
  /** Instructions and events that cause VM exits. */
  exits: (query: InterceptQuery | { readonly kind: 'event'; readonly vector: number }) => boolean;
}

export function newCpu(modelName = 'westmere', ramSize = 4 * 2 ** 20): TestCpu {
  const state = new State(ramSize);
  const mmu = new Mmu(state, new PhysicalMemory(state), new Tlb(state));
  const log: string[] = [];
  const intercepts: Intercepts = {
    instruction: (query) =>
      cpu.exits(query) ? { kind: 'vmExit', reason: 0, qualification: 0n, cause: query.kind } : undefined,
    event: (event) => cpu.exits({ kind: 'event', vector: event.vector }),
    exitForEvent: (event, vectoring) => {
      log.push(`exit for ${event === 'tripleFault' ? event : event.vector} during ${vectoring?.vector ?? 'nothing'}`);
    },
    exitForFault: (fault, vectoring) => {
      log.push(`exit for ${fault.kind} during ${vectoring?.vector ?? 'nothing'}`);
    },
    iretUnblocksNmi: () => true,
    exceptionFor: () => undefined,
    trap: () => false,
    taskPriority: () => undefined,
    setTaskPriority: () => false,
    readMsr: () => undefined,
    writeMsr: () => undefined,
    boundary: () => false,
    guestView: (_cr, real) => real,
    mergeGuestWrite: (_cr, value) => value,
    fixedBits: (cr) => (cr === 0 ? 0x8000_0021n : 0x2000n),
  };
  const cpu: TestCpu = {
    state,
    mmu,
    model: findModel(modelName),
    log,
    vector: 0,
    cycles: 0,
    taskPriority: 0,
    portValue: 0,
    exits: () => false,
    ports: {
      read: (port, size) => {
        log.push(`in ${port.toString(16)} ${size}`);
        return cpu.portValue;
      },
      write: (port, size, value) => {
        log.push(`out ${port.toString(16)} ${size} ${value.toString(16)}`);
      },
    },
    interrupts: {
      acknowledge: () => cpu.vector,
      readMsr: (index) => (index === 0x1b ? 0xfee0_0900n : undefined),
      writeMsr: (index, value) => {
        log.push(`apic msr ${index.toString(16)} ${value.toString(16)}`);
        return index === 0x80b;
      },
      getTaskPriority: () => cpu.taskPriority,
      endOfInterrupt: () => {},
      initialize: () => {},
      performanceMonitoringInterrupt: () => {
        log.push('performance-monitoring interrupt');
      },
      setTaskPriority: (priority) => {
        cpu.taskPriority = priority;
      },
    },
    clock: { cycles: () => cpu.cycles },
    intercepts,
    vmxMsrs: { read: (index) => (index === 0x480 ? 0x1234n : undefined) },
  };
  resetCpu(cpu);
  return cpu;
}

const DATA_SEGMENTS: readonly SegmentIndex[] = [SEGMENT.es, SEGMENT.ss, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs];

/** Addresses that the set-ups below use. */
export const AT = { gdt: 0x1000, idt: 0x2000, tss: 0x3000, tables: 0x4000, code: 0x1_0000, stack: 0x2_0000 } as const;

/** Selectors of the descriptors that `setUpTables` writes. */
export const SELECTOR = {
  code0: 0x08, data0: 0x10, code3: 0x18, data3: 0x20, tss: 0x28, conforming: 0x38, code32: 0x40, gate: 0x48,
} as const; // biome-ignore format: a table reads better in rows

/** GDT with flat code and data segments for CPL 0 and 3 and a TSS, as SDM Vol. 3A, "Segment Descriptors" draws them. */
function setUpTables(cpu: TestCpu, long: boolean): void {
  const { physical } = cpu.mmu;
  const descriptors: [number, bigint][] = [
    [SELECTOR.code0, long ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn],
    [SELECTOR.data0, 0x00cf_9300_0000_ffffn],
    [SELECTOR.code3, long ? 0x00af_fb00_0000_ffffn : 0x00cf_fb00_0000_ffffn],
    [SELECTOR.data3, 0x00cf_f300_0000_ffffn],
    [SELECTOR.tss, 0x0000_8b00_0000_0067n | (BigInt(AT.tss) << 16n)],
    [SELECTOR.tss + 8, 0n],
    [SELECTOR.conforming, long ? 0x00af_9f00_0000_ffffn : 0x00cf_9f00_0000_ffffn],
    [SELECTOR.code32, 0x00cf_9b00_0000_ffffn],
  ];
  for (const [selector, value] of descriptors) physical.write64(AT.gdt + selector, value);
  cpu.state.set64('gdtrBase', BigInt(AT.gdt));
  cpu.state.set32('gdtrLimit', 0xff);
  cpu.state.set64('idtrBase', BigInt(AT.idt));
  cpu.state.set32('idtrLimit', long ? 0xfff : 0x7ff);
  setSegment(cpu.state, SEGMENT.tr, SELECTOR.tss, BigInt(AT.tss), 0x67, 0x8b);
}

function setUpSegments(cpu: TestCpu, cpl: 0 | 3, long: boolean): void {
  const { state } = cpu;
  const dpl = cpl << 5;
  const code = (cpl === 0 ? SELECTOR.code0 : SELECTOR.code3) | cpl;
  const data = (cpl === 0 ? SELECTOR.data0 : SELECTOR.data3) | cpl;
  setSegment(state, SEGMENT.cs, code, 0n, 0xffff_ffff, (long ? 0xa09b : 0xc09b) | dpl);
  for (const index of DATA_SEGMENTS) setSegment(state, index, data, 0n, 0xffff_ffff, 0xc093 | dpl);
  state.set32('cpl', cpl);
  state.set64('rip', BigInt(AT.code));
  state.set64('gpr', BigInt(AT.stack), GPR.rsp);
  state.set64('gpr', 0n, GPR.rdx);
}

/** 64-bit mode: the first 4 MiB mapped to themselves by pages that user code may use, CPL 0 or 3. */
export function enter64(cpu: TestCpu, cpl: 0 | 3 = 0): TestCpu {
  const { state, mmu } = cpu;
  const { physical } = mmu;
  physical.write64(AT.tables, BigInt(AT.tables + 0x1000) | 7n);
  physical.write64(AT.tables + 0x1000, BigInt(AT.tables + 0x2000) | 7n);
  physical.write64(AT.tables + 0x2000, 0x00_0087n);
  physical.write64(AT.tables + 0x2008, 0x20_0087n);
  setUpTables(cpu, true);
  state.set64('cr0', BigInt(CR0.pe | CR0.et | CR0.ne) | BigInt(CR0.pg));
  state.set64('cr3', BigInt(AT.tables));
  state.set64('cr4', BigInt(CR4.pae | CR4.osfxsr));
  state.set64('efer', BigInt(EFER.lme | EFER.lma | EFER.sce));
  setUpSegments(cpu, cpl, true);
  updateCodeMode(state);
  mmu.updateContext();
  return cpu;
}

/** 32-bit protected mode without paging. */
export function enter32(cpu: TestCpu, cpl: 0 | 3 = 0): TestCpu {
  const { state, mmu } = cpu;
  setUpTables(cpu, false);
  state.set64('cr0', BigInt(CR0.pe | CR0.et));
  setUpSegments(cpu, cpl, false);
  updateCodeMode(state);
  mmu.updateContext();
  return cpu;
}

/** Writes a 64-bit interrupt (0xE) or trap (0xF) gate. */
export function setGate64(
  cpu: TestCpu,
  vector: number,
  type: number,
  offset: bigint,
  more: { dpl?: number; ist?: number; selector?: number } = {},
): void {
  const selector = BigInt(more.selector ?? SELECTOR.code0);
  const rights = BigInt(0x80 | ((more.dpl ?? 0) << 5) | type);
  const low = (offset & 0xffffn) | (selector << 16n) | (BigInt(more.ist ?? 0) << 32n) | (rights << 40n);
  cpu.mmu.physical.write64(AT.idt + 16 * vector, low | (((offset >> 16n) & 0xffffn) << 48n));
  cpu.mmu.physical.write64(AT.idt + 16 * vector + 8, offset >> 32n);
}

/** Writes a gate of 16 or 32 bits. */
export function setGate32(cpu: TestCpu, vector: number, type: number, offset: number, dpl = 0): void {
  const low = BigInt((offset & 0xffff) | (SELECTOR.code0 << 16));
  const high = BigInt(((offset & 0xffff_0000) | ((0x80 | (dpl << 5) | type) << 8)) >>> 0);
  cpu.mmu.physical.write64(AT.idt + 8 * vector, low | (high << 32n));
}

/** Executes one instruction given by its bytes in hexadecimal. @returns its fault, or undefined */
export function run(cpu: TestCpu, bytes: string): Fault | undefined {
  const { state } = cpu;
  const code = Uint8Array.from(bytes.split(' '), (byte) => Number.parseInt(byte, 16));
  const decoder = new InstructionDecoder(state.get32('codeMode') as CodeMode, code, 0);
  decoder.next();
  const instruction = decoder.decoded();
  decoder.free();
  const mnemonic = meaningOn(cpu.model, instruction.code, instruction.mnemonic);
  if (mnemonic === undefined) return undefinedOpcode();
  const execute = CPU_INSTRUCTIONS.get(mnemonic);
  if (execute === undefined) throw new Error(`no slow instruction for ${bytes}`);
  const outcome = execute(cpu, instruction);
  if (typeof outcome === 'object') return outcome;
  if (outcome === NEXT.sequential) {
    const next = state.get64('rip') + BigInt(instruction.length);
    state.set64('rip', BigInt.asUintN(in64BitMode(state) ? 64 : 32, next));
  }
  return undefined;
}

/** 64-bit words of memory from `address` on. */
export const words = (cpu: TestCpu, address: number, count: number): bigint[] =>
  Array.from({ length: count }, (_, i) => cpu.mmu.physical.read64(address + 8 * i));
/** 32-bit words. */
export const dwords = (cpu: TestCpu, address: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => cpu.mmu.physical.read(address + 4 * i, 4));
