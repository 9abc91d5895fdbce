import assert from 'node:assert/strict';
import { readRflags } from '../cpu/rflags.ts';
import { MAPPING } from '../mmu/tlb.ts';
import { GPR } from '../state/layout.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENCODING, VMCS_REGION } from './fields.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';

const UD = { kind: 'exception', vector: 6 };
const GP = { kind: 'exception', vector: 13, errorCode: 0 };
const NO_VMCS = 0xffff_ffff_ffff_ffffn;

/** In VMX operation, with or without a current VMCS. */
function inVmx(current = true): TestProcessor {
  const processor = new TestProcessor();
  assert.equal(processor.withPointer(CODE.vmxon, AT.vmxon), 'ok');
  if (current) {
    assert.equal(processor.withPointer(CODE.vmclear, AT.vmcs), 'ok');
    assert.equal(processor.withPointer(CODE.vmptrld, AT.vmcs), 'ok');
  }
  return processor;
}

describe('VMXON', () => {
  it('is #UD without CR4.VMXE, #GP(0) at CPL 3 and without IA32_FEATURE_CONTROL', () => {
    const noVmxe = new TestProcessor();
    noVmxe.state.set64('cr4', 0x620n);
    assert.deepEqual(noVmxe.execute(CODE.vmxon), UD);
    const user = new TestProcessor();
    user.state.set32('cpl', 3);
    assert.deepEqual(user.execute(CODE.vmxon), GP);
    for (const featureControl of [0n, 1n, 4n]) {
      const locked = new TestProcessor();
      locked.state.set64('msrFeatureControl', featureControl);
      assert.deepEqual(locked.execute(CODE.vmxon), GP);
    }
  });

  it('is #GP(0) when CR0 misses a fixed bit', () => {
    const processor = new TestProcessor();
    processor.state.set64('cr0', 0x8005_0013n);
    assert.deepEqual(processor.execute(CODE.vmxon), GP);
  });

  it('fails invalidly for bad addresses and revisions', () => {
    const processor = new TestProcessor();
    assert.equal(processor.withPointer(CODE.vmxon, AT.vmxon + 8), 'invalid');
    assert.equal(processor.withPointer(CODE.vmxon, 2 ** 50), 'invalid');
    processor.physical.write(AT.vmxon, 4, VMCS_REVISION + 1);
    assert.equal(processor.withPointer(CODE.vmxon, AT.vmxon), 'invalid');
    assert.equal(processor.state.get32('vmxOn'), 0);
  });

  it('clears the status flags and leaves no current VMCS', () => {
    const processor = inVmx(false);
    assert.equal(readRflags(processor.state) & 0x8d5, 0);
    assert.equal(processor.vmx.currentVmcs, undefined);
    processor.execute(CODE.vmptrst);
    assert.equal(processor.physical.read64(AT.data), NO_VMCS);
  });

  it('fails with error 15 when VMX is on', () => {
    assert.equal(inVmx(false).withPointer(CODE.vmxon, AT.vmxon), 'invalid');
    assert.equal(inVmx().withPointer(CODE.vmxon, AT.vmxon), 15);
  });
});

describe('VMX instructions outside VMX operation', () => {
  for (const [name, code] of Object.entries(CODE)) {
    if (name === 'vmxon' || name === 'cpuid') continue;
    it(`${name} is #UD`, () => {
      assert.deepEqual(new TestProcessor().execute(code), UD);
    });
  }
});

describe('VMX instructions in VMX root operation', () => {
  const names = [
    'vmxoff',
    'vmclear',
    'vmptrld',
    'vmptrst',
    'vmread',
    'vmwrite',
    'vmlaunch',
    'vmresume',
    'vmcall',
  ] as const;
  for (const name of [...names, 'invept', 'invvpid'] as const) {
    it(`${name} is #GP(0) at CPL 3 and #UD in compatibility mode`, () => {
      const processor = inVmx();
      processor.state.set32('cpl', 3);
      assert.deepEqual(processor.execute(CODE[name]), GP);
      processor.state.set32('cpl', 0);
      processor.state.set32('codeMode', 3);
      assert.deepEqual(processor.execute(CODE[name]), UD);
    });
  }

  it('VMCLEAR and VMPTRLD number their failures', () => {
    const processor = inVmx();
    assert.equal(processor.withPointer(CODE.vmclear, AT.vmcs + 1), 2);
    assert.equal(processor.withPointer(CODE.vmclear, AT.vmxon), 3);
    assert.equal(processor.withPointer(CODE.vmptrld, 2 ** 51), 9);
    assert.equal(processor.withPointer(CODE.vmptrld, AT.vmxon), 10);
    processor.physical.write(AT.otherVmcs, 4, VMCS_REVISION + 1);
    assert.equal(processor.withPointer(CODE.vmptrld, AT.otherVmcs), 11);
    assert.equal(processor.vmx.currentVmcs, BigInt(AT.vmcs));
  });

  it('VMREAD and VMWRITE number their failures', () => {
    const processor = inVmx();
    assert.equal(processor.vmread(0x7ffe), 12);
    assert.equal(processor.vmwrite(0x7ffe, 0n), 12);
    assert.equal(processor.vmread(ENCODING.HLAT_POINTER), 12, 'HLAT is not simulated');
    assert.equal(processor.vmwrite(ENCODING.EXIT_REASON, 7n), 'ok', 'IA32_VMX_MISC bit 29');
    processor.setGpr('rcx', 0x1_0000_681en);
    processor.execute(CODE.vmread);
    assert.equal(processor.status(), 12, 'bits 63:32 of the encoding must be 0');
    const none = inVmx(false);
    assert.equal(none.vmread(ENCODING.GUEST_RIP), 'invalid');
    assert.equal(none.vmwrite(ENCODING.GUEST_RIP, 0n), 'invalid');
  });

  it('VMWRITE keeps the width of the field, and high access the other half', () => {
    const processor = inVmx();
    const all = 0x1234_5678_9abc_def0n;
    processor.vmwrite(ENCODING.VIRTUAL_PROCESSOR_ID, all);
    processor.vmwrite(ENCODING.EXCEPTION_BITMAP, all);
    processor.vmwrite(ENCODING.GUEST_RSP, all);
    processor.vmwrite(ENCODING.EPT_POINTER, all);
    processor.vmwrite(ENCODING.EPT_POINTER + 1, 0xffff_ffff_0000_0001n);
    assert.equal(processor.vmread(ENCODING.VIRTUAL_PROCESSOR_ID), 0xdef0n);
    assert.equal(processor.vmread(ENCODING.EXCEPTION_BITMAP), 0x9abc_def0n);
    assert.equal(processor.vmread(ENCODING.GUEST_RSP), all);
    assert.equal(processor.vmread(ENCODING.EPT_POINTER), 0x0000_0001_9abc_def0n);
    assert.equal(processor.vmread(ENCODING.EPT_POINTER + 1), 1n);
  });

  it('VMREAD writes to memory', () => {
    const processor = inVmx();
    processor.vmwrite(ENCODING.GUEST_RIP, 0x1122_3344_5566n);
    processor.execute(CODE.vmreadMemory);
    assert.equal(processor.physical.read64(AT.data), 0x1122_3344_5566n);
  });

  it('VMLAUNCH and VMRESUME number their failures', () => {
    const processor = inVmx(false);
    processor.execute(CODE.vmlaunch);
    assert.equal(processor.status(), 'invalid');
    const current = inVmx();
    current.execute(CODE.vmresume);
    assert.equal(current.status(), 5);
    current.state.set32('interruptibility', 2);
    current.execute(CODE.vmlaunch);
    assert.equal(current.status(), 26);
    current.state.set32('interruptibility', 0);
    current.execute(CODE.vmlaunch);
    assert.equal(current.status(), 7, 'an empty VMCS has invalid controls');
    const launched = new TestProcessor();
    launched.enter();
    launched.execute(CODE.cpuid);
    launched.execute(CODE.vmlaunch);
    assert.equal(launched.status(), 4);
  });

  it('VMCALL fails with error 1, VMFUNC is #UD', () => {
    const processor = inVmx();
    processor.execute(CODE.vmcall);
    assert.equal(processor.status(), 1);
    assert.deepEqual(processor.execute(CODE.vmfunc), UD);
  });

  it('VMXOFF ends VMX operation', () => {
    const processor = inVmx();
    processor.execute(CODE.vmxoff);
    assert.equal(processor.status(), 'ok');
    assert.equal(processor.state.get32('vmxOn'), 0);
    assert.deepEqual(processor.execute(CODE.vmcall), UD);
  });
});

describe('The VMCS', () => {
  it('keeps its data in its region while another one is current', () => {
    const processor = inVmx();
    processor.vmwrite(ENCODING.GUEST_RIP, 0x1111n);
    processor.withPointer(CODE.vmclear, AT.otherVmcs);
    processor.withPointer(CODE.vmptrld, AT.otherVmcs);
    processor.vmwrite(ENCODING.GUEST_RIP, 0x2222n);
    processor.withPointer(CODE.vmptrld, AT.vmcs);
    assert.equal(processor.vmread(ENCODING.GUEST_RIP), 0x1111n);
    processor.withPointer(CODE.vmptrld, AT.otherVmcs);
    assert.equal(processor.vmread(ENCODING.GUEST_RIP), 0x2222n);
  });

  it('becomes clear and not current by VMCLEAR, launched by VMLAUNCH', () => {
    const processor = new TestProcessor();
    processor.enter();
    assert.equal(processor.vmx.launchState, 'launched');
    processor.execute(CODE.cpuid);
    processor.withPointer(CODE.vmclear, AT.vmcs);
    assert.equal(processor.vmx.currentVmcs, undefined);
    assert.equal(processor.physical.read(AT.vmcs, 4), VMCS_REVISION);
    processor.withPointer(CODE.vmptrld, AT.vmcs);
    assert.equal(processor.vmx.launchState, 'clear');
  });

  it('is cleared in its region when it is not current', () => {
    const processor = new TestProcessor();
    processor.enter();
    processor.execute(CODE.cpuid);
    processor.withPointer(CODE.vmptrld, AT.otherVmcs);
    assert.equal(processor.physical.read(AT.vmcs + VMCS_REGION.launchState, 4), 1);
    processor.withPointer(CODE.vmclear, AT.vmcs);
    assert.equal(processor.vmx.currentVmcs, BigInt(AT.otherVmcs));
    processor.withPointer(CODE.vmptrld, AT.vmcs);
    assert.equal(processor.vmx.launchState, 'clear');
  });

  it('can be read and written by a debugger, read-only fields too', () => {
    const processor = inVmx();
    assert.ok(processor.vmx.write(ENCODING.EXIT_REASON, 48n));
    assert.equal(processor.vmx.read(ENCODING.EXIT_REASON), 48n);
    assert.ok(processor.vmx.write(ENCODING.EPT_POINTER + 1, 2n));
    assert.equal(processor.vmx.read(ENCODING.EPT_POINTER), 0x2_0000_0000n);
    assert.equal(processor.vmx.read(0x7ffe), undefined);
    assert.equal(inVmx(false).vmx.read(ENCODING.EXIT_REASON), undefined);
    assert.equal(inVmx(false).vmx.write(ENCODING.EXIT_REASON, 0n), false);
  });
});

describe('INVEPT and INVVPID', () => {
  const run = (code: readonly number[], type: bigint, low: bigint, high = 0n): 'ok' | 'invalid' | number => {
    const processor = inVmx();
    processor.setGpr('rax', type);
    processor.physical.write64(AT.data, low);
    processor.physical.write64(AT.data + 8, high);
    processor.execute(code);
    return processor.status();
  };

  it('refuse types and descriptors that do not exist with error 28', () => {
    assert.equal(run(CODE.invept, 0n, 0x1en), 28);
    assert.equal(run(CODE.invept, 3n, 0x1en), 28);
    assert.equal(run(CODE.invept, 1n, 0x1fn), 28, 'memory type 7');
    assert.equal(run(CODE.invept, 1n, 0x16n), 28, 'walk length 3');
    assert.equal(run(CODE.invept, 1n, 0x2en), 28, 'walk length 6');
    assert.equal(run(CODE.invept, 1n, 0x9en), 28, 'reserved bit');
    assert.equal(run(CODE.invvpid, 4n, 1n), 28);
    assert.equal(run(CODE.invvpid, 1n, 0n), 28, 'VPID 0');
    assert.equal(run(CODE.invvpid, 1n, 0x1_0001n), 28, 'reserved bit');
    assert.equal(run(CODE.invvpid, 0n, 1n, 1n << 56n), 28, 'address not canonical for the 57 bits of the model');
  });

  it('accept all that exist', () => {
    assert.equal(run(CODE.invept, 1n, 0x2_001en), 'ok');
    assert.equal(run(CODE.invept, 1n, 0x2_005en), 'ok');
    assert.equal(run(CODE.invept, 1n, 0x2_0026n), 'ok', '5 levels');
    assert.equal(run(CODE.invept, 2n, 0n), 'ok');
    for (const type of [0n, 1n, 3n]) assert.equal(run(CODE.invvpid, type, 5n, 0x1000n), 'ok');
    assert.equal(run(CODE.invvpid, 2n, 0n), 'ok');
  });

  /** A guest that has one translation cached, back in root operation. */
  function withGuestTranslation(): TestProcessor {
    const processor = new TestProcessor();
    processor.enter();
    assert.equal(processor.mmu.read(0x1234n, 4), 0n);
    processor.execute(CODE.cpuid);
    assert.ok(guestEntries(processor, MAPPING.combined) > 0);
    return processor;
  }
  const guestEntries = (processor: TestProcessor, kind: number): number =>
    processor.mmu.tlb.entries().filter((entry) => entry.kind === kind && entry.eptRoot !== 0).length;

  it('leave the guest’s entries across transitions with a VPID', () => {
    const processor = withGuestTranslation();
    processor.execute(CODE.vmresume);
    assert.ok(guestEntries(processor, MAPPING.combined) > 0);
  });

  it('remove combined mappings by VPID and by EP4TA', () => {
    const byVpid = withGuestTranslation();
    byVpid.setGpr('rax', 1n);
    byVpid.physical.write64(AT.data, 2n);
    byVpid.execute(CODE.invvpid);
    assert.ok(guestEntries(byVpid, MAPPING.combined) > 0, 'VPID 2 is another guest');
    byVpid.physical.write64(AT.data, 1n);
    byVpid.execute(CODE.invvpid);
    assert.equal(guestEntries(byVpid, MAPPING.combined), 0);
    const byEpt = withGuestTranslation();
    byEpt.setGpr('rax', 1n);
    byEpt.physical.write64(AT.data, BigInt(AT.ept) | 0x1en);
    byEpt.execute(CODE.invept);
    assert.equal(guestEntries(byEpt, MAPPING.combined), 0);
    assert.equal(guestEntries(byEpt, MAPPING.guestPhysical), 0);
  });

  it('are not needed without VPID: the transition itself removes them', () => {
    const processor = new TestProcessor();
    processor.enter({ SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: 2, VIRTUAL_PROCESSOR_ID: 0 });
    processor.mmu.read(0x1234n, 4);
    assert.ok(guestEntries(processor, MAPPING.combined) > 0);
    processor.execute(CODE.cpuid);
    assert.equal(guestEntries(processor, MAPPING.combined), 0);
  });
});

describe('VMX instructions in VMX non-root operation', () => {
  /** [bytes, exit reason, qualification, instruction information] by the formats of SDM Vol. 3C 28.2.5. */
  const CASES: readonly [readonly number[], number, bigint, number][] = [
    [CODE.vmcall, 18, 0n, 0],
    [CODE.vmlaunch, 20, 0n, 0],
    [CODE.vmresume, 24, 0n, 0],
    [CODE.vmxoff, 26, 0n, 0],
    // [rbx]: 64-bit address, DS, no index, base 3.
    [CODE.vmclear, 19, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    [CODE.vmptrld, 21, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    [CODE.vmptrst, 22, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    [CODE.vmxon, 27, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    // vmread rax, rcx: register operand RAX, Reg2 RCX.
    [CODE.vmread, 23, 0n, (1 << 10) | (1 << 28)],
    [CODE.vmwrite, 25, 0n, (1 << 10) | (1 << 28)],
    // vmread [rbx], rcx
    [CODE.vmreadMemory, 23, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23) | (1 << 28)],
    // invept rax, [rbx]: Reg2 RAX.
    [CODE.invept, 50, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    [CODE.invvpid, 53, 0n, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)],
    // vmptrld [rsp+rsi*4+0x10]: scale 4, SS, index 6, base 4.
    [[0x0f, 0xc7, 0x74, 0xb4, 0x10], 21, 0x10n, 2 | (2 << 7) | (2 << 15) | (6 << 18) | (4 << 23)],
    // vmptrld [rip+0x100]: the address itself, 7 bytes on.
    [[0x0f, 0xc7, 0x35, 0x00, 0x01, 0x00, 0x00], 21, 0x20_0107n, (2 << 7) | (3 << 15) | (1 << 22) | (1 << 27)],
  ];
  for (const [code, reason, qualification, information] of CASES) {
    it(`${code.map((byte) => byte.toString(16)).join(' ')} exits with reason ${reason}`, () => {
      const processor = new TestProcessor();
      processor.enter();
      assert.deepEqual(processor.execute(code), { kind: 'vmExit' });
      assert.equal(processor.field('EXIT_REASON'), BigInt(reason));
      assert.equal(processor.field('EXIT_QUALIFICATION'), qualification);
      assert.equal(processor.field('VM_EXIT_INSTRUCTION_INFORMATION'), BigInt(information >>> 0));
      assert.equal(processor.field('VM_EXIT_INSTRUCTION_LENGTH'), BigInt(code.length));
      assert.equal(processor.field('GUEST_RIP'), 0x20_0000n);
      assert.equal(processor.state.get64('gpr', GPR.rsp), 0x8000n, 'RSP is the host’s');
    });
  }
});
