import assert from 'node:assert/strict';
import { assemble } from '../../test/support/nasm.ts';
import type { Cpu } from '../cpu/cpu.ts';
import { CPU_INSTRUCTIONS } from '../cpu/instructions.ts';
import { findModel } from '../cpu/models.ts';
import { EXIT } from '../engine/record.ts';
import { Processor } from '../machine/processor.ts';
import { type Fault, VECTOR } from '../mmu/fault.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CR0, CR4 } from '../state/control-bits.ts';
import { CODE_MODE, GPR, OFFSET } from '../state/layout.ts';
import { State } from '../state/state.ts';

/** When SSE may execute; its results are compared with silicon's in test/silicon. */

const ORIGIN = 0x10_0000;
const DATA = 0x20_0000;
const MXCSR_DEFAULT = 0x1f80;

interface Setting {
  readonly cr0?: number;
  readonly cr4?: number;
  readonly mxcsr?: number;
  /** The low doubleword of XMM1. */
  readonly xmm1?: number;
  readonly x87Status?: number;
  /** RAX: the address of memory operands. */
  readonly rax?: number;
}

/** Runs one instruction in 64-bit mode without paging. @returns the fault that it raised, and the state after it. */
function execute(source: string, setting: Setting = {}): { fault: Fault | undefined; state: State } {
  const state = new State(4 << 20);
  const physical = new PhysicalMemory(state);
  const mmu = new Mmu(state, physical, new Tlb(state));
  // The instructions here use nothing else of the machine.
  const cpu = { state, mmu, model: findModel('max') } as unknown as Cpu;
  state.set32('codeMode', CODE_MODE.code64);
  state.set32('rflagsSystem', 2);
  state.set64('cr0', BigInt(setting.cr0 ?? CR0.pe));
  state.set64('cr4', BigInt(setting.cr4 ?? CR4.osfxsr));
  state.set32('mxcsr', setting.mxcsr ?? MXCSR_DEFAULT);
  state.set32('x87Status', setting.x87Status ?? 0);
  state.set64('gpr', BigInt(setting.rax ?? DATA), GPR.rax);
  state.set64('rip', BigInt(ORIGIN));
  state.bytes.fill(0x11, OFFSET.ymm, OFFSET.ymm + 16);
  state.view.setUint32(OFFSET.ymm + 32, setting.xmm1 ?? 0, true);
  const processor = new Processor(cpu, CPU_INSTRUCTIONS, { mayBreakAt: () => false, stopsHere: () => false });
  physical.poke(ORIGIN, assemble(`bits 64\n${source}\nhlt`));
  mmu.updateContext();
  processor.run(1);
  return { fault: state.get32('exitCode') === EXIT.fault ? processor.fault : undefined, state };
}

const SAMPLES = ['movaps xmm0, xmm1', 'movq rcx, xmm0', 'addsd xmm0, xmm1', 'pxor xmm0, xmm0', 'maskmovdqu xmm0, xmm1'];

describe('SSE', () => {
  it('executes when CR0 and CR4 allow it', () => {
    for (const sample of SAMPLES) assert.equal(execute(sample).fault, undefined, sample);
  });

  it('raises #UD with CR0.EM or without CR4.OSFXSR, even where CR0.TS is set', () => {
    for (const sample of SAMPLES) {
      for (const setting of [
        { cr0: CR0.pe | CR0.em },
        { cr4: 0 },
        { cr0: CR0.pe | CR0.em | CR0.ts },
        { cr0: CR0.ts, cr4: 0 },
      ]) {
        assert.deepEqual(execute(sample, setting).fault, { kind: 'exception', vector: VECTOR.ud }, sample);
      }
    }
  });

  it('raises #NM with CR0.TS', () => {
    for (const sample of SAMPLES) {
      const { fault } = execute(sample, { cr0: CR0.pe | CR0.ts });
      assert.deepEqual(fault, { kind: 'exception', vector: VECTOR.nm }, sample);
    }
  });

  it('does not concern fences and MOVNTI', () => {
    for (const source of ['mfence', 'lfence', 'sfence', 'movnti [rax], rcx', 'prefetcht0 [rax]']) {
      assert.equal(execute(source, { cr0: CR0.pe | CR0.em | CR0.ts, cr4: 0 }).fault, undefined, source);
    }
  });

  it('raises #GP(0) for 16 bytes in memory that are not aligned, but for the unaligned moves', () => {
    const gp = { kind: 'exception', vector: VECTOR.gp, errorCode: 0 };
    for (const source of ['movaps xmm0, [rax]', 'movdqa [rax], xmm0', 'paddb xmm0, [rax]', 'movntdq [rax], xmm0']) {
      assert.deepEqual(execute(source, { rax: DATA + 8 }).fault, gp, source);
      assert.equal(execute(source).fault, undefined, source);
    }
    for (const source of ['movups xmm0, [rax]', 'movdqu [rax], xmm0', 'addsd xmm0, [rax]', 'cvtdq2pd xmm0, [rax]']) {
      assert.equal(execute(source, { rax: DATA + 1 }).fault, undefined, source);
    }
  });

  it('changes nothing when it faults', () => {
    const { state } = execute('addps xmm0, [rax]', { rax: DATA + 1 });
    assert.deepEqual([...state.bytes.subarray(OFFSET.ymm, OFFSET.ymm + 16)], Array(16).fill(0x11));
    assert.equal(state.get64('rip'), BigInt(ORIGIN));
  });

  it('raises #XM for an unmasked exception, #UD without CR4.OSXMMEXCPT, and sets the flag', () => {
    const mxcsr = 0x1e80;
    const setting = { mxcsr, cr4: CR4.osfxsr | CR4.osxmmexcpt };
    // 1/0: the divide-by-zero exception, whose mask is bit 9 and whose flag is bit 2.
    const source = 'divss xmm1, [rax]';
    const one = { ...setting, xmm1: 0x3f80_0000 };
    const unmasked = execute(source, { ...one, mxcsr: 0x1d80 });
    assert.deepEqual(unmasked.fault, { kind: 'exception', vector: VECTOR.xm });
    assert.equal(unmasked.state.get32('mxcsr'), 0x1d84);
    assert.equal(unmasked.state.view.getUint32(OFFSET.ymm + 32, true), 0x3f80_0000);
    const masked = execute(source, one);
    assert.equal(masked.fault, undefined);
    assert.equal(masked.state.get32('mxcsr'), mxcsr | 4);
    const { fault } = execute(source, { ...one, mxcsr: 0x1d80, cr4: CR4.osfxsr });
    assert.deepEqual(fault, { kind: 'exception', vector: VECTOR.ud });
  });
});

describe('MMX', () => {
  /** The x87 summary bit. */
  const PENDING = 0x80;
  const fault = (vector: number): Fault => ({ kind: 'exception', vector });

  it('needs CR0.EM and TS clear and no x87 exception waiting, but not CR4.OSFXSR', () => {
    assert.equal(execute('paddb mm0, mm1', { cr4: 0 }).fault, undefined);
    assert.deepEqual(execute('paddb mm0, mm1', { cr0: CR0.em | CR0.ts }).fault, fault(VECTOR.ud));
    assert.deepEqual(execute('paddb mm0, mm1', { cr0: CR0.ts }).fault, fault(VECTOR.nm));
    const waiting = { cr0: CR0.pe | CR0.ne, x87Status: PENDING };
    assert.deepEqual(execute('paddb mm0, mm1', waiting).fault, fault(VECTOR.mf));
    assert.deepEqual(execute('movq2dq xmm0, mm1', { cr4: 0 }).fault, fault(VECTOR.ud));
  });

  it('stops by name where FERR# would report the error', () => {
    const stopped = execute('paddb mm0, mm1', { x87Status: PENDING }).fault;
    assert.deepEqual(stopped, { kind: 'unimplemented', what: 'instruction paddb' });
  });

  it('makes x87 registers valid with TOP 0, those written look like NaNs', () => {
    const { state } = execute('movd mm2, eax', { x87Status: 0x3800 });
    assert.equal(state.get32('x87Status'), 0);
    assert.equal(state.get32('x87Tag'), 0);
    assert.equal(state.view.getBigUint64(OFFSET.x87 + 32, true), BigInt(DATA));
    assert.equal(state.view.getUint16(OFFSET.x87 + 40, true), 0xffff);
  });
});
