import assert from 'node:assert/strict';
import { assemble } from '../../test/support/nasm.ts';
import type { Clock, Cpu } from '../cpu/cpu.ts';
import { findModel } from '../cpu/models.ts';
import { EXIT } from '../engine/record.ts';
import { Mmu } from '../mmu/mmu.ts';
import { PhysicalMemory } from '../mmu/physical-memory.ts';
import { Tlb } from '../mmu/tlb.ts';
import { CODE_MODE, GPR } from '../state/layout.ts';
import { State } from '../state/state.ts';
import { Processor } from './processor.ts';

const ORIGIN = 0x10_0000;

/**
 * A processor in 64-bit mode without paging: linear addresses are physical. Parts that no test here reaches are absent.
 */
function processorWith(source: string, breakpoints: readonly number[] = []) {
  const state = new State(4 << 20);
  const physical = new PhysicalMemory(state);
  const mmu = new Mmu(state, physical, new Tlb(state));
  const clock: Clock = { cycles: () => 0 };
  const cpu = { state, mmu, clock, model: findModel('max') } as unknown as Cpu;
  state.set32('codeMode', CODE_MODE.code64);
  state.set32('rflagsSystem', 2);
  state.set32('stringStep', 1);
  const processor = new Processor(cpu, new Map(), {
    mayBreakAt: (offset) => breakpoints.some((address) => address % 4096 === offset),
    stopsHere: () => breakpoints.includes(Number(state.get64('rip'))),
  });
  physical.poke(ORIGIN, assemble(`bits 64\norg ${ORIGIN}\n${source}`));
  mmu.updateContext();
  state.set64('rip', BigInt(ORIGIN));
  state.set64('gpr', 0x20_0000n, GPR.rsp);
  return { state, physical, processor };
}

/** Runs to `hlt`, which is not implemented here and so ends the run at its address. */
function runToHlt(source: string) {
  const machine = processorWith(source);
  machine.processor.run(1_000_000);
  assert.equal(machine.state.get32('exitCode'), EXIT.fault);
  assert.deepEqual(machine.processor.fault, { kind: 'unimplemented', what: 'instruction hlt' });
  return machine;
}

describe('Processor', () => {
  it('counts every instruction exactly, whatever the slice', () => {
    const source = 'mov ecx, 100\nagain: add rax, rcx\ndec ecx\njnz again\nhlt';
    for (const slice of [1, 2, 3, 7, 100, 1000]) {
      const { state, processor } = processorWith(source);
      let executed = 0;
      while (state.get32('exitCode') !== EXIT.fault) {
        processor.run(slice);
        executed += processor.executed;
        processor.retire();
      }
      assert.equal(executed, 1 + 3 * 100 + 1, `slice ${slice}`);
      assert.equal(state.get64('gpr', GPR.rax), 5050n);
    }
  });

  it('leaves RIP at the next instruction when the budget is used up', () => {
    const { state, processor } = processorWith('nop\nnop\nmov eax, 1\nhlt');
    processor.run(3);
    assert.equal(state.get32('exitCode'), EXIT.budget);
    assert.equal(state.get64('rip'), BigInt(ORIGIN + 7));
  });

  it('executes code that the code itself has just written, in the same block', () => {
    const { state } = runToHlt('mov byte [rel patch + 1], 42\npatch: mov al, 1\nhlt');
    assert.equal(state.get64('gpr', GPR.rax), 42n);
  });

  it('executes changed code after it ran once, from another page', () => {
    const { state } = runToHlt(`
      call routine
      mov byte [rel routine + 1], 5
      call routine
      hlt
      align 4096
      routine: add al, 1
      ret`);
    assert.equal(state.get64('gpr', GPR.rax), 6n);
  });

  it('keeps code that lies beside written data', () => {
    const { state } = runToHlt(`
      mov ecx, 1000
      again: inc dword [rel counter]
      dec ecx
      jnz again
      mov eax, [rel counter]
      hlt
      align 128
      counter: dd 0`);
    assert.equal(state.get64('gpr', GPR.rax), 1000n);
  });

  it('keeps the instructions beside one that is written, and sees that one change in a loop', () => {
    const { state, processor } = processorWith(`
      mov ecx, 3
      again: add rax, 1
      patch: add rbx, 1
      add rdx, 1
      inc byte [rel patch + 3]
      dec ecx
      jnz again
      hlt`);
    const records = (): number[] => {
      const page = state.get32('codeTable') >>> 2;
      return [5, 9, 13].map((offset) => state.u32[page + offset] as number);
    };
    processor.run(1);
    const before = records();
    processor.run(1_000_000);
    assert.deepEqual(
      ['rax', 'rbx', 'rdx'].map((name) => state.get64('gpr', GPR[name as 'rax'])),
      [3n, 1n + 2n + 3n, 3n],
    );
    const after = records();
    assert.deepEqual([after[0], after[2]], [before[0], before[2]]);
    assert.notEqual(after[1], before[1]);
  });

  it('executes an instruction that crosses into the next page, and sees changes of its second half', () => {
    const { state } = runToHlt(`
      mov ecx, 2
      jmp near crossing
      times 4094-($-$$) nop
      crossing: mov eax, 0x11223344
      add rdx, rax
      mov byte [rel crossing + 4], 0
      dec ecx
      jz done
      jmp near crossing
      done: hlt`);
    assert.equal(state.get64('gpr', GPR.rdx), 0x11223344n + 0x00223344n);
  });

  it('calls and returns through memory and registers', () => {
    const { state } = runToHlt(`
      lea rax, [rel one]
      call rax
      lea rbx, [rel table]
      call [rbx + 8]
      hlt
      one: add rdi, 1
      ret
      two: add rdi, 2
      ret 0
      table: dq one, two`);
    assert.equal(state.get64('gpr', GPR.rdi), 3n);
    assert.equal(state.get64('gpr', GPR.rsp), 0x20_0000n);
  });

  it('stops in front of a breakpoint without counting the instruction', () => {
    const { state, processor } = processorWith('nop\nnop\nnop\nhlt', [ORIGIN + 2]);
    processor.run(100);
    assert.equal(state.get32('exitCode'), EXIT.breakpoint);
    assert.equal(state.get64('rip'), BigInt(ORIGIN + 2));
    assert.equal(processor.executed, 2);
  });

  it('names an instruction that is not simulated, and #UD for bytes that are none', () => {
    const unknown = processorWith('vaddps zmm0, zmm1, zmm2');
    unknown.processor.run(10);
    assert.deepEqual(unknown.processor.fault, { kind: 'unimplemented', what: 'instruction vaddps' });
    const invalid = processorWith('db 0x06');
    invalid.processor.run(10);
    assert.deepEqual(invalid.processor.fault, { kind: 'exception', vector: 6 });
  });
});
