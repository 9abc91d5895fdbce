import assert from 'node:assert/strict';
import { LateCompiler } from '../../test/support/late-compiler.ts';
import { assemble } from '../../test/support/nasm.ts';
import { type Bits, DATA, ORIGIN, randomNumbers, randomProgram } from '../../test/support/random-program.ts';
import type { Clock, Cpu } from '../cpu/cpu.ts';
import { findModel } from '../cpu/models.ts';
import { readRflags } from '../cpu/rflags.ts';
import { decodeBlocks, type RegionJob } from '../engine/region-job.ts';
import type { Semantics } from '../engine/stage.ts';
import { SEMANTICS } from '../isa/semantics.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CODE_MODE, GPR, REGION } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { Processor, type ProcessorOptions } from './processor.ts';

/** Compiled code against the interpreter: both come from one semantics, and must leave the same state. */

const SLICES = 60;

function start(code: Uint8Array, bits: Bits, options: ProcessorOptions) {
  const state = new State(4 << 20);
  const physical = new PhysicalMemory(state);
  const mmu = new Mmu(state, physical, new Tlb(state));
  const clock: Clock = { cycles: () => 0 };
  const cpu = { state, mmu, clock, model: findModel('max') } as unknown as Cpu;
  state.set32('codeMode', bits === 64 ? CODE_MODE.code64 : CODE_MODE.code32stack32);
  for (let segment = 0; segment < 6; segment++) {
    state.set32('segmentLimit', 0xffff_ffff, segment);
    state.set64('segmentReadTop', 1n << 32n, segment);
    state.set64('segmentWriteTop', 1n << 32n, segment);
  }
  state.set32('rflagsSystem', 2);
  state.set32('stringStep', 1);
  const breakpoints = { mayBreakAt: () => false, stopsHere: () => false };
  const processor = new Processor(cpu, new Map(), breakpoints, options);
  physical.poke(ORIGIN, code);
  mmu.updateContext();
  state.set64('rip', BigInt(ORIGIN));
  state.set64('gpr', BigInt(DATA), GPR.rbp);
  state.set64('gpr', BigInt(DATA + 0x10000), GPR.rsp);
  return { state, physical, processor };
}

type Run = ReturnType<typeof start>;

const picture = ({ state, physical }: Run) => ({
  rip: state.get64('rip'),
  gpr: state.elements('gpr'),
  rflags: readRflags(state),
  retired: state.getFloat('retired'),
  memory: Buffer.from(physical.peek(DATA, 0x11000)).toString('latin1'),
});

/** Parts of two pictures that differ, for a message that fits a screen. */
function differences(a: ReturnType<typeof picture>, b: ReturnType<typeof picture>): string[] {
  const list: string[] = [];
  a.gpr.forEach((value, i) => {
    if (value !== b.gpr[i]) list.push(`register ${i}: 0x${value.toString(16)}, 0x${b.gpr[i]?.toString(16)}`);
  });
  for (const key of ['rip', 'rflags', 'retired'] as const) {
    if (a[key] !== b[key]) list.push(`${key}: 0x${a[key].toString(16)}, 0x${b[key].toString(16)}`);
  }
  if (a.memory !== b.memory) list.push('memory');
  return list;
}

describe('compiled code', () => {
  const base = Number(process.env.VMXRAY_SEED ?? 1);
  for (const bits of [64, 32] as const) {
    for (let seed = base; seed < base + 30; seed++) {
      it(`agrees with the interpreter on a random ${bits}-bit loop, seed ${seed}`, () => {
        const compiled = compare(seed, bits, {});
        assert.ok(compiled.processor.regions > 0, 'nothing was compiled');
      });
    }
    for (let seed = base; seed < base + 10; seed++) {
      it(`agrees when ${bits}-bit regions arrive late, seed ${seed}`, () => {
        const random = randomNumbers(seed);
        const compiler = new LateCompiler(SEMANTICS, () => random(4) === 0);
        compare(seed, bits, { compiler, hotAfter: 64 });
        assert.ok(compiler.answered > 0, 'nothing was compiled');
      });
    }
  }

  it('is not used when the code was written while it was being compiled', () => {
    // Both loop for good, adding 5; the constant becomes 7 while the region is under way.
    const code = assemble(`
      bits 64
      org ${ORIGIN}
      again: add rax, 5
      jmp again`);
    let mayAnswer = false;
    const compiler = new LateCompiler(SEMANTICS, () => mayAnswer);
    const { state, physical, processor } = start(code, 64, { compiler });
    const run = (count: number): void => {
      processor.run(count);
      processor.retire();
    };
    run(2000);
    assert.equal(compiler.waiting.length, 1);
    assert.equal(state.get64('gpr', GPR.rax), 5000n);
    physical.write(ORIGIN + 3, 1, 7);
    mayAnswer = true;
    run(2000);
    assert.equal(state.get64('gpr', GPR.rax), 5000n + 7000n);
    assert.ok(compiler.answered > 0);
  });

  it('holds short code of another page that it calls, and is not used when that was written meanwhile', () => {
    const code = assemble(`
      bits 64
      org ${ORIGIN}
      again: call routine
      jmp again
      align 4096
      routine: add rax, 5
      ret`);
    let mayAnswer = false;
    const compiler = new LateCompiler(SEMANTICS, () => mayAnswer);
    const { state, physical, processor } = start(code, 64, { compiler });
    const run = (count: number): void => {
      processor.run(count);
      processor.retire();
    };
    run(4 * 1000);
    assert.equal(state.get64('gpr', GPR.rax), 5000n);
    const names = compiler.waiting.map(({ blocks }) => namesIn(blocks, compiler.waiting));
    assert.deepEqual(names, [
      ['Call', 'Jmp', 'Add', 'Ret'],
      ['Add', 'Ret'],
    ]);
    physical.write(ORIGIN + 4096 + 3, 1, 7);
    mayAnswer = true;
    run(4 * 1000);
    assert.equal(state.get64('gpr', GPR.rax), 5000n + 7000n);
    assert.ok(compiler.answered > 0);
  });

  it('is told to another thread with all that compiling it takes, and asked for once', () => {
    const code = assemble(`
      bits 64
      org ${ORIGIN}
      again: add rax, 5
      jmp again`);
    const compiler = new LateCompiler(SEMANTICS, () => false);
    const { processor } = start(code, 64, { compiler });
    processor.run(100_000);
    assert.equal(compiler.waiting.length, 1);
    assert.deepEqual(
      compiler.waiting[0]?.forms.map(({ form }) => form.name),
      ['Add', 'Jmp'],
    );
  });
});

/** The mnemonics of a job's instructions. */
function namesIn(blocks: Uint32Array, jobs: readonly RegionJob[]): string[] {
  const forms = new Map(jobs.flatMap((job) => job.forms).map(({ handler, form }) => [handler, form]));
  const semantics: Semantics = () => {};
  const decoded = decodeBlocks(blocks, new Uint32Array(REGION.ram.start / 4), (handler) => {
    const form = forms.get(handler);
    assert.ok(form);
    return { form, semantics };
  });
  return decoded.flatMap(({ instructions }) => instructions.map(({ form }) => form.name));
}

function compare(seed: number, bits: Bits, options: ProcessorOptions): Run {
  const source = randomProgram(seed, bits);
  const code = assemble(source);
  const compiled = start(code, bits, options);
  const interpreted = start(code, bits, { compile: false });
  for (let slice = 0; slice < SLICES; slice++) {
    const count = 1 + ((slice * 7919) % 8009);
    for (const { processor } of [compiled, interpreted]) {
      processor.run(count);
      processor.retire();
    }
    const different = differences(picture(compiled), picture(interpreted));
    assert.deepEqual(different, [], `after slice ${slice} of ${count}:\n${source}`);
  }
  return compiled;
}
