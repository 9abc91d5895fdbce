import assert from 'node:assert/strict';
import { GPR, SEGMENT } from '../state/layout.ts';
import { deliverFault } from './events.ts';
import { readRflags, writeRflags } from './rflags.ts';
import { AT, dwords, enter32, newCpu, run, SELECTOR, setGate32, type TestCpu } from './test-cpu.ts';

const IF = 0x200;
const RESERVED = 2;
const CODE3 = SELECTOR.code3 | 3;
const FAR_POINTER = `00 00 01 00 ${CODE3.toString(16)} 00`;
const OPERAND = AT.stack + 0x1000;
/** A vector whose gate the ring may use. */
const SYSTEM_CALL = 0x80;
const HANDLER = 0x1_2000;
const ESP0 = 0x2_4000;

/** A guest kernel's code in ring 3, where a hypervisor without VT-x would put it; on its stack a selector twice. */
function deprivileged(): TestCpu {
  const cpu = enter32(newCpu(), 3);
  cpu.state.set64('gpr', BigInt(OPERAND), GPR.rax);
  cpu.state.set64('gpr', BigInt(SELECTOR.code0), GPR.rcx);
  cpu.mmu.physical.write(AT.stack, 4, CODE3);
  cpu.mmu.physical.write(AT.stack + 4, 4, CODE3);
  cpu.mmu.physical.write(AT.tss + 4, 4, ESP0);
  cpu.mmu.physical.write(AT.tss + 8, 4, SELECTOR.data0);
  setGate32(cpu, SYSTEM_CALL, 0xe, HANDLER, 3);
  writeRflags(cpu.state, IF | RESERVED);
  return cpu;
}

const stackTop = (cpu: TestCpu): number => dwords(cpu, Number(cpu.state.get64('gpr', GPR.rsp)), 1)[0] ?? 0;
const eax = (cpu: TestCpu): number => Number(cpu.state.get64('gpr', GPR.rax));
const cs = (cpu: TestCpu): number => cpu.state.get32('segmentSelector', SEGMENT.cs);

/** The instructions, and what each tells of the host or leaves undone, without a fault. */
const HOLES: readonly (readonly [name: string, bytes: string, reveals: (cpu: TestCpu) => [number, number]])[] = [
  ['SGDT stores the host’s GDTR', '0f 01 00', (cpu) => [dwords(cpu, OPERAND + 2, 1)[0] ?? 0, AT.gdt]],
  ['SIDT stores the host’s IDTR', '0f 01 08', (cpu) => [dwords(cpu, OPERAND + 2, 1)[0] ?? 0, AT.idt]],
  ['SLDT stores the host’s LDTR', '0f 00 c0', (cpu) => [eax(cpu), 0]],
  ['SMSW stores the host’s CR0', '0f 01 e0', (cpu) => [eax(cpu), Number(cpu.state.get64('cr0'))]],
  ['PUSHF stores the real IF', '9c', (cpu) => [stackTop(cpu), IF | RESERVED]],
  ['POPF leaves IF as it is', '9d', (cpu) => [readRflags(cpu.state) & IF, IF]],
  ['LAR judges by the real CPL', '0f 02 c1', (cpu) => [eax(cpu), OPERAND]],
  ['LSL judges by the real CPL', '0f 03 c1', (cpu) => [eax(cpu), OPERAND]],
  ['VERR judges by the real CPL', '0f 00 e1', (cpu) => [readRflags(cpu.state) & 0x40, 0]],
  ['VERW judges by the real CPL', '0f 00 e9', (cpu) => [readRflags(cpu.state) & 0x40, 0]],
  ['POP loads a selector of ring 3', '1f', (cpu) => [cpu.state.get32('segmentSelector', SEGMENT.ds), CODE3]],
  ['PUSH CS stores the real CPL', '0e', (cpu) => [stackTop(cpu) & 3, 3]],
  ['far CALL stays in ring 3', `9a ${FAR_POINTER}`, (cpu) => [cs(cpu), CODE3]],
  ['far JMP stays in ring 3', `ea ${FAR_POINTER}`, (cpu) => [cs(cpu), CODE3]],
  ['INT n goes to the host’s handler', 'cd 80', (cpu) => [Number(cpu.state.get64('rip')), HANDLER]],
  ['far RET stays in ring 3', 'cb', (cpu) => [cs(cpu), CODE3]],
  ['STR stores the host’s TR', '0f 00 c8', (cpu) => [eax(cpu), SELECTOR.tss]],
  ['MOV from CS stores the real CPL', '8c c8', (cpu) => [eax(cpu) & 3, 3]],
];

/**
 * Robin and Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine Monitor": instructions
 * that are sensitive and not privileged, why x86 could not be virtualized by traps alone.
 */
describe('virtualization holes: sensitive instructions that do not fault in ring 3', () => {
  for (const [title, bytes, reveals] of HOLES) {
    it(title, () => {
      const cpu = deprivileged();
      const fault = run(cpu, bytes);
      // INT n is an event to deliver.
      if (fault) deliverFault(cpu, fault);
      assert.notEqual(fault?.kind, 'exception');
      const [actual, expected] = reveals(cpu);
      assert.equal(actual, expected);
    });
  }

  it('while privileged instructions do: CLI, HLT, LGDT and MOV to CR0 are #GP(0)', () => {
    for (const bytes of ['fa', 'f4', '0f 01 10', '0f 22 c0']) {
      const fault = run(deprivileged(), bytes);
      assert.ok(fault?.kind === 'exception', bytes);
      assert.deepEqual([fault.vector, fault.errorCode], [13, 0]);
    }
  });
});
