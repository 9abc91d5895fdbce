import assert from 'node:assert/strict';
import { exception, generalProtection, VECTOR } from '../mmu/fault.ts';
import { RIGHTS } from '../state/control-bits.ts';
import { CODE_MODE, GPR, SEGMENT } from '../state/layout.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { AT, dwords, enter32, enter64, newCpu, run, SELECTOR, type TestCpu, words } from './test-cpu.ts';

const rsp = (cpu: TestCpu): number => Number(cpu.state.get64('gpr', GPR.rsp));
const cs = (cpu: TestCpu): number => cpu.state.segment(SEGMENT.cs).selector;

/** Puts values of 8 bytes on the stack, the first on top. */
function stack64(cpu: TestCpu, ...values: bigint[]): void {
  values.forEach((value, i) => {
    cpu.mmu.physical.write64(AT.stack + 8 * i, value);
  });
}
function stack32(cpu: TestCpu, ...values: number[]): void {
  values.forEach((value, i) => {
    cpu.mmu.physical.write(AT.stack + 4 * i, 4, value);
  });
}

describe('Far jumps and calls', () => {
  it('jump to a code segment given in the instruction', () => {
    const cpu = enter32(newCpu());
    assert.equal(run(cpu, 'ea 78 56 34 12 40 00'), undefined);
    assert.equal(cs(cpu), SELECTOR.code32);
    assert.equal(cpu.state.get64('rip'), 0x1234_5678n);
  });

  it('refuse null, missing, data and more privileged segments', () => {
    const cpu = enter32(newCpu(), 3);
    assert.deepEqual(run(cpu, 'ea 00 00 00 00 00 00'), generalProtection());
    assert.deepEqual(run(cpu, 'ea 00 00 00 00 00 04'), generalProtection(0x400));
    assert.deepEqual(run(cpu, 'ea 00 00 00 00 23 00'), generalProtection(0x20));
    assert.deepEqual(run(cpu, 'ea 00 00 00 00 08 00'), generalProtection(0x08));
    assert.equal(cs(cpu), SELECTOR.code3 | 3);
  });

  it('run conforming code at the caller’s level', () => {
    const cpu = enter32(newCpu(), 3);
    assert.equal(run(cpu, 'ea 00 10 00 00 38 00'), undefined);
    assert.equal(cs(cpu), SELECTOR.conforming | 3);
    assert.equal(cpu.state.get32('cpl'), 3);
  });

  it('go from 64-bit mode to compatibility mode and back through memory', () => {
    const cpu = enter64(newCpu());
    cpu.mmu.physical.write(0x5_0000, 4, 0x1_0100);
    cpu.mmu.physical.write(0x5_0004, 2, SELECTOR.code32);
    cpu.state.set64('gpr', 0x5_0000n, GPR.rbx);
    assert.equal(run(cpu, 'ff 2b'), undefined);
    assert.equal(cpu.state.get32('codeMode'), CODE_MODE.code32stack32);
    assert.equal(cpu.state.get64('rip'), 0x1_0100n);
    assert.equal(run(cpu, 'ea 00 01 01 00 08 00'), undefined);
    assert.equal(cpu.state.get32('codeMode'), CODE_MODE.code64);
  });

  it('push CS and the return address', () => {
    const cpu = enter32(newCpu());
    assert.equal(run(cpu, '9a 00 20 00 00 08 00'), undefined);
    assert.deepEqual(dwords(cpu, rsp(cpu), 2), [AT.code + 7, 8]);
    assert.equal(rsp(cpu), AT.stack - 8);
  });

  it('call an inner level through a gate with parameters', () => {
    const cpu = enter32(newCpu(), 3);
    cpu.mmu.physical.write(AT.tss + 4, 4, 0x3_0000);
    cpu.mmu.physical.write(AT.tss + 8, 4, SELECTOR.data0);
    // 32-bit call gate, DPL 3, two parameters, to code0:0x12345678.
    cpu.mmu.physical.write64(AT.gdt + SELECTOR.gate, 0x1234_ec02_0008_5678n);
    stack32(cpu, 0x11, 0x22);
    assert.equal(run(cpu, '9a 00 00 00 00 4b 00'), undefined);
    assert.equal(cpu.state.get32('cpl'), 0);
    assert.equal(cpu.state.get64('rip'), 0x1234_5678n);
    assert.equal(rsp(cpu), 0x3_0000 - 24);
    assert.deepEqual(dwords(cpu, rsp(cpu), 6), [AT.code + 7, 0x1b, 0x11, 0x22, AT.stack, 0x23]);
  });

  it('call an inner level through a 64-bit gate, which takes two slots', () => {
    const cpu = enter64(newCpu(), 3);
    cpu.mmu.physical.write64(AT.tss + 4, 0x3_0000n);
    cpu.mmu.physical.write64(AT.gdt + SELECTOR.gate, 0x1234_ec00_0008_5678n);
    cpu.mmu.physical.write64(AT.gdt + SELECTOR.gate + 8, 0xffff_8000n);
    cpu.mmu.physical.write(0x5_0004, 2, SELECTOR.gate | 3);
    cpu.state.set64('gpr', 0x5_0000n, GPR.rbx);
    assert.equal(run(cpu, 'ff 1b'), undefined);
    assert.equal(cpu.state.get64('rip'), 0xffff_8000_1234_5678n);
    assert.deepEqual(words(cpu, rsp(cpu), 4), [BigInt(AT.code + 2), 0x1bn, BigInt(AT.stack), 0x23n]);
  });

  it('cause VM exits for task switches in VMX non-root operation', () => {
    const cpu = enter32(newCpu());
    cpu.mmu.physical.write(AT.gdt + SELECTOR.tss + 4, 4, 0x0000_8900);
    cpu.state.set32('nonRoot', 1);
    const fault = run(cpu, 'ea 00 00 00 00 28 00');
    assert.ok(fault?.kind === 'vmExit');
    // SDM Vol. 3C, "Exit Qualification for Task Switches": JMP is 2 in bits 31:30.
    assert.deepEqual([fault.reason, fault.qualification], [9, (2n << 30n) | 0x28n]);
  });

  it('use paragraphs in real-address mode', () => {
    const cpu = newCpu();
    cpu.state.set64('gpr', 0x8000n, GPR.rsp);
    assert.equal(run(cpu, '9a 34 12 00 20'), undefined);
    assert.equal(cpu.state.segment(SEGMENT.cs).base, 0x2_0000n);
    assert.equal(cpu.state.get64('rip'), 0x1234n);
    assert.deepEqual(dwords(cpu, 0x8000 - 4, 1), [0xf000_fff5]);
  });
});

describe('Far returns', () => {
  it('return to an outer level and make data segments of the inner one null', () => {
    const cpu = enter32(newCpu());
    stack32(cpu, 0x4321, SELECTOR.code3 | 3, 0xaaaa, 0x6_0000, SELECTOR.data3 | 3);
    assert.equal(run(cpu, 'ca 04 00'), undefined);
    assert.equal(cpu.state.get32('cpl'), 3);
    assert.equal(cpu.state.get64('rip'), 0x4321n);
    assert.equal(rsp(cpu), 0x6_0004);
    assert.notEqual(cpu.state.segment(SEGMENT.ds).rights & RIGHTS.unusable, 0);
    assert.equal(cpu.state.segment(SEGMENT.ss).selector, SELECTOR.data3 | 3);
  });

  it('refuse to return to an inner level', () => {
    const cpu = enter32(newCpu(), 3);
    stack32(cpu, 0x4321, SELECTOR.code0);
    assert.deepEqual(run(cpu, 'cb'), generalProtection(SELECTOR.code0));
    assert.equal(rsp(cpu), AT.stack);
  });
});

describe('IRET', () => {
  it('restores SS:RSP in 64-bit mode even at the same level', () => {
    const cpu = enter64(newCpu());
    stack64(cpu, 0x1234n, 8n, 0x247n, 0x7_0000n, 0x10n);
    assert.equal(run(cpu, '48 cf'), undefined);
    assert.equal(cpu.state.get64('rip'), 0x1234n);
    assert.equal(rsp(cpu), 0x7_0000);
    assert.equal(readRflags(cpu.state), 0x247);
    assert.equal(cpu.state.get32('attention'), 1);
  });

  it('returns to CPL 3 and lets only CPL 0 change IOPL', () => {
    const cpu = enter64(newCpu());
    stack64(cpu, 0x1234n, 0x1bn, 0x3202n, 0x7_0000n, 0x23n);
    assert.equal(run(cpu, '48 cf'), undefined);
    assert.equal(cpu.state.get32('cpl'), 3);
    assert.equal(readRflags(cpu.state), 0x3202);
    stack64(cpu, 0x1234n, 0x1bn, 0x2n, 0x7_0000n, 0x23n);
    cpu.state.set64('gpr', BigInt(AT.stack), GPR.rsp);
    run(cpu, '48 cf');
    // IOPL stays 3, so IF may be cleared.
    assert.equal(readRflags(cpu.state), 0x3002);
  });

  it('leaves IF alone above IOPL', () => {
    const cpu = enter64(newCpu(), 3);
    writeRflags(cpu.state, 0x200);
    stack64(cpu, 0x1234n, 0x1bn, 0x2n, 0x7_0000n, 0x23n);
    run(cpu, '48 cf');
    assert.equal(readRflags(cpu.state), 0x202);
  });

  it('raises #GP(0) with NT in IA-32e mode, and for targets that are not canonical', () => {
    const cpu = enter64(newCpu());
    stack64(cpu, 0x8000_0000_0000n, 8n, 2n, 0x7_0000n, 0x10n);
    assert.deepEqual(run(cpu, '48 cf'), generalProtection());
    writeRflags(cpu.state, 0x4000);
    assert.deepEqual(run(cpu, '48 cf'), generalProtection());
  });

  it('leaves everything as it was when the code segment is absent', () => {
    const cpu = enter32(newCpu());
    cpu.mmu.physical.write64(AT.gdt + SELECTOR.code32, 0x00cf_1b00_0000_ffffn);
    stack32(cpu, 0x1234, SELECTOR.code32, 2);
    assert.deepEqual(run(cpu, 'cf'), exception(VECTOR.np, SELECTOR.code32));
    assert.equal(rsp(cpu), AT.stack);
    assert.equal(cs(cpu), SELECTOR.code0);
  });
});

describe('System calls', () => {
  it('SYSCALL saves RIP and RFLAGS, masks flags and loads flat segments; SYSRET returns', () => {
    const cpu = enter64(newCpu(), 3);
    const { state } = cpu;
    state.set64('msrLstar', 0xffff_8000_0000_1000n);
    state.set64('msrStar', 0x0010_0008_0000_0000n);
    state.set64('msrFmask', 0x200n);
    writeRflags(state, 0x246);
    assert.equal(run(cpu, '0f 05'), undefined);
    assert.equal(state.get64('rip'), 0xffff_8000_0000_1000n);
    assert.equal(state.get64('gpr', GPR.rcx), BigInt(AT.code + 2));
    assert.equal(state.get64('gpr', GPR.r11), 0x246n);
    assert.equal(readRflags(state), 0x46);
    assert.deepEqual([cs(cpu), state.segment(SEGMENT.ss).selector, state.get32('cpl')], [8, 0x10, 0]);
    assert.equal(run(cpu, '48 0f 07'), undefined);
    assert.equal(state.get64('rip'), BigInt(AT.code + 2));
    assert.equal(readRflags(state), 0x246);
    assert.deepEqual([cs(cpu), state.segment(SEGMENT.ss).selector, state.get32('cpl')], [0x23, 0x1b, 3]);
  });

  it('SYSCALL is #UD without EFER.SCE and outside 64-bit mode', () => {
    const cpu = enter64(newCpu());
    cpu.state.set64('efer', 0x500n);
    assert.deepEqual(run(cpu, '0f 05'), exception(VECTOR.ud));
  });

  it('SYSENTER and SYSEXIT go through the SYSENTER MSRs', () => {
    const cpu = enter32(newCpu(), 3);
    const { state } = cpu;
    assert.deepEqual(run(cpu, '0f 34'), generalProtection());
    state.set64('msrSysenterCs', 0x8n);
    state.set64('msrSysenterEip', 0x5000n);
    state.set64('msrSysenterEsp', 0x6000n);
    writeRflags(state, 0x202);
    assert.equal(run(cpu, '0f 34'), undefined);
    assert.deepEqual([state.get64('rip'), rsp(cpu), state.get32('cpl')], [0x5000n, 0x6000, 0]);
    assert.equal(readRflags(state), 2);
    state.set64('gpr', 0x7000n, GPR.rdx);
    state.set64('gpr', 0x8000n, GPR.rcx);
    assert.equal(run(cpu, '0f 35'), undefined);
    assert.deepEqual([state.get64('rip'), rsp(cpu), cs(cpu)], [0x7000n, 0x8000, 0x1b]);
  });

  it('SWAPGS exchanges the bases', () => {
    const cpu = enter64(newCpu());
    cpu.state.set64('segmentBase', 1n, SEGMENT.gs);
    cpu.state.set64('msrKernelGsBase', 2n);
    assert.equal(run(cpu, '0f 01 f8'), undefined);
    assert.equal(cpu.state.get64('segmentBase', SEGMENT.gs), 2n);
    assert.equal(cpu.state.get64('msrKernelGsBase'), 1n);
  });

  it('BOUND checks signed bounds', () => {
    const cpu = enter32(newCpu());
    cpu.mmu.physical.write(0x5_0000, 4, 0xffff_fff0);
    cpu.mmu.physical.write(0x5_0004, 4, 0x10);
    cpu.state.set64('gpr', 0x5_0000n, GPR.rbx);
    cpu.state.set64('gpr', 0xffff_fff0n, GPR.rax);
    assert.equal(run(cpu, '62 03'), undefined);
    cpu.state.set64('gpr', 0x11n, GPR.rax);
    assert.deepEqual(run(cpu, '62 03'), exception(VECTOR.br));
  });
});
