import assert from 'node:assert/strict';
import { readRflags } from '../cpu/rflags.ts';
import { ACTIVITY, CODE_MODE, SEGMENT } from '../state/layout.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { AT, CODE, TestProcessor } from './test-processor.ts';
import { type FieldChanges, vmcsWith } from './test-vmcs.ts';

const base = vmcsWith({});
const entry = (clear: number, set = 0): FieldChanges => ({
  VM_ENTRY_CONTROLS: (base.VM_ENTRY_CONTROLS & ~clear) | set,
});
const LOAD_EFER = 0x8000;
const LOAD_PAT = 0x4000;
const LOAD_DEBUG = 4;
const LONG = 0x200;

/** Prepares and executes VMLAUNCH. */
function launch(changes: FieldChanges, before?: (processor: TestProcessor) => void): TestProcessor {
  const processor = new TestProcessor();
  processor.prepare(changes);
  before?.(processor);
  processor.execute(CODE.vmlaunch);
  return processor;
}

describe('VM entry that fails', () => {
  it('by a control: VMfailValid(7) with the check in words, at the next instruction', () => {
    const processor = launch({ CR3_TARGET_COUNT: 9 });
    assert.equal(processor.status(), 7);
    assert.equal(processor.state.get64('rip'), 0x1_0000n + 4n + 4n + 3n + 3n);
    const [failure] = processor.failures;
    assert.deepEqual(failure?.outcome, { vmInstructionError: 7 });
    assert.deepEqual(
      failure?.checks.map((check) => check.id),
      ['controls.cr3Targets'],
    );
    assert.equal(processor.vmx.lastEntryFailure, failure);
    assert.equal(processor.vmx.launchState, 'clear');
  });

  it('by host state: VMfailValid(8); all other failing checks are listed after the first', () => {
    const processor = launch({ HOST_CS_SELECTOR: 0, HOST_FS_BASE: 1n << 58n, GUEST_RFLAGS: 0n });
    assert.equal(processor.status(), 8);
    const ids = processor.failures[0]?.checks.map((check) => check.id);
    assert.deepEqual(ids, ['host.cs.null', 'host.fs.base', 'guest.rflags.reserved']);
  });

  it('by guest state: VM exit 33 with bit 31, the host loaded, the guest area as it was', () => {
    const processor = launch({ GUEST_CR4: 0x20n, GUEST_RSP: 0x1234n, VM_EXIT_INTERRUPTION_INFORMATION: 7 });
    assert.equal(processor.field('EXIT_REASON'), 0x8000_0021n);
    assert.equal(processor.field('EXIT_QUALIFICATION'), 0n);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 7n, 'other information fields stay');
    assert.equal(processor.state.get64('rip'), 0x10_0000n);
    assert.equal(processor.state.get32('nonRoot'), 0);
    assert.equal(processor.field('GUEST_RSP'), 0x1234n);
    assert.equal(processor.vmx.launchState, 'clear');
    assert.equal(processor.vmx.entries, 0);
    assert.deepEqual(processor.failures[0]?.outcome, { exitReason: 33 });
  });

  it('by PDPTEs and link pointer: qualifications 2 and 4', () => {
    const pae: FieldChanges = {
      ...entry(LONG),
      GUEST_IA32_EFER: 0n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09b,
      GUEST_PDPTE0: 0x8000_0000_0000_0001n,
    };
    assert.equal(launch(pae).field('EXIT_QUALIFICATION'), 2n);
    assert.equal(launch({ VMCS_LINK_POINTER: 0x123n }).field('EXIT_QUALIFICATION'), 4n);
  });

  it('by MSR loading: VM exit 34 with the number of the entry', () => {
    const processor = launch({ VM_ENTRY_MSR_LOAD_COUNT: 2, VM_ENTRY_MSR_LOAD_ADDRESS: BigInt(AT.msrList) }, (p) => {
      p.physical.write64(AT.msrList, 0x277n);
      p.physical.write64(AT.msrList + 8, 0x0606_0606_0606_0606n);
      p.physical.write64(AT.msrList + 16, 0xc000_0100n);
    });
    assert.equal(processor.field('EXIT_REASON'), 0x8000_0022n);
    assert.equal(processor.field('EXIT_QUALIFICATION'), 2n);
    assert.deepEqual(processor.failures[0]?.outcome, { exitReason: 34 });
    assert.match(processor.failures[0]?.checks[0]?.explanation ?? '', /Entry 2 .*IA32_FS_BASE/);
  });

  it('can be asked for before it happens', () => {
    const processor = new TestProcessor();
    processor.prepare({ GUEST_RIP: 1n << 57n });
    assert.deepEqual(
      processor.vmx.checkEntry()?.checks.map((check) => check.id),
      ['guest.rip.width'],
    );
    processor.change({ GUEST_RIP: 0n });
    assert.equal(processor.vmx.checkEntry(), undefined);
  });

  it('succeeds once the field is right', () => {
    const processor = launch({ CR3_TARGET_COUNT: 9 });
    processor.change({ CR3_TARGET_COUNT: 0 });
    processor.execute(CODE.vmlaunch);
    assert.equal(processor.state.get32('nonRoot'), 1);
  });
});

describe('VM entry loads', () => {
  it('segments, tables, control registers and what derives from them', () => {
    const { state } = launch({
      GUEST_GS_BASE: 0xffff_8000_0000_1000n,
      GUEST_CS_SELECTOR: 0x33,
      GUEST_CS_ACCESS_RIGHTS: 0xa0fb,
      GUEST_SS_SELECTOR: 0x2b,
      GUEST_SS_ACCESS_RIGHTS: 0xc0f3,
      GUEST_RFLAGS: 0x8d7n,
    });
    assert.equal(state.get32('cpl'), 3, 'the DPL of SS');
    assert.equal(state.get32('codeMode'), CODE_MODE.code64);
    assert.equal(state.segment(SEGMENT.gs).base, 0xffff_8000_0000_1000n);
    assert.equal(readRflags(state), 0x8d7);
    assert.equal(state.get32('vpid'), 1);
    assert.equal(state.get64('eptp'), BigInt(AT.ept) | 0x1en);
    assert.equal(state.get64('gdtrBase'), BigInt(AT.gdt));
  });

  it('CR0 without touching ET, CD and NW', () => {
    const { state } = launch({ GUEST_CR0: 0x8005_0033n | 0x6000_0000n, GUEST_CR3: BigInt(AT.pml4) });
    assert.equal(state.get64('cr0'), 0x8005_0033n);
  });

  it('EFER, PAT and debug controls only on demand', () => {
    const changes = { GUEST_IA32_PAT: 0x0606_0606_0606_0606n, GUEST_DR7: 0x401n, GUEST_IA32_DEBUGCTL: 1n };
    const { state } = launch(changes);
    assert.equal(state.get64('msrPat'), 0x0606_0606_0606_0606n);
    assert.equal(state.get64('dr', 7), 0x401n);
    assert.equal(state.get64('msrDebugctl'), 1n);
    const without = launch({ ...changes, ...entry(LOAD_EFER | LOAD_PAT | LOAD_DEBUG), GUEST_IA32_EFER: 0n }).state;
    assert.equal(without.get64('msrPat'), 0x0007_0406_0007_0406n);
    assert.equal(without.get64('dr', 7), 0x400n);
    assert.equal(without.get64('msrDebugctl'), 0n);
    assert.equal(without.get64('efer') & 0x500n, 0x500n, 'LMA and LME follow “IA-32e mode guest”');
  });

  it('a 32-bit guest: PDPTE registers from the fields, LMA cleared', () => {
    const { state } = launch({
      ...entry(LONG | LOAD_EFER),
      GUEST_CS_ACCESS_RIGHTS: 0xc09b,
      GUEST_PDPTE1: 0x5001n,
    });
    assert.equal(state.get32('codeMode'), CODE_MODE.code32stack32);
    assert.equal(state.get64('pdpte', 1), 0x5001n);
    assert.equal(state.get64('efer') & 0x500n, 0n);
    assert.equal(state.get64('segmentReadTop', SEGMENT.ds), 0x1_0000_0000n, 'fast limit checks are recomputed');
  });

  it('an unrestricted guest in real-address mode', () => {
    const { state } = launch({
      ...entry(LONG | LOAD_EFER),
      SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: 0x22 | SECONDARY.UNRESTRICTED_GUEST,
      GUEST_CR0: 0x30n,
      GUEST_CR4: 0x2000n,
      GUEST_CS_ACCESS_RIGHTS: 0x9b,
      GUEST_CS_LIMIT: 0xffff,
      GUEST_SS_ACCESS_RIGHTS: 0x93,
      GUEST_SS_LIMIT: 0xffff,
    });
    assert.equal(state.get32('nonRoot'), 1);
    assert.equal(state.get32('codeMode'), CODE_MODE.code16stack16);
  });

  it('activity, interruptibility and pending debug exceptions', () => {
    const halted = launch({ GUEST_ACTIVITY_STATE: 1 }).state;
    assert.equal(halted.get32('activity'), ACTIVITY.hlt);
    const shadowed = launch({ GUEST_INTERRUPTIBILITY_STATE: 2, GUEST_PENDING_DEBUG_EXCEPTIONS: 0x1003n }).state;
    assert.equal(shadowed.get32('interruptibility'), 2);
    assert.equal(shadowed.get64('pendingDebug'), 0x1003n);
  });

  it('MSRs of the list', () => {
    const { state } = launch({ VM_ENTRY_MSR_LOAD_COUNT: 1, VM_ENTRY_MSR_LOAD_ADDRESS: BigInt(AT.msrList) }, (p) => {
      p.physical.write64(AT.msrList, 0xc000_0082n);
      p.physical.write64(AT.msrList + 8, 0x1234n);
    });
    assert.equal(state.get64('msrLstar'), 0x1234n);
  });
});

describe('VM exit MSR lists', () => {
  it('store the guest’s and load the host’s values', () => {
    const processor = launch(
      {
        VM_EXIT_MSR_STORE_COUNT: 1,
        VM_EXIT_MSR_STORE_ADDRESS: BigInt(AT.msrList),
        VM_EXIT_MSR_LOAD_COUNT: 1,
        VM_EXIT_MSR_LOAD_ADDRESS: BigInt(AT.msrList + 16),
      },
      (p) => {
        p.state.set64('msrLstar', 0x1111n);
        p.physical.write64(AT.msrList, 0xc000_0082n);
        p.physical.write64(AT.msrList + 16, 0xc000_0082n);
        p.physical.write64(AT.msrList + 24, 0x2222n);
      },
    );
    processor.execute(CODE.cpuid);
    assert.equal(processor.physical.read64(AT.msrList + 8), 0x1111n);
    assert.equal(processor.state.get64('msrLstar'), 0x2222n);
  });
});

describe('Event injection', () => {
  /** A 64-bit interrupt gate to `offset` in the guest's IDT, and a code descriptor at selector 8. */
  const gate = (vector: number, offset: number) => (processor: TestProcessor) => {
    processor.physical.write64(AT.gdt + 8, 0x00af_9b00_0000_ffffn);
    const low = BigInt(offset & 0xffff) | (8n << 16n) | (0x8e00n << 32n) | (BigInt(offset >>> 16) << 48n);
    processor.physical.write64(AT.idt + 16 * vector, low);
    processor.physical.write64(AT.idt + 16 * vector + 8, 0n);
  };
  const pushed = (processor: TestProcessor, index: number): bigint =>
    processor.physical.read64(Number(processor.gpr('rsp')) + 8 * index);

  it('delivers an external interrupt through the guest’s IDT, although external interrupts exit', () => {
    const processor = launch(
      {
        VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0030,
        GUEST_RFLAGS: 0x202n,
        PIN_BASED_VM_EXECUTION_CONTROLS: base.PIN_BASED_VM_EXECUTION_CONTROLS | PIN.EXTERNAL_INTERRUPT_EXITING,
      },
      gate(0x30, 0x4000),
    );
    assert.equal(processor.exits.length, 0);
    assert.equal(processor.state.get64('rip'), 0x4000n);
    assert.equal(pushed(processor, 0), 0x20_0000n);
    assert.equal(pushed(processor, 2), 0x202n);
  });

  it('pushes the error code of an exception; the exception bitmap does not see it', () => {
    const processor = launch(
      {
        VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0b0d,
        VM_ENTRY_EXCEPTION_ERROR_CODE: 0x18,
        EXCEPTION_BITMAP: 1 << 13,
      },
      gate(13, 0x4000),
    );
    assert.equal(processor.state.get64('rip'), 0x4000n);
    assert.equal(pushed(processor, 0), 0x18n);
  });

  it('adds the instruction length to the return address of a software interrupt', () => {
    const processor = launch(
      { VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0480, VM_ENTRY_INSTRUCTION_LENGTH: 2 },
      gate(0x80, 0x4000),
    );
    assert.equal(pushed(processor, 0), 0x20_0002n);
  });

  it('blocks NMIs after an NMI, and wakes a halted guest', () => {
    const processor = launch(
      { VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0202, GUEST_ACTIVITY_STATE: 1 },
      gate(2, 0x4000),
    );
    assert.equal(processor.state.get32('interruptibility'), 8);
    assert.equal(processor.state.get32('activity'), ACTIVITY.active);
  });

  it('ends in the active state, without blocking by STI or MOV SS, from every state that lets the event in', () => {
    const NMI = 0x8000_0202;
    const MACHINE_CHECK = 0x8000_0312;
    for (const [activity, event, interruptibility] of [
      [ACTIVITY.hlt, 0x8000_0030, 0],
      [ACTIVITY.hlt, NMI, 0],
      [ACTIVITY.hlt, 0x8000_0301, 0],
      [ACTIVITY.hlt, MACHINE_CHECK, 0],
      [ACTIVITY.shutdown, NMI, 0],
      [ACTIVITY.shutdown, MACHINE_CHECK, 0],
      [ACTIVITY.active, 0x8000_0306, 1],
      [ACTIVITY.active, 0x8000_0306, 2],
    ] as const) {
      const changes: FieldChanges = {
        VM_ENTRY_INTERRUPTION_INFORMATION: event,
        GUEST_ACTIVITY_STATE: activity,
        GUEST_INTERRUPTIBILITY_STATE: interruptibility,
        GUEST_RFLAGS: 0x202n,
      };
      const delivered = launch(changes, gate(event & 0xff, 0x4000));
      assert.equal(delivered.state.get64('rip'), 0x4000n);
      assert.equal(delivered.state.get32('activity'), ACTIVITY.active);
      assert.equal(delivered.state.get32('interruptibility') & 3, 0);
      // Without a gate the delivery faults, and the VM exit saves what the VM entry has made.
      const exits = launch({ ...changes, EXCEPTION_BITMAP: 1 << 13 });
      assert.equal(exits.field('IDT_VECTORING_INFORMATION'), BigInt(event));
      assert.equal(exits.field('GUEST_ACTIVITY_STATE'), 0n);
      assert.equal(exits.field('GUEST_INTERRUPTIBILITY_STATE') & 3n, 0n);
    }
  });

  it('loses pending debug exceptions, but for data breakpoints that MOV SS holds back from INT n, INT3 and INTO', () => {
    const pending = (event: number, interruptibility: number, bits = 0x1001n): bigint =>
      launch(
        {
          VM_ENTRY_INTERRUPTION_INFORMATION: event,
          VM_ENTRY_INSTRUCTION_LENGTH: 1,
          GUEST_INTERRUPTIBILITY_STATE: interruptibility,
          GUEST_PENDING_DEBUG_EXCEPTIONS: bits,
        },
        gate(event & 0xff, 0x4000),
      ).state.get64('pendingDebug');
    assert.equal(pending(0x8000_0306, 2), 0n, 'a hardware exception');
    assert.equal(pending(0x8000_0480, 0), 0n, 'INT n without MOV SS');
    assert.equal(pending(0x8000_0480, 2), 0x1001n, 'INT 80H');
    assert.equal(pending(0x8000_0603, 2), 0x1001n, 'INT3');
    assert.equal(pending(0, 0), 0x1001n, 'no event');
    assert.equal(pending(0, 0, 1n), 0n, 'a breakpoint that is not enabled, without the bit that makes it valid');
  });

  it('that faults exits with the injected event as IDT-vectoring information', () => {
    const processor = launch({
      VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0480,
      VM_ENTRY_INSTRUCTION_LENGTH: 2,
      EXCEPTION_BITMAP: 1 << 13,
      GUEST_IDTR_LIMIT: 0xff,
    });
    assert.equal(processor.field('EXIT_REASON'), 0n);
    assert.equal(processor.field('IDT_VECTORING_INFORMATION'), 0x8000_0480n);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_INFORMATION'), 0x8000_0b0dn);
    assert.equal(processor.field('VM_EXIT_INTERRUPTION_ERROR_CODE'), 0x402n, 'IDT entry 0x80, not external');
  });

  it('happens once: the VM exit clears the valid bit', () => {
    const processor = launch(
      { VM_ENTRY_INTERRUPTION_INFORMATION: 0x8000_0030, GUEST_RFLAGS: 0x202n },
      gate(0x30, 0x4000),
    );
    processor.execute(CODE.cpuid);
    assert.equal(processor.field('VM_ENTRY_INTERRUPTION_INFORMATION'), 0x30n);
  });
});

describe('VM entry and the run loop', () => {
  it('asks for attention only when the guest’s state may bring an event', () => {
    const attention = (changes: FieldChanges): number => launch(changes).state.get32('attention');
    assert.equal(attention({}), 0);
    assert.equal(attention({ GUEST_ACTIVITY_STATE: 1 }), 1);
    assert.equal(attention({ GUEST_RFLAGS: 0x202n, GUEST_INTERRUPTIBILITY_STATE: 1 }), 1);
    const window = base.PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS | PRIMARY.INTERRUPT_WINDOW_EXITING;
    assert.equal(attention({ PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS: window >>> 0 }), 1);
    const timer = base.PIN_BASED_VM_EXECUTION_CONTROLS | PIN.ACTIVATE_VMX_PREEMPTION_TIMER;
    assert.equal(attention({ PIN_BASED_VM_EXECUTION_CONTROLS: timer }), 1);
  });

  it('saves what is left of the timer', () => {
    const processor = launch({
      PIN_BASED_VM_EXECUTION_CONTROLS: base.PIN_BASED_VM_EXECUTION_CONTROLS | PIN.ACTIVATE_VMX_PREEMPTION_TIMER,
      PRIMARY_VM_EXIT_CONTROLS: base.PRIMARY_VM_EXIT_CONTROLS | EXIT_CONTROL.SAVE_VMX_PREEMPTION_TIMER_VALUE,
      VMX_PREEMPTION_TIMER_VALUE: 100_000,
    });
    processor.now += 30_000;
    processor.execute(CODE.cpuid);
    const left = Number(processor.field('VMX_PREEMPTION_TIMER_VALUE'));
    assert.ok(left <= 70_000 && left > 69_000, `${left}`);
  });
});
