import assert from 'node:assert/strict';
import { exception, generalProtection, VECTOR } from '../mmu/fault.ts';
import { GPR, SEGMENT } from '../state/layout.ts';
import { readMsr, writeMsr } from './msrs.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { setSegment } from './segments.ts';
import { enter64, newCpu, run, type TestCpu } from './test-cpu.ts';

const TPAUSE_EBX = '66 0f ae f3';
const UMWAIT_EBX = 'f2 0f ae f3';
const UMONITOR_RBX = 'f3 0f ae f3';
const FS_UMONITOR_EBX = '64 67 f3 0f ae f3';
const UMWAIT_CONTROL = 0xe1;

/** In 64-bit mode, on the model that has them all, with RBX = `operand` and EDX:EAX = `deadline`. */
function ready(operand = 0n, deadline = 0n): TestCpu {
  const cpu = enter64(newCpu('max'));
  cpu.state.set64('gpr', operand, GPR.rbx);
  cpu.state.set64('gpr', deadline & 0xffff_ffffn, GPR.rax);
  cpu.state.set64('gpr', deadline >> 32n, GPR.rdx);
  return cpu;
}
const waited = (cpu: TestCpu): number => cpu.state.getFloat('extraCycles');

describe('TPAUSE, UMONITOR and UMWAIT', () => {
  it('are #UD on a model without them', () => {
    for (const code of [TPAUSE_EBX, UMWAIT_EBX, UMONITOR_RBX]) {
      assert.deepEqual(run(enter64(newCpu()), code), exception(VECTOR.ud), code);
    }
  });

  it('wait until the deadline, with all status flags clear', () => {
    for (const code of [TPAUSE_EBX, UMWAIT_EBX]) {
      const cpu = ready(0n, 700n);
      writeRflags(cpu.state, 0x8d7);
      assert.equal(run(cpu, code), undefined);
      assert.equal(waited(cpu), 700, code);
      assert.equal(readRflags(cpu.state) & 0x8d5, 0, code);
    }
  });

  it('end at once when the deadline has passed or an interrupt asks, whatever RFLAGS.IF', () => {
    const late = ready(0n, 500n);
    late.cycles = 500;
    run(late, TPAUSE_EBX);
    assert.equal(waited(late), 0);
    const asked = ready(1n, 0xffff_ffff_ffffn);
    asked.state.set32('interruptRequest', 1);
    run(asked, TPAUSE_EBX);
    assert.equal(waited(asked), 0);
  });

  it('end early with CF when IA32_UMWAIT_CONTROL’s limit is the shorter time', () => {
    const cpu = ready(0n, 0xffff_ffff_ffffn);
    assert.ok(writeMsr(cpu, UMWAIT_CONTROL, 401n));
    run(cpu, UMWAIT_EBX);
    assert.equal(waited(cpu), 400);
    assert.equal(readRflags(cpu.state) & 0x8d5, 1);
  });

  it('raise #GP(0) for reserved bits of the operand, and above CPL 0 with CR4.TSD', () => {
    assert.deepEqual(run(ready(2n), TPAUSE_EBX), generalProtection());
    const user = ready();
    user.state.set32('cpl', 3);
    assert.equal(run(user, TPAUSE_EBX), undefined);
    user.state.set64('cr4', user.state.get64('cr4') | 4n);
    assert.deepEqual(run(user, UMWAIT_EBX), generalProtection());
  });

  it('UMONITOR reads a byte of DS or of the segment that a prefix names', () => {
    assert.deepEqual(run(ready(0x8000_0000_0000n), UMONITOR_RBX), generalProtection());
    const cpu = ready(0x10n);
    assert.equal(run(cpu, UMONITOR_RBX), undefined);
    setSegment(cpu.state, SEGMENT.fs, 0, 0x7fff_ffff_fff8n, 0xffff_ffff, 0xc093);
    assert.deepEqual(run(cpu, FS_UMONITOR_EBX), generalProtection());
  });

  it('IA32_UMWAIT_CONTROL reserves bit 1 and the upper half, and belongs to models with the instructions', () => {
    const cpu = ready();
    assert.equal(writeMsr(cpu, UMWAIT_CONTROL, 2n), false);
    assert.equal(writeMsr(cpu, UMWAIT_CONTROL, 1n << 32n), false);
    assert.ok(writeMsr(cpu, UMWAIT_CONTROL, 0xffff_fffdn));
    assert.equal(readMsr(cpu, UMWAIT_CONTROL), 0xffff_fffdn);
    assert.equal(readMsr(newCpu(), UMWAIT_CONTROL), undefined);
  });
});
