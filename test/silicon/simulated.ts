import type { Clock, Cpu, SlowInstructionTable } from '../../sim-core/cpu/cpu.ts';
import { findModel } from '../../sim-core/cpu/models.ts';
import { updateCodeMode } from '../../sim-core/cpu/modes.ts';
import { readRflags, writeRflags } from '../../sim-core/cpu/rflags.ts';
import { setSegment } from '../../sim-core/cpu/segments.ts';
import { EXIT } from '../../sim-core/engine/record.ts';
import { Processor, type ProcessorOptions } from '../../sim-core/machine/processor.ts';
import type { Fault } from '../../sim-core/mmu/fault.ts';
import { Mmu } from '../../sim-core/mmu/mmu.ts';
import { PhysicalMemory } from '../../sim-core/mmu/physical-memory.ts';
import { Tlb } from '../../sim-core/mmu/tlb.ts';
import { CR0, CR4, EFER, RFLAGS, RIGHTS } from '../../sim-core/state/control-bits.ts';
import { GPR, OFFSET, SEGMENT } from '../../sim-core/state/layout.ts';
import { State } from '../../sim-core/state/state.ts';
import {
  ADDRESS,
  type Case,
  type MachineState,
  MODES,
  NO_EXCEPTION,
  type Outcome,
  type TestMode,
  YMM_BYTES,
} from './layout.ts';

import { setX87, x87Of } from './x87.ts';

const RAM_SIZE = 4 << 20;
/** Fills the code pages: decoding ahead stops at it, and no case executes it. */
const HLT = 0xf4;
/** A case has several instructions, or one with REP; more steps than this are a loop that does not end. */
const MOST_STEPS = 1000;

const X87_SSE_AVX = 7n;

const FLAT_LIMIT = 0xffff_ffff;
const USABLE = RIGHTS.present | RIGHTS.codeOrData | RIGHTS.writable | RIGHTS.accessed | RIGHTS.dpl;
/** By width of the code: D or L of the code segment, limits of code and data. */
const SEGMENTS = {
  64: [RIGHTS.long, FLAT_LIMIT, FLAT_LIMIT],
  32: [RIGHTS.big, FLAT_LIMIT, FLAT_LIMIT],
  16: [0, ADDRESS.CODE_SIZE - 1, ADDRESS.DATA16_LIMIT],
} as const;

/** The simulator under test, without paging, so that linear addresses are physical ones. */
export class Simulated {
  private readonly state = new State(RAM_SIZE);
  private readonly physical = new PhysicalMemory(this.state);
  private readonly processor: Processor;
  private readonly mmu: Mmu;

  constructor(slowInstructions: SlowInstructionTable, options: ProcessorOptions = {}) {
    const { state } = this;
    this.mmu = new Mmu(state, this.physical, new Tlb(state));
    const clock: Clock = { cycles: () => 0 };
    // No instruction under test asks for ports, interrupts or VMX.
    const cpu = { state, mmu: this.mmu, clock, model: findModel('max') } as unknown as Cpu;
    state.set64('cr0', BigInt(CR0.pe | CR0.et | CR0.mp | CR0.ne));
    state.set64('cr4', BigInt(CR4.osfxsr | CR4.osxmmexcpt | CR4.osxsave | CR4.fsgsbase));
    state.set64('xcr0', X87_SSE_AVX);
    state.set64('segmentBase', BigInt(ADDRESS.GS_BASE), SEGMENT.gs);
    state.set32('cpl', 3);
    const hooks = { mayBreakAt: () => false, stopsHere: () => false };
    this.processor = new Processor(cpu, slowInstructions, hooks, options);
    this.mmu.updateContext();
    this.physical.poke(ADDRESS.CODE, new Uint8Array(ADDRESS.CODE_SIZE).fill(HLT));
  }

  run(test: Case): Outcome | { readonly unimplemented: string } {
    const { state, physical } = this;
    const rip = Number(test.before.rip);
    this.setMode(test.mode);
    this.load(test.before);
    const linear = MODES[test.mode].codeBase + rip;
    physical.poke(linear, test.code);
    const end = rip + test.code.length;
    let at = rip;
    for (let steps = 0; at >= rip && at < end && steps < MOST_STEPS; steps++) {
      this.processor.run(1);
      if (state.get32('exitCode') === EXIT.fault) break;
      at = Number(state.get64('rip'));
    }
    const fault = state.get32('exitCode') === EXIT.fault ? this.processor.fault : undefined;
    physical.poke(linear, new Uint8Array(test.code.length).fill(HLT));
    if (fault?.kind === 'unimplemented') return { unimplemented: fault.what };
    return { after: this.snapshot(), vector: fault ? vectorOf(fault) : NO_EXCEPTION };
  }

  /**
   * Runs the case's code over and over as the body of a loop at `rip`, for a number of instructions or until it faults.
   * 64-bit code only; R15 counts.
   */
  runLoop(test: Case, rip: number, instructions: number): MachineState {
    const { state } = this;
    this.setMode(test.mode);
    this.load(test.before);
    this.physical.poke(rip, loopAround(test.code));
    state.set64('rip', BigInt(rip));
    state.set64('gpr', 2n ** 63n, GPR.r15);
    state.set32('exitCode', EXIT.budget);
    this.processor.run(instructions);
    return this.snapshot();
  }

  /** Regions compiled so far. */
  get regions(): number {
    return this.processor.regions;
  }

  private setMode(mode: TestMode): void {
    const { state } = this;
    const { bitness, code, data, codeBase, dataBase } = MODES[mode];
    const [width, codeLimit, dataLimit] = SEGMENTS[bitness];
    state.set64('efer', BigInt(bitness === 64 ? EFER.lme | EFER.lma : 0));
    setSegment(state, SEGMENT.cs, code, BigInt(codeBase), codeLimit, USABLE | RIGHTS.code | width);
    for (const index of [SEGMENT.es, SEGMENT.ss, SEGMENT.ds]) {
      setSegment(state, index, data, BigInt(dataBase), dataLimit, USABLE | (bitness === 16 ? 0 : RIGHTS.big));
    }
    updateCodeMode(state);
    this.mmu.updateContext();
  }

  private load(before: MachineState): void {
    const { state } = this;
    before.gpr.forEach((value, register) => {
      state.set64('gpr', value, register);
    });
    // User mode runs with interrupts enabled.
    writeRflags(state, Number(before.rflags) | RFLAGS.if);
    state.set64('rip', before.rip);
    state.set32('mxcsr', before.mxcsr);
    // The last case may have asked for a look at events, of which there are none here.
    state.set32('attention', 0);
    state.bytes.set(before.ymm, OFFSET.ymm);
    setX87(state, before.x87);
    this.physical.poke(ADDRESS.WINDOW, before.memory);
  }

  private snapshot(): MachineState {
    const { state } = this;
    return {
      gpr: state.elements('gpr'),
      rflags: BigInt(readRflags(state)),
      rip: state.get64('rip'),
      mxcsr: state.get32('mxcsr'),
      ymm: state.bytes.slice(OFFSET.ymm, OFFSET.ymm + YMM_BYTES),
      x87: x87Of(state),
      memory: this.physical.peek(ADDRESS.WINDOW, ADDRESS.WINDOW_SIZE),
    };
  }
}

/** @throws when an instruction did something that user-mode instructions cannot do. */
function vectorOf(fault: Fault): number {
  if (fault.kind === 'exception') return fault.vector;
  throw new Error(`unexpected fault ${fault.kind}`);
}

/** `body`, DEC R15, JNZ to the start, HLT. */
function loopAround(body: Uint8Array): Uint8Array {
  const tail = Uint8Array.of(0x49, 0xff, 0xcf, 0x0f, 0x85, 0, 0, 0, 0, HLT);
  const code = new Uint8Array(body.length + tail.length);
  code.set(body);
  code.set(tail, body.length);
  const end = code.length - 1;
  new DataView(code.buffer).setInt32(end - 4, -end, true);
  return code;
}
