// Expected values: SDM Vol. 3A, "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT", and
// "Multiple-Processor (MP) Initialization".
import assert from 'node:assert/strict';
import { ACTIVITY, GPR, SEGMENT, START_UP } from '../state/layout.ts';
import { takeSignals } from './start-up.ts';
import { newCpu } from './test-cpu.ts';

const BOOTSTRAP = 0x100n;

/** An application processor in the middle of its work. */
function applicationProcessor() {
  const cpu = newCpu();
  const { state } = cpu;
  state.set64('msrApicBase', 0xfee0_0800n);
  state.set64('gpr', 0x1234n, GPR.rbx);
  state.set64('cr0', 0xe000_0011n);
  state.set64('msrStar', 0x5678n);
  state.set64('dr', 0x9abcn, 0);
  state.set32('mxcsr', 0x1fa0);
  return cpu;
}

describe('INIT and start-up IPIs', () => {
  it('INIT clears registers, keeps MSRs, SSE state and CR0.CD and NW, and leaves the processor waiting', () => {
    const cpu = applicationProcessor();
    const { state } = cpu;
    state.set32('initRequest', 1);
    assert.equal(takeSignals(cpu), undefined);
    assert.equal(state.get32('activity'), ACTIVITY.waitForSipi);
    assert.deepEqual([state.get64('gpr', GPR.rbx), state.get64('gpr', GPR.rdx)], [0n, BigInt(cpu.model.signature)]);
    assert.deepEqual(
      [state.get64('cr0'), state.get64('dr', 0), state.get64('dr', 6)],
      [0x6000_0010n, 0n, 0xffff_0ff0n],
    );
    assert.deepEqual([state.get64('rip'), state.segment(SEGMENT.cs).base], [0xfff0n, 0xffff_0000n]);
    assert.deepEqual([state.get64('msrStar'), state.get32('mxcsr')], [0x5678n, 0x1fa0]);
  });

  it('a start-up IPI starts it in real-address mode at the page of its vector', () => {
    const cpu = applicationProcessor();
    const { state } = cpu;
    state.set32('initRequest', 1);
    state.set32('startUpRequest', START_UP.latched | 0x9a);
    assert.equal(takeSignals(cpu), 'started');
    const { selector, base } = state.segment(SEGMENT.cs);
    assert.deepEqual([selector, base, state.get64('rip')], [0x9a00, 0x9_a000n, 0n]);
    assert.equal(state.get32('activity'), ACTIVITY.active);
  });

  it('a start-up IPI is lost on a processor that does not wait for one', () => {
    const cpu = applicationProcessor();
    cpu.state.set32('startUpRequest', START_UP.latched | 0x9a);
    assert.equal(takeSignals(cpu), undefined);
    assert.deepEqual([cpu.state.get32('startUpRequest'), cpu.state.get64('gpr', GPR.rbx)], [0, 0x1234n]);
  });

  it('VMX operation holds INIT back', () => {
    const cpu = applicationProcessor();
    cpu.state.set32('vmxOn', 1);
    cpu.state.set32('initRequest', 1);
    assert.equal(takeSignals(cpu), undefined);
    assert.deepEqual([cpu.state.get32('initRequest'), cpu.state.get64('gpr', GPR.rbx)], [1, 0x1234n]);
  });

  it('INIT to the bootstrap processor is a reset of the machine', () => {
    const cpu = applicationProcessor();
    cpu.state.set64('msrApicBase', 0xfee0_0800n | BOOTSTRAP);
    cpu.state.set32('initRequest', 1);
    assert.equal(takeSignals(cpu), 'reset');
  });
});
