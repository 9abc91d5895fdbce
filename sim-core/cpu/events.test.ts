import assert from 'node:assert/strict';
import { exception, generalProtection, VECTOR } from '../mmu/fault.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import { deliverEvent, deliverFault, endShadow, serviceBoundary, shadowOf, trapSingleStep } from './events.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { AT, dwords, enter32, enter64, newCpu, run, SELECTOR, setGate32, setGate64, words } from './test-cpu.ts';

const INTERRUPT = 0xe;
const TRAP = 0xf;
const TASK = 0x5;
const IF = 0x200;

describe('Event delivery in 64-bit mode', () => {
  it('pushes SS, RSP, RFLAGS, CS, RIP on the current stack, aligned to 16 bytes', () => {
    const cpu = enter64(newCpu());
    writeRflags(cpu.state, IF | 0x101);
    cpu.state.set64('gpr', BigInt(AT.stack - 8), GPR.rsp);
    setGate64(cpu, 0x40, INTERRUPT, 0xffff_8000_1234_5678n);
    assert.deepEqual(deliverEvent(cpu, { vector: 0x40, type: 0 }), { kind: 'delivered' });
    const top = AT.stack - 16 - 40;
    assert.equal(cpu.state.get64('gpr', GPR.rsp), BigInt(top));
    assert.deepEqual(words(cpu, top, 5), [BigInt(AT.code), 8n, 0x303n, BigInt(AT.stack - 8), 0x10n]);
    assert.equal(cpu.state.get64('rip'), 0xffff_8000_1234_5678n);
    // IF and TF are cleared by an interrupt gate; the status flags stay.
    assert.equal(readRflags(cpu.state), 0x3);
  });

  it('leaves IF alone through a trap gate', () => {
    const cpu = enter64(newCpu());
    writeRflags(cpu.state, IF);
    setGate64(cpu, 0x40, TRAP, 0x100n);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(readRflags(cpu.state), IF | 2);
  });

  it('pushes the error code, and RF in the flags of a fault', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.gp, INTERRUPT, 0x100n);
    deliverFault(cpu, generalProtection(0x50));
    assert.deepEqual(words(cpu, AT.stack - 48, 4), [0x50n, BigInt(AT.code), 8n, 0x1_0002n]);
  });

  it('takes the stack of an inner level from the TSS and makes SS null', () => {
    const cpu = enter64(newCpu(), 3);
    cpu.mmu.physical.write64(AT.tss + 4, 0x3_0000n);
    setGate64(cpu, 0x40, INTERRUPT, 0x100n);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(cpu.state.get32('cpl'), 0);
    assert.equal(cpu.state.get64('gpr', GPR.rsp), 0x3_0000n - 40n);
    assert.deepEqual(words(cpu, 0x3_0000 - 40, 5), [BigInt(AT.code), 0x1bn, 2n, BigInt(AT.stack), 0x23n]);
    assert.equal(cpu.state.segment(SEGMENT.ss).selector, 0);
    assert.equal(cpu.state.segment(SEGMENT.cs).selector, SELECTOR.code0);
  });

  it('takes an IST stack even at the same level, and keeps SS then', () => {
    const cpu = enter64(newCpu());
    cpu.mmu.physical.write64(AT.tss + 0x24 + 8 * 2, 0x3_8000n);
    setGate64(cpu, 8, INTERRUPT, 0x100n, { ist: 3 });
    deliverFault(cpu, exception(VECTOR.df, 0));
    assert.equal(cpu.state.get64('gpr', GPR.rsp), 0x3_8000n - 48n);
    assert.equal(cpu.state.segment(SEGMENT.ss).selector, SELECTOR.data0);
  });

  it('loads CR2 with the address of a page fault', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.pf, INTERRUPT, 0x100n);
    deliverFault(cpu, { ...exception(VECTOR.pf, 2), linearAddress: 0xdead_b000n });
    assert.equal(cpu.state.get64('cr2'), 0xdead_b000n);
  });

  it('lets INT n through a gate whose DPL allows it, RIP after the instruction', () => {
    const cpu = enter64(newCpu(), 3);
    cpu.mmu.physical.write64(AT.tss + 4, 0x3_0000n);
    setGate64(cpu, 0x80, TRAP, 0x100n, { dpl: 3 });
    const fault = run(cpu, 'cd 80');
    assert.equal(fault?.kind, 'softwareInterrupt');
    if (fault) assert.deepEqual(deliverFault(cpu, fault), { kind: 'delivered' });
    assert.equal(words(cpu, 0x3_0000 - 40, 1)[0], BigInt(AT.code + 2));
  });

  it('turns INT n through a gate of DPL 0 into #GP(vector × 8 + 2)', () => {
    const cpu = enter64(newCpu(), 3);
    cpu.mmu.physical.write64(AT.tss + 4, 0x3_0000n);
    setGate64(cpu, 0x80, TRAP, 0x100n);
    setGate64(cpu, VECTOR.gp, INTERRUPT, 0x200n);
    const fault = run(cpu, 'cd 80');
    if (fault) deliverFault(cpu, fault);
    assert.equal(cpu.state.get64('rip'), 0x200n);
    // The error code has no EXT bit, RIP is at the instruction.
    assert.deepEqual(words(cpu, 0x3_0000 - 48, 2), [0x402n, BigInt(AT.code)]);
  });

  it('sets the EXT bit in the error code of a fault during an interrupt', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.np, INTERRUPT, 0x200n);
    cpu.mmu.physical.write64(AT.idt + 16 * 0x40, 0x0000_0e00_0008_0000n);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(cpu.state.get64('rip'), 0x200n);
    assert.equal(words(cpu, AT.stack - 48, 1)[0], 0x203n);
  });

  it('raises #DF(0) for a contributory fault during another, and keeps its IDT vectoring', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.df, INTERRUPT, 0x300n);
    // The gate of #GP is no gate: another #GP follows, and the two make a double fault.
    deliverFault(cpu, generalProtection());
    assert.equal(cpu.state.get64('rip'), 0x300n);
    assert.deepEqual(words(cpu, AT.stack - 48, 2), [0n, BigInt(AT.code)]);
  });

  it('handles a page fault during a benign exception in its own right', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.pf, INTERRUPT, 0x300n);
    cpu.state.set64('idtrBase', 0x40_0000n - 0x10n);
    cpu.mmu.physical.write64(0x3f_fff0 + 16 * 6, 0n);
    const outcome = deliverFault(cpu, exception(VECTOR.ud));
    // The whole IDT beyond its first entry is unmapped: #UD → #PF → #PF makes #DF → #PF: shutdown.
    assert.equal(outcome.kind, 'tripleFault');
    if (outcome.kind !== 'tripleFault') return;
    assert.deepEqual(
      outcome.story.map(({ fault }) => (fault.kind === 'exception' ? fault.vector : undefined)),
      [VECTOR.ud, VECTOR.pf, VECTOR.df, VECTOR.pf],
    );
    assert.match(outcome.story[0]?.description ?? '', /#UD could not be delivered: #PF.*0x400050/);
  });

  it('asks VMX about exceptions, not about injected events, and says during what they arose', () => {
    const cpu = enter64(newCpu());
    cpu.state.set32('nonRoot', 1);
    cpu.exits = (query) => query.kind === 'event' && query.vector === VECTOR.gp;
    setGate64(cpu, 0x40, INTERRUPT, 0x100n);
    assert.equal(deliverEvent(cpu, { vector: VECTOR.gp, type: 3, errorCode: 0 }).kind, 'vmExit');
    // Its gate is empty: the #GP that follows is one that arises, which VMX takes before it makes a #DF.
    assert.deepEqual(cpu.log, ['exit for 13 during 13']);
    cpu.log.length = 0;
    assert.equal(deliverFault(cpu, generalProtection()).kind, 'vmExit');
    assert.deepEqual(cpu.log, ['exit for 13 during nothing']);
  });

  it('makes a triple fault in VMX non-root operation a VM exit', () => {
    const cpu = enter64(newCpu());
    cpu.state.set32('nonRoot', 1);
    cpu.state.set32('idtrLimit', 0);
    assert.equal(deliverFault(cpu, exception(VECTOR.ud)).kind, 'vmExit');
    assert.deepEqual(cpu.log, ['exit for tripleFault during 8']);
  });
});

describe('Event delivery in 32-bit protected mode', () => {
  it('pushes EFLAGS, CS, EIP through a 32-bit gate', () => {
    const cpu = enter32(newCpu());
    setGate32(cpu, 0x40, INTERRUPT, 0x1234_5678);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(cpu.state.get64('rip'), 0x1234_5678n);
    assert.deepEqual(dwords(cpu, AT.stack - 12, 3), [AT.code, 8, 2]);
  });

  it('pushes words through a 16-bit gate', () => {
    const cpu = enter32(newCpu());
    setGate32(cpu, 0x40, 6, 0x5678);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(cpu.state.get64('rip'), 0x5678n);
    assert.deepEqual(dwords(cpu, AT.stack - 6, 1), [0x0008_0000]);
  });

  it('takes SS:ESP of an inner level from the TSS and pushes the old ones', () => {
    const cpu = enter32(newCpu(), 3);
    cpu.mmu.physical.write(AT.tss + 4, 4, 0x3_0000);
    cpu.mmu.physical.write(AT.tss + 8, 4, SELECTOR.data0);
    setGate32(cpu, 0x40, INTERRUPT, 0x100);
    deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.deepEqual(dwords(cpu, 0x3_0000 - 20, 5), [AT.code, 0x1b, 2, AT.stack, 0x23]);
    assert.equal(cpu.state.segment(SEGMENT.ss).selector, SELECTOR.data0);
    assert.equal(cpu.state.get64('gpr', GPR.rsp), 0x3_0000n - 20n);
  });

  it('raises #TS with the selector of a wrong inner stack', () => {
    const cpu = enter32(newCpu(), 3);
    cpu.mmu.physical.write(AT.tss + 4, 4, 0x3_0000);
    cpu.mmu.physical.write(AT.tss + 8, 4, SELECTOR.data3 | 3);
    setGate32(cpu, 0x40, INTERRUPT, 0x100);
    const outcome = deliverEvent(cpu, { vector: 0x40, type: 0 });
    assert.equal(outcome.kind, 'tripleFault');
    if (outcome.kind === 'tripleFault') {
      assert.match(outcome.story[0]?.description ?? '', /#TS, error code 0x21/);
    }
  });

  it('reports #GP for the TSS selector of a task gate, with the EXT flag', () => {
    const cpu = enter32(newCpu());
    setGate32(cpu, 0x40, TASK, 0);
    cpu.mmu.physical.write(AT.idt + 8 * 0x40 + 2, 2, 4);
    const outcome = deliverEvent(cpu, { vector: 0x40, type: 0 });
    const story = outcome.kind === 'tripleFault' ? outcome.story : [];
    assert.match(story[0]?.description ?? '', /interrupt 64 could not be delivered: #GP, error code 0x5/);
  });
});

describe('Event delivery in real-address mode', () => {
  it('uses the interrupt vector table', () => {
    const cpu = newCpu();
    cpu.mmu.physical.write(4 * 0x21, 4, 0x1234_5678);
    cpu.state.set64('gpr', 0x8000n, GPR.rsp);
    writeRflags(cpu.state, IF);
    deliverEvent(cpu, { vector: 0x21, type: 0 });
    assert.equal(cpu.state.get64('rip'), 0x5678n);
    assert.equal(cpu.state.segment(SEGMENT.cs).base, 0x1_2340n);
    assert.deepEqual(dwords(cpu, 0x8000 - 6, 1), [0xf000_fff0]);
    assert.equal(cpu.mmu.physical.read(0x8000 - 2, 2), IF | 2);
  });
});

describe('Instruction boundaries', () => {
  it('deliver an external interrupt only with IF', () => {
    const cpu = enter64(newCpu());
    cpu.vector = 0x40;
    setGate64(cpu, 0x40, INTERRUPT, 0x100n);
    cpu.state.set32('interruptRequest', 1);
    assert.equal(serviceBoundary(cpu), undefined);
    writeRflags(cpu.state, IF);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
    assert.equal(cpu.state.get64('rip'), 0x100n);
  });

  it('hold interrupts off for one instruction after STI', () => {
    const cpu = enter64(newCpu());
    cpu.vector = 0x40;
    setGate64(cpu, 0x40, INTERRUPT, 0x100n);
    cpu.state.set32('interruptRequest', 1);
    assert.equal(run(cpu, 'fb'), undefined);
    assert.equal(serviceBoundary(cpu), undefined);
    endShadow(cpu.state, shadowOf(cpu.state), 0);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
  });

  it('deliver an NMI once, and block the next until IRET', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, 2, INTERRUPT, 0x100n);
    cpu.state.set32('nmiRequest', 1);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
    cpu.state.set32('nmiRequest', 1);
    assert.equal(serviceBoundary(cpu), undefined);
    assert.equal(run(cpu, '48 cf'), undefined);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
  });

  it('hold NMIs off for one instruction after STI, as KVM and its tests expect', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, 2, INTERRUPT, 0x100n);
    assert.equal(run(cpu, 'fb'), undefined);
    cpu.state.set32('nmiRequest', 1);
    assert.equal(serviceBoundary(cpu), undefined);
    endShadow(cpu.state, shadowOf(cpu.state), 0);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
  });

  it('deliver the single-step trap with DR6.BS, after MOV SS only one instruction later', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.db, INTERRUPT, 0x100n);
    cpu.state.set64('gpr', BigInt(SELECTOR.data0), GPR.rax);
    assert.equal(run(cpu, '8e d0'), undefined);
    trapSingleStep(cpu.state);
    assert.equal(serviceBoundary(cpu), undefined);
    endShadow(cpu.state, shadowOf(cpu.state), 0);
    assert.deepEqual(serviceBoundary(cpu), { kind: 'delivered' });
    assert.equal(cpu.state.get64('dr', 6), 0xffff_4ff0n);
    assert.equal(words(cpu, AT.stack - 40, 3)[2], 2n);
  });
});
