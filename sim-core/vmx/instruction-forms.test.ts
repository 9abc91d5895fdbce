/** Operand forms, modes and fault priorities of the VMX instructions (SDM Vol. 3C, "VMX Instruction Reference"). */

import assert from 'node:assert/strict';
import { updateCodeMode } from '../cpu/modes.ts';
import { writeRflags } from '../cpu/rflags.ts';
import { setSegment } from '../cpu/segments.ts';
import { exception, type Fault, generalProtection, undefinedOpcode, VECTOR } from '../mmu/fault.ts';
import { SEGMENT } from '../state/layout.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENCODING } from './fields.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';

const UD = undefinedOpcode();
const GP = generalProtection();
const SS = exception(VECTOR.ss, 0);

/** In VMX root operation with AT.vmcs current. */
function inVmx(current = true): TestProcessor {
  const processor = new TestProcessor();
  processor.withPointer(CODE.vmxon, AT.vmxon);
  processor.withPointer(CODE.vmclear, AT.vmcs);
  if (current) processor.withPointer(CODE.vmptrld, AT.vmcs);
  return processor;
}

type Mode = 'real' | 'virtual-8086' | 'compatibility' | 'protected' | '64-bit';

/** Takes the processor into a mode, with flat segments and identity addresses. */
function enter(processor: TestProcessor, mode: Mode): TestProcessor {
  const { state, mmu } = processor;
  if (mode === '64-bit') return processor;
  const code = mode === 'real' || mode === 'virtual-8086' ? 0x9b : 0xc09b;
  setSegment(state, SEGMENT.cs, 8, 0n, 0xffff_ffff, code);
  if (mode !== 'compatibility') {
    state.set64('efer', 0n);
    state.set64('cr0', mode === 'real' ? 0x30n : 0x31n);
  }
  if (mode === 'virtual-8086') writeRflags(state, 0x2_0002);
  updateCodeMode(state);
  mmu.updateContext();
  return processor;
}

interface Form {
  readonly name: string;
  /** As nasm encodes it for 64-bit and for 32-bit code, with [rbx] or [ebx]. */
  readonly code: readonly number[];
  /** Which accesses of the memory operand there are: none for register forms. */
  readonly memory?: 'read' | 'write';
  /** The same with [rbp]. */
  readonly stack?: readonly number[];
}
const FORMS: readonly Form[] = [
  { name: 'vmclear m64', code: CODE.vmclear, memory: 'read', stack: [0x66, 0x0f, 0xc7, 0x75, 0x00] },
  { name: 'vmptrld m64', code: CODE.vmptrld, memory: 'read', stack: [0x0f, 0xc7, 0x75, 0x00] },
  { name: 'vmptrst m64', code: CODE.vmptrst, memory: 'write', stack: [0x0f, 0xc7, 0x7d, 0x00] },
  { name: 'vmread r, r', code: CODE.vmread },
  { name: 'vmread m, r', code: CODE.vmreadMemory, memory: 'write', stack: [0x0f, 0x78, 0x4d, 0x00] },
  { name: 'vmwrite r, r', code: CODE.vmwrite },
  { name: 'vmwrite r, m', code: [0x0f, 0x79, 0x0b], memory: 'read', stack: [0x0f, 0x79, 0x4d, 0x00] },
  { name: 'invept r, m128', code: CODE.invept, memory: 'read', stack: [0x66, 0x0f, 0x38, 0x80, 0x45, 0x00] },
  { name: 'invvpid r, m128', code: CODE.invvpid, memory: 'read', stack: [0x66, 0x0f, 0x38, 0x81, 0x45, 0x00] },
  { name: 'vmlaunch', code: CODE.vmlaunch },
  { name: 'vmresume', code: CODE.vmresume },
  { name: 'vmxoff', code: CODE.vmxoff },
  { name: 'vmcall', code: CODE.vmcall },
];
/** VMXON has rules of its own: it is #UD outside VMX operation only for want of CR4.VMXE. */
const VMXON: Form = { name: 'vmxon m64', code: CODE.vmxon, memory: 'read', stack: [0xf3, 0x0f, 0xc7, 0x75, 0x00] };

/** Operands that make each form succeed, or fail for its operand, but never fault. */
function giveOperands(processor: TestProcessor): void {
  processor.setGpr('rcx', BigInt(ENCODING.GUEST_RIP));
  processor.setGpr('rax', 2n);
  processor.physical.write64(AT.data, BigInt(AT.vmcs));
  processor.physical.write64(AT.data + 8, 0n);
}

describe('VMX instructions by mode', () => {
  for (const { name, code } of [...FORMS, VMXON]) {
    it(`${name} is #UD in real-address, virtual-8086 and compatibility mode`, () => {
      for (const mode of ['real', 'virtual-8086', 'compatibility'] as const) {
        const processor = enter(inVmx(), mode);
        assert.deepEqual(processor.execute(code), UD, mode);
        // #UD comes before the privilege.
        processor.state.set32('cpl', 3);
        assert.deepEqual(processor.execute(code), UD, mode);
      }
    });

    it(`${name} is #GP(0) above CPL 0 in protected and 64-bit mode, before its operand is looked at`, () => {
      for (const mode of ['protected', '64-bit'] as const) {
        const processor = enter(inVmx(), mode);
        processor.setGpr('rbx', 0x8000_0000_0000n);
        processor.state.set32('cpl', 3);
        assert.deepEqual(processor.execute(code), GP, mode);
      }
    });
  }

  it('exit from the guest at any privilege, before the operand is looked at', () => {
    for (const { name, code } of [...FORMS, VMXON]) {
      const processor = new TestProcessor();
      processor.enter();
      processor.setGpr('rbx', 0x8000_0000_0000n);
      processor.state.set32('cpl', 3);
      assert.deepEqual(processor.execute(code), { kind: 'vmExit' }, name);
    }
  });
});

describe('Memory operands of VMX instructions', () => {
  const address = (processor: TestProcessor, value: bigint): TestProcessor => {
    processor.setGpr('rbx', value);
    processor.setGpr('rbp', value);
    return processor;
  };
  const onMemory = FORMS.filter((form) => form.memory !== undefined);

  for (const { name, code, memory, stack = [] } of onMemory) {
    it(`${name} faults for its address as any ${memory} does`, () => {
      const ready = (mode: Mode = '64-bit'): TestProcessor => {
        const processor = enter(inVmx(), mode);
        giveOperands(processor);
        return processor;
      };
      const far = address(ready(), 0x8000_0000_0000n);
      assert.deepEqual(far.execute(code), GP, 'not canonical');
      assert.deepEqual(far.execute(stack), SS, 'not canonical, in the stack segment');
      const absent: Fault = { ...exception(VECTOR.pf, memory === 'write' ? 2 : 0), linearAddress: 0x4000_0000n };
      assert.deepEqual(address(ready(), 0x4000_0000n).execute(code), absent, 'not present');
      const short = address(ready('protected'), 0x2000n);
      setSegment(short.state, SEGMENT.ds, 0x10, 0n, 0xfff, 0x4093);
      setSegment(short.state, SEGMENT.ss, 0x10, 0n, 0xfff, 0x4093);
      assert.deepEqual(short.execute(code), GP, 'beyond the limit of DS');
      assert.deepEqual(short.execute(stack), SS, 'beyond the limit of SS');
    });
  }

  it('VMPTRST and VMREAD to a read-only segment are #GP(0)', () => {
    for (const code of [CODE.vmptrst, CODE.vmreadMemory]) {
      const processor = enter(inVmx(), 'protected');
      giveOperands(processor);
      setSegment(processor.state, SEGMENT.ds, 0x10, 0n, 0xffff_ffff, 0xc091);
      assert.deepEqual(processor.execute(code), GP);
    }
  });

  it('are looked at after the current-VMCS pointer and, by VMREAD, after the encoding', () => {
    const none = address(inVmx(false), 0x8000_0000_0000n);
    none.setGpr('rcx', BigInt(ENCODING.GUEST_RIP));
    none.execute(CODE.vmreadMemory);
    assert.equal(none.status(), 'invalid');
    const unknown = address(inVmx(), 0x8000_0000_0000n);
    unknown.setGpr('rcx', 0x7ffen);
    unknown.execute(CODE.vmreadMemory);
    assert.equal(unknown.status(), 12);
  });
});

describe('VMX instructions in 32-bit code', () => {
  it('VMREAD and VMWRITE have operands of 32 bits: high encodings reach the rest', () => {
    const processor = enter(inVmx(), 'protected');
    processor.change({ EPT_POINTER: 0x1122_3344_5566_7788n });
    processor.setGpr('rcx', BigInt(ENCODING.EPT_POINTER));
    processor.physical.write64(AT.data, 0n);
    processor.execute(CODE.vmreadMemory);
    assert.equal(processor.physical.read64(AT.data), 0x5566_7788n);
    assert.equal(processor.vmread(ENCODING.EPT_POINTER + 1), 0x1122_3344n);
    assert.equal(processor.vmwrite(ENCODING.EPT_POINTER, 0xaaaa_bbbbn), 'ok');
    assert.equal(processor.field('EPT_POINTER'), 0xaaaa_bbbbn, 'zero-extended');
    assert.equal(processor.vmwrite(ENCODING.EPT_POINTER + 1, 0xccccn), 'ok');
    assert.equal(processor.field('EPT_POINTER'), 0xcccc_aaaa_bbbbn);
  });

  it('pointers have 64 bits all the same, and INVEPT’s type 32', () => {
    const processor = enter(inVmx(false), 'protected');
    processor.setGpr('rax', 2n);
    assert.equal(processor.withPointer(CODE.vmptrld, AT.vmcs), 'ok');
    assert.equal(processor.withPointer(CODE.vmptrst, 0), 'ok');
    assert.equal(processor.physical.read64(AT.data), BigInt(AT.vmcs));
    processor.physical.write64(AT.data, 0n);
    processor.execute(CODE.invept);
    assert.equal(processor.status(), 'ok');
    assert.equal(processor.withPointer(CODE.vmptrld, AT.vmcs + 2 ** 46), 9, 'beyond the physical-address width');
  });
});

describe('VMfail without a current VMCS', () => {
  const cases: readonly (readonly [string, readonly number[], bigint])[] = [
    ['vmclear of an address that is not aligned', CODE.vmclear, BigInt(AT.vmcs + 1)],
    ['vmclear of the VMXON region', CODE.vmclear, BigInt(AT.vmxon)],
    ['vmptrld of the VMXON region', CODE.vmptrld, BigInt(AT.vmxon)],
    ['vmptrld of a region with another revision', CODE.vmptrld, BigInt(AT.msrList)],
    ['vmxon once more', CODE.vmxon, BigInt(AT.vmxon)],
    ['vmcall', CODE.vmcall, 0n],
    ['vmlaunch', CODE.vmlaunch, 0n],
    ['vmresume', CODE.vmresume, 0n],
    ['invept with type 9', CODE.invept, 0n],
  ];
  for (const [name, code, pointer] of cases) {
    it(`${name} sets CF`, () => {
      const processor = inVmx(false);
      processor.setGpr('rax', 9n);
      assert.equal(processor.withPointer(code, Number(pointer)), 'invalid');
    });
  }

  it('VMPTRST stores all ones', () => {
    const processor = inVmx(false);
    assert.equal(processor.withPointer(CODE.vmptrst, 0), 'ok');
    assert.equal(processor.physical.read64(AT.data), 0xffff_ffff_ffff_ffffn);
  });

  it('VMCLEAR of the current VMCS leaves none', () => {
    const processor = inVmx();
    assert.equal(processor.withPointer(CODE.vmclear, AT.vmcs), 'ok');
    assert.equal(processor.vmx.currentVmcs, undefined);
    processor.execute(CODE.vmlaunch);
    assert.equal(processor.status(), 'invalid');
  });

  it('VMXON refuses a region with bit 31 of the revision set: shadow VMCSs only have it', () => {
    const processor = new TestProcessor();
    processor.physical.write(AT.vmxon, 4, VMCS_REVISION + 2 ** 31);
    assert.equal(processor.withPointer(CODE.vmxon, AT.vmxon), 'invalid');
    assert.equal(processor.state.get32('vmxOn'), 0);
  });
});
