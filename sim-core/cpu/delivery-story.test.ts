import assert from 'node:assert/strict';
import { exception, VECTOR } from '../mmu/fault.ts';
import { GPR } from '../state/layout.ts';
import { deliveryReads, describeErrorCode } from './delivery-story.ts';
import { deliverFault } from './events.ts';
import { type FaultStep, stepLines } from './fault-step.ts';
import { AT, enter64, newCpu, setGate64, type TestCpu } from './test-cpu.ts';

const INTERRUPT = 0xe;
/** Not mapped by the tests' tables, and canonical. */
const UNMAPPED = 0x7fff_0000_0000n;

function shutdown(cpu: TestCpu, vector: number, errorCode?: number): readonly FaultStep[] {
  const delivery = deliverFault(cpu, exception(vector, errorCode));
  assert.ok(delivery.kind === 'tripleFault', delivery.kind);
  return delivery.story;
}

describe('The story of a triple fault', () => {
  it('shows the gate, the handler’s descriptor and the stack that could not be written', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.ud, INTERRUPT, 0x100n);
    setGate64(cpu, VECTOR.pf, INTERRUPT, 0x200n);
    setGate64(cpu, VECTOR.df, INTERRUPT, 0x300n);
    cpu.state.set64('gpr', UNMAPPED, GPR.rsp);
    const story = shutdown(cpu, VECTOR.ud);
    const [first, second, third, last] = story;
    assert.ok(first && second && third && last);
    // #UD is benign: #PF follows it, then #DF because #PF meets #PF, then shutdown (SDM Vol. 3A, "Interrupt 8").
    assert.equal(story.length, 4);
    // Gates of 16 bytes, SS RSP RFLAGS CS RIP of 8 bytes each (SDM Vol. 3A 6.14).
    const [gate, descriptor, frame] = first.reads;
    assert.deepEqual([gate?.what, gate?.address], ['IDT entry 6', BigInt(AT.idt + 16 * VECTOR.ud)]);
    assert.equal(gate?.value, cpu.mmu.physical.read64(AT.idt + 16 * VECTOR.ud));
    assert.equal(descriptor?.value, cpu.mmu.physical.read64(AT.gdt + 8));
    assert.match(descriptor?.note ?? '', /64-bit code/);
    assert.deepEqual([frame?.address, frame?.note], [UNMAPPED - 40n, 'cannot be written: it faults']);
    assert.match(first.description, /#UD could not be delivered: #PF/);
    assert.equal(second.errorCode, 'supervisor write, the page is not present');
    assert.match(third.description, /^#DF.* could not be delivered: #PF/);
    assert.match(stepLines(last)[0] ?? '', /shutdown$/);
  });

  it('shows a gate that is not present and goes no further', () => {
    const cpu = enter64(newCpu());
    const reads = deliveryReads(cpu, { vector: 3, type: 3 });
    assert.equal(reads.length, 1);
    assert.match(reads[0]?.note ?? '', /no gate, not present/);
  });

  it('changes nothing', () => {
    const cpu = enter64(newCpu());
    setGate64(cpu, VECTOR.gp, INTERRUPT, 0x100n);
    const before = cpu.state.bytes.slice();
    deliveryReads(cpu, { vector: VECTOR.gp, type: 3, errorCode: 0 });
    assert.ok(Buffer.from(before.buffer).equals(Buffer.from(cpu.state.bytes.buffer)));
  });
});

describe('Error codes in words', () => {
  // SDM Vol. 3A 6.13 and "Interrupt 14".
  const CASES = [
    [VECTOR.gp, 0x10, 'GDT entry 2 (selector 0x10)'],
    [VECTOR.np, 0x14, 'LDT entry 2 (selector 0x14)'],
    [VECTOR.gp, 0x43, 'IDT entry 8, during the delivery of an event'],
    [VECTOR.gp, 0, ''],
    [VECTOR.pf, 2, 'supervisor write, the page is not present'],
    [VECTOR.pf, 0x15, 'user instruction fetch, the access rights refuse it'],
    [VECTOR.pf, 9, 'supervisor read, a reserved bit is set'],
  ] as const;
  for (const [vector, code, words] of CASES) {
    it(`vector ${vector}, 0x${code.toString(16)}`, () => assert.equal(describeErrorCode(vector, code), words));
  }
});
